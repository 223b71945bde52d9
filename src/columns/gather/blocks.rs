//! What the vector kernels of every instruction set share: where records and slots are, and blocks of eight records.
//!
//! An instruction set is one small file beside this one: [`Vectors`] for a block, a `fill` with its target feature, and
//! [`kernels!`](kernels) for the tables.
#![expect(unsafe_code, reason = "addresses of records and slots")]

use super::window::{At, Clock, Fitting, Lane, SHAPES, SLACK, WHOLE, Window};
use std::cell::Cell;

/// Records of a half block.
pub(super) const HALF: usize = 4;
/// Records of a block.
pub(super) const BLOCK: usize = 2 * HALF;
const _: () = assert!(HALF <= SLACK);

/// The addresses of a window in the records of a half block.
pub(super) type Four = [*const u8; HALF];

/// Instructions on vectors.
pub(super) trait Vectors {
    /// What is the same for all blocks of a window, and what they saw.
    type State;

    /// The state before the first block of a window.
    ///
    /// # Safety
    /// The machine has the instructions.
    unsafe fn state(window: &Window, clock: Clock) -> Self::State;

    /// The bits that any milliseconds had so far.
    ///
    /// # Safety
    /// The machine has the instructions.
    unsafe fn millis(state: &Self::State) -> u64;

    /// Four records' windows to four rows, by the lanes of the shape.
    ///
    /// # Safety
    /// The machine has the instructions; sixteen bytes at each address of `from`; slots for the rows at `to`.
    unsafe fn half<const SHAPE: usize>(from: Four, state: &mut Self::State, to: To);

    /// Eight records' windows to eight rows.
    ///
    /// # Safety
    /// As for [`half`](Self::half).
    unsafe fn block<const SHAPE: usize>(from: [Four; 2], state: &mut Self::State, to: To);

    /// Copies sixteen bytes.
    ///
    /// # Safety
    /// The machine has the instructions, and both are there.
    unsafe fn copy(from: *const u8, to: *mut u8);
}

/// The kernel of a shape.
///
/// # Safety
/// To call it the machine must have its instructions; the window stays in the bytes for all records, and its slots in the arena.
pub(super) type Fill<P> = unsafe fn(&Window, P, *const Out);
/// The kernel of each shape.
pub(super) type Fills<P> = [Fill<P>; SHAPES.len() + 1];

/// A table of `fill` for each shape.
macro_rules! kernels {
    () => {
        kernels!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26)
    };
    ($($tens:literal)*) => {[$(
        fill::<{ $tens * 10 }, _>, fill::<{ $tens * 10 + 1 }, _>, fill::<{ $tens * 10 + 2 }, _>,
        fill::<{ $tens * 10 + 3 }, _>, fill::<{ $tens * 10 + 4 }, _>, fill::<{ $tens * 10 + 5 }, _>,
        fill::<{ $tens * 10 + 6 }, _>, fill::<{ $tens * 10 + 7 }, _>, fill::<{ $tens * 10 + 8 }, _>,
        fill::<{ $tens * 10 + 9 }, _>,
    )*]};
}
pub(super) use kernels;

/// Fills the columns of the windows; returns the bits that any milliseconds had.
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
) -> u64 {
    let slots = &records.slots;
    let bytes = records.rows.bytes.as_ptr();
    let (arena, offsets) = (slots.arena, slots.places.offsets.as_ptr());
    let out = Out { n: records.n, clock, to: To { arena, offsets, row: slots.first }, millis: Cell::new(0) };
    for window in windows {
        // SAFETY: the caller promises the instructions. By the invariants of `Fitting` reads stay in the bytes, and
        // writes in the arena.
        unsafe {
            let bytes = bytes.wrapping_offset(window.rel);
            match records.rows.at {
                At::Stride(stride) => {
                    let kernel = strided.get(window.shape).unwrap_or(&strided[0]);
                    kernel(window, Strided { bytes, stride }, &raw const out);
                }
                At::Starts(starts) => {
                    let kernel = listed.get(window.shape).unwrap_or(&listed[0]);
                    kernel(window, Listed { bytes, starts: starts.as_ptr() }, &raw const out);
                }
            }
        }
    }
    out.millis.get()
}

/// Where values go, and how many.
///
/// Kernels get its address, not a reference: of what is known to be there the compiler loads more at once than was
/// stored at once, and such a load waits for the stores.
pub(super) struct Out {
    n: usize,
    clock: Clock,
    to: To,
    // The bits that any milliseconds had.
    millis: Cell<u64>,
}

/// Where the values of a row go.
///
/// The offsets are read when they are used: a window fills more columns than there are registers.
#[derive(Clone, Copy)]
pub(super) struct To {
    arena: *mut u8,
    // Of the window's first slot, others after it.
    offsets: *const usize,
    row: usize,
}

impl Out {
    /// Where the first row of a window goes.
    ///
    /// # Safety
    /// It is one of the windows that the kernels were called for.
    #[inline(always)]
    unsafe fn of(&self, window: &Window) -> To {
        // SAFETY: by the invariant of `Windows` its slots have offsets.
        To { offsets: unsafe { self.to.offsets.add(window.slot) }, ..self.to }
    }
}

impl To {
    /// The row's value of a slot whose values have `bytes` bytes.
    ///
    /// # Safety
    /// It is a slot of a packed window, of this width, and the row is there.
    #[inline(always)]
    pub(super) unsafe fn slot(self, slot: usize, bytes: usize) -> *mut u8 {
        // SAFETY: by the invariants of `Windows` and `Places` the slot has an offset, and its rows are in the arena.
        unsafe { self.arena.add(self.row * bytes).add(*self.offsets.add(slot)) }
    }

    /// Rows further.
    #[inline(always)]
    fn at(self, i: usize) -> Self {
        Self { row: self.row + i, ..self }
    }
}

/// The first slot of each lane of a shape.
pub(super) const fn slots<const SHAPE: usize>() -> [usize; 4] {
    let lanes = lanes::<SHAPE>();
    let (a, b, c) = (lanes[0].values(), lanes[1].values(), lanes[2].values());
    [0, a, a + b, a + b + c]
}

/// Addresses of a window in each record.
pub(super) trait Place: Copy {
    /// In record `i`.
    ///
    /// # Safety
    /// It is there.
    unsafe fn one(self, i: usize) -> *const u8;

    /// In four records from `i` on.
    ///
    /// # Safety
    /// They are there.
    unsafe fn four(self, i: usize) -> Four;

    /// In eight records from `i` on.
    ///
    /// # Safety
    /// They are there.
    #[inline(always)]
    unsafe fn eight(self, i: usize) -> [Four; 2] {
        // SAFETY: as the caller promises.
        unsafe { [self.four(i), self.four(i + HALF)] }
    }
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
    unsafe fn four(self, i: usize) -> Four {
        // SAFETY: within the records.
        unsafe {
            let p = self.bytes.add(i * self.stride);
            [p, p.add(self.stride), p.add(2 * self.stride), p.add(3 * self.stride)]
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Listed {
    // May be before the bytes: a start is added to it, and then it is among them.
    bytes: *const u8,
    starts: *const u32,
}

impl Place for Listed {
    #[inline(always)]
    unsafe fn one(self, i: usize) -> *const u8 {
        // SAFETY: within the starts.
        unsafe { self.bytes.wrapping_add(*self.starts.add(i) as usize) }
    }

    #[inline(always)]
    unsafe fn four(self, i: usize) -> Four {
        // SAFETY: within the starts.
        unsafe { [self.one(i), self.one(i + 1), self.one(i + 2), self.one(i + 3)] }
    }
}

/// Fills a window's columns.
///
/// # Safety
/// As for [`Fill`]; inlined into a function with the target feature.
#[inline(always)]
pub(super) unsafe fn fill<V: Vectors, const SHAPE: usize, P: Place>(window: &Window, place: P, out: *const Out) {
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

const fn has_millis<const SHAPE: usize>() -> bool {
    let lanes = lanes::<SHAPE>();
    matches!(lanes[0], Lane::Millis) || matches!(lanes[2], Lane::Millis)
}

/// # Safety
/// As for [`fill`].
#[inline(always)]
unsafe fn whole<V: Vectors, P: Place>(window: &Window, place: P, out: *const Out) {
    // SAFETY: the records are there, and so are their slots.
    unsafe {
        let to = (*out).of(window).slot(0, 16);
        for i in 0..(*out).n {
            V::copy(place.one(i), to.add(16 * i));
        }
    }
}

/// # Safety
/// As for [`fill`].
#[inline(always)]
unsafe fn blocks<V: Vectors, const SHAPE: usize, P: Place>(window: &Window, place: P, out: *const Out) {
    // SAFETY: the window is a packed one, which has slots; the caller promises the instructions.
    let (n, to, mut state) = unsafe { ((*out).n, (*out).of(window), V::state(window, (*out).clock)) };
    let mut i = 0;
    while i + BLOCK <= n {
        // SAFETY: eight more records, and their slots.
        unsafe { V::block::<SHAPE>(place.eight(i), &mut state, to.at(i)) };
        i += BLOCK;
    }
    // SAFETY: the last records, some of which may be done, and their slots; fewer than four have slots for four, the
    // others in the slack.
    unsafe {
        match n - i {
            0 => {}
            1..=HALF if n >= HALF => V::half::<SHAPE>(place.four(n - HALF), &mut state, to.at(n - HALF)),
            _ if n >= BLOCK => V::block::<SHAPE>(place.eight(n - BLOCK), &mut state, to.at(n - BLOCK)),
            5.. => {
                V::half::<SHAPE>(place.four(0), &mut state, to);
                V::half::<SHAPE>(place.four(n - HALF), &mut state, to.at(n - HALF));
            }
            few => {
                // The last one stands in for those that are not there.
                let last = few - 1;
                let records = [place.one(0), place.one(last.min(1)), place.one(last), place.one(last)];
                V::half::<SHAPE>(records, &mut state, to);
            }
        }
    }
    if const { has_millis::<SHAPE>() } {
        // SAFETY: the caller promises the instructions.
        unsafe { (*out).millis.set((*out).millis.get() | V::millis(&state)) };
    }
}
