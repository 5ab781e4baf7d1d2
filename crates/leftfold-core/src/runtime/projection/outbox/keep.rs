//! What an outbox remembers, in the event store: a checkpoint record for where it stands, events for its other notes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fold::{Event, Schema, Unknown};
use crate::runtime::positions::{self, Owner, Positions, RewriteError, no_label};
use crate::runtime::projection::notes::{self, CHECKPOINTS, LaneNote, checkpoint_key};
use crate::store::{
    Append, AppendError, Authority, CheckpointRecord, Condition, Expected, Label, MoveFrom, NewEvent, Outcome, Position, Read,
    RecordedEvent, Store, StreamName, Version,
};

/// What an outbox noted, stored as `$outbox.…` in the stream `$outbox-NAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum OutboxEvent {
    /// Notes that changed, or were removed.
    Noted { notes: Vec<(String, Option<Vec<u8>>)> },
    /// All notes that there are: what came before need not be read.
    Gathered { notes: Vec<(String, Vec<u8>)> },
}

impl Event for OutboxEvent {
    const NAMESPACE: &'static str = "$outbox";
}

/// Notes of outboxes in a copy of the store.
pub(in crate::runtime) const OWNER: Owner = Owner { category: OutboxEvent::NAMESPACE, rewrite, label: no_label };

fn rewrite(record: &RecordedEvent, positions: &dyn Positions) -> Result<Option<NewEvent>, RewriteError> {
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
/// Bytes of notes beyond which they are not gathered: an event has a limit. Reading them takes longer then.
const GATHERED_BYTES_MAX: usize = 2 << 20;

/// The notes of one outbox.
#[derive(Debug)]
pub(super) struct Keep {
    store: Store,
    consumer: Label,
    stream: StreamName,
    version: Version,
    position: Position,
    notes: BTreeMap<String, Vec<u8>>,
    changed: BTreeMap<String, Option<Vec<u8>>>,
    since_gathering: u64,
}

impl Keep {
    pub(super) async fn load(store: Store, name: &str) -> Result<Self, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let consumer = Label::new(format!("$outbox:{name}")).map_err(|error| text(&error))?;
        let stream = StreamName::of("$outbox", name).map_err(|error| text(&error))?;
        let schema = Schema::of::<OutboxEvent>().map_err(|error| text(&error))?;
        let (mut notes, mut latest) = (BTreeMap::new(), BTreeMap::new());
        let (mut version, mut since_gathering) = (Version::ABSENT, 0);
        let mut events = store.read(Read::stream(stream.clone(), Version::END).backwards());
        'reading: while let Some(event) = events.next().await.map_err(|error| text(&error))? {
            version = version.max(event.version());
            since_gathering += 1;
            for said in schema.decode(&event, Unknown::Refuse).map_err(|error| text(&error))? {
                match said {
                    // From new to old: what is known already is newer.
                    OutboxEvent::Noted { notes } => notes.into_iter().for_each(|(key, value)| {
                        latest.entry(key).or_insert(value);
                    }),
                    OutboxEvent::Gathered { notes: all } => {
                        notes = all.into_iter().collect();
                        break 'reading;
                    }
                }
            }
        }
        for (key, value) in latest {
            match value {
                Some(value) => notes.insert(key, value),
                None => notes.remove(&key),
            };
        }
        let mut position = Position::START;
        if let Some(checkpoint) = store.checkpoint(consumer.clone()).await.map_err(|error| text(&error))? {
            position = checkpoint.position;
            let note = notes::encode(&LaneNote::new(&checkpoint, 1)).map_err(|error| error.to_string())?;
            notes.insert(checkpoint_key(0), note);
        }
        Ok(Self { store, consumer, stream, version, position, notes, changed: BTreeMap::new(), since_gathering })
    }

    pub(super) fn note(&mut self, key: &str, value: Option<&[u8]>) {
        self.changed.insert(key.to_owned(), value.map(<[u8]>::to_vec));
    }

    pub(super) fn undo(&mut self) {
        self.changed.clear();
    }

    pub(super) fn notes(&self, prefix: &str, after: Option<&str>, at_most: usize) -> Vec<(String, Vec<u8>)> {
        let meant = |key: &String| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after);
        let from = self.notes.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        let kept = from
            .filter(|(key, _)| meant(key) && !self.changed.contains_key(*key))
            .map(|(key, value)| (key.clone(), value.clone()));
        let changed = self.changed.iter().filter(|(key, _)| meant(key));
        let changed = changed.filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        let mut all: Vec<_> = kept.chain(changed).collect();
        all.sort_unstable();
        all.truncate(at_most);
        all
    }

    /// Records the notes that changed, and where the outbox stands, in one append that only the one can make who knows
    /// the last one.
    pub(super) async fn commit(&mut self) -> Result<(), String> {
        let mut changed: Vec<(String, Option<Vec<u8>>)> = self.changed.clone().into_iter().collect();
        let stands = changed.iter().position(|(key, _)| key.starts_with(CHECKPOINTS)).map(|at| changed.remove(at));
        let mut append = Append::default().by(Authority::RUNTIME);
        let mut position = self.position;
        if let Some((key, Some(value))) = &stands {
            let checkpoint = notes::decode::<LaneNote>(key, value).map_err(|error| error.to_string())?.checkpoint();
            let from = MoveFrom::Exactly(self.position);
            position = checkpoint.position;
            append.checkpoint = Some(CheckpointRecord { consumer: self.consumer.clone(), from, checkpoint });
        }
        let mut gathers = false;
        if !changed.is_empty() {
            gathers = self.since_gathering >= EVENTS_PER_GATHERING && self.bytes() <= GATHERED_BYTES_MAX;
            let event = if gathers { self.gathered(&changed) } else { OutboxEvent::Noted { notes: changed } };
            let schema = Schema::of::<OutboxEvent>().map_err(|error| error.to_string())?;
            let event = schema.encode(&event).map_err(|error| error.to_string())?;
            append.events.push(event.in_stream(self.stream.clone()));
            append.condition = Condition::stream(self.stream.clone(), Expected::Exact(self.version));
        }
        let events = append.events.len() as u64;
        if events == 0 && append.checkpoint.is_none() {
            return Ok(());
        }
        match self.store.append(append).await {
            Ok(Outcome::Appended(_)) => {}
            Ok(Outcome::Conflict(conflict)) => return Err(format!("another process keeps it: {conflict}")),
            Ok(Outcome::Repeated(_)) => return Err("the store took it for a request".to_owned()),
            Err(error @ AppendError::CheckpointMoved { .. }) => return Err(format!("another process keeps it: {error}")),
            Err(error) => return Err(error.to_string()),
        }
        (self.position, self.version) = (position, Version(self.version.0 + events));
        self.since_gathering = if gathers { 1 } else { self.since_gathering + events };
        for (key, value) in std::mem::take(&mut self.changed) {
            match value {
                Some(value) => self.notes.insert(key, value),
                None => self.notes.remove(&key),
            };
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.notes.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    fn gathered(&self, changed: &[(String, Option<Vec<u8>>)]) -> OutboxEvent {
        let mut all = self.notes.clone();
        for (key, value) in changed.iter().cloned() {
            match value {
                Some(value) => all.insert(key, value),
                None => all.remove(&key),
            };
        }
        all.retain(|key, _| !key.starts_with(CHECKPOINTS));
        OutboxEvent::Gathered { notes: all.into_iter().collect() }
    }
}
