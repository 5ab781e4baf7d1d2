//! The one connection that writes a version.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use leftfold_core::runtime::projection::{Notes, ProjectionError, Session};
use leftfold_core::store::Position;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script, ScriptInvocation};

use crate::keys::RedisKeys;
use crate::owner::{LEASE, VersionOwnership};
use crate::writes::Write;
use crate::{RedisError, Writes};

/// Rows that one script writes at most; while it runs, the server does nothing else.
const CHUNK_ROWS: usize = 5_000;
const CHUNK_BYTES: usize = 4 << 20;

/// Rows as (key, position, `+` or `-`, value), then notes as (key, `+` or `-`, value). A row is
/// written only if it is newer. A server without room refuses the first command that needs some,
/// unless something was written before it: so the lease comes last.
static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('NOTOWNER another session has it') end
        local at = 5
        for _ = 1, ARGV[4] do
            local row, position, act, value = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
            at = at + 4
            local held = redis.call('HGET', KEYS[2], row)
            if not held or tonumber(held) < tonumber(position) then
                redis.call('HSET', KEYS[2], row, position)
                if act == '+' then redis.call('SET', ARGV[3] .. row, value)
                else redis.call('DEL', ARGV[3] .. row) end
            end
        end
        while at <= #ARGV do
            local note, act, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
            at = at + 3
            if act == '+' then
                redis.call('HSET', KEYS[3], note, value)
                redis.call('ZADD', KEYS[4], 0, note)
            else
                redis.call('HDEL', KEYS[3], note)
                redis.call('ZREM', KEYS[4], note)
            end
        end
        redis.call('PEXPIRE', KEYS[1], ARGV[2])",
    )
});
/// Lists a page of notes: keys from a start on that begin with a prefix, up to a number.
static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local found = {}
        for _, note in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], '+', 'LIMIT', 0, ARGV[3])) do
            if string.sub(note, 1, #ARGV[2]) ~= ARGV[2] then break end
            table.insert(found, { note, redis.call('HGET', KEYS[1], note) })
        end
        return found",
    )
});

/// Lists all notes whose keys begin with one of the prefixes, as they are at one moment.
static LIST_ALL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local found = {}
        for _, prefix in ipairs(ARGV) do
            for _, note in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], '[' .. prefix, '+')) do
                if string.sub(note, 1, #prefix) ~= prefix then break end
                table.insert(found, { note, redis.call('HGET', KEYS[1], note) })
            end
        end
        return found",
    )
});

/// Returns the notes of a version whose keys begin with one of these.
pub(crate) async fn noted(
    connection: &mut MultiplexedConnection,
    keys: &RedisKeys,
    prefixes: &[&str],
) -> RedisResult<Notes> {
    let mut list = LIST_ALL.key(&keys.notes);
    list.key(&keys.noted);
    prefixes.iter().for_each(|prefix| {
        list.arg(*prefix);
    });
    let notes: BTreeMap<String, Vec<u8>> =
        list.invoke_async::<Vec<(String, Vec<u8>)>>(connection).await?.into_iter().collect();
    Ok(notes.into_iter().collect())
}

/// The connection that writes a version.
#[derive(Debug)]
pub struct RedisSession {
    connection: MultiplexedConnection,
    owner: VersionOwnership,
    keys: RedisKeys,
    writes: Writes,
    notes: BTreeMap<String, Option<Vec<u8>>>,
}

impl RedisSession {
    pub(crate) fn new(
        connection: MultiplexedConnection,
        owner: VersionOwnership,
        keys: RedisKeys,
    ) -> Self {
        let writes = Writes::new(connection.clone(), keys.clone());
        Self { connection, owner, keys, writes, notes: BTreeMap::new() }
    }

    fn clear(&mut self) {
        self.writes.clear();
        self.notes.clear();
    }

    /// Returns a script of writes with the keys and arguments that every one begins with.
    fn script(&self, rows: usize) -> ScriptInvocation<'static> {
        let keys = &self.keys;
        let mut script = WRITE.prepare_invoke();
        script.key(&keys.owner).key(&keys.guards).key(&keys.notes).key(&keys.noted);
        script.arg(self.owner.token()).arg(LEASE.as_millis() as u64).arg(&keys.rows).arg(rows);
        script
    }

    /// All rows but the last chunk, which goes with the notes.
    async fn write(&mut self) -> RedisResult<()> {
        let mut connection = self.connection.clone();
        let rows: Vec<_> = self.writes.rows().iter().collect();
        let mut chunks = chunks(&rows).into_iter().peekable();
        while let Some(chunk) = chunks.next() {
            let mut script = self.script(chunk.len());
            for (row, write) in chunk {
                script.arg(row).arg(write.position.0);
                act(&mut script, write.value.as_deref());
            }
            if chunks.peek().is_none() {
                for (note, value) in &self.notes {
                    script.arg(note);
                    act(&mut script, value.as_deref());
                }
            }
            let () = script.invoke_async(&mut connection).await?;
        }
        Ok(())
    }

    async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> RedisResult<Vec<(String, Vec<u8>)>> {
        let from = match after {
            Some(after) if after >= prefix => format!("({after}"),
            _ => format!("[{prefix}"),
        };
        let mut connection = self.connection.clone();
        let at_most = at_most.min(u32::MAX as usize);
        let mut list = LIST.key(&self.keys.notes);
        list.key(&self.keys.noted)
            .arg(from)
            .arg(prefix)
            .arg(at_most)
            .invoke_async(&mut connection)
            .await
    }
}

fn act(script: &mut ScriptInvocation<'_>, value: Option<&[u8]>) {
    match value {
        Some(value) => script.arg("+").arg(value),
        None => script.arg("-").arg(""),
    };
}

/// At least one, for the notes.
fn chunks<'r, 's>(rows: &'s [(&'r String, &'r Write)]) -> Vec<&'s [(&'r String, &'r Write)]> {
    let (mut chunks, mut rest) = (Vec::new(), rows);
    loop {
        let mut bytes = 0;
        let fits = rest.iter().take(CHUNK_ROWS).take_while(|(row, write)| {
            let before = bytes;
            bytes += row.len() + write.value.as_ref().map_or(0, Vec::len);
            before < CHUNK_BYTES
        });
        let (chunk, more) = rest.split_at(fits.count());
        chunks.push(chunk);
        if more.is_empty() {
            return chunks;
        }
        rest = more;
    }
}

impl Session for RedisSession {
    type Rows = Writes;

    async fn touch(&mut self) -> Result<(), ProjectionError> {
        Ok(self.owner.renew().await.map_err(RedisError::Refused)?)
    }

    async fn begin(&mut self) -> Result<(), ProjectionError> {
        self.clear();
        Ok(self.owner.renew().await.map_err(RedisError::Refused)?)
    }

    fn at(&mut self, position: Position) {
        self.writes.at(position);
    }

    fn rows(&mut self) -> &mut Writes {
        &mut self.writes
    }

    async fn note(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), ProjectionError> {
        self.notes.insert(key.to_owned(), value.map(<[u8]>::to_vec));
        Ok(())
    }

    async fn notes(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, ProjectionError> {
        // Each note of the transaction may hide one of the page.
        let kept = self
            .page(prefix, after, at_most.saturating_add(self.notes.len()))
            .await
            .map_err(RedisError::Refused)?;
        let mut all: BTreeMap<String, Option<Vec<u8>>> =
            kept.into_iter().map(|(key, value)| (key, Some(value))).collect();
        let of_page = |key: &str| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        let open = self.notes.iter().filter(|(key, _)| of_page(key));
        all.extend(open.map(|(key, value)| (key.clone(), value.clone())));
        Ok(all.into_iter().filter_map(|(key, value)| Some((key, value?))).take(at_most).collect())
    }

    async fn commit(&mut self) -> Result<(), ProjectionError> {
        self.write().await.map_err(RedisError::Refused)?;
        self.clear();
        Ok(())
    }

    async fn rollback(&mut self) -> Result<(), ProjectionError> {
        self.clear();
        Ok(())
    }
}
