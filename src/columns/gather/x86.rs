//! Windows with AVX2: eight records at a time.
#![expect(unsafe_code, reason = "vector loads and stores")]

use super::window::{At, Clock, Fitting, Kernel, Lane, SHAPES, SLACK, WHOLE, Window};
use std::arch::x86_64::*;

/// Records of a block.
const BLOCK: usize = 8;
const _: () = assert!(BLOCK <= SLACK);

/// AVX2, which this machine was seen to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runner(());

impl Runner {
    pub(super) fn new(kernel: Kernel) -> Option<Self> {
        (kernel == Kernel::Avx2 && is_x86_feature_detected!("avx2")).then_some(Self(()))
    }

    /// Fills the columns of the windows.
    #[inline(always)]
    pub(super) fn run(self, windows: &[Window], records: &Fitting<'_>, clock: Clock) {
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
            // SAFETY: AVX2 was detected by `new`. By the invariants of `Fitting` reads stay in the bytes, and writes in
            // the arena.
            unsafe {
                let bytes = bytes.add(window.rel);
                match records.rows.at {
                    At::Stride(stride) => {
                        let kernel = STRIDED.get(window.shape).unwrap_or(&STRIDED[0]);
                        kernel(window, Strided { bytes, stride }, &out);
                    }
                    At::Starts(starts) => {
                        let kernel = LISTED.get(window.shape).unwrap_or(&LISTED[0]);
                        kernel(window, Listed { bytes, starts: starts.as_ptr() }, &out);
                    }
                }
            }
        }
    }
}

/// Where values go.
struct Out<'a> {
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
trait Place: Copy {
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
struct Strided {
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
struct Listed {
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

type Fill<P> = unsafe fn(&Window, P, &Out<'_>);
type Fills<P> = [Fill<P>; SHAPES.len() + 1];

/// The kernel of each shape.
macro_rules! kernels {
    ($($tens:literal)*) => {[$(
        fill::<{ $tens * 10 }, _>, fill::<{ $tens * 10 + 1 }, _>, fill::<{ $tens * 10 + 2 }, _>,
        fill::<{ $tens * 10 + 3 }, _>, fill::<{ $tens * 10 + 4 }, _>, fill::<{ $tens * 10 + 5 }, _>,
        fill::<{ $tens * 10 + 6 }, _>, fill::<{ $tens * 10 + 7 }, _>, fill::<{ $tens * 10 + 8 }, _>,
        fill::<{ $tens * 10 + 9 }, _>,
    )*]};
}
static STRIDED: Fills<Strided> = kernels!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23);
static LISTED: Fills<Listed> = kernels!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23);

/// # Safety
/// AVX2; the window stays in the bytes for all records.
#[target_feature(enable = "avx2")]
unsafe fn fill<const SHAPE: usize, P: Place>(window: &Window, place: P, out: &Out<'_>) {
    // SAFETY: as the caller promises.
    unsafe {
        if SHAPE == WHOLE {
            whole(window, place, out);
        } else {
            blocks::<SHAPE, P>(window, place, out);
        }
    }
}

// What follows is inlined into `fill`, whose instructions it may then use.

/// # Safety
/// As for [`fill`].
#[inline(always)]
unsafe fn whole<P: Place>(window: &Window, place: P, out: &Out<'_>) {
    // SAFETY: the records are there, and so are their slots.
    unsafe {
        let to = out.column(window.columns[0], 16).cast::<__m128i>();
        for i in 0..out.n {
            _mm_storeu_si128(to.add(i), _mm_loadu_si128(place.one(i).cast()));
        }
    }
}

/// # Safety
/// As for [`fill`].
#[inline(always)]
unsafe fn blocks<const SHAPE: usize, P: Place>(window: &Window, place: P, out: &Out<'_>) {
    let kinds = const { SHAPES[if SHAPE == WHOLE { 0 } else { SHAPE }] };
    // SAFETY: the window is a packed one, and these are its lanes.
    let to = unsafe {
        [
            out.lane(window, kinds[0], 0),
            out.lane(window, kinds[1], 1),
            out.lane(window, kinds[2], 2),
            out.lane(window, kinds[3], 3),
        ]
    };
    // SAFETY: AVX2; the mask is sixteen bytes.
    let constants = unsafe {
        Constants {
            mask: _mm256_broadcastsi128_si256(_mm_loadu_si128(window.mask.as_ptr().cast())),
            uptime: _mm256_set1_epi32(out.clock.uptime_ms.cast_signed()),
            export: _mm256_set1_epi64x(out.clock.export_us),
        }
    };
    let mut i = 0;
    while i + BLOCK <= out.n {
        // SAFETY: eight more records, and their slots.
        unsafe { block::<SHAPE>(place.eight(i), &constants, &to, i) };
        i += BLOCK;
    }
    if i == out.n {
        return;
    }
    if out.n >= BLOCK {
        // SAFETY: the last eight records, some of which were done before, and their slots.
        unsafe { block::<SHAPE>(place.eight(out.n - BLOCK), &constants, &to, out.n - BLOCK) };
    } else {
        // SAFETY: fewer than eight records, and slots for eight, the last ones in the slack.
        unsafe { block::<SHAPE>(place.few(out.few), &constants, &to, 0) };
    }
}

struct Constants {
    mask: __m256i,
    uptime: __m256i,
    export: __m256i,
}

/// Eight records' windows to rows `i..i + 8`.
///
/// # Safety
/// AVX2; sixteen bytes at each address of `from`; slots for the rows at the addresses of `to` that the lanes use.
#[inline(always)]
unsafe fn block<const SHAPE: usize>(from: [*const u8; BLOCK], c: &Constants, to: &[[*mut u8; 4]; 4], i: usize) {
    let lanes = const { SHAPES[if SHAPE == WHOLE { 0 } else { SHAPE }] };
    // SAFETY: as the caller promises.
    unsafe {
        // Records 0 and 4, 1 and 5, ...: unpacking works in halves of 128 bits, so they end up in order.
        let r0 = _mm256_shuffle_epi8(_mm256_loadu2_m128i(from[4].cast(), from[0].cast()), c.mask);
        let r1 = _mm256_shuffle_epi8(_mm256_loadu2_m128i(from[5].cast(), from[1].cast()), c.mask);
        let r2 = _mm256_shuffle_epi8(_mm256_loadu2_m128i(from[6].cast(), from[2].cast()), c.mask);
        let r3 = _mm256_shuffle_epi8(_mm256_loadu2_m128i(from[7].cast(), from[3].cast()), c.mask);
        if matches!(lanes[0], Lane::Wide) {
            wide(_mm256_unpacklo_epi64(r0, r1), _mm256_unpacklo_epi64(r2, r3), to[0][0], i);
        } else {
            let (low, high) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpacklo_epi32(r2, r3));
            store(lanes[0], _mm256_unpacklo_epi64(low, high), c, &to[0], i);
            store(lanes[1], _mm256_unpackhi_epi64(low, high), c, &to[1], i);
        }
        if matches!(lanes[2], Lane::Wide) {
            wide(_mm256_unpackhi_epi64(r0, r1), _mm256_unpackhi_epi64(r2, r3), to[2][0], i);
        } else {
            let (low, high) = (_mm256_unpackhi_epi32(r0, r1), _mm256_unpackhi_epi32(r2, r3));
            store(lanes[2], _mm256_unpacklo_epi64(low, high), c, &to[2], i);
            store(lanes[3], _mm256_unpackhi_epi64(low, high), c, &to[3], i);
        }
    }
}

/// Rows 0, 1, 4, 5 and 2, 3, 6, 7 of 64 bits each.
///
/// # Safety
/// AVX2; eight slots of 8 bytes from row `i` on.
#[inline(always)]
unsafe fn wide(low: __m256i, high: __m256i, to: *mut u8, i: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        eight_wide(_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high), to, i);
    }
}

/// # Safety
/// AVX2; eight slots of 8 bytes from row `i` on.
#[inline(always)]
unsafe fn eight_wide(low: __m256i, high: __m256i, to: *mut u8, i: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        let to = to.add(8 * i).cast::<__m256i>();
        _mm256_storeu_si256(to, low);
        _mm256_storeu_si256(to.add(1), high);
    }
}

/// Eight rows of a lane.
///
/// # Safety
/// AVX2; eight slots from row `i` on at each address that the lane uses.
#[inline(always)]
unsafe fn store(lane: Lane, rows: __m256i, c: &Constants, to: &[*mut u8; 4], i: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        match lane {
            Lane::Empty | Lane::Wide => {}
            Lane::Word => _mm256_storeu_si256(to[0].add(4 * i).cast(), rows),
            Lane::Widen => {
                let low = _mm256_cvtepu32_epi64(_mm256_castsi256_si128(rows));
                let high = _mm256_cvtepu32_epi64(_mm256_extracti128_si256::<1>(rows));
                eight_wide(low, high, to[0], i);
            }
            Lane::Uptime => {
                // Signed: right across the wrap of the clock, and for times just after it.
                let ago = _mm256_sub_epi32(c.uptime, rows);
                let low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(ago));
                let high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256::<1>(ago));
                let low = _mm256_sub_epi64(c.export, _mm256_mul_epi32(low, _mm256_set1_epi64x(1000)));
                let high = _mm256_sub_epi64(c.export, _mm256_mul_epi32(high, _mm256_set1_epi64x(1000)));
                eight_wide(low, high, to[0], i);
            }
            Lane::Pair => {
                let order = _mm256_setr_epi8(
                    0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11,
                    14, 15,
                );
                let both = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_shuffle_epi8(rows, order));
                _mm_storeu_si128(to[0].add(2 * i).cast(), _mm256_castsi256_si128(both));
                _mm_storeu_si128(to[1].add(2 * i).cast(), _mm256_extracti128_si256::<1>(both));
            }
            Lane::WidenPair => {
                let low = _mm256_and_si256(rows, _mm256_set1_epi32(0xffff));
                _mm256_storeu_si256(to[0].add(4 * i).cast(), low);
                _mm256_storeu_si256(to[1].add(4 * i).cast(), _mm256_srli_epi32::<16>(rows));
            }
            Lane::Quad => {
                let order = _mm256_setr_epi8(
                    0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7,
                    11, 15,
                );
                let order_of_rows = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                let all = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(rows, order), order_of_rows);
                let (low, high) = (_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
                _mm_storel_epi64(to[0].add(i).cast(), low);
                _mm_storeh_pd(to[1].add(i).cast(), _mm_castsi128_pd(low));
                _mm_storel_epi64(to[2].add(i).cast(), high);
                _mm_storeh_pd(to[3].add(i).cast(), _mm_castsi128_pd(high));
            }
        }
    }
}
