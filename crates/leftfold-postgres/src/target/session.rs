//! The one connection that writes a lane of a version.

use leftfold_core::runtime::projection::{Place, ProjectionError, Session};
use tokio_postgres::{Error, SimpleQueryMessage};

use crate::connect::{Connected, PostgresConnector};
use crate::target::place::{KEEP_NOTE, make, quoted, schema, take};
use crate::{PostgresError, Rows};

const REMOVE: &str = "DELETE FROM leftfold_notes WHERE key = $1";
const LIST: &str = "SELECT key, value FROM leftfold_notes
    WHERE key >= $1 AND key > $2 AND key < $3 ORDER BY key LIMIT $4";
/// A setting of our own, which goes when the transaction does.
const MARK: &str = "SELECT current_setting('leftfold.transaction', true)";

/// Sets a limit on waiting for a lock, so that a statement that waits for one fails for that
/// reason, before a limit on the time of statements ends it as though it were at fault, and before
/// the runtime gives up waiting. A limit that the server or the URL sets is left as it is.
const TELL_OF_LOCKS: &str = "DO $$ DECLARE
        locks bigint := (SELECT setting::bigint FROM pg_settings WHERE name = 'lock_timeout');
        statements bigint := (SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout');
    BEGIN IF locks = 0 THEN
        PERFORM set_config('lock_timeout',
            (CASE WHEN statements BETWEEN 1 AND 40000 THEN greatest(statements / 2, 1) ELSE 20000 END)::text, false);
    END IF; END $$";

/// Has the server end a session whose process stands still, and with it its locks, so that another
/// one can take its place: after 15 s without a sign of life, and after 35 s within a transaction,
/// in which the code of users may be at work for 30. A limit that the server or the URL sets is
/// left as it is; servers before version 14 have no such limit between transactions.
const END_IF_STILL: &str = "DO $$ BEGIN
        IF (SELECT reset_val FROM pg_settings
            WHERE name = 'idle_in_transaction_session_timeout') = '0' THEN
            PERFORM set_config('idle_in_transaction_session_timeout', '35s', false); END IF;
        IF current_setting('idle_session_timeout', true) = '0' THEN
            PERFORM set_config('idle_session_timeout', '15s', false); END IF; END $$";

/// The connection that writes a lane of a version.
#[derive(Debug)]
pub struct PostgresSession {
    connected: Connected,
    schema: String,
    /// Of the transactions of this session, by which the open one is known.
    begun: u64,
}

impl PostgresSession {
    pub(crate) async fn open(
        server: &PostgresConnector,
        place: &Place,
    ) -> Result<Self, PostgresError> {
        let mut connected = server.connect().await?;
        // An opening that is given up half-way lets go of what it took.
        connected.busy = true;
        take(&connected, place).await?;
        let schema = schema(place.name, place.version);
        make(&connected.rows, &schema).await?;
        refuse_inline(&connected.rows, &schema).await?;
        connected
            .rows
            .batch_execute(&format!("{TELL_OF_LOCKS}; {END_IF_STILL}"))
            .await
            .map_err(PostgresError::refused(&schema))?;
        connected.busy = false;
        Ok(Self { connected, schema, begun: 0 })
    }

    fn refused(&self, error: Error) -> ProjectionError {
        PostgresError::refused(&self.schema)(error).into()
    }

    /// Fails if the transaction is over: after a failed statement a commit would silently be a
    /// rollback.
    async fn within_transaction(&self) -> Result<(), ProjectionError> {
        let rows = &self.connected.rows;
        // The first statement that failed has the reason.
        let (answered, said) = tokio::join!(rows.answered(), rows.simple_query(MARK));
        answered.map_err(|e| self.refused(e))?;
        let said = said.map_err(|e| self.refused(e))?;
        let mark = said.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        if mark != Some(self.begun.to_string().as_str()) {
            return Err(PostgresError::TransactionEnded { schema: self.schema.clone() }.into());
        }
        Ok(())
    }
}

/// Refuses a version whose rows the appends of a store write.
async fn refuse_inline(rows: &Rows, schema: &str) -> Result<(), PostgresError> {
    let ask =
        format!("SELECT EXISTS (SELECT FROM {}.leftfold_notes WHERE key = $1)", quoted(schema));
    let row = rows.query_one(&ask, &[&PostgresError::INLINE_NOTE]).await;
    match row.map_err(PostgresError::refused(schema))?.get(0) {
        true => Err(PostgresError::Inline { schema: schema.to_owned() }),
        false => Ok(()),
    }
}

impl Session for PostgresSession {
    type Rows = Rows;

    async fn touch(&mut self) -> Result<(), ProjectionError> {
        self.connected.rows.batch_execute("").await.map_err(|e| self.refused(e))
    }

    async fn begin(&mut self) -> Result<(), ProjectionError> {
        self.begun += 1;
        self.connected.busy = true;
        // Code of users may have changed the search path.
        let begin = format!(
            "BEGIN; SET LOCAL search_path TO {}, public; SET LOCAL leftfold.transaction TO '{}'",
            quoted(&self.schema),
            self.begun
        );
        self.connected.rows.batch_execute(&begin).await.map_err(|e| self.refused(e))
    }

    fn rows(&mut self) -> &mut Rows {
        &mut self.connected.rows
    }

    async fn note(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), ProjectionError> {
        // An error that comes later is returned by the commit.
        let rows = &self.connected.rows;
        let sent = match value {
            Some(value) => rows.send(KEEP_NOTE, &[&key, &value]).await,
            None => rows.send(REMOVE, &[&key]).await,
        };
        sent.map_err(|e| self.refused(e))
    }

    async fn notes(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, ProjectionError> {
        let rows = &self.connected.rows;
        rows.answered().await.map_err(|e| self.refused(e))?;
        let list = rows.prepare_cached(LIST).await.map_err(|e| self.refused(e))?;
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        let found =
            rows.query(&list, &[&prefix, &after.unwrap_or(""), &end_of(prefix), &at_most]).await;
        let found = found.map_err(|e| self.refused(e))?;
        let notes = found.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        notes.collect::<Result<_, Error>>().map_err(|e| self.refused(e))
    }

    async fn commit(&mut self) -> Result<(), ProjectionError> {
        self.within_transaction().await?;
        self.connected.rows.batch_execute("COMMIT").await.map_err(|e| self.refused(e))?;
        self.connected.busy = false;
        Ok(())
    }

    async fn rollback(&mut self) -> Result<(), ProjectionError> {
        self.connected.rows.forget_prepared();
        self.connected.rows.forget_sent();
        self.connected.rows.batch_execute("ROLLBACK").await.map_err(|e| self.refused(e))?;
        self.connected.busy = false;
        Ok(())
    }
}

/// Returns the notes of a schema whose keys begin with one of these, as they were committed; none
/// if there is no such schema.
pub(crate) async fn noted(
    rows: &Rows,
    schema: &str,
    prefixes: &[&str],
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let ends: Vec<String> = prefixes.iter().map(|prefix| end_of(prefix)).collect();
    let notes = format!(
        "SELECT key, value FROM {}.leftfold_notes, unnest($1::text[], $2::text[]) AS range(first, beyond)
        WHERE key >= first AND key < beyond ORDER BY key",
        quoted(schema)
    );
    let found =
        async { rows.query(&rows.prepare_cached(&notes).await?, &[&prefixes, &ends]).await };
    match found.await {
        Ok(found) => found.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect(),
        // No such table, or no such schema.
        Err(error)
            if error.code().is_some_and(|code| ["42P01", "3F000"].contains(&code.code())) =>
        {
            rows.forget_prepared();
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Returns the end of the range of texts that begin with the prefix: the prefix up to the last
/// character that has a successor, with that character replaced by the successor.
fn end_of(prefix: &str) -> String {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        // The gap in the numbers is stepped over.
        let next = (u32::from(last) + 1..).take(0x0802).find_map(char::from_u32);
        if let Some(next) = next {
            characters.push(next);
            return characters.into_iter().collect();
        }
    }
    char::MAX.to_string()
}

#[cfg(test)]
mod tests {
    use super::end_of;

    #[test]
    fn the_end_of_a_prefix_stands_after_all_that_begins_so_and_before_the_rest() {
        for (prefix, end) in [
            ("", "\u{10ffff}"),
            ("a", "b"),
            ("a/", "a0"),
            ("ab\u{10ffff}", "ac"),
            ("\u{d7ff}", "\u{e000}"),
        ] {
            assert_eq!(end_of(prefix), end, "{prefix:?}");
        }
    }
}
