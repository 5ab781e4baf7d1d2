//! A target with transactions in memory, of which one thing can be wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use leftfold_core::runtime::projection::{Place, ProjectionError, Session, Target};
use leftfold_core::store::Position;
use leftfold_testing::target::Subject;

use crate::fault::{Fault, Fault as F};

type Map<V> = BTreeMap<String, V>;
type Of = (String, u32);

/// State that outlives processes.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    versions: BTreeMap<Of, Version>,
    serving: Map<u32>,
    /// Process that has each place.
    open: BTreeMap<(Of, usize), usize>,
    /// Rows that are written and not committed, for anyone who shows them.
    uncommitted: BTreeMap<(Of, String), Option<String>>,
    processes: usize,
    /// Positions of versions that are gone.
    gone: BTreeMap<Of, u64>,
    rolled_back: BTreeMap<u64, u32>,
    /// Number of questions of readers; `told` has what they were told.
    asked: u32,
    told: Map<Option<String>>,
}

#[derive(Debug, Default)]
struct Version {
    rows: Map<String>,
    notes: Map<(Vec<u8>, usize)>,
    last: u64,
    /// The rows that the last transaction wrote.
    newest: Vec<String>,
}

/// The target, as one process has it.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    disk: Arc<Mutex<Disk>>,
    process: usize,
    fault: Fault,
}

impl Ledger {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }
}

/// Rows that a transaction writes.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    changed: Map<Option<String>>,
    at: u64,
    /// The events of the open transaction.
    events: usize,
}

pub(crate) struct LedgerSession {
    ledger: Ledger,
    of: Of,
    lane: usize,
    rows: Rows,
    notes: Map<Option<Vec<u8>>>,
    /// Set if anything was asked for in the open transaction.
    used: bool,
    begun: bool,
    committed: u32,
    empty: u32,
}

impl Target for Ledger {
    type Session = LedgerSession;
    const LANES_MAX: usize = 3;

    async fn open(&self, place: &Place) -> Result<LedgerSession, ProjectionError> {
        let of = (place.name.to_owned(), place.version);
        let mut disk = self.disk();
        let has = disk.open.get(&(of.clone(), place.lane)).copied();
        let is_free = match has {
            Some(process) => self.fault == F::EachProcessHasThePlace && process != self.process,
            None => true,
        };
        if !is_free {
            return Err(ProjectionError::message(format!("{place:?} is open elsewhere")));
        }
        disk.open.insert((of.clone(), place.lane), self.process);
        let inherited = disk.versions.values().next().map(|version| version.rows.clone());
        disk.versions.entry(of.clone()).or_insert_with(|| Version {
            rows: inherited.filter(|_| self.fault == F::RowsAreInherited).unwrap_or_default(),
            ..Version::default()
        });
        let (rows, notes) = (Rows::default(), Map::new());
        Ok(LedgerSession {
            ledger: self.clone(),
            of,
            lane: place.lane,
            rows,
            notes,
            used: false,
            begun: false,
            committed: 0,
            empty: 0,
        })
    }

    async fn serving(&self, name: &str) -> Result<Option<u32>, ProjectionError> {
        Ok(self.disk().serving.get(name).copied())
    }

    async fn serve(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        let mut disk = self.disk();
        let back = disk.serving.get(name).is_some_and(|serving| *serving > version);
        if !(self.fault == F::NothingServesTwice && back) {
            let served = disk.serving.insert(name.to_owned(), version);
            let rows = disk
                .versions
                .get_mut(&(name.to_owned(), version))
                .filter(|version| version.last > 100);
            if let (F::TheLastIsLostOnServing, Some(_), Some(rows)) = (self.fault, served, rows) {
                let newest = std::mem::take(&mut rows.newest);
                newest.iter().for_each(|key| _ = rows.rows.remove(key));
            }
        }
        Ok(())
    }

    async fn versions(&self, name: &str) -> Result<Vec<u32>, ProjectionError> {
        let disk = self.disk();
        let is_it = |of: &str| {
            of == name
                || (self.fault == F::NamesAreBeginnings && of.starts_with(&format!("{name}_v")))
        };
        let has_rows =
            |version: &Version| self.fault != F::VersionsHaveRows || !version.rows.is_empty();
        let of_name =
            disk.versions.iter().filter(|((of, _), version)| is_it(of) && has_rows(version));
        let mut versions: Vec<u32> = of_name.map(|((_, version), _)| *version).collect();
        if self.fault == F::VersionsAreTexts {
            versions.sort_by_key(ToString::to_string);
        }
        Ok(versions)
    }

    async fn discard(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        let mut disk = self.disk();
        let of = (name.to_owned(), version);
        if self.fault == F::NothingCannotBeDiscarded && disk.versions.is_empty() {
            return Err(ProjectionError::message("there is nothing"));
        }
        if self.fault != F::WhatIsWrittenIsDiscarded
            && disk.open.keys().any(|(open, _)| *open == of)
        {
            return Err(ProjectionError::message(format!(
                "somebody writes version {version} of {name}"
            )));
        }
        if let Some(gone) = disk.versions.remove(&of) {
            disk.gone.insert(of, gone.last);
        }
        if self.fault == F::DiscardingIsByBeginning {
            let text = version.to_string();
            disk.versions
                .retain(|(of, other), _| of != name || !other.to_string().starts_with(&text));
        }
        if disk.serving.get(name) == Some(&version) {
            disk.serving.remove(name);
        }
        Ok(())
    }

    async fn shared_as(&self) -> Result<Option<String>, ProjectionError> {
        let home = format!("ledger {:p}", Arc::as_ptr(&self.disk));
        Ok(Some(match self.fault {
            F::EachProcessIsAHome => format!("{home} of process {}", self.process),
            _ => home,
        }))
    }

    fn is_away(&self, error: &ProjectionError) -> bool {
        let text = error.to_string();
        match self.fault {
            F::RefusedIsAway => text.contains("refused"),
            F::UsersErrorsAreAway => text.contains("cat"),
            F::PoisonIsAway => text.contains("poison"),
            _ => false,
        }
    }
}

impl LedgerSession {
    fn end(&mut self) {
        self.rows = Rows { at: self.rows.at, ..Rows::default() };
        self.notes.clear();
        (self.used, self.begun) = (false, false);
        let of = self.of.clone();
        self.ledger.disk().uncommitted.retain(|(other, _), _| *other != of);
    }

    fn write(&mut self) {
        let (fault, lane) = (self.ledger.fault, self.lane);
        let mut disk = self.ledger.disk();
        let others: Vec<Of> =
            disk.open.keys().map(|(of, _)| of.clone()).filter(|of| *of != self.of).collect();
        let gone = disk.gone.get(&self.of).copied().unwrap_or(0);
        let again = disk.rolled_back.get(&self.rows.at).copied().unwrap_or(0);
        if fault == F::VersionsShareNewRows {
            for of in others {
                let rows = &mut disk.versions.get_mut(&of).unwrap().rows;
                for (key, value) in &self.rows.changed {
                    rows.entry(key.clone()).or_insert_with(|| value.clone().unwrap_or_default());
                }
            }
        }
        let Some(version) = disk.versions.get_mut(&self.of) else { return };
        let is_lost = (fault == F::TwentyTransactions && self.committed > 20)
            || (fault == F::GapsAreRefused && self.rows.at > version.last + 4_000)
            || (fault == F::RolledBackIsDone && again > 1)
            || (fault == F::LargeBatchesAreLost
                && self.rows.events > 500
                && self.rows.changed.len() < 500)
            || (fault == F::PlacesOutliveTheirVersion && self.rows.at > 0 && self.rows.at <= gone);
        version.last = version.last.max(self.rows.at);
        let rows_max = if fault == F::TwoThousandRows { 2_000 } else { usize::MAX };
        version.newest = self.rows.changed.keys().cloned().collect();
        for (key, value) in
            std::mem::take(&mut self.rows.changed).into_iter().take(rows_max).filter(|_| !is_lost)
        {
            match value {
                Some(value) => version.rows.insert(key, value),
                None => version.rows.remove(&key),
            };
        }
        self.keep_notes(version, lane);
    }

    fn keep_notes(&self, version: &mut Version, lane: usize) {
        for (key, value) in self.notes.clone() {
            match value
                .filter(|value| self.ledger.fault != F::EmptyNotesAreNone || !value.is_empty())
            {
                Some(value) => version.notes.insert(key, (value, lane)),
                None => version.notes.remove(&key),
            };
        }
    }
}

impl Session for LedgerSession {
    type Rows = LedgerSession;

    async fn begin(&mut self) -> Result<(), ProjectionError> {
        self.begun = true;
        Ok(())
    }

    fn at(&mut self, position: Position) {
        self.rows.at = position.0;
        self.rows.events += 1;
    }

    fn rows(&mut self) -> &mut LedgerSession {
        self
    }

    async fn note(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), ProjectionError> {
        self.used = true;
        let there = self
            .ledger
            .disk()
            .versions
            .get(&self.of)
            .is_some_and(|version| version.notes.contains_key(key));
        if self.ledger.fault == F::OnlyWhatIsThereIsRemoved
            && value.is_none()
            && !there
            && !self.notes.contains_key(key)
        {
            return Err(ProjectionError::message("there is no such note"));
        }
        self.notes.insert(key.to_owned(), value.map(<[u8]>::to_vec));
        Ok(())
    }

    async fn notes(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, ProjectionError> {
        self.used = true;
        let fault = self.ledger.fault;
        if fault == F::PagesBeginWithinAPrefix && after.is_some_and(|after| after < prefix) {
            return Ok(Vec::new());
        }
        let disk = self.ledger.disk();
        let committed = disk.versions.get(&self.of).into_iter().flat_map(|version| &version.notes);
        let own = committed
            .filter(|(_, (_, lane))| fault != F::LanesHaveNotesOfTheirOwn || *lane == self.lane);
        let mut all: Map<Vec<u8>> =
            own.map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        for (key, value) in self.notes.iter().filter(|_| fault != F::OnlyCommittedNotesAreSeen) {
            match value {
                Some(value) => all.insert(key.clone(), value.clone()),
                None => all.remove(key),
            };
        }
        let begins = |key: &str| match prefix
            .strip_suffix('_')
            .filter(|_| fault == F::PrefixesArePatterns)
        {
            Some(start) => key.strip_prefix(start).is_some_and(|rest| !rest.is_empty()),
            None => key.starts_with(prefix),
        };
        let found = all
            .into_iter()
            .filter(|(key, _)| begins(key) && after.is_none_or(|after| key.as_str() > after));
        Ok(found.take(at_most).collect())
    }

    async fn commit(&mut self) -> Result<(), ProjectionError> {
        self.committed += 1;
        self.empty = if self.used { 0 } else { self.empty + 1 };
        if self.ledger.fault == F::NothingCannotBeCommitted && self.empty > 1 {
            return Err(ProjectionError::message("there is nothing to commit"));
        }
        if self.ledger.fault == F::NotesAreNotKept {
            self.notes.clear();
        }
        self.write();
        self.end();
        Ok(())
    }

    async fn rollback(&mut self) -> Result<(), ProjectionError> {
        *self.ledger.disk().rolled_back.entry(self.rows.at).or_default() += 1;
        if self.ledger.fault == F::RollbackKeepsNotes
            && let Some(version) = self.ledger.disk().versions.get_mut(&self.of)
        {
            self.keep_notes(version, self.lane);
        }
        self.end();
        Ok(())
    }
}

impl Drop for LedgerSession {
    fn drop(&mut self) {
        if self.begun && self.ledger.fault == F::DropCommits {
            self.write();
        }
        self.end();
        if self.ledger.fault == F::LongSessionsAreForgotten
            && self.committed > 15
            && let Some(version) = self.ledger.disk().versions.get_mut(&self.of)
        {
            version.notes.clear();
        }
        if self.ledger.fault == F::AnotherProcessKeepsThePlace && self.ledger.process > 1 {
            return;
        }
        self.ledger.disk().open.remove(&(self.of.clone(), self.lane));
    }
}

/// Makes ledgers with a fault.
#[derive(Clone, Copy)]
pub(crate) struct Ledgers(pub(crate) Fault);

impl Subject for Ledgers {
    type Target = Ledger;
    type Home = Arc<Mutex<Disk>>;

    async fn home(&self) -> Arc<Mutex<Disk>> {
        Arc::default()
    }

    async fn target(&self, home: &Arc<Mutex<Disk>>) -> Ledger {
        let mut disk = home.lock().unwrap();
        disk.processes += 1;
        if self.0 == F::WhatServesIsForgotten {
            disk.serving.clear();
        }
        Ledger { disk: Arc::clone(home), process: disk.processes, fault: self.0 }
    }

    async fn set_up(&self, _: &mut LedgerSession) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn write(
        &self,
        session: &mut LedgerSession,
        key: &str,
        value: &str,
    ) -> Result<(), ProjectionError> {
        session.used = true;
        if session.ledger.fault == F::RowsAreSeenAtOnce {
            let of = (session.of.clone(), key.to_owned());
            session.ledger.disk().uncommitted.insert(of, Some(value.to_owned()));
        }
        if session.ledger.fault == F::TheFirstWriteCounts && session.rows.changed.contains_key(key)
        {
            return Ok(());
        }
        session.rows.changed.insert(key.to_owned(), Some(value.to_owned()));
        Ok(())
    }

    async fn remove(&self, session: &mut LedgerSession, key: &str) -> Result<(), ProjectionError> {
        session.used = true;
        session.rows.changed.insert(key.to_owned(), None);
        Ok(())
    }

    async fn fail(&self, _: &mut LedgerSession) -> ProjectionError {
        ProjectionError::message("the statement is refused")
    }

    async fn read(&self, target: &Ledger, name: &str, version: u32, key: &str) -> Option<String> {
        let (disk, of) = (target.disk(), (name.to_owned(), version));
        if let Some(value) = disk.uncommitted.get(&(of.clone(), key.to_owned())) {
            return value.clone();
        }
        disk.versions.get(&of)?.rows.get(key).cloned()
    }

    async fn served(&self, target: &Ledger, name: &str, key: &str) -> Option<String> {
        let serving = target.disk().serving.get(name).copied()?;
        let found = self.read(target, name, serving, key).await;
        let mut disk = target.disk();
        disk.asked += 1;
        if self.0 == F::ReadersAreBehind && disk.asked > 40 {
            return disk.told.get(key).cloned().unwrap_or(found);
        }
        disk.told.insert(key.to_owned(), found.clone());
        found
    }
}
