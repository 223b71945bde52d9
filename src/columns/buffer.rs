//! 64-byte aligned, growable memory and the bitmaps that live in it.
//!
//! Arrow asks for buffers that start on a 64-byte boundary. A `Vec` of 64-byte blocks gives that without unsafe
//! code; zerocopy turns the blocks into bytes and the bytes into typed slices.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// One cache line.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Block([u8; 64]);

const _: () = assert!(size_of::<Block>() == 64 && align_of::<Block>() == 64);

/// Growable bytes that start on a 64-byte boundary.
#[derive(Clone, Debug, Default)]
pub struct AlignedBuf {
    blocks: Vec<Block>,
    // INVARIANT: len <= blocks.len() * 64.
    len: usize,
}

impl AlignedBuf {
    /// `len` zeroed bytes.
    pub fn zeroed(len: usize) -> Self {
        let mut buf = Self::default();
        buf.resize(len);
        buf
    }

    /// Bytes in use.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes allocated.
    pub fn capacity(&self) -> usize {
        self.blocks.capacity() * 64
    }

    /// Grows with zeros, or shortens.
    pub fn resize(&mut self, len: usize) {
        let need = len.div_ceil(64);
        if need > self.blocks.len() {
            self.blocks.resize(need, Block::new_zeroed());
        }
        if len > self.len {
            let from = self.len;
            self.blocks.as_mut_bytes()[from..len].fill(0);
        }
        self.len = len;
    }

    /// Grows with whatever the memory held, or shortens: for those who write all of it next.
    #[cfg(feature = "collect")]
    pub(crate) fn resize_dirty(&mut self, len: usize) {
        let need = len.div_ceil(64);
        if need > self.blocks.len() {
            self.blocks.resize(need, Block::new_zeroed());
        }
        self.len = len;
    }

    /// Forgets the content, keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The bytes in use.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.blocks.as_bytes()[..self.len]
    }

    /// The bytes in use, to write.
    #[inline(always)]
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        &mut self.blocks.as_mut_bytes()[..self.len]
    }

    /// Appends bytes.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        let from = self.len;
        let to = from + bytes.len();
        let need = to.div_ceil(64);
        if need > self.blocks.len() {
            self.blocks.resize(need.max(self.blocks.len() * 2), Block::new_zeroed());
        }
        self.blocks.as_mut_bytes()[from..to].copy_from_slice(bytes);
        self.len = to;
    }

    /// At least `n` bytes after those in use, to be written and then taken by [`advance`](Self::advance).
    #[inline]
    fn spare(&mut self, n: usize) -> &mut [u8] {
        let need = (self.len + n).div_ceil(64);
        if need > self.blocks.len() {
            self.blocks.resize(need.max(self.blocks.len() * 2), Block::new_zeroed());
        }
        &mut self.blocks.as_mut_bytes()[self.len..]
    }

    /// Takes `n` spare bytes into use.
    #[inline]
    fn advance(&mut self, n: usize) {
        self.len = (self.len + n).min(self.blocks.len() * 64);
    }

    /// `n` values of `T` that start at byte `start`; empty where they are not there.
    #[inline]
    pub fn typed<T: FromBytes + Immutable + KnownLayout>(&self, start: usize, n: usize) -> &[T] {
        let end = start.saturating_add(n.saturating_mul(size_of::<T>()));
        self.as_bytes().get(start..end).and_then(|b| <[T]>::ref_from_bytes(b).ok()).unwrap_or(&[])
    }

    /// As [`typed`](Self::typed), to write.
    #[inline]
    pub fn typed_mut<T: FromBytes + IntoBytes + Immutable + KnownLayout>(
        &mut self,
        start: usize,
        n: usize,
    ) -> &mut [T] {
        let end = start.saturating_add(n.saturating_mul(size_of::<T>()));
        self.as_mut_bytes().get_mut(start..end).and_then(|b| <[T]>::mut_from_bytes(b).ok()).unwrap_or(&mut [])
    }
}

/// Bytes of a short field that are copied at once.
const CHUNK: usize = 32;

/// In registers: as slices they would be copied by a call.
#[inline(always)]
fn copy_chunk(from: &[u8; CHUNK], to: &mut [u8; CHUNK]) {
    let halves = (from.as_chunks::<16>().0, to.as_chunks_mut::<16>().0);
    if let ([low, high], [first, second]) = halves {
        let (low, high) = (u128::from_ne_bytes(*low), u128::from_ne_bytes(*high));
        (*first, *second) = (low.to_ne_bytes(), high.to_ne_bytes());
    }
}

/// Bits in Arrow's order (least significant first), one a row.
#[derive(Clone, Debug, Default)]
pub struct Bitmap {
    words: AlignedBuf,
    len: usize,
}

impl Bitmap {
    /// `len` bits of one value.
    pub fn filled(len: usize, value: bool) -> Self {
        let mut bits = Self::default();
        bits.extend(len, value);
        bits
    }

    /// These bits.
    pub fn of(bits: impl ExactSizeIterator<Item = bool>) -> Self {
        let mut all = Self::filled(bits.len(), false);
        let mut bits = bits.enumerate();
        for byte in all.words.as_mut_bytes() {
            *byte = bits.by_ref().take(8).fold(0, |byte, (i, bit)| byte | u8::from(bit) << (i % 8));
        }
        all
    }

    /// Bits.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no bit.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bits as bytes, `ceil(len / 8)` of them, 64-byte aligned.
    pub fn as_bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len.div_ceil(8)]
    }

    /// Bit `i`; false past the end.
    #[inline]
    pub fn get(&self, i: usize) -> bool {
        i < self.len && self.words.as_bytes()[i / 8] >> (i % 8) & 1 == 1
    }

    /// Sets bit `i`; nothing past the end.
    #[inline]
    pub fn set(&mut self, i: usize, value: bool) {
        if i < self.len {
            let byte = &mut self.words.as_mut_bytes()[i / 8];
            *byte = *byte & !(1 << (i % 8)) | u8::from(value) << (i % 8);
        }
    }

    /// Appends `n` bits of one value.
    pub fn extend(&mut self, n: usize, value: bool) {
        let from = self.len;
        self.len += n;
        self.words.resize(self.len.div_ceil(8));
        if value {
            let mut i = from;
            while i < self.len && !i.is_multiple_of(8) {
                self.set(i, true);
                i += 1;
            }
            let whole = self.len / 8;
            if i / 8 < whole {
                self.words.as_mut_bytes()[i / 8..whole].fill(0xff);
                i = whole * 8;
            }
            while i < self.len {
                self.set(i, true);
                i += 1;
            }
        }
    }

    /// Shortens to `len` bits.
    pub fn truncate(&mut self, len: usize) {
        while self.len > len {
            let last = self.len - 1;
            self.set(last, false);
            self.len = last;
        }
        self.words.resize(self.len.div_ceil(8));
    }

    /// Bits that are not set.
    pub fn count_zeros(&self) -> usize {
        self.len - self.as_bytes().iter().map(|b| b.count_ones() as usize).sum::<usize>()
    }

    /// Forgets the bits, keeps the memory.
    pub fn clear(&mut self) {
        self.words.clear();
        self.len = 0;
    }

    /// Bytes allocated.
    pub fn capacity(&self) -> usize {
        self.words.capacity()
    }
}

/// Values of varying length: Arrow's 32-bit offsets and the bytes they cut.
#[derive(Clone, Debug, Default)]
pub struct VarBuf {
    offsets: AlignedBuf,
    data: AlignedBuf,
    // Offsets count items of 1 << shift bytes.
    shift: u8,
}

impl VarBuf {
    /// For lists of items of 4 bytes: offsets count items, as Arrow's lists do.
    pub fn of_words() -> Self {
        Self { shift: 2, ..Self::default() }
    }

    /// Values held.
    pub fn len(&self) -> usize {
        (self.offsets.len() / 4).saturating_sub(1)
    }

    /// Whether no value is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a value.
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        self.push_parts(&[value]);
    }

    /// Appends one value made of several parts.
    #[inline]
    pub fn push_parts(&mut self, parts: &[&[u8]]) {
        if self.offsets.is_empty() {
            self.offsets.extend(&0i32.to_ne_bytes());
        }
        for part in parts {
            self.data.extend(part);
        }
        // A batch's bytes are bounded far below 2 GiB: `Batch` refuses rows before.
        self.offsets.extend(&((self.data.len() >> self.shift) as i32).to_ne_bytes());
    }

    /// Appends fields of `bytes` by their starts and lengths; false, and nothing is appended, where one is not there or
    /// they are more than the bytes.
    pub(crate) fn append(&mut self, bytes: &[u8], fields: &[(u32, u32)]) -> bool {
        let (before, most) = (self.len(), self.data.len() + bytes.len());
        let mut rest = fields;
        loop {
            rest = self.append_short(bytes, rest);
            let Some((&(start, len), others)) = rest.split_first() else { break };
            // A long one, or one near the end of the bytes.
            let field = bytes.get(start as usize..).and_then(|from| from.get(..len as usize));
            let Some(field) = field.filter(|_| self.data.len() <= most) else { break };
            self.push(field);
            rest = others;
        }
        let done = rest.is_empty() && self.data.len() <= most;
        if !done {
            self.truncate(before);
        }
        done
    }

    /// Appends the first of some fields, as many as are short and not at the end of the bytes: nearly always all. They have room
    /// without a look at their lengths. Gives the others.
    fn append_short<'f>(&mut self, bytes: &[u8], fields: &'f [(u32, u32)]) -> &'f [(u32, u32)] {
        if self.offsets.is_empty() {
            self.offsets.extend(&0i32.to_ne_bytes());
        }
        let first = self.data.len();
        let to = self.data.spare((fields.len() + 1) * CHUNK);
        let (ends, _) = self.offsets.spare(4 * fields.len()).as_chunks_mut::<4>();
        let (mut at, mut done) = (0, 0);
        for (&(start, len), end) in fields.iter().zip(ends) {
            // Whole chunks: what is copied too much is written over by the next field.
            let from = bytes.get(start as usize..).and_then(<[u8]>::first_chunk);
            let chunk = to.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
            let (Some(from), Some(chunk), true) = (from, chunk, len as usize <= CHUNK) else { break };
            copy_chunk(from, chunk);
            at += len as usize;
            *end = ((first + at) as i32).to_ne_bytes();
            done += 1;
        }
        self.data.advance(at);
        self.offsets.advance(4 * done);
        fields.get(done..).unwrap_or(&[])
    }

    /// Whether the values from `first` on are ASCII without a NUL.
    pub(crate) fn is_plain_text(&self, first: usize) -> bool {
        let start = self.offsets().get(first).map_or(0, |&at| at as usize);
        let data = self.data.as_bytes().get(start..).unwrap_or(&[]);
        // No early end, and the last bytes are looked at twice: the compiler takes many at once.
        let plain = |bytes: &[u8]| bytes.iter().fold(true, |all, &b| all & (b.cast_signed() > 0));
        let (chunks, rest) = data.as_chunks::<CHUNK>();
        let rest = data.last_chunk::<CHUNK>().map_or(rest, |last| last);
        chunks.iter().fold(true, |all, chunk| all & plain(chunk)) & plain(rest)
    }

    /// Value `i`; empty past the end.
    #[inline]
    pub fn get(&self, i: usize) -> &[u8] {
        let ends = self.offsets();
        match (ends.get(i), ends.get(i + 1)) {
            (Some(&a), Some(&b)) => {
                self.data.as_bytes().get((a as usize) << self.shift..(b as usize) << self.shift).unwrap_or(&[])
            }
            _ => &[],
        }
    }

    /// `len + 1` offsets into [`data`](Self::data), 64-byte aligned.
    pub fn offsets(&self) -> &[i32] {
        self.offsets.typed(0, self.offsets.len() / 4)
    }

    /// All bytes, 64-byte aligned.
    pub fn data(&self) -> &[u8] {
        self.data.as_bytes()
    }

    /// Shortens to `len` values.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            let end = (self.offsets()[len] as usize) << self.shift;
            self.offsets.resize((len + 1) * 4);
            self.data.resize(end);
        }
    }

    /// Forgets the values, keeps the memory.
    pub fn clear(&mut self) {
        self.offsets.clear();
        self.data.clear();
    }

    /// Bytes allocated.
    pub fn capacity(&self) -> usize {
        self.offsets.capacity() + self.data.capacity()
    }

    /// As many empty values as are missing up to `len`.
    pub(crate) fn pad(&mut self, len: usize) {
        if self.offsets.is_empty() {
            self.offsets.extend(&0i32.to_ne_bytes());
        }
        while self.len() < len {
            self.push(&[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_length_are_appended_wherever_they_stand() {
        let bytes: Vec<u8> = (0..400u32).map(|i| (i * 7 % 127 + 1) as u8).collect();
        for len in 0..=CHUNK + 3 {
            // The last one ends at the end of the bytes, where no chunk can be read.
            let fields: Vec<(u32, u32)> =
                [0, 5, 200, bytes.len() - len].iter().map(|&at| (at as u32, len as u32)).collect();
            let mut column = VarBuf::default();
            column.push(b"before");
            assert!(column.append(&bytes, &fields) && column.is_plain_text(1));
            column.push(b"after");
            assert_eq!(column.len(), 6);
            for (i, &(at, len)) in fields.iter().enumerate() {
                assert_eq!(column.get(1 + i), &bytes[at as usize..(at + len) as usize]);
            }
            assert_eq!((column.get(0), column.get(5)), (&b"before"[..], &b"after"[..]));
        }
        let mut column = VarBuf::default();
        assert!(!column.append(&bytes, &[(0, 3), (398, 3)]) && column.is_empty());
        for odd in [&b"nul\0"[..], "\u{fc}".as_bytes()] {
            column.push(odd);
            assert!(!column.is_plain_text(0) && column.is_plain_text(column.len()));
            column.truncate(0);
        }
    }
}
