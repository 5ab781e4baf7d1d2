//! Translation of the appends of the old store into appends of the new one.

use std::sync::Arc;

use bytes::Bytes;

use super::error::{CopyError, FunctionFault};
use super::map::PositionMap;
use super::record::is_own;
use super::references::References;
use super::transform::{Function, Images};
use crate::fold::{KeptAnswer, RequestAnswer};
use crate::runtime;
use crate::store::{
    Append, Authority, CommandRecord, Digest, NewEvent, Position, RecordedAppend, RecordedEvent,
    Version,
};

/// Rules by which appends are translated.
#[derive(Clone, Debug)]
pub(super) struct Translation {
    pub(super) function: Function,
    /// Categories of the runtime's streams that do not go over.
    pub(super) without: Arc<[String]>,
}

/// An append of the old store, as it is in the new one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Translated {
    pub(super) events: Vec<NewEvent>,
    pub(super) command: Option<CommandRecord>,
    /// For each old event its position, the number of events that took its place, and the index of
    /// its image among them.
    pub(super) shares: Vec<(Position, u64, u64)>,
    /// Index of the event whose version is the one that was answered; `None` if there is none.
    answered: Option<usize>,
}

impl Translated {
    /// Tells whether nothing is left of it.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.command.is_none()
    }

    /// The command record, once the versions that the events have in their streams are known.
    pub(super) fn command(&self, versions: &[Version]) -> Option<CommandRecord> {
        let mut command = self.command.clone()?;
        if let Some(version) = self.answered.and_then(|index| versions.get(index)) {
            let target = KeptAnswer::decode(&command.answer).and_then(|kept| kept.target);
            command.answer =
                KeptAnswer { target, said: RequestAnswer::Accepted(*version) }.encode();
        }
        Some(command)
    }
}

impl Translation {
    pub(super) async fn translate(
        &self,
        append: &RecordedAppend,
        map: &mut PositionMap,
    ) -> Result<Translated, CopyError> {
        let users: Vec<&RecordedEvent> =
            append.events.iter().filter(|event| !event.is_system()).collect();
        let mut of_users = self.function.ask(&users)?.into_iter();
        let mut images: Vec<Images> = Vec::with_capacity(append.events.len());
        let mut references = References::before(append.first);
        for event in &append.events {
            images.push(match event.is_system() {
                // The function answered for each of the users' events.
                false => of_users.next().unwrap_or_default(),
                true if self.stays_behind(event) => Images::default(),
                true => Images {
                    events: carried(event, &mut references, map).await?.into_iter().collect(),
                    primary: 0,
                },
            });
        }
        for event in images.iter_mut().flat_map(|images| &mut images.events) {
            speak_of_copy(event, &mut references, map).await?;
        }
        self.put_together(append, images)
    }

    fn stays_behind(&self, event: &RecordedEvent) -> bool {
        let Some(stream) = event.stream.as_ref().map(|at| &at.name) else { return false };
        is_own(stream) || self.without.iter().any(|category| stream.category() == category)
    }

    fn put_together(
        &self,
        append: &RecordedAppend,
        images: Vec<Images>,
    ) -> Result<Translated, CopyError> {
        let answered = answered(append, &images);
        let command = append.command.as_ref().map(|command| {
            let CommandRecord { id, digest, answer } = &command.record;
            let renamed = |digest| renamed(digest, append, &images);
            CommandRecord { id: *id, digest: renamed(*digest), answer: of_target(answer, renamed) }
        });
        let shares = append.events.iter().zip(&images);
        let shares = shares
            .map(|(event, of)| (event.position, of.events.len() as u64, of.primary as u64))
            .collect();
        let events = images.into_iter().flat_map(|images| images.events).collect();
        let whole = Append::of(events).by(Authority::COPY);
        if let Err(invalid) = whole.validate() {
            return Err(CopyError::Function {
                position: append.first,
                fault: FunctionFault::Invalid(invalid),
            });
        }
        Ok(Translated { events: whole.events, command, shares, answered })
    }
}

/// A record of the runtime as its owner rewrites it.
async fn carried(
    record: &RecordedEvent,
    references: &mut References,
    map: &mut PositionMap,
) -> Result<Option<NewEvent>, CopyError> {
    loop {
        let rewritten = runtime::rewritten(record, references);
        if !references.look_up(map).await? {
            return rewritten.map_err(|why| CopyError::unreadable(record, &why));
        }
    }
}

/// Rewrites what an event's metadata says of the runtime's records.
async fn speak_of_copy(
    event: &mut NewEvent,
    references: &mut References,
    map: &mut PositionMap,
) -> Result<(), CopyError> {
    loop {
        let mut rewritten = event.clone();
        runtime::rewrite_labels(&mut rewritten, references)?;
        if !references.look_up(map).await? {
            *event = rewritten;
            return Ok(());
        }
    }
}

/// The event whose version is the one that was answered: the aggregate's after the command.
fn answered(append: &RecordedAppend, images: &[Images]) -> Option<usize> {
    let RequestAnswer::Accepted(version) =
        KeptAnswer::decode(&append.command.as_ref()?.record.answer)?.said
    else {
        return None;
    };
    let meant = |event: &RecordedEvent| {
        !event.is_system() && event.stream.is_some() && event.version() == version
    };
    let index = append.events.iter().rposition(meant)?;
    let through: usize = images[..=index].iter().map(|images| images.events.len()).sum();
    let last = images[index].events.last().filter(|last| last.stream.is_some());
    last.map(|_| through - 1)
}

/// An answer with the target that the request has now.
fn of_target(answer: &Bytes, renamed: impl Fn(Digest) -> Digest) -> Bytes {
    match KeptAnswer::decode(answer) {
        Some(KeptAnswer { target: Some(target), said }) => {
            KeptAnswer { target: Some(renamed(target)), said }.encode()
        }
        _ => answer.clone(),
    }
}

/// The digest of a target stream, which may have another name now; any other digest is what it was.
fn renamed(digest: Digest, append: &RecordedAppend, images: &[Images]) -> Digest {
    let renamed = append.events.iter().zip(images).find_map(|(event, images)| {
        let old = &event.stream.as_ref()?.name;
        let new = images.events.get(images.primary)?.stream.as_ref()?;
        (Digest::of(old.as_bytes()) == digest).then(|| Digest::of(new.as_bytes()))
    });
    renamed.unwrap_or(digest)
}

/// The bytes of an event that are the same however often it is copied, for digests: all but its
/// place.
pub(super) fn digested(hasher: &mut blake3::Hasher, event: &NewEvent) {
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(event.stream.as_deref().unwrap_or("").as_bytes());
    part(event.event_type.as_bytes());
    part(&event.schema_version.to_le_bytes());
    part(format!("{:?}", event.content_type).as_bytes());
    part(&event.data);
    for label in [&event.metadata.correlation, &event.metadata.causation] {
        part(label.as_deref().unwrap_or("").as_bytes());
    }
    part(&event.metadata.user);
    part(&(event.tags.len() as u64).to_le_bytes());
    event.tags.iter().for_each(|tag| part(tag.as_bytes()));
    part(&(event.key_ids.len() as u64).to_le_bytes());
    event.key_ids.iter().for_each(|key| part(key.as_bytes()));
    part(&Bytes::from(event.id.map_or_else(Vec::new, |id| id.0.as_bytes().to_vec())));
}
