//! Windows with NEON: eight records at a time, as two halves of four.
#![expect(unsafe_code, reason = "vector loads and stores")]

use super::blocks::{self, BLOCK, Fills, Listed, Out, Place, Strided, Vectors, kernels};
use super::window::{Clock, Fitting, Kernel, Lane, Window};
use std::arch::aarch64::*;

/// NEON, which this machine was seen to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runner(());

impl Runner {
    pub(super) fn new(kernel: Kernel) -> Option<Self> {
        (kernel == Kernel::Neon && std::arch::is_aarch64_feature_detected!("neon")).then_some(Self(()))
    }

    /// Fills the columns of the windows.
    #[inline(always)]
    pub(super) fn run(self, windows: &[Window], records: &Fitting<'_>, clock: Clock) {
        // SAFETY: NEON was detected by `new`.
        unsafe { blocks::run(&STRIDED, &LISTED, windows, records, clock) }
    }
}

static STRIDED: Fills<Strided> = kernels!();
static LISTED: Fills<Listed> = kernels!();

/// # Safety
/// NEON; the window stays in the bytes for all records.
#[target_feature(enable = "neon")]
unsafe fn fill<const SHAPE: usize, P: Place>(window: &Window, place: P, out: &Out<'_>) {
    // SAFETY: as the caller promises.
    unsafe { blocks::fill::<Neon, SHAPE, P>(window, place, out) }
}

// What follows is inlined into `fill`, whose instructions it may then use.

struct Neon;

struct Constants {
    mask: uint8x16_t,
    uptime: uint32x4_t,
    export: int64x2_t,
}

/// A lane, or two, of eight records: the first four, then the others.
type Rows = [uint32x4_t; 2];

impl Vectors for Neon {
    type Constants = Constants;

    #[inline(always)]
    unsafe fn constants(window: &Window, clock: Clock) -> Constants {
        // SAFETY: as the caller promises; the mask is sixteen bytes.
        unsafe {
            Constants {
                mask: vld1q_u8(window.mask.as_ptr()),
                uptime: vdupq_n_u32(clock.uptime_ms),
                export: vdupq_n_s64(clock.export_us),
            }
        }
    }

    #[inline(always)]
    unsafe fn block<const SHAPE: usize>(from: [*const u8; BLOCK], c: &Constants, to: &[[*mut u8; 4]; 4], i: usize) {
        let lanes = const { blocks::lanes::<SHAPE>() };
        // SAFETY: as the caller promises.
        unsafe {
            let load = |p: *const u8| vreinterpretq_u32_u8(vqtbl1q_u8(vld1q_u8(p), c.mask));
            let r = [load(from[0]), load(from[1]), load(from[2]), load(from[3])];
            let s = [load(from[4]), load(from[5]), load(from[6]), load(from[7])];
            // Lanes 0 and 2, and lanes 1 and 3, of pairs of records; half of them is not used beside a wide lane.
            let even = [vtrn1q_u32(r[0], r[1]), vtrn1q_u32(r[2], r[3]), vtrn1q_u32(s[0], s[1]), vtrn1q_u32(s[2], s[3])];
            let odd = [vtrn2q_u32(r[0], r[1]), vtrn2q_u32(r[2], r[3]), vtrn2q_u32(s[0], s[1]), vtrn2q_u32(s[2], s[3])];
            if matches!(lanes[0], Lane::Wide) {
                wide([first(r[0], r[1]), first(r[2], r[3]), first(s[0], s[1]), first(s[2], s[3])], to[0][0], i);
            } else {
                store(lanes[0], [first(even[0], even[1]), first(even[2], even[3])], c, &to[0], i);
                store(lanes[1], [first(odd[0], odd[1]), first(odd[2], odd[3])], c, &to[1], i);
            }
            if matches!(lanes[2], Lane::Wide) {
                wide([second(r[0], r[1]), second(r[2], r[3]), second(s[0], s[1]), second(s[2], s[3])], to[2][0], i);
            } else {
                store(lanes[2], [second(even[0], even[1]), second(even[2], even[3])], c, &to[2], i);
                store(lanes[3], [second(odd[0], odd[1]), second(odd[2], odd[3])], c, &to[3], i);
            }
        }
    }

    #[inline(always)]
    unsafe fn copy(from: *const u8, to: *mut u8) {
        // SAFETY: as the caller promises.
        unsafe { vst1q_u8(to, vld1q_u8(from)) }
    }
}

/// The lower 64 bits of both.
///
/// # Safety
/// NEON.
#[inline(always)]
unsafe fn first(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
    // SAFETY: as the caller promises.
    unsafe { vreinterpretq_u32_u64(vtrn1q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b))) }
}

/// The upper 64 bits of both.
///
/// # Safety
/// NEON.
#[inline(always)]
unsafe fn second(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
    // SAFETY: as the caller promises.
    unsafe { vreinterpretq_u32_u64(vtrn2q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b))) }
}

/// Eight rows of 64 bits, two a vector.
///
/// # Safety
/// NEON; eight slots of 8 bytes from row `i` on.
#[inline(always)]
unsafe fn wide(rows: [uint32x4_t; 4], to: *mut u8, i: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        let to = to.add(8 * i).cast::<u32>();
        vst1q_u32(to, rows[0]);
        vst1q_u32(to.add(4), rows[1]);
        vst1q_u32(to.add(8), rows[2]);
        vst1q_u32(to.add(12), rows[3]);
    }
}

/// Eight rows of a lane.
///
/// # Safety
/// NEON; eight slots from row `i` on at each address that the lane uses.
#[inline(always)]
unsafe fn store(lane: Lane, rows: Rows, c: &Constants, to: &[*mut u8; 4], i: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        match lane {
            Lane::Empty | Lane::Wide => {}
            Lane::Word => {
                let to = to[0].add(4 * i).cast::<u32>();
                vst1q_u32(to, rows[0]);
                vst1q_u32(to.add(4), rows[1]);
            }
            Lane::Widen => {
                let to = to[0].add(8 * i).cast::<u64>();
                vst1q_u64(to, vmovl_u32(vget_low_u32(rows[0])));
                vst1q_u64(to.add(2), vmovl_high_u32(rows[0]));
                vst1q_u64(to.add(4), vmovl_u32(vget_low_u32(rows[1])));
                vst1q_u64(to.add(6), vmovl_high_u32(rows[1]));
            }
            Lane::Uptime => {
                let to = to[0].add(8 * i).cast::<i64>();
                // Signed: right across the wrap of the clock, and for times just after it.
                let ago = rows.map(|r| vreinterpretq_s32_u32(vsubq_u32(c.uptime, r)));
                vst1q_s64(to, vmlsl_n_s32(c.export, vget_low_s32(ago[0]), 1000));
                vst1q_s64(to.add(2), vmlsl_high_n_s32(c.export, ago[0], 1000));
                vst1q_s64(to.add(4), vmlsl_n_s32(c.export, vget_low_s32(ago[1]), 1000));
                vst1q_s64(to.add(6), vmlsl_high_n_s32(c.export, ago[1], 1000));
            }
            Lane::Pair => {
                let [a, b] = rows.map(|r| vreinterpretq_u16_u32(r));
                vst1q_u16(to[0].add(2 * i).cast(), vuzp1q_u16(a, b));
                vst1q_u16(to[1].add(2 * i).cast(), vuzp2q_u16(a, b));
            }
            Lane::WidenPair => {
                let (low, high) = (to[0].add(4 * i).cast::<u32>(), to[1].add(4 * i).cast::<u32>());
                let mask = vdupq_n_u32(0xffff);
                vst1q_u32(low, vandq_u32(rows[0], mask));
                vst1q_u32(low.add(4), vandq_u32(rows[1], mask));
                vst1q_u32(high, vshrq_n_u32::<16>(rows[0]));
                vst1q_u32(high.add(4), vshrq_n_u32::<16>(rows[1]));
            }
            Lane::Quad => {
                let [a, b] = rows.map(|r| vreinterpretq_u8_u32(r));
                // Bytes 0 and 2 of all rows, and bytes 1 and 3.
                let (even, odd) = (vuzp1q_u8(a, b), vuzp2q_u8(a, b));
                let (lower, upper) = (vuzp1q_u8(even, odd), vuzp2q_u8(even, odd));
                vst1_u8(to[0].add(i), vget_low_u8(lower));
                vst1_u8(to[1].add(i), vget_high_u8(lower));
                vst1_u8(to[2].add(i), vget_low_u8(upper));
                vst1_u8(to[3].add(i), vget_high_u8(upper));
            }
        }
    }
}
