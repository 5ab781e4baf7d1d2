//! A charge point of OCPP 1.6 as firmware is: a state machine without I/O. Time and frames go in,
//! frames come out, and its randomness is seeded; so a seed replays all that it does by itself.

use std::collections::VecDeque;
use std::sync::Arc;

use fastrand::Rng;
use serde_json::Value;

use super::clock::StationClock;
use super::habits::{Habit, Habits};
use super::outbox::{SentReport, StationOutbox, WaitingReport};
use super::outlet::{Occasion, Outlet};
use super::reports::{KeptReport, LiveReport, SessionReport, call_text};
use super::truth::{SessionFate, SessionTruth};
use crate::ocpp::frame::{CallResult, Frame};

/// Description of a station to simulate.
#[derive(Clone, Debug)]
pub(crate) struct StationPlan {
    /// Identity.
    pub(crate) identity: Arc<str>,
    /// Seed of its randomness.
    pub(crate) seed: u64,
    /// Habits.
    pub(crate) habits: Habits,
    /// Sessions of each connector; `None` if there is no end to them.
    pub(crate) sessions_max: Option<u32>,
    /// True if it reboots, and loses its connection for a while.
    pub(crate) has_faults: bool,
    /// True time at the begin of the model, in ms since 1970.
    pub(crate) base_ms: i64,
    /// Time in which the server is to answer, in ms of the model.
    pub(crate) timeout_ms: u64,
}

/// Output of a station.
#[derive(Debug, PartialEq)]
pub(crate) enum StationOutput {
    /// A frame to send.
    Send(String),
    /// The connection is to be given up.
    Disconnect,
}

/// A charge point.
#[derive(Debug)]
pub(crate) struct ChargePoint {
    pub(super) plan: StationPlan,
    pub(super) rng: Rng,
    clock: StationClock,
    pub(super) outlets: Vec<Outlet>,
    pub(super) outbox: StationOutbox,
    /// Truth of all sessions.
    pub(super) ledger: Vec<SessionTruth>,
    pub(super) is_connected: bool,
    /// True once the server has accepted the boot; until then no other report is sent.
    is_accepted: bool,
    must_boot: bool,
    boot_at_ms: Option<u64>,
    heartbeat_every_ms: u64,
    heartbeat_at_ms: u64,
    /// Moment before which it does not connect, in ms of the model.
    offline_until_ms: u64,
    outage_at_ms: u64,
    pub(super) reboot_at_ms: u64,
    pub(super) is_closing: bool,
    must_disconnect: bool,
    replies: VecDeque<String>,
    counts: StationCounts,
}

/// Figures about a station.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StationCounts {
    /// Calls that were refused by a CALLERROR.
    pub(crate) refused: u64,
    /// Calls that were not answered in time.
    pub(crate) unanswered: u64,
    /// Times that it lost its power.
    pub(crate) reboots: u64,
    /// Answers that came to nothing that was asked.
    pub(crate) unsolicited: u64,
}

/// Power that a session draws, in W.
const POWERS_W: [u32; 5] = [3_700, 7_400, 11_000, 22_000, 50_000];
/// Tags of the drivers.
const TAGS: [&str; 6] = ["04A1B2C3", "04D4E5F6", "DEADBEEF", "RFID-0007", "EV-42", "FLEET-9"];
/// Times of a session, in ms of the model.
const IDLE_MS: std::ops::Range<u64> = 10_000..60_000;
const SESSION_MS: std::ops::Range<u64> = 60_000..360_000;
const QUICK_SESSION_MS: u64 = 300;
const SAMPLE_EVERY_MS: u64 = 20_000;
/// Moment after power-up at which a station without a clock begins its session.
const CLOCKLESS_START_MS: u64 = 15_000;
const OUTAGE_EVERY_MS: std::ops::Range<u64> = 200_000..1_200_000;
const OUTAGE_MS: std::ops::Range<u64> = 20_000..180_000;
/// Outages in which whole sessions begin and end.
const LONG_OUTAGE_MS: std::ops::Range<u64> = 500_000..900_000;
const REBOOT_EVERY_MS: std::ops::Range<u64> = 400_000..2_400_000;
const POWERLESS_MS: std::ops::Range<u64> = 5_000..20_000;
const BOOT_RETRY_MS: u64 = 30_000;
const HEARTBEAT_EVERY_MS: u64 = 60_000;
/// Time for which sessions from offline are held back after a connection.
const HOLD_MS: u64 = 400_000;
/// Answers that wait to be sent at most.
const REPLIES_MAX: usize = 16;
/// Sessions that are held back at most.
const HELD_MAX: usize = 64;
/// Transaction id of another server.
const FOREIGN_TRANSACTION_ID: i64 = 900_000_000;

impl ChargePoint {
    /// Returns a station that is about to connect for the first time.
    pub(crate) fn new(plan: StationPlan) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        let alone = [Habit::Clock1970, Habit::StopWithMinusOne, Habit::ForeignTransaction];
        let connectors = match alone.into_iter().any(|habit| plan.habits.has(habit)) {
            true => 1,
            false => rng.u32(1..=2),
        };
        let outlet = |connector_id| {
            let next_ms = match plan.habits.has(Habit::Clock1970) {
                true => CLOCKLESS_START_MS,
                false => rng.u64(1_000..IDLE_MS.end),
            };
            Outlet::new(connector_id, rng.u32(1_000..9_000_000), next_ms)
        };
        let outlets = (1..=connectors).map(outlet).collect();
        Self {
            clock: StationClock::new(plan.base_ms, plan.habits),
            outlets,
            outbox: StationOutbox::default(),
            ledger: Vec::new(),
            is_connected: false,
            is_accepted: false,
            must_boot: true,
            boot_at_ms: None,
            heartbeat_every_ms: HEARTBEAT_EVERY_MS,
            heartbeat_at_ms: 0,
            offline_until_ms: 0,
            outage_at_ms: if plan.has_faults { rng.u64(OUTAGE_EVERY_MS) } else { u64::MAX },
            reboot_at_ms: if plan.has_faults { rng.u64(REBOOT_EVERY_MS) } else { u64::MAX },
            is_closing: false,
            must_disconnect: false,
            replies: VecDeque::new(),
            counts: StationCounts::default(),
            rng,
            plan,
        }
    }

    pub(crate) fn plan(&self) -> &StationPlan {
        &self.plan
    }

    /// Returns the truth of all its sessions.
    pub(crate) fn ledger(&self) -> &[SessionTruth] {
        &self.ledger
    }

    pub(crate) fn counts(&self) -> StationCounts {
        self.counts
    }

    /// Returns the times that a report was sent again.
    pub(crate) fn resent(&self) -> u64 {
        self.outbox.resent()
    }

    /// Tells whether it may connect; it is without power, or without a network, otherwise.
    pub(crate) fn may_connect(&self, now_ms: u64) -> bool {
        now_ms >= self.offline_until_ms
    }

    /// Begins no further session, and ends those that run at once.
    pub(crate) fn close(&mut self, now_ms: u64) {
        if !std::mem::replace(&mut self.is_closing, true) {
            self.outbox.hurry(now_ms);
        }
        self.offline_until_ms = self.offline_until_ms.min(now_ms);
        for outlet in &mut self.outlets {
            outlet.quick_left = 0;
            if let Some(session) = &mut outlet.session {
                session.stops_ms = session.stops_ms.min(now_ms);
                outlet.next_ms = now_ms;
            }
        }
    }

    /// Tells whether it begins no further session.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Tells whether all its sessions are over and told of, and none is to follow.
    pub(crate) fn is_done(&self) -> bool {
        let is_over = |outlet: &Outlet| outlet.session.is_none() && !self.has_more(outlet);
        self.outbox.is_empty() && self.outlets.iter().all(is_over)
    }

    fn has_more(&self, outlet: &Outlet) -> bool {
        let is_left = self.plan.sessions_max.is_none_or(|max| outlet.sessions < max);
        (is_left || outlet.remote_tag.is_some()) && !self.is_closing
    }

    /// Takes in that it is connected.
    pub(crate) fn connected(&mut self, now_ms: u64) {
        self.is_connected = true;
        self.must_disconnect = false;
        if self.must_boot || !self.plan.habits.has(Habit::NoBootOnReconnect) {
            self.is_accepted = false;
            self.outbox.push_live(LiveReport::Boot);
        } else {
            self.report_all(now_ms);
        }
        self.must_boot = false;
        self.heartbeat_at_ms = now_ms + self.heartbeat_every_ms;
    }

    /// Takes in that its connection is lost, and that it tries again after a time.
    pub(crate) fn disconnected(&mut self, now_ms: u64, retry_ms: u64) {
        self.is_connected = false;
        self.must_disconnect = false;
        self.boot_at_ms = None;
        self.replies.clear();
        self.outbox.disconnected(now_ms);
        self.offline_until_ms = self.offline_until_ms.max(now_ms + retry_ms);
    }

    pub(super) fn report_all(&mut self, now_ms: u64) {
        let at_ms = self.clock.shows_ms(now_ms);
        let station = LiveReport::Status { connector_id: 0, status: "Available", at_ms };
        self.outbox.push_live(station);
        for outlet in &self.outlets {
            let (connector_id, status) = (outlet.connector_id, outlet.status);
            self.outbox.push_live(LiveReport::Status { connector_id, status, at_ms });
        }
    }

    /// Returns the next moment at which it does something by itself, in ms of the model.
    pub(crate) fn due_ms(&self, now_ms: u64) -> u64 {
        let outlets = self
            .outlets
            .iter()
            .filter(|outlet| {
                outlet.session.is_some() || outlet.status == "Finishing" || self.has_more(outlet)
            })
            .map(|outlet| outlet.next_ms);
        let faults = self.has_faults_ahead().then(|| self.outage_at_ms.min(self.reboot_at_ms));
        let online = self.is_connected.then_some(self.heartbeat_at_ms);
        let connects = (!self.is_connected).then_some(self.offline_until_ms);
        let others = [self.outbox.due_ms(now_ms), faults, online, connects, self.boot_at_ms];
        outlets.chain(others.into_iter().flatten()).min().unwrap_or(u64::MAX)
    }

    fn has_faults_ahead(&self) -> bool {
        !self.is_closing && !self.is_done()
    }

    fn later(&mut self, now_ms: u64, every_ms: std::ops::Range<u64>) -> u64 {
        if self.plan.has_faults { now_ms + self.rng.u64(every_ms) } else { u64::MAX }
    }

    /// Does all that is due at this moment.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        for at in 0..self.outlets.len() {
            while self.outlets[at].next_ms <= now_ms && self.turn(at, self.outlets[at].next_ms) {}
        }
        if self.outbox.times_out(now_ms) {
            // The connection is taken for dead.
            self.counts.unanswered += 1;
            self.must_disconnect = true;
        }
        if self.has_faults_ahead() {
            if self.outage_at_ms <= now_ms {
                self.outage_at_ms = self.later(now_ms, OUTAGE_EVERY_MS);
                let lasts_ms = match self.plan.habits.has(Habit::LateOfflineStart) {
                    true => LONG_OUTAGE_MS,
                    false => OUTAGE_MS,
                };
                self.offline_until_ms = now_ms + self.rng.u64(lasts_ms);
                self.must_disconnect = true;
            }
            if self.reboot_at_ms <= now_ms {
                self.reboot_at_ms = self.later(now_ms, REBOOT_EVERY_MS);
                self.reboot(now_ms);
            }
        }
        if self.is_connected && self.boot_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.boot_at_ms = None;
            self.outbox.push_live(LiveReport::Boot);
        }
        if self.is_connected && self.heartbeat_at_ms <= now_ms {
            self.heartbeat_at_ms = now_ms + self.heartbeat_every_ms;
            if self.is_accepted {
                self.outbox.push_live(LiveReport::Heartbeat);
            }
        }
    }

    /// Returns the next thing to do with the connection.
    pub(crate) fn poll(&mut self, now_ms: u64) -> Option<StationOutput> {
        if !self.is_connected {
            return None;
        }
        if self.must_disconnect {
            return Some(StationOutput::Disconnect);
        }
        if let Some(reply) = self.replies.pop_front() {
            return Some(StationOutput::Send(reply));
        }
        let (habits, is_accepted) = (self.plan.habits, self.is_accepted);
        let held = self.held_sessions(now_ms);
        let may_send = |report: WaitingReport<'_>| match report {
            WaitingReport::Live(LiveReport::Boot) => true,
            WaitingReport::Live(_) => is_accepted,
            WaitingReport::Kept(kept) => is_accepted && !held.contains(&kept.ledger),
        };
        let timeout_ms = self.plan.timeout_ms;
        let next = self.outbox.next(now_ms, timeout_ms, habits, &mut self.rng, may_send)?;
        let (id, report) = next;
        let (action, payload) = match &report {
            SentReport::Live(live) => live.call("Simulated"),
            SentReport::Kept(kept) => {
                let truth = &mut self.ledger[kept.ledger];
                truth.was_sent = true;
                truth.sent_wh = truth.sent_wh.max(kept.energy_wh);
                kept.call(truth.transaction_id, habits)
            }
        };
        Some(StationOutput::Send(call_text(id, action, payload)))
    }

    /// Returns the sessions that are told of later, when a newer one runs.
    fn held_sessions(&self, now_ms: u64) -> Vec<usize> {
        if self.is_closing || !self.plan.habits.has(Habit::LateOfflineStart) {
            return Vec::new();
        }
        let is_newer_told = |at: usize| {
            let truth = &self.ledger[at];
            self.ledger[at + 1..].iter().any(|newer| {
                newer.connector_id == truth.connector_id && newer.transaction_id.is_some()
            })
        };
        let holds = now_ms < self.offline_until_ms + HOLD_MS;
        // If no session follows, none is waited for.
        let has_more = |connector_id: u32| {
            let of_it = |outlet: &&Outlet| outlet.connector_id == connector_id;
            self.outlets.iter().find(of_it).is_some_and(|outlet| self.has_more(outlet))
        };
        let waits = |at: &usize| {
            let truth = &self.ledger[*at];
            truth.end == SessionFate::Stopped
                && truth.transaction_id.is_none()
                && !truth.was_sent
                && !is_newer_told(*at)
                && has_more(truth.connector_id)
        };
        let first = self.ledger.len().saturating_sub(HELD_MAX);
        if holds { (first..self.ledger.len()).filter(waits).collect() } else { Vec::new() }
    }

    /// Takes in a frame of the server. Tells whether it answers what was asked.
    pub(crate) fn received(&mut self, text: &str, now_ms: u64) -> bool {
        let Ok(read) = Frame::parse(text) else { return false };
        match read.message {
            Frame::Call(call) => {
                if self.replies.len() < REPLIES_MAX {
                    let reply = self.answer(&call, now_ms);
                    self.replies.push_back(reply);
                }
                false
            }
            Frame::CallResult(CallResult { id, payload }) => {
                let Some(report) = self.outbox.answered(id.as_str()) else {
                    self.counts.unsolicited += 1;
                    return false;
                };
                let payload = serde_json::from_str(payload.as_str()).unwrap_or_default();
                self.answered(report, &payload, now_ms);
                true
            }
            Frame::CallError(error) => {
                self.counts.refused += 1;
                let refused = self.outbox.refused(error.id.as_str(), now_ms);
                if refused == Some(SentReport::Live(LiveReport::Boot)) {
                    self.boot_at_ms = Some(now_ms + BOOT_RETRY_MS);
                }
                refused.is_some()
            }
        }
    }

    fn answered(&mut self, report: SentReport, payload: &Value, now_ms: u64) {
        match report {
            SentReport::Live(LiveReport::Boot) => {
                let interval_ms = payload["interval"].as_u64().unwrap_or_default() * 1_000;
                if payload["status"] != "Accepted" {
                    self.boot_at_ms = Some(now_ms + interval_ms.max(BOOT_RETRY_MS));
                    return;
                }
                self.clock.set();
                self.is_accepted = true;
                if interval_ms > 0 {
                    self.heartbeat_every_ms = interval_ms;
                }
                self.heartbeat_at_ms = now_ms + self.heartbeat_every_ms;
                self.report_all(now_ms);
            }
            SentReport::Live(_) => {}
            SentReport::Kept(KeptReport { ledger, told: SessionReport::Start { .. }, .. }) => {
                self.ledger[ledger].transaction_id = payload["transactionId"].as_i64();
            }
            SentReport::Kept(kept) => {
                let truth = &mut self.ledger[kept.ledger];
                truth.told_wh = truth.told_wh.max(kept.energy_wh);
            }
        }
    }
}

/// The sessions.
impl ChargePoint {
    /// Does what is next on a connector; tells whether something was.
    fn turn(&mut self, at: usize, now_ms: u64) -> bool {
        let outlet = &self.outlets[at];
        match &outlet.session {
            Some(session) if session.stops_ms <= now_ms => self.stop(at, now_ms, "Local"),
            Some(_) => self.sample(at, now_ms, Occasion::Periodic),
            None if outlet.status == "Finishing"
                && (outlet.quick_left == 0 || !self.has_more(outlet)) =>
            {
                self.outlets[at].quick_left = 0;
                self.set_status(at, "Available", now_ms);
                let idle_ms = self.rng.u64(IDLE_MS);
                self.outlets[at].next_ms = now_ms + idle_ms;
            }
            None if self.has_more(outlet) => self.start(at, now_ms),
            None => return false,
        }
        true
    }

    fn start(&mut self, at: usize, now_ms: u64) {
        let habits = self.plan.habits;
        let id_tag = match self.outlets[at].remote_tag.take() {
            Some(tag) => tag,
            None if habits.has(Habit::LongIdTag) => "X".repeat(600),
            // The same tag again is what tells repeats from sessions the least.
            None if habits.has(Habit::Clock1970) || habits.has(Habit::QuickSuccession) => {
                TAGS[0].to_owned()
            }
            None => self.rng.choice(TAGS).unwrap_or(TAGS[0]).to_owned(),
        };
        if habits.has(Habit::QuickSuccession) && self.outlets[at].quick_left == 0 {
            self.outlets[at].quick_left = 3;
        }
        let is_quick = self.outlets[at].quick_left > 0;
        let lasts_ms = if is_quick { QUICK_SESSION_MS } else { self.rng.u64(SESSION_MS) };
        let power_w = self.rng.choice(POWERS_W).unwrap_or(POWERS_W[0]);
        let is_foreign = habits.has(Habit::ForeignTransaction) && self.ledger.is_empty();
        let ledger = self.ledger.len();
        let connector_id = self.outlets[at].connector_id;
        self.ledger.push(SessionTruth {
            connector_id,
            energy_wh: 0,
            told_wh: 0,
            sent_wh: 0,
            untold_before_wh: 0,
            transaction_id: is_foreign
                .then(|| FOREIGN_TRANSACTION_ID + i64::from(self.rng.u32(..1_000_000))),
            was_sent: false,
            end: SessionFate::Running,
        });
        self.outlets[at].begin(ledger, power_w, now_ms, now_ms + lasts_ms);
        self.outlets[at].next_ms = now_ms + lasts_ms.min(SAMPLE_EVERY_MS);
        if self.is_connected && !is_quick {
            self.outbox.push_live(LiveReport::Authorize { id_tag: id_tag.clone() });
        }
        if !is_foreign {
            let meter_start = self.outlets[at].meter_start(habits);
            let at_ms = self.clock.shows_ms(now_ms);
            self.keep(at, 0, SessionReport::Start { meter_start, at_ms, id_tag });
        }
        self.set_status(at, "Charging", now_ms);
    }

    fn sample(&mut self, at: usize, now_ms: u64, occasion: Occasion) {
        let habits = self.plan.habits;
        let energy_wh = self.outlets[at].count(now_ms);
        let reading = self.outlets[at].reading(self.clock.shows_ms(now_ms), occasion, habits);
        self.keep(at, energy_wh, SessionReport::Values(reading));
        let outlet = &mut self.outlets[at];
        let Some(session) = &mut outlet.session else { return };
        session.samples += 1;
        outlet.next_ms = session.stops_ms.min(now_ms + SAMPLE_EVERY_MS).max(now_ms + 1);
        let (ledger, samples) = (session.ledger, session.samples);
        if samples == 1 {
            self.note_untold(ledger, energy_wh);
        }
        self.outlets[at].reset_by_habit(habits);
    }

    fn stop(&mut self, at: usize, now_ms: u64, reason: &'static str) {
        let habits = self.plan.habits;
        let needs_reading = [Habit::StopZeroMeter, Habit::StopNegativeMeter];
        if needs_reading.into_iter().any(|habit| habits.has(habit))
            || habits.has(Habit::SignedMeterValues)
        {
            self.sample(at, now_ms, Occasion::End);
        }
        let energy_wh = self.outlets[at].count(now_ms);
        let (meter_stop, at_ms) =
            (self.outlets[at].meter_stop(habits), self.clock.shows_ms(now_ms));
        self.keep(at, energy_wh, SessionReport::Stop { meter_stop, at_ms, reason });
        let outlet = &mut self.outlets[at];
        let Some(session) = outlet.session.take() else { return };
        outlet.quick_left = outlet.quick_left.saturating_sub(1);
        outlet.next_ms = match outlet.quick_left {
            0 => now_ms + 5_000,
            _ => now_ms + QUICK_SESSION_MS / 10,
        };
        if session.samples == 0 {
            self.note_untold(session.ledger, energy_wh);
        }
        let truth = &mut self.ledger[session.ledger];
        (truth.energy_wh, truth.end) = (energy_wh, SessionFate::Stopped);
        if habits.has(Habit::NeverAvailableAfterStop) {
            self.outlets[at].next_ms = now_ms + self.rng.u64(IDLE_MS);
        } else {
            self.set_status(at, "Finishing", now_ms);
        }
        if habits.has(Habit::Clock1970) && !self.is_closing {
            self.reboot_at_ms = now_ms + 1_000;
        }
    }

    /// Notes what had flowed at the first report of a session that another server knows from its
    /// start.
    fn note_untold(&mut self, ledger: usize, energy_wh: i64) {
        let truth = &mut self.ledger[ledger];
        if truth.transaction_id >= Some(FOREIGN_TRANSACTION_ID) {
            truth.untold_before_wh = energy_wh;
        }
    }

    fn keep(&mut self, at: usize, energy_wh: i64, told: SessionReport) {
        let outlet = &self.outlets[at];
        let Some(session) = &outlet.session else { return };
        let (ledger, connector_id) = (session.ledger, outlet.connector_id);
        self.outbox.push_kept(KeptReport { ledger, connector_id, energy_wh, told });
    }

    fn set_status(&mut self, at: usize, status: &'static str, now_ms: u64) {
        self.outlets[at].status = status;
        if self.is_connected && self.is_accepted {
            let (connector_id, at_ms) =
                (self.outlets[at].connector_id, self.clock.shows_ms(now_ms));
            self.outbox.push_live(LiveReport::Status { connector_id, status, at_ms });
        }
    }

    /// Loses the power, and comes back after some seconds.
    fn reboot(&mut self, now_ms: u64) {
        self.counts.reboots += 1;
        let habits = self.plan.habits;
        for at in 0..self.outlets.len() {
            if let Some(session) = &self.outlets[at].session
                && habits.has(Habit::ForgetsOnReboot)
            {
                let ledger = session.ledger;
                let energy_wh = self.outlets[at].count(now_ms);
                self.outbox.forget(ledger);
                let truth = &mut self.ledger[ledger];
                (truth.energy_wh, truth.end) = (energy_wh, SessionFate::Forgotten);
                self.outlets[at].session = None;
            } else if self.outlets[at].session.is_some() {
                self.stop(at, now_ms, "PowerLoss");
            }
        }
        let powered_ms = now_ms + self.rng.u64(POWERLESS_MS);
        self.clock.power_up(powered_ms, habits);
        for outlet in &mut self.outlets {
            (outlet.status, outlet.quick_left) = ("Available", 0);
            outlet.next_ms = match habits.has(Habit::Clock1970) {
                true => powered_ms + CLOCKLESS_START_MS,
                false => powered_ms + self.rng.u64(IDLE_MS),
            };
        }
        self.reboot_at_ms = self.reboot_at_ms.max(powered_ms + 30_000);
        self.offline_until_ms = powered_ms;
        self.must_boot = true;
        self.must_disconnect = true;
    }
}

#[cfg(test)]
mod tests;
