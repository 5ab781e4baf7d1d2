//! The messages of a station that wait to be sent, and the one that awaits its answer.
//!
//! As firmware has it: one message at a time; live reports overtake those about sessions, which are
//! kept while there is no connection, and sent again after a while when no answer came.

use std::collections::VecDeque;

use fastrand::Rng;

use super::habits::{Habit, Habits};
use super::reports::{KeptReport, LiveReport, SessionReport};

/// Live reports that wait at most; further ones are dropped.
const LIVE_MAX: usize = 64;
/// Reports about sessions that are kept at most. A station that is full drops readings of meters,
/// as the specification allows, and never a start or a stop.
const KEPT_MAX: usize = 4_096;
/// Time after which a message about a session is sent again, in ms of the model.
const RESEND_AFTER_MS: u64 = 60_000;
/// Times that a message may be refused by a CALLERROR; then it is dropped.
const REFUSALS_MAX: u32 = 10;

/// Messages of one station.
#[derive(Debug, Default)]
pub(crate) struct StationOutbox {
    live: VecDeque<LiveReport>,
    kept: VecDeque<KeptReport>,
    outstanding: Option<OutstandingMessage>,
    /// Id under which the report at the front was sent before.
    sent_before: Option<String>,
    /// Moment before which no report about a session is sent.
    resend_at_ms: u64,
    refusals: u32,
    /// Times that a report was sent again.
    resent: u64,
}

/// Message that awaits its answer.
#[derive(Debug)]
struct OutstandingMessage {
    id: String,
    times_out_ms: u64,
    report: SentReport,
}

/// Report that was sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SentReport {
    Live(LiveReport),
    Kept(KeptReport),
}

/// Report that waits to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitingReport<'a> {
    Live(&'a LiveReport),
    Kept(&'a KeptReport),
}

impl StationOutbox {
    /// Adds a report. A boot comes first: until it is accepted no other one is sent.
    pub(crate) fn push_live(&mut self, report: LiveReport) {
        if report == LiveReport::Boot {
            self.live.retain(|waiting| *waiting != LiveReport::Boot);
            self.live.push_front(report);
        } else if self.live.len() < LIVE_MAX {
            self.live.push_back(report);
        }
    }

    pub(crate) fn push_kept(&mut self, report: KeptReport) {
        if self.kept.len() < KEPT_MAX || !matches!(report.told, SessionReport::Values(_)) {
            self.kept.push_back(report);
        }
    }

    /// Tells whether everything was told and answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.kept.is_empty() && self.outstanding.is_none()
    }

    /// Returns the times that a report was sent again.
    pub(crate) fn resent(&self) -> u64 {
        self.resent
    }

    /// Forgets all that is kept of a session.
    pub(crate) fn forget(&mut self, ledger: usize) {
        let is_of = |report: &KeptReport| report.ledger == ledger;
        if self.kept.front().is_some_and(is_of) {
            (self.sent_before, self.refusals) = (None, 0);
        }
        self.kept.retain(|report| !is_of(report));
    }

    /// Takes the next message to send, and the id to send it under; `None` if one is outstanding or
    /// nothing is to be sent now. Reports about sessions that are held back are passed over.
    pub(crate) fn next(
        &mut self,
        now_ms: u64,
        timeout_ms: u64,
        habits: Habits,
        rng: &mut Rng,
        may_send: impl Fn(WaitingReport<'_>) -> bool,
    ) -> Option<(String, SentReport)> {
        if self.outstanding.is_some() {
            return None;
        }
        let (id, report) = match self.live.front() {
            Some(live) => {
                if !may_send(WaitingReport::Live(live)) {
                    return None;
                }
                let report = SentReport::Live(live.clone());
                self.live.pop_front();
                (new_id(habits, rng), report)
            }
            None => self.next_kept(now_ms, habits, rng, may_send)?,
        };
        self.outstanding = Some(OutstandingMessage {
            id: id.clone(),
            times_out_ms: now_ms + timeout_ms,
            report: report.clone(),
        });
        Some((id, report))
    }

    fn next_kept(
        &mut self,
        now_ms: u64,
        habits: Habits,
        rng: &mut Rng,
        may_send: impl Fn(WaitingReport<'_>) -> bool,
    ) -> Option<(String, SentReport)> {
        if now_ms < self.resend_at_ms {
            return None;
        }
        let may_send = |report: &KeptReport| may_send(WaitingReport::Kept(report));
        if let Some(before) = &self.sent_before {
            let report = self.kept.front().filter(|report| may_send(report))?.clone();
            let id = match habits.has(Habit::ResendNewId) {
                true => new_id(habits, rng),
                false => before.clone(),
            };
            self.resent += 1;
            return Some((id, SentReport::Kept(report)));
        }
        let at = self.kept.iter().position(may_send)?;
        // What is sent stays at the front until it is answered.
        let report = self.kept.remove(at)?;
        self.kept.push_front(report.clone());
        let id = new_id(habits, rng);
        self.sent_before = Some(id.clone());
        Some((id, SentReport::Kept(report)))
    }

    /// Takes the answer to the outstanding message; `None` if it is an answer to something else.
    pub(crate) fn answered(&mut self, id: &str) -> Option<SentReport> {
        let answered = self.outstanding.take_if(|outstanding| outstanding.id == id)?;
        if let SentReport::Kept(_) = answered.report {
            self.drop_front();
        }
        Some(answered.report)
    }

    /// Takes the refusal of the outstanding message; `None` if it refuses something else.
    pub(crate) fn refused(&mut self, id: &str, now_ms: u64) -> Option<SentReport> {
        let refused = self.outstanding.take_if(|outstanding| outstanding.id == id)?;
        if let SentReport::Kept(_) = refused.report {
            self.refusals += 1;
            self.resend_at_ms = now_ms + RESEND_AFTER_MS;
            if self.refusals >= REFUSALS_MAX {
                self.drop_front();
            }
        }
        Some(refused.report)
    }

    /// Tells whether the outstanding message was not answered in time, and gives it up.
    pub(crate) fn times_out(&mut self, now_ms: u64) -> bool {
        if self.outstanding.take_if(|outstanding| outstanding.times_out_ms <= now_ms).is_none() {
            return false;
        }
        self.resend_at_ms = now_ms + RESEND_AFTER_MS;
        true
    }

    /// Sends again at once what would be sent again after a while.
    pub(crate) fn hurry(&mut self, now_ms: u64) {
        self.resend_at_ms = self.resend_at_ms.min(now_ms);
    }

    /// Drops what means nothing on another connection.
    pub(crate) fn disconnected(&mut self, now_ms: u64) {
        self.live.clear();
        if self.outstanding.take().is_some_and(|lost| matches!(lost.report, SentReport::Kept(_))) {
            self.resend_at_ms = now_ms + RESEND_AFTER_MS;
        }
    }

    /// Returns the next moment at which something is due by itself, in ms of the model.
    pub(crate) fn due_ms(&self, now_ms: u64) -> Option<u64> {
        match &self.outstanding {
            Some(outstanding) => Some(outstanding.times_out_ms),
            None if self.kept.is_empty() || self.resend_at_ms <= now_ms => None,
            None => Some(self.resend_at_ms),
        }
    }

    fn drop_front(&mut self) {
        self.kept.pop_front();
        (self.sent_before, self.refusals) = (None, 0);
    }
}

fn new_id(habits: Habits, rng: &mut Rng) -> String {
    match habits.has(Habit::ConstantMessageIds) {
        true => "1".to_owned(),
        false => format!("{:016x}", rng.u64(..)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(ledger: usize) -> KeptReport {
        let told = SessionReport::Start { meter_start: 0, at_ms: 0, id_tag: "TAG".to_owned() };
        KeptReport { ledger, connector_id: 1, energy_wh: 0, told }
    }

    #[test]
    fn a_report_without_an_answer_is_sent_again_after_a_minute_and_under_a_new_id_by_habit() {
        for (habits, is_new) in
            [(Habits::default(), false), (Habits::default().with(Habit::ResendNewId), true)]
        {
            let (mut outbox, mut rng) = (StationOutbox::default(), Rng::with_seed(1));
            outbox.push_kept(start(0));
            let (id, sent) = outbox.next(0, 1_000, habits, &mut rng, |_| true).unwrap();
            assert!(outbox.next(0, 1_000, habits, &mut rng, |_| true).is_none(), "one at a time");
            outbox.disconnected(500);
            assert!(outbox.next(60_499, 1_000, habits, &mut rng, |_| true).is_none());
            let (again, same) = outbox.next(60_500, 1_000, habits, &mut rng, |_| true).unwrap();
            assert_eq!((same, again != id), (sent, is_new));
            assert!(outbox.answered(&again).is_some() && outbox.is_empty());
            assert_eq!(outbox.resent(), 1);
        }
    }

    #[test]
    fn a_report_that_is_refused_for_ever_is_dropped_and_the_next_one_goes_on() {
        let (mut outbox, mut rng) = (StationOutbox::default(), Rng::with_seed(1));
        outbox.push_kept(start(0));
        outbox.push_kept(start(1));
        for nth in 0..u64::from(REFUSALS_MAX) {
            let now_ms = nth * RESEND_AFTER_MS;
            let sent = outbox.next(now_ms, 1_000, Habits::default(), &mut rng, |_| true);
            let (id, report) = sent.unwrap();
            assert_eq!(report, SentReport::Kept(start(0)));
            outbox.refused(&id, now_ms);
        }
        let sent = outbox.next(u64::MAX / 2, 1_000, Habits::default(), &mut rng, |_| true);
        assert_eq!(sent.unwrap().1, SentReport::Kept(start(1)));
    }
}
