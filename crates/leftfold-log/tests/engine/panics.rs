//! A disk that panics: anyone who waits is told, the log closes, and nobody writes where another
//! process may be.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use leftfold_core::store::{
    Append, AppendError, Backend, Condition, NewEvent, Outcome, Position, Query, QueryItem, Read,
    ReadError, State, StreamMatch, Tag, Tags,
};
use leftfold_log::disk::{Disk, File, Lock, Simulated};
use leftfold_log::{Log, Options, Upkeep};

use crate::support::{TestClock, event_type, stream, wait};

/// Behaviour of a disk beside its usual one.
#[derive(Debug, Default)]
struct Script {
    state: Mutex<Told>,
    changed: Condvar,
    /// Changes that were made while nobody had the lock.
    unlocked_changes: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    reads_panic: bool,
    holds_reads: bool,
    read_waits: bool,
    writes_of_segments_panic: bool,
    holds_index: bool,
    index_waits: bool,
    locked: bool,
}

impl Script {
    fn told(&self) -> Told {
        *self.state.lock().unwrap()
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn wait_until(&self, come: impl Fn(&Told) -> bool) {
        let mut state = self.state.lock().unwrap();
        while !come(&state) {
            state = self.changed.wait(state).unwrap();
        }
    }

    /// A change of a file: one of the index may be held up.
    fn change(&self, name: &str) {
        if name.starts_with("index-") {
            let mut state = self.state.lock().unwrap();
            state.index_waits = state.holds_index;
            self.changed.notify_all();
            while state.holds_index {
                state = self.changed.wait(state).unwrap();
            }
        }
        let told = self.told();
        self.unlocked_changes.fetch_add(u64::from(!told.locked), Ordering::Relaxed);
        assert!(!(name.ends_with(".seg") && told.writes_of_segments_panic), "the disk panics");
    }
}

#[derive(Debug)]
struct Scripted(Simulated, Arc<Script>);

#[derive(Debug)]
struct ScriptedFile {
    name: String,
    file: Arc<dyn File>,
    script: Arc<Script>,
}

#[derive(Debug)]
struct ScriptedLock {
    script: Arc<Script>,
    _lock: Box<dyn Lock>,
}

impl Lock for ScriptedLock {}

impl Drop for ScriptedLock {
    fn drop(&mut self) {
        self.script.tell(|told| told.locked = false);
    }
}

impl Scripted {
    fn file(&self, name: &str, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(ScriptedFile {
            name: name.trim_end_matches(".tmp").to_owned(),
            file,
            script: Arc::clone(&self.1),
        })
    }
}

impl Disk for Scripted {
    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.open(name).map(|file| self.file(name, file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.1.change(name);
        self.0.create(name).map(|file| self.file(name, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.1.change(to);
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.1.change(name);
        self.0.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.0.sync_names()
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>> {
        let lock = self.0.lock(name)?;
        self.1.tell(|told| told.locked = true);
        Ok(Box::new(ScriptedLock { script: Arc::clone(&self.1), _lock: lock }))
    }

    fn place(&self) -> String {
        self.0.place()
    }
}

impl File for ScriptedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        assert!(!self.script.told().reads_panic, "the disk panics");
        if self.script.told().holds_reads {
            self.script.tell(|told| told.read_waits = true);
            self.script.wait_until(|told| !told.holds_reads);
        }
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.script.change(&self.name);
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.script.change(&self.name);
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

fn opened(options: Options) -> (Log, Arc<Script>) {
    let script = Arc::new(Script::default());
    let disk = Scripted(Simulated::new(1), Arc::clone(&script));
    let options = Options { clock: Arc::new(TestClock::default()), ..options };
    (Log::open_on(Arc::new(disk), options).unwrap().0, script)
}

fn event(name: &str) -> NewEvent {
    NewEvent::new(event_type("test.Happened"), "x")
        .in_stream(stream(name))
        .tagged(Tags::none().with("a"))
}

/// An append whose condition is looked up by a thread of the log, in events.
fn slow() -> Append {
    let tags: Vec<Tag> =
        std::iter::repeat_n("a", 8).chain(["b"]).map(|tag| Tag::new(tag).unwrap()).collect();
    let tagged = QueryItem { tags, ..QueryItem::default() };
    let prefix =
        QueryItem { streams: Some(StreamMatch::Prefix("q".to_owned())), ..QueryItem::default() };
    let condition =
        Condition::none_matching(Query::from(tagged).or(Query::from(prefix)), Position(0));
    Append::of(vec![event("test-2")]).when(condition)
}

/// The append was announced to the queue, and a close waited for it forever: the look-up had
/// panicked.
#[test]
fn a_look_up_that_panics_is_answered_and_keeps_nobody_from_closing() {
    let (log, script) = opened(Options { upkeep: Upkeep::Inline, ..Options::default() });
    for _ in 0..200 {
        wait(log.append(Append::of(vec![event("test-1")]))).unwrap();
    }
    script.tell(|told| told.reads_panic = true);
    let answer = wait(log.append(slow()));
    assert!(matches!(answer, Err(AppendError::Read(ReadError::Io { .. }))), "{answer:?}");
    let read = wait(log.read(Read::matching(Query::everything(), Position(1))));
    assert!(matches!(read, Err(ReadError::Io { .. })), "{read:?}");
    script.tell(|told| told.reads_panic = false);
    assert!(matches!(
        wait(log.append(Append::of(vec![event("test-2")]))),
        Ok(Outcome::Appended(_))
    ));
    let (sender, closed) = mpsc::channel();
    let closing = log.clone();
    std::thread::spawn(move || sender.send(wait(closing.close())));
    assert_eq!(closed.recv_timeout(Duration::from_secs(60)), Ok(Ok(())), "the close hangs");
}

/// The writer's panic gave the lock back at once, and the index's thread went on writing in a
/// directory that another process may have had by then.
#[test]
fn nobody_writes_after_the_lock_of_a_writer_that_panicked_is_given_back() {
    let (log, script) =
        opened(Options { memory_bytes: 16 << 10, upkeep: Upkeep::Thread, ..Options::default() });
    script.tell(|told| told.holds_index = true);
    let mut n = 0;
    while !script.told().index_waits {
        wait(log.append(Append::of(vec![event(&format!("test-{n}"))]))).unwrap();
        n += 1;
        if n % 60 == 0 {
            // The table is full by now, and the thread is on its way.
            script.wait_until(|told| told.index_waits);
        }
    }
    script.tell(|told| told.writes_of_segments_panic = true);
    let answer = wait(log.append(Append::of(vec![event("last")])));
    assert!(matches!(answer, Err(AppendError::Unknown { .. })), "{answer:?}");
    assert!(script.told().locked, "the index's thread is in the middle of a change");
    script.tell(|told| told.holds_index = false);
    script.wait_until(|told| !told.locked);
    assert!(wait(log.close()).is_err());
    assert_eq!(log.status().borrow().state, State::Closed);
    drop(log);
    assert_eq!(script.unlocked_changes.load(Ordering::Relaxed), 0);
}

/// It came to a queue from which nobody took it any more, and its caller waited forever.
#[test]
fn an_append_that_is_looked_up_while_the_writer_panics_is_answered() {
    let (log, script) = opened(Options { upkeep: Upkeep::Inline, ..Options::default() });
    for _ in 0..200 {
        wait(log.append(Append::of(vec![event("test-1")]))).unwrap();
    }
    script.tell(|told| told.holds_reads = true);
    let pending = log.append(slow());
    script.wait_until(|told| told.read_waits);
    script.tell(|told| told.writes_of_segments_panic = true);
    assert!(matches!(
        wait(log.append(Append::of(vec![event("test-3")]))),
        Err(AppendError::Unknown { .. })
    ));
    script.wait_until(|told| !told.locked);
    assert!(wait(log.close()).is_err());
    script.tell(|told| told.holds_reads = false);
    let (sender, answered) = mpsc::channel();
    std::thread::spawn(move || sender.send(wait(pending)));
    assert_eq!(answered.recv_timeout(Duration::from_secs(60)), Ok(Err(AppendError::Closed)));
}
