//! What a station reports of its transactions, and what becomes of those of which it reports no
//! more.

use std::time::Duration;

use leftfold::prelude::Timestamp;

use super::{CONNECTORS_MAX, OPEN_TRANSACTIONS_MAX, Station, StationEvent, StationRefusal};
use crate::domain::connector::{Connector, LastStart};
use crate::domain::request::{RemoteStart, RequestId};
use crate::domain::transaction::{
    EndCause, LastStop, Transaction, TransactionAdopted, TransactionEnded, TransactionStarted,
    TransactionStopped,
};
use crate::ocpp::v16::TransactionId;

/// Time within which a station sends a report again whose answer it did not get: it does so within
/// minutes while it is connected, and at once when it is connected again. A line that was down for
/// longer leaves a doubt.
const RESENT_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// The folds.
impl Station {
    pub(super) fn started(&mut self, started: &TransactionStarted) {
        let transaction = Transaction::from(started);
        if !started.late {
            self.supersede(started.connector_id);
            if let Some(connector) = self.connector_kept(started.connector_id) {
                connector.started(&transaction);
            }
        }
        let remote_start = self
            .remote_starts
            .iter_mut()
            .find(|start| Some(&start.asked.request) == started.remote_start.as_ref());
        if let Some(remote_start) = remote_start {
            remote_start.transaction = Some(started.transaction_id);
            if let Some(profile) = &remote_start.asked.charging_profile {
                let at = started.received_at;
                self.operations.change().profiles.install(started.connector_id, profile, at);
            }
        }
        self.use_reservation(started);
        self.keep(transaction);
        self.forget_finished_remote_starts(started.received_at);
    }

    pub(super) fn adopted(&mut self, adopted: &TransactionAdopted) {
        let mut transaction = Transaction::from(adopted);
        let connector = match adopted.connector_id {
            0 => None,
            connector_id => self.connector_kept(connector_id),
        };
        match connector {
            Some(connector) if connector.transaction.is_none() => {
                connector.transaction = Some(transaction.id);
            }
            // Nothing could end it but its stop: so it holds nothing meanwhile.
            _ => transaction.superseded = true,
        }
        self.keep(transaction);
    }

    pub(super) fn ended(&mut self, ended: &TransactionEnded) {
        let TransactionEnded { transaction_id, connector_id, ref cause, at, concluded_at } = *ended;
        let Some(transaction) = self.transactions.get_mut(&transaction_id.value()) else { return };
        transaction.ended_at = Some(at);
        transaction.is_closed |= matches!(cause, EndCause::Closed { .. });
        let station_id = transaction.station_id();
        if let Some(connector) = self.connectors.get_mut(&connector_id) {
            connector.ended(transaction_id, Some(at), concluded_at);
        }
        self.drop_profiles(connector_id, station_id);
    }

    pub(super) fn stopped(&mut self, stopped: &TransactionStopped) {
        let Some(transaction) = stopped.transaction_id.and_then(|id| self.transactions.remove(&id))
        else {
            return;
        };
        let connector_id = transaction.start.connector_id;
        if let Some(connector) = self.connectors.get_mut(&connector_id) {
            connector.stopped(transaction.id, stopped);
        }
        self.drop_profiles(connector_id, transaction.station_id());
    }

    /// Returns a connector of which the state is kept; `None` if there are too many.
    fn connector_kept(&mut self, connector_id: u32) -> Option<&mut Connector> {
        let is_kept =
            self.connectors.contains_key(&connector_id) || self.connectors.len() < CONNECTORS_MAX;
        is_kept.then(|| self.connectors.entry(connector_id).or_default())
    }

    fn supersede(&mut self, connector_id: u32) {
        let running = self.connectors.get(&connector_id).and_then(|it| it.transaction);
        if let Some(transaction) =
            running.and_then(|running| self.transactions.get_mut(&running.value()))
        {
            transaction.superseded = true;
        }
    }

    fn keep(&mut self, transaction: Transaction) {
        self.transactions.insert(transaction.id.value(), transaction);
        if self.transactions.len() > OPEN_TRANSACTIONS_MAX {
            let over = self.transactions.values().find(|it| !it.is_running());
            if let Some(oldest) = over.or_else(|| self.transactions.values().next()) {
                let oldest = oldest.id.value();
                self.transactions.remove(&oldest);
            }
        }
    }

    /// Forgets the charging profiles of a transaction, which is named as the station names it.
    fn drop_profiles(&mut self, connector_id: u32, station_id: i64) {
        if self.operations.profiles.has_of_transaction(connector_id) {
            self.operations.change().profiles.transaction_ended(connector_id, station_id);
        }
    }
}

/// The start.
impl Station {
    pub(super) fn decide_start(&self, started: &TransactionStarted) -> Vec<StationEvent> {
        if self.repeated_start(started).is_some() {
            return Vec::new();
        }
        let last = self.connectors.get(&started.connector_id).and_then(|it| it.last_start.as_ref());
        let is_older = |last: &LastStart| {
            last.moment.zip(started.moment()).is_some_and(|(last, moment)| moment < last)
        };
        let late = last.is_some_and(is_older);
        let begun = StationEvent::TransactionStarted(TransactionStarted {
            remote_start: self.remote_start_behind(started),
            late,
            possible_repeat_of: self.said_before(started),
            ..started.clone()
        });
        let ended = if late { None } else { self.ended_before(started) };
        std::iter::once(begun).chain(ended.map(StationEvent::TransactionEnded)).collect()
    }

    /// Returns the transaction that a report of a start is about, if that start was reported
    /// before, and nothing speaks against it: the content is the same to the second, by a clock
    /// that can be believed; its stop was not reported; nothing else began on the connector in that
    /// same second, nor was the connector free in it; and it comes within the time in which
    /// stations send again. Another session with the same content would have begun later.
    #[must_use]
    pub(crate) fn repeated_start(&self, started: &TransactionStarted) -> Option<&Transaction> {
        started.moment()?;
        let content = started.content();
        let known = self.transactions.values().rev().find(|it| it.start == content)?;
        let moment = known.moment()?;
        let is_alone = !self.transactions.values().any(|other| {
            other.id > known.id
                && other.start.connector_id == content.connector_id
                && other.start.timestamp == content.timestamp
        });
        let was_free_later = known.ended_at.is_none_or(|ended_at| ended_at > moment);
        let in_time = started.received_at <= known.received_at.plus(RESENT_WITHIN);
        (is_alone && was_free_later && in_time).then_some(known)
    }

    /// Returns the transaction whose start was reported with the same content.
    fn said_before(&self, started: &TransactionStarted) -> Option<TransactionId> {
        let content = started.content();
        let last = self.connectors.get(&content.connector_id).and_then(|it| it.last_start.as_ref());
        let last = last.filter(|last| last.content == content).map(|last| last.transaction);
        let unstopped = self.transactions.values().rev().find(|it| it.start == content);
        last.or_else(|| unstopped.map(|it| it.id))
    }

    /// Returns the end of a transaction that comes out of the station's queue, after its connector
    /// was reported as free at a later moment.
    fn ended_before(&self, started: &TransactionStarted) -> Option<TransactionEnded> {
        let connector = self.connectors.get(&started.connector_id)?;
        let report = connector.report.as_ref()?;
        let (free, began) = connector.reported_since.zip(started.moment())?;
        (report.shows_no_transaction(false) && free > began).then_some(TransactionEnded {
            transaction_id: started.transaction_id,
            connector_id: started.connector_id,
            cause: EndCause::ConnectorFree,
            at: free,
            concluded_at: started.received_at,
        })
    }

    /// Returns the remote start that led to a transaction. One that named the connector is likelier
    /// than one that left the choice to the station.
    fn remote_start_behind(&self, started: &TransactionStarted) -> Option<RequestId> {
        let TransactionStarted { connector_id, ref id_tag, timestamp, received_at, .. } = *started;
        let led_to = |start: &&RemoteStart| {
            start.may_have_led_to(connector_id, id_tag, timestamp, received_at)
        };
        let candidates = self.remote_starts.iter().filter(led_to);
        let likeliest = candidates.min_by_key(|start| start.asked.connector_id.is_none());
        likeliest.map(|start| start.asked.request.clone())
    }
}

/// The stop, and the end without one.
impl Station {
    pub(super) fn decide_stop(
        &self,
        stopped: &TransactionStopped,
        adopt_as: Option<TransactionId>,
    ) -> Vec<StationEvent> {
        let unmatched = || vec![StationEvent::UnmatchedStopReported(stopped.clone())];
        let Some(named) = stopped.transaction_id.filter(|id| *id > 0) else {
            let meant = self.meant_by(stopped);
            let (before, is_believed) = (self.same_stop(stopped), stopped.moment().is_some());
            return match (before, &meant[..]) {
                (Some(_), []) if is_believed => Vec::new(),
                // Stations send one report after the other: what began since was not stopped by
                // what was reported before.
                (before, [one]) if before.is_none_or(|it| it.received_at < one.received_at) => {
                    vec![StationEvent::TransactionStopped(TransactionStopped {
                        guessed: true,
                        ..stopped_as(stopped, one.id)
                    })]
                }
                _ => unmatched(),
            };
        };
        if let Some(transaction) = self.transaction_named(named) {
            return vec![StationEvent::TransactionStopped(stopped_as(stopped, transaction.id))];
        }
        let Some(transaction_id) = adopt_as else { return unmatched() };
        vec![
            StationEvent::TransactionAdopted(TransactionAdopted {
                transaction_id,
                reported_id: named,
                connector_id: 0,
                received_at: stopped.received_at,
            }),
            StationEvent::TransactionStopped(stopped_as(stopped, transaction_id)),
        ]
    }

    pub(super) fn decide_adoption(&self, adopted: &TransactionAdopted) -> Vec<StationEvent> {
        match self.transaction_named(adopted.reported_id) {
            Some(_) => Vec::new(),
            None => vec![StationEvent::TransactionAdopted(adopted.clone())],
        }
    }

    pub(super) fn decide_close(
        &self,
        transaction_id: i64,
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<Vec<StationEvent>, StationRefusal> {
        let transaction = self.transactions.get(&transaction_id);
        let transaction = transaction
            .filter(|it| !it.is_closed)
            .ok_or(StationRefusal::NotRunning { transaction_id })?;
        Ok(vec![StationEvent::TransactionEnded(TransactionEnded {
            transaction_id: transaction.id,
            connector_id: transaction.start.connector_id,
            cause: EndCause::Closed { by: by.to_owned(), reason: reason.to_owned() },
            at: now,
            concluded_at: now,
        })])
    }

    /// Returns the transaction whose stop was not reported, by the id that the station uses.
    #[must_use]
    pub(crate) fn transaction_named(&self, id: i64) -> Option<&Transaction> {
        let own = self.transactions.get(&id).filter(|it| it.reported_id.is_none());
        own.or_else(|| self.transactions.values().find(|it| it.reported_id == Some(id)))
    }

    /// Returns the transaction that runs on a connector.
    #[must_use]
    pub(crate) fn running_on(&self, connector_id: u32) -> Option<&Transaction> {
        let running = self.connectors.get(&connector_id)?.transaction?;
        self.transactions.get(&running.value())
    }

    /// Returns the last stop on a connector that said the same as a stop without an id of ours, if
    /// this may be that report again.
    fn same_stop(&self, stopped: &TransactionStopped) -> Option<&LastStop> {
        let last = self.connectors.values().filter_map(|it| it.last_stop.as_ref());
        last.filter(|last| {
            stopped.says_the_same(last)
                && stopped.received_at <= last.received_at.plus(RESENT_WITHIN)
        })
        .max_by_key(|last| last.received_at)
    }

    /// Returns the transactions that a stop without an id of ours can be about: those that run, or
    /// if none does, those that ended as the last one on their connector; of several those of its
    /// tag, and of its meter.
    fn meant_by(&self, stopped: &TransactionStopped) -> Vec<&Transaction> {
        let began_before = |it: &&Transaction| {
            it.moment().zip(stopped.moment()).is_none_or(|(began, stopped)| began <= stopped)
        };
        let is_last = |it: &Transaction| {
            let connector = self.connectors.get(&it.start.connector_id);
            let last = connector.and_then(|connector| connector.last_start.as_ref());
            last.is_some_and(|last| last.transaction == it.id)
        };
        // `None` if the report does not tell.
        let is_of_tag = |it: &Transaction| {
            stopped.id_tag.as_ref().map(|tag| tag.eq_ignore_ascii_case(&it.start.id_tag))
        };
        let is_of_meter = |it: &Transaction| {
            it.start.meter_start_wh.zip(stopped.meter_stop_wh).map(|(from, to)| from <= to)
        };
        let can_be = |it: &&Transaction| {
            let contradicts = is_of_tag(it) == Some(false) && is_of_meter(it) == Some(false);
            (it.is_running() || (!it.superseded && !it.is_closed && is_last(it))) && !contradicts
        };
        let all: Vec<_> = self.transactions.values().filter(began_before).filter(can_be).collect();
        let running = narrowed(all, Transaction::is_running);
        let of_tag = narrowed(running, |it| is_of_tag(it) == Some(true));
        narrowed(of_tag, |it| is_of_meter(it) == Some(true))
    }
}

/// Returns those of several for which the condition holds; all if it holds for none.
fn narrowed(
    several: Vec<&Transaction>,
    condition: impl Fn(&Transaction) -> bool,
) -> Vec<&Transaction> {
    let left: Vec<_> = several.iter().copied().filter(|it| condition(it)).collect();
    if several.len() < 2 || left.is_empty() { several } else { left }
}

/// Returns the report of a stop, under the id of its transaction.
fn stopped_as(stopped: &TransactionStopped, id: TransactionId) -> TransactionStopped {
    TransactionStopped {
        transaction_id: Some(id.value()),
        reported_id: stopped.transaction_id.filter(|said| *said != id.value()),
        ..stopped.clone()
    }
}
