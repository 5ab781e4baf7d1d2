//! Appends, with their conditions and records.

use bytes::Bytes;
use leftfold_core::store::limits::{APPEND_EVENTS_MAX, EXPECTATIONS_MAX, QUERIES_MAX};
use leftfold_core::store::{
    Append, Authority, Checkpoint, CheckpointRecord, CommandId, CommandRecord, Condition, Digest,
    Expected, Fence, Hash, Invalid, Label, MoveFrom, NewEvent, NoneMatching, Partition, Position,
    Query, StoreId, StreamName, Version,
};

use crate::event::stream_name;
use crate::malformed::{Malformed, exactly, label, label_text, some, uuid, uuid_bytes};
use crate::wire::{self, expectation, move_from};

impl From<Append> for wire::Append {
    fn from(append: Append) -> Self {
        Self::from(&append)
    }
}

impl From<&Append> for wire::Append {
    fn from(append: &Append) -> Self {
        let Append { events, condition, command, checkpoint, fence, authority } = append;
        Self {
            events: events.iter().map(Into::into).collect(),
            streams: condition.streams.iter().map(expectation_of).collect(),
            none_matching: condition.none_matching.iter().map(Into::into).collect(),
            command: command.clone().map(Into::into),
            checkpoint: checkpoint.clone().map(Into::into),
            fence: fence.as_ref().map(|(work, fence)| wire::AppendFence {
                work: work.as_str().to_owned(),
                fence: fence.0,
            }),
            authority: authority.number(),
        }
    }
}

impl TryFrom<wire::Append> for Append {
    type Error = Malformed;

    fn try_from(append: wire::Append) -> Result<Self, Malformed> {
        Invalid::if_over("the events of an append", append.events.len(), APPEND_EVENTS_MAX)?;
        let expectations = append.streams.len();
        Invalid::if_over("the expectations of a condition", expectations, EXPECTATIONS_MAX)?;
        Invalid::if_over("the queries of a condition", append.none_matching.len(), QUERIES_MAX)?;
        let number = append.authority;
        let authority = Authority::of_number(number)
            .ok_or(Malformed::Number { field: "authority", number: number.into() })?;
        let streams = append.streams.into_iter().map(read_expectation);
        let none_matching = append.none_matching.into_iter().map(NoneMatching::try_from);
        Ok(Self {
            events: append.events.into_iter().map(NewEvent::try_from).collect::<Result<_, _>>()?,
            condition: Condition {
                streams: streams.collect::<Result<_, _>>()?,
                none_matching: none_matching.collect::<Result<_, _>>()?,
            },
            command: append.command.map(CommandRecord::try_from).transpose()?,
            checkpoint: append.checkpoint.map(CheckpointRecord::try_from).transpose()?,
            fence: append.fence.map(read_fence).transpose()?,
            authority,
        })
    }
}

fn read_fence(fence: wire::AppendFence) -> Result<(Label, Fence), Malformed> {
    Ok((Label::new(fence.work)?, Fence(fence.fence)))
}

fn expectation_of((stream, expected): &(StreamName, Expected)) -> wire::StreamExpectation {
    wire::StreamExpectation {
        stream: stream.to_shared().into_bytes(),
        expected: Some((*expected).into()),
    }
}

fn read_expectation(
    expectation: wire::StreamExpectation,
) -> Result<(StreamName, Expected), Malformed> {
    let expected = some("expected", expectation.expected)?;
    Ok((stream_name(expectation.stream)?, expected.try_into()?))
}

impl From<Expected> for wire::Expectation {
    fn from(expected: Expected) -> Self {
        let expected = match expected {
            Expected::Any => expectation::Expected::Any(wire::Empty {}),
            Expected::Absent => expectation::Expected::Absent(wire::Empty {}),
            Expected::Exists => expectation::Expected::Exists(wire::Empty {}),
            Expected::Exact(version) => expectation::Expected::Exact(version.0),
        };
        Self { expected: Some(expected) }
    }
}

impl TryFrom<wire::Expectation> for Expected {
    type Error = Malformed;

    fn try_from(expectation: wire::Expectation) -> Result<Self, Malformed> {
        Ok(match some("expected", expectation.expected)? {
            expectation::Expected::Any(_) => Self::Any,
            expectation::Expected::Absent(_) => Self::Absent,
            expectation::Expected::Exists(_) => Self::Exists,
            expectation::Expected::Exact(version) => Self::Exact(Version(version)),
        })
    }
}

impl From<&NoneMatching> for wire::NoneMatching {
    fn from(none: &NoneMatching) -> Self {
        Self { query: Some((&none.query).into()), after: none.after.0 }
    }
}

impl TryFrom<wire::NoneMatching> for NoneMatching {
    type Error = Malformed;

    fn try_from(none: wire::NoneMatching) -> Result<Self, Malformed> {
        let query = Query::try_from(some("query", none.query)?)?;
        Ok(Self { query, after: Position(none.after) })
    }
}

impl From<CommandRecord> for wire::CommandRecord {
    fn from(record: CommandRecord) -> Self {
        Self {
            id: Bytes::copy_from_slice(&record.id.0),
            digest: Bytes::copy_from_slice(&record.digest.0),
            answer: record.answer,
        }
    }
}

impl TryFrom<wire::CommandRecord> for CommandRecord {
    type Error = Malformed;

    fn try_from(record: wire::CommandRecord) -> Result<Self, Malformed> {
        Ok(Self {
            id: CommandId(exactly("id of a command", &record.id)?),
            digest: Digest(exactly("digest of a command", &record.digest)?),
            answer: record.answer,
        })
    }
}

impl From<Checkpoint> for wire::Checkpoint {
    fn from(checkpoint: Checkpoint) -> Self {
        Self {
            store: uuid_bytes(checkpoint.store.0),
            partition: label_text(checkpoint.partition.0.as_ref()),
            position: checkpoint.position.0,
            hash: Bytes::copy_from_slice(&checkpoint.hash.0),
        }
    }
}

impl TryFrom<wire::Checkpoint> for Checkpoint {
    type Error = Malformed;

    fn try_from(checkpoint: wire::Checkpoint) -> Result<Self, Malformed> {
        Ok(Self {
            store: StoreId(uuid("store of a checkpoint", &checkpoint.store)?),
            partition: Partition(label(checkpoint.partition)?),
            position: Position(checkpoint.position),
            hash: Hash(exactly("hash of a checkpoint", &checkpoint.hash)?),
        })
    }
}

impl From<CheckpointRecord> for wire::CheckpointRecord {
    fn from(record: CheckpointRecord) -> Self {
        Self {
            consumer: record.consumer.as_str().to_owned(),
            from: Some(record.from.into()),
            checkpoint: Some(record.checkpoint.into()),
        }
    }
}

impl TryFrom<wire::CheckpointRecord> for CheckpointRecord {
    type Error = Malformed;

    fn try_from(record: wire::CheckpointRecord) -> Result<Self, Malformed> {
        Ok(Self {
            consumer: Label::new(record.consumer)?,
            from: some("from", record.from)?.try_into()?,
            checkpoint: some("checkpoint", record.checkpoint)?.try_into()?,
        })
    }
}

impl From<MoveFrom> for wire::MoveFrom {
    fn from(from: MoveFrom) -> Self {
        let from = match from {
            MoveFrom::Exactly(position) => move_from::From::Exactly(position.0),
            MoveFrom::Earlier => move_from::From::Earlier(wire::Empty {}),
            MoveFrom::Anywhere => move_from::From::Anywhere(wire::Empty {}),
        };
        Self { from: Some(from) }
    }
}

impl TryFrom<wire::MoveFrom> for MoveFrom {
    type Error = Malformed;

    fn try_from(from: wire::MoveFrom) -> Result<Self, Malformed> {
        Ok(match some("from", from.from)? {
            move_from::From::Exactly(position) => Self::Exactly(Position(position)),
            move_from::From::Earlier(_) => Self::Earlier,
            move_from::From::Anywhere(_) => Self::Anywhere,
        })
    }
}
