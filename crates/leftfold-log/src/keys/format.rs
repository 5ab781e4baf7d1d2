//! The key file, as section 9 of `docs/log-format.md` has it.

use leftfold_core::personal::{DestroyedKey, KeyId, KeyRecord, Lookup, Secret, Token};
use leftfold_core::store::{Label, Timestamp};
use uuid::Uuid;

pub(super) const HEADER_BYTES: usize = 64;
pub(super) const FRAME_HEADER_BYTES: usize = 12;
/// Bytes of records in one frame.
pub(super) const FRAME_RECORDS_MAX: usize = 64 << 10;
const MAGIC: [u8; 8] = *b"LEFTKEYS";
const VERSION: u32 = 1;

/// The beginning of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: Uuid,
    pub(super) lookup: Secret,
}

/// Fault of a file that does not begin as a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyHeaderFault {
    Damaged,
    OtherRelease(u32),
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.lookup.0);
        let sum = crc32c::crc32c(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, KeyHeaderFault> {
        let mut input = KeyRecordInput(bytes);
        let mut read = || {
            Some((
                input.array::<8>()?,
                input.number()?,
                input.array::<16>()?,
                input.array::<32>()?,
                input.number()?,
            ))
        };
        let (magic, version, id, lookup, sum) = read().ok_or(KeyHeaderFault::Damaged)?;
        if magic != MAGIC {
            return Err(KeyHeaderFault::Damaged);
        }
        if version != VERSION {
            return Err(KeyHeaderFault::OtherRelease(version));
        }
        if sum != crc32c::crc32c(&bytes[..HEADER_BYTES - 4]) {
            return Err(KeyHeaderFault::Damaged);
        }
        Ok(Self { id: Uuid::from_bytes(id), lookup: Secret(lookup) })
    }
}

/// Records as one frame at an offset.
pub(super) fn frame(id: Uuid, offset: u64, records: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + records.len());
    out.extend_from_slice(&(records.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(records).to_le_bytes());
    let sum = frame_sum(id, offset, &out);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(records);
    out
}

fn frame_sum(id: Uuid, offset: u64, header: &[u8]) -> u32 {
    let sum = crc32c::crc32c(id.as_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(sum, &offset.to_le_bytes()), header)
}

/// The thing that stands at an offset of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyFileFrame<'a> {
    Whole(&'a [u8]),
    /// A frame begins there and is not whole.
    Broken,
    /// No frame begins there.
    None,
}

/// The frame at an offset of a whole file.
pub(super) fn frame_at(file: &[u8], id: Uuid, offset: usize) -> KeyFileFrame<'_> {
    let mut input = KeyRecordInput(file.get(offset..).unwrap_or_default());
    let mut read = || Some((input.number()?, input.number()?, input.number()?));
    let Some((len, sum, header_sum)) = read() else { return KeyFileFrame::None };
    if header_sum != frame_sum(id, offset as u64, &file[offset..offset + 8])
        || len as usize > FRAME_RECORDS_MAX
    {
        return KeyFileFrame::None;
    }
    match input.0.get(..len as usize) {
        Some(records) if crc32c::crc32c(records) == sum => KeyFileFrame::Whole(records),
        _ => KeyFileFrame::Broken,
    }
}

pub(super) fn encode(record: &KeyRecord, out: &mut Vec<u8>) {
    match record {
        KeyRecord::Key { subject, secret } => {
            out.push(1);
            out.extend_from_slice(&secret.0);
            put_label(subject, out);
        }
        KeyRecord::Token { value, token, owner, since, outlives } => {
            out.push(2);
            for part in [value.hash, token.0, owner.0] {
                out.extend_from_slice(&part);
            }
            out.extend_from_slice(&since.as_micros().to_le_bytes());
            out.push(u8::from(*outlives));
            put_label(&value.name, out);
        }
        KeyRecord::Destroyed(DestroyedKey { id, subject, at }) => {
            out.push(3);
            out.extend_from_slice(&id.0);
            out.extend_from_slice(&at.as_micros().to_le_bytes());
            put_label(subject, out);
        }
    }
}

/// The records of a frame; `None` if they are not what this release writes.
pub(super) fn decode(frame: &[u8]) -> Option<Vec<KeyRecord>> {
    let mut input = KeyRecordInput(frame);
    let mut records = Vec::new();
    while let Some([kind]) = input.array::<1>() {
        records.push(match kind {
            1 => {
                let secret = Secret(input.array()?);
                KeyRecord::Key { subject: input.label()?, secret }
            }
            2 => {
                let [hash, token, owner] = [input.array()?, input.array()?, input.array()?];
                let (token, owner, since) = (Token(token), KeyId(owner), input.moment()?);
                let outlives = match input.array()? {
                    [0] => false,
                    [1] => true,
                    [_] => return None,
                };
                KeyRecord::Token {
                    value: Lookup { name: input.label()?, hash },
                    token,
                    owner,
                    since,
                    outlives,
                }
            }
            3 => {
                let (id, at) = (KeyId(input.array()?), input.moment()?);
                KeyRecord::Destroyed(DestroyedKey { id, subject: input.label()?, at })
            }
            _ => return None,
        });
    }
    Some(records)
}

fn put_label(label: &Label, out: &mut Vec<u8>) {
    // A label has 255 bytes at most.
    out.push(label.len() as u8);
    out.extend_from_slice(label.as_bytes());
}

struct KeyRecordInput<'a>(&'a [u8]);

impl KeyRecordInput<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn moment(&mut self) -> Option<Timestamp> {
        self.array().map(i64::from_le_bytes).map(Timestamp::from_micros)
    }

    fn label(&mut self) -> Option<Label> {
        let [len] = self.array()?;
        let (text, rest) = self.0.split_at_checked(len as usize)?;
        self.0 = rest;
        Label::new(std::str::from_utf8(text).ok()?.to_owned()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_half_ones_do_not() {
        let subject = Label::try_from("subject").unwrap();
        let token = |outlives| {
            let (value, since) =
                (Lookup { name: subject.clone(), hash: [2; 16] }, Timestamp::from_micros(6));
            KeyRecord::Token {
                value,
                token: Token([3; 16]),
                owner: KeyId([4; 16]),
                since,
                outlives,
            }
        };
        let records = [
            KeyRecord::Key { subject: subject.clone(), secret: Secret([1; 32]) },
            token(true),
            token(false),
            KeyRecord::Destroyed(DestroyedKey {
                id: KeyId([5; 16]),
                subject: subject.clone(),
                at: Timestamp::from_micros(-6),
            }),
        ];
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for record in &records {
            encode(record, &mut bytes);
            ends.push(bytes.len());
        }
        assert_eq!(decode(&bytes).unwrap(), records);
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]).is_some(), ends.contains(&len), "{len} bytes");
        }
        assert_eq!(decode(&[4]), None);
    }

    #[test]
    fn a_frame_is_one_only_where_it_was_written_and_in_its_own_file() {
        let [id, other] = [1, 2].map(Uuid::from_u128);
        let file = [&[0; 100][..], &frame(id, 100, b"records")].concat();
        assert_eq!(frame_at(&file, id, 100), KeyFileFrame::Whole(b"records"));
        assert_eq!(frame_at(&file[..file.len() - 1], id, 100), KeyFileFrame::Broken);
        assert_eq!(frame_at(&file, other, 100), KeyFileFrame::None);
        assert_eq!(frame_at(&file[1..], id, 99), KeyFileFrame::None);
        assert_eq!(frame_at(&file, id, file.len()), KeyFileFrame::None);
    }

    #[test]
    fn a_header_is_read_as_it_was_written_or_not_at_all() {
        let header = Header { id: Uuid::from_u128(7), lookup: Secret([8; 32]) };
        let bytes = header.encode();
        assert_eq!((bytes.len(), Header::decode(&bytes)), (HEADER_BYTES, Ok(header)));
        for at in 0..HEADER_BYTES {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(Header::decode(&other).is_err(), "byte {at}");
        }
        assert_eq!(Header::decode(&bytes[..63]), Err(KeyHeaderFault::Damaged));
    }
}
