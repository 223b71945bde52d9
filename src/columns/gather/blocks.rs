//! What the vector kernels of every instruction set share: where records and slots are, and blocks of eight records.
//!
//! An instruction set is one small file beside this one: [`Vectors`] for a block, a `fill` with its target feature, and
//! [`kernels!`](kernels) for the tables.
#![expect(unsafe_code, reason = "addresses of records and slots")]

use super::window::{At, Clock, Fitting, Lane, SHAPES, SLACK, WHOLE, Window};

/// Records of a block.
pub(super) const BLOCK: usize = 8;
const _: () = assert!(BLOCK <= SLACK);

/// Instructions on vectors.
pub(super) trait Vectors {
    /// What is the same for all blocks of a window.
    type Constants;

    /// The constants of a window.
    ///
    /// # Safety
    /// The machine has the instructions.
    unsafe fn constants(window: &Window, clock: Clock) -> Self::Constants;

    /// Eight records' windows to rows `i..i + 8`, by the lanes of the shape.
    ///
    /// # Safety
    /// The machine has the instructions; sixteen bytes at each address of `from`; slots for the rows at the addresses
    /// of `to` that the lanes use.
    unsafe fn block<const SHAPE: usize>(
        from: [*const u8; BLOCK],
        constants: &Self::Constants,
        to: &[[*mut u8; 4]; 4],
        i: usize,
    );

    /// Copies sixteen bytes.
    ///
    /// # Safety
    /// The machine has the instructions, and both are there.
    unsafe fn copy(from: *const u8, to: *mut u8);
}

/// The kernel of a shape.
///
/// # Safety
/// To call it the machine must have its instructions; the window stays in the bytes for all records.
pub(super) type Fill<P> = unsafe fn(&Window, P, &Out<'_>);
/// The kernel of each shape.
pub(super) type Fills<P> = [Fill<P>; SHAPES.len() + 1];

/// A table of `fill` for each shape.
macro_rules! kernels {
    () => {
        kernels!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23)
    };
    ($($tens:literal)*) => {[$(
        fill::<{ $tens * 10 }, _>, fill::<{ $tens * 10 + 1 }, _>, fill::<{ $tens * 10 + 2 }, _>,
        fill::<{ $tens * 10 + 3 }, _>, fill::<{ $tens * 10 + 4 }, _>, fill::<{ $tens * 10 + 5 }, _>,
        fill::<{ $tens * 10 + 6 }, _>, fill::<{ $tens * 10 + 7 }, _>, fill::<{ $tens * 10 + 8 }, _>,
        fill::<{ $tens * 10 + 9 }, _>,
    )*]};
}
pub(super) use kernels;

/// Fills the columns of the windows.
///
/// # Safety
/// The machine has the instructions of the tables' kernels.
#[inline(always)]
pub(super) unsafe fn run(
    strided: &Fills<Strided>,
    listed: &Fills<Listed>,
    windows: &[Window],
    records: &Fitting<'_>,
    clock: Clock,
) {
    let (slots, last) = (&records.slots, records.n - 1);
    let bytes = records.rows.bytes.as_ptr();
    // A block of few records reads the last one again in place of those that are not there.
    let mut few = [0; BLOCK];
    if records.n < BLOCK {
        few = match records.rows.at {
            At::Stride(stride) => [0, 1, 2, 3, 4, 5, 6, 7].map(|i: usize| i.min(last) * stride),
            At::Starts(starts) => std::array::from_fn(|i| starts.get(i.min(last)).map_or(0, |&s| s as usize)),
        };
    }
    let (n, first, starts) = (records.n, slots.first, &slots.places.starts);
    let out = Out { n, clock, arena: slots.arena, starts, first, few: &few };
    for window in windows {
        // SAFETY: the caller promises the instructions. By the invariants of `Fitting` reads stay in the bytes, and
        // writes in the arena.
        unsafe {
            let bytes = bytes.add(window.rel);
            match records.rows.at {
                At::Stride(stride) => {
                    let kernel = strided.get(window.shape).unwrap_or(&strided[0]);
                    kernel(window, Strided { bytes, stride }, &out);
                }
                At::Starts(starts) => {
                    let kernel = listed.get(window.shape).unwrap_or(&listed[0]);
                    kernel(window, Listed { bytes, starts: starts.as_ptr() }, &out);
                }
            }
        }
    }
}

/// Where values go.
pub(super) struct Out<'a> {
    n: usize,
    clock: Clock,
    arena: *mut u8,
    starts: &'a [usize],
    first: usize,
    /// The offsets of the records where they are fewer than a block.
    few: &'a [usize; BLOCK],
}

impl Out<'_> {
    /// The first row's slot in a column of values of `bytes`.
    ///
    /// # Safety
    /// The column is one of a packed window, where it has this width.
    #[inline(always)]
    unsafe fn column(&self, column: u16, bytes: usize) -> *mut u8 {
        // SAFETY: by the invariants of `Windows` and `Places` it is a column, and its slots are in the arena.
        unsafe { self.arena.add(self.first * bytes + *self.starts.get_unchecked(usize::from(column))) }
    }

    /// The first row's slots of the values of a lane.
    ///
    /// # Safety
    /// As for [`column`](Self::column).
    #[inline(always)]
    unsafe fn lane(&self, window: &Window, lane: Lane, place: usize) -> [*mut u8; 4] {
        let (n, bytes, at) = (lane.values(), lane.bytes(), 4 * place);
        let none = std::ptr::null_mut();
        // SAFETY: as the caller promises.
        unsafe {
            [
                if n > 0 { self.column(window.columns[at], bytes) } else { none },
                if n > 1 { self.column(window.columns[at + 1], bytes) } else { none },
                if n > 2 { self.column(window.columns[at + 2], bytes) } else { none },
                if n > 3 { self.column(window.columns[at + 3], bytes) } else { none },
            ]
        }
    }
}

/// Addresses of a window in each record.
pub(super) trait Place: Copy {
    /// In record `i`.
    ///
    /// # Safety
    /// It is there.
    unsafe fn one(self, i: usize) -> *const u8;

    /// In eight records from `i` on.
    ///
    /// # Safety
    /// They are there.
    unsafe fn eight(self, i: usize) -> [*const u8; BLOCK];

    /// In records fewer than eight, the last one standing in for others.
    ///
    /// # Safety
    /// These are their offsets.
    unsafe fn few(self, offsets: &[usize; BLOCK]) -> [*const u8; BLOCK];
}

#[derive(Clone, Copy)]
pub(super) struct Strided {
    bytes: *const u8,
    stride: usize,
}

impl Place for Strided {
    #[inline(always)]
    unsafe fn one(self, i: usize) -> *const u8 {
        // SAFETY: within the records.
        unsafe { self.bytes.add(i * self.stride) }
    }

    #[inline(always)]
    unsafe fn eight(self, i: usize) -> [*const u8; BLOCK] {
        // SAFETY: within the records.
        unsafe {
            let p = self.bytes.add(i * self.stride);
            let q = p.add(4 * self.stride);
            let (s, t) = (self.stride, 3 * self.stride);
            [p, p.add(s), p.add(2 * s), p.add(t), q, q.add(s), q.add(2 * s), q.add(t)]
        }
    }

    #[inline(always)]
    unsafe fn few(self, offsets: &[usize; BLOCK]) -> [*const u8; BLOCK] {
        // SAFETY: as the caller promises.
        unsafe { few(self.bytes, offsets) }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Listed {
    bytes: *const u8,
    starts: *const u32,
}

impl Place for Listed {
    #[inline(always)]
    unsafe fn one(self, i: usize) -> *const u8 {
        // SAFETY: within the starts.
        unsafe { self.bytes.add(*self.starts.add(i) as usize) }
    }

    #[inline(always)]
    unsafe fn eight(self, i: usize) -> [*const u8; BLOCK] {
        // SAFETY: within the starts.
        unsafe {
            let at = |j: usize| self.one(i + j);
            [at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)]
        }
    }

    #[inline(always)]
    unsafe fn few(self, offsets: &[usize; BLOCK]) -> [*const u8; BLOCK] {
        // SAFETY: as the caller promises.
        unsafe { few(self.bytes, offsets) }
    }
}

/// # Safety
/// Each offset is one of a record.
#[inline(always)]
unsafe fn few(bytes: *const u8, offsets: &[usize; BLOCK]) -> [*const u8; BLOCK] {
    // SAFETY: as the caller promises.
    unsafe {
        let at = |j: usize| bytes.add(offsets[j]);
        [at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)]
    }
}

/// Fills a window's columns.
///
/// # Safety
/// As for [`Fill`]; inlined into a function with the target feature.
#[inline(always)]
pub(super) unsafe fn fill<V: Vectors, const SHAPE: usize, P: Place>(window: &Window, place: P, out: &Out<'_>) {
    // SAFETY: as the caller promises.
    unsafe {
        if SHAPE == WHOLE {
            whole::<V, P>(window, place, out);
        } else {
            blocks::<V, SHAPE, P>(window, place, out);
        }
    }
}

/// The lanes of a shape.
pub(super) const fn lanes<const SHAPE: usize>() -> [Lane; 4] {
    SHAPES[if SHAPE == WHOLE { 0 } else { SHAPE }]
}

/// # Safety
/// As for [`fill`].
#[inline(always)]
unsafe fn whole<V: Vectors, P: Place>(window: &Window, place: P, out: &Out<'_>) {
    // SAFETY: the records are there, and so are their slots.
    unsafe {
        let to = out.column(window.columns[0], 16);
        for i in 0..out.n {
            V::copy(place.one(i), to.add(16 * i));
        }
    }
}

/// # Safety
/// As for [`fill`].
#[inline(always)]
unsafe fn blocks<V: Vectors, const SHAPE: usize, P: Place>(window: &Window, place: P, out: &Out<'_>) {
    let lanes = const { lanes::<SHAPE>() };
    // SAFETY: the window is a packed one, and these are its lanes.
    let to = unsafe {
        [
            out.lane(window, lanes[0], 0),
            out.lane(window, lanes[1], 1),
            out.lane(window, lanes[2], 2),
            out.lane(window, lanes[3], 3),
        ]
    };
    // SAFETY: the caller promises the instructions.
    let constants = unsafe { V::constants(window, out.clock) };
    let mut i = 0;
    while i + BLOCK <= out.n {
        // SAFETY: eight more records, and their slots.
        unsafe { V::block::<SHAPE>(place.eight(i), &constants, &to, i) };
        i += BLOCK;
    }
    if i == out.n {
        return;
    }
    if out.n >= BLOCK {
        // SAFETY: the last eight records, some of which were done before, and their slots.
        unsafe { V::block::<SHAPE>(place.eight(out.n - BLOCK), &constants, &to, out.n - BLOCK) };
    } else {
        // SAFETY: fewer than eight records, and slots for eight, the last ones in the slack.
        unsafe { V::block::<SHAPE>(place.few(out.few), &constants, &to, 0) };
    }
}
