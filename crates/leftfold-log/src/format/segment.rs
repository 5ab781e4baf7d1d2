//! The header of a segment, and its name.

use leftfold_core::store::{Epoch, Hash, Position, StoreId};
use uuid::Uuid;

use super::{Binding, Decoder, FormatError};

/// Bytes of the header in each version.
const BYTES_1: usize = 128;
const BYTES_2: usize = 256;
const MAGIC: [u8; 8] = *b"LEFTFOLD";
const VERSION_1: u16 = 1;
const VERSION_2: u16 = 2;
const BLAKE3: u16 = 1;
const CRC32C: u16 = 1;
const STORED: u16 = 0;

/// Header of a segment, stored before its first group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store: StoreId,
    pub(crate) epoch: Epoch,
    /// Durable length of the segment before.
    pub(crate) length_before: u32,
    pub(crate) number: u64,
    /// The position that the next event gets.
    pub(crate) first: Position,
    /// The chain hash before the first group.
    pub(crate) hash: Hash,
    /// The recorded time of the last group before, as it is stored.
    pub(crate) recorded_at: i64,
    /// Binding of groups to this segment. It determines the version of the format, too.
    pub(crate) binding: Binding,
}

/// Reason why a file cannot be read as a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SegmentFault {
    /// Another release wrote it.
    OtherRelease { what: &'static str, found: u16 },
    /// The header is short, empty or does not check: damage.
    Broken(FormatError),
}

impl SegmentHeader {
    /// Returns the length of the header in bytes: the first group follows it.
    pub(crate) fn bytes(&self) -> u64 {
        (if self.binding == Binding::Address { BYTES_1 } else { BYTES_2 }) as u64
    }

    /// Stands for the store in the ids that are minted for the segment's events.
    ///
    /// After a declared restore it is another: an event that takes the position of a lost one has
    /// an id of its own, also if a wrong clock tells the same time again. Version 1 minted from the
    /// store alone.
    pub(crate) fn minter(&self) -> StoreId {
        if self.binding == Binding::Address || self.epoch.number == 1 {
            return self.store;
        }
        StoreId(Uuid::new_v5(&self.store.0, self.epoch.id.as_bytes()))
    }

    /// Returns the binding of a new segment of a version; `None` if the version is not known.
    pub(crate) fn binding_of(version: u32) -> Option<Binding> {
        match u16::try_from(version) {
            Ok(VERSION_1) => Some(Binding::Address),
            Ok(VERSION_2) => Some(Binding::draw()),
            _ => None,
        }
    }

    /// Returns the version of the format.
    pub(crate) fn version(&self) -> u16 {
        if self.binding == Binding::Address { VERSION_1 } else { VERSION_2 }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES_2);
        out.extend_from_slice(&MAGIC);
        let version = self.version();
        for id in [version, BLAKE3, CRC32C, STORED] {
            out.extend_from_slice(&id.to_le_bytes());
        }
        out.extend_from_slice(self.store.0.as_bytes());
        out.extend_from_slice(&self.epoch.number.to_le_bytes());
        out.extend_from_slice(&self.length_before.to_le_bytes());
        out.extend_from_slice(&self.epoch.began_after.0.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.first.0.to_le_bytes());
        out.extend_from_slice(&self.hash.0);
        out.extend_from_slice(&self.recorded_at.to_le_bytes());
        out.extend_from_slice(self.epoch.id.as_bytes());
        if let Binding::Secret(secret) = &self.binding {
            // No flag, and reserved bytes.
            out.resize(BYTES_1, 0);
            out.extend_from_slice(secret);
        }
        out.resize(self.bytes() as usize - 4, 0);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Bytes of the beginning of a file that [`decode`](Self::decode) needs at most.
    pub(crate) const BYTES_MAX: u64 = BYTES_2 as u64;

    /// Decodes the beginning of a file: fewer bytes if the file is shorter.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SegmentFault> {
        let what = "segment header";
        let begun = &bytes[..bytes.len().min(MAGIC.len())];
        if begun.iter().any(|byte| *byte != 0) && !MAGIC.starts_with(begun) {
            return Err(SegmentFault::Broken(FormatError::Magic { what }));
        }
        let short = || SegmentFault::Broken(FormatError::Short { what });
        let mut input = Decoder::new(bytes.get(MAGIC.len()..).ok_or_else(short)?, what);
        let (version, hash, checksum, codec) = (input.id()?, input.id()?, input.id()?, input.id()?);
        if begun != MAGIC {
            return Err(SegmentFault::Broken(FormatError::Checksum { what }));
        }
        if Self::has_damaged_ids(bytes) {
            return Err(SegmentFault::Broken(FormatError::Checksum { what }));
        }
        for (what, found, known) in [
            ("hash id", hash, BLAKE3),
            ("checksum id", checksum, CRC32C),
            ("codec id", codec, STORED),
        ] {
            if found != known {
                return Err(SegmentFault::OtherRelease { what, found });
            }
        }
        let length = match version {
            VERSION_1 => BYTES_1,
            VERSION_2 => BYTES_2,
            found => return Err(SegmentFault::OtherRelease { what: "format version", found }),
        };
        let header = bytes.get(..length).ok_or_else(short)?;
        let (body, crc) = header.split_at(length - 4);
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return Err(SegmentFault::Broken(FormatError::Checksum { what }));
        }
        let input = Decoder::new(&body[MAGIC.len() + 8..], what);
        let (header, flags) = Self::fields(input, version).map_err(SegmentFault::Broken)?;
        if flags != 0 {
            return Err(SegmentFault::OtherRelease { what: "flags", found: flags });
        }
        Ok(header)
    }

    /// Tells whether the ids of a header are damaged: they differ from those that this release
    /// writes, and the checksum fits only with the latter. The header of another release has a
    /// checksum over its own ids, or another one.
    fn has_damaged_ids(bytes: &[u8]) -> bool {
        [(VERSION_1, BYTES_1), (VERSION_2, BYTES_2)].into_iter().any(|(version, length)| {
            let Some((body, crc)) =
                bytes.get(..length).and_then(|header| header.split_last_chunk::<4>())
            else {
                return false;
            };
            let ids: Vec<u8> =
                [version, BLAKE3, CRC32C, STORED].iter().flat_map(|id| id.to_le_bytes()).collect();
            let (begin, fields) = body.split_at(MAGIC.len() + ids.len());
            let checksum =
                crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&MAGIC), &ids), fields);
            begin[MAGIC.len()..] != ids && *crc == checksum.to_le_bytes()
        })
    }

    /// The fields behind the ids, and the flags, which version 1 does not have.
    fn fields(mut input: Decoder<'_>, version: u16) -> Result<(Self, u16), FormatError> {
        let store = StoreId(Uuid::from_bytes(input.array()?));
        let epoch_number = input.u32()?;
        let length_before = input.u32()?;
        let began_after = Position(input.u64()?);
        let number = input.u64()?;
        let first = Position(input.u64()?);
        let hash = Hash(input.array()?);
        let recorded_at = input.i64()?;
        let epoch =
            Epoch { id: Uuid::from_bytes(input.array()?), number: epoch_number, began_after };
        let (mut binding, mut flags) = (Binding::Address, 0);
        if version == VERSION_2 {
            flags = input.u16()?;
            // Flags that may be passed over, and reserved bytes.
            input.bytes(6)?;
            binding = Binding::Secret(input.array()?);
        }
        Ok((Self { store, epoch, length_before, number, first, hash, recorded_at, binding }, flags))
    }

    /// Tells whether the segment follows from one whose chain ends with a hash: an epoch that
    /// begins between them is part of the chain.
    pub(crate) fn follows_hash(&self, hash: Hash, before: &Self) -> bool {
        let hash = if self.epoch == before.epoch {
            hash
        } else {
            Self::epoch_hash(hash, self.store, &self.epoch)
        };
        self.hash == hash
    }

    /// The chain hash before the first group of an epoch: the identity of a store, and its
    /// restores, are history too.
    pub(crate) fn epoch_hash(so_far: Hash, store: StoreId, epoch: &Epoch) -> Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&so_far.0).update(&Self::life(store, epoch));
        Hash(*hasher.finalize().as_bytes())
    }

    /// Reads the bytes by which an epoch is part of the chain.
    pub(crate) fn of_life(bytes: &[u8]) -> Result<(StoreId, Epoch), FormatError> {
        let mut input = Decoder::new(bytes, "life");
        let store = StoreId(Uuid::from_bytes(input.array()?));
        let id = Uuid::from_bytes(input.array()?);
        let (number, began_after) = (input.u32()?, Position(input.u64()?));
        Ok((store, Epoch { id, number, began_after }))
    }

    /// The bytes by which an epoch is part of the chain.
    pub(crate) fn life(store: StoreId, epoch: &Epoch) -> Vec<u8> {
        let mut bytes = store.0.into_bytes().to_vec();
        bytes.extend_from_slice(epoch.id.as_bytes());
        bytes.extend_from_slice(&epoch.number.to_le_bytes());
        bytes.extend_from_slice(&epoch.began_after.0.to_le_bytes());
        bytes
    }
}

impl Decoder<'_> {
    fn id(&mut self) -> Result<u16, SegmentFault> {
        self.u16().map_err(SegmentFault::Broken)
    }
}

/// The name of the file of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("log-{number:012}.seg")
}

/// The segment that a file is, by its name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("log-")?.strip_suffix(".seg")?;
    (digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

/// The name of the file of offsets of a segment.
pub(crate) fn offsets_name(number: u64) -> String {
    format!("log-{number:012}.off")
}

/// The segment whose offsets a file has, by its name.
pub(crate) fn offsets_number(name: &str) -> Option<u64> {
    segment_number(&format!("{}.seg", name.strip_suffix(".off")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            store: StoreId::random(),
            epoch: Epoch { id: Uuid::from_u128(12), number: 3, began_after: Position(17) },
            length_before: 4711,
            number: 9,
            first: Position(99),
            hash: Hash([7; 32]),
            recorded_at: -5,
            binding: Binding::Secret([13; 16]),
        }
    }

    #[test]
    fn a_header_decodes_to_what_was_encoded() {
        for (binding, bytes) in [(Binding::Secret([13; 16]), 256), (Binding::Address, 128)] {
            let one = SegmentHeader { binding, ..header() };
            assert_eq!(
                (SegmentHeader::decode(&one.encode()), one.encode().len()),
                (Ok(one), bytes)
            );
        }
    }

    #[test]
    fn a_flag_that_is_not_known_is_another_releases() {
        let mut journal = header().encode();
        journal[120] = 1;
        let crc = crc32c::crc32c(&journal[..252]).to_le_bytes();
        journal[252..].copy_from_slice(&crc);
        assert_eq!(
            SegmentHeader::decode(&journal),
            Err(SegmentFault::OtherRelease { what: "flags", found: 1 })
        );
    }

    #[test]
    fn other_and_broken_headers_are_told_apart() {
        let bytes = header().encode();
        let mut other = bytes.clone();
        other[8] = 3;
        assert!(
            matches!(SegmentHeader::decode(&other), Err(SegmentFault::Broken(_))),
            "no release wrote this checksum with it"
        );
        let crc = crc32c::crc32c(&other[..252]).to_le_bytes();
        other[252..].copy_from_slice(&crc);
        assert_eq!(
            SegmentHeader::decode(&other),
            Err(SegmentFault::OtherRelease { what: "format version", found: 3 })
        );
        let magic = SegmentFault::Broken(FormatError::Magic { what: "segment header" });
        assert_eq!(SegmentHeader::decode(b"\x89PNG\r\n\x1a\n and more"), Err(magic));
        let mut broken = bytes.clone();
        broken[50] ^= 1;
        assert!(matches!(SegmentHeader::decode(&broken), Err(SegmentFault::Broken(_))));
        for len in 0..bytes.len() {
            assert!(matches!(SegmentHeader::decode(&bytes[..len]), Err(SegmentFault::Broken(_))));
            assert!(matches!(SegmentHeader::decode(&vec![0; len]), Err(SegmentFault::Broken(_))));
        }
    }

    #[test]
    fn a_name_has_twelve_digits() {
        assert_eq!(segment_number(&segment_name(12)), Some(12));
        assert_eq!(segment_number("log-12.seg"), None);
        assert_eq!(segment_number("log-+00000000012.seg"), None);
    }
}
