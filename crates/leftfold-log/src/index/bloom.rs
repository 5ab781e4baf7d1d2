//! A bloom filter over the keys of a part of a run: most lookups of an absent key end here.

/// Bits for each key: 7 probes then err about once in 120.
const BITS_PER_KEY: usize = 10;
const PROBES: u32 = 7;

/// The filter of some keys, as it is stored: a bit set.
#[derive(Debug)]
pub(super) struct Bloom(Vec<u8>);

impl Bloom {
    /// The filter of keys with these hashes.
    pub(super) fn of(hashes: &[u64]) -> Self {
        let mut filter = Self(vec![0; (hashes.len() * BITS_PER_KEY).div_ceil(8).max(8)]);
        for &hash in hashes {
            for bit in filter.probes(hash) {
                filter.0[bit / 8] |= 1 << (bit % 8);
            }
        }
        filter
    }

    /// A filter that was stored.
    pub(super) fn parse(bytes: Vec<u8>) -> Option<Self> {
        (!bytes.is_empty()).then_some(Self(bytes))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Tells whether the key may be among those of the filter. `false` is certain.
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        self.probes(hash).all(|bit| self.0[bit / 8] & (1 << (bit % 8)) != 0)
    }

    fn probes(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let bits = self.0.len() as u64 * 8;
        let step = hash.rotate_left(32) | 1;
        (0..u64::from(PROBES))
            .map(move |probe| (hash.wrapping_add(step.wrapping_mul(probe)) % bits) as usize)
    }
}

/// The hash of a key as filters store it. Our own, because stored filters outlive the version of
/// any hasher; seeded by the store. A user who finds keys that collide makes a lookup read a page
/// without result, no more.
pub(super) fn stored_hash(seed: u64, key: &[u8]) -> u64 {
    let mut hash = mix(seed ^ key.len() as u64);
    for chunk in key.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash ^ u64::from_le_bytes(word)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    }
    mix(hash)
}

/// The finalizer of SplitMix64.
const fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_knows_its_keys_and_few_others() {
        let hash = |n: u32| stored_hash(7, &n.to_le_bytes());
        let filter = Bloom::of(&(0..10_000).map(hash).collect::<Vec<_>>());
        assert!((0..10_000).all(|n| filter.may_contain(hash(n))));
        let mistaken = (10_000..110_000).filter(|&n| filter.may_contain(hash(n))).count();
        assert!(mistaken < 2_000, "{mistaken} of 100000");
    }

    #[test]
    fn a_stored_hash_never_changes() {
        assert_eq!(stored_hash(1, b"station-CP-1"), stored_hash(1, b"station-CP-1"));
        assert_ne!(stored_hash(1, b"a"), stored_hash(1, b"a\0"));
        assert_ne!(stored_hash(1, b"a"), stored_hash(2, b"a"));
    }
}
