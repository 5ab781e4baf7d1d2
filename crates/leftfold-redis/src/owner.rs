//! Ownership of a version: the session that writes it has a token under a key that expires, which
//! every script checks.

use std::process;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time;

use crate::RedisError;
use crate::keys::RedisKeys;

/// Time after which a session that gives no sign loses its version.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// Time between two signs of a session.
pub(crate) const SIGNS: Duration = Duration::from_secs(10);

/// Takes the key if no session has it, or if the session that the second argument names has it,
/// which is gone; answers with the holder.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local held = redis.call('GET', KEYS[1])
        if held and held ~= ARGV[2] then return held end
        redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
        return ARGV[1]",
    )
});
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('NOTOWNER another session has it') end
        redis.call('PEXPIRE', KEYS[1], ARGV[2])",
    )
});
static GIVE_BACK: LazyLock<Script> = LazyLock::new(|| {
    Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end")
});

/// The ownership of a version, which is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct VersionOwnership {
    connection: MultiplexedConnection,
    key: String,
    token: SessionToken,
    signs: JoinHandle<()>,
}

/// Token of a session: the number of its connection at the server, its process, and the time, so
/// that no two sessions have the same.
#[derive(Clone, Debug, PartialEq)]
struct SessionToken {
    client: u64,
    text: String,
}

impl VersionOwnership {
    pub(crate) async fn take(
        connection: &MultiplexedConnection,
        keys: &RedisKeys,
    ) -> Result<Self, RedisError> {
        let mut connection = connection.clone();
        let token = SessionToken::new(&mut connection).await.map_err(RedisError::Refused)?;
        let mut gone = String::new();
        // Once for a holder who is gone, and once more where two find that out together.
        for _ in 0..3 {
            let holder = take(&mut connection, &keys.owner, &token, &gone)
                .await
                .map_err(RedisError::Refused)?;
            if holder == token.text {
                let signs =
                    tokio::spawn(give_signs(connection.clone(), keys.owner.clone(), token.clone()));
                return Ok(Self { connection, key: keys.owner.clone(), token, signs });
            }
            let alive = SessionToken::read(&holder)
                .is_none_or(|holder| holder.client != token.client)
                && is_alive(&mut connection, &holder).await;
            if alive {
                let holder =
                    SessionToken::read(&holder).map_or(holder, |holder| holder.to_string());
                return Err(RedisError::InUse { version: keys.version.clone(), holder });
            }
            gone = holder;
        }
        Err(RedisError::InUse { version: keys.version.clone(), holder: gone })
    }

    pub(crate) fn token(&self) -> &str {
        &self.token.text
    }

    /// Finds out whether it is the owner still, and stays it for a while then.
    pub(crate) async fn renew(&mut self) -> RedisResult<()> {
        renew(&mut self.connection, &self.key, &self.token).await
    }
}

async fn take(
    connection: &mut MultiplexedConnection,
    key: &str,
    token: &SessionToken,
    gone: &str,
) -> RedisResult<String> {
    let lease_ms = LEASE.as_millis() as u64;
    TAKE.key(key).arg(&token.text).arg(gone).arg(lease_ms).invoke_async(connection).await
}

async fn renew(
    connection: &mut MultiplexedConnection,
    key: &str,
    token: &SessionToken,
) -> RedisResult<()> {
    RENEW.key(key).arg(&token.text).arg(LEASE.as_millis() as u64).invoke_async(connection).await
}

/// Keeps the ownership of a session that has nothing to write. One that lost it learns of it when
/// it writes.
async fn give_signs(mut connection: MultiplexedConnection, key: String, token: SessionToken) {
    loop {
        time::sleep(SIGNS).await;
        if renew(&mut connection, &key, &token).await.is_err() {
            return;
        }
    }
}

/// Tells whether the server still has the holder's connection. True if the server does not tell:
/// then the lease has to expire.
async fn is_alive(connection: &mut MultiplexedConnection, holder: &str) -> bool {
    let Some(holder) = SessionToken::read(holder) else {
        return true;
    };
    let listed = redis::cmd("CLIENT")
        .arg("LIST")
        .arg("ID")
        .arg(holder.client)
        .query_async::<String>(connection)
        .await;
    listed.map_or(true, |listed| !listed.trim().is_empty())
}

impl SessionToken {
    async fn new(connection: &mut MultiplexedConnection) -> RedisResult<Self> {
        let client: u64 = redis::cmd("CLIENT").arg("ID").query_async(connection).await?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Ok(Self { client, text: format!("{client} {} {since}", process::id()) })
    }

    fn read(text: &str) -> Option<Self> {
        let client = text.split(' ').next()?.parse().ok()?;
        Some(Self { client, text: text.to_owned() })
    }
}

impl std::fmt::Display for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let process = self.text.split(' ').nth(1).unwrap_or("?");
        write!(f, "process {process}, which is client {} of the server", self.client)
    }
}

impl Drop for VersionOwnership {
    /// Gives the version back in the background. If that cannot be done, the next session learns
    /// from the server that the connection is gone.
    fn drop(&mut self) {
        self.signs.abort();
        let Ok(runtime) = Handle::try_current() else { return };
        let (mut connection, key, token) =
            (self.connection.clone(), self.key.clone(), self.token.clone());
        runtime.spawn(async move {
            let _: RedisResult<()> =
                GIVE_BACK.key(key).arg(token.text).invoke_async(&mut connection).await;
        });
    }
}
