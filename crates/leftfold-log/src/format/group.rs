//! The header of a group, and the chain.

use leftfold_core::store::{Hash, Position};

use super::{FormatError, Input};

pub(crate) const GROUP_HEADER_BYTES: usize = 80;
pub(crate) const GROUP_MAGIC: [u8; 4] = *b"LFG1";
/// Flag of a group without records that a clean close writes.
pub(crate) const SEAL: u32 = 1;

/// What stands before the records of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) body_bytes: u32,
    pub(crate) records: u32,
    pub(crate) events: u32,
    pub(crate) flags: u32,
    /// The position of its first event, or the one that the next event gets.
    pub(crate) first: Position,
    pub(crate) recorded_at: i64,
    /// Where the group stands: the durable end before it.
    pub(crate) address: u64,
    /// The chain hash before it.
    pub(crate) hash: Hash,
}

impl GroupHeader {
    pub(crate) fn encode(&self) -> [u8; GROUP_HEADER_BYTES] {
        let mut out = [0; GROUP_HEADER_BYTES];
        out[..4].copy_from_slice(&GROUP_MAGIC);
        out[8..12].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[12..16].copy_from_slice(&self.records.to_le_bytes());
        out[16..20].copy_from_slice(&self.events.to_le_bytes());
        out[20..24].copy_from_slice(&self.flags.to_le_bytes());
        out[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.recorded_at.to_le_bytes());
        out[40..48].copy_from_slice(&self.address.to_le_bytes());
        out[48..80].copy_from_slice(&self.hash.0);
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; GROUP_HEADER_BYTES]) -> Result<Self, FormatError> {
        let what = "group header";
        let mut input = Input::new(bytes, what);
        let magic: [u8; 4] = input.array()?;
        let crc = input.u32()?;
        if magic != GROUP_MAGIC || crc != crc32c::crc32c(&bytes[8..]) {
            return Err(FormatError::Checksum { what });
        }
        let header = Self {
            body_bytes: input.u32()?,
            records: input.u32()?,
            events: input.u32()?,
            flags: input.u32()?,
            first: Position(input.u64()?),
            recorded_at: input.i64()?,
            address: input.u64()?,
            hash: Hash(input.array()?),
        };
        if header.flags & !SEAL != 0 || header.events > header.records {
            return Err(FormatError::Value { what });
        }
        Ok(header)
    }

    /// The chain hash after the group. Its address is left out: history is the same however it is cut into segments.
    pub(crate) fn chain(&self, body: &[u8]) -> Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.hash.0).update(&self.encode()[8..40]).update(body);
        Hash(*hasher.finalize().as_bytes())
    }

    /// The position that the event after the group gets; nothing where positions would run out.
    pub(crate) fn next(&self) -> Option<Position> {
        self.first.0.checked_add(u64::from(self.events)).map(Position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_decodes_to_what_was_encoded_and_no_flipped_bit_passes() {
        let header = GroupHeader {
            body_bytes: 1,
            records: 4,
            events: 3,
            flags: SEAL,
            address: 5,
            first: Position(6),
            recorded_at: 7,
            hash: Hash([8; 32]),
        };
        let bytes = header.encode();
        assert_eq!(GroupHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(GroupHeader::decode(&damaged).is_err());
        }
    }
}
