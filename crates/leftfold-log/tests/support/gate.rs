//! A disk whose reads by the log's own threads can be held: what they look up grows old while others append.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use leftfold_log::disk::{Disk, File, Lock, Simulated};

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
    /// What was handed over last is answered.
    answered: bool,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets so many more reads pass, and holds all later ones until the value is dropped: also by a test that fails, whose
    /// log waits for them.
    pub(crate) fn shut(self: &Arc<Self>, passing: u32) -> Shut {
        *self.state() = State { passing: Some(passing), ..State::default() };
        Shut(Arc::clone(self))
    }

    /// Waits for an answer on a thread of its own. Returns when a read is held, or the answer is there; says which.
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

/// Whether a look-up stands at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Yes,
    No,
}

/// A simulated disk behind a gate.
#[derive(Debug)]
pub(crate) struct Gated(pub(crate) Simulated, pub(crate) Arc<Gate>);

#[derive(Debug)]
struct GatedFile(Arc<dyn File>, Arc<Gate>);

impl Gated {
    fn behind(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(GatedFile(file, Arc::clone(&self.1)))
    }
}

impl Disk for Gated {
    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.open(name).map(|file| self.behind(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.create(name).map(|file| self.behind(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.0.sync_names()
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>> {
        self.0.lock(name)
    }

    fn place(&self) -> String {
        self.0.place()
    }
}

impl File for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.1.pass();
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}
