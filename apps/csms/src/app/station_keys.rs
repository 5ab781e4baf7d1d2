//! Keys of stations: drawn here, and known afterwards only by a keyed hash.
//!
//! A key has 20 random bytes, so a fast hash of it tells nothing, and 15,000 stations that
//! reconnect at once are checked in a moment. The hash is keyed with a secret outside the store,
//! the pepper: whoever reads or writes the store alone can make no key that counts.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};

use crate::confidential::Confidential;

/// Bytes of a key. OCPP 1.6 sends them as 40 hexadecimal digits.
pub(crate) const KEY_BYTES: usize = 20;
/// Context by which the pepper becomes the key of the hash.
const CONTEXT: &str = "leftfold csms 2026-12-01 keys of stations";

/// Key of a station. `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StationKey([u8; KEY_BYTES]);

impl fmt::Debug for StationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl StationKey {
    /// Draws a key; `None` if the system has no randomness.
    pub(crate) fn random() -> Option<Self> {
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Reads what a station, or a person, gives as a key: its bytes, or the text of their digits.
    pub(crate) fn read(given: &[u8]) -> Option<Self> {
        if let Ok(bytes) = given.try_into() {
            return Some(Self(bytes));
        }
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let digits: Vec<u32> = given.iter().map(digit).collect::<Option<_>>()?;
        let bytes = digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8);
        let bytes: Vec<u8> = bytes.collect();
        Some(Self(bytes.try_into().ok().filter(|_| digits.len() == 2 * KEY_BYTES)?))
    }

    /// Returns its digits, which a person or a message hands to the station.
    pub(crate) fn reveal(self) -> String {
        self.0.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}

/// The means of hashing keys.
#[derive(Clone)]
pub(crate) struct StationKeys(Option<[u8; 32]>);

impl fmt::Debug for StationKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StationKeys").field(&self.0.is_some()).finish()
    }
}

impl StationKeys {
    /// Creates them from the pepper.
    pub(super) fn new(pepper: Option<&Confidential>) -> Self {
        Self(pepper.map(|pepper| blake3::derive_key(CONTEXT, pepper.reveal().as_bytes())))
    }

    /// Returns the hash of a station's key; `None` without a pepper. Equal keys of two stations
    /// have different hashes.
    pub(crate) fn hash(&self, station: &str, key: StationKey) -> Option<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(&self.0?);
        hasher.update(&key.0).update(station.as_bytes());
        Some(hasher.finalize())
    }

    /// Tells whether a key is that of a hash. The comparison takes the same time wherever they
    /// differ.
    pub(crate) fn is_of(&self, station: &str, key: StationKey, hash: &str) -> bool {
        let known = blake3::Hash::from_hex(hash).ok();
        self.hash(station, key).is_some_and(|hash| known.is_some_and(|known| known == hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_bytes_and_by_its_digits() {
        let key = StationKey::random().unwrap();
        let digits = key.reveal();
        assert_eq!(digits.len(), 40);
        for given in [&key.0[..], digits.as_bytes(), digits.to_uppercase().as_bytes()] {
            assert_eq!(StationKey::read(given), Some(key));
        }
        for nonsense in [&b""[..], b"secret", &digits.as_bytes()[1..], &[b'z'; 40], &[b'0'; 42]] {
            assert_eq!(StationKey::read(nonsense), None);
        }
        assert!(!format!("{key:?}").contains(&digits));
    }

    #[test]
    fn the_hash_of_a_key_depends_on_the_pepper_and_the_station() {
        let pepper = |text: &str| StationKeys::new(Some(&Confidential::new(text)));
        let (keys, key) = (pepper("one"), StationKey::random().unwrap());
        let hash = keys.hash("CP-1", key).unwrap().to_string();
        assert!(keys.is_of("CP-1", key, &hash));
        assert!(!keys.is_of("CP-2", key, &hash) && !pepper("two").is_of("CP-1", key, &hash));
        assert!(!keys.is_of("CP-1", StationKey::random().unwrap(), &hash));
        let none = StationKeys::new(None);
        assert!(none.hash("CP-1", key).is_none() && !none.is_of("CP-1", key, &hash));
    }
}
