//! `leftfold sql`: plain SQL over events that were chosen by the index of the store.

use std::io::Read as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use leftfold::store::{Position, Read, RecordedEvent, Store};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement, params};
use serde_json::{Map, Value};

use crate::access::StoreArgument;
use crate::commands::read::end_of;
use crate::failure::CliFailure;
use crate::progress::{Interrupt, Measure, ProgressLine};
use crate::screen::{Screen, Side, TextTable, bytes, count, counted};
use crate::selection::{Selection, SelectionArguments};

/// Bytes of data and metadata that are loaded at most.
const LOADED_BYTES_MAX: u64 = 4 << 30;
/// Rows of a table for people: it is in memory, since a column is as wide as its widest cell.
const TABLE_ROWS_MAX: usize = 100_000;
/// Bytes of an SQL text.
const SQL_BYTES_MAX: u64 = 1 << 20;

/// The tables that SQL is over.
const TABLES: &str = "\
CREATE TABLE events (
    position INTEGER PRIMARY KEY, recorded_at TEXT, id TEXT, type TEXT, schema_version INTEGER,
    stream TEXT, category TEXT, version INTEGER, data, metadata, correlation TEXT, causation TEXT
);
CREATE TABLE tags (tag TEXT, position INTEGER, PRIMARY KEY (tag, position)) WITHOUT ROWID;";

/// Answers SQL over events
///
/// The events that are chosen are loaded into tables of SQLite, which are gone afterwards, and can
/// only be read: events (position, recorded_at, id, type, schema_version, stream, category,
/// version, data, metadata, correlation, causation) and tags (tag, position). SQLite's functions of
/// JSON read the data: data->>'cents'. Choose as few events as the question needs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold sql ./data \"select type, count(*), sum(data->>'cents') from events group by type\" \\
      --where \"type = shop.* and time >= 2026-02-01\"
  leftfold sql leftfold://host --tag customer:7 --json < question.sql")]
pub(crate) struct SqlArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// One statement of SQL; without it standard input is read
    #[arg(value_name = "SQL")]
    sql: Option<String>,
    #[command(flatten)]
    events: SelectionArguments,
    /// Refuses to load more events than that
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
    max_events: u64,
}

pub(crate) async fn run(arguments: &SqlArguments, screen: &mut Screen) -> Result<(), CliFailure> {
    let sql = match &arguments.sql {
        Some(sql) => sql.clone(),
        None => {
            let mut sql = String::new();
            std::io::stdin().take(SQL_BYTES_MAX).read_to_string(&mut sql)?;
            sql
        }
    };
    // A private database without a name: on disk if it grows, and gone with the command.
    let mut connection = Connection::open("").map_err(of_sqlite)?;
    connection.execute_batch(TABLES).map_err(of_sqlite)?;
    connection.authorizer(Some(authorize)).map_err(of_sqlite)?;
    // A question with a fault is found before anything is read.
    connection.prepare(&sql).map_err(of_sql)?;
    let store = arguments.store.open_to_read().await?;
    let selection = arguments.events.resolve(&store).await?;
    load(&store, selection, &connection, arguments.max_events).await?;
    connection.execute_batch("PRAGMA query_only = ON").map_err(of_sqlite)?;
    let mut statement = connection.prepare(&sql).map_err(of_sql)?;
    if screen.is_json() {
        return print_objects(&mut statement, screen);
    }
    print_table(&mut statement, screen)
}

/// Keeps a statement from other files, which `ATTACH` and `VACUUM INTO` would make: a database that
/// can only be read does not.
fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => Authorization::Deny,
        _ => Authorization::Allow,
    }
}

/// Loads the events that are chosen.
async fn load(
    store: &Store,
    Selection { query, from, through }: Selection,
    connection: &Connection,
    events_max: u64,
) -> Result<(), CliFailure> {
    let interrupt = Interrupt::listen();
    let through = through.min(end_of(store).await?);
    let all = through.0.saturating_sub(from.0.saturating_sub(1));
    let mut progress = ProgressLine::of("loading", Measure::Things("positions"), all);
    connection.execute_batch("BEGIN").map_err(of_sqlite)?;
    let (mut events, mut loaded) = (0, 0);
    let mut chosen = store.read(Read::matching(query, from));
    while let Some(event) = chosen.next().await?.filter(|event| event.position <= through) {
        interrupt.check(None)?;
        let Position(at) = event.position;
        progress.at(at - from.0.saturating_sub(1).min(at));
        events += 1;
        loaded += (event.data.len() + event.metadata.user.len()) as u64;
        if events > events_max || loaded > LOADED_BYTES_MAX {
            let hint = "choose fewer, by --where, or raise --max-events";
            let (number, size) = (counted(events_max, "event"), bytes(LOADED_BYTES_MAX));
            return Err(CliFailure::Failed(format!(
                "more than {number} or {size} are chosen; {hint}"
            )));
        }
        insert(connection, &event).map_err(of_sqlite)?;
    }
    connection.execute_batch("COMMIT").map_err(of_sqlite)
}

fn insert(connection: &Connection, event: &RecordedEvent) -> rusqlite::Result<()> {
    let mut into_events = connection
        .prepare_cached("INSERT INTO events VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)")?;
    // Positions and versions are counts of events, far below the bound of SQLite's integers.
    let position = event.position.0.cast_signed();
    let at = event.stream.as_ref();
    into_events.execute(params![
        position,
        event.recorded_at.to_string(),
        event.id.to_string(),
        event.event_type.as_str(),
        event.schema_version,
        at.map(|at| at.name.as_str()),
        at.map(|at| at.name.category()),
        at.map(|at| at.version.0.cast_signed()),
        text_or_blob(&event.data),
        text_or_blob(&event.metadata.user),
        event.metadata.correlation.as_ref().map(|label| label.as_str()),
        event.metadata.causation.as_ref().map(|label| label.as_str()),
    ])?;
    let mut into_tags = connection.prepare_cached("INSERT INTO tags VALUES (?1, ?2)")?;
    for tag in &event.tags {
        into_tags.execute(params![tag.as_str(), position])?;
    }
    Ok(())
}

fn text_or_blob(bytes: &[u8]) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match std::str::from_utf8(bytes) {
        Ok("") => ValueRef::Null,
        Ok(text) => ValueRef::Text(text.as_bytes()),
        Err(_) => ValueRef::Blob(bytes),
    })
}

fn print_objects(statement: &mut Statement<'_>, screen: &mut Screen) -> Result<(), CliFailure> {
    let names: Vec<String> = statement.column_names().map(Into::into).collect();
    // An object has a member of a name once.
    if let Some((_, name)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name))
    {
        let hint = "give each column a name of its own: select count(*) as n";
        return Err(CliFailure::Usage(format!("two columns have the name {name}; {hint}")));
    }
    let mut rows = statement.query([]).map_err(of_sql)?;
    while let Some(row) = rows.next().map_err(of_sql)? {
        let mut object = Map::new();
        for (at, name) in names.iter().enumerate() {
            let value = match row.get_ref(at).map_err(of_sql)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => number.into(),
                ValueRef::Real(number) => number.into(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
                ValueRef::Blob(bytes) => STANDARD.encode(bytes).into(),
            };
            object.insert(name.clone(), value);
        }
        screen.object(&Value::Object(object))?;
    }
    screen.flush()
}

fn print_table(statement: &mut Statement<'_>, screen: &mut Screen) -> Result<(), CliFailure> {
    let names: Vec<String> = statement.column_names().map(Into::into).collect();
    let mut numeric = vec![true; names.len()];
    let mut cells = Vec::new();
    let mut rows = statement.query([]).map_err(of_sql)?;
    while let Some(row) = rows.next().map_err(of_sql)? {
        if cells.len() == TABLE_ROWS_MAX {
            let most = count(TABLE_ROWS_MAX as u64);
            let hint = "add LIMIT to the statement, or --json";
            return Err(CliFailure::Failed(format!("there are more than {most} rows; {hint}")));
        }
        let mut line = Vec::with_capacity(names.len());
        for (at, is_number) in numeric.iter_mut().enumerate() {
            let value = row.get_ref(at).map_err(of_sql)?;
            *is_number &= !matches!(value, ValueRef::Text(_) | ValueRef::Blob(_));
            line.push(match value {
                ValueRef::Null => "-".to_owned(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                ValueRef::Blob(blob) => format!("({} bytes)", count(blob.len() as u64)),
            });
        }
        cells.push(line);
    }
    let side = |is_number: &bool| if *is_number { Side::Right } else { Side::Left };
    let heads: Vec<_> = names.into_iter().zip(numeric.iter().map(side)).collect();
    let mut table = TextTable::of(heads);
    let number = cells.len() as u64;
    cells.into_iter().for_each(|line| table.row(line));
    screen.table(&table)?;
    screen.note(&counted(number, "row"))
}

fn of_sqlite(error: rusqlite::Error) -> CliFailure {
    CliFailure::Failed(format!("the temporary tables cannot be kept: {error}"))
}

/// A fault in the statement, or in what it asks of the tables.
fn of_sql(error: rusqlite::Error) -> CliFailure {
    match error {
        rusqlite::Error::MultipleStatement => {
            CliFailure::Usage("give one statement of SQL at a time".to_owned())
        }
        error => CliFailure::Usage(format!("the statement cannot be answered: {error}")),
    }
}
