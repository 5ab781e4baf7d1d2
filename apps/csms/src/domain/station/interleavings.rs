//! A station that goes offline, queues, sends again, restarts and forgets, in any order: every
//! session is one transaction with its own stop, and nothing keeps a connector in the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use leftfold::prelude::Timestamp;

use super::tests::{online, report, started, stopped};
use super::*;
use crate::domain::connector::StatusChanged;
use crate::domain::transaction::{TransactionStarted, TransactionStopped};
use crate::ocpp::v16::{ChargePointStatus, TransactionId};

const CONNECTORS: u32 = 2;

/// A session as the driver has seen it.
#[derive(Clone, Debug)]
struct Plugged {
    connector_id: u32,
    began: Timestamp,
    wh: i64,
    stopped: Option<(Timestamp, i64)>,
    id: Option<TransactionId>,
}

#[derive(Clone, Copy, Debug)]
enum Queued {
    Start(usize),
    Stop(usize),
}

/// The station, and beside it what csms makes of its reports.
struct ModelStation {
    choices: fastrand::Rng,
    clock_is_right: bool,
    now: Timestamp,
    shown: Timestamp,
    is_offline: bool,
    has_forgotten: bool,
    meter_wh: i64,
    runs: BTreeMap<u32, usize>,
    queue: VecDeque<Queued>,
    sessions: Vec<Plugged>,
    csms: Station,
    heard: Vec<StationEvent>,
    /// As the gateway recognizes stops that name their transaction.
    stop_keys: BTreeSet<String>,
    next_id: i64,
}

/// Acts of the station.
impl ModelStation {
    fn new(mut choices: fastrand::Rng) -> Self {
        let mut csms = Station::default();
        csms.apply(&online());
        let now = "2026-05-04T10:00:00Z".parse().unwrap();
        let mut new = Self {
            clock_is_right: choices.u8(..4) > 0,
            choices,
            now,
            shown: now,
            is_offline: false,
            has_forgotten: false,
            meter_wh: 0,
            runs: BTreeMap::new(),
            queue: VecDeque::new(),
            sessions: Vec::new(),
            csms,
            heard: Vec::new(),
            stop_keys: BTreeSet::new(),
            next_id: 1,
        };
        new.restart();
        new
    }

    fn act(&mut self) {
        let connector_id = self.choices.u32(1..=CONNECTORS);
        let running = self.runs.get(&connector_id).copied();
        let action = self.choices.u8(..12);
        // Sessions may follow each other within a second, restarts and outages do not.
        let is_quick = self.choices.bool() && !(5..=8).contains(&action);
        self.pass(if is_quick { 0..2 } else { 5..600 });
        match (action, running) {
            (0..=3, None) => self.begin(connector_id),
            (0..=3, Some(session)) => self.finish(connector_id, session),
            (4, _) => self.is_offline = true,
            (5..=6, _) if self.is_offline => self.come_back(),
            (7, _) => {
                self.restart();
                self.come_back();
            }
            (8, Some(_)) => {
                // Without power it forgets what ran.
                self.runs.remove(&connector_id);
                self.has_forgotten = true;
                self.restart();
                self.come_back();
            }
            (9, _) if !self.is_offline => self.say_status(connector_id),
            _ => self.flush(),
        }
    }

    fn pass(&mut self, seconds: Range<u64>) {
        let seconds = self.choices.u64(seconds);
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.shown = self.shown.plus(Duration::from_secs(seconds));
    }

    fn begin(&mut self, connector_id: u32) {
        let session = self.sessions.len();
        let (began, wh) = (self.shown, if self.clock_is_right { self.meter_wh } else { 0 });
        self.sessions.push(Plugged { connector_id, began, wh, stopped: None, id: None });
        self.runs.insert(connector_id, session);
        // Some stations send what happens now before what waits in the queue.
        if !self.is_offline && self.clock_is_right && self.has_only_whole_sessions() {
            self.send(Queued::Start(session));
        } else {
            self.queue.push_back(Queued::Start(session));
        }
        self.flush();
    }

    fn has_only_whole_sessions(&self) -> bool {
        self.queue.iter().all(|it| {
            let (Queued::Start(session) | Queued::Stop(session)) = *it;
            self.sessions[session].stopped.is_some()
        })
    }

    fn finish(&mut self, connector_id: u32, session: usize) {
        self.runs.remove(&connector_id);
        self.meter_wh += self.choices.i64(0..3_000);
        self.sessions[session].stopped = Some((self.shown, self.meter_wh));
        self.queue.push_back(Queued::Stop(session));
        self.flush();
        if !self.is_offline && self.choices.bool() {
            self.say_status(connector_id);
        }
    }

    fn restart(&mut self) {
        self.is_offline = true;
        if !self.clock_is_right {
            self.shown = "1970-01-01T00:00:15Z".parse().unwrap();
        }
        self.tell(&StationCommand::Boot(Booted::default()));
    }

    /// States overtake what is in the queue.
    fn come_back(&mut self) {
        self.is_offline = false;
        (1..=CONNECTORS).for_each(|connector_id| self.say_status(connector_id));
        let free = (1..=CONNECTORS).find(|it| !self.runs.contains_key(it));
        if let Some(connector_id) = free.filter(|_| self.choices.u8(..4) == 0) {
            self.begin(connector_id);
        }
        self.flush();
    }

    fn flush(&mut self) {
        while !self.is_offline
            && let Some(next) = self.queue.pop_front()
        {
            self.send(next);
        }
    }

    fn say_status(&mut self, connector_id: u32) {
        let status = if self.runs.contains_key(&connector_id) {
            ChargePointStatus::Charging
        } else {
            ChargePointStatus::Available
        };
        let timestamp = self.choices.bool().then_some(self.shown);
        let received_at = self.now;
        let status = StatusChanged { received_at, ..report(connector_id, status, timestamp) };
        self.tell(&StationCommand::ReportStatus(status));
    }

    /// Sends a report until an answer comes.
    fn send(&mut self, what: Queued) {
        for _ in 0..=self.choices.u8(..8) / 6 {
            self.pass(if self.clock_is_right { 0..90 } else { 0..2 });
            match what {
                Queued::Start(session) => self.send_start(session),
                Queued::Stop(session) => self.send_stop(session),
            }
        }
    }
}

/// Reports to csms, and the check of what it made of them.
impl ModelStation {
    fn tell(&mut self, command: &StationCommand) -> Vec<StationEvent> {
        let events = self.csms.decide(command).unwrap();
        events.iter().for_each(|event| self.csms.apply(event));
        self.heard.extend(events.clone());
        events
    }

    fn send_start(&mut self, session: usize) {
        let Plugged { connector_id, began, wh, .. } = self.sessions[session];
        let started = TransactionStarted {
            timestamp: Some(began),
            received_at: self.now,
            meter_start_wh: Some(wh),
            ..started(self.next_id, connector_id, "TAG")
        };
        self.next_id += 1;
        let known = self.csms.repeated_start(&started).map(|it| it.id);
        let events = self.tell(&StationCommand::ReportStart(started));
        let new = events.iter().find_map(|event| match event {
            StationEvent::TransactionStarted(it) => Some(it),
            _ => None,
        });
        let id = new.map(|it| it.transaction_id).or(known).expect("a start is answered");
        let others = self.sessions.iter().enumerate().filter(|(nth, _)| *nth != session);
        let is_other = others.into_iter().any(|(_, it)| it.id == Some(id));
        assert!(!is_other, "{id:?} is of another session than {:?}", self.sessions[session]);
        match self.sessions[session].id {
            Some(first) if self.clock_is_right => assert_eq!(id, first, "one session is two"),
            Some(_) => assert!(new.is_some_and(|it| it.possible_repeat_of.is_some())),
            None => {}
        }
        self.sessions[session].id = Some(id);
    }

    fn send_stop(&mut self, session: usize) {
        let Plugged { stopped: at, id, .. } = self.sessions[session];
        let (shown, wh) = at.unwrap();
        let id = id.expect("its start was sent before");
        let stopped = TransactionStopped {
            timestamp: Some(shown),
            received_at: self.now,
            meter_stop_wh: Some(wh),
            ..stopped(Some(id.value()))
        };
        if self.stop_keys.insert(stopped.natural_key()) {
            self.tell(&StationCommand::ReportStop { stopped, adopt_as: None });
        }
    }

    fn check(&self) {
        let mut stops = BTreeMap::new();
        for event in &self.heard {
            match event {
                StationEvent::TransactionStopped(it) => {
                    let before = stops.insert(it.transaction_id, it.meter_stop_wh);
                    assert_eq!(before, None, "{it:?} is there twice");
                }
                StationEvent::UnmatchedStopReported(it) => panic!("{it:?} is of no transaction"),
                _ => {}
            }
        }
        for session in &self.sessions {
            let id = session.id.map(TransactionId::value);
            let wh = session.stopped.map(|(_, wh)| wh);
            assert_eq!(stops.get(&id).copied().flatten(), wh, "the stop of {session:?}");
        }
        let starts = |it: &&StationEvent| matches!(it, StationEvent::TransactionStarted(_));
        let starts = self.heard.iter().filter(starts).count();
        assert!(starts == self.sessions.len() || !self.clock_is_right, "{starts} starts");
        for connector in self.csms.connectors.values() {
            assert!(!connector.is_occupied(), "{connector:?}");
        }
    }
}

#[test]
fn in_whatever_order_reports_come_sessions_are_neither_merged_nor_doubled_nor_block_anything() {
    let mut choices = fastrand::Rng::with_seed(leftfold::testing::seed());
    for _ in 0..leftfold::testing::extent(300, 30_000) {
        let mut model = ModelStation::new(choices.fork());
        (0..model.choices.u8(5..60)).for_each(|_| model.act());
        // In the end everybody leaves, and the station is online.
        model.pass(60..61);
        model.come_back();
        for (connector_id, session) in model.runs.clone() {
            model.finish(connector_id, session);
        }
        // Some stations say nothing of a connector after a stop.
        if model.has_forgotten || model.choices.bool() {
            model.pass(60..61);
            (1..=CONNECTORS).for_each(|connector_id| model.say_status(connector_id));
        }
        model.check();
    }
}
