//! Reading rows, of whichever version serves.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{Client, RedisResult, Script};

use crate::RedisError;
use crate::connect::connect;
use crate::error::NOTHING;
use crate::keys::{self, RedisKeys};

/// The version, and the rows under the keys after it. The last argument names a version that is
/// read without serving.
static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local version = ARGV[2]
        if version == '' then version = redis.call('GET', KEYS[1])
        elseif redis.call('HEXISTS', KEYS[2], version) == 0 then
            -- A version that was rebuilt may be in its other place.
            local beside = string.format('%.0f', tonumber(version) + 2147483648)
            if redis.call('HEXISTS', KEYS[2], beside) == 1 then version = beside end
        end
        if not version then return redis.error_reply('NOTHING serves yet') end
        local rows = {}
        for at = 3, #ARGV do rows[at - 2] = redis.call('GET', ARGV[1] .. ':v' .. version .. ':' .. ARGV[at]) end
        return { version, rows }",
    )
});

/// Reads the rows of the version of a projection that serves, in this process or in another one
/// than the writer's. Cheap to clone; clones share one connection, which is replaced when it
/// breaks.
#[derive(Clone, Debug)]
pub struct Reader(Arc<RedisReaderState>);

#[derive(Debug)]
struct RedisReaderState {
    client: Client,
    name: String,
    /// Version to read; `None` for the one that serves.
    version: Option<u32>,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Reader {
    pub(crate) fn new(client: Client, name: String) -> Self {
        Self(Arc::new(RedisReaderState {
            client,
            name,
            version: None,
            connection: Mutex::default(),
        }))
    }

    /// Reads a version whether it serves or not: to look at one that is being built, or at the one
    /// before.
    #[must_use]
    pub fn of_version(&self, version: u32) -> Self {
        let (client, name) = (self.0.client.clone(), self.0.name.clone());
        Self(Arc::new(RedisReaderState {
            client,
            name,
            version: Some(version),
            connection: Mutex::default(),
        }))
    }

    /// Returns the row under a key; `None` if there is none.
    ///
    /// # Errors
    /// [`RedisError::NothingServes`] before the first version was built; [`RedisError::Refused`] if
    /// the server cannot be reached, or refuses.
    pub async fn read(&self, key: &str) -> Result<Option<Vec<u8>>, RedisError> {
        Ok(self.ask(&[key]).await?.1.pop().flatten())
    }

    /// The rows under keys, in the order of the keys, all of one moment and one version.
    ///
    /// ```no_run
    /// # mod visits { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/visits.rs")); }
    /// use leftfold_redis::Redis;
    /// use visits::Visits;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reader = Redis::at("redis://localhost")?.reader::<Visits>();
    /// // Of one moment: a sum over both is never wrong.
    /// let counts = reader.read_all(&["/prices", "/contact"]).await?;
    /// assert_eq!(counts.len(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As those of [`read`](Reader::read).
    pub async fn read_all(&self, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>, RedisError> {
        Ok(self.ask(keys).await?.1)
    }

    /// Returns the prefix of the keys of all rows in the version that serves now: for commands of
    /// your own.
    ///
    /// ```no_run
    /// use leftfold_redis::Redis;
    /// use leftfold_redis::redis::AsyncTypedCommands;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let redis = Redis::at("redis://localhost")?;
    /// let prefix = redis.reader_of("visits").prefix().await?;
    /// let mut connection = redis.client().get_multiplexed_async_connection().await?;
    /// let seconds = connection.ttl(format!("{prefix}/prices")).await?;
    /// # let _ = seconds;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As those of [`read`](Reader::read).
    pub async fn prefix(&self) -> Result<String, RedisError> {
        Ok(RedisKeys::new(&self.0.name, self.ask(&[]).await?.0).rows)
    }

    async fn ask(&self, rows: &[&str]) -> Result<(u32, Vec<Option<Vec<u8>>>), RedisError> {
        let mut again = true;
        loop {
            let kept = self.connection().clone();
            again &= kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connected().await?,
            };
            match self.ask_by(&mut connection, rows).await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.code() == Some(NOTHING) => {
                    return Err(RedisError::NothingServes { name: self.0.name.clone() });
                }
                Err(error) => {
                    let broken = error.is_unrecoverable_error() || error.is_io_error();
                    if broken {
                        *self.connection() = None;
                    }
                    // One that was kept may have been broken long ago.
                    if !(broken && again) {
                        return Err(RedisError::Refused(error));
                    }
                    again = false;
                }
            }
        }
    }

    async fn ask_by(
        &self,
        connection: &mut MultiplexedConnection,
        rows: &[&str],
    ) -> RedisResult<(u32, Vec<Option<Vec<u8>>>)> {
        let mut read = READ.key(keys::serving(&self.0.name));
        read.key(keys::versions(&self.0.name));
        read.arg(&self.0.name)
            .arg(self.0.version.map_or_else(String::new, |version| version.to_string()));
        read.arg(rows).invoke_async(connection).await
    }

    async fn connected(&self) -> Result<MultiplexedConnection, RedisError> {
        let connection = connect(&self.0.client).await?;
        *self.connection() = Some(connection.clone());
        Ok(connection)
    }

    fn connection(&self) -> MutexGuard<'_, Option<MultiplexedConnection>> {
        self.0.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
