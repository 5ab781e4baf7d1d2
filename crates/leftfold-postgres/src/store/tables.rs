//! The tables of a store: created, and brought to the newest format, under a lock.

use leftfold_core::store::{Epoch, Identity, Position, StoreId};
use uuid::Uuid;

use super::error::PostgresStoreError;
use super::options::PostgresStoreOptions;
use super::payload::PayloadColumn;
use super::values::unsigned;
use crate::Rows;
use crate::schema::{SchemaFault, VersionedSchema};
use crate::target::place::quoted;

/// The steps from one format to the next; the first creates the tables.
const STEPS: [&str; 1] = [include_str!("v1.sql")];
/// The format that the last step leads to.
pub(super) const FORMAT: i64 = STEPS.len() as i64;
/// Begins a transaction whose every statement sees what was committed before it.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// The oldest server that the tests run on.
const SERVER_VERSION_MIN: i32 = 150_000;

/// A store as it was found, or created.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundStore {
    pub(super) identity: Identity,
    pub(super) payload: PayloadColumn,
}

/// Finds the store; creates it if there is none, and brings it to the newest format, if the options
/// allow that.
pub(super) async fn open(
    rows: &Rows,
    options: &PostgresStoreOptions,
) -> Result<FoundStore, PostgresStoreError> {
    open_by(rows, options, &STEPS).await
}

async fn open_by(
    rows: &Rows,
    options: &PostgresStoreOptions,
    steps: &[&str],
) -> Result<FoundStore, PostgresStoreError> {
    let schema = &options.schema;
    check_server(rows, schema).await?;
    let versioned = VersionedSchema {
        name: schema,
        home: "store",
        lock: "leftfold store",
        locked_by_writers: Some("state"),
        steps,
    };
    if options.create {
        versioned.bring_up(rows, begin(rows, options), |fault| faulty(schema, fault)).await?;
    } else {
        check_format(rows, versioned).await?;
    }
    let found = find(rows, schema).await?;
    match options.payload {
        Some(asked) if asked != found.payload => Err(PostgresStoreError::OtherPayload {
            schema: schema.clone(),
            found: found.payload.name(),
            asked: asked.name(),
        }),
        _ => Ok(found),
    }
}

/// Refuses a store that is not there, or has another format. Nothing is changed.
async fn check_format(
    rows: &Rows,
    versioned: VersionedSchema<'_>,
) -> Result<(), PostgresStoreError> {
    let schema = versioned.name.to_owned();
    let format = versioned.format(rows).await.map_err(|fault| faulty(&schema, fault))?;
    match (format, versioned.newest()) {
        (None, _) => Err(PostgresStoreError::Missing { schema }),
        (Some(found), known) if found < known => {
            Err(PostgresStoreError::OlderFormat { schema, found, known })
        }
        (Some(found), known) if found > known => {
            Err(PostgresStoreError::NewerFormat { schema, found, known })
        }
        _ => Ok(()),
    }
}

fn faulty(schema: &str, fault: SchemaFault) -> PostgresStoreError {
    let schema = schema.to_owned();
    match fault {
        SchemaFault::Refused(source) => PostgresStoreError::Refused { schema, source },
        SchemaFault::Foreign | SchemaFault::NoFormat => PostgresStoreError::NotAStore { schema },
        SchemaFault::Absent(detail) => PostgresStoreError::Absent { schema, detail },
        SchemaFault::Newer { found, known } => {
            PostgresStoreError::NewerFormat { schema, found, known }
        }
    }
}

/// Begins a new life of the store: see
/// [`PostgresStore::declare_restored`](super::PostgresStore::declare_restored).
pub(super) async fn begin_epoch(rows: &Rows, schema: &str) -> Result<(), PostgresStoreError> {
    let quoted = quoted(schema);
    rows.batch_execute(&behind_lock(schema)).await.map_err(refused(schema))?;
    let begin = format!(
        "WITH s AS (UPDATE {quoted}.state SET epoch = epoch + 1 RETURNING epoch)
        INSERT INTO {quoted}.epochs (number, id, began_after)
            SELECT s.epoch, $1, h.position FROM s, {quoted}.head h"
    );
    rows.execute(&begin, &[&Uuid::new_v4()]).await.map_err(refused(schema))?;
    rows.batch_execute("COMMIT").await.map_err(refused(schema))
}

/// The statements that begin a transaction behind the lock of the head: that of the one row of
/// `state`. A row that is locked has no dead versions; and the lock is written to the log of the
/// server, so a commit that wrote nothing else waits for a standby too, if the server waits for
/// one.
pub(super) fn behind_lock(schema: &str) -> String {
    let schema = quoted(schema);
    format!("{BEGIN}; SELECT FROM {schema}.state FOR UPDATE")
}

async fn check_server(rows: &Rows, schema: &str) -> Result<(), PostgresStoreError> {
    let ask = "SELECT current_setting('server_encoding'), current_setting('server_version'),
        current_setting('server_version_num')::int";
    let row = rows.query_one(ask, &[]).await.map_err(refused(schema))?;
    let (encoding, version): (String, String) = (row.get(0), row.get(1));
    if encoding != "UTF8" {
        return Err(PostgresStoreError::Encoding { encoding });
    }
    if row.get::<_, i32>(2) < SERVER_VERSION_MIN {
        return Err(PostgresStoreError::OldServer { found: version });
    }
    Ok(())
}

/// Writes the rows that every store has.
async fn begin(rows: &Rows, options: &PostgresStoreOptions) -> Result<(), PostgresStoreError> {
    let schema = quoted(&options.schema);
    let refused = || refused(&options.schema);
    let payload = options.payload.unwrap_or_default().name();
    let store = format!("INSERT INTO {schema}.store (format, id, payload) VALUES (0, $1, $2)");
    rows.execute(&store, &[&StoreId::random().0, &payload]).await.map_err(refused())?;
    let epoch = format!("INSERT INTO {schema}.epochs (number, id, began_after) VALUES (1, $1, 0)");
    rows.execute(&epoch, &[&Uuid::new_v4()]).await.map_err(refused())?;
    let state = format!(
        "INSERT INTO {schema}.state (fence, lease_round, inline_round, epoch) VALUES (0, 0, 0, 1)"
    );
    rows.batch_execute(&state).await.map_err(refused())
}

/// Reads who the store is.
async fn find(rows: &Rows, schema: &str) -> Result<FoundStore, PostgresStoreError> {
    let quoted = quoted(schema);
    let ask = format!(
        "SELECT s.id, s.payload, e.id, e.number, e.began_after
        FROM {quoted}.store s, {quoted}.head h JOIN {quoted}.epochs e ON e.number = h.epoch"
    );
    let row = rows.query_opt(&ask, &[]).await.map_err(refused(schema))?;
    let payload = row.as_ref().and_then(|row| PayloadColumn::of_name(row.get(1)));
    let (Some(row), Some(payload)) = (row, payload) else {
        return Err(PostgresStoreError::NotAStore { schema: schema.to_owned() });
    };
    let epoch = Epoch {
        id: row.get(2),
        number: u32::try_from(row.get::<_, i64>(3)).unwrap_or(u32::MAX),
        began_after: Position(unsigned(row.get(4))),
    };
    Ok(FoundStore { identity: Identity { store: StoreId(row.get(0)), epoch }, payload })
}

fn refused(schema: &str) -> impl FnOnce(tokio_postgres::Error) -> PostgresStoreError {
    let schema = schema.to_owned();
    |source| PostgresStoreError::Refused { schema, source }
}

#[cfg(test)]
mod tests {
    use leftfold_core::store::{Append, AppendError, EventType, NewEvent, Outcome, Store};
    use leftfold_proving::PostgresServer;
    use tokio::task::JoinSet;
    use tokio_postgres::NoTls;

    use super::*;
    use crate::connect::PostgresConnector;
    use crate::store::PostgresStore;

    /// A release that knows one step more.
    const NEWER: [&str; 2] = [
        STEPS[0],
        "ALTER TABLE {schema}.events ADD COLUMN more bigint;
        ALTER TABLE {schema}.state ADD COLUMN more bigint",
    ];

    /// Appends until the store takes no more; returns the number of events, and the reason.
    async fn append_to_the_end(store: Store) -> (u64, String) {
        let mut appended = 0;
        loop {
            let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
            match store.append(Append::of(vec![event])).await {
                Ok(Outcome::Appended(_)) => appended += 1,
                Err(AppendError::ReadOnly { detail }) => return (appended, detail),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_migration_under_load_is_made_once_and_ends_the_appends_of_an_older_release() {
        let url = PostgresServer::shared().database("migrated");
        let options = PostgresStoreOptions::at(&url).unwrap();
        let mut writers = JoinSet::new();
        let mut status = None;
        for _ in 0..2 {
            let store = Store::new(PostgresStore::open(&url).await.unwrap());
            status = Some(store.status());
            writers.spawn(append_to_the_end(store));
        }
        let begun = |status: &leftfold_core::store::Status| status.head.position >= Position(50);
        status.unwrap().wait_for(begun).await.unwrap();
        let connector = PostgresConnector::new(options.config.clone(), NoTls);
        let looking = connector.connect().await.unwrap();
        let only = PostgresStoreOptions { create: false, ..options.clone() };
        let older = open_by(&looking.rows, &only, &NEWER).await.unwrap_err();
        assert!(matches!(older, PostgresStoreError::OlderFormat { found: 1, known: 2, .. }));
        let mut openers = JoinSet::new();
        for _ in 0..5 {
            let options = options.clone();
            openers.spawn(async move {
                let connector = PostgresConnector::new(options.config.clone(), NoTls);
                let connected = connector.connect().await.unwrap();
                open_by(&connected.rows, &options, &NEWER).await.unwrap().identity
            });
        }
        let identities = openers.join_all().await;
        assert!(identities.iter().all(|identity| *identity == identities[0]));
        let mut appended = 0;
        while let Some(ended) = writers.join_next().await {
            let (events, detail) = ended.unwrap();
            assert!(detail.contains("a newer release"), "{detail}");
            appended += events;
        }
        let refused = PostgresStore::open(&url).await.unwrap_err();
        let looked = open_by(&looking.rows, &only, &STEPS).await.unwrap_err();
        assert_eq!(refused.to_string(), looked.to_string());
        let newer = PostgresStoreError::NewerFormat { schema: options.schema, found: 2, known: 1 };
        assert_eq!(refused.to_string(), newer.to_string());
        let count = "SELECT count(*) FROM leftfold_store.events";
        assert_eq!(PostgresServer::shared().psql(&url, count), appended.to_string());
    }
}
