//! What the tests of projections stand on: a target with transactions whose rows outlive every
//! process, and that fails at any call; and a projection whose rows tell exactly which events went
//! into them.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test binary uses a part of it")]

mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use leftfold_core::fold::{Event, Schema};
use leftfold_core::runtime::RunningRuntime;
use leftfold_core::runtime::projection::{
    NotReached, Notes, Place, ProjectionError, Session, Target,
};
use leftfold_core::store::{Append, NewEvent, Outcome, Position, Store, StreamName};
use serde::{Deserialize, Serialize};

pub use tally::{Code, Tally};

use crate::runtime_stage::{HandClock, Process, SECOND};

/// State that outlives processes.
#[derive(Debug, Default)]
pub struct Disk {
    versions: BTreeMap<(String, u32), Version>,
    serving: BTreeMap<String, u32>,
    open: BTreeSet<(String, u32, usize)>,
}

#[derive(Clone, Debug, Default)]
struct Version {
    rows: BTreeMap<String, Vec<u64>>,
    notes: BTreeMap<String, Vec<u8>>,
}

/// Way in which a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The target is gone, and nothing was done.
    Gone,
    /// The target is gone, but what was asked for is done.
    GoneAfter,
    /// It refuses once, and nothing was done.
    Refused,
}

#[derive(Debug, Default)]
struct Wires {
    calls: u64,
    fails: Option<(u64, Fault)>,
    /// Set if every call fails.
    cut: bool,
    /// Every call so far, by name.
    log: Vec<&'static str>,
}

/// A target as one process sees it: its lanes, and whether its calls block.
#[derive(Clone, Debug)]
pub struct Shelf<const LANES: usize = 1, const BLOCKS: bool = false> {
    disk: Arc<Mutex<Disk>>,
    wires: Arc<Mutex<Wires>>,
    /// The name that the disk has for all processes, if they share it.
    home: Option<&'static str>,
}

#[derive(Debug)]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the wire is cut")
    }
}

impl std::error::Error for Cut {}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl<const LANES: usize, const BLOCKS: bool> Default for Shelf<LANES, BLOCKS> {
    fn default() -> Self {
        Self { disk: Arc::default(), wires: Arc::default(), home: None }
    }
}

impl<const LANES: usize, const BLOCKS: bool> Shelf<LANES, BLOCKS> {
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk that several processes share.
    pub fn shared() -> Self {
        Self { home: Some("the shelf"), ..Self::default() }
    }

    /// The same disk after everything else of the process is gone.
    pub fn restarted<const NEW: usize>(&self) -> Shelf<NEW, BLOCKS> {
        self.cut(true);
        locked(&self.disk).open.clear();
        let disk = Arc::new(Mutex::new(std::mem::take(&mut *locked(&self.disk))));
        Shelf { disk, wires: Arc::default(), home: self.home }
    }

    /// Another process with the same disk.
    pub fn another(&self) -> Self {
        Self { disk: self.disk.clone(), wires: Arc::default(), home: self.home }
    }

    pub fn fail_at(&self, call: u64, fault: Fault) {
        locked(&self.wires).fails = Some((call, fault));
    }

    pub fn cut(&self, cut: bool) {
        locked(&self.wires).cut = cut;
    }

    /// The target comes back, and has forgotten the session of a version that was cut off.
    pub fn comes_back(&self, version: u32) {
        if self.is_cut() {
            locked(&self.disk).open.retain(|(_, open, _)| *open != version);
            self.cut(false);
        }
    }

    pub fn is_cut(&self) -> bool {
        locked(&self.wires).cut
    }

    pub fn calls(&self) -> u64 {
        locked(&self.wires).calls
    }

    pub fn count(&self, call: &str) -> usize {
        locked(&self.wires).log.iter().filter(|name| **name == call).count()
    }

    /// The rows of a version: for each key the positions of the events that went in, in the order
    /// that they did.
    pub fn rows(&self, name: &str, version: u32) -> BTreeMap<String, Vec<u64>> {
        locked(&self.disk)
            .versions
            .get(&(name.to_owned(), version))
            .map(|version| version.rows.clone())
            .unwrap_or_default()
    }

    pub fn served(&self, name: &str) -> BTreeMap<String, Vec<u64>> {
        let serving = locked(&self.disk).serving.get(name).copied();
        serving.map(|version| self.rows(name, version)).unwrap_or_default()
    }

    pub fn notes(&self, name: &str, version: u32, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let disk = locked(&self.disk);
        let notes = disk
            .versions
            .get(&(name.to_owned(), version))
            .map(|version| version.notes.clone())
            .unwrap_or_default();
        notes.into_iter().filter(|(key, _)| key.starts_with(prefix)).collect()
    }

    /// Somebody else writes a note.
    pub fn scribble(&self, name: &str, version: u32, key: &str, value: Option<Vec<u8>>) {
        let mut disk = locked(&self.disk);
        let notes = &mut disk.versions.entry((name.to_owned(), version)).or_default().notes;
        match value {
            Some(value) => notes.insert(key.to_owned(), value),
            None => notes.remove(key),
        };
    }

    /// Counts a call; whether it is to be done, and what it says.
    fn call(&self, name: &'static str) -> (bool, Result<(), ProjectionError>) {
        let mut wires = locked(&self.wires);
        if wires.cut {
            return (false, Err(Cut.into()));
        }
        wires.calls += 1;
        wires.log.push(name);
        match wires.fails {
            Some((at, Fault::Refused)) if at == wires.calls => {
                (false, Err(ProjectionError::message("refused")))
            }
            Some((at, fault)) if at == wires.calls => {
                wires.cut = true;
                (fault == Fault::GoneAfter, Err(Cut.into()))
            }
            _ => (true, Ok(())),
        }
    }

    fn act<R>(
        &self,
        name: &'static str,
        act: impl FnOnce(&mut Disk) -> R,
    ) -> Result<R, ProjectionError> {
        let (done, said) = self.call(name);
        let result = done.then(|| act(&mut locked(&self.disk)));
        said?;
        result.ok_or_else(|| Cut.into())
    }
}

impl<const LANES: usize, const BLOCKS: bool> Target for Shelf<LANES, BLOCKS> {
    type Session = ShelfSession<LANES, BLOCKS>;
    const BLOCKING: bool = BLOCKS;
    const LANES_MAX: usize = LANES;

    async fn open(&self, place: &Place) -> Result<Self::Session, ProjectionError> {
        let lane = (place.name.to_owned(), place.version, place.lane);
        let free = self.act("open", |disk| disk.open.insert(lane.clone()))?;
        if !free {
            return Err(ProjectionError::message(format!("{place:?} is open elsewhere")));
        }
        Ok(ShelfSession {
            shelf: self.clone(),
            lane,
            rows: Shelved::default(),
            notes: BTreeMap::new(),
            open: false,
        })
    }

    async fn serving(&self, name: &str) -> Result<Option<u32>, ProjectionError> {
        self.act("serving", |disk| disk.serving.get(name).copied())
    }

    async fn serve(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        self.act("serve", |disk| _ = disk.serving.insert(name.to_owned(), version))
    }

    async fn versions(&self, name: &str) -> Result<Vec<u32>, ProjectionError> {
        let of_name = |disk: &mut Disk| {
            disk.versions.keys().filter(|(of, _)| of == name).map(|(_, version)| *version).collect()
        };
        self.act("versions", of_name)
    }

    async fn discard(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        self.act("discard", |disk| {
            disk.versions.remove(&(name.to_owned(), version));
            if disk.serving.get(name) == Some(&version) {
                disk.serving.remove(name);
            }
        })
    }

    async fn shared_as(&self) -> Result<Option<String>, ProjectionError> {
        match self.home {
            Some(home) => self.act("shared_as", |_| Some(home.to_owned())),
            None => Ok(None),
        }
    }

    async fn noted(
        &self,
        place: &Place,
        prefixes: &[&str],
    ) -> Result<Option<Notes>, ProjectionError> {
        if self.home.is_none() {
            return Ok(None);
        }
        let of = (place.name.to_owned(), place.version);
        let is_meant = |key: &str| prefixes.iter().any(|prefix| key.starts_with(prefix));
        let noted = |disk: &mut Disk| {
            let notes = disk.versions.get(&of).map(|version| version.notes.clone());
            notes.unwrap_or_default().into_iter().filter(|(key, _)| is_meant(key)).collect()
        };
        self.act("noted", noted).map(Some)
    }

    fn is_in_use(&self, error: &ProjectionError) -> bool {
        self.home.is_some() && error.to_string().ends_with("is open elsewhere")
    }

    fn is_away(&self, error: &ProjectionError) -> bool {
        error.downcast_ref::<Cut>().is_some()
    }
}

pub struct ShelfSession<const LANES: usize, const BLOCKS: bool> {
    shelf: Shelf<LANES, BLOCKS>,
    lane: (String, u32, usize),
    rows: Shelved,
    notes: BTreeMap<String, Option<Vec<u8>>>,
    open: bool,
}

/// Rows that users' code writes through.
#[derive(Debug, Default)]
pub struct Shelved {
    added: Vec<(String, u64)>,
    removed: BTreeSet<String>,
}

impl Shelved {
    /// Adds a position to a row.
    pub fn add(&mut self, key: &str, position: u64) {
        self.added.push((key.to_owned(), position));
    }

    /// Removes a row.
    pub fn remove(&mut self, key: &str) {
        self.added.retain(|(added, _)| added != key);
        self.removed.insert(key.to_owned());
    }
}

impl<const LANES: usize, const BLOCKS: bool> ShelfSession<LANES, BLOCKS> {
    fn version<'d>(&self, disk: &'d mut Disk) -> &'d mut Version {
        disk.versions.entry((self.lane.0.clone(), self.lane.1)).or_default()
    }

    fn forget(&mut self) {
        self.rows = Shelved::default();
        self.notes.clear();
        self.open = false;
    }
}

impl<const LANES: usize, const BLOCKS: bool> Drop for ShelfSession<LANES, BLOCKS> {
    fn drop(&mut self) {
        locked(&self.shelf.disk).open.remove(&self.lane);
    }
}

impl<const LANES: usize, const BLOCKS: bool> Session for ShelfSession<LANES, BLOCKS> {
    type Rows = Shelved;

    async fn begin(&mut self) -> Result<(), ProjectionError> {
        assert!(!self.open, "a transaction is open");
        self.shelf.act("begin", |_| ())?;
        self.open = true;
        Ok(())
    }

    fn rows(&mut self) -> &mut Shelved {
        assert!(self.open, "no transaction is open");
        &mut self.rows
    }

    async fn note(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), ProjectionError> {
        assert!(
            self.open && key.len() <= 200 && value.is_none_or(|value| value.len() <= 16_384),
            "{key}"
        );
        self.shelf.act("note", |_| ())?;
        self.notes.insert(key.to_owned(), value.map(<[u8]>::to_vec));
        Ok(())
    }

    async fn notes(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, ProjectionError> {
        assert!(self.open, "no transaction is open");
        let meant = |key: &String| {
            key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)
        };
        let changed: BTreeMap<_, _> = self
            .notes
            .iter()
            .filter(|(key, _)| meant(key))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let shelf = self.shelf.clone();
        let mut notes: BTreeMap<_, _> = shelf.act("notes", |disk| {
            let kept =
                self.version(disk).notes.range(prefix.to_owned()..).filter(|(key, _)| meant(key));
            kept.take_while(|(key, _)| key.starts_with(prefix))
                .take(at_most + changed.len())
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        })?;
        for (key, value) in changed {
            match value {
                Some(value) => notes.insert(key, value),
                None => notes.remove(&key),
            };
        }
        Ok(notes.into_iter().take(at_most).collect())
    }

    async fn commit(&mut self) -> Result<(), ProjectionError> {
        assert!(self.open, "no transaction is open");
        let committed = self.shelf.clone().act("commit", |disk| {
            let version = self.version(disk);
            for key in &self.rows.removed {
                version.rows.remove(key);
            }
            for (key, position) in &self.rows.added {
                version.rows.entry(key.clone()).or_default().push(*position);
            }
            for (key, value) in &self.notes {
                match value {
                    Some(value) => version.notes.insert(key.clone(), value.clone()),
                    None => version.notes.remove(key),
                };
            }
        });
        if committed.is_ok() {
            self.forget();
        }
        committed
    }

    async fn rollback(&mut self) -> Result<(), ProjectionError> {
        self.shelf.act("rollback", |_| ())?;
        self.forget();
        Ok(())
    }
}

/// The events of the tests: something is added under a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Note {
    Added { key: String, what: String },
}

impl Event for Note {
    const NAMESPACE: &'static str = "note";
}

/// Appends one event to a stream; where it is.
pub async fn add(store: &Store, stream: &str, key: &str, what: &str) -> Position {
    let note = Note::Added { key: key.to_owned(), what: what.to_owned() };
    append(store, stream, Schema::of::<Note>().unwrap().encode(&note).unwrap()).await
}

/// Appends an event that cannot be read.
pub async fn add_unreadable(store: &Store, stream: &str) -> Position {
    let mut event = Schema::of::<Note>()
        .unwrap()
        .encode(&Note::Added { key: String::new(), what: String::new() })
        .unwrap();
    event.data = r#"{"neither": 1}"#.into();
    append(store, stream, event).await
}

async fn append(store: &Store, stream: &str, event: NewEvent) -> Position {
    let event = event.in_stream(StreamName::of("note", stream).unwrap());
    match store.append(Append::of(vec![event])).await.unwrap() {
        Outcome::Appended(appended) => appended.last(),
        other => panic!("{other:?}"),
    }
}

/// Appends many events, over some streams and keys.
pub async fn add_many(store: &Store, count: u64) {
    let notes = (0..count).map(|number| (format!("s{}", number % 5), format!("k{}", number % 7)));
    add_all(store, notes).await;
}

/// Appends an event for each stream and key.
pub async fn add_all(store: &Store, notes: impl Iterator<Item = (String, String)>) {
    let schema = Schema::of::<Note>().unwrap();
    let mut batch = Vec::new();
    for (stream, key) in notes {
        let note = schema.encode(&Note::Added { key, what: "fine".to_owned() }).unwrap();
        batch.push(note.in_stream(StreamName::of("note", &stream).unwrap()));
        if batch.len() == 1_000 {
            store.append(Append::of(std::mem::take(&mut batch))).await.unwrap();
        }
    }
    store.append(Append::of(batch)).await.unwrap();
}

/// The keys and positions of what can be read, as a fold of the log: what rows must be.
pub async fn fold_of(store: &Store) -> BTreeMap<String, Vec<u64>> {
    let schema = Schema::of::<Note>().unwrap();
    let mut events = store.read(leftfold_core::store::Read::matching(schema.query(), Position(1)));
    let mut rows: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    while let Some(event) = events.next().await.unwrap() {
        let Ok(notes) = schema.decode::<Note>(&event, leftfold_core::fold::Unknown::Ignore) else {
            continue;
        };
        for Note::Added { key, .. } in notes {
            rows.entry(key).or_default().push(event.position.0);
        }
    }
    rows
}

/// Runs until idle, while time goes by.
pub async fn settle<const V: u32, const L: usize, const M: usize, const B: bool>(
    process: &Process,
    tally: Tally<V, L>,
    shelf: &Shelf<M, B>,
) {
    let running = process.runtime().project(tally, shelf.clone()).run_until_idle();
    tokio::select! {
        statuses = running => drop(statuses.unwrap()),
        () = time_goes_by(&process.clock) => {}
    }
}

/// Lets time pass until everything up to a position is in the rows that readers see, or parked.
pub async fn reach(process: &Process, running: &RunningRuntime, position: Position) {
    let projections = running.projections();
    tokio::select! {
        reached = projections.wait_until("tally", position, 10 * SECOND) => match reached {
            Ok(stands_at) | Err(NotReached::Parked { stands_at, .. }) => {
                assert!(stands_at >= position);
            }
            Err(late) => panic!("{late}"),
        },
        () = time_goes_by(&process.clock) => {}
    }
}

/// Lets time pass forever: for what is to be done meanwhile.
pub async fn time_goes_by(clock: &HandClock) {
    loop {
        clock.advance(SECOND / 10);
        tokio::task::yield_now().await;
    }
}

/// Returns the rows that are right when some events are parked.
pub async fn fold_without(store: &Store, parked: &[u64]) -> BTreeMap<String, Vec<u64>> {
    let mut fold = fold_of(store).await;
    for positions in fold.values_mut() {
        positions.retain(|position| !parked.contains(position));
    }
    fold.retain(|_, positions| !positions.is_empty());
    fold
}
