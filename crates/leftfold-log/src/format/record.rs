//! Records: their frame, and the command and checkpoint records. Events are in `event.rs`.

use leftfold_core::store::{
    Answered, Checkpoint, CheckpointRecord, CommandId, CommandRecord, Digest, Fence, Hash, Label,
    Partition, Position, StoreId, Version,
};

use super::{Decoder, FormatError, moment};
use crate::format::varint;

/// Checksum, length and kind.
pub(crate) const RECORD_HEADER_BYTES: usize = 9;
const SKIPPABLE: u8 = 0x80;
const CONTINUES: u8 = 0x40;
const EVENT: u8 = 1;
const COMMAND: u8 = 2;
const CHECKPOINT: u8 = 3;
// 4 to 7 are reserved for logs that follow a journal: 4 may be skipped, and is written so.
const FENCES: u8 = 8;

/// The kinds of record that this release knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Event,
    Command,
    Checkpoint,
    /// The log's own.
    Fences,
    /// A later release wrote it, and says that it may be skipped.
    Skipped,
}

/// A record that checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordFrame<'a> {
    pub(crate) kind: RecordKind,
    pub(crate) body: &'a [u8],
    /// Relation of the next record to this one's append.
    pub(crate) next: NextRecord,
    /// Bytes of the whole record.
    pub(crate) bytes: usize,
}

impl<'a> RecordFrame<'a> {
    /// The record that the bytes begin with, checksum verified. If it is an event, it must be the
    /// one at `position`.
    pub(crate) fn decode(bytes: &'a [u8], position: Position) -> Result<Self, FormatError> {
        let what = "record";
        let mut input = Decoder::new(bytes, what);
        let crc = input.u32()?;
        let len = input.u32()? as usize;
        let kind = input.u8()?;
        let body = input.bytes(len)?;
        let end = RECORD_HEADER_BYTES + len;
        let which = kind & !CONTINUES;
        if crc != checksum(which, position, &bytes[4..end]) {
            return Err(FormatError::Checksum { what });
        }
        let next = if which == kind { NextRecord::Other } else { NextRecord::SameAppend };
        let kind = match which {
            EVENT => RecordKind::Event,
            COMMAND => RecordKind::Command,
            CHECKPOINT => RecordKind::Checkpoint,
            FENCES => RecordKind::Fences,
            which if which & SKIPPABLE != 0 => RecordKind::Skipped,
            kind => return Err(FormatError::RecordKind { kind }),
        };
        Ok(Self { kind, body, next, bytes: end })
    }
}

/// The checksum of an event covers its position, so that one that is found at a wrong place does
/// not check.
fn checksum(which: u8, position: Position, bytes: &[u8]) -> u32 {
    let seed = if which == EVENT { crc32c::crc32c(&position.0.to_le_bytes()) } else { 0 };
    crc32c::crc32c_append(seed, bytes)
}

/// Append to which the next record belongs: the same one, or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextRecord {
    SameAppend,
    Other,
}

/// Begins a record; [`finish`] completes it.
fn begin(out: &mut Vec<u8>, which: u8, next: NextRecord) -> usize {
    let start = out.len();
    let kind = if next == NextRecord::SameAppend { which | CONTINUES } else { which };
    out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, kind]);
    start
}

fn finish(out: &mut [u8], start: usize, position: Position) {
    // A record is at most an append long, which its limits keep far below 4 GiB.
    let len = (out.len() - start - RECORD_HEADER_BYTES) as u32;
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    let crc = checksum(out[start + 8] & !CONTINUES, position, &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Writes an event record from the parts that its caller encoded and what the writer knows.
pub(crate) fn put_event(
    out: &mut Vec<u8>,
    event: &EventParts<'_>,
    position: Position,
    recorded_at: i64,
    next: NextRecord,
) {
    let start = begin(out, EVENT, next);
    out.push(event.flags);
    out.extend_from_slice(&recorded_at.to_le_bytes());
    out.extend_from_slice(event.head);
    if let Some(version) = event.version {
        varint::put(version.0, out);
    }
    out.extend_from_slice(event.tail);
    finish(out, start, position);
}

/// The body of an event record, but for its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventParts<'a> {
    pub(crate) flags: u8,
    pub(crate) head: &'a [u8],
    pub(crate) version: Option<Version>,
    pub(crate) tail: &'a [u8],
}

/// Writes a command record.
pub(crate) fn put_command(
    out: &mut Vec<u8>,
    command: &CommandRecord,
    recorded_at: i64,
    first: Position,
    events: u32,
    next: NextRecord,
) {
    let start = begin(out, COMMAND, next);
    out.extend_from_slice(&command.id.0);
    out.extend_from_slice(&command.digest.0);
    out.extend_from_slice(&recorded_at.to_le_bytes());
    out.extend_from_slice(&first.0.to_le_bytes());
    varint::put(u64::from(events), out);
    out.extend_from_slice(&command.answer);
    finish(out, start, Position::START);
}

/// Writes a checkpoint record.
pub(crate) fn put_checkpoint(out: &mut Vec<u8>, record: &CheckpointRecord) {
    let start = begin(out, CHECKPOINT, NextRecord::Other);
    let partition = record.checkpoint.partition.0.as_deref().unwrap_or("");
    for text in [&*record.consumer, partition] {
        // A label's limit is 255 bytes.
        out.push(text.len() as u8);
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(record.checkpoint.store.0.as_bytes());
    out.extend_from_slice(&record.checkpoint.position.0.to_le_bytes());
    out.extend_from_slice(&record.checkpoint.hash.0);
    finish(out, start, Position::START);
}

/// Writes that no fence beyond one is given before another such record is there.
pub(crate) fn put_fences(out: &mut Vec<u8>, through: Fence) {
    let start = begin(out, FENCES, NextRecord::Other);
    out.extend_from_slice(&through.0.to_le_bytes());
    finish(out, start, Position::START);
}

/// A record of fences as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FencesView {
    pub(crate) through: Fence,
}

impl FencesView {
    pub(crate) fn decode(body: &[u8]) -> Result<Self, FormatError> {
        let mut input = Decoder::new(body, "record of fences");
        let through = Fence(input.u64()?);
        if input.rest().is_empty() {
            Ok(Self { through })
        } else {
            Err(FormatError::Value { what: "record of fences" })
        }
    }
}

/// A command record as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommandView<'a> {
    pub(crate) id: [u8; 16],
    digest: [u8; 16],
    pub(crate) recorded_at: i64,
    pub(crate) first: Position,
    pub(crate) events: u32,
    answer: &'a [u8],
}

impl<'a> CommandView<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, FormatError> {
        let what = "command record";
        let mut input = Decoder::new(body, what);
        Ok(Self {
            id: input.array()?,
            digest: input.array()?,
            recorded_at: input.i64()?,
            first: Position(input.u64()?),
            events: u32::try_from(input.varint()?).map_err(|_| FormatError::Value { what })?,
            answer: input.rest(),
        })
    }

    pub(crate) fn to_answered(self) -> Answered {
        Answered {
            record: CommandRecord {
                id: CommandId(self.id),
                digest: Digest(self.digest),
                answer: self.answer.to_vec().into(),
            },
            recorded_at: moment(self.recorded_at),
            first: self.first,
            events: self.events,
        }
    }
}

/// A checkpoint record as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckpointView<'a> {
    pub(crate) consumer: &'a str,
    pub(crate) partition: &'a str,
    pub(crate) store: [u8; 16],
    pub(crate) position: Position,
    hash: Hash,
}

impl<'a> CheckpointView<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, FormatError> {
        let mut input = Decoder::new(body, "checkpoint record");
        let consumer = input.short_text()?;
        let partition = input.short_text()?;
        let store = input.array()?;
        let position = Position(input.u64()?);
        let hash = Hash(input.array()?);
        if consumer.is_empty() || !input.rest().is_empty() {
            return Err(FormatError::Value { what: "checkpoint record" });
        }
        Ok(Self { consumer, partition, store, position, hash })
    }

    /// Returns the key of the checkpoint in the index.
    pub(crate) fn key(&self) -> String {
        checkpoint_key(self.consumer, &self.store, self.partition)
    }

    pub(crate) fn to_consumer(self) -> Result<Label, FormatError> {
        Label::new(self.consumer.to_owned()).map_err(|_| FormatError::Text { what: "consumer" })
    }

    pub(crate) fn to_checkpoint(self) -> Result<Checkpoint, FormatError> {
        let label = |text: &str| {
            Label::new(text.to_owned()).map_err(|_| FormatError::Text { what: "partition" })
        };
        let partition = if self.partition.is_empty() { None } else { Some(label(self.partition)?) };
        Ok(Checkpoint {
            store: StoreId(uuid::Uuid::from_bytes(self.store)),
            partition: Partition(partition),
            position: self.position,
            hash: self.hash,
        })
    }
}

/// Returns the key of a checkpoint in the index: a consumer has one for each partition of each
/// store that it follows.
pub(crate) fn checkpoint_key(consumer: &str, store: &[u8; 16], partition: &str) -> String {
    format!("{:032x}{:03}{consumer}{partition}", u128::from_be_bytes(*store), consumer.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_and_checkpoint_records_decode_to_what_was_encoded() {
        let command = CommandRecord {
            id: CommandId([1; 16]),
            digest: Digest([2; 16]),
            answer: vec![3, 4].into(),
        };
        let mut out = Vec::new();
        put_command(&mut out, &command, 77, Position(5), 6, NextRecord::SameAppend);
        let frame = RecordFrame::decode(&out, Position(1)).unwrap();
        assert_eq!((frame.kind, frame.bytes), (RecordKind::Command, out.len()));
        let answered = CommandView::decode(frame.body).unwrap().to_answered();
        assert_eq!(
            answered,
            Answered { record: command, recorded_at: moment(77), first: Position(5), events: 6 }
        );

        for partition in [None, Some(Label::new("p").unwrap())] {
            let checkpoint = Checkpoint {
                store: StoreId::random(),
                partition: Partition(partition),
                position: Position(9),
                hash: Hash([3; 32]),
            };
            let record = CheckpointRecord {
                consumer: Label::new("c").unwrap(),
                from: leftfold_core::store::MoveFrom::Earlier,
                checkpoint,
            };
            let mut out = Vec::new();
            put_checkpoint(&mut out, &record);
            let view = CheckpointView::decode(RecordFrame::decode(&out, Position(1)).unwrap().body)
                .unwrap();
            assert_eq!(view.consumer, "c");
            assert_eq!(view.to_checkpoint(), Ok(record.checkpoint));
        }
    }

    #[test]
    fn an_unknown_kind_is_skipped_only_where_it_says_so() {
        let mut out = Vec::new();
        let start = begin(&mut out, 0x81, NextRecord::SameAppend);
        finish(&mut out, start, Position::START);
        assert_eq!(RecordFrame::decode(&out, Position(1)).unwrap().kind, RecordKind::Skipped);
        // Of those that are reserved for journals the author may be skipped; a lease, the end of a
        // journal and its header not.
        for kind in [0x84, 5, 6, 7, 9] {
            let mut out = Vec::new();
            let start = begin(&mut out, kind, NextRecord::Other);
            finish(&mut out, start, Position::START);
            match RecordFrame::decode(&out, Position(1)) {
                Ok(frame) => assert_eq!((frame.kind, kind), (RecordKind::Skipped, 0x84)),
                Err(fault) => assert_eq!(fault, FormatError::RecordKind { kind }),
            }
        }
    }

    #[test]
    fn no_bytes_make_the_decoders_panic() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let bytes: Vec<u8> =
                (0..random.usize(..200)).map(|_| random.u8(..) & random.u8(..)).collect();
            let _ = RecordFrame::decode(&bytes, Position(1));
            let _ = CommandView::decode(&bytes).map(CommandView::to_answered);
            let _ = FencesView::decode(&bytes);
            let _ = CheckpointView::decode(&bytes).and_then(CheckpointView::to_checkpoint);
            let _ = crate::format::EventView::decode(&bytes);
        }
    }
}
