//! Windows with NEON: eight records at a time, as two halves of four.
#![expect(unsafe_code, reason = "vector loads and stores")]

use super::blocks::{self, Fills, Four, Listed, Out, Place, Strided, To, Vectors, kernels};
use super::window::{Clock, Fitting, Kernel, Lane, Window};
use std::arch::aarch64::*;

/// NEON, which this machine was seen to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runner(());

impl Runner {
    pub(super) fn new(kernel: Kernel) -> Option<Self> {
        (kernel == Kernel::Neon && std::arch::is_aarch64_feature_detected!("neon")).then_some(Self(()))
    }

    /// Fills the columns of the windows; returns the bits that any milliseconds had.
    #[inline(always)]
    pub(super) fn run(self, windows: &[Window], records: &Fitting<'_>, clock: Clock) -> u64 {
        // SAFETY: NEON was detected by `new`.
        unsafe { blocks::run(&STRIDED, &LISTED, windows, records, clock) }
    }
}

static STRIDED: Fills<Strided> = kernels!();
static LISTED: Fills<Listed> = kernels!();

/// # Safety
/// NEON; the window stays in the bytes for all records.
#[target_feature(enable = "neon")]
unsafe fn fill<const SHAPE: usize, P: Place>(window: &Window, place: P, out: *const Out) {
    // SAFETY: as the caller promises.
    unsafe { blocks::fill::<Neon, SHAPE, P>(window, place, out) }
}

// What follows is inlined into `fill`, whose instructions it may then use.

struct Neon;

struct State {
    mask: uint8x16_t,
    uptime: uint32x4_t,
    export: int64x2_t,
    // The bits that any milliseconds had.
    millis: uint64x2_t,
}

/// A lane, or two, of eight records: the first four, then the others.
type Rows = [uint32x4_t; 2];

impl Vectors for Neon {
    type State = State;

    #[inline(always)]
    unsafe fn state(window: &Window, clock: Clock) -> State {
        // SAFETY: as the caller promises; the mask is sixteen bytes.
        unsafe {
            State {
                mask: vld1q_u8(window.mask.as_ptr()),
                uptime: vdupq_n_u32(clock.uptime_ms),
                export: vdupq_n_s64(clock.export_us),
                millis: vdupq_n_u64(0),
            }
        }
    }

    #[inline(always)]
    unsafe fn millis(state: &State) -> u64 {
        // SAFETY: as the caller promises.
        unsafe { vgetq_lane_u64::<0>(state.millis) | vgetq_lane_u64::<1>(state.millis) }
    }

    #[inline(always)]
    unsafe fn half<const SHAPE: usize>(from: Four, c: &mut State, to: To) {
        let (lanes, slots) = const { (blocks::lanes::<SHAPE>(), blocks::slots::<SHAPE>()) };
        // SAFETY: as the caller promises.
        unsafe {
            let [r0, r1, r2, r3] = load(from, c);
            // Lanes 0 and 2, and lanes 1 and 3, of pairs of records; half of them is not used beside a wide lane.
            let (even0, even1) = (vtrn1q_u32(r0, r1), vtrn1q_u32(r2, r3));
            let (odd0, odd1) = (vtrn2q_u32(r0, r1), vtrn2q_u32(r2, r3));
            if lanes[0].is_wide() {
                four_wide(lanes[0], [first(r0, r1), first(r2, r3)], c, to.slot(slots[0], 8));
            } else {
                store_four(lanes[0], first(even0, even1), c, to, slots[0]);
                store_four(lanes[1], first(odd0, odd1), c, to, slots[1]);
            }
            if lanes[2].is_wide() {
                four_wide(lanes[2], [second(r0, r1), second(r2, r3)], c, to.slot(slots[2], 8));
            } else {
                store_four(lanes[2], second(even0, even1), c, to, slots[2]);
                store_four(lanes[3], second(odd0, odd1), c, to, slots[3]);
            }
        }
    }

    #[inline(always)]
    unsafe fn block<const SHAPE: usize>(from: [Four; 2], c: &mut State, to: To) {
        let (lanes, slots) = const { (blocks::lanes::<SHAPE>(), blocks::slots::<SHAPE>()) };
        // SAFETY: as the caller promises.
        unsafe {
            let (r, s) = (load(from[0], c), load(from[1], c));
            let even = [vtrn1q_u32(r[0], r[1]), vtrn1q_u32(r[2], r[3]), vtrn1q_u32(s[0], s[1]), vtrn1q_u32(s[2], s[3])];
            let odd = [vtrn2q_u32(r[0], r[1]), vtrn2q_u32(r[2], r[3]), vtrn2q_u32(s[0], s[1]), vtrn2q_u32(s[2], s[3])];
            if lanes[0].is_wide() {
                let to = to.slot(slots[0], 8);
                four_wide(lanes[0], [first(r[0], r[1]), first(r[2], r[3])], c, to);
                four_wide(lanes[0], [first(s[0], s[1]), first(s[2], s[3])], c, to.add(32));
            } else {
                store(lanes[0], [first(even[0], even[1]), first(even[2], even[3])], c, to, slots[0]);
                store(lanes[1], [first(odd[0], odd[1]), first(odd[2], odd[3])], c, to, slots[1]);
            }
            if lanes[2].is_wide() {
                let to = to.slot(slots[2], 8);
                four_wide(lanes[2], [second(r[0], r[1]), second(r[2], r[3])], c, to);
                four_wide(lanes[2], [second(s[0], s[1]), second(s[2], s[3])], c, to.add(32));
            } else {
                store(lanes[2], [second(even[0], even[1]), second(even[2], even[3])], c, to, slots[2]);
                store(lanes[3], [second(odd[0], odd[1]), second(odd[2], odd[3])], c, to, slots[3]);
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

/// The lanes of four records.
///
/// # Safety
/// NEON; sixteen bytes at each address.
#[inline(always)]
unsafe fn load(from: Four, c: &State) -> [uint32x4_t; 4] {
    // SAFETY: as the caller promises.
    unsafe {
        let one = |p: *const u8| vreinterpretq_u32_u8(vqtbl1q_u8(vld1q_u8(p), c.mask));
        [one(from[0]), one(from[1]), one(from[2]), one(from[3])]
    }
}

/// Four rows of 64 bits, two a vector.
///
/// # Safety
/// NEON; four slots of 8 bytes.
#[inline(always)]
unsafe fn wide(rows: [uint32x4_t; 2], to: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe {
        vst1q_u32(to.cast(), rows[0]);
        vst1q_u32(to.cast::<u32>().add(4), rows[1]);
    }
}

/// Four rows of a wide lane.
///
/// # Safety
/// NEON; four slots of 8 bytes.
#[inline(always)]
unsafe fn four_wide(lane: Lane, rows: Rows, c: &mut State, to: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe {
        if !matches!(lane, Lane::Millis) {
            return wide(rows, to);
        }
        let rows = rows.map(|r| vreinterpretq_u64_u32(r));
        c.millis = vorrq_u64(c.millis, vorrq_u64(rows[0], rows[1]));
        // Times 1024, less times 24: there is no multiplication of 64 bits.
        let micros = |r| vsubq_u64(vshlq_n_u64::<10>(r), vaddq_u64(vshlq_n_u64::<3>(r), vshlq_n_u64::<4>(r)));
        wide(rows.map(|r| vreinterpretq_u32_u64(micros(r))), to);
    }
}

/// Four rows, each with zeros above.
///
/// # Safety
/// NEON; four slots of 8 bytes.
#[inline(always)]
unsafe fn widen(rows: uint32x4_t, to: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe {
        vst1q_u64(to.cast(), vmovl_u32(vget_low_u32(rows)));
        vst1q_u64(to.cast::<u64>().add(2), vmovl_high_u32(rows));
    }
}

/// Four uptimes as times. Signed: right across the wrap of the clock, and for times just after it.
///
/// # Safety
/// NEON; four slots of 8 bytes.
#[inline(always)]
unsafe fn times(rows: uint32x4_t, c: &State, to: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe {
        let ago = vreinterpretq_s32_u32(vsubq_u32(c.uptime, rows));
        vst1q_s64(to.cast(), vmlsl_n_s32(c.export, vget_low_s32(ago), 1000));
        vst1q_s64(to.cast::<i64>().add(2), vmlsl_high_n_s32(c.export, ago, 1000));
    }
}

/// Eight rows of a lane.
///
/// # Safety
/// NEON; eight rows of each slot of the lane, the first of which is `slot`.
#[inline(always)]
unsafe fn store(lane: Lane, rows: Rows, c: &State, to: To, slot: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        match lane {
            Lane::Empty | Lane::Wide | Lane::Millis => {}
            Lane::Word => wide(rows, to.slot(slot, 4)),
            Lane::Widen => {
                let to = to.slot(slot, 8);
                widen(rows[0], to);
                widen(rows[1], to.add(32));
            }
            Lane::Uptime => {
                let to = to.slot(slot, 8);
                times(rows[0], c, to);
                times(rows[1], c, to.add(32));
            }
            Lane::Pair => {
                let [a, b] = rows.map(|r| vreinterpretq_u16_u32(r));
                vst1q_u16(to.slot(slot, 2).cast(), vuzp1q_u16(a, b));
                vst1q_u16(to.slot(slot + 1, 2).cast(), vuzp2q_u16(a, b));
            }
            Lane::WidenPair => {
                let mask = vdupq_n_u32(0xffff);
                wide(rows.map(|r| vandq_u32(r, mask)), to.slot(slot, 4));
                wide(rows.map(|r| vshrq_n_u32::<16>(r)), to.slot(slot + 1, 4));
            }
            Lane::Quad => {
                let [a, b] = rows.map(|r| vreinterpretq_u8_u32(r));
                // Bytes 0 and 2 of all rows, and bytes 1 and 3.
                let (even, odd) = (vuzp1q_u8(a, b), vuzp2q_u8(a, b));
                let (lower, upper) = (vuzp1q_u8(even, odd), vuzp2q_u8(even, odd));
                vst1_u8(to.slot(slot, 1), vget_low_u8(lower));
                vst1_u8(to.slot(slot + 1, 1), vget_high_u8(lower));
                vst1_u8(to.slot(slot + 2, 1), vget_low_u8(upper));
                vst1_u8(to.slot(slot + 3, 1), vget_high_u8(upper));
            }
        }
    }
}

/// Four rows of a lane.
///
/// # Safety
/// NEON; four rows of each slot of the lane, the first of which is `slot`.
#[inline(always)]
unsafe fn store_four(lane: Lane, rows: uint32x4_t, c: &State, to: To, slot: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        match lane {
            Lane::Empty | Lane::Wide | Lane::Millis => {}
            Lane::Word => vst1q_u32(to.slot(slot, 4).cast(), rows),
            Lane::Widen => widen(rows, to.slot(slot, 8)),
            Lane::Uptime => times(rows, c, to.slot(slot, 8)),
            Lane::Pair => {
                let both = vreinterpretq_u16_u32(rows);
                vst1_u16(to.slot(slot, 2).cast(), vget_low_u16(vuzp1q_u16(both, both)));
                vst1_u16(to.slot(slot + 1, 2).cast(), vget_low_u16(vuzp2q_u16(both, both)));
            }
            Lane::WidenPair => {
                vst1q_u32(to.slot(slot, 4).cast(), vandq_u32(rows, vdupq_n_u32(0xffff)));
                vst1q_u32(to.slot(slot + 1, 4).cast(), vshrq_n_u32::<16>(rows));
            }
            Lane::Quad => {
                let all = vreinterpretq_u8_u32(rows);
                let all = vreinterpretq_u32_u8(vqtbl1q_u8(all, vld1q_u8(TRANSPOSED.as_ptr())));
                to.slot(slot, 1).cast::<u32>().write_unaligned(vgetq_lane_u32::<0>(all));
                to.slot(slot + 1, 1).cast::<u32>().write_unaligned(vgetq_lane_u32::<1>(all));
                to.slot(slot + 2, 1).cast::<u32>().write_unaligned(vgetq_lane_u32::<2>(all));
                to.slot(slot + 3, 1).cast::<u32>().write_unaligned(vgetq_lane_u32::<3>(all));
            }
        }
    }
}

/// Four bytes of four rows the other way round.
const TRANSPOSED: [u8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
