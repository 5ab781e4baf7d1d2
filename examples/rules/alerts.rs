//! The rows: what is in the windows of each card, and the alerts.

use leftfold::prelude::*;
use leftfold::sqlite::rusqlite::Connection;
use leftfold::sqlite::{Reader, Sqlite, SqliteError};

use crate::CardEvent;
use crate::rules::{Entry, KEPT, LATE_MAX, Rule, broken};

/// Entries of one card that its windows may hold: a card that goes beyond is parked, so that it
/// does not slow the others.
pub(crate) const ENTRIES_MAX: usize = 1_000;

pub(crate) struct Alerts;

impl Alerts {
    pub(crate) const NAME: &'static str = "alerts";
}

/// An alert, as people read it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alert {
    pub(crate) position: Position,
    pub(crate) card: String,
    pub(crate) rule: String,
}

impl Projection<Sqlite> for Alerts {
    const NAME: &'static str = Self::NAME;
    type Event = CardEvent;

    /// The entries of a card lie side by side, so that a card costs a page or two, however many
    /// cards there are.
    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        Ok(rows.execute_batch(
            "CREATE TABLE entry (
                 card TEXT NOT NULL, at INTEGER NOT NULL, position INTEGER NOT NULL, cents INTEGER, country TEXT,
                 PRIMARY KEY (card, at, position)
             ) WITHOUT ROWID;
             CREATE TABLE alert (
                 card TEXT NOT NULL, rule TEXT NOT NULL, at INTEGER NOT NULL, position INTEGER NOT NULL,
                 PRIMARY KEY (card, rule, position)
             ) WITHOUT ROWID;
             CREATE INDEX alert_in_order ON alert (position);
             CREATE TABLE too_late (position INTEGER PRIMARY KEY, card TEXT NOT NULL);",
        )?)
    }

    // ANCHOR: apply
    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<CardEvent>,
    ) -> Result<(), ProjectionError> {
        let (card, new) = (event.stream_id(), entry(event));
        let known = entries(rows, card)?;
        let newest = known.last().map_or(new.at, |last| last.at.max(new.at));
        let position = new.position.0 as i64;
        if new.at <= newest.minus(LATE_MAX) {
            rows.prepare_cached("INSERT INTO too_late VALUES (?1, ?2)")?
                .execute((position, card))?;
            return Ok(());
        }
        if known.len() >= ENTRIES_MAX {
            return Err(ProjectionError::message(format!(
                "more than {ENTRIES_MAX} entries are in the windows of card {card}"
            )));
        }
        for rule in broken(&known, &new) {
            if !is_silent(rows, card, rule, new.at)? {
                rows.prepare_cached("INSERT INTO alert VALUES (?1, ?2, ?3, ?4)")?.execute((
                    card,
                    rule.name,
                    new.at.as_micros(),
                    position,
                ))?;
            }
        }
        let (cents, country) = new.paid.unzip();
        rows.prepare_cached("INSERT INTO entry VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
            card,
            new.at.as_micros(),
            position,
            cents,
            country,
        ))?;
        if known.first().is_some_and(|first| first.at <= newest.minus(KEPT)) {
            rows.prepare_cached("DELETE FROM entry WHERE card = ?1 AND at <= ?2")?
                .execute((card, newest.minus(KEPT).as_micros()))?;
        }
        Ok(())
    }
    // ANCHOR_END: apply
}

/// Tells whether the rule has raised an alert for the card so recently that another one says
/// nothing new.
fn is_silent(
    rows: &Connection,
    card: &str,
    rule: &Rule,
    at: Timestamp,
) -> Result<bool, ProjectionError> {
    let (from, to) = rule.silence(at);
    let near = "SELECT 1 FROM alert WHERE card = ?1 AND rule = ?2 AND at > ?3 AND at < ?4";
    Ok(rows.prepare_cached(near)?.exists((card, rule.name, from.as_micros(), to.as_micros()))?)
}

pub(crate) fn entry(event: &Recorded<CardEvent>) -> Entry {
    let (at, paid) = match event.event.clone() {
        CardEvent::LoginFailed { at } => (at, None),
        CardEvent::Paid { at, cents, country } => (at, Some((cents, country))),
    };
    Entry { at, position: event.envelope.position, paid }
}

/// Reads the entries in the windows of a card, in order of time.
fn entries(rows: &Connection, card: &str) -> Result<Vec<Entry>, ProjectionError> {
    let of_card =
        "SELECT at, position, cents, country FROM entry WHERE card = ?1 ORDER BY at, position";
    let mut of_card = rows.prepare_cached(of_card)?;
    let entries = of_card.query_map([card], |row| {
        let at = Timestamp::from_micros(row.get(0)?);
        let paid = Option::zip(row.get(2)?, row.get(3)?);
        Ok(Entry { at, position: Position(row.get::<_, i64>(1)? as u64), paid })
    })?;
    Ok(entries.collect::<Result<_, _>>()?)
}

/// The alerts after a position, in order.
pub(crate) fn after(reader: &Reader, position: Position) -> Result<Vec<Alert>, SqliteError> {
    reader.read(|rows| {
        let mut alerts = rows.prepare_cached(
            "SELECT position, card, rule FROM alert WHERE position > ?1 ORDER BY position, rule",
        )?;
        let alerts = alerts.query_map([position.0 as i64], |row| {
            Ok(Alert {
                position: Position(row.get::<_, i64>(0)? as u64),
                card: row.get(1)?,
                rule: row.get(2)?,
            })
        })?;
        alerts.collect()
    })
}

/// Counts the entries in windows, and those that came too late.
pub(crate) fn counts(reader: &Reader) -> Result<(u64, u64), SqliteError> {
    reader.read(|rows| {
        rows.query_row(
            "SELECT (SELECT count(*) FROM entry), (SELECT count(*) FROM too_late)",
            [],
            |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)),
        )
    })
}
