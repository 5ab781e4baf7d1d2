//! The header of a group, and the chain.

use leftfold_core::store::{Hash, Position};
use uuid::Uuid;

use super::{Decoder, FormatError};

pub(crate) const GROUP_HEADER_BYTES: usize = 80;
/// Bytes of a header that the chain covers.
pub(crate) const DESCRIBED_BYTES: usize = 32;
pub(crate) const GROUP_MAGIC: [u8; 4] = *b"LFG1";
/// Flag of a group without records that a clean close writes.
pub(crate) const SEAL: u32 = 1;

/// Header of a group, stored before its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) body_bytes: u32,
    pub(crate) records: u32,
    pub(crate) events: u32,
    pub(crate) flags: u32,
    /// The position of its first event, or the one that the next event gets.
    pub(crate) first: Position,
    pub(crate) recorded_at: i64,
    /// Address of the group: the durable end before it.
    pub(crate) address: u64,
    /// The chain hash before it.
    pub(crate) hash: Hash,
}

/// Binding of the groups of a segment to their addresses, so that nothing else is taken for a
/// group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Version 1: the header says its address. A user who knows the address that event data will
    /// have can write data that looks like a group.
    Address,
    /// Version 2: the header has a value that cannot be computed without the secret of the segment.
    Secret([u8; 16]),
}

impl Binding {
    /// The binding of a new segment.
    pub(crate) fn draw() -> Self {
        let drawn = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes);
        // Of a random UUID six bits are not.
        let [a, b] = drawn.map(u128::from_be_bytes);
        Self::Secret((a ^ b.rotate_left(64)).to_be_bytes())
    }

    /// The checksum of a header.
    fn checksum(&self, header: &[u8; GROUP_HEADER_BYTES]) -> [u8; 4] {
        let seed = match self {
            Self::Address => 0,
            Self::Secret(secret) => crc32c::crc32c(secret),
        };
        crc32c::crc32c_append(seed, &header[8..]).to_le_bytes()
    }

    /// Computes the eight bytes by which a header is bound to its address.
    fn place(&self, header: &[u8; GROUP_HEADER_BYTES], address: u64) -> [u8; 8] {
        let Self::Secret(secret) = self else { return address.to_le_bytes() };
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(secret)
            .update(&address.to_le_bytes())
            .update(&header[8..40])
            .update(&header[48..]);
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

/// Reason why bytes are not a valid header of a group at their address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupHeaderFault {
    Format(FormatError),
    /// The checksum is right, but the header was written for another address.
    Elsewhere,
}

impl GroupHeader {
    pub(crate) fn encode(&self, binding: &Binding) -> [u8; GROUP_HEADER_BYTES] {
        let mut out = [0; GROUP_HEADER_BYTES];
        out[..4].copy_from_slice(&GROUP_MAGIC);
        out[8..40].copy_from_slice(&self.described());
        out[48..80].copy_from_slice(&self.hash.0);
        let place = binding.place(&out, self.address);
        out[40..48].copy_from_slice(&place);
        let crc = binding.checksum(&out);
        out[4..8].copy_from_slice(&crc);
        out
    }

    /// Encodes the fields that are part of the chain hash.
    pub(crate) fn described(&self) -> [u8; DESCRIBED_BYTES] {
        let mut out = [0; DESCRIBED_BYTES];
        out[..4].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[4..8].copy_from_slice(&self.records.to_le_bytes());
        out[8..12].copy_from_slice(&self.events.to_le_bytes());
        out[12..16].copy_from_slice(&self.flags.to_le_bytes());
        out[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.recorded_at.to_le_bytes());
        out
    }

    /// Makes the header of a group, for an address, of the fields that the chain covers.
    pub(crate) fn of_described(
        described: &[u8; DESCRIBED_BYTES],
        address: u64,
        hash: Hash,
    ) -> Result<Self, FormatError> {
        let what = "group";
        let mut input = Decoder::new(described, what);
        let header = Self {
            body_bytes: input.u32()?,
            records: input.u32()?,
            events: input.u32()?,
            flags: input.u32()?,
            first: Position(input.u64()?),
            recorded_at: input.i64()?,
            address,
            hash,
        };
        let is_known = header.flags & !SEAL == 0 && header.events <= header.records;
        if is_known { Ok(header) } else { Err(FormatError::Value { what }) }
    }

    /// Decodes the header that stands at an address of a segment.
    pub(crate) fn decode(
        bytes: &[u8; GROUP_HEADER_BYTES],
        binding: &Binding,
        address: u64,
    ) -> Result<Self, GroupHeaderFault> {
        let what = "group header";
        let checks = bytes[..4] == GROUP_MAGIC && bytes[4..8] == binding.checksum(bytes);
        if !checks {
            return Err(GroupHeaderFault::Format(FormatError::Checksum { what }));
        }
        let header = Self::fields(Decoder::new(&bytes[8..], what), address)
            .map_err(GroupHeaderFault::Format)?;
        if header.flags & !SEAL != 0 || header.events > header.records {
            return Err(GroupHeaderFault::Format(FormatError::Value { what }));
        }
        if bytes[40..48] == binding.place(bytes, address) {
            Ok(header)
        } else {
            Err(GroupHeaderFault::Elsewhere)
        }
    }

    fn fields(mut input: Decoder<'_>, address: u64) -> Result<Self, FormatError> {
        Ok(Self {
            body_bytes: input.u32()?,
            records: input.u32()?,
            events: input.u32()?,
            flags: input.u32()?,
            first: Position(input.u64()?),
            recorded_at: input.i64()?,
            address,
            hash: {
                // Between them stands what ties the group to its place.
                input.bytes(8)?;
                Hash(input.array()?)
            },
        })
    }

    /// The chain hash after the group. Its place is left out: history is the same however it is cut
    /// into segments.
    pub(crate) fn chain(&self, body: &[u8]) -> Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.hash.0).update(&self.described()).update(body);
        Hash(*hasher.finalize().as_bytes())
    }

    /// Returns the position that the event after the group gets; `None` if positions would run out.
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
        for binding in [Binding::Address, Binding::draw()] {
            let bytes = header.encode(&binding);
            assert_eq!(GroupHeader::decode(&bytes, &binding, 5), Ok(header));
            assert_eq!(GroupHeader::decode(&bytes, &binding, 6), Err(GroupHeaderFault::Elsewhere));
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes;
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(GroupHeader::decode(&damaged, &binding, 5).is_err());
            }
            for other in
                [Binding::Address, Binding::draw()].into_iter().filter(|other| *other != binding)
            {
                assert!(matches!(
                    GroupHeader::decode(&bytes, &other, 5),
                    Err(GroupHeaderFault::Format(_))
                ));
            }
        }
    }
}
