//! The mark of the durable end, by which a writer tells readers in other processes that the last
//! group is durable: docs/log-format.md, section 10.

use leftfold_core::store::{Hash, StoreId};

use crate::disk::Disk;

/// The name of the file with the mark.
pub(crate) const MARK: &str = "durable-end";
/// Bytes of a mark.
pub(crate) const MARK_BYTES: usize = 68;

/// Reads of a mark that may be found half written.
const READS_MAX: u32 = 8;

const MAGIC: [u8; 8] = *b"LFDURABL";

/// Statement that everything before a place is durable. It holds for ever once it was true, so a
/// mark that is old, or that survived a crash, says nothing wrong; and it names the history that it
/// speaks of, so that it says nothing about another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DurableMark {
    pub(crate) store: StoreId,
    /// Address of the end of the last durable group.
    pub(crate) address: u64,
    /// Chain hash after that group.
    pub(crate) hash: Hash,
}

impl DurableMark {
    pub(crate) fn encode(&self) -> [u8; MARK_BYTES] {
        let mut out = [0; MARK_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..24].copy_from_slice(self.store.0.as_bytes());
        out[24..32].copy_from_slice(&self.address.to_le_bytes());
        out[32..64].copy_from_slice(&self.hash.0);
        let crc = crc32c::crc32c(&out[..64]);
        out[64..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the mark of a directory; `None` if there is none. It may be read while it is written.
    pub(crate) fn read(disk: &dyn Disk) -> Option<Self> {
        let file = disk.open(MARK).ok()?;
        (0..READS_MAX).find_map(|_| {
            let mut bytes = [0; MARK_BYTES];
            file.read_exact_at(&mut bytes, 0).ok()?;
            Self::decode(&bytes)
        })
    }

    /// Decodes a mark; `None` if the bytes are none, as when they are read while they are written.
    pub(crate) fn decode(bytes: &[u8; MARK_BYTES]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let (magic, body) = body.split_first_chunk::<8>()?;
        let (store, body) = body.split_first_chunk::<16>()?;
        let (address, hash) = body.split_first_chunk::<8>()?;
        if *magic != MAGIC || crc32c::crc32c(&bytes[..64]) != u32::from_le_bytes(*crc) {
            return None;
        }
        Some(Self {
            store: StoreId(uuid::Uuid::from_bytes(*store)),
            address: u64::from_le_bytes(*address),
            hash: Hash(hash.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_decodes_to_what_was_encoded_and_a_broken_one_to_nothing() {
        let mark =
            DurableMark { store: StoreId::random(), address: 7 << 32 | 4_096, hash: Hash([3; 32]) };
        let bytes = mark.encode();
        assert_eq!(DurableMark::decode(&bytes), Some(mark));
        for at in 0..bytes.len() {
            let mut broken = bytes;
            broken[at] ^= 1;
            assert_eq!(DurableMark::decode(&broken), None, "byte {at}");
        }
        assert_eq!(DurableMark::decode(&[0; MARK_BYTES]), None);
    }
}
