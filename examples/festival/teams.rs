//! The list of a festival's teams: rows in SQLite, that follow the events.

use leftfold::prelude::*;
use leftfold::sqlite::rusqlite::Connection;
use leftfold::sqlite::{Reader, Sqlite, SqliteError};
use serde::{Deserialize, Serialize};

/// Events of teams that the list reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Listed {
    #[serde(rename = "festival.TeamCreated")]
    Created { team: String, festival: String },
    #[serde(rename = "festival.TeamMoved")]
    Moved { team: String, to: String },
    #[serde(rename = "festival.TeamDeleted")]
    Deleted { team: String },
}

impl Event for Listed {
    const NAMESPACE: &'static str = "festival";
}

pub(super) struct Teams;

impl Teams {
    pub(super) const NAME: &'static str = "teams";
}

impl Projection<Sqlite> for Teams {
    const NAME: &'static str = Self::NAME;
    type Event = Listed;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        Ok(rows.execute_batch(
            "CREATE TABLE team (team TEXT PRIMARY KEY, festival TEXT NOT NULL) WITHOUT ROWID;
             CREATE INDEX team_of_festival ON team (festival);",
        )?)
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<Listed>,
    ) -> Result<(), ProjectionError> {
        match &event.event {
            Listed::Created { team, festival } => rows
                .prepare_cached("INSERT INTO team VALUES (?1, ?2)")?
                .execute([team, festival])?,
            Listed::Moved { team, to } => rows
                .prepare_cached("UPDATE team SET festival = ?2 WHERE team = ?1")?
                .execute([team, to])?,
            Listed::Deleted { team } => {
                rows.prepare_cached("DELETE FROM team WHERE team = ?1")?.execute([team])?
            }
        };
        Ok(())
    }
}

/// The teams of a festival, in order.
pub(super) fn of(lists: &Reader, festival: &str) -> Result<Vec<String>, SqliteError> {
    lists.read(|rows| {
        let mut teams =
            rows.prepare_cached("SELECT team FROM team WHERE festival = ?1 ORDER BY team")?;
        let teams = teams.query_map([festival], |row| row.get(0))?;
        teams.collect()
    })
}
