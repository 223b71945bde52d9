//! Short texts in one register.
#![expect(
    unsafe_code,
    reason = "the check of std is a call that goes byte by byte, which takes half of a record's time"
)]

/// The bytes of a register.
const WIDTH: usize = 16;

/// The first `len` bytes of some as a text, if they are few, ASCII, and no NUL ends them: what nearly every name is. `None` is
/// no answer: they may be text all the same.
#[inline(always)]
pub(crate) fn ascii(bytes: &[u8], len: usize) -> Option<&str> {
    let register = u128::from_le_bytes(*bytes.first_chunk::<WIDTH>()?);
    let text = bytes.get(..len).filter(|text| (1..=WIDTH).contains(&text.len()))?;
    // What is after the text is shifted out, so that its last byte is the highest.
    let text_alone = register << (8 * (WIDTH - len));
    let is_ascii = text_alone & u128::from_le_bytes([0x80; WIDTH]) == 0;
    if !is_ascii || text_alone >> (8 * (WIDTH - 1)) == 0 {
        return None;
    }
    // SAFETY: `text_alone` has each byte of `text`, of which there are at most as many as it has room for, and none of them has
    // its highest bit: they are ASCII, which is UTF-8.
    Some(unsafe { std::str::from_utf8_unchecked(text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_takes_is_text_and_what_it_leaves_is_not_plain() {
        let plain: Vec<u8> = (0..40).map(|i| b'a' + i % 26).collect();
        for len in 0..=20 {
            assert_eq!(ascii(&plain, len).map(str::as_bytes), (1..=WIDTH).contains(&len).then(|| &plain[..len]));
            // A byte of each kind at each place, in the text and behind it.
            for (at, byte) in (0..plain.len()).flat_map(|at| [0, 1, 0x7f, 0x80, 0xc3, 0xff].map(|byte| (at, byte))) {
                let mut bytes = plain.clone();
                bytes[at] = byte;
                let is_plain = at >= len || byte < 0x80 && (byte > 0 || at + 1 < len);
                let expected = (is_plain && (1..=WIDTH).contains(&len)).then(|| &bytes[..len]);
                assert_eq!(ascii(&bytes, len).map(str::as_bytes), expected, "{len}, {byte} at {at}");
            }
        }
        // Where no register can be read nothing is said.
        assert!((0..WIDTH).all(|n| ascii(&plain[..n], n).is_none()) && ascii(&plain[..WIDTH], WIDTH).is_some());
    }
}
