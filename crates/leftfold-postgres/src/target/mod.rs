//! A database as a target of projections.
//!
//! This file has the database; `session` is the one connection that writes a lane of a version, and
//! `reader` has those that read. `place` has the schemas of versions, and who has one.

pub(crate) mod place;
pub(crate) mod reader;
pub(crate) mod session;

use std::sync::Arc;
use std::time::Duration;

use leftfold_core::runtime::projection::{Notes, Place, Projection, ProjectionError, Target};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, Error, Socket};

use crate::connect::{Connected, PostgresConnector};
use crate::error::{PostgresError, is_away, is_in_use};
use crate::target::place::SchemaState;
use crate::target::reader::{READERS, ReadingConnections};
use crate::url::DatabaseUrl;
use crate::{PostgresSession, Reader, Rows};

/// Time between two signs of life of a session that has nothing to write: a third of the time after
/// which the server ends it.
const TOUCHED_EVERY: Duration = Duration::from_secs(5);
/// Statement that names the database: its cluster, whose number its standbys have, too, and its own
/// number there. No row if the role may not ask.
const HOME: &str = "SELECT format('PostgreSQL %s database %s', c.system_identifier, d.oid)
    FROM pg_database d, pg_control_system() c WHERE d.datname = current_database()";
/// Codes of servers that do not tell: a right that is missing, a function that is.
const UNTOLD: [&str; 2] = ["42501", "42883"];
/// Statement that limits the wait for readers of a version that is to be removed.
const REMOVE: &str = "SET lock_timeout TO '5s'";

/// A database with read models, a schema for each version of each.
///
/// ```no_run
#[doc = include_str!("../../doc/visits.rs")]
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use leftfold_core::runtime::Runtime;
/// # use leftfold_core::store::Store;
/// let store = Store::memory();
/// let visit = PageEvent::Visited { page: "/prices".to_owned() };
/// store.facts("page", "prices", &[visit.clone(), visit]).record().await?;
///
/// let postgres = Postgres::at("postgres://reader@localhost/shop")?;
/// Runtime::new(&store).project(Visits, postgres.clone()).run_until_idle().await?;
/// let rows = postgres.reader::<Visits>().read().await?;
/// let row = rows.query_one("SELECT count FROM visits WHERE page = $1", &[&"/prices"]).await?;
/// assert_eq!(row.get::<_, i64>(0), 2);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Postgres {
    server: Arc<PostgresConnector>,
    reading: Arc<ReadingConnections>,
    /// Connection that looks at what others wrote; it is made when it is needed.
    looks: Arc<Mutex<Option<Connected>>>,
}

impl Postgres {
    /// Read models in the database of a URL: `postgres://user:password@host:port/database`, with
    /// the parameters that [`Config`] lists, those for encryption that
    /// [`PostgresStoreOptions::at`](crate::PostgresStoreOptions::at) has, and `readers=8`: see
    /// [`readers`](Self::readers). Nothing is connected yet.
    ///
    /// # Errors
    /// [`PostgresError::Url`] or [`PostgresError::Parameter`] if it cannot be parsed,
    /// [`PostgresError::Readers`] if that is no number.
    pub fn at(url: &str) -> Result<Self, PostgresError> {
        Self::of(DatabaseUrl::parse(url, &["readers"]))
    }

    /// Read models in the database of the store that a URL names: the same, but for the parameters
    /// of the store, of which there is no notice.
    ///
    /// ```
    /// use leftfold_postgres::Postgres;
    ///
    /// let store = "postgres://shop@db.internal/shop?schema=orders";
    /// assert!(Postgres::beside_store(store).is_ok() && Postgres::at(store).is_err());
    /// ```
    ///
    /// # Errors
    /// Those of [`at`](Self::at).
    pub fn beside_store(url: &str) -> Result<Self, PostgresError> {
        Self::of(DatabaseUrl::parse(url, &["schema", "payload", "readers"]))
    }

    fn of(url: DatabaseUrl<'_>) -> Result<Self, PostgresError> {
        let readers = url.number("readers").transpose();
        let readers = readers.map_err(|found| PostgresError::Readers { found })?;
        let refused = match url.refused {
            Some(name) => PostgresError::Parameter { name },
            None => PostgresError::Url,
        };
        let config = url.config.ok_or(refused)?;
        let connector = PostgresConnector::as_configured(config, url.root_certificates);
        Ok(Self::by(connector, readers.unwrap_or(READERS)))
    }

    /// Read models in the database that is configured. Left open, a connection is given up after 10
    /// s without success, or after 30 s without any sign of the server.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use leftfold_postgres::Postgres;
    /// use leftfold_postgres::tokio_postgres::Config;
    ///
    /// let mut config = Config::new();
    /// config.host("db.internal").user("shop").dbname("shop");
    /// config.connect_timeout(Duration::from_secs(3));
    /// let postgres = Postgres::with(config);
    /// # let _ = postgres;
    /// ```
    #[must_use]
    pub fn with(config: Config) -> Self {
        Self::by(PostgresConnector::as_configured(config, None), READERS)
    }

    /// The same, by connections that a connector encrypts: one of the crate `tokio-postgres-rustls`
    /// with settings of your own, of `postgres-openssl`, or another one. Whether the server must
    /// encrypt is for the URL to say: `?sslmode=require`.
    #[must_use]
    pub fn encrypted_by<T>(self, connector: T) -> Self
    where
        T: MakeTlsConnect<Socket, TlsConnect: Send, Stream: Send> + Clone + Send + Sync + 'static,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let connector = PostgresConnector::new(self.server.config().clone(), connector);
        Self::by(connector, self.reading.at_most())
    }

    /// The same, with at most so many connections for reading, 1 at least; 8 if this is left out.
    /// All readers share them, and further reads wait. Each lane of a projection has one connection
    /// on top of them.
    #[must_use]
    pub fn readers(self, at_most: usize) -> Self {
        let reading = ReadingConnections::new(Arc::clone(&self.server), at_most);
        Self { reading: Arc::new(reading), ..self }
    }

    fn by(connector: PostgresConnector, readers: usize) -> Self {
        let server = Arc::new(connector);
        let reading = Arc::new(ReadingConnections::new(Arc::clone(&server), readers));
        Self { server, reading, looks: Arc::default() }
    }

    /// Reads what a projection wrote.
    #[must_use]
    pub fn reader<P: Projection<Self>>(&self) -> Reader {
        self.reader_of(P::NAME)
    }

    /// Reads what a projection of this name wrote: for programs that do not have its code.
    #[must_use]
    pub fn reader_of(&self, name: impl Into<String>) -> Reader {
        Reader::new(Arc::clone(&self.reading), name.into())
    }

    /// Returns the connection that is kept for looking, or makes it.
    async fn look(&self) -> Result<Looking<'_>, PostgresError> {
        let mut kept = self.looks.lock().await;
        let mut connected = match kept.take().filter(|connected| !connected.is_over()) {
            Some(connected) => connected,
            None => self.server.connect().await?,
        };
        connected.busy = true;
        Ok(Looking { kept, connected })
    }

    /// Returns a connection that is cut if its task is given up.
    async fn busy(&self) -> Result<Connected, PostgresError> {
        let mut connected = self.server.connect().await?;
        connected.busy = true;
        Ok(connected)
    }
}

/// Connection that is kept for looking, while it is in use.
struct Looking<'p> {
    kept: MutexGuard<'p, Option<Connected>>,
    connected: Connected,
}

impl Looking<'_> {
    /// Keeps the connection, as all went well.
    fn keep(mut self) {
        self.connected.busy = false;
        *self.kept = Some(self.connected);
    }
}

impl Target for Postgres {
    type Session = PostgresSession;
    const LANES_MAX: usize = 8;
    const TOUCHED_EVERY: Option<Duration> = Some(TOUCHED_EVERY);

    async fn open(&self, place: &Place) -> Result<PostgresSession, ProjectionError> {
        Ok(PostgresSession::open(&self.server, place).await?)
    }

    async fn serving(&self, name: &str) -> Result<Option<u32>, ProjectionError> {
        let looking = self.look().await?;
        let serving = serving(&looking.connected.rows, name)
            .await
            .map_err(PostgresError::refused("leftfold.serving"))?;
        looking.keep();
        Ok(serving)
    }

    async fn serve(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        let mut connected = self.busy().await?;
        serve(&connected.rows, name, version)
            .await
            .map_err(PostgresError::refused("leftfold.serving"))?;
        connected.busy = false;
        Ok(())
    }

    async fn versions(&self, name: &str) -> Result<Vec<u32>, ProjectionError> {
        let mut connected = self.busy().await?;
        let versions =
            versions(&connected.rows, name).await.map_err(PostgresError::refused(name))?;
        connected.busy = false;
        Ok(versions)
    }

    async fn discard(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        let mut connected = self.busy().await?;
        let schema = place::schema(name, version);
        place::take_all(&connected, &schema).await?;
        discard(&connected.rows, name, version).await.map_err(PostgresError::refused(schema))?;
        connected.busy = false;
        Ok(())
    }

    async fn noted(
        &self,
        place: &Place,
        prefixes: &[&str],
    ) -> Result<Option<Notes>, ProjectionError> {
        let looking = self.look().await?;
        let schema = place::schema(place.name, place.version);
        let notes = session::noted(&looking.connected.rows, &schema, prefixes)
            .await
            .map_err(PostgresError::refused(schema))?;
        looking.keep();
        Ok(Some(notes))
    }

    async fn shared_as(&self) -> Result<Option<String>, ProjectionError> {
        let looking = self.look().await?;
        let home = match looking.connected.rows.query_opt(HOME, &[]).await {
            Ok(row) => row.map(|row| row.get(0)),
            Err(error) if error.code().is_some_and(|code| UNTOLD.contains(&code.code())) => None,
            Err(error) => return Err(PostgresError::refused("pg_control_system")(error).into()),
        };
        looking.keep();
        Ok(home)
    }

    fn is_in_use(&self, error: &ProjectionError) -> bool {
        is_in_use(error)
    }

    fn is_away(&self, error: &ProjectionError) -> bool {
        is_away(error)
    }
}

async fn serving(rows: &Rows, name: &str) -> Result<Option<u32>, Error> {
    if !has_serving(rows).await? {
        return Ok(None);
    }
    let row =
        rows.query_opt("SELECT version FROM leftfold.serving WHERE name = $1", &[&name]).await?;
    let version: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
    Ok(version.and_then(|version| u32::try_from(version).ok()))
}

async fn has_serving(rows: &Rows) -> Result<bool, Error> {
    rows.query_one("SELECT to_regclass('leftfold.serving') IS NOT NULL", &[]).await?.try_get(0)
}

async fn serve(rows: &Rows, name: &str, version: u32) -> Result<(), Error> {
    place::make_serving(rows).await?;
    rows.execute(place::SERVE, &[&name, &i64::from(version)]).await.map(drop)
}

async fn versions(rows: &Rows, name: &str) -> Result<Vec<u32>, Error> {
    let begins = format!("{name}_v");
    let ours = "SELECT schemaname::text FROM pg_tables WHERE tablename = 'leftfold_notes' AND starts_with(schemaname::text, $1)";
    let mut versions = Vec::new();
    for row in rows.query(ours, &[&begins]).await? {
        let schema: String = row.try_get(0)?;
        versions
            .extend(schema.strip_prefix(&begins).and_then(|version| version.parse::<u32>().ok()));
    }
    versions.sort_unstable();
    Ok(versions)
}

async fn discard(rows: &Rows, name: &str, version: u32) -> Result<(), Error> {
    rows.batch_execute(&format!("BEGIN; {REMOVE}")).await?;
    if has_serving(rows).await? {
        let ended = "DELETE FROM leftfold.serving WHERE name = $1 AND version = $2";
        rows.execute(ended, &[&name, &i64::from(version)]).await?;
    }
    let schema = place::schema(name, version);
    if let SchemaState::Ours = place::state(rows, &schema).await? {
        rows.batch_execute(&format!("DROP SCHEMA {} CASCADE", place::quoted(&schema))).await?;
    }
    rows.batch_execute("COMMIT").await
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn a_url_that_cannot_be_read_is_refused_without_a_part_of_it() {
        // The first @ ends the password, so the rest of it stands where host and port should.
        let refused = Postgres::at("postgres://csms:p@ss:secret@localhost/1").unwrap_err();
        assert!(matches!(refused, PostgresError::Url) && refused.source().is_none(), "{refused:?}");
        let told = format!("{refused} {refused:?}");
        assert!(!told.contains("secret"), "{told}");
    }
}
