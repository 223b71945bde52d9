//! Windows with AVX2: eight records at a time, or four.
#![expect(unsafe_code, reason = "vector loads and stores")]

use super::blocks::{self, Fills, Four, Listed, Out, Place, Strided, To, Vectors, kernels};
use super::window::{Clock, Fitting, Kernel, Lane, Window};
use std::arch::x86_64::*;

/// AVX2, which this machine was seen to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runner(());

impl Runner {
    pub(super) fn new(kernel: Kernel) -> Option<Self> {
        (kernel == Kernel::Avx2 && is_x86_feature_detected!("avx2")).then_some(Self(()))
    }

    /// Fills the columns of the windows; returns the bits that any milliseconds had.
    #[inline(always)]
    pub(super) fn run(self, windows: &[Window], records: &Fitting<'_>, clock: Clock) -> u64 {
        // SAFETY: AVX2 was detected by `new`.
        unsafe { blocks::run(&STRIDED, &LISTED, windows, records, clock) }
    }
}

#[cfg(feature = "collect")]
pub(super) fn widest<L: super::Loop>(one: L) -> L::Result {
    #[target_feature(enable = "avx2")]
    fn run<L: super::Loop>(one: L) -> L::Result {
        one.run()
    }
    // Twice as wide, and with what AVX2 lacks: the lesser of two numbers of 64 bits, and cutting them.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
    fn run_wider<L: super::Loop>(one: L) -> L::Result {
        one.run()
    }
    if has_avx512() {
        // SAFETY: all of them were detected.
        unsafe { run_wider(one) }
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected.
        unsafe { run(one) }
    } else {
        one.run()
    }
}

#[cfg(feature = "collect")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

static STRIDED: Fills<Strided> = kernels!();
static LISTED: Fills<Listed> = kernels!();

/// # Safety
/// AVX2; the window stays in the bytes for all records.
#[target_feature(enable = "avx2")]
unsafe fn fill<const SHAPE: usize, P: Place>(window: &Window, place: P, out: *const Out) {
    // SAFETY: as the caller promises.
    unsafe { blocks::fill::<Avx2, SHAPE, P>(window, place, out) }
}

// What follows is inlined into `fill`, whose instructions it may then use.

struct Avx2;

struct State {
    mask: __m256i,
    uptime: __m256i,
    export: __m256i,
    // The bits that any milliseconds had.
    millis: __m256i,
}

impl Vectors for Avx2 {
    type State = State;

    #[inline(always)]
    unsafe fn state(window: &Window, clock: Clock) -> State {
        // SAFETY: as the caller promises; the mask is sixteen bytes.
        unsafe {
            State {
                mask: _mm256_broadcastsi128_si256(_mm_loadu_si128(window.mask.as_ptr().cast())),
                uptime: _mm256_set1_epi32(clock.uptime_ms.cast_signed()),
                export: _mm256_set1_epi64x(clock.export_us),
                millis: _mm256_setzero_si256(),
            }
        }
    }

    #[inline(always)]
    unsafe fn millis(state: &State) -> u64 {
        // SAFETY: as the caller promises.
        unsafe {
            let two = _mm_or_si128(_mm256_castsi256_si128(state.millis), _mm256_extracti128_si256::<1>(state.millis));
            (_mm_cvtsi128_si64(two) | _mm_extract_epi64::<1>(two)).cast_unsigned()
        }
    }

    #[inline(always)]
    unsafe fn half<const SHAPE: usize>(from: Four, c: &mut State, to: To) {
        let (lanes, slots) = const { (blocks::lanes::<SHAPE>(), blocks::slots::<SHAPE>()) };
        // SAFETY: as the caller promises.
        unsafe {
            let mask = _mm256_castsi256_si128(c.mask);
            let r0 = _mm_shuffle_epi8(_mm_loadu_si128(from[0].cast()), mask);
            let r1 = _mm_shuffle_epi8(_mm_loadu_si128(from[1].cast()), mask);
            let r2 = _mm_shuffle_epi8(_mm_loadu_si128(from[2].cast()), mask);
            let r3 = _mm_shuffle_epi8(_mm_loadu_si128(from[3].cast()), mask);
            if lanes[0].is_wide() {
                let rows = (_mm_unpacklo_epi64(r0, r1), _mm_unpacklo_epi64(r2, r3));
                four_wide(lanes[0], _mm256_set_m128i(rows.1, rows.0), c, to.slot(slots[0], 8));
            } else {
                let (low, high) = (_mm_unpacklo_epi32(r0, r1), _mm_unpacklo_epi32(r2, r3));
                store_four(lanes[0], _mm_unpacklo_epi64(low, high), c, to, slots[0]);
                store_four(lanes[1], _mm_unpackhi_epi64(low, high), c, to, slots[1]);
            }
            if lanes[2].is_wide() {
                let rows = (_mm_unpackhi_epi64(r0, r1), _mm_unpackhi_epi64(r2, r3));
                four_wide(lanes[2], _mm256_set_m128i(rows.1, rows.0), c, to.slot(slots[2], 8));
            } else {
                let (low, high) = (_mm_unpackhi_epi32(r0, r1), _mm_unpackhi_epi32(r2, r3));
                store_four(lanes[2], _mm_unpacklo_epi64(low, high), c, to, slots[2]);
                store_four(lanes[3], _mm_unpackhi_epi64(low, high), c, to, slots[3]);
            }
        }
    }

    #[inline(always)]
    unsafe fn block<const SHAPE: usize>(from: [Four; 2], c: &mut State, to: To) {
        let (lanes, slots) = const { (blocks::lanes::<SHAPE>(), blocks::slots::<SHAPE>()) };
        let [first, second] = from;
        // SAFETY: as the caller promises.
        unsafe {
            let row = |a: *const u8, b: *const u8| _mm256_shuffle_epi8(_mm256_loadu2_m128i(b.cast(), a.cast()), c.mask);
            if lanes[0].is_wide() && lanes[2].is_wide() {
                // Unpacking works in halves of 128 bits: so placed four rows end up in order.
                let (r0, r1) = (row(first[0], first[2]), row(first[1], first[3]));
                let (r2, r3) = (row(second[0], second[2]), row(second[1], second[3]));
                let (low, high) = (_mm256_unpacklo_epi64(r0, r1), _mm256_unpacklo_epi64(r2, r3));
                eight_wide(lanes[0], low, high, c, to.slot(slots[0], 8));
                let (low, high) = (_mm256_unpackhi_epi64(r0, r1), _mm256_unpackhi_epi64(r2, r3));
                return eight_wide(lanes[2], low, high, c, to.slot(slots[2], 8));
            }
            // Records 0 and 4, 1 and 5, ...: for rows of 32 bits.
            let (r0, r1) = (row(first[0], second[0]), row(first[1], second[1]));
            let (r2, r3) = (row(first[2], second[2]), row(first[3], second[3]));
            if lanes[0].is_wide() {
                // Rows 0, 1, 4, 5 and 2, 3, 6, 7.
                let (low, high) = (_mm256_unpacklo_epi64(r0, r1), _mm256_unpacklo_epi64(r2, r3));
                let rest = _mm256_permute2x128_si256::<0x31>(low, high);
                eight_wide(lanes[0], _mm256_permute2x128_si256::<0x20>(low, high), rest, c, to.slot(slots[0], 8));
            } else {
                let (low, high) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpacklo_epi32(r2, r3));
                store(lanes[0], _mm256_unpacklo_epi64(low, high), c, to, slots[0]);
                store(lanes[1], _mm256_unpackhi_epi64(low, high), c, to, slots[1]);
            }
            let (low, high) = (_mm256_unpackhi_epi32(r0, r1), _mm256_unpackhi_epi32(r2, r3));
            store(lanes[2], _mm256_unpacklo_epi64(low, high), c, to, slots[2]);
            store(lanes[3], _mm256_unpackhi_epi64(low, high), c, to, slots[3]);
        }
    }

    #[inline(always)]
    unsafe fn copy(from: *const u8, to: *mut u8) {
        // SAFETY: as the caller promises.
        unsafe { _mm_storeu_si128(to.cast(), _mm_loadu_si128(from.cast())) }
    }
}

/// Eight rows of a wide lane.
///
/// # Safety
/// AVX2; eight slots of 8 bytes.
#[inline(always)]
unsafe fn eight_wide(lane: Lane, low: __m256i, high: __m256i, c: &mut State, to: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe {
        four_wide(lane, low, c, to);
        four_wide(lane, high, c, to.add(32));
    }
}

/// Four rows of a wide lane.
///
/// # Safety
/// AVX2; four slots of 8 bytes.
#[inline(always)]
unsafe fn four_wide(lane: Lane, rows: __m256i, c: &mut State, to: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe {
        let rows = if matches!(lane, Lane::Millis) {
            c.millis = _mm256_or_si256(c.millis, rows);
            // Times 1024, less times 24: there is no multiplication of 64 bits.
            let less = _mm256_add_epi64(_mm256_slli_epi64::<3>(rows), _mm256_slli_epi64::<4>(rows));
            _mm256_sub_epi64(_mm256_slli_epi64::<10>(rows), less)
        } else {
            rows
        };
        _mm256_storeu_si256(to.cast(), rows);
    }
}

/// # Safety
/// AVX2; eight slots of 8 bytes.
#[inline(always)]
unsafe fn store_wide(low: __m256i, high: __m256i, to: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe {
        _mm256_storeu_si256(to.cast(), low);
        _mm256_storeu_si256(to.cast::<__m256i>().add(1), high);
    }
}

/// Four uptimes as times. Signed: right across the wrap of the clock, and for times just after it.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn times(ago: __m128i, c: &State) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe {
        let us = _mm256_mul_epi32(_mm256_cvtepi32_epi64(ago), _mm256_set1_epi64x(1000));
        _mm256_sub_epi64(c.export, us)
    }
}

/// Eight rows of a lane.
///
/// # Safety
/// AVX2; eight rows of each slot of the lane, the first of which is `slot`.
#[inline(always)]
unsafe fn store(lane: Lane, rows: __m256i, c: &State, to: To, slot: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        match lane {
            Lane::Empty | Lane::Wide | Lane::Millis => {}
            Lane::Word => _mm256_storeu_si256(to.slot(slot, 4).cast(), rows),
            Lane::Widen => {
                let low = _mm256_cvtepu32_epi64(_mm256_castsi256_si128(rows));
                let high = _mm256_cvtepu32_epi64(_mm256_extracti128_si256::<1>(rows));
                store_wide(low, high, to.slot(slot, 8));
            }
            Lane::Uptime => {
                let ago = _mm256_sub_epi32(c.uptime, rows);
                let low = times(_mm256_castsi256_si128(ago), c);
                let high = times(_mm256_extracti128_si256::<1>(ago), c);
                store_wide(low, high, to.slot(slot, 8));
            }
            Lane::Pair => {
                let order = _mm256_setr_epi8(
                    0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11,
                    14, 15,
                );
                let both = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_shuffle_epi8(rows, order));
                _mm_storeu_si128(to.slot(slot, 2).cast(), _mm256_castsi256_si128(both));
                _mm_storeu_si128(to.slot(slot + 1, 2).cast(), _mm256_extracti128_si256::<1>(both));
            }
            Lane::WidenPair => {
                let low = _mm256_and_si256(rows, _mm256_set1_epi32(0xffff));
                _mm256_storeu_si256(to.slot(slot, 4).cast(), low);
                _mm256_storeu_si256(to.slot(slot + 1, 4).cast(), _mm256_srli_epi32::<16>(rows));
            }
            Lane::Quad => {
                let order = _mm256_setr_epi8(
                    0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7,
                    11, 15,
                );
                let order_of_rows = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                let all = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(rows, order), order_of_rows);
                let (low, high) = (_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
                _mm_storel_epi64(to.slot(slot, 1).cast(), low);
                _mm_storeh_pd(to.slot(slot + 1, 1).cast(), _mm_castsi128_pd(low));
                _mm_storel_epi64(to.slot(slot + 2, 1).cast(), high);
                _mm_storeh_pd(to.slot(slot + 3, 1).cast(), _mm_castsi128_pd(high));
            }
        }
    }
}

/// Four rows of a lane.
///
/// # Safety
/// AVX2; four rows of each slot of the lane, the first of which is `slot`.
#[inline(always)]
unsafe fn store_four(lane: Lane, rows: __m128i, c: &State, to: To, slot: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        match lane {
            Lane::Empty | Lane::Wide | Lane::Millis => {}
            Lane::Word => _mm_storeu_si128(to.slot(slot, 4).cast(), rows),
            Lane::Widen => _mm256_storeu_si256(to.slot(slot, 8).cast(), _mm256_cvtepu32_epi64(rows)),
            Lane::Uptime => {
                let ago = _mm_sub_epi32(_mm256_castsi256_si128(c.uptime), rows);
                _mm256_storeu_si256(to.slot(slot, 8).cast(), times(ago, c));
            }
            Lane::Pair => {
                let order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
                let both = _mm_shuffle_epi8(rows, order);
                _mm_storel_epi64(to.slot(slot, 2).cast(), both);
                _mm_storeh_pd(to.slot(slot + 1, 2).cast(), _mm_castsi128_pd(both));
            }
            Lane::WidenPair => {
                _mm_storeu_si128(to.slot(slot, 4).cast(), _mm_and_si128(rows, _mm_set1_epi32(0xffff)));
                _mm_storeu_si128(to.slot(slot + 1, 4).cast(), _mm_srli_epi32::<16>(rows));
            }
            Lane::Quad => {
                let order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                let all = _mm_shuffle_epi8(rows, order);
                to.slot(slot, 1).cast::<i32>().write_unaligned(_mm_extract_epi32::<0>(all));
                to.slot(slot + 1, 1).cast::<i32>().write_unaligned(_mm_extract_epi32::<1>(all));
                to.slot(slot + 2, 1).cast::<i32>().write_unaligned(_mm_extract_epi32::<2>(all));
                to.slot(slot + 3, 1).cast::<i32>().write_unaligned(_mm_extract_epi32::<3>(all));
            }
        }
    }
}
