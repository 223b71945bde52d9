//! Values as text, appended to bytes: no formatting machinery, no allocation.

use std::borrow::Cow;
use std::io::Write as _;

const DIGITS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends a number in decimal.
#[inline]
pub fn unsigned(out: &mut Vec<u8>, mut n: u64) {
    let mut text = [0u8; 20];
    let mut at = text.len();
    while n >= 100 {
        at -= 2;
        pair(&mut text, at, n % 100);
        n /= 100;
    }
    if n >= 10 {
        at -= 2;
        pair(&mut text, at, n);
    } else {
        at -= 1;
        text[at] = b'0' + n as u8;
    }
    out.extend_from_slice(&text[at..]);
}

#[inline]
fn pair(text: &mut [u8], at: usize, n: u64) {
    let from = n as usize % 100 * 2;
    text[at..at + 2].copy_from_slice(&DIGITS[from..from + 2]);
}

/// Appends a number in decimal.
#[inline]
pub fn signed(out: &mut Vec<u8>, n: i64) {
    if n < 0 {
        out.push(b'-');
    }
    unsigned(out, n.unsigned_abs());
}

/// Appends a number; `null` for what JSON has no number for.
pub fn float(out: &mut Vec<u8>, n: f64) {
    if n.is_finite() {
        let _ = write!(out, "{n}");
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Appends an IPv4 address.
#[inline]
pub fn ip4(out: &mut Vec<u8>, address: u32) {
    let [a, b, c, d] = address.to_be_bytes();
    unsigned(out, u64::from(a));
    for byte in [b, c, d] {
        out.push(b'.');
        unsigned(out, u64::from(byte));
    }
}

/// Appends an IPv6 address as RFC 5952 says; an IPv4-mapped one ends in dotted decimals.
pub fn ip6(out: &mut Vec<u8>, address: &[u8; 16]) {
    if let [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] = *address {
        out.extend_from_slice(b"::ffff:");
        return ip4(out, u32::from_be_bytes([a, b, c, d]));
    }
    let groups: [u16; 8] = std::array::from_fn(|i| u16::from_be_bytes([address[2 * i], address[2 * i + 1]]));
    // The longest run of two or more zero groups, the first of equals.
    let (mut best, mut best_len, mut run) = (8, 1, 0);
    for (i, group) in groups.iter().enumerate() {
        run = if *group == 0 { run + 1 } else { 0 };
        if run > best_len {
            (best, best_len) = (i + 1 - run, run);
        }
    }
    let mut i = 0;
    while i < 8 {
        if i == best {
            out.extend_from_slice(b"::");
            i += best_len;
            continue;
        }
        if i > 0 && i != best + best_len {
            out.push(b':');
        }
        let mut started = false;
        for shift in [12, 8, 4, 0] {
            let digit = groups[i] >> shift & 15;
            started |= digit != 0 || shift == 0;
            if started {
                out.push(HEX[usize::from(digit)]);
            }
        }
        i += 1;
    }
}

/// Appends a MAC address with colons.
#[inline]
pub fn mac(out: &mut Vec<u8>, address: &[u8; 6]) {
    for (i, byte) in address.iter().enumerate() {
        if i > 0 {
            out.push(b':');
        }
        hex_byte(out, *byte);
    }
}

/// Appends bytes in lower-case hex.
pub fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    bytes.iter().for_each(|b| hex_byte(out, *b));
}

#[inline]
fn hex_byte(out: &mut Vec<u8>, byte: u8) {
    out.push(HEX[usize::from(byte >> 4)]);
    out.push(HEX[usize::from(byte & 15)]);
}

/// Appends a time as RFC 3339 in UTC with 6 digits of the second.
pub fn time(out: &mut Vec<u8>, us: i64) {
    let (day, rest) = (us.div_euclid(86_400_000_000), us.rem_euclid(86_400_000_000) as u64);
    let (year, month, dom) = civil(day);
    if (0..=9999).contains(&year) {
        digits(out, year as u64 / 100);
        digits(out, year as u64 % 100);
    } else {
        signed(out, year);
    }
    let seconds = rest / 1_000_000;
    for (mark, n) in [
        (b'-', month),
        (b'-', dom),
        (b'T', seconds / 3600),
        (b':', seconds / 60 % 60),
        (b':', seconds % 60),
        (b'.', rest / 10_000 % 100),
    ] {
        out.push(mark);
        digits(out, n);
    }
    digits(out, rest / 100 % 100);
    digits(out, rest % 100);
    out.push(b'Z');
}

/// Two digits.
#[inline]
fn digits(out: &mut Vec<u8>, n: u64) {
    let mut text = [0; 2];
    pair(&mut text, 0, n);
    out.extend_from_slice(&text);
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar.
pub fn civil(day: i64) -> (i64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day ends a year; eras of 400 years have 146,097 days.
    let shifted = day + 719_468;
    let (era, doe) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let march = (5 * doy + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month as u64, (doy - (153 * march + 2) / 5 + 1) as u64)
}

/// Appends text as a JSON string with its quotes.
pub fn json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut from = 0;
    for (i, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[from..i]);
        from = i + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                hex_byte(out, byte);
            }
        }
    }
    out.extend_from_slice(&text[from..]);
    out.push(b'"');
}

/// Appends text as a CSV cell, quoted where RFC 4180 asks for it.
pub fn csv_cell(out: &mut Vec<u8>, text: &[u8]) {
    if !text.iter().any(|b| matches!(b, b'"' | b',' | b'\n' | b'\r')) {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for part in text.split_inclusive(|b| *b == b'"') {
        out.extend_from_slice(part);
        if part.ends_with(b"\"") {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

/// Text that a terminal shows and does not obey: control characters, and those that turn the direction of writing, as
/// escapes.
pub fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}'..='\u{200f}')
    };
    if !text.contains(steers) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if steers(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn numbers() {
        for n in [0, 7, 10, 99, 100, 101, 12_345, 999_999, u64::MAX] {
            assert_eq!(text(|o| unsigned(o, n)), n.to_string());
        }
        for n in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(text(|o| signed(o, n)), n.to_string());
        }
        assert_eq!(text(|o| float(o, 100.0)), "100");
        assert_eq!(text(|o| float(o, f64::NAN)), "null");
    }

    #[test]
    fn addresses_as_rfc_5952_says() {
        use std::net::Ipv6Addr;
        let cases = [
            "::",
            "::1",
            "1::",
            "2001:db8::1",
            "2001:db8:0:1:1:1:1:1",
            "2001:0:0:1::1",
            "2001:db8::1:0:0:1",
            "fe80::a:b:c:d",
            "::ffff:203.0.113.24",
            "0:1:2:3:4:5:6:0",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6::",
            "::3:4:5:6:7:8",
        ];
        for case in cases {
            let address: Ipv6Addr = case.parse().expect("an address");
            assert_eq!(text(|o| ip6(o, &address.octets())), address.to_string());
        }
        assert_eq!(text(|o| ip4(o, 0xc000_0201)), "192.0.2.1");
        assert_eq!(text(|o| mac(o, &[0, 0x1b, 0xc, 0xff, 0xa, 1])), "00:1b:0c:ff:0a:01");
    }

    #[test]
    fn times() {
        assert_eq!(text(|o| time(o, 0)), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(|o| time(o, 1_700_000_000_123_456)), "2023-11-14T22:13:20.123456Z");
        assert_eq!(text(|o| time(o, 951_782_400_000_001)), "2000-02-29T00:00:00.000001Z");
        assert_eq!(text(|o| time(o, -1)), "1969-12-31T23:59:59.999999Z");
        assert!(text(|o| time(o, i64::MAX)).starts_with("294247-01-10T"));
        assert!(text(|o| time(o, i64::MIN)).starts_with("-290308-"));
    }

    #[test]
    fn quoting() {
        assert_eq!(text(|o| json_string(o, b"a\"b\\c\n\x01")), r#""a\"b\\c\n\u0001""#);
        assert_eq!(text(|o| csv_cell(o, b"plain")), "plain");
        assert_eq!(text(|o| csv_cell(o, b"a\"b,c")), r#""a""b,c""#);
    }
}
