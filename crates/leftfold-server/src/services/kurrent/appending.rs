//! Appends: expected revisions against what is there, and the ids of events that were sent before.
//!
//! The same events again are answered as the first time. Under a revision, or no stream, they are
//! compared with those that stand there; under any, or an existing stream, they are looked up by
//! their ids. A part of them that is there already makes the revision a wrong one. Two calls with
//! the same events at the same time are told apart by a command id made of the ids.
//!
//! | expected | there are | first id known | answer |
//! | --- | --- | --- | --- |
//! | any | | no | appended |
//! | any, exists | | yes, and all others | as the first time |
//! | any, exists | | yes, not all others | wrong revision |
//! | exists | none, and no metadata | no | wrong revision |
//! | no stream | none, or deleted | not where a stream begins | appended |
//! | no stream | any, or deleted | all where the stream began, or came back | as the first time |
//! | a revision | as many | | appended |
//! | a revision | more | all at their places | as the first time |
//! | a revision, no stream | more | not all | wrong revision |
//! | a revision | fewer | | wrong revision |

use bytes::Bytes;
use leftfold::store::{
    Append, Appended, CommandId, CommandRecord, Condition, Conflict, ContentType, Digest, EventId,
    Expected, NewEvent, Outcome, Position, Query, Read, RecordedEvent, StreamName, Version,
};
use serde_json::{Map, Value};
use tonic::Status;
use uuid::Uuid;

use super::Facade;
use super::expected::ExpectedRevision;
use super::faults;
use super::indexed::IndexedStream;
use super::marks::{ALL_TRUNCATED, StreamMark};
use super::names::{self, DELETED_TYPE, METADATA_TYPE, NamedStream};

/// Times that an append is tried anew because others wrote in between.
const TRIES_MAX: usize = 100;
/// Events with one id that are looked at.
const SAME_IDS_MAX: u32 = 64;
/// Scope of the command ids of appends.
const APPENDS: &str = "kurrent append";

/// Events for a stream, and its expected state.
#[derive(Clone, Debug)]
pub(super) struct StreamAppend {
    pub(super) stream: NamedStream,
    pub(super) expected: ExpectedRevision,
    pub(super) events: Vec<NewEvent>,
}

/// Outcome of an append for one of its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Revision of the last event; `None` if the stream has none.
    pub(super) revision: Option<u64>,
    /// Position of the last event; `None` if nothing was written.
    pub(super) position: Option<Position>,
}

/// Outcome for a part without events.
const NOTHING_WRITTEN: Written = Written { revision: None, position: None };

/// Answer to an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PartsAnswer {
    /// Each part is stored, now or before.
    Written(Vec<Written>),
    /// A part has another revision than expected; `None` if its stream has no events.
    WrongRevision { part: usize, current: Option<u64> },
    /// The stream of a part is deleted, for ever unless the part expects an existing one.
    Deleted { part: usize },
}

/// Reason why an append is to be tried anew.
struct Overtaken;

/// Marks of the stream of a part, and of the one whose metadata it has, or of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PartMarks {
    own: StreamMark,
    owner: StreamMark,
}

/// An append to the store in the making.
#[derive(Debug, Default)]
struct Draft {
    append: Append,
    /// The part that each expectation judges; `None` for one that fails if others were faster.
    judged: Vec<Option<usize>>,
    /// Number of the last event of each part.
    last_events: Vec<Option<usize>>,
    revivals: Vec<Revival>,
}

/// A deleted stream that comes back.
#[derive(Debug)]
struct Revival {
    stream: NamedStream,
    /// Version from which on it is shown.
    version: Version,
    /// Version of its metadata until now.
    metadata: Version,
}

impl Draft {
    fn expect(&mut self, stream: StreamName, expected: Expected, judged: Option<usize>) {
        let clause = (stream, expected);
        if !self.append.condition.streams.contains(&clause) {
            self.append.condition.streams.push(clause);
            self.judged.push(judged);
        }
    }

    fn revive(&mut self, stream: NamedStream, version: Version, metadata: Version) {
        if self.revivals.iter().all(|revival| revival.stream != stream) {
            self.revivals.push(Revival { stream, version, metadata });
        }
    }
}

impl Facade {
    /// Appends all parts, which are of different streams, or none.
    pub(super) async fn append(&self, parts: &[StreamAppend]) -> Result<PartsAnswer, Status> {
        self.may_append(parts.iter().map(|part| (&part.stream, part.expected)))?;
        for part in parts {
            self.refuse_indexed(&part.stream)?;
        }
        let events = parts.iter().flat_map(|part| part.events.iter().cloned());
        self.paced(&Append::of(events.collect())).await?;
        if parts.iter().any(|part| part.expected.looks_up_ids() && !part.events.is_empty())
            && let Some(answer) = self.known_by_ids(parts).await?
        {
            return Ok(answer);
        }
        if parts.iter().all(|part| part.events.is_empty()) {
            self.refresh_to_end().await?;
        }
        for _ in 0..TRIES_MAX {
            let marks = self.marks_of(parts);
            let tried = self.try_append(parts, &marks).await?;
            if let Ok(written @ PartsAnswer::Written(_)) = tried {
                return Ok(written);
            }
            self.refresh_to_end().await?;
            if let Ok(refusal) = tried
                && self.marks_of(parts) == marks
            {
                return Ok(refusal);
            }
        }
        Err(Status::aborted("Operation timed out: others write into the streams all the time"))
    }

    /// Streams that the index answers have no events of their own, and those of parked events are
    /// the server's: metadata of theirs would hide what is parked.
    fn refuse_indexed(&self, stream: &NamedStream) -> Result<(), Status> {
        let is_answered =
            stream.shown == names::STREAMLESS || IndexedStream::named(&stream.shown).is_some();
        let is_parked = names::parked_in(&stream.owner().shown).is_some();
        if is_answered || is_parked { Err(faults::access_denied()) } else { Ok(()) }
    }

    async fn try_append(
        &self,
        parts: &[StreamAppend],
        marks: &[PartMarks],
    ) -> Result<Result<PartsAnswer, Overtaken>, Status> {
        let is_gone = |(of, marks): (&StreamAppend, &PartMarks)| {
            let is_deleted = marks.own.is_deleted();
            marks.own.is_tombstoned
                || marks.owner.is_tombstoned
                || (is_deleted && of.expected == ExpectedRevision::StreamExists)
        };
        if let Some(part) = parts.iter().zip(marks).position(is_gone) {
            return Ok(Ok(PartsAnswer::Deleted { part }));
        }
        if parts.iter().all(|part| part.events.is_empty()) {
            return self.judge_empty(parts, marks).await.map(Ok);
        }
        // No expectation of the store fails for a deleted stream that may come back.
        let may_return = |(of, marks): (&StreamAppend, &PartMarks)| {
            marks.own.is_deleted() && of.expected == ExpectedRevision::NoStream
        };
        if parts.iter().zip(marks).any(may_return)
            && let Some(answer) = self.known_by_places(parts).await?
        {
            return Ok(Ok(answer));
        }
        let Draft { append, judged, last_events, .. } = self.drafted(parts, marks).await?;
        let clauses = append.condition.streams.clone();
        match self.append_noted(append).await? {
            Outcome::Appended(appended) => {
                let written = last_events.iter().map(|last| written(&appended, *last));
                let written = written.collect::<Vec<_>>();
                self.with_versions(parts, written).await.map(Ok)
            }
            // The same call at the same time: its events are there now.
            Outcome::Repeated(_) => {
                let known = self.known_by_ids(parts).await?;
                Ok(known.ok_or(Overtaken))
            }
            Outcome::Conflict(Conflict::Stream { stream, expected, actual }) => {
                let failed = (stream, expected);
                let failed = clauses.iter().position(|clause| *clause == failed);
                match failed.and_then(|failed| judged[failed]) {
                    Some(part) => self.conflicted(parts, part, actual).await.map(Ok),
                    None => Ok(Err(Overtaken)),
                }
            }
            Outcome::Conflict(Conflict::Matching { .. }) => Ok(Err(Overtaken)),
        }
    }

    fn marks_of(&self, parts: &[StreamAppend]) -> Vec<PartMarks> {
        let marks = parts.iter().map(|part| PartMarks {
            own: self.marks.of(&part.stream.name),
            owner: self.marks.of(&part.stream.owner().name),
        });
        marks.collect()
    }

    /// Makes the append of parts that is right under their marks, on condition that these hold.
    async fn drafted(&self, parts: &[StreamAppend], marks: &[PartMarks]) -> Result<Draft, Status> {
        let mut draft = Draft::default();
        for (part, (of, marks)) in parts.iter().zip(marks).enumerate() {
            let is_empty = of.events.is_empty();
            let (mut expected, mut judged) = (stored_expectation(of.expected, &marks.own), true);
            if marks.own.is_deleted() && !is_empty {
                let version = match of.expected {
                    ExpectedRevision::Revision(revision) => Version(revision.saturating_add(1)),
                    _ => self.version(&of.stream.name).await?,
                };
                judged = matches!(of.expected, ExpectedRevision::Revision(_));
                expected = Expected::Exact(version);
                draft.revive(of.stream.clone(), version, marks.own.version);
            } else if marks.own.is_deleted() && expected == Expected::Absent {
                expected = Expected::Any;
            }
            // First the marks: if they are old, the expectation may be a wrong one.
            draft.expect(of.stream.metadata(), Expected::Exact(marks.own.version), None);
            draft.expect(of.stream.name.clone(), expected, judged.then_some(part));
            if of.stream.is_metadata() && !is_empty {
                draft.expect(of.stream.name.clone(), Expected::Exact(marks.owner.version), None);
            }
            // Metadata brings a deleted stream back too, without what it had.
            if of.stream.is_metadata() && !is_empty && marks.owner.is_deleted() {
                let owner = of.stream.owner();
                let version = self.version(&owner.name).await?;
                draft.expect(owner.name.clone(), Expected::Exact(version), None);
                draft.revive(owner, version, marks.owner.version);
            }
            draft.append.events.extend(
                of.events.iter().cloned().map(|event| event.in_stream(of.stream.name.clone())),
            );
            draft.last_events.push((!is_empty).then(|| draft.append.events.len() - 1));
        }
        for Revival { stream, version, metadata } in std::mem::take(&mut draft.revivals) {
            let name = stream.metadata();
            let sent = parts.iter().find(|part| part.stream.name == name);
            let before = match sent.and_then(|part| part.events.last()) {
                Some(event) => event.data.clone(),
                None => self.metadata_at(name, metadata).await?,
            };
            draft.append.events.push(metadata_event(&stream, shown_from(&before, version)));
        }
        draft.append.command = command_of(parts);
        Ok(draft)
    }

    /// Returns the data of the event of a metadata stream at a version.
    async fn metadata_at(&self, stream: StreamName, version: Version) -> Result<Bytes, Status> {
        let read = Read::stream(stream, version).page_of(1);
        let page = self.store.page(read).await.map_err(faults::unread)?;
        Ok(page.events.into_iter().next().map(|event| event.data).unwrap_or_default())
    }

    pub(super) async fn version(&self, stream: &StreamName) -> Result<Version, Status> {
        self.store.version(stream.clone()).await.map_err(faults::unread)
    }

    /// Answers an append without events, which only asks if the streams are as expected.
    async fn judge_empty(
        &self,
        parts: &[StreamAppend],
        marks: &[PartMarks],
    ) -> Result<PartsAnswer, Status> {
        let mut written = Vec::with_capacity(parts.len());
        for (part, (of, PartMarks { own, .. })) in parts.iter().zip(marks).enumerate() {
            let version = self.version(&of.stream.name).await?;
            let is_absent = own.is_deleted() && of.expected == ExpectedRevision::NoStream;
            if !is_absent && !stored_expectation(of.expected, own).holds(version) {
                return Ok(PartsAnswer::WrongRevision { part, current: revision(version) });
            }
            written.push(Written { revision: revision(version), position: None });
        }
        Ok(PartsAnswer::Written(written))
    }

    /// Fills in the revisions of parts without events.
    async fn with_versions(
        &self,
        parts: &[StreamAppend],
        mut written: Vec<Written>,
    ) -> Result<PartsAnswer, Status> {
        for (part, written) in parts.iter().zip(&mut written) {
            if part.events.is_empty() {
                written.revision = revision(self.version(&part.stream.name).await?);
            }
        }
        Ok(PartsAnswer::Written(written))
    }

    /// Answers an append whose part found another version than it expected: the same events may
    /// stand there already.
    async fn conflicted(
        &self,
        parts: &[StreamAppend],
        part: usize,
        actual: Version,
    ) -> Result<PartsAnswer, Status> {
        let known = self.known_by_places(parts).await?;
        Ok(known.unwrap_or(PartsAnswer::WrongRevision { part, current: revision(actual) }))
    }

    /// Looks for the events of all parts where their expected revisions put them. `None` unless all
    /// stand there.
    async fn known_by_places(&self, parts: &[StreamAppend]) -> Result<Option<PartsAnswer>, Status> {
        let mut written = Vec::with_capacity(parts.len());
        for part in parts {
            written.push(match self.stands(part).await? {
                Some(found) => found,
                None => return Ok(None),
            });
        }
        self.with_versions(parts, written).await.map(Some)
    }

    /// Returns the place of the last event if the events of a part stand where its expected
    /// revision puts them.
    async fn stands(&self, part: &StreamAppend) -> Result<Option<Written>, Status> {
        if part.events.is_empty() {
            return Ok(Some(NOTHING_WRITTEN));
        }
        match part.expected {
            ExpectedRevision::Any | ExpectedRevision::StreamExists => Ok(None),
            ExpectedRevision::Revision(revision) => {
                self.stands_at(part, Version(revision.saturating_add(1))).await
            }
            ExpectedRevision::NoStream => {
                let found = self.stands_at(part, Version::ABSENT).await?;
                if found.is_some() { Ok(found) } else { self.stands_at_a_return(part).await }
            }
        }
    }

    /// Returns the place of the last event if the events of a part brought their stream back when
    /// it was deleted.
    async fn stands_at_a_return(&self, part: &StreamAppend) -> Result<Option<Written>, Status> {
        let (name, first) = (&part.stream.name, part.events.first().and_then(|event| event.id));
        if self.marks.of(name).version == Version::ABSENT {
            return Ok(None);
        }
        let Some(first) = first else { return Ok(None) };
        for found in self.found_by_id(name, first).await? {
            let before = Version(found.version().0.saturating_sub(1));
            let Some(deleted_at) = self.deleted_before(&part.stream, found.position).await? else {
                continue;
            };
            let page = Read::stream(name.clone(), before).page_of(1);
            let page = self.store.page(page).await.map_err(faults::unread)?;
            // Between the deletion and the first event that brought the stream back is none.
            let is_first = page.events.first().is_none_or(|last| last.position < deleted_at);
            if is_first && let Some(written) = self.stands_at(part, before).await? {
                return Ok(Some(written));
            }
        }
        Ok(None)
    }

    /// Returns the position of the deletion after which a stream was deleted right before a
    /// position; `None` if it was not.
    async fn deleted_before(
        &self,
        stream: &NamedStream,
        at: Position,
    ) -> Result<Option<Position>, Status> {
        let one_back = Read::matching(Query::stream(stream.metadata()), at).backwards().page_of(1);
        let mut next = Some(one_back.what.clone());
        while let Some(what) = next {
            let read = Read { what, ..one_back.clone() };
            let page = self.store.page(read).await.map_err(faults::unread)?;
            if let Some(event) = page.events.first() {
                let is_deleted = StreamMark::default().after(event).is_deleted();
                return Ok(is_deleted.then_some(event.position));
            }
            next = page.next;
        }
        Ok(None)
    }

    /// Returns the place of the last event if the events of a part stand right after a version.
    async fn stands_at(
        &self,
        part: &StreamAppend,
        before: Version,
    ) -> Result<Option<Written>, Status> {
        let mut wanted = part.events.iter().map(|event| event.id);
        let mut next = Some(Read::stream(part.stream.name.clone(), before.next()).what);
        let mut last = None;
        let mut left = part.events.len();
        while let Some(what) = next.filter(|_| left > 0) {
            let count = u32::try_from(left).unwrap_or(u32::MAX).min(Read::PAGE_EVENTS);
            let read = Read { what, ..Read::matching(Query::nothing(), Position::START) };
            let page = self.store.page(read.page_of(count)).await.map_err(faults::unread)?;
            for event in &page.events {
                if wanted.next() != Some(Some(event.id)) {
                    return Ok(None);
                }
                (last, left) = (Some(place(event)), left - 1);
            }
            next = page.next;
        }
        Ok(last.filter(|_| left == 0))
    }

    /// Looks the events of parts up by their ids, if a part does not say where they stand. `None`
    /// if the first one is new.
    async fn known_by_ids(&self, parts: &[StreamAppend]) -> Result<Option<PartsAnswer>, Status> {
        let mut written = Vec::with_capacity(parts.len());
        let mut is_first = true;
        for (at, part) in parts.iter().enumerate() {
            let mut last = None;
            for event in &part.events {
                let Some(id) = event.id else { return Ok(None) };
                match self.found_by_id(&part.stream.name, id).await?.first() {
                    Some(found) => last = Some(place(found)),
                    None if is_first => return Ok(None),
                    None => {
                        let current = revision(self.version(&part.stream.name).await?);
                        return Ok(Some(PartsAnswer::WrongRevision { part: at, current }));
                    }
                }
                is_first = false;
            }
            written.push(last.unwrap_or(NOTHING_WRITTEN));
        }
        self.with_versions(parts, written).await.map(Some)
    }

    /// Returns the events of a stream that have an id.
    async fn found_by_id(
        &self,
        stream: &StreamName,
        id: EventId,
    ) -> Result<Vec<RecordedEvent>, Status> {
        let positions = self.store.positions_of(id, SAME_IDS_MAX).await.map_err(faults::unread)?;
        let mut found = Vec::new();
        for position in positions {
            let read = Read::matching(Query::stream(stream.clone()), position).page_of(1);
            let page = self.store.page(read).await.map_err(faults::unread)?;
            found.extend(page.events.into_iter().filter(|event| event.position == position));
        }
        Ok(found)
    }

    /// Deletes a stream, until somebody appends to it or for ever. `None` if it is deleted for ever
    /// already.
    pub(super) async fn delete(
        &self,
        stream: &NamedStream,
        expected: ExpectedRevision,
        for_ever: bool,
    ) -> Result<Deletion, Status> {
        self.may_append([(stream, expected)])?;
        self.refuse_indexed(stream)?;
        for _ in 0..TRIES_MAX {
            self.refresh_to_end().await?;
            let mark = self.marks.of(&stream.name);
            if mark.is_tombstoned
                || (mark.is_deleted() && expected == ExpectedRevision::StreamExists)
            {
                return Ok(Deletion::DeletedBefore);
            }
            let mut event = metadata_event(stream, format!("{{\"$tb\":{ALL_TRUNCATED}}}"));
            if for_ever {
                event.event_type = names::own_type(DELETED_TYPE);
                event.data = Bytes::new();
                event.content_type = ContentType::Binary;
            }
            let is_absent = mark.is_deleted() && expected == ExpectedRevision::NoStream;
            let on_stream =
                if is_absent { Expected::Any } else { stored_expectation(expected, &mark) };
            let condition = Condition::stream(stream.metadata(), Expected::Exact(mark.version))
                .and_stream(stream.name.clone(), on_stream);
            let append = Append::of(vec![event]).when(condition);
            match self.append_noted(append).await? {
                Outcome::Appended(appended) => return Ok(Deletion::Deleted(appended.last())),
                Outcome::Conflict(Conflict::Stream { stream: of, actual, .. })
                    if of == stream.name =>
                {
                    self.refresh_to_end().await?;
                    if self.marks.of(&stream.name) == mark {
                        return Ok(Deletion::WrongRevision(revision(actual)));
                    }
                }
                Outcome::Conflict(_) | Outcome::Repeated(_) => {}
            }
        }
        Err(Status::aborted("Operation timed out: others write into the stream all the time"))
    }
}

/// Answer to a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deletion {
    Deleted(Position),
    WrongRevision(Option<u64>),
    DeletedBefore,
}

/// Metadata of a stream, which this room writes itself.
fn metadata_event(stream: &NamedStream, data: String) -> NewEvent {
    let mut event =
        NewEvent::new(names::own_type(METADATA_TYPE), data).in_stream(stream.metadata());
    event.id = Some(EventId(Uuid::new_v4()));
    event
}

/// Returns metadata with which a stream is shown from a version on.
fn shown_from(before: &[u8], version: Version) -> String {
    let mut metadata: Map<String, Value> = serde_json::from_slice(before).unwrap_or_default();
    metadata.insert("$tb".to_owned(), version.0.into());
    Value::Object(metadata).to_string()
}

/// The version of the store that is expected of a stream with these marks, which has events.
fn stored_expectation(expected: ExpectedRevision, mark: &StreamMark) -> Expected {
    match expected {
        ExpectedRevision::Any => Expected::Any,
        // A stream that has only metadata exists too.
        ExpectedRevision::StreamExists if mark.version > Version::ABSENT => Expected::Any,
        ExpectedRevision::StreamExists => Expected::Exists,
        ExpectedRevision::NoStream => Expected::Absent,
        ExpectedRevision::Revision(revision) => {
            Expected::Exact(Version(revision.saturating_add(1)))
        }
    }
}

/// The command id of an append whose events are known by their ids alone.
fn command_of(parts: &[StreamAppend]) -> Option<CommandRecord> {
    parts.iter().find(|part| part.expected.looks_up_ids())?;
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.stream.shown.len() as u64).to_le_bytes());
        hasher.update(part.stream.shown.as_bytes());
        hasher.update(&(part.events.len() as u64).to_le_bytes());
        for id in part.events.iter().filter_map(|event| event.id) {
            hasher.update(id.0.as_bytes());
        }
    }
    let id = CommandId::new(APPENDS, &hasher.finalize().to_hex());
    Some(CommandRecord { id, digest: Digest::UNCHECKED, answer: Bytes::new() })
}

fn revision(version: Version) -> Option<u64> {
    version.0.checked_sub(1)
}

fn place(event: &RecordedEvent) -> Written {
    Written { revision: revision(event.version()), position: Some(event.position) }
}

fn written(appended: &Appended, last: Option<usize>) -> Written {
    let revision = last.and_then(|last| revision(appended.versions[last]));
    let position = last.map(|last| Position(appended.first.0 + last as u64));
    Written { revision, position }
}
