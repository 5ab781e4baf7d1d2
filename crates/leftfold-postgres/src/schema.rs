//! Schemas whose tables have a format: created, and brought to the newest one, under a lock.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::Rows;
use crate::target::place::quoted;

/// A schema, and the tables that a release knows of it.
#[derive(Clone, Copy)]
pub(crate) struct VersionedSchema<'s> {
    pub(crate) name: &'s str,
    /// Table whose one row has the format, in a column of that name.
    pub(crate) home: &'static str,
    /// Name of the lock, before the name of the schema.
    pub(crate) lock: &'static str,
    /// Table that everything that writes locks first; `None` if a step need not wait for them.
    pub(crate) locked_by_writers: Option<&'static str>,
    /// The steps from one format to the next; the first creates the tables.
    pub(crate) steps: &'s [&'s str],
}

/// Reason why a schema is not of the newest format.
#[derive(Debug)]
pub(crate) enum SchemaFault {
    /// The server refused.
    Refused(Error),
    /// It has tables of somebody else.
    Foreign,
    /// Its tables are there, and the row with its format is not.
    NoFormat,
    /// It is not there, and cannot be created: the server only reads, or the role lacks the right.
    Absent(String),
    /// A newer release created or migrated it.
    Newer { found: i64, known: i64 },
}

impl From<Error> for SchemaFault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl VersionedSchema<'_> {
    /// The format that the last step leads to.
    pub(crate) fn newest(&self) -> i64 {
        i64::try_from(self.steps.len()).unwrap_or(i64::MAX)
    }

    /// Creates it if it is not there, and makes the steps that are missing. `begin` writes the rows
    /// that a new one has; the caller's error is made of a fault by `error`.
    pub(crate) async fn bring_up<E>(
        &self,
        rows: &Rows,
        begin: impl Future<Output = Result<(), E>>,
        error: impl Fn(SchemaFault) -> E,
    ) -> Result<(), E> {
        if self.format(rows).await.map_err(&error)? == Some(self.newest()) {
            return Ok(());
        }
        rows.batch_execute("BEGIN").await.map_err(|refused| error(refused.into()))?;
        let migrated = self.migrate(rows, begin, &error).await;
        // After an error this undoes the steps.
        let end = if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = rows.batch_execute(end).await.map_err(|refused| error(refused.into()));
        migrated.and(ended)
    }

    /// Returns its format; `None` if it is not there.
    pub(crate) async fn format(&self, rows: &Rows) -> Result<Option<i64>, SchemaFault> {
        let ask = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = $2),
            EXISTS (SELECT FROM pg_tables WHERE schemaname = $1)";
        let row = rows.query_one(ask, &[&self.name, &self.home]).await?;
        match (row.get(0), row.get(1)) {
            (false, true) => Err(SchemaFault::Foreign),
            (false, false) => Ok(None),
            (true, _) => {
                let ask = format!("SELECT format FROM {}.{}", quoted(self.name), self.home);
                match rows.query_opt(&ask, &[]).await {
                    Ok(Some(row)) => Ok(Some(row.get(0))),
                    Ok(None) => Err(SchemaFault::NoFormat),
                    Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
                        Err(SchemaFault::Foreign)
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Makes the steps that are missing. Of several processes that start at once one makes them,
    /// and the others wait for it.
    async fn migrate<E>(
        &self,
        rows: &Rows,
        begin: impl Future<Output = Result<(), E>>,
        error: &impl Fn(SchemaFault) -> E,
    ) -> Result<(), E> {
        let found = self.found_behind_lock(rows).await.map_err(error)?;
        if found == Some(self.newest()) {
            return Ok(());
        }
        self.make_steps(rows, found.unwrap_or(0)).await.map_err(error)?;
        if found.is_none() {
            begin.await?;
        }
        let set = format!("UPDATE {}.{} SET format = $1", quoted(self.name), self.home);
        let set = rows.execute(&set, &[&self.newest()]).await;
        set.map(drop).map_err(|refused| error(refused.into()))
    }

    async fn found_behind_lock(&self, rows: &Rows) -> Result<Option<i64>, SchemaFault> {
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 0))";
        rows.query_one(lock, &[&self.lock, &self.name]).await.map_err(creating)?;
        let (found, known) = (self.format(rows).await?, self.newest());
        match found {
            Some(found) if found > known => Err(SchemaFault::Newer { found, known }),
            found => Ok(found),
        }
    }

    async fn make_steps(&self, rows: &Rows, done: i64) -> Result<(), SchemaFault> {
        let quoted = quoted(self.name);
        if done == 0 {
            let exists = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
            if !rows.query_one(exists, &[&self.name]).await?.get::<_, bool>(0) {
                let create = format!("CREATE SCHEMA {quoted}");
                rows.batch_execute(&create).await.map_err(creating)?;
            }
        } else if let Some(table) = self.locked_by_writers {
            // Writers of all processes wait for it, and see the new format then; readers go on.
            let lock = format!("LOCK TABLE {quoted}.{table} IN EXCLUSIVE MODE");
            rows.batch_execute(&lock).await.map_err(creating)?;
        }
        for step in self.steps.iter().skip(usize::try_from(done).unwrap_or(0)) {
            rows.batch_execute(&step.replace("{schema}", &quoted)).await.map_err(creating)?;
        }
        Ok(())
    }
}

/// An error of creating something, which a standby and a role without the right refuse.
fn creating(error: Error) -> SchemaFault {
    match error.as_db_error() {
        Some(said)
            if [SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::INSUFFICIENT_PRIVILEGE]
                .contains(said.code()) =>
        {
            SchemaFault::Absent(said.message().to_owned())
        }
        _ => SchemaFault::Refused(error),
    }
}
