//! Windows with AVX-512: sixteen records at a time; fewer as with AVX2.
#![expect(unsafe_code, reason = "vector loads and stores")]

use super::blocks::{self, Fills, Four, Listed, Out, Place, Strided, To, Vectors, kernels};
use super::window::{Clock, Lane, Window};
use super::x86::Avx2;
use std::arch::x86_64::*;

/// Whether this machine has what the kernels use. The first machines with AVX-512 clock lower where they use it: those
/// that permute bytes do not.
pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx2")
}

pub(super) static STRIDED: Fills<Strided> = kernels!();
pub(super) static LISTED: Fills<Listed> = kernels!();

/// # Safety
/// AVX2 and these; the window stays in the bytes for all records.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
unsafe fn fill<const SHAPE: usize, P: Place>(window: &Window, place: P, out: *const Out) {
    // SAFETY: as the caller promises.
    unsafe { blocks::fill::<Avx512, SHAPE, P>(window, place, out) }
}

// What follows is inlined into `fill`, whose instructions it may then use.

struct Avx512;

struct Constants {
    short: <Avx2 as Vectors>::Constants,
    mask: __m512i,
    uptime: __m512i,
    export: __m512i,
}

impl Vectors for Avx512 {
    type Constants = Constants;
    const HAS_LARGE: bool = true;

    #[inline(always)]
    unsafe fn constants(window: &Window, clock: Clock) -> Constants {
        // SAFETY: as the caller promises; the mask is sixteen bytes.
        unsafe {
            Constants {
                short: Avx2::constants(window, clock),
                mask: _mm512_broadcast_i32x4(_mm_loadu_si128(window.mask.as_ptr().cast())),
                uptime: _mm512_set1_epi32(clock.uptime_ms.cast_signed()),
                export: _mm512_set1_epi64(clock.export_us),
            }
        }
    }

    #[inline(always)]
    unsafe fn half<const SHAPE: usize>(from: Four, c: &Constants, to: To) {
        // SAFETY: as the caller promises.
        unsafe { Avx2::half::<SHAPE>(from, &c.short, to) }
    }

    #[inline(always)]
    unsafe fn block<const SHAPE: usize>(from: [Four; 2], c: &Constants, to: To) {
        // SAFETY: as the caller promises.
        unsafe { Avx2::block::<SHAPE>(from, &c.short, to) }
    }

    #[inline(always)]
    unsafe fn large<const SHAPE: usize>(from: [Four; 4], c: &Constants, to: To) {
        let (lanes, slots) = const { (blocks::lanes::<SHAPE>(), blocks::slots::<SHAPE>()) };
        // SAFETY: as the caller promises.
        unsafe {
            // Records 0, 4, 8 and 12, then 1, 5, ...: unpacking works in parts of 128 bits, so they end up in order.
            let [r0, r1, r2, r3] = [
                load([from[0][0], from[1][0], from[2][0], from[3][0]], c),
                load([from[0][1], from[1][1], from[2][1], from[3][1]], c),
                load([from[0][2], from[1][2], from[2][2], from[3][2]], c),
                load([from[0][3], from[1][3], from[2][3], from[3][3]], c),
            ];
            if matches!(lanes[0], Lane::Wide) {
                wide(_mm512_unpacklo_epi64(r0, r1), _mm512_unpacklo_epi64(r2, r3), to.slot(slots[0], 8));
            } else {
                let (low, high) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpacklo_epi32(r2, r3));
                store(lanes[0], _mm512_unpacklo_epi64(low, high), c, to, slots[0]);
                store(lanes[1], _mm512_unpackhi_epi64(low, high), c, to, slots[1]);
            }
            if matches!(lanes[2], Lane::Wide) {
                wide(_mm512_unpackhi_epi64(r0, r1), _mm512_unpackhi_epi64(r2, r3), to.slot(slots[2], 8));
            } else {
                let (low, high) = (_mm512_unpackhi_epi32(r0, r1), _mm512_unpackhi_epi32(r2, r3));
                store(lanes[2], _mm512_unpacklo_epi64(low, high), c, to, slots[2]);
                store(lanes[3], _mm512_unpackhi_epi64(low, high), c, to, slots[3]);
            }
        }
    }

    #[inline(always)]
    unsafe fn copy(from: *const u8, to: *mut u8) {
        // SAFETY: as the caller promises.
        unsafe { Avx2::copy(from, to) }
    }
}

/// Four records' windows, their bytes in the order of the lanes.
///
/// # Safety
/// AVX-512; sixteen bytes at each address.
#[inline(always)]
unsafe fn load(from: Four, c: &Constants) -> __m512i {
    // SAFETY: as the caller promises.
    unsafe {
        // Each record's window is loaded to all parts and merged into its own: an insertion would take a shuffle.
        let one = |i: usize| _mm_loadu_si128(from[i].cast());
        let all = _mm512_castsi128_si512(one(0));
        let all = _mm512_mask_broadcast_i32x4(all, 0x00f0, one(1));
        let all = _mm512_mask_broadcast_i32x4(all, 0x0f00, one(2));
        let all = _mm512_mask_broadcast_i32x4(all, 0xf000, one(3));
        _mm512_shuffle_epi8(all, c.mask)
    }
}

/// Rows 0, 1, 4, 5, ... and 2, 3, 6, 7, ... of 64 bits each.
///
/// # Safety
/// AVX-512; sixteen slots of 8 bytes.
#[inline(always)]
unsafe fn wide(low: __m512i, high: __m512i, to: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe {
        let first = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high);
        let second = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), high);
        sixteen_wide(first, second, to);
    }
}

/// # Safety
/// AVX-512; sixteen slots of 8 bytes.
#[inline(always)]
unsafe fn sixteen_wide(low: __m512i, high: __m512i, to: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe {
        _mm512_storeu_si512(to.cast(), low);
        _mm512_storeu_si512(to.cast::<__m512i>().add(1).cast(), high);
    }
}

/// Eight uptimes as times. Signed: right across the wrap of the clock, and for times just after it.
///
/// # Safety
/// AVX-512.
#[inline(always)]
unsafe fn times(ago: __m256i, c: &Constants) -> __m512i {
    // SAFETY: as the caller promises.
    unsafe {
        let us = _mm512_mul_epi32(_mm512_cvtepi32_epi64(ago), _mm512_set1_epi64(1000));
        _mm512_sub_epi64(c.export, us)
    }
}

/// Sixteen rows of a lane.
///
/// # Safety
/// AVX-512; sixteen rows of each slot of the lane, the first of which is `slot`.
#[inline(always)]
unsafe fn store(lane: Lane, rows: __m512i, c: &Constants, to: To, slot: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        match lane {
            Lane::Empty | Lane::Wide => {}
            Lane::Word => _mm512_storeu_si512(to.slot(slot, 4).cast(), rows),
            Lane::Widen => {
                let low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(rows));
                let high = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64::<1>(rows));
                sixteen_wide(low, high, to.slot(slot, 8));
            }
            Lane::Uptime => {
                let ago = _mm512_sub_epi32(c.uptime, rows);
                let low = times(_mm512_castsi512_si256(ago), c);
                let high = times(_mm512_extracti64x4_epi64::<1>(ago), c);
                sixteen_wide(low, high, to.slot(slot, 8));
            }
            Lane::Pair => {
                let order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
                let both = _mm512_shuffle_epi8(rows, _mm512_broadcast_i32x4(order));
                let both = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), both);
                _mm256_storeu_si256(to.slot(slot, 2).cast(), _mm512_castsi512_si256(both));
                _mm256_storeu_si256(to.slot(slot + 1, 2).cast(), _mm512_extracti64x4_epi64::<1>(both));
            }
            Lane::WidenPair => {
                _mm512_storeu_si512(to.slot(slot, 4).cast(), _mm512_and_si512(rows, _mm512_set1_epi32(0xffff)));
                _mm512_storeu_si512(to.slot(slot + 1, 4).cast(), _mm512_srli_epi32::<16>(rows));
            }
            Lane::Quad => {
                let order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                let all = _mm512_shuffle_epi8(rows, _mm512_broadcast_i32x4(order));
                let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                let all = _mm512_permutexvar_epi32(order, all);
                _mm_storeu_si128(to.slot(slot, 1).cast(), _mm512_castsi512_si128(all));
                _mm_storeu_si128(to.slot(slot + 1, 1).cast(), _mm512_extracti32x4_epi32::<1>(all));
                _mm_storeu_si128(to.slot(slot + 2, 1).cast(), _mm512_extracti32x4_epi32::<2>(all));
                _mm_storeu_si128(to.slot(slot + 3, 1).cast(), _mm512_extracti32x4_epi32::<3>(all));
            }
        }
    }
}
