//! The connected stations, and calls to them.
//!
//! The newest connection of an identity wins. An older one learns of it when its channel of calls
//! closes; at its end it removes only its own entry, never that of the newer one.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use leftfold::prelude::Version;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::violations::ViolationLog;
use crate::domain::request::RequestId;
use crate::ocpp::frame::{Call, CallError, MessageId};
use crate::ocpp::session::{CallOutcome, Transmission};
use crate::ocpp::v16::{CentralRequest, StationConfirmation};

/// Calls that wait for one connection's task. The session bounds what waits behind that.
const CALLS_MAX: usize = 8;
/// Late answers that are kept for effects in doubt.
const LATE_ANSWERS_MAX: usize = 1_024;
/// Time that a call may take beyond its deadline until its connection's task reports an outcome.
const GRACE: Duration = Duration::from_secs(5);

/// The connected stations.
#[derive(Debug)]
pub(crate) struct Registry {
    connections: Mutex<HashMap<String, ConnectedStation>>,
    /// True while no station is to be connected here. It changes under the lock of the connections.
    is_shut: AtomicBool,
    late: Mutex<LateAnswers>,
    /// Departures of stations from the specification.
    pub(crate) violations: ViolationLog,
    next_generation: AtomicU64,
    /// Counts the connections that were made.
    joined: watch::Sender<u64>,
}

/// Answers that came after their call was given up, at most [`LATE_ANSWERS_MAX`].
#[derive(Debug, Default)]
struct LateAnswers {
    by_name: HashMap<RequestId, CallOutcome>,
    /// The names of all of them, the oldest first.
    order: VecDeque<RequestId>,
}

impl LateAnswers {
    fn keep(&mut self, name: RequestId, outcome: CallOutcome) {
        if self.by_name.insert(name.clone(), outcome).is_some() {
            return;
        }
        self.order.push_back(name);
        if self.order.len() > LATE_ANSWERS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_name.remove(&oldest);
        }
        assert_eq!(self.order.len(), self.by_name.len(), "each answer has its place in the order");
    }
}

#[derive(Debug)]
struct ConnectedStation {
    generation: u64,
    /// Version of the station at which it was recorded that it is connected here; `None` before.
    recorded: Option<Version>,
    calls: mpsc::Sender<OutgoingCall>,
    reports: watch::Sender<u64>,
}

/// A call on its way to the task of a connection.
#[derive(Debug)]
pub(crate) struct OutgoingCall {
    pub(crate) call: Call,
    pub(crate) deadline: Instant,
    pub(crate) answer: oneshot::Sender<CallOutcome>,
}

/// One connection's end of the registry.
#[derive(Debug)]
pub(crate) struct RegisteredConnection {
    pub(crate) generation: u64,
    /// Ends when a newer connection has taken over, or no station is to be connected here.
    pub(crate) calls: mpsc::Receiver<OutgoingCall>,
}

/// Result of a call to a station.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    /// The station answered.
    Answered(StationConfirmation),
    /// The station answered with an error.
    Refused(CallError),
    /// It certainly did not reach the station.
    NotSent(&'static str),
    /// It may have reached the station, and what became of it is not known.
    Unknown(&'static str),
}

/// Reason of [`Called::Unknown`] if the station did not answer in time.
pub(crate) const NO_ANSWER: &str = "the station did not answer in time";

impl Default for Registry {
    fn default() -> Self {
        Self {
            connections: Mutex::default(),
            is_shut: AtomicBool::new(false),
            late: Mutex::default(),
            violations: ViolationLog::default(),
            next_generation: AtomicU64::new(1),
            joined: watch::Sender::new(0),
        }
    }
}

impl Registry {
    /// Ends all connections, and takes no new ones: the stations find another server.
    pub(crate) fn shut(&self) {
        let mut connections = self.connections();
        self.is_shut.store(true, Ordering::Release);
        connections.clear();
    }

    /// Takes connections again.
    pub(crate) fn reopen(&self) {
        let _connections = self.connections();
        self.is_shut.store(false, Ordering::Release);
    }

    /// Tells whether no station is to be connected here.
    #[must_use]
    pub(crate) fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Acquire)
    }

    /// Registers a new connection of the identity; it replaces an older one. While no connections
    /// are taken it ends at once.
    pub(crate) fn enter(&self, station: &str) -> RegisteredConnection {
        let generation = self.next_generation.fetch_add(1, Ordering::Relaxed);
        let (sender, calls) = mpsc::channel(CALLS_MAX);
        let connection = ConnectedStation {
            generation,
            recorded: None,
            calls: sender,
            reports: watch::Sender::new(0),
        };
        let mut connections = self.connections();
        if !self.is_shut() && connections.insert(station.to_owned(), connection).is_some() {
            tracing::info!(station, "a newer connection replaces an older one");
        }
        drop(connections);
        self.joined.send_modify(|joined| *joined = joined.wrapping_add(1));
        RegisteredConnection { generation, calls }
    }

    /// Gives the place up, unless a newer connection has it.
    pub(crate) fn leave(&self, station: &str, generation: u64) {
        let mut connections = self.connections();
        if connections.get(station).is_some_and(|connection| connection.generation == generation) {
            connections.remove(station);
        }
    }

    /// It is recorded, at a version of the station, that it is connected here.
    pub(crate) fn recorded(&self, station: &str, generation: u64, version: Version) {
        if let Some(connection) = self.connections().get_mut(station)
            && connection.generation == generation
        {
            connection.recorded = Some(version);
        }
    }

    /// Another server has recorded, at a version of the station, that it is connected there: a
    /// connection here that was recorded before is replaced. One that is not recorded yet is newer.
    pub(crate) fn connected_elsewhere(&self, station: &str, version: Version) {
        let mut connections = self.connections();
        let is_older = |connection: &ConnectedStation| {
            connection.recorded.is_some_and(|recorded| recorded < version)
        };
        if connections.get(station).is_some_and(is_older) {
            tracing::info!(station, "a newer connection, to another server, replaces this one");
            connections.remove(station);
        }
    }

    /// The station has reported the state of a connector, and the report is recorded.
    pub(crate) fn reported(&self, station: &str) {
        if let Some(connection) = self.connections().get(station) {
            connection.reports.send_modify(|reports| *reports = reports.wrapping_add(1));
        }
    }

    /// Follows the reports of state over the present connection.
    #[must_use]
    pub(crate) fn reports(&self, station: &str) -> Option<watch::Receiver<u64>> {
        self.connections().get(station).map(|connection| connection.reports.subscribe())
    }

    /// Returns the number of connected stations.
    #[must_use]
    pub(crate) fn connected(&self) -> usize {
        self.connections().len()
    }

    /// Tells whether the station is connected.
    #[must_use]
    pub(crate) fn is_connected(&self, station: &str) -> bool {
        self.connections().contains_key(station)
    }

    /// Waits at most `within` until the station is connected; tells whether it is.
    pub(crate) async fn wait_for(&self, station: &str, within: Duration) -> bool {
        let mut joined = self.joined.subscribe();
        let connected = async {
            while !self.is_connected(station) {
                joined.mark_unchanged();
                // Looked at again, lest it joined in between.
                if self.is_connected(station) || joined.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(within, connected).await;
        self.is_connected(station)
    }

    /// Calls a station over its newest connection. The name becomes the message id; `None` takes a
    /// random one.
    pub(crate) async fn call(
        &self,
        station: &str,
        name: Option<&RequestId>,
        request: &CentralRequest,
        within: Duration,
    ) -> Called {
        let name = name.cloned().unwrap_or_else(RequestId::random);
        let Ok(id) = MessageId::new(name.0) else {
            return Called::NotSent("the request's name is no message id");
        };
        let calls = self.connections().get(station).map(|connection| connection.calls.clone());
        let Some(calls) = calls else { return Called::NotSent("the station is not connected") };
        let (answer, answered) = oneshot::channel();
        let outgoing =
            OutgoingCall { call: request.call(id), deadline: Instant::now() + within, answer };
        if calls.try_send(outgoing).is_err() {
            return Called::NotSent(
                "too many calls to the station are waiting, or it is just leaving",
            );
        }
        // The connection must not be held by those who wait: a newer one could not take over.
        drop(calls);
        match timeout(within + GRACE, answered).await {
            Ok(Ok(outcome)) => self.settled(station, request, outcome),
            Ok(Err(_)) | Err(_) => Called::Unknown("the connection's task ended without a word"),
        }
    }

    /// Reads the outcome of a call, and counts the violations in it.
    fn settled(&self, station: &str, request: &CentralRequest, outcome: CallOutcome) -> Called {
        if let CallOutcome::Answered(payload) = &outcome
            && let Ok(answer) = request.read_confirmation(&payload.message)
        {
            let violations = payload.violations.iter().chain(&answer.violations);
            self.violations.note(station, &format!("{}.conf", request.action()), violations);
        }
        read(request, outcome)
    }

    /// Keeps an answer that came after its call was given up.
    pub(crate) fn answered_late(&self, name: RequestId, outcome: CallOutcome) {
        self.late.lock().unwrap_or_else(PoisonError::into_inner).keep(name, outcome);
    }

    /// The answer to a request, if it came after the call was given up.
    #[must_use]
    pub(crate) fn late_answer(&self, name: &RequestId, request: &CentralRequest) -> Option<Called> {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.by_name.get(name).map(|outcome| read(request, outcome.clone()))
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<String, ConnectedStation>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Turns the outcome of a call into the result for the caller.
fn read(request: &CentralRequest, outcome: CallOutcome) -> Called {
    match outcome {
        CallOutcome::Answered(payload) => match request.read_confirmation(&payload.message) {
            Ok(answer) => Called::Answered(answer.message),
            Err(_) => Called::Unknown("the station's answer cannot be read"),
        },
        CallOutcome::Refused(error) => Called::Refused(error.message),
        CallOutcome::Unreadable(_) => Called::Unknown("the station's answer cannot be read"),
        CallOutcome::TimedOut(Transmission::NeverWritten) => {
            Called::NotSent("the station was busy with earlier calls")
        }
        CallOutcome::ConnectionLost(Transmission::NeverWritten) => {
            Called::NotSent("the connection ended before the call was sent")
        }
        CallOutcome::TimedOut(Transmission::MayBeWritten) => Called::Unknown(NO_ANSWER),
        CallOutcome::ConnectionLost(Transmission::MayBeWritten) => {
            Called::Unknown("the connection ended before the station answered")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocpp::v16::MessageTrigger;

    const TRIGGER: CentralRequest = CentralRequest::TriggerMessage {
        requested_message: MessageTrigger::Heartbeat,
        connector_id: None,
    };

    #[tokio::test]
    async fn the_late_clean_up_of_an_old_connection_leaves_the_new_one_alone() {
        let registry = Registry::default();
        let mut old = registry.enter("CP1");
        let mut new = registry.enter("CP1");
        assert!(old.calls.recv().await.is_none(), "nothing reaches the old one");
        registry.leave("CP1", old.generation);
        assert!(registry.is_connected("CP1"));
        let called = registry.call("CP1", None, &TRIGGER, Duration::from_secs(5));
        let answered = async {
            let outgoing = new.calls.recv().await.unwrap();
            outgoing.answer.send(CallOutcome::TimedOut(Transmission::MayBeWritten)).unwrap();
        };
        assert_eq!(tokio::join!(called, answered).0, Called::Unknown(NO_ANSWER));
        registry.leave("CP1", new.generation);
        assert!(!registry.is_connected("CP1"));
    }

    #[tokio::test]
    async fn of_connections_to_several_servers_the_one_that_was_recorded_last_stays() {
        let registry = Registry::default();
        let mut first = registry.enter("CP1");
        registry.connected_elsewhere("CP1", Version(3));
        assert!(registry.is_connected("CP1"), "it may be the newer one");
        registry.recorded("CP1", first.generation, Version(4));
        registry.connected_elsewhere("CP1", Version(3));
        assert!(registry.is_connected("CP1"));
        registry.connected_elsewhere("CP1", Version(5));
        assert!(!registry.is_connected("CP1") && first.calls.recv().await.is_none());
        let second = registry.enter("CP1");
        registry.recorded("CP1", first.generation, Version(4));
        registry.connected_elsewhere("CP1", Version(5));
        assert!(
            registry.is_connected("CP1"),
            "what is recorded of an old connection is not its own"
        );
        registry.leave("CP1", second.generation);
    }

    #[tokio::test]
    async fn a_registry_that_is_shut_ends_all_connections_and_takes_none_until_it_is_reopened() {
        let registry = Registry::default();
        let mut before = registry.enter("CP1");
        registry.shut();
        let mut meanwhile = registry.enter("CP1");
        assert!(before.calls.recv().await.is_none() && meanwhile.calls.recv().await.is_none());
        assert!(registry.is_shut() && !registry.is_connected("CP1"));
        registry.reopen();
        let _after = registry.enter("CP1");
        assert!(!registry.is_shut() && registry.is_connected("CP1"));
    }

    #[tokio::test]
    async fn a_station_that_is_not_connected_is_certainly_not_reached() {
        let registry = Registry::default();
        let called = registry.call("CP1", None, &TRIGGER, Duration::from_secs(5)).await;
        assert!(matches!(called, Called::NotSent(_)), "{called:?}");
    }

    /// At the limit all of them were forgotten at once, those included that had just come.
    #[test]
    fn of_too_many_late_answers_only_the_oldest_is_forgotten() {
        let registry = Registry::default();
        let name = |number: usize| RequestId(number.to_string());
        for number in 0..=LATE_ANSWERS_MAX {
            registry.answered_late(name(number), CallOutcome::TimedOut(Transmission::MayBeWritten));
        }
        assert_eq!(registry.late_answer(&name(0), &TRIGGER), None);
        for number in 1..=LATE_ANSWERS_MAX {
            assert!(registry.late_answer(&name(number), &TRIGGER).is_some(), "{number}");
        }
        // The same one again takes no other's place.
        registry.answered_late(name(1), CallOutcome::TimedOut(Transmission::MayBeWritten));
        assert!(registry.late_answer(&name(2), &TRIGGER).is_some());
    }
}
