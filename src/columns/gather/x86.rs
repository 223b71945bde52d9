//! Windows with AVX2: eight records at a time.
#![expect(unsafe_code, reason = "vector loads and stores")]

use super::blocks::{self, BLOCK, Fills, Listed, Out, Place, Strided, Vectors, kernels};
use super::window::{Clock, Fitting, Kernel, Lane, Window};
use std::arch::x86_64::*;

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
        // SAFETY: AVX2 was detected by `new`.
        unsafe { blocks::run(&STRIDED, &LISTED, windows, records, clock) }
    }
}

static STRIDED: Fills<Strided> = kernels!();
static LISTED: Fills<Listed> = kernels!();

/// # Safety
/// AVX2; the window stays in the bytes for all records.
#[target_feature(enable = "avx2")]
unsafe fn fill<const SHAPE: usize, P: Place>(window: &Window, place: P, out: &Out<'_>) {
    // SAFETY: as the caller promises.
    unsafe { blocks::fill::<Avx2, SHAPE, P>(window, place, out) }
}

// What follows is inlined into `fill`, whose instructions it may then use.

struct Avx2;

struct Constants {
    mask: __m256i,
    uptime: __m256i,
    export: __m256i,
}

impl Vectors for Avx2 {
    type Constants = Constants;

    #[inline(always)]
    unsafe fn constants(window: &Window, clock: Clock) -> Constants {
        // SAFETY: as the caller promises; the mask is sixteen bytes.
        unsafe {
            Constants {
                mask: _mm256_broadcastsi128_si256(_mm_loadu_si128(window.mask.as_ptr().cast())),
                uptime: _mm256_set1_epi32(clock.uptime_ms.cast_signed()),
                export: _mm256_set1_epi64x(clock.export_us),
            }
        }
    }

    #[inline(always)]
    unsafe fn block<const SHAPE: usize>(from: [*const u8; BLOCK], c: &Constants, to: &[[*mut u8; 4]; 4], i: usize) {
        let lanes = const { blocks::lanes::<SHAPE>() };
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

    #[inline(always)]
    unsafe fn copy(from: *const u8, to: *mut u8) {
        // SAFETY: as the caller promises.
        unsafe { _mm_storeu_si128(to.cast(), _mm_loadu_si128(from.cast())) }
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
