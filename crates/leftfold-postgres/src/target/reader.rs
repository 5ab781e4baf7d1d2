//! Reading rows, of whichever version serves.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leftfold_core::runtime::projection::BESIDE;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::{Error, SimpleQueryMessage};

use crate::connect::{Connected, PostgresConnector};
use crate::target::place::{literal, schema};
use crate::{PostgresError, Rows};

/// Reads at the same time; further ones wait.
const READERS_MAX: usize = 16;
/// Connections that are kept open between reads.
const KEPT: usize = 8;

/// Reads the rows of the version of a projection that serves, in this process or in another one
/// than the writer's. Cheap to clone; clones share their connections, at most 16.
#[derive(Clone, Debug)]
pub struct Reader(Arc<PostgresReaderState>);

#[derive(Debug)]
struct PostgresReaderState {
    server: Arc<PostgresConnector>,
    name: String,
    /// Version to read; `None` for the one that serves.
    version: Option<u32>,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connected: Connected,
    version: u32,
}

/// A read of one moment and one version, which goes on until this is dropped: while it does, the
/// version is not removed, and the server keeps what the moment needs. It cannot write.
#[derive(Debug)]
pub struct Reading {
    idle: Option<Idle>,
    shared: Arc<PostgresReaderState>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Reader {
    pub(crate) fn new(server: Arc<PostgresConnector>, name: String) -> Self {
        Self::of(server, name, None)
    }

    fn of(server: Arc<PostgresConnector>, name: String, version: Option<u32>) -> Self {
        let permits = Arc::new(Semaphore::new(READERS_MAX));
        Self(Arc::new(PostgresReaderState {
            server,
            name,
            version,
            permits,
            idle: Mutex::default(),
        }))
    }

    /// Reads a version whether it serves or not: to look at one that is being built, or at the one
    /// before.
    #[must_use]
    pub fn of_version(&self, version: u32) -> Self {
        Self::of(self.0.server.clone(), self.0.name.clone(), Some(version))
    }

    /// Begins a read. All that is read through it is of one moment.
    ///
    /// ```no_run
    /// # mod visits { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/visits.rs")); }
    /// use leftfold_postgres::{Postgres, PostgresError};
    /// use visits::Visits;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reader = Postgres::at("postgres://reader@localhost/shop")?.reader::<Visits>();
    /// match reader.read().await {
    ///     Ok(rows) => {
    ///         let statement = rows.prepare_cached("SELECT page, count FROM visits").await?;
    ///         for row in rows.query(&statement, &[]).await? {
    ///             println!("{}: {}", row.get::<_, &str>("page"), row.get::<_, i64>("count"));
    ///         }
    ///     }
    ///     Err(PostgresError::NothingServes { .. }) => println!("it is being built"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`PostgresError::NothingServes`] before the first version was built; what the server says.
    pub async fn read(&self) -> Result<Reading, PostgresError> {
        let permit = self.0.permits.clone().acquire_owned().await.ok();
        loop {
            let kept = self.0.idle().pop();
            let (connected, before) = match kept {
                Some(Idle { connected, version }) => (connected, Some(version)),
                None => (self.0.server.connect().await?, None),
            };
            let read = self.begin(connected, before).await;
            match read {
                Ok(idle) => {
                    return Ok(Reading { idle: Some(idle), shared: self.0.clone(), permit });
                }
                // It was cut while nobody used it.
                Err(PostgresError::Refused { source, .. })
                    if before.is_some() && source.is_closed() => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn begin(
        &self,
        mut connected: Connected,
        before: Option<u32>,
    ) -> Result<Idle, PostgresError> {
        connected.busy = true;
        let version = match begin(&connected.rows, &self.0.name, self.0.version).await {
            Ok(version) => version,
            // Neither the table nor its schema were ever made.
            Err(error)
                if error.code().is_some_and(|code| ["42P01", "3F000"].contains(&code.code())) =>
            {
                None
            }
            Err(error) => return Err(PostgresError::refused(&self.0.name)(error)),
        };
        let version =
            version.ok_or_else(|| PostgresError::NothingServes { name: self.0.name.clone() })?;
        if before != Some(version) {
            connected.rows.forget_prepared();
        }
        Ok(Idle { connected, version })
    }
}

/// In one question to the server: the moment, the version that serves then, and that names of
/// tables mean its tables.
async fn begin(rows: &Rows, name: &str, version: Option<u32>) -> Result<Option<u32>, Error> {
    let version = match version {
        Some(version) => {
            // A version that was built anew may be in its other place.
            let is_there = |version| {
                format!(
                    "EXISTS (SELECT FROM pg_namespace WHERE nspname = {})",
                    literal(&schema(name, version))
                )
            };
            let (here, beside) = (is_there(version), is_there(version ^ BESIDE));
            let other = version ^ BESIDE;
            format!(
                "SELECT CASE WHEN NOT {here} AND {beside} THEN {other}::bigint ELSE {version}::bigint END AS version"
            )
        }
        None => format!("SELECT version FROM leftfold.serving WHERE name = {}", literal(name)),
    };
    let begins = literal(&format!("\"{}_v", name.replace('"', "\"\"")));
    let begin = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
        SELECT version, set_config('search_path', {begins} || version || '\", public', true) FROM ({version}) AS serving"
    );
    let said = rows.simple_query(&begin).await?;
    Ok(said.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    }))
}

impl Reading {
    /// The version that is read.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.idle().version & !BESIDE
    }

    fn idle(&self) -> &Idle {
        self.idle.as_ref().expect("it is taken only on drop")
    }
}

impl Deref for Reading {
    type Target = Rows;

    fn deref(&self) -> &Rows {
        &self.idle().connected.rows
    }
}

impl Drop for Reading {
    /// Ends the transaction in the background. If that cannot be done, the connection is cut.
    fn drop(&mut self) {
        let (Some(mut idle), Ok(runtime)) = (self.idle.take(), Handle::try_current()) else {
            return;
        };
        let (shared, permit) = (self.shared.clone(), self.permit.take());
        runtime.spawn(async move {
            if idle.connected.rows.batch_execute("ROLLBACK").await.is_err() {
                return;
            }
            idle.connected.busy = false;
            let mut kept = shared.idle();
            if kept.len() < KEPT {
                kept.push(idle);
            }
            drop(permit);
        });
    }
}

impl PostgresReaderState {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
