//! A Redis database as a target of projections.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leftfold_core::runtime::projection::{Notes, Place, Projection, ProjectionError, Target};
use leftfold_core::store::Holder;
use redis::aio::MultiplexedConnection;
use redis::{AsyncTypedCommands, Client, RedisResult};

use crate::connect::{check_eviction, connect};
use crate::error::{RedisError, is_away, is_in_use};
use crate::keys::{self, RedisKeys};
use crate::owner::{SIGNS, VersionOwnership};
use crate::{Reader, RedisSession, session};

/// Approximate number of rows that are removed at once.
const REMOVED_AT_ONCE: usize = 1_000;
/// State of a version in the hash of versions: it is in use.
const WRITTEN: &str = "written";
const BEING_REMOVED: &str = "being removed";

/// A database with read models, a prefix for each version of each.
///
/// ```no_run
#[doc = include_str!("../doc/visits.rs")]
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use leftfold_core::runtime::Runtime;
/// # use leftfold_core::store::Store;
/// let store = Store::memory();
/// let visit = PageEvent::Visited { page: "/prices".to_owned() };
/// store.facts("page", "prices", &[visit.clone(), visit]).record().await?;
///
/// let redis = Redis::at("redis://localhost")?;
/// Runtime::new(&store).project(Visits, redis.clone()).run_until_idle().await?;
/// assert_eq!(redis.reader::<Visits>().read("/prices").await?, Some(b"2".to_vec()));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Redis {
    client: Client,
    /// Connection that looks at what others wrote; it is made when it is needed.
    looks: Arc<Mutex<Option<MultiplexedConnection>>>,
}

impl Redis {
    /// Read models in the database of a URL: `redis://user:password@host:port/number`. Nothing is
    /// connected yet.
    ///
    /// # Errors
    /// [`RedisError::Url`] if it cannot be parsed.
    pub fn at(url: &str) -> Result<Self, RedisError> {
        let client = Client::open(url).map_err(|_| RedisError::Url)?;
        Ok(Self { client, looks: Arc::default() })
    }

    /// Returns the client that connections are made by: for commands of your own.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Reads what a projection wrote.
    #[must_use]
    pub fn reader<P: Projection<Self>>(&self) -> Reader {
        self.reader_of(P::NAME)
    }

    /// Reads what a projection of this name wrote: for programs that do not have its code.
    #[must_use]
    pub fn reader_of(&self, name: impl Into<String>) -> Reader {
        Reader::new(self.client.clone(), name.into())
    }

    /// Takes the connection that is kept for looking, or makes it.
    async fn look(&self) -> Result<MultiplexedConnection, RedisError> {
        let kept = self.looks().take();
        match kept {
            Some(connection) => Ok(connection),
            None => connect(&self.client).await,
        }
    }

    /// Keeps the connection, as all went well.
    fn keep(&self, connection: MultiplexedConnection) {
        *self.looks() = Some(connection);
    }

    fn looks(&self) -> MutexGuard<'_, Option<MultiplexedConnection>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for Redis {
    type Session = RedisSession;
    const TOUCHED_EVERY: Option<Duration> = Some(SIGNS);

    async fn open(&self, place: &Place) -> Result<RedisSession, ProjectionError> {
        let mut connection = connect(&self.client).await?;
        check_eviction(&mut connection).await?;
        let keys = RedisKeys::new(place.name, place.version);
        let owner = VersionOwnership::take(&connection, &keys).await?;
        made(&mut connection, place, &keys).await.map_err(RedisError::Refused)?;
        Ok(RedisSession::new(connection, owner, keys))
    }

    async fn serving(&self, name: &str) -> Result<Option<u32>, ProjectionError> {
        let mut connection = self.look().await?;
        let version = connection.get(keys::serving(name)).await.map_err(RedisError::Refused)?;
        self.keep(connection);
        Ok(version.and_then(|version| version.parse().ok()))
    }

    async fn serve(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        let mut connection = connect(&self.client).await?;
        Ok(connection.set(keys::serving(name), version).await.map_err(RedisError::Refused)?)
    }

    async fn versions(&self, name: &str) -> Result<Vec<u32>, ProjectionError> {
        let mut connection = connect(&self.client).await?;
        let versions = connection.hkeys(keys::versions(name)).await.map_err(RedisError::Refused)?;
        let mut versions: Vec<u32> =
            versions.iter().filter_map(|version| version.parse().ok()).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    async fn discard(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        let mut connection = connect(&self.client).await?;
        let keys = RedisKeys::new(name, version);
        let _owner = VersionOwnership::take(&connection, &keys).await?;
        Ok(discard(&mut connection, name, version, &keys).await.map_err(RedisError::Refused)?)
    }

    async fn noted(
        &self,
        place: &Place,
        prefixes: &[&str],
    ) -> Result<Option<Notes>, ProjectionError> {
        let mut connection = self.look().await?;
        let keys = RedisKeys::new(place.name, place.version);
        let noted = session::noted(&mut connection, &keys, prefixes).await;
        let noted = noted.map_err(RedisError::Refused)?;
        self.keep(connection);
        Ok(Some(noted))
    }

    async fn shared_as(&self) -> Result<Option<String>, ProjectionError> {
        let mut connection = self.look().await?;
        match home(&mut connection).await {
            Ok(home) => {
                self.keep(connection);
                Ok(Some(format!("Redis {home}")))
            }
            // The user may have no right to the key.
            Err(error) if error.code() == Some("NOPERM") => Ok(None),
            Err(error) => Err(RedisError::Refused(error).into()),
        }
    }

    fn is_in_use(&self, error: &ProjectionError) -> bool {
        is_in_use(error)
    }

    fn is_away(&self, error: &ProjectionError) -> bool {
        is_away(error)
    }
}

/// Returns the id of the database, which whoever asks first draws: an id of the server's would be
/// another one after each of its starts.
async fn home(connection: &mut MultiplexedConnection) -> RedisResult<String> {
    let drawn = Holder::random().to_string();
    connection.set_nx(keys::HOME, drawn).await?;
    Ok(connection.get(keys::HOME).await?.unwrap_or_default())
}

/// Notes the version. What an interrupted removal left of it is removed before, guards above all.
async fn made(
    connection: &mut MultiplexedConnection,
    place: &Place,
    keys: &RedisKeys,
) -> RedisResult<()> {
    let versions = keys::versions(place.name);
    let state = connection.hget(&versions, place.version).await?;
    if state.as_deref() == Some(BEING_REMOVED) {
        remove(connection, keys).await?;
    }
    connection.hset(&versions, place.version, WRITTEN).await.map(drop)
}

async fn discard(
    connection: &mut MultiplexedConnection,
    name: &str,
    version: u32,
    keys: &RedisKeys,
) -> RedisResult<()> {
    let versions = keys::versions(name);
    if connection.get(keys::serving(name)).await? == Some(version.to_string()) {
        connection.del(keys::serving(name)).await?;
    }
    connection.hset(&versions, version, BEING_REMOVED).await?;
    remove(connection, keys).await?;
    connection.hdel(&versions, version).await.map(drop)
}

/// Rows first, by their guards: whatever has a guard may have a row.
async fn remove(connection: &mut MultiplexedConnection, keys: &RedisKeys) -> RedisResult<()> {
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("HSCAN");
        scan.arg(&keys.guards).arg(cursor).arg("COUNT").arg(REMOVED_AT_ONCE);
        let (next, guards): (u64, Vec<(String, u64)>) = scan.query_async(connection).await?;
        let rows: Vec<String> =
            guards.into_iter().map(|(row, _)| format!("{}{row}", keys.rows)).collect();
        if !rows.is_empty() {
            connection.unlink(rows).await?;
        }
        if next == 0 {
            break;
        }
        cursor = next;
    }
    connection.unlink(&[&keys.guards, &keys.notes, &keys.noted]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn a_url_that_cannot_be_read_is_refused_without_a_part_of_it() {
        // The slash ends the host, so the password's first part stands where the port should.
        let refused = Redis::at("redis://csms:secret/word@localhost/1").unwrap_err();
        assert!(matches!(refused, RedisError::Url) && refused.source().is_none(), "{refused:?}");
        let told = format!("{refused} {refused:?}");
        assert!(!told.contains("secret"), "{told}");
    }
}
