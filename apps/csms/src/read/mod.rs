//! Read models for lists, reports and the dashboard: projections behind the log.
//!
//! - `facts`: the events that they read
//! - [`fleet`]: the stations as they are now, in memory, built at every start
//! - [`transactions`] and [`meter_values`]: tables in SQLite beside the log, or in PostgreSQL; each
//!   is one file with its tables, the changes by events, and the queries
//! - [`energy`]: the part of the transactions that is their energy, in all and by day;
//!   [`signed_values`]: the signed meter values among them
//! - `sql`: the differences between the databases
//!
//! A reader sees the state of a moment ago: a reader that needs more waits for a position.

pub(crate) mod energy;
mod facts;
pub(crate) mod fleet;
pub(crate) mod meter_values;
pub(crate) mod signed_values;
mod sql;
pub(crate) mod transactions;

use std::path::PathBuf;
use std::time::Duration;

use leftfold::postgres::{self, Postgres, PostgresError};
use leftfold::prelude::Runtime;
use leftfold::runtime::projection::{Memory, Rows, Target};
use leftfold::sqlite::{self, Sqlite, SqliteError};
use tokio::time::timeout;

use crate::confidential::Confidential;
use fleet::Fleet;
use sql::{Conditions, Sql, SqlRow, Unexpected};

/// Time that a database may take to answer a reader.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Name of the read model of the transactions, with their energy and their signed values.
const TRANSACTIONS: &str = "transactions";

/// Names of the read models that are kept in tables.
const TABLES: [&str; 2] = [transactions::NAME, meter_values::NAME];

/// Read models: the stations in memory, the others in tables.
#[derive(Clone, Debug)]
pub(crate) struct ReadModels {
    fleet: Memory<Fleet>,
    tables: Tables,
}

#[derive(Clone, Debug)]
enum Tables {
    Sqlite(Sqlite, Readers<sqlite::Reader>),
    Postgres(Postgres, Readers<postgres::Reader>),
}

#[derive(Clone, Debug)]
struct Readers<R> {
    transactions: R,
    meter_values: R,
}

/// Place of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadModelPlace {
    /// In SQLite, in files of this directory.
    Directory(PathBuf),
    /// In PostgreSQL, in schemas of the database of this URL.
    Postgres(Confidential),
    /// In the database of the store of this URL, in schemas beside that of the events.
    StoreDatabase(Confidential),
}

/// Error of reading a read model.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadModelError {
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// PostgreSQL failed.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// A statement failed in PostgreSQL.
    #[error("the database refused to read {name}: {error}")]
    Refused {
        /// The read model.
        name: &'static str,
        /// Error of the database.
        error: postgres::tokio_postgres::Error,
    },
    /// The database does not answer.
    #[error("the database did not answer within {} s", ANSWERS_WITHIN.as_secs())]
    Silent,
    /// A column holds another value than was written.
    #[error(transparent)]
    Unexpected(#[from] Unexpected),
    /// Reading ended by a panic.
    #[error("reading {name} ended by a panic")]
    Panicked {
        /// The read model.
        name: &'static str,
    },
}

impl ReadModels {
    /// Creates the read models in a place. Nothing is opened yet.
    ///
    /// # Errors
    /// [`PostgresError::Url`] if the URL is not valid.
    pub(crate) fn at(place: &ReadModelPlace) -> Result<Self, PostgresError> {
        let tables = match place {
            ReadModelPlace::Directory(path) => {
                let sqlite = Sqlite::at(path);
                let readers = Readers::of(|name| sqlite.reader_of(name));
                Tables::Sqlite(sqlite, readers)
            }
            ReadModelPlace::Postgres(url) => Tables::in_postgres(Postgres::at(url.reveal())?),
            ReadModelPlace::StoreDatabase(url) => {
                Tables::in_postgres(Postgres::beside_store(url.reveal())?)
            }
        };
        Ok(Self { fleet: Memory::new(), tables })
    }

    /// Has a runtime keep the read models up to date.
    pub(crate) fn follow(&self, runtime: Runtime) -> Runtime {
        let runtime = runtime.project(fleet::Stations, self.fleet.clone());
        match &self.tables {
            Tables::Sqlite(target, _) => project(runtime, target),
            Tables::Postgres(target, _) => project(runtime, target),
        }
    }

    /// Has a runtime rebuild the tables.
    pub(crate) fn rebuild(&self, runtime: Runtime) -> Runtime {
        TABLES.into_iter().fold(runtime, Runtime::rebuild)
    }

    /// Looks at the stations.
    pub(crate) async fn fleet<R>(&self, look: impl FnOnce(&Fleet) -> R) -> R {
        self.fleet.read(look).await
    }

    /// Reads rows of the version that serves.
    async fn rows<R>(
        &self,
        name: &'static str,
        statement: String,
        conditions: Conditions,
        read: impl Fn(SqlRow) -> Result<R, Unexpected>,
    ) -> Result<Vec<R>, ReadModelError> {
        let values = conditions.values();
        let found = match &self.tables {
            Tables::Sqlite(_, readers) => {
                let reader = readers.of_name(name).clone();
                let reading = move || {
                    reader.read(|connection| sql::find_in_sqlite(connection, &statement, &values))
                };
                let read = tokio::task::spawn_blocking(reading).await;
                read.map_err(|_| ReadModelError::Panicked { name })??
            }
            Tables::Postgres(_, readers) => {
                let reader = readers.of_name(name);
                let reading = async {
                    let rows = reader.read().await?;
                    let found = sql::find_in_postgres(&rows, &statement, &values).await;
                    found.map_err(|error| ReadModelError::Refused { name, error })
                };
                timeout(ANSWERS_WITHIN, reading).await.map_err(|_| ReadModelError::Silent)??
            }
        };
        Ok(found.into_iter().map(read).collect::<Result<_, _>>()?)
    }
}

impl Tables {
    fn in_postgres(target: Postgres) -> Self {
        let readers = Readers::of(|name| target.reader_of(name));
        Self::Postgres(target, readers)
    }
}

fn project<T: Target>(runtime: Runtime, target: &T) -> Runtime
where
    Rows<T>: Sql,
{
    let runtime = runtime.project(transactions::Transactions, target.clone());
    runtime.project(meter_values::MeterSamples, target.clone())
}

impl<R> Readers<R> {
    fn of(reader: impl Fn(&'static str) -> R) -> Self {
        Self { transactions: reader(transactions::NAME), meter_values: reader(meter_values::NAME) }
    }

    fn of_name(&self, name: &str) -> &R {
        match name {
            meter_values::NAME => &self.meter_values,
            _ => &self.transactions,
        }
    }
}
