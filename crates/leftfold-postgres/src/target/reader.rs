//! Reading rows, of whichever version serves.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leftfold_core::runtime::projection::BESIDE;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_postgres::{Error, SimpleQueryMessage};

use crate::connect::{Connected, PostgresConnector};
use crate::target::place::{literal, schema};
use crate::{PostgresError, Rows};

/// Connections for reading, if nothing else is said.
pub(crate) const READERS: usize = 8;
/// Time that a read waits for a connection.
const WAITED_FOR: Duration = Duration::from_secs(10);

/// Reads the rows of the version of a projection that serves, in this process or in another one
/// than the writer's. Cheap to clone; all readers of one [`Postgres`](crate::Postgres) share their
/// connections.
#[derive(Clone, Debug)]
pub struct Reader {
    connections: Arc<ReadingConnections>,
    name: Arc<str>,
    /// Version to read; `None` for the one that serves.
    version: Option<u32>,
}

/// The connections of all readers of a database.
#[derive(Debug)]
pub(crate) struct ReadingConnections {
    server: Arc<PostgresConnector>,
    at_most: usize,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connected: Connected,
    /// Projection and version that its statements are prepared for.
    prepared_for: (Arc<str>, u32),
}

/// A read of one moment and one version, which goes on until this is dropped: while it does, the
/// version is not removed, and the server keeps what the moment needs. It cannot write. The server
/// ends one in which nothing is asked for a minute.
#[derive(Debug)]
pub struct Reading {
    idle: Option<Idle>,
    connections: Arc<ReadingConnections>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Reader {
    pub(crate) fn new(connections: Arc<ReadingConnections>, name: String) -> Self {
        Self { connections, name: name.into(), version: None }
    }

    /// Reads a version whether it serves or not: to look at one that is being built, or at the one
    /// before.
    #[must_use]
    pub fn of_version(&self, version: u32) -> Self {
        Self { version: Some(version), ..self.clone() }
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
    /// [`PostgresError::NothingServes`] before the first version was built;
    /// [`PostgresError::ReadersBusy`] if no connection was free for 10 s; what the server says.
    pub async fn read(&self) -> Result<Reading, PostgresError> {
        let permit = self.connections.permit().await?;
        loop {
            let kept = self.connections.take(&self.name);
            let (connected, before) = match kept {
                Some(Idle { connected, prepared_for }) => (connected, Some(prepared_for)),
                None => (self.connections.server.connect().await?, None),
            };
            let was_idle = before.is_some();
            match self.begin(connected, before).await {
                Ok(idle) => {
                    let connections = Arc::clone(&self.connections);
                    return Ok(Reading { idle: Some(idle), connections, permit });
                }
                // It was cut while nobody used it.
                Err(PostgresError::Refused { source, .. }) if was_idle && source.is_closed() => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn begin(
        &self,
        mut connected: Connected,
        before: Option<(Arc<str>, u32)>,
    ) -> Result<Idle, PostgresError> {
        connected.busy = true;
        let version = match begin(&connected.rows, &self.name, self.version).await {
            Ok(version) => version,
            // Neither the table nor its schema were ever made.
            Err(error)
                if error.code().is_some_and(|code| ["42P01", "3F000"].contains(&code.code())) =>
            {
                None
            }
            Err(error) => return Err(PostgresError::refused(&*self.name)(error)),
        };
        let version =
            version.ok_or_else(|| PostgresError::NothingServes { name: self.name.to_string() })?;
        let prepared_for = (Arc::clone(&self.name), version);
        if before.as_ref() != Some(&prepared_for) {
            connected.rows.forget_prepared();
        }
        Ok(Idle { connected, prepared_for })
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
        self.idle().prepared_for.1 & !BESIDE
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
        let (connections, permit) = (Arc::clone(&self.connections), self.permit.take());
        runtime.spawn(async move {
            if idle.connected.rows.batch_execute("ROLLBACK").await.is_ok() {
                idle.connected.busy = false;
                connections.idle().push(idle);
            }
            drop(permit);
        });
    }
}

impl ReadingConnections {
    /// At most so many connections, 1 at least.
    pub(crate) fn new(server: Arc<PostgresConnector>, at_most: usize) -> Self {
        let at_most = at_most.clamp(1, Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(at_most));
        Self { server, at_most, permits, idle: Mutex::default() }
    }

    pub(crate) fn at_most(&self) -> usize {
        self.at_most
    }

    async fn permit(&self) -> Result<Option<OwnedSemaphorePermit>, PostgresError> {
        let permit = timeout(WAITED_FOR, Arc::clone(&self.permits).acquire_owned()).await;
        let busy = PostgresError::ReadersBusy { at_most: self.at_most, within: WAITED_FOR };
        permit.map(Result::ok).map_err(|_| busy)
    }

    /// Takes a connection that nobody uses: one that read this projection last, if there is one.
    fn take(&self, name: &str) -> Option<Idle> {
        let mut idle = self.idle();
        let same = idle.iter().rposition(|idle| &*idle.prepared_for.0 == name);
        match same {
            Some(index) => Some(idle.swap_remove(index)),
            None => idle.pop(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
