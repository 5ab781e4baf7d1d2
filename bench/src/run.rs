//! One run: the stores and the ceiling that benchmarks share.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leftfold_core::store::Store;

use crate::ceiling::Ceiling;
use crate::large::Large;
use crate::postgres::server::BenchServer;
use crate::settings::BenchSettings;
use crate::{Outcome, store};

/// State that the benchmarks of a run share. Its folder is removed in the end.
pub(crate) struct BenchRun {
    pub(crate) settings: BenchSettings,
    folder: PathBuf,
    stores: u32,
    ceiling: Option<Ceiling>,
    large: Option<Large>,
    postgres: Option<Arc<BenchServer>>,
}

/// A store that begins empty, in a folder of its own.
pub(crate) struct EmptyStore {
    pub(crate) store: Store,
    folder: PathBuf,
}

impl BenchRun {
    pub(crate) fn new(settings: BenchSettings) -> Outcome<Self> {
        let folder = settings.folder.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self { settings, folder, stores: 0, ceiling: None, large: None, postgres: None })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The ceiling's thread, started when it is first asked for.
    pub(crate) fn ceiling(&mut self) -> Outcome<Ceiling> {
        let ceiling = match self.ceiling.take() {
            Some(ceiling) => ceiling,
            None => Ceiling::start(&self.folder.join("ceiling"), self.settings.span)?,
        };
        Ok(self.ceiling.insert(ceiling).clone())
    }

    /// The large store, filled when it is first asked for.
    pub(crate) fn large(&mut self) -> Outcome<&Large> {
        let large = match self.large.take() {
            Some(large) => large,
            None => Large::fill(self.folder.join("large"), self.settings.events)?,
        };
        Ok(self.large.insert(large))
    }

    /// The PostgreSQL server, started when it is first asked for.
    pub(crate) fn postgres(&mut self) -> Outcome<Arc<BenchServer>> {
        let server = match self.postgres.take() {
            Some(server) => server,
            None => Arc::new(BenchServer::start(self.settings.events)?),
        };
        Ok(Arc::clone(self.postgres.insert(server)))
    }

    /// Returns a folder for a store, which is not there yet.
    pub(crate) fn fresh_folder(&mut self) -> PathBuf {
        self.stores += 1;
        self.folder.join(format!("store-{}", self.stores))
    }

    pub(crate) fn fresh_store(&mut self) -> Outcome<EmptyStore> {
        let folder = self.fresh_folder();
        Ok(EmptyStore { store: store::open(&folder)?, folder })
    }
}

impl EmptyStore {
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Closes the store and removes it.
    pub(crate) async fn discard(self) -> Outcome {
        self.store.close().await?;
        Ok(fs::remove_dir_all(&self.folder)?)
    }
}

impl Drop for BenchRun {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} cannot be removed: {error}", self.folder.display());
        }
    }
}
