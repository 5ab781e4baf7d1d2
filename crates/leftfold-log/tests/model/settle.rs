//! What must hold when a log was opened, whatever happened before.

use std::collections::BTreeSet;
use std::sync::Arc;

use leftfold_core::store::{
    Answered, Append, Backend, CommandId, Condition, MemoryBackend, NewEvent, Outcome, Position,
    Query, Read, RecordedEvent, Signal, Store, Version,
};
use leftfold_log::Log;

use crate::support::{random_query, wait};
use crate::{Run, stands};

impl Run {
    /// Checks that accepted appends are there, unknown ones are there or not, a first part of them
    /// and each whole, and that everything seen before is as it was.
    pub(crate) fn settle(&mut self, log: &Log) {
        let store = Store::new(log.clone());
        let all = everything(&store);
        let found: Vec<(NewEvent, Version)> = all.iter().cloned().map(bare).collect();
        let ids: BTreeSet<[u8; 16]> = self
            .accepted
            .iter()
            .chain(&self.unknown)
            .filter_map(|append| Some(append.command.as_ref()?.id.0))
            .collect();
        let remembered =
            |store: &Store| ids.iter().map(|id| kept(store, CommandId(*id))).collect::<Vec<_>>();
        let (answers, checkpoints) = (remembered(&store), stands(log));
        let mut candidates = vec![];
        for kept in 0..=self.unknown.len() {
            let (backend, went_in) = self.rebuilt(kept);
            let model = Store::shared(Arc::clone(&backend));
            let same = everything(&model).into_iter().map(bare).eq(found.iter().cloned())
                && remembered(&model) == answers
                && stands(&*backend) == checkpoints;
            if same {
                candidates.push((went_in, backend));
            }
        }
        let Some((went_in, backend)) = candidates.pop() else {
            panic!(
                "the log holds {} events, which is not what was accepted, nor with what was unknown",
                found.len()
            );
        };
        self.accepted.extend(went_in);
        self.unknown.clear();
        self.model = Store::shared(Arc::clone(&backend));
        self.model_backend = backend;
        self.look_back(log, &all);
        self.follow(&store, &all);
        self.moments(log, &all);
    }

    /// The model with so many more of those that were unknown, and those of them that went in.
    fn rebuilt(&self, kept: usize) -> (Arc<dyn Backend>, Vec<Append>) {
        if kept == 0 {
            return (Arc::clone(&self.model_backend), Vec::new());
        }
        let model = Arc::new(MemoryBackend::new());
        for append in &self.accepted {
            // It went in, so its condition need not be judged again.
            let outcome =
                wait(model.append(Append { condition: Condition::none(), ..append.clone() }));
            assert!(matches!(outcome, Ok(Outcome::Appended(_))), "{outcome:?} of {append:?}");
        }
        // Some of them was judged to be a conflict, or the repetition of another one: then it
        // changes nothing here either.
        let goes_in = |append: &&Append| {
            matches!(wait(model.append((*append).clone())), Ok(Outcome::Appended(_)))
        };
        let went_in = self.unknown.iter().take(kept).filter(goes_in).cloned().collect();
        (model, went_in)
    }

    fn look_back(&mut self, log: &Log, all: &[RecordedEvent]) {
        assert!(all.starts_with(&self.seen), "what was seen stays");
        self.seen.extend_from_slice(&all[self.seen.len()..]);
        for (position, hash) in &self.hashes {
            assert_eq!(wait(log.hash_at(*position)).unwrap(), Some(*hash), "and so does its hash");
        }
        for _ in 0..4.min(all.len()) {
            let position = all[self.random.usize(..all.len())].position;
            self.hashes.insert(position, wait(log.hash_at(position)).unwrap().unwrap());
        }
        for (position, event) in (1..).zip(all) {
            assert_eq!(event.position, Position(position), "positions have no gap");
        }
        for pair in all.windows(2) {
            assert!(
                pair[0].recorded_at <= pair[1].recorded_at,
                "recorded time goes back at {}",
                pair[1].position
            );
        }
    }

    fn follow(&mut self, store: &Store, all: &[RecordedEvent]) {
        let after = self.random.u64(..=all.len() as u64);
        let query = random_query(&mut self.random);
        let expected = all
            .iter()
            .skip(after as usize)
            .filter(|event| query.matches(event))
            .cloned()
            .collect::<Vec<_>>();
        let mut subscription = store.subscribe(query.clone(), Position(after));
        let mut found = Vec::new();
        loop {
            match wait(subscription.next()).unwrap() {
                Signal::Event(event) => found.push(event),
                Signal::CaughtUp(through) => break assert_eq!(through, store.head().position),
                Signal::Progress(_) | Signal::FellBehind(_) => {}
            }
        }
        assert_eq!(found, expected, "of {query:?} after {after}");
    }

    fn moments(&mut self, log: &Log, all: &[RecordedEvent]) {
        let Some(event) = self.random.choice(all) else { return };
        let at = event.recorded_at;
        let expected = all.iter().filter(|event| event.recorded_at <= at).count() as u64;
        assert_eq!(wait(log.position_at(at)).unwrap(), Position(expected));
    }
}

/// Returns the record of a command, without its time.
pub(crate) fn kept(store: &Store, id: CommandId) -> Option<Answered> {
    let answered = wait(store.answered(id)).unwrap();
    answered
        .map(|answered| Answered { recorded_at: leftfold_core::store::Timestamp::MIN, ..answered })
}

fn everything(store: &Store) -> Vec<RecordedEvent> {
    wait(store.read(Read::matching(Query::everything(), Position(1))).all()).unwrap()
}

/// Returns what of an event is the caller's, and its version.
pub(crate) fn bare(event: RecordedEvent) -> (NewEvent, Version) {
    let version = event.version();
    let minted = event.id.0.get_version_num() == 7;
    let new = NewEvent {
        stream: event.stream.map(|at| at.name),
        event_type: event.event_type,
        schema_version: event.schema_version,
        content_type: event.content_type,
        data: event.data,
        metadata: event.metadata,
        tags: event.tags,
        id: (!minted).then_some(event.id),
        key_ids: event.key_ids,
    };
    (new, version)
}
