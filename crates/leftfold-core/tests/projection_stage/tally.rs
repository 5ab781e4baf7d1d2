//! The projection of the tests, and how its code behaves.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::projection::{Projection, ProjectionError};
use leftfold_core::store::Position;

use super::{Cut, Note, Shelf, Shelved, locked};

/// Behaviour of a projection's code on events that ask for it; the tests correct it.
#[derive(Clone, Debug, Default)]
pub struct Code {
    /// Events that it refuses, and how many times still.
    pub refuses: Arc<Mutex<BTreeMap<String, u32>>>,
    pub applied: Arc<Mutex<Vec<u64>>>,
    /// Lets a blocked thread go on when it is open.
    pub gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Code {
    pub fn refusing(what: &str, times: u32) -> Self {
        let code = Self::default();
        locked(&code.refuses).insert(what.to_owned(), times);
        code
    }

    /// Lets a thread go on that blocks.
    pub fn unblock(&self) {
        *locked(&self.gate.0) = true;
        self.gate.1.notify_all();
    }

    fn block(&self) {
        let opened = self.gate.1.wait_while(locked(&self.gate.0), |open| !*open);
        drop(opened);
    }

    pub fn fix(&self) {
        locked(&self.refuses).clear();
    }

    pub fn refuse(&self, what: &str, times: u32) {
        locked(&self.refuses).insert(what.to_owned(), times);
    }

    /// Returns how many times an event was tried.
    pub fn tries(&self, position: Position) -> usize {
        locked(&self.applied).iter().filter(|applied| **applied == position.0).count()
    }

    async fn apply(
        &self,
        rows: &mut Shelved,
        event: &Recorded<Note>,
    ) -> Result<(), ProjectionError> {
        let Note::Added { key, what } = &event.event;
        let position = event.envelope.position.0;
        locked(&self.applied).push(position);
        // Something is written before it fails.
        rows.add(key, position);
        let refused = locked(&self.refuses).get_mut(what.as_str()).is_some_and(|left| {
            let refused = *left > 0;
            *left = left.saturating_sub(1);
            refused
        });
        match what.as_str() {
            "panics" if refused => panic!("it exploded"),
            "blocks" if refused => {
                self.block();
                Ok(())
            }
            "hangs" if refused => std::future::pending().await,
            "away" if refused => Err(Cut.into()),
            _ if refused => Err(ProjectionError::message(format!("{what} is refused"))),
            _ => Ok(()),
        }
    }
}

/// The projection of the tests: each row is the list of the positions that went into it.
#[derive(Clone, Debug, Default)]
pub struct Tally<const VERSION: u32 = 1, const LANES: usize = 1>(pub Code);

impl<const VERSION: u32, const LANES: usize, const MAX: usize, const BLOCKS: bool>
    Projection<Shelf<MAX, BLOCKS>> for Tally<VERSION, LANES>
{
    const NAME: &'static str = "tally";
    const VERSION: u32 = VERSION;
    const LANES: usize = LANES;
    type Event = Note;

    fn key(&self, event: &Recorded<Note>) -> String {
        let Note::Added { key, .. } = &event.event;
        assert!(key != "panics", "no key");
        key.clone()
    }

    async fn apply(
        &self,
        rows: &mut Shelved,
        event: &Recorded<Note>,
    ) -> Result<(), ProjectionError> {
        self.0.apply(rows, event).await
    }
}
