//! Times from uptimes when a batch is handed over, in loops that the compiler makes vectors of: of AVX2 where the machine has
//! it, whatever kernel filled the columns.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of functions compiled for instructions that the machine was seen to have")
)]

/// `to[i] = base - 1000 * (end[i] - start[i])`, the difference signed: microseconds from milliseconds.
#[inline]
pub(crate) fn before(to: &mut [i64], base: i64, start: &[u32], end: &[u32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: detected.
        return unsafe { before_avx2(to, base, start, end) };
    }
    each_before(to, base, start, end);
}

/// # Safety
/// AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn before_avx2(to: &mut [i64], base: i64, start: &[u32], end: &[u32]) {
    each_before(to, base, start, end);
}

#[inline(always)]
fn each_before(to: &mut [i64], base: i64, start: &[u32], end: &[u32]) {
    for ((slot, &start), &end) in to.iter_mut().zip(start).zip(end) {
        *slot = base - 1000 * i64::from(end.wrapping_sub(start).cast_signed());
    }
}
