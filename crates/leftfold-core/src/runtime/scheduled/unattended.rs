//! Scheduled commands that no runtime carries out: anyone who sends one is warned, and so is anyone
//! who starts a runtime over a store that has some. Without that they would wait in silence.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::{PREFIX, PROCESS_PREFIX};
use crate::runtime::{Host, process};
use crate::store::{Position, Query, QueryItem, Read, ReadError, Store, Timestamp, TypeMatch};

/// Records of scheduled commands that a start looks at, the latest first.
const LOOKED_AT: u32 = 1_000;

/// Time after which a command that is due and waits is overdue: another runtime may have its turn.
const OVERDUE_AFTER: Duration = Duration::from_secs(60);

/// Kinds of aggregates, by category, about which nothing is to be said in this program: a runtime
/// of it has their scheduled commands, one of another program had them, or it was said.
#[derive(Debug, Default)]
pub(super) struct AttendedKinds(Mutex<HashSet<&'static str>>);

impl AttendedKinds {
    /// A runtime of this program carries out the commands for this kind.
    pub(super) fn by_runtime(store: &Store, category: &'static str) {
        store.attached(Self::default).add(category);
    }

    /// Warns of a command that was sent, if no runtime is known to carry it out; once for each kind
    /// of aggregate.
    pub(super) async fn sent(store: &Store, category: &'static str, aggregate: &'static str) {
        let attended = store.attached(Self::default);
        if attended.knows(category) {
            return;
        }
        // A store that cannot be read now says nothing of it.
        let Ok(taken_up) = taken_up(store, category).await else { return };
        if attended.add(category) && taken_up.is_none() {
            tracing::warn!(
                aggregate,
                category,
                "a command was scheduled, and no runtime has carried out scheduled commands for this \
                 aggregate: it waits until one does; add Runtime::scheduled with the type of the \
                 aggregate to the runtime of this program, or of another one over this store"
            );
        }
    }

    fn knows(&self, category: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(category)
    }

    /// Tells whether the category is new.
    fn add(&self, category: &'static str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(category)
    }
}

/// Commands of one kind that wait.
struct WaitingCommands {
    count: usize,
    first_due: Timestamp,
    /// Position of the last record about them.
    last: Position,
}

/// The part of a record that says when the command is due.
#[derive(Deserialize)]
struct DueRecord {
    at: Timestamp,
}

/// Warns of commands that wait though they are overdue, or that no runtime has taken up, if this
/// runtime does not carry out those for their kind of aggregate.
pub(in crate::runtime) async fn announce(host: &Host, carries_out: impl Fn(&str) -> bool) {
    // A store that cannot be read now says nothing of them.
    let Ok(waiting) = waiting(&host.store).await else { return };
    for (category, WaitingCommands { count, first_due, last }) in waiting {
        if carries_out(&name_of_process(&category)) {
            continue;
        }
        let Ok(taken_up) = taken_up(&host.store, &category).await else { return };
        let is_taken_up = taken_up.is_some_and(|through| last <= through);
        if !is_taken_up || first_due.plus(OVERDUE_AFTER) <= host.clock.now() {
            tracing::warn!(
                category,
                count,
                %first_due,
                "scheduled commands wait for aggregates of this category, and no runtime carries \
                 them out: add Runtime::scheduled with the type of the aggregate to this runtime, \
                 or start the program that has it"
            );
        }
    }
}

/// The commands that wait, by the category of their aggregates, among the latest records.
async fn waiting(store: &Store) -> Result<BTreeMap<String, WaitingCommands>, ReadError> {
    let types = vec![TypeMatch::Prefix(PREFIX.to_owned())];
    let query = Query::from(QueryItem { types, ..QueryItem::default() });
    let read = Read::matching(query, Position::END).backwards().page_of(LOOKED_AT);
    let (mut seen, mut all) = (HashSet::new(), BTreeMap::<String, WaitingCommands>::new());
    for record in store.page(read).await?.events {
        let Some(stream) = record.stream.as_ref().map(|at| &at.name) else { continue };
        let Some(category) = stream.category().strip_prefix(PREFIX) else { continue };
        // The last record about a command says whether it waits.
        let is_last = seen.insert(stream.clone());
        let waits =
            record.event_type.ends_with(".Scheduled") || record.event_type.ends_with(".Moved");
        if !is_last || !waits {
            continue;
        }
        let Ok(DueRecord { at }) = serde_json::from_slice(&record.data) else { continue };
        let waiting = all.entry(category.to_owned()).or_insert(WaitingCommands {
            count: 0,
            first_due: at,
            last: record.position,
        });
        waiting.count += 1;
        waiting.first_due = waiting.first_due.min(at);
    }
    Ok(all)
}

/// Returns the position up to which a runtime has taken up the scheduled commands for a kind of
/// aggregate; `None` if none ever did.
async fn taken_up(store: &Store, category: &str) -> Result<Option<Position>, ReadError> {
    // A category is short enough for a label.
    let Ok(consumer) = process::consumer(&name_of_process(category)) else { return Ok(None) };
    Ok(store.checkpoint(consumer).await?.map(|checkpoint| checkpoint.position))
}

/// The name of the process that carries out the commands for a kind of aggregate.
fn name_of_process(category: &str) -> String {
    format!("{PROCESS_PREFIX}{category}")
}
