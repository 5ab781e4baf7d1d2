//! Notes of an outbox, in the event store: a checkpoint record for its position, events
//! for its other notes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fold::{Event, Schema, Unknown};
use crate::runtime::positions::{self, Owner, Positions, RewriteError, no_label};
use crate::runtime::projection::ProjectionError;
use crate::runtime::projection::notes::{
    self, CHECKPOINTS, LaneNote, checkpoint_key, parked_key, skipped_key,
};
use crate::runtime::projection::parked::{Parked, ParkedState};
use crate::store::limits::APPEND_BYTES_MAX;
use crate::store::{
    Append, AppendError, Authority, CheckpointRecord, Condition, Expected, Fence, Invalid, Label,
    MoveFrom, NewEvent, Outcome, Position, Read, RecordedEvent, Store, StreamName, Version,
};

/// Notes of an outbox, stored as `$outbox.…` in the stream `$outbox-NAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum OutboxEvent {
    /// Notes that changed, or were removed.
    Noted { notes: Vec<(String, Option<Vec<u8>>)> },
    /// All notes that there are: earlier events need not be read.
    Gathered { notes: Vec<(String, Vec<u8>)> },
}

impl Event for OutboxEvent {
    const NAMESPACE: &'static str = "$outbox";
}

/// Notes of outboxes in a copy of the store.
pub(in crate::runtime) const OWNER: Owner =
    Owner { category: OutboxEvent::NAMESPACE, rewrite, label: no_label };

fn rewrite(
    record: &RecordedEvent,
    positions: &dyn Positions,
) -> Result<Option<NewEvent>, RewriteError> {
    let mut failed = None;
    let mut moved = |key: &str, value: Option<&[u8]>| {
        notes::moved(key, value, positions).unwrap_or_else(|why| {
            failed.get_or_insert(why);
            None
        })
    };
    let rewritten = positions::changed(record, |event: &mut OutboxEvent| match event {
        OutboxEvent::Noted { notes } => {
            *notes = notes.iter().filter_map(|(key, value)| moved(key, value.as_deref())).collect();
        }
        OutboxEvent::Gathered { notes } => {
            let all = notes.iter().filter_map(|(key, value)| moved(key, Some(value)));
            *notes = all.filter_map(|(key, value)| Some((key, value?))).collect();
        }
    })?;
    failed.map_or(Ok(Some(rewritten)), |why| Err(RewriteError::Detail(why)))
}

/// Events after which all notes are gathered in one.
const EVENTS_PER_GATHERING: u64 = 500;
/// Bytes of notes beyond which they are not gathered: an event has a limit. Reading them takes
/// longer then.
const GATHERED_BYTES_MAX: usize = 2 << 20;
/// Bytes of notes in one event; more go into several.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// Bytes of notes in one append, each of which takes up to four in JSON.
const NOTED_BYTES_MAX: usize = APPEND_BYTES_MAX / 6;

/// The notes of one outbox.
#[derive(Debug)]
pub(super) struct OutboxNotes {
    store: Store,
    consumer: Label,
    stream: StreamName,
    version: Version,
    position: Position,
    notes: BTreeMap<String, Vec<u8>>,
    changed: BTreeMap<String, Option<Vec<u8>>>,
    since_gathering: u64,
    /// Substitutes for records that cannot be read, by the keys of notes that nobody wrote.
    unreadable: BTreeMap<String, Vec<u8>>,
}

/// Reason why notes are not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotesError {
    /// Whatever is tried, the store does not take them.
    #[error("{bytes} bytes of notes in one transaction, {NOTED_BYTES_MAX} at most")]
    TooMany { bytes: usize },
    #[error(transparent)]
    Invalid(Invalid),
    /// Another has the work.
    #[error("another runtime has the outbox")]
    Fenced,
    #[error("{0}")]
    Away(String),
}

impl OutboxNotes {
    pub(super) async fn load(store: Store, name: &str) -> Result<Self, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let consumer = consumer(name).map_err(|error| text(&error))?;
        let stream = StreamName::of("$outbox", name).map_err(|error| text(&error))?;
        let schema = Schema::of::<OutboxEvent>().map_err(|error| text(&error))?;
        let (mut notes, mut latest, mut unreadable) =
            (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let (mut version, mut since_gathering) = (Version::ABSENT, 0);
        let mut events = store.read(Read::stream(stream.clone(), Version::END).backwards());
        'reading: while let Some(event) = events.next().await.map_err(|error| text(&error))? {
            version = version.max(event.version());
            since_gathering += 1;
            match schema.decode(&event, Unknown::Refuse) {
                Ok(said) => {
                    for said in said {
                        match said {
                            // From new to old: what is known already is newer.
                            OutboxEvent::Noted { notes } => {
                                notes.into_iter().for_each(|(key, value)| {
                                    latest.entry(key).or_insert(value);
                                })
                            }
                            OutboxEvent::Gathered { notes: all } => {
                                notes = all.into_iter().collect();
                                break 'reading;
                            }
                        }
                    }
                }
                Err(error) => unreadable.push((event.position, error.to_string())),
            }
        }
        for (key, value) in latest {
            match value {
                Some(value) => notes.insert(key, value),
                None => notes.remove(&key),
            };
        }
        // A person may have said that such a record does not matter.
        unreadable.retain(|(position, _)| !notes.contains_key(&skipped_key(*position)));
        let unreadable =
            unreadable.iter().map(|(position, error)| stands_for(&stream, *position, error));
        let unreadable = unreadable.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let mut position = Position::START;
        if let Some(checkpoint) =
            store.checkpoint(consumer.clone()).await.map_err(|error| text(&error))?
        {
            position = checkpoint.position;
            let note =
                notes::encode(&LaneNote::new(&checkpoint, 1)).map_err(|error| error.to_string())?;
            notes.insert(checkpoint_key(0), note);
        }
        let changed = BTreeMap::new();
        Ok(Self {
            store,
            consumer,
            stream,
            version,
            position,
            notes,
            changed,
            since_gathering,
            unreadable,
        })
    }

    pub(super) fn note(&mut self, key: &str, value: Option<&[u8]>) {
        self.changed.insert(key.to_owned(), value.map(<[u8]>::to_vec));
    }

    pub(super) fn undo(&mut self) {
        self.changed.clear();
    }

    pub(super) fn notes(
        &self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> Vec<(String, Vec<u8>)> {
        let meant = |key: &String| {
            key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)
        };
        let from =
            self.notes.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        let kept = from
            .filter(|(key, _)| meant(key) && !self.changed.contains_key(*key))
            .map(|(key, value)| (key.clone(), value.clone()));
        let unreadable = self
            .unreadable
            .iter()
            .filter(|(key, _)| meant(key) && !self.changed.contains_key(*key));
        let unreadable = unreadable.map(|(key, value)| (key.clone(), value.clone()));
        let changed = self.changed.iter().filter(|(key, _)| meant(key));
        let changed = changed.filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        let mut all: Vec<_> = kept.chain(unreadable).chain(changed).collect();
        all.sort_unstable();
        all.truncate(at_most);
        all
    }

    /// Checks that the store can take the new notes: called before anything is sent.
    pub(super) fn check(&self) -> Result<(), NotesError> {
        let bytes = self.changed.iter().map(|(key, value)| size(key, value.as_deref())).sum();
        if bytes > NOTED_BYTES_MAX { Err(NotesError::TooMany { bytes }) } else { Ok(()) }
    }

    /// Records the notes that changed, and the outbox's position, in one append that succeeds only
    /// if no other runtime has recorded one since.
    pub(super) async fn commit(&mut self, fence: Option<(Label, Fence)>) -> Result<(), NotesError> {
        let away = |error: &dyn std::fmt::Display| NotesError::Away(error.to_string());
        let mut changed: Vec<(String, Option<Vec<u8>>)> =
            self.changed.clone().into_iter().collect();
        // The note of where the lane stands becomes the checkpoint of the append.
        let stands = changed
            .iter()
            .position(|(key, _)| key.starts_with(CHECKPOINTS))
            .map(|at| changed.remove(at));
        let mut append = Append { fence, ..Append::default() }.by(Authority::RUNTIME);
        let mut position = self.position;
        if let Some((key, Some(value))) = &stands {
            let checkpoint =
                notes::decode::<LaneNote>(key, value).map_err(|error| away(&error))?.checkpoint();
            let from = MoveFrom::Exactly(self.position);
            position = checkpoint.position;
            append.checkpoint =
                Some(CheckpointRecord { consumer: self.consumer.clone(), from, checkpoint });
        }
        // Now and then all notes are gathered into one event, from which later reading begins. What
        // cannot be read now may be read by a later release, and must not be left out by it.
        let gathers = !changed.is_empty()
            && self.since_gathering >= EVENTS_PER_GATHERING
            && self.unreadable.is_empty();
        let gathered = gathers
            .then(|| self.gathered(&changed))
            .filter(|(_, bytes)| *bytes <= GATHERED_BYTES_MAX);
        let gathers = gathered.is_some();
        let schema = Schema::of::<OutboxEvent>().map_err(|error| away(&error))?;
        for event in gathered.map_or_else(|| noted(changed), |(event, _)| vec![event]) {
            let event = schema.encode(&event).map_err(|error| away(&error))?;
            append.events.push(event.in_stream(self.stream.clone()));
            append.condition =
                Condition::stream(self.stream.clone(), Expected::Exact(self.version));
        }
        let events = append.events.len() as u64;
        if events == 0 && append.checkpoint.is_none() {
            return Ok(());
        }
        // One append, so that a note is never without the checkpoint it came with.
        match self.store.append(append).await {
            Ok(Outcome::Appended(_)) => {}
            Ok(Outcome::Conflict(conflict)) => {
                return Err(NotesError::Away(format!("another process keeps it: {conflict}")));
            }
            Ok(Outcome::Repeated(_)) => {
                return Err(NotesError::Away("the store took it for a request".to_owned()));
            }
            Err(error @ AppendError::CheckpointMoved { .. }) => {
                return Err(NotesError::Away(format!("another process keeps it: {error}")));
            }
            Err(AppendError::Fenced { .. }) => return Err(NotesError::Fenced),
            Err(AppendError::Invalid(invalid)) => return Err(NotesError::Invalid(invalid)),
            Err(error) => return Err(away(&error)),
        }
        // Only what is durable is taken in.
        (self.position, self.version) = (position, Version(self.version.0 + events));
        self.since_gathering = if gathers { 1 } else { self.since_gathering + events };
        for (key, value) in std::mem::take(&mut self.changed) {
            self.unreadable.remove(&key);
            match value {
                Some(value) => self.notes.insert(key, value),
                None => self.notes.remove(&key),
            };
        }
        Ok(())
    }

    /// Returns all notes as they are to be, and the number of their bytes.
    fn gathered(&self, changed: &[(String, Option<Vec<u8>>)]) -> (OutboxEvent, usize) {
        let mut all = self.notes.clone();
        for (key, value) in changed.iter().cloned() {
            match value {
                Some(value) => all.insert(key, value),
                None => all.remove(&key),
            };
        }
        all.retain(|key, _| !key.starts_with(CHECKPOINTS));
        let bytes = all.iter().map(|(key, value)| size(key, Some(value))).sum();
        (OutboxEvent::Gathered { notes: all.into_iter().collect() }, bytes)
    }
}

/// Returns the name of the outbox in the store: as a consumer, and as work that is leased.
pub(in crate::runtime::projection) fn consumer(name: &str) -> Result<Label, Invalid> {
    Label::new(format!("$outbox:{name}"))
}

/// A parked item, and its key, in place of a record of the outbox that cannot be read.
fn stands_for(
    stream: &StreamName,
    position: Position,
    error: &str,
) -> Result<(String, Vec<u8>), ProjectionError> {
    let error =
        format!("what the outbox noted at {position} cannot be read, upgrade, or skip it: {error}");
    let (key, state) = (stream.to_string(), ParkedState::unreadable(&error));
    let note = parked_key(&key, position);
    let parked = Parked { position, stream: key.clone(), key, state };
    Ok((note, notes::encode(&parked)?))
}

fn size(key: &str, value: Option<&[u8]>) -> usize {
    key.len() + value.map_or(0, <[u8]>::len)
}

/// Notes that changed, in as many events as they need.
fn noted(changed: Vec<(String, Option<Vec<u8>>)>) -> Vec<OutboxEvent> {
    let (mut all, mut notes, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (key, value) in changed {
        let more = size(&key, value.as_deref());
        if bytes + more > EVENT_BYTES_MAX && !notes.is_empty() {
            all.push(OutboxEvent::Noted { notes: std::mem::take(&mut notes) });
            bytes = 0;
        }
        bytes += more;
        notes.push((key, value));
    }
    if !notes.is_empty() {
        all.push(OutboxEvent::Noted { notes });
    }
    all
}
