//! Notes of the leases of a runtime: what each says to everybody who lists the leases.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::plan::{Abilities, WorkId};
use crate::runtime::consumer::shortened_to;
use crate::store::limits::LEASE_NOTE_BYTES_MAX;
use crate::store::{HeldLease, Position, Timestamp};

/// Names of the leases by which runtimes are members: this, and the id of the runtime.
pub(super) const MEMBERS: &str = "$runtime:";
/// Bytes of a runtime's name in its note.
pub(super) const NAME_BYTES_MAX: usize = 255;
/// Bytes of what a consumer waits for, in its note.
const WAITS_FOR_BYTES_MAX: usize = 400;
/// Works that a note names; a member with more can do any.
const WORKS_MAX: usize = 200;

/// Note of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MemberNote {
    pub(super) name: String,
    /// True if it is about to end.
    pub(super) stops: bool,
    /// Works that it can do, if they are not too many.
    works: Option<Vec<u32>>,
}

/// Note of a consumer that has the lease on its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WorkNote {
    pub(super) runtime: Uuid,
    pub(super) consumer: String,
    pub(super) since: Timestamp,
    pub(super) through: u64,
    pub(super) waits_for: String,
}

impl MemberNote {
    pub(super) fn new(name: &str, stops: bool, works: &[WorkId]) -> Self {
        let works = (works.len() <= WORKS_MAX).then(|| works.iter().map(|work| work.0).collect());
        Self { name: shortened_to(NAME_BYTES_MAX, name.to_owned()), stops, works }
    }

    pub(super) fn abilities(&self) -> Abilities {
        match &self.works {
            _ if self.stops => Abilities::These([].into()),
            Some(works) => Abilities::These(works.iter().copied().map(WorkId).collect()),
            None => Abilities::Any,
        }
    }
}

impl WorkNote {
    pub(super) fn new(
        runtime: Uuid,
        consumer: &str,
        since: Timestamp,
        (through, waits_for): (Position, String),
    ) -> Self {
        let waits_for = shortened_to(WAITS_FOR_BYTES_MAX, waits_for);
        let consumer = shortened_to(NAME_BYTES_MAX, consumer.to_owned());
        Self { runtime, consumer, since, through: through.0, waits_for }
    }
}

/// Writes a note. One that cannot be written within its limit is left out, as its work is done all
/// the same.
pub(super) fn written(note: &impl Serialize) -> Vec<u8> {
    let bytes = serde_json::to_vec(note).unwrap_or_default();
    if bytes.len() > LEASE_NOTE_BYTES_MAX { Vec::new() } else { bytes }
}

/// Reads the note of a member; `None` if the lease is none of a member.
pub(super) fn member_of(lease: &HeldLease) -> Option<(Uuid, MemberNote)> {
    let id = lease.work.strip_prefix(MEMBERS)?.parse().ok()?;
    Some((id, serde_json::from_slice(&lease.note).ok()?))
}

/// Reads the note of a work; `None` if its holder left none.
pub(super) fn work_of(lease: &HeldLease) -> Option<WorkNote> {
    serde_json::from_slice(&lease.note).ok()
}

/// A runtime on a store, and the work that it does of all that is shared, as its leases say: see
/// [`RuntimeHandle::members`](crate::runtime::RuntimeHandle::members).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Id of the runtime, drawn when it started.
    pub id: Uuid,
    /// Its name: see [`Runtime::named`](crate::runtime::Runtime::named).
    pub name: String,
    /// True if it was told to stop and has work under way.
    pub stops: bool,
    /// If nothing more is heard of it, others take its work over from here on, by the clock of the
    /// store.
    pub until: Timestamp,
    /// The work that it does, by the names of the leases.
    pub works: Vec<SharedWork>,
}

/// A work that one of the runtimes on a store does for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedWork {
    /// Name of the lease: `$process:NAME`, `$effect:NAME`, `$outbox:NAME`; of a read model in a
    /// database that several processes share, `$projection:NAME vVERSION at HOME`.
    pub work: String,
    /// Name of the consumer.
    pub consumer: String,
    /// Time since which the runtime has the work, by its own clock.
    pub since: Timestamp,
    /// Others are given the work after this, if the lease is not renewed.
    pub until: Timestamp,
    /// Position up to which it had taken up everything when the lease was last renewed: a third of
    /// the lease's time ago, at most.
    pub through: Position,
    /// Condition that it waited for then, for people.
    pub waits_for: String,
}

/// Returns all members with their works, by the names of the members.
pub(in crate::runtime) fn members(held: &[HeldLease]) -> Vec<MemberStatus> {
    let mut works: BTreeMap<Uuid, Vec<SharedWork>> = BTreeMap::new();
    for lease in held {
        if let Some(note) = work_of(lease) {
            works.entry(note.runtime).or_default().push(SharedWork {
                work: lease.work.to_string(),
                consumer: note.consumer,
                since: note.since,
                until: lease.until,
                through: Position(note.through),
                waits_for: note.waits_for,
            });
        }
    }
    let mut members: Vec<MemberStatus> = held
        .iter()
        .filter_map(|lease| {
            let (id, MemberNote { name, stops, .. }) = member_of(lease)?;
            let works = works.remove(&id).unwrap_or_default();
            Some(MemberStatus { id, name, stops, until: lease.until, works })
        })
        .collect();
    members.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_the_longest_texts_stay_within_their_limit() {
        let works: Vec<WorkId> =
            (0..WORKS_MAX as u32).map(|work| WorkId(u32::MAX - work)).collect();
        // Each of these bytes is six in JSON.
        let text = "\u{1}".repeat(10_000);
        let member = written(&MemberNote::new(&text, false, &works));
        let stands = (Position(u64::MAX), text.clone());
        let work = written(&WorkNote::new(Uuid::max(), &text, Timestamp::MAX, stands));
        assert!(!work.is_empty() && !member.is_empty());
    }

    #[test]
    fn a_member_with_more_works_than_its_note_names_can_do_any() {
        let works: Vec<WorkId> = (0..=WORKS_MAX as u32).map(WorkId).collect();
        assert_eq!(MemberNote::new("a", false, &works).abilities(), Abilities::Any);
        let none = Abilities::These([].into());
        assert_eq!(MemberNote::new("a", true, &works).abilities(), none);
    }
}
