//! The chain of hashes: one link for each append, over all that is stored of it.
//!
//! `docs/postgres-store.md` has the bytes; the tests recompute them by another program.

use leftfold_core::store::{Checkpoint, CommandRecord, Hash, Label, RecordedEvent, Timestamp};
use sha2::{Digest as _, Sha256};

use super::payload;

/// An append as its link covers it.
#[derive(Debug)]
pub(super) struct Link<'a> {
    pub(super) number: u64,
    pub(super) recorded_at: Timestamp,
    pub(super) events: &'a [RecordedEvent],
    pub(super) command: Option<&'a CommandRecord>,
    pub(super) checkpoint: Option<(&'a Label, &'a Checkpoint)>,
}

/// Returns the hash of an append that follows one with the hash `before`.
pub(super) fn hash(before: Hash, link: &Link<'_>) -> Hash {
    let mut fields = HashedFields(Sha256::new());
    fields.bytes(&before.0);
    fields.link(link);
    Hash(fields.0.finalize().into())
}

/// Returns the bytes that are hashed behind the hash before.
pub(super) fn hashed(link: &Link<'_>) -> Vec<u8> {
    let mut fields = HashedFields(Vec::new());
    fields.link(link);
    fields.0
}

/// Taker of the bytes of fields: a hash, or a buffer.
trait FieldBytes {
    fn take(&mut self, bytes: &[u8]);
}

impl FieldBytes for Sha256 {
    fn take(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl FieldBytes for Vec<u8> {
    fn take(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Fields, each its length, 4 bytes from the highest, and its bytes.
struct HashedFields<T>(T);

impl<T: FieldBytes> HashedFields<T> {
    fn link(&mut self, link: &Link<'_>) {
        self.number(link.number);
        self.moment(link.recorded_at);
        self.number(link.events.len() as u64);
        for event in link.events {
            self.event(event);
        }
        match link.command {
            Some(record) => {
                self.bytes(&record.id.0);
                self.bytes(&record.digest.0);
                self.bytes(&record.answer);
            }
            None => self.nothing(),
        }
        match link.checkpoint {
            Some((consumer, checkpoint)) => {
                self.bytes(consumer.as_bytes());
                self.bytes(checkpoint.store.0.as_bytes());
                self.optional(checkpoint.partition.0.as_deref());
                self.number(checkpoint.position.0);
                self.bytes(&checkpoint.hash.0);
            }
            None => self.nothing(),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        // No field is longer than 16 MiB.
        self.0.take(&(bytes.len() as u32).to_be_bytes());
        self.0.take(bytes);
    }

    /// The length of what is not there.
    fn nothing(&mut self) {
        self.0.take(&u32::MAX.to_be_bytes());
    }

    fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.bytes(text.as_bytes()),
            None => self.nothing(),
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_be_bytes());
    }

    fn moment(&mut self, moment: Timestamp) {
        self.bytes(&moment.as_micros().to_be_bytes());
    }

    fn texts<'t>(&mut self, texts: impl ExactSizeIterator<Item = &'t str>) {
        self.number(texts.len() as u64);
        texts.for_each(|text| self.bytes(text.as_bytes()));
    }

    fn event(&mut self, event: &RecordedEvent) {
        self.number(event.position.0);
        self.optional(event.stream.as_ref().map(|at| &*at.name));
        self.number(event.version().0);
        self.bytes(event.event_type.as_bytes());
        self.number(u64::from(event.schema_version));
        self.bytes(event.id.0.as_bytes());
        self.bytes(payload::content_type_text(&event.content_type).as_bytes());
        self.bytes(&event.data);
        self.bytes(&event.metadata.user);
        self.texts(event.tags.iter().map(|tag| &**tag));
        self.optional(event.metadata.correlation.as_deref());
        self.optional(event.metadata.causation.as_deref());
        let trace = event.metadata.trace.as_ref();
        self.optional(trace.map(ToString::to_string).as_deref());
        self.optional(trace.map(|trace| trace.state()));
        self.texts(event.key_ids.iter().map(|key| &**key));
    }
}
