//! One run: which benchmarks there are, and what they share.

use std::fs;
use std::path::{Path, PathBuf};

use leftfold_core::store::Store;

use crate::ceiling::Ceiling;
use crate::large::Large;
use crate::settings::Settings;
use crate::table::{Row, Target};
use crate::{Outcome, batches, commands, conditions, encode, open, projections, reads, store};

/// A benchmark. Each gives one row of the table, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Benchmark {
    Commands1,
    Commands16,
    Commands256,
    Batches,
    Encode,
    ConditionsSmall1,
    ConditionsSmall16,
    Disk,
    Open,
    ReadAll,
    ReadFold,
    ReadStream,
    ProjectionsSqlite,
    ProjectionsMemory,
    ConditionsLarge1,
    ConditionsLarge16,
    Killed,
}

impl Benchmark {
    /// In the order in which they run: what appends to the large store comes after what reads it.
    pub(crate) const ALL: [Self; 17] = [
        Self::Commands1,
        Self::Commands16,
        Self::Commands256,
        Self::Batches,
        Self::Encode,
        Self::ConditionsSmall1,
        Self::ConditionsSmall16,
        Self::Disk,
        Self::Open,
        Self::ReadAll,
        Self::ReadFold,
        Self::ReadStream,
        Self::ProjectionsSqlite,
        Self::ProjectionsMemory,
        Self::ConditionsLarge1,
        Self::ConditionsLarge16,
        Self::Killed,
    ];

    pub(crate) const fn name(self) -> &'static str {
        self.described().0
    }

    pub(crate) const fn about(self) -> &'static str {
        self.described().1
    }

    const fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Commands1 => ("commands-1", "commands on aggregates, 1 writer"),
            Self::Commands16 => ("commands-16", "the same, 16 writers"),
            Self::Commands256 => ("commands-256", "the same, 256 writers"),
            Self::Batches => ("batches", "appends of 100 events"),
            Self::Encode => ("encode", "an event that is read back before it is written"),
            Self::ConditionsSmall1 => ("conditions-small-1", "what a condition costs in a small store, 1 writer"),
            Self::ConditionsSmall16 => ("conditions-small-16", "the same, 16 writers"),
            Self::Disk => ("disk", "bytes on disk for each event, and memory while they are appended"),
            Self::Open => ("open", "opening the large store after it was closed"),
            Self::ReadAll => ("read-all", "reading every event"),
            Self::ReadFold => ("read-fold", "reading every event, decoded into a fold"),
            Self::ReadStream => ("read-stream", "reading one stream of 1,000 events"),
            Self::ProjectionsSqlite => ("projections-sqlite", "projecting every event into SQLite, one upsert each"),
            Self::ProjectionsMemory => ("projections-memory", "projecting every event into a fold in memory"),
            Self::ConditionsLarge1 => ("conditions-large-1", "what a condition costs in the large store, 1 writer"),
            Self::ConditionsLarge16 => ("conditions-large-16", "the same, 16 writers"),
            Self::Killed => ("killed", "opening the large store after its process was killed"),
        }
    }
}

/// State shared by the benchmarks. Its folder is removed in the end.
pub(crate) struct Run {
    pub(crate) settings: Settings,
    folder: PathBuf,
    stores: u32,
    ceiling: Option<Ceiling>,
    large: Option<Large>,
}

/// A store that begins empty, in a folder of its own.
pub(crate) struct Fresh {
    pub(crate) store: Store,
    folder: PathBuf,
}

impl Run {
    pub(crate) fn new(settings: Settings) -> Outcome<Self> {
        let folder = settings.folder.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self { settings, folder, stores: 0, ceiling: None, large: None })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Measures what was asked for, one after the other, up to the first that fails.
    pub(crate) async fn measure_into(&mut self, rows: &mut Vec<Row>) -> Outcome {
        for benchmark in self.settings.benchmarks.clone() {
            eprintln!("{}: {}", benchmark.name(), benchmark.about());
            rows.extend(self.measure(benchmark).await?);
        }
        Ok(())
    }

    async fn measure(&mut self, benchmark: Benchmark) -> Outcome<Vec<Row>> {
        Ok(match benchmark {
            Benchmark::Commands1 => vec![commands::commands(self, 1, Target::RatioAtLeast(0.75)).await?],
            Benchmark::Commands16 => vec![commands::commands(self, 16, Target::None).await?],
            Benchmark::Commands256 => vec![commands::commands(self, 256, Target::RatioAtLeast(0.4)).await?],
            Benchmark::Batches => batches::batches(self).await?,
            Benchmark::Encode => vec![encode::checked(self).await?],
            Benchmark::ConditionsSmall1 => vec![conditions::in_small_store(self, 1).await?],
            Benchmark::ConditionsSmall16 => vec![conditions::in_small_store(self, 16).await?],
            Benchmark::Disk => self.large()?.rows(),
            Benchmark::Open => open::after_close(self)?,
            Benchmark::ReadAll => vec![reads::everything(self).await?],
            Benchmark::ReadFold => vec![reads::folded(self).await?],
            Benchmark::ReadStream => reads::one_stream(self).await?,
            Benchmark::ProjectionsSqlite => projections::into_sqlite(self).await?,
            Benchmark::ProjectionsMemory => projections::into_memory(self).await?,
            Benchmark::ConditionsLarge1 => vec![conditions::in_large_store(self, 1).await?],
            Benchmark::ConditionsLarge16 => vec![conditions::in_large_store(self, 16).await?],
            Benchmark::Killed => vec![open::after_kill(self)?],
        })
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

    pub(crate) fn fresh_store(&mut self) -> Outcome<Fresh> {
        self.stores += 1;
        let folder = self.folder.join(format!("store-{}", self.stores));
        Ok(Fresh { store: store::open(&folder)?, folder })
    }
}

impl Fresh {
    /// Closes the store and removes it.
    pub(crate) async fn discard(self) -> Outcome {
        self.store.close().await?;
        Ok(fs::remove_dir_all(&self.folder)?)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} cannot be removed: {error}", self.folder.display());
        }
    }
}
