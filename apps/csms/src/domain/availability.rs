//! Time that a station was online in a span of time: a fold of its `CameOnline` and `WentOffline`.
//!
//! The moments are those of the server's clock, which may be set back: an event counts from the
//! latest moment known before it on. Before the first event nothing is known, and that time counts
//! as neither. While the server is down nobody hears the station: until the restart it counts as it
//! did before, and from then on as offline, until it is heard of;
//! [`OfflineReason::ServerRestarted`] distinguishes such an outage from the station's own.

use std::time::Duration;

use leftfold::prelude::Timestamp;

use super::station::{OfflineReason, StationEvent};

/// Outages that are listed at most: the first ones of the span. All are counted.
pub(crate) const OUTAGES_MAX: usize = 1_000;

/// Availability within `[from, to)`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Availability {
    /// Time online.
    pub(crate) online: Duration,
    /// Time offline.
    pub(crate) offline: Duration,
    /// Number of all outages.
    pub(crate) outages_total: usize,
    /// The outages, the earliest first, at most [`OUTAGES_MAX`].
    pub(crate) outages: Vec<Outage>,
}

/// A time in which the station could not be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    /// Beginning of the outage, which may be before the span.
    pub(crate) from: Timestamp,
    /// End of the outage; `None` if it lasts at the end of the span.
    pub(crate) to: Option<Timestamp>,
    /// Reason of the outage.
    pub(crate) reason: OfflineReason,
}

impl Availability {
    /// Returns the share of the known time in which it was online, from 0 to 1; `None` if nothing
    /// is known.
    #[must_use]
    pub(crate) fn share(&self) -> Option<f64> {
        let known = self.online + self.offline;
        (!known.is_zero()).then(|| self.online.as_secs_f64() / known.as_secs_f64())
    }
}

/// The fold. It takes the events in their order, from the station's first one on.
#[derive(Clone, Debug)]
pub(crate) struct AvailabilityFold {
    from: Timestamp,
    to: Timestamp,
    /// Present state, and the moment since which it holds; `None` before the first event.
    state: Option<(Timestamp, OnlineState)>,
    so_far: Availability,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnlineState {
    Online,
    Offline(OfflineReason),
}

impl AvailabilityFold {
    /// Begins a fold in which nothing is known. A span that ends before it begins is empty.
    #[must_use]
    pub(crate) fn within(from: Timestamp, to: Timestamp) -> Self {
        let (online, offline) = (Duration::ZERO, Duration::ZERO);
        let so_far = Availability { online, offline, outages_total: 0, outages: Vec::new() };
        Self { from, to: to.max(from), state: None, so_far }
    }

    /// Takes an event.
    pub(crate) fn apply(&mut self, event: &StationEvent) {
        let (at, next) = match event {
            StationEvent::CameOnline { at, .. } => (*at, OnlineState::Online),
            StationEvent::WentOffline { at, reason } => (*at, OnlineState::Offline(*reason)),
            _ => return,
        };
        match self.state {
            // Nothing has changed but perhaps the reason: the outage is the one that began first.
            Some((_, OnlineState::Online)) if next == OnlineState::Online => {}
            Some((_, OnlineState::Offline(_))) if next != OnlineState::Online => {}
            Some((since, state)) => {
                let at = at.max(since);
                self.end(since, state, Some(at));
                self.state = Some((at, next));
            }
            None => self.state = Some((at, next)),
        }
    }

    /// Returns the availability within the span.
    #[must_use]
    pub(crate) fn finish(mut self) -> Availability {
        if let Some((since, state)) = self.state {
            self.end(since, state, None);
        }
        self.so_far
    }

    /// Counts the part of a state that lies within the span.
    fn end(&mut self, since: Timestamp, state: OnlineState, until: Option<Timestamp>) {
        // What ends with the span or later has not ended in it.
        let until = until.filter(|until| *until < self.to);
        let within = until.unwrap_or(self.to).since(since.max(self.from));
        match state {
            OnlineState::Online => self.so_far.online += within,
            OnlineState::Offline(_) if within.is_zero() => {}
            OnlineState::Offline(reason) => {
                self.so_far.offline += within;
                self.so_far.outages_total += 1;
                if self.so_far.outages.len() < OUTAGES_MAX {
                    self.so_far.outages.push(Outage { from: since, to: until, reason });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OfflineReason::{ServerRestarted, Silent};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn up(second: i64) -> StationEvent {
        StationEvent::CameOnline { at: at(second), server: None }
    }

    fn down(second: i64, reason: OfflineReason) -> StationEvent {
        StationEvent::WentOffline { at: at(second), reason }
    }

    fn outage(from: i64, to: Option<i64>, reason: OfflineReason) -> Outage {
        Outage { from: at(from), to: to.map(at), reason }
    }

    /// What the events say of the seconds from 100 to 200.
    fn report(events: &[StationEvent]) -> Availability {
        let mut fold = AvailabilityFold::within(at(100), at(200));
        events.iter().for_each(|event| fold.apply(event));
        fold.finish()
    }

    #[track_caller]
    fn assert_report(events: &[StationEvent], online_s: u64, offline_s: u64, outages: &[Outage]) {
        let report = report(events);
        assert_eq!(
            (report.online.as_secs(), report.offline.as_secs()),
            (online_s, offline_s),
            "{report:?}"
        );
        assert_eq!(report.outages, outages);
        assert_eq!(report.outages_total, outages.len());
    }

    #[test]
    fn without_events_nothing_is_known() {
        assert_report(&[], 0, 0, &[]);
        assert_eq!(report(&[]).share(), None);
        assert_report(&[StationEvent::Registered], 0, 0, &[]);
        assert_report(&[up(160)], 40, 0, &[]);
        assert_eq!(
            report(&[up(160)]).share(),
            Some(1.0),
            "the time before the first event counts as neither"
        );
    }

    #[test]
    fn outages_and_the_time_between_them_make_the_share() {
        let events = [up(50), down(110, Silent), up(120), down(150, Silent), up(165)];
        assert_report(
            &events,
            75,
            25,
            &[outage(110, Some(120), Silent), outage(150, Some(165), Silent)],
        );
        assert_eq!(report(&events).share(), Some(0.75));
    }

    #[test]
    fn what_lies_across_the_edges_is_cut_there() {
        assert_report(
            &[up(10), down(90, Silent), up(130)],
            70,
            30,
            &[outage(90, Some(130), Silent)],
        );
        assert_report(&[up(10), down(180, Silent), up(250)], 80, 20, &[outage(180, None, Silent)]);
        assert_report(&[up(10), down(50, Silent), up(500)], 0, 100, &[outage(50, None, Silent)]);
        // The first moment belongs to the span and the last one does not.
        assert_report(&[up(10), down(90, Silent), up(100)], 100, 0, &[]);
        assert_report(
            &[up(10), down(100, Silent), up(101)],
            99,
            1,
            &[outage(100, Some(101), Silent)],
        );
        assert_report(&[up(10), down(199, Silent), up(200)], 99, 1, &[outage(199, None, Silent)]);
        assert_report(&[up(10), down(200, Silent)], 100, 0, &[]);
        assert_report(&[up(10), down(20, Silent), up(30)], 100, 0, &[]);
    }

    #[test]
    fn an_outage_that_lasts_is_open() {
        assert_report(&[up(50), down(140, Silent)], 40, 60, &[outage(140, None, Silent)]);
        assert_report(&[down(140, Silent)], 0, 60, &[outage(140, None, Silent)]);
    }

    #[test]
    fn a_restart_of_the_server_is_an_outage_of_its_own_kind() {
        let events = [
            up(50),
            down(120, ServerRestarted),
            up(125),
            down(150, Silent),
            down(170, ServerRestarted),
        ];
        assert_report(
            &events,
            45,
            55,
            &[outage(120, Some(125), ServerRestarted), outage(150, None, Silent)],
        );
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_time() {
        let events = [up(50), down(150, Silent), up(140), down(145, Silent), up(160)];
        assert_report(&events, 90, 10, &[outage(150, Some(160), Silent)]);
        let all = report(&events);
        assert_eq!((all.online + all.offline).as_secs(), 100);
    }

    #[test]
    fn a_span_without_time_is_empty_and_the_list_of_outages_is_bounded() {
        let mut empty = AvailabilityFold::within(at(200), at(100));
        [up(10), down(150, Silent)].iter().for_each(|event| empty.apply(event));
        assert_eq!(empty.finish().share(), None);
        let outages = OUTAGES_MAX as i64 + 5;
        let mut fold = AvailabilityFold::within(at(0), at(10_000));
        for turn in 0..outages {
            fold.apply(&down(2 * turn, Silent));
            fold.apply(&up(2 * turn + 1));
        }
        let many = fold.finish();
        assert_eq!((many.outages.len(), many.outages_total), (OUTAGES_MAX, OUTAGES_MAX + 5));
        assert_eq!(many.offline.as_secs(), many.outages_total as u64);
    }
}
