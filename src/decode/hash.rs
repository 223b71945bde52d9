//! A keyed hash for small keys: an exporter chooses its address, so the key is random.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashers with a random key.
#[derive(Clone, Debug)]
pub(super) struct Keyed(u64);

impl Default for Keyed {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0x9e37_79b9_7f4a_7c15_u64) | 1)
    }
}

impl BuildHasher for Keyed {
    type Hasher = Folded;

    #[inline]
    fn build_hasher(&self) -> Folded {
        Folded { key: self.0, state: self.0.rotate_left(32) }
    }
}

/// Folds each word in by a 64 x 64 bit multiplication.
pub(super) struct Folded {
    key: u64,
    state: u64,
}

impl Folded {
    #[inline]
    fn fold(&mut self, word: u64) {
        let wide = u128::from(self.state ^ word) * u128::from(self.key ^ 0xa076_1d64_78bd_642f);
        self.state = (wide as u64 ^ (wide >> 64) as u64).wrapping_add(self.key);
    }
}

impl Hasher for Folded {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            self.fold(chunk.iter().fold(1, |n, &b| n << 8 | u64::from(b)));
        }
    }

    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.fold(n);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }
}
