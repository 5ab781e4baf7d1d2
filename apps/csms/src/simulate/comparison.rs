//! The books of the server against the truth of the stations.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::books::BookedTransaction;
use super::habits::Habits;
use super::truth::{KnowableEnergy, SessionFate, SessionTruth};

/// Energy by which books and truth may differ, in Wh: both are rounded.
pub(super) const TOLERANCE_WH: i64 = 1;
/// State of a transaction whose stop is known.
const STOPPED: &str = "stopped";

/// Difference between the books of the server and the truth of a station.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Disagreement {
    /// Station.
    pub(crate) station: String,
    /// Habits of the station.
    pub(crate) habits: String,
    /// Number of the session at the station, from 1; `None` if it has no such session.
    pub(crate) session: Option<usize>,
    /// Transaction in the books; `None` if there is none.
    pub(crate) transaction: Option<i64>,
    /// Difference.
    #[serde(flatten)]
    pub(crate) difference: BookDifference,
}

/// Kind of a difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "difference", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(crate) enum BookDifference {
    /// The station could not tell of the session in time.
    Untold { energy_wh: i64 },
    /// The server has no such transaction.
    Missing { energy_wh: i64 },
    /// Two sessions of the station are one transaction.
    Merged { with_session: usize, energy_wh: i64 },
    /// The server has a transaction that was no session.
    Invented { booked_wh: Option<i64> },
    /// The session is over, and its transaction is open.
    Open,
    /// The stop of the session was answered, and the transaction has none.
    NotStopped { state: String },
    /// The energy differs from what the server can know.
    Energy { wh_min: i64, wh_max: i64, booked_wh: Option<i64> },
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<i64>| {
            number.map_or_else(|| "none".to_owned(), |number| number.to_string())
        };
        let station = format!("{} ({})", self.station, self.habits);
        let transaction = number(self.transaction);
        let session = self.session.unwrap_or_default();
        match &self.difference {
            BookDifference::Untold { energy_wh } => {
                write!(f, "{station}: session {session} of {energy_wh} Wh was not told in time")
            }
            BookDifference::Missing { energy_wh } => write!(
                f,
                "{station}: session {session} of {energy_wh} Wh is transaction {transaction}, \
                 which the server does not have"
            ),
            BookDifference::Merged { with_session, energy_wh } => write!(
                f,
                "{station}: session {session} of {energy_wh} Wh and session {with_session} are \
                 both transaction {transaction}"
            ),
            BookDifference::Invented { booked_wh } => write!(
                f,
                "{station}: transaction {transaction} of {} Wh was no session",
                number(*booked_wh)
            ),
            BookDifference::Open => {
                write!(f, "{station}: session {session} is over, transaction {transaction} is open")
            }
            BookDifference::NotStopped { state } => write!(
                f,
                "{station}: session {session} was stopped, transaction {transaction} is {state}"
            ),
            BookDifference::Energy { wh_min, wh_max, booked_wh } => {
                let booked = number(*booked_wh);
                write!(f, "{station}: session {session} has {wh_min}")?;
                if wh_max != wh_min {
                    write!(f, " to {wh_max}")?;
                }
                write!(f, " Wh, transaction {transaction} has {booked}")
            }
        }
    }
}

/// Compares what the server has of one station with the truth. Transactions that it had before are
/// left out by the caller.
pub(crate) fn compare(
    station: &str,
    habits: Habits,
    truths: &[SessionTruth],
    booked: &[BookedTransaction],
) -> Vec<Disagreement> {
    let mut found = Vec::new();
    let mut left: BTreeMap<i64, &BookedTransaction> =
        booked.iter().map(|booked| (booked.id, booked)).collect();
    let mut claimed: BTreeMap<i64, usize> = BTreeMap::new();
    // Starts that were sent and never answered, or twice by a clock that tells nothing: the server
    // may have them.
    let mut doubtful = booked.iter().filter(|booked| booked.is_possible_repeat()).count();
    for (session, truth) in (1..).zip(truths) {
        let energy_wh = truth.energy_wh;
        let mut push = |transaction, difference| {
            let (station, session) = (station.to_owned(), Some(session));
            let habits = habits.to_string();
            found.push(Disagreement { station, habits, session, transaction, difference });
        };
        let Some(id) = truth.transaction_id.filter(|_| truth.was_sent) else {
            doubtful += usize::from(truth.was_sent);
            if truth.end != SessionFate::Forgotten {
                push(None, BookDifference::Untold { energy_wh });
            }
            continue;
        };
        if let Some(with_session) = claimed.insert(id, session) {
            push(Some(id), BookDifference::Merged { with_session, energy_wh });
            continue;
        }
        // A transaction of another server has a number of this one, too.
        let by_report = || left.values().find(|booked| booked.reported_id == Some(id));
        let its_id = if left.contains_key(&id) { Some(id) } else { by_report().map(|it| it.id) };
        match its_id.and_then(|id| left.remove(&id)) {
            None => push(Some(id), BookDifference::Missing { energy_wh }),
            Some(booked) => {
                for difference in differences(truth, booked) {
                    push(Some(id), difference);
                }
            }
        }
    }
    for booked in left.into_values() {
        if doubtful > 0 {
            doubtful -= 1;
            continue;
        }
        found.push(Disagreement {
            station: station.to_owned(),
            habits: habits.to_string(),
            session: None,
            transaction: Some(booked.id),
            difference: BookDifference::Invented { booked_wh: booked.energy_wh },
        });
    }
    found
}

fn differences(truth: &SessionTruth, booked: &BookedTransaction) -> Vec<BookDifference> {
    if truth.end == SessionFate::Running {
        return Vec::new();
    }
    let mut found = Vec::new();
    if booked.open {
        found.push(BookDifference::Open);
    }
    if !booked.open && truth.end == SessionFate::Stopped && booked.state != STOPPED {
        found.push(BookDifference::NotStopped { state: booked.state.clone() });
    }
    let (wh_min, wh_max) = match truth.knowable() {
        KnowableEnergy::Exact(wh) => (wh, wh),
        KnowableEnergy::Evidence { wh_min, wh_max } => (wh_min, wh_max),
    };
    let is_as_told = booked.energy_wh.unwrap_or_default();
    if !(wh_min - TOLERANCE_WH..=wh_max + TOLERANCE_WH).contains(&is_as_told) {
        found.push(BookDifference::Energy { wh_min, wh_max, booked_wh: booked.energy_wh });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(transaction_id: Option<i64>, energy_wh: i64, end: SessionFate) -> SessionTruth {
        SessionTruth {
            connector_id: 1,
            energy_wh,
            told_wh: energy_wh,
            sent_wh: energy_wh,
            untold_before_wh: 0,
            transaction_id,
            was_sent: true,
            end,
        }
    }

    fn booked(id: i64, energy_wh: i64) -> BookedTransaction {
        let energy_wh = Some(energy_wh);
        let (state, reported_id, flags) = (STOPPED.to_owned(), None, Vec::new());
        BookedTransaction { id, open: false, energy_wh, state, reported_id, flags }
    }

    fn differences_of(truths: &[SessionTruth], booked: &[BookedTransaction]) -> Vec<String> {
        let found = compare("CP", Habits::default(), truths, booked);
        found.iter().map(Disagreement::to_string).collect()
    }

    #[test]
    fn books_that_are_right_to_a_wh_agree() {
        let truths = [
            truth(Some(7), 1_000, SessionFate::Stopped),
            truth(Some(8), 500, SessionFate::Stopped),
            // Nobody knows if this start has arrived.
            truth(None, 300, SessionFate::Forgotten),
        ];
        assert_eq!(
            differences_of(&truths, &[booked(8, 501), booked(7, 999)]),
            Vec::<String>::new()
        );
        assert_eq!(
            differences_of(&truths, &[booked(9, 0), booked(8, 500), booked(7, 1_000)]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_way_in_which_books_can_be_wrong_is_told() {
        let stopped = |id| truth(Some(id), 1_000, SessionFate::Stopped);
        let open = BookedTransaction { open: true, ..booked(1, 1_000) };
        for (truths, books, said) in [
            (vec![stopped(1)], vec![], "does not have"),
            (vec![stopped(1), stopped(1)], vec![booked(1, 1_000)], "both transaction 1"),
            (vec![stopped(1)], vec![booked(1, 1_002)], "transaction 1 has 1002"),
            (vec![stopped(1)], vec![booked(1, 1_000), booked(2, 5)], "was no session"),
            (vec![stopped(1)], vec![open], "is open"),
            (vec![truth(None, 10, SessionFate::Stopped)], vec![], "not told in time"),
        ] {
            let found = differences_of(&truths, &books);
            assert!(found.len() == 1 && found[0].contains(said), "{said}: {found:?}");
        }
    }
}
