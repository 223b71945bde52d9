//! Times on the wire, in microseconds UTC. What is finer than a microsecond is cut.

use crate::value::{ntp_seconds, ntp_us};

/// An absolute or export-relative time of a field (RFC 7011 section 6.1.7-6.1.10, IANA elements 158, 159).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeKind {
    Seconds,
    Milliseconds,
    /// NTP, the low 11 bits of the fraction without meaning.
    NtpMicroseconds,
    NtpNanoseconds,
    /// NTP seconds, then microseconds in place of a fraction (NetScaler).
    NtpPlainMicroseconds,
    /// NTP seconds, then nanoseconds in place of a fraction (old builds of VPP).
    NtpPlainNanoseconds,
    /// Microseconds before the export time.
    BeforeExport,
}

impl TimeKind {
    /// The time, or `None` where 64 bits of microseconds do not hold it.
    #[inline]
    pub(super) fn to_micros(self, value: u64, export_us: i64) -> Option<i64> {
        match self {
            Self::Seconds => i64::try_from(value).ok()?.checked_mul(1_000_000),
            Self::Milliseconds => i64::try_from(value).ok()?.checked_mul(1000),
            Self::NtpMicroseconds => Some(ntp_us(value & !0x7ff, export_us)),
            Self::NtpNanoseconds => Some(ntp_us(value, export_us)),
            Self::NtpPlainMicroseconds => {
                Some(ntp_seconds(value >> 32, export_us) * 1_000_000 + (value & 0xffff_ffff) as i64)
            }
            Self::NtpPlainNanoseconds => {
                Some(ntp_seconds(value >> 32, export_us) * 1_000_000 + (value & 0xffff_ffff) as i64 / 1000)
            }
            Self::BeforeExport => export_us.checked_sub(i64::try_from(value).ok()?),
        }
    }

    /// Turns the integers of fields into times where they stand; false, and some of them spoilt, where one is beyond
    /// 64 bits of microseconds.
    pub(super) fn finish(self, values: &mut [i64], export_us: i64) -> bool {
        // One bound for all values keeps the loop free of branches; a value just under the limit goes the slow way.
        let linear = |values: &mut [i64], bound: u64, to: fn(i64, i64) -> i64| {
            let mut most = 0;
            for v in values {
                most |= v.cast_unsigned();
                *v = to(*v, export_us);
            }
            most <= bound
        };
        match self {
            Self::Seconds => linear(values, (1 << 43) - 1, |v, _| v.wrapping_mul(1_000_000)),
            Self::Milliseconds => linear(values, (1 << 53) - 1, |v, _| v.wrapping_mul(1000)),
            Self::BeforeExport => linear(values, (1 << 62) - 1, |v, export| export.wrapping_sub(v)),
            _ => values.iter_mut().all(|v| match self.to_micros(v.cast_unsigned(), export_us) {
                Some(time) => {
                    *v = time;
                    true
                }
                None => false,
            }),
        }
    }

    /// Whether a field of this width can hold such a time.
    pub(super) fn takes(self, width: usize) -> bool {
        match self {
            Self::NtpMicroseconds | Self::NtpNanoseconds | Self::NtpPlainMicroseconds | Self::NtpPlainNanoseconds => {
                width == 8
            }
            _ => (1..=8).contains(&width),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPORT: i64 = 1_700_000_000_000_000;

    #[test]
    fn ntp_fractions_are_cut_and_eras_are_near() {
        let seconds = 1_700_000_000 + 2_208_988_800;
        let half = seconds << 32 | 0x8000_07ff;
        assert_eq!(TimeKind::NtpMicroseconds.to_micros(half, EXPORT), Some(EXPORT + 500_000));
        assert_eq!(TimeKind::NtpNanoseconds.to_micros(seconds << 32 | 0xffff_ffff, EXPORT), Some(EXPORT + 999_999));
        assert_eq!(TimeKind::NtpPlainMicroseconds.to_micros(seconds << 32 | 7, EXPORT), Some(EXPORT + 7));
        assert_eq!(TimeKind::NtpPlainNanoseconds.to_micros(seconds << 32 | 7999, EXPORT), Some(EXPORT + 7));
        // 2036-02-07 06:28:16 UTC starts era 1.
        let rollover = 2_085_978_496_000_000;
        assert_eq!(TimeKind::NtpNanoseconds.to_micros(5 << 32, rollover), Some(rollover + 5_000_000));
    }

    #[test]
    fn what_does_not_fit_is_none() {
        assert_eq!(TimeKind::Seconds.to_micros(u64::MAX, EXPORT), None);
        assert_eq!(TimeKind::Milliseconds.to_micros(i64::MAX as u64, EXPORT), None);
        assert_eq!(TimeKind::Milliseconds.to_micros(1_700_000_000_123, EXPORT), Some(1_700_000_000_123_000));
        assert_eq!(TimeKind::BeforeExport.to_micros(5, EXPORT), Some(EXPORT - 5));
    }
}
