//! Output of an encoder: the JSON, and the trace of what serde was told.

use std::ops::Range;

use serde::Serialize;

use super::mark::{Mark, ValueKind};
use super::trace::{Doubt, Node, Trace};

/// The bytes that most values fit into without growing.
const BYTES_USUAL: usize = 256;

/// Output of an encoder: the JSON that is written, and the trace that is taken down.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(super) json: Option<Vec<u8>>,
    pub(super) trace: Option<Trace>,
    pub(super) order: ElementOrder,
    /// True if the first element of each sequence is written twice.
    pub(super) is_doubling: bool,
    /// True if it is a record of the runtime, which has values of users within it.
    pub(super) is_record: bool,
}

/// Choice whether the order of a sequence's elements and of a text's bytes counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum ElementOrder {
    #[default]
    Counts,
    /// Sets come in any order, also those that are written as one text.
    Any,
}

impl Output {
    pub(crate) fn writing() -> Self {
        Self { json: Some(Vec::with_capacity(BYTES_USUAL)), ..Self::default() }
    }

    /// A record of the runtime: values of users within it may be as deep as they are alone.
    pub(crate) fn writing_record() -> Self {
        Self { is_record: true, ..Self::writing() }
    }

    /// Only the mark is wanted.
    pub(crate) fn marking() -> Self {
        Self::default()
    }

    /// Only the mark is wanted, in which the order of a sequence's elements and of a text's bytes
    /// does not count.
    pub(super) fn marking_loosely() -> Self {
        Self { order: ElementOrder::Any, ..Self::default() }
    }

    /// The place is wanted at which two values differ by more than an order.
    pub(super) fn tracing() -> Self {
        Self {
            json: Some(Vec::new()),
            trace: Some(Trace::default()),
            order: ElementOrder::Any,
            ..Self::default()
        }
    }

    /// JSON is wanted that has the first element of each sequence twice.
    pub(super) fn doubling() -> Self {
        Self { is_doubling: true, ..Self::writing() }
    }

    pub(super) fn into_trace(self) -> Option<Node> {
        self.trace.and_then(Trace::root)
    }

    pub(crate) fn into_json(self) -> Vec<u8> {
        self.json.unwrap_or_default()
    }

    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if let Some(json) = &mut self.json {
            json.extend_from_slice(bytes);
        }
    }

    /// Numbers and texts, for which serde_json's own code is used.
    #[inline]
    pub(super) fn push_plain<T: Serialize + ?Sized>(&mut self, plain: &T) {
        if let Some(json) = &mut self.json {
            serde_json::to_writer(json, plain).expect("a vector takes any number and any text");
        }
    }

    /// A comma, and once more what was written from a place on; unless there is a sequence in it,
    /// which has its own double: levels of them would double without end.
    pub(super) fn push_again(&mut self, start: usize) {
        if let Some(json) = &mut self.json
            && !json[start..].contains(&b'[')
        {
            let end = json.len();
            json.push(b',');
            json.extend_from_within(start..end);
        }
    }

    #[inline]
    pub(super) fn leaf(&mut self, mark: Mark, shown: impl FnOnce() -> String) -> Mark {
        self.doubtful(mark, None, shown)
    }

    /// A value of a kind that JSON, or its readers, do not bear everywhere.
    #[inline]
    pub(super) fn doubtful(
        &mut self,
        mark: Mark,
        doubt: Option<Doubt>,
        shown: impl FnOnce() -> String,
    ) -> Mark {
        if let Some(trace) = &mut self.trace {
            trace.leaf(mark, doubt, shown());
        }
        mark
    }

    #[inline]
    pub(super) fn mark_of(&self, text: &str) -> Mark {
        if self.order == ElementOrder::Counts {
            return Mark::text(ValueKind::Str, text.as_bytes());
        }
        let mut bytes = text.as_bytes().to_vec();
        bytes.sort_unstable();
        Mark::text(ValueKind::Str, &bytes)
    }

    pub(super) fn nodes(&self) -> usize {
        self.trace.as_ref().map_or(0, Trace::len)
    }

    pub(super) fn len(&self) -> usize {
        self.json.as_ref().map_or(0, Vec::len)
    }

    /// The text of a key that was written, quotes and all.
    pub(super) fn text_of(&self, range: Range<usize>) -> String {
        let json = self.json.as_ref().and_then(|json| json.get(range)).unwrap_or_default();
        serde_json::from_slice(json).unwrap_or_else(|_| String::from_utf8_lossy(json).into_owned())
    }
}
