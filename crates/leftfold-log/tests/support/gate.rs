//! A disk whose reads by the log's own threads can be held: what they look up grows old while
//! others append.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use leftfold_log::disk::File;

use super::hooked::Hook;
use super::wait;

/// Holds reads of the log's threads while it is shut.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// While it is shut: so many more reads pass.
    passing: Option<u32>,
    held: usize,
    /// Set once the append that was handed over last is answered.
    answered: bool,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets so many more reads pass, and holds all later ones until the value is dropped: also by a
    /// test that fails, whose log waits for them.
    pub(crate) fn shut(self: &Arc<Self>, passing: u32) -> Shut {
        *self.state() = State { passing: Some(passing), ..State::default() };
        Shut(Arc::clone(self))
    }

    /// Waits for an answer on a thread of its own. Returns when a read is held, or the answer is
    /// there; says which.
    pub(crate) fn hand_over<T: Send + 'static>(
        self: &Arc<Self>,
        pending: impl Future<Output = T> + Send + 'static,
    ) -> (JoinHandle<T>, Held) {
        let gate = Arc::clone(self);
        let waiting = std::thread::spawn(move || {
            let answer = wait(pending);
            gate.state().answered = true;
            gate.changed.notify_all();
            answer
        });
        let mut state = self.state();
        while state.held == 0 && !state.answered {
            state = self.changed.wait(state).unwrap();
        }
        let held = if state.held > 0 { Held::Yes } else { Held::No };
        (waiting, held)
    }

    fn pass(&self) {
        if std::thread::current().name() != Some("leftfold-read") {
            return;
        }
        let mut state = self.state();
        match &mut state.passing {
            None => return,
            Some(0) => {}
            Some(left) => return *left -= 1,
        }
        state.held += 1;
        self.changed.notify_all();
        while state.passing.is_some() {
            state = self.changed.wait(state).unwrap();
        }
        state.held -= 1;
    }
}

/// A gate that is shut.
#[derive(Debug)]
pub(crate) struct Shut(Arc<Gate>);

impl Drop for Shut {
    fn drop(&mut self) {
        self.0.state().passing = None;
        self.0.changed.notify_all();
    }
}

/// State of a look-up at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Yes,
    No,
}

impl Hook for Gate {
    fn read(&self, file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.pass();
        file.read_exact_at(buffer, offset)
    }
}
