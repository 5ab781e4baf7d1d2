//! The bytes of the log, as docs/log-format.md says them. No input makes a decoder panic.
//!
//! `segment` is the header of a file, `group` the header of what was appended together, with the
//! chain. In a group stand records: `record` has their frame, and those of commands and
//! checkpoints; `event` has those of events. `varint` writes the numbers in them. `mark` is a file
//! of its own, which names the durable end.

mod event;
mod group;
mod mark;
mod record;
mod segment;
pub(crate) mod varint;

pub(crate) use event::{EncodedEvents, EventView};
pub(crate) use group::{
    Binding, DESCRIBED_BYTES, GROUP_HEADER_BYTES, GROUP_MAGIC, GroupHeader, GroupHeaderFault, SEAL,
};
pub(crate) use mark::{DurableMark, MARK};
pub(crate) use record::{
    CheckpointView, CommandView, FencesView, NextRecord, RECORD_HEADER_BYTES, RecordFrame,
    RecordKind, checkpoint_key, put_checkpoint, put_command, put_fences,
};
pub(crate) use segment::{
    SegmentFault, SegmentHeader, offsets_name, offsets_number, segment_name, segment_number,
};

use leftfold_core::store::Timestamp;

/// Error of decoding stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end too early.
    #[error("the {what} ends too early")]
    Short {
        /// Structure that was being read.
        what: &'static str,
    },
    /// A checksum does not fit.
    #[error("the checksum of the {what} does not fit")]
    Checksum {
        /// Structure that was being read.
        what: &'static str,
    },
    /// The bytes that identify the structure are others.
    #[error("the {what} does not begin as one does")]
    Magic {
        /// Structure that was being read.
        what: &'static str,
    },
    /// A number is out of its range, or not in its shortest form.
    #[error("the {what} has a value that cannot be")]
    Value {
        /// Structure that was being read.
        what: &'static str,
    },
    /// A text is not UTF-8, or beyond its limit.
    #[error("the {what} is not a text of its kind")]
    Text {
        /// Structure that was being read.
        what: &'static str,
    },
    /// A record of a kind that this release does not know and may not skip.
    #[error("record kind {kind} is unknown, a later release may have written it")]
    RecordKind {
        /// The kind.
        kind: u8,
    },
}

/// The recorded time of a store that has none, as it is stored.
pub(crate) const NO_TIME: i64 = i64::MIN;

/// A stored time as a moment; no time is the earliest one.
pub(crate) fn moment(stored: i64) -> Timestamp {
    Timestamp::from_micros(stored)
}

/// Takes what a decoder needs off the front of its input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(rest: &'a [u8], what: &'static str) -> Self {
        Self { rest, what }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(FormatError::Short { what: self.what })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) =
            self.rest.split_first_chunk::<N>().ok_or(FormatError::Short { what: self.what })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, FormatError> {
        varint::take(&mut self.rest).ok_or(FormatError::Value { what: self.what })
    }

    /// A varint that counts bytes or members of what follows.
    pub(crate) fn count(&mut self) -> Result<usize, FormatError> {
        usize::try_from(self.varint()?).map_err(|_| FormatError::Value { what: self.what })
    }

    pub(crate) fn text(&mut self, bytes: usize) -> Result<&'a str, FormatError> {
        let taken = self.bytes(bytes)?;
        std::str::from_utf8(taken).map_err(|_| FormatError::Text { what: self.what })
    }

    /// One byte of length, then a text.
    pub(crate) fn short_text(&mut self) -> Result<&'a str, FormatError> {
        let bytes = usize::from(self.u8()?);
        self.text(bytes)
    }

    /// A varint of length, then a text.
    pub(crate) fn long_text(&mut self) -> Result<&'a str, FormatError> {
        let bytes = self.count()?;
        self.text(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }
}
