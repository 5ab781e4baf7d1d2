//! Sessions as real stations report them: twice, late, with a clock that is wrong, or not to the
//! end.

use std::time::Duration;

use leftfold::prelude::Timestamp;
use proptest::prelude::*;

use super::tests::{online, report, started, station, stopped};
use super::*;
use crate::domain::connector::StatusChanged;
use crate::domain::transaction::{
    EndCause, TransactionAdopted, TransactionEnded, TransactionStarted, TransactionStopped,
};
use crate::ocpp::v16::{ChargePointStatus, TransactionId};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A station under test: reports are decided on one after the other.
struct Told {
    station: Station,
    now: Timestamp,
    next_id: i64,
    events: Vec<StationEvent>,
}

impl Told {
    fn new() -> Self {
        let mut station = Station::default();
        station.apply(&online());
        let now = at("2026-05-04T10:00:00Z");
        Self { station, now, next_id: 1, events: Vec::new() }
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self
    }

    fn tell(&mut self, command: StationCommand) -> Vec<StationEvent> {
        let events = self.station.decide(&command).unwrap();
        events.iter().for_each(|event| self.station.apply(event));
        self.events.extend(events.clone());
        events
    }

    fn start(&mut self, shown: &str, meter_wh: i64) -> Vec<StationEvent> {
        self.start_at(Some(at(shown)), meter_wh)
    }

    fn start_at(&mut self, timestamp: Option<Timestamp>, meter_wh: i64) -> Vec<StationEvent> {
        let id = self.next_id;
        self.next_id += 1;
        let received_at = self.now;
        self.tell(StationCommand::ReportStart(TransactionStarted {
            timestamp,
            received_at,
            meter_start_wh: Some(meter_wh),
            ..started(id, 1, "TAG")
        }))
    }

    fn stop(&mut self, id: i64, timestamp: Option<Timestamp>, wh: i64) -> Vec<StationEvent> {
        let adopt_as = None;
        let (received_at, meter_stop_wh) = (self.now, Some(wh));
        let stopped =
            TransactionStopped { timestamp, received_at, meter_stop_wh, ..stopped(Some(id)) };
        self.tell(StationCommand::ReportStop { stopped, adopt_as })
    }

    fn status(&mut self, status: ChargePointStatus, shown: Option<Timestamp>) -> Vec<StationEvent> {
        let received_at = self.now;
        let report = StatusChanged { received_at, ..report(1, status, shown) };
        self.tell(StationCommand::ReportStatus(report))
    }

    fn count(&self, is_one: impl Fn(&StationEvent) -> bool) -> usize {
        self.events.iter().filter(|event| is_one(event)).count()
    }

    fn starts(&self) -> usize {
        self.count(|event| matches!(event, StationEvent::TransactionStarted(_)))
    }

    fn stops(&self) -> usize {
        self.count(|event| matches!(event, StationEvent::TransactionStopped(_)))
    }

    fn is_running(&self) -> bool {
        self.station.running_on(1).is_some()
    }
}

fn flag_of(events: &[StationEvent]) -> Option<i64> {
    match events {
        [StationEvent::TransactionStarted(started), ..] => {
            started.possible_repeat_of.map(TransactionId::value)
        }
        _ => panic!("no start in {events:?}"),
    }
}

#[test]
fn sessions_at_1970_are_as_many_as_were_reported_and_say_that_they_may_be_one() {
    let mut told = Told::new();
    let broken = Some(at("1970-01-01T00:00:15Z"));
    for id in 1..=3 {
        let events = told.after(600).start_at(broken, 0);
        assert_eq!(flag_of(&events), (id > 1).then_some(id - 1));
        told.after(600).stop(id, Some(at("1970-01-01T00:10:15Z")), 5_000 + id);
    }
    assert_eq!((told.starts(), told.stops()), (3, 3));
    // A reply was lost: with such a clock nobody can know, so both are kept.
    told.after(600).start_at(broken, 0);
    assert_eq!(flag_of(&told.after(60).start_at(broken, 0)), Some(4));
}

#[test]
fn start_stop_and_start_within_one_second_are_two_sessions() {
    let mut told = Told::new();
    let moment = "2026-05-04T10:00:00Z";
    told.start(moment, 0);
    told.stop(1, Some(at(moment)), 0);
    assert_eq!(flag_of(&told.start(moment, 0)), Some(1));
    assert_eq!(told.starts(), 2);
    assert!(told.is_running());
}

#[test]
fn a_start_is_a_repeat_while_nothing_has_happened_and_within_the_time_of_resending() {
    let mut told = Told::new();
    told.start("2026-05-04T10:00:00Z", 7);
    assert_eq!(told.after(60).start("2026-05-04T10:00:00Z", 7), []);
    // The line was down, and the station reports its connector first.
    told.after(3_600).status(ChargePointStatus::Available, Some(at("2026-05-04T11:00:00Z")));
    assert!(!told.is_running());
    assert_eq!(told.after(5).start("2026-05-04T10:00:00Z", 7), []);
    assert!(!told.is_running(), "it does not come to life again");
    told.stop(1, Some(at("2026-05-04T10:30:00Z")), 900);
    assert_eq!((told.starts(), told.stops()), (1, 1), "the late stop is that of the one session");
    told.after(60).start("2026-05-04T11:30:00Z", 900);
    let day = 25 * 3600;
    assert_eq!(flag_of(&told.after(day).start("2026-05-04T11:30:00Z", 900)), Some(3 + 1));
}

#[test]
fn a_stop_without_an_id_of_ours_is_that_of_the_only_transaction() {
    for unnamed in [-1, 0] {
        let mut told = Told::new();
        told.start("2026-05-04T10:00:00Z", 0);
        let events = told.after(600).stop(unnamed, Some(at("2026-05-04T10:10:00Z")), 4_000);
        let [StationEvent::TransactionStopped(stopped)] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(
            (stopped.transaction_id, stopped.reported_id, stopped.guessed),
            (Some(1), Some(unnamed), true)
        );
        assert!(!told.is_running());
        let again = told.after(60).stop(unnamed, Some(at("2026-05-04T10:10:00Z")), 4_000);
        assert_eq!(again, [], "its answer was lost");
        told.after(60).start("2026-05-04T10:12:00Z", 4_000);
        told.after(1).stop(unnamed, Some(at("2026-05-04T10:10:00Z")), 4_000);
        assert!(told.is_running(), "what was stopped earlier stops nothing that began later");
    }
}

#[test]
fn of_several_transactions_a_stop_without_an_id_is_that_of_its_tag_or_of_none() {
    let running =
        |id, connector, tag: &str| StationEvent::TransactionStarted(started(id, connector, tag));
    let said = |tag: Option<&str>| StationCommand::ReportStop {
        stopped: TransactionStopped { id_tag: tag.map(str::to_owned), ..stopped(Some(-1)) },
        adopt_as: None,
    };
    let both = || station([running(1, 1, "ANN"), running(2, 2, "BOB")]);
    let of = |tag| both().state().decide(&said(tag)).unwrap();
    assert!(matches!(&of(Some("bob"))[..],
        [StationEvent::TransactionStopped(it)] if it.transaction_id == Some(2)));
    assert!(matches!(&of(None)[..], [StationEvent::UnmatchedStopReported(_)]));
}

/// A session on another connector that has begun already is not stopped by a report that was sent
/// again; one that began since is.
#[test]
fn a_repeated_stop_without_an_id_or_a_clock_is_never_that_of_another_session() {
    let running =
        |id, connector, tag: &str| StationEvent::TransactionStarted(started(id, connector, tag));
    let mut told = Told::new();
    for (id, connector, tag) in [(1, 1, "ANN"), (2, 2, "BOB")] {
        told.station.apply(&running(id, connector, tag));
    }
    let stop = |told: &Told| StationCommand::ReportStop {
        stopped: TransactionStopped {
            id_tag: Some("ANN".to_owned()),
            timestamp: Some(at("1970-01-01T00:10:00Z")),
            received_at: told.now,
            ..stopped(Some(-1))
        },
        adopt_as: None,
    };
    let first = stop(told.after(60));
    assert!(matches!(&told.tell(first)[..],
        [StationEvent::TransactionStopped(it)] if it.transaction_id == Some(1)));
    let again = stop(told.after(60));
    assert!(matches!(&told.tell(again)[..], [StationEvent::UnmatchedStopReported(_)]));
    assert!(told.station.running_on(2).is_some());
    let next = TransactionStarted { received_at: told.after(60).now, ..started(3, 1, "ANN") };
    told.station.apply(&StationEvent::TransactionStopped(stopped(Some(2))));
    told.tell(StationCommand::ReportStart(next));
    let same = stop(told.after(60));
    assert!(matches!(&told.tell(same)[..],
        [StationEvent::TransactionStopped(it)] if it.transaction_id == Some(3)));
}

#[test]
fn a_stop_without_an_id_is_not_that_of_a_session_long_ago() {
    let mut told = Told::new();
    told.start("2026-05-04T10:00:00Z", 0);
    told.after(600).status(ChargePointStatus::Available, None);
    told.start_at(Some(told.now), 100);
    let now = told.after(60).now;
    told.stop(2, Some(now), 200);
    let now = told.after(9_000).now;
    let events = told.stop(-1, Some(now), 90_000);
    assert!(matches!(&events[..], [StationEvent::UnmatchedStopReported(_)]), "{events:?}");
}

#[test]
fn a_clock_that_begins_anew_with_the_station_makes_no_repeat_and_no_late_start() {
    let mut told = Told::new();
    told.now = at("2026-05-04T10:00:00Z");
    for (id, shown) in [(1, "2021-01-01T00:00:15Z"), (2, "2021-01-01T00:00:15Z")] {
        told.after(600).tell(StationCommand::Boot(Booted::default()));
        told.after(3).status(ChargePointStatus::Available, Some(at("2021-01-01T00:00:03Z")));
        told.after(9).start(shown, 0);
        assert_eq!(told.starts(), id);
        assert!(told.is_running());
    }
    // The hour that was saved last.
    let mut told = Told::new();
    for id in [1, 2] {
        told.after(600).tell(StationCommand::Boot(Booted::default()));
        told.after(3).status(ChargePointStatus::Available, Some(at("2026-05-04T09:00:03Z")));
        told.after(9).start("2026-05-04T09:00:15Z", 0);
        assert_eq!(told.starts(), id);
    }
    told.after(600).tell(StationCommand::Boot(Booted::default()));
    told.after(9).start("2026-05-04T08:00:15Z", 0);
    assert!(told.is_running(), "the clock went back with the restart");
}

#[test]
fn a_transaction_of_another_backend_ends_like_any_other_or_holds_nothing() {
    let adopted = |connector_id| TransactionAdopted {
        transaction_id: TransactionId::new(70 + i64::from(connector_id)).unwrap(),
        reported_id: 17 + i64::from(connector_id),
        connector_id,
        received_at: at("2026-05-04T10:00:00Z"),
    };
    let mut told = Told::new();
    told.tell(StationCommand::ReportForeign(adopted(1)));
    assert!(told.is_running());
    told.tell(StationCommand::ReportForeign(adopted(0)));
    assert_eq!(told.station.transactions.values().filter(|it| it.is_running()).count(), 1);
    told.after(9).status(ChargePointStatus::Available, None);
    assert!(!told.is_running());
}

#[test]
fn a_connector_that_is_free_ends_a_transaction_and_its_late_stop_still_counts() {
    let mut told = Told::new();
    told.start("2026-05-04T10:00:00Z", 0);
    told.after(10).status(ChargePointStatus::Charging, Some(at("2026-05-04T10:00:10Z")));
    // Out of the queue, and no news.
    told.after(10).status(ChargePointStatus::Available, Some(at("2026-05-04T09:59:00Z")));
    assert!(told.is_running());
    let events = told.after(600).status(ChargePointStatus::Available, None);
    assert!(matches!(
        &events[0],
        StationEvent::TransactionEnded(TransactionEnded { cause: EndCause::ConnectorFree, .. })
    ));
    assert!(!told.is_running() && told.station.transactions.contains_key(&1));
    told.after(5).stop(1, Some(at("2026-05-04T10:09:00Z")), 3_000);
    assert_eq!(told.stops(), 1);
    assert!(told.station.transactions.is_empty());
}

#[test]
fn after_a_restart_a_cable_that_is_plugged_in_ends_a_transaction_and_charging_keeps_it() {
    for (status, is_kept) in
        [(ChargePointStatus::Preparing, false), (ChargePointStatus::Charging, true)]
    {
        let mut told = Told::new();
        told.start("2026-05-04T10:00:00Z", 0);
        told.after(9).status(ChargePointStatus::Preparing, None);
        assert!(told.is_running(), "a station may say so at the beginning");
        told.after(60).tell(StationCommand::Boot(Booted::default()));
        assert!(told.is_running(), "a restart alone says nothing");
        told.after(9).status(status, None);
        assert_eq!(told.is_running(), is_kept);
        told.after(9).status(ChargePointStatus::Preparing, None);
        assert_eq!(told.is_running(), is_kept);
    }
}

#[test]
fn a_status_that_is_older_than_the_stop_keeps_nobody_from_charging() {
    let mut told = Told::new();
    told.start("2026-05-04T10:00:00Z", 0);
    told.after(10).status(ChargePointStatus::Charging, Some(at("2026-05-04T10:00:10Z")));
    assert!(told.station.connectors[&1].is_occupied());
    told.after(600).stop(1, Some(at("2026-05-04T10:10:00Z")), 900);
    assert!(!told.station.connectors[&1].is_occupied());
    told.after(60).status(ChargePointStatus::Charging, Some(at("2026-05-04T10:11:00Z")));
    assert!(told.station.connectors[&1].is_occupied(), "the same status again is newer");
}

#[test]
fn a_late_older_start_neither_runs_nor_ends_what_runs() {
    let mut told = Told::new();
    told.start("2026-05-04T09:59:00Z", 500);
    let events = told.after(5).start("2026-05-03T20:00:00Z", 0);
    assert!(matches!(&events[..], [StationEvent::TransactionStarted(it)] if it.late));
    assert_eq!(told.station.running_on(1).map(|it| it.id.value()), Some(1));
    told.stop(2, Some(at("2026-05-03T21:00:00Z")), 500);
    assert!(told.is_running());
}

#[test]
fn a_session_out_of_the_queue_does_not_run_if_its_connector_is_known_as_free() {
    let mut told = Told::new();
    told.status(ChargePointStatus::Available, Some(at("2026-05-04T10:00:00Z")));
    told.after(5).start("2026-05-04T08:00:00Z", 0);
    assert!(!told.is_running());
    told.after(5).start("2026-05-04T10:00:08Z", 0);
    assert!(told.is_running());
}

#[test]
fn a_broken_clock_counts_by_arrival() {
    let mut told = Told::new();
    told.status(ChargePointStatus::Available, Some(at("2026-05-04T10:00:00Z")));
    told.after(5).status(ChargePointStatus::Faulted, Some(at("1970-01-01T00:00:01Z")));
    let status = |told: &Told| told.station.connectors[&1].status().cloned();
    assert_eq!(status(&told), Some(ChargePointStatus::Faulted));
    told.after(5).status(ChargePointStatus::Charging, Some(at("2026-05-04T09:00:00Z")));
    assert_eq!(status(&told), Some(ChargePointStatus::Faulted), "out of the queue");
}

#[test]
fn a_transaction_of_another_backend_goes_by_a_number_of_ours_and_the_station_by_its_own() {
    let mut told = Told::new();
    told.status(ChargePointStatus::Charging, None);
    let own = TransactionId::new(70).unwrap();
    let adopted = TransactionAdopted {
        transaction_id: own,
        reported_id: 17,
        connector_id: 1,
        received_at: told.now,
    };
    told.tell(StationCommand::ReportForeign(adopted.clone()));
    assert_eq!(told.tell(StationCommand::ReportForeign(adopted)), []);
    assert_eq!(told.station.transaction_on(1).map(|(id, _)| id), Some(17));
    let events = told.after(60).stop(17, None, 9_000);
    assert!(matches!(&events[..], [StationEvent::TransactionStopped(it)]
        if it.transaction_id == Some(70) && it.reported_id == Some(17) && !it.guessed));
}

#[test]
fn a_person_closes_a_transaction_once_and_its_stop_still_counts() {
    let mut told = Told::new();
    told.start("2026-05-04T10:00:00Z", 0);
    let close = |now| StationCommand::CloseTransaction {
        transaction_id: 1,
        by: "u-1".to_owned(),
        reason: "gone".to_owned(),
        now,
    };
    let now = told.now;
    told.tell(close(now));
    assert!(!told.is_running());
    assert_eq!(
        told.station.decide(&close(now)),
        Err(StationRefusal::NotRunning { transaction_id: 1 })
    );
    told.after(9).stop(1, None, 1);
    assert_eq!(told.stops(), 1);
}

#[test]
fn a_station_that_starts_on_ever_new_connectors_keeps_a_bounded_state() {
    let mut told = Told::new();
    for id in 1..=1_000 {
        let started = started(id, u32::try_from(id).unwrap(), "TAG");
        told.tell(StationCommand::ReportStart(started));
    }
    assert_eq!(told.station.transactions.len(), OPEN_TRANSACTIONS_MAX);
    assert_eq!(told.station.connectors.len(), CONNECTORS_MAX);
}

/// Something that happens at a station with one connector and a right clock.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Begin,
    SendStartAgain,
    Finish { names_it: bool },
    SendStopAgain,
    Charging,
    Free,
    Restart,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => Just(Happening::Begin),
        2 => Just(Happening::SendStartAgain),
        3 => any::<bool>().prop_map(|names_it| Happening::Finish { names_it }),
        2 => Just(Happening::SendStopAgain),
        1 => Just(Happening::Charging),
        2 => Just(Happening::Free),
        1 => Just(Happening::Restart),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_twice_every_session_is_one_transaction_and_none_stays_open(
        happenings in proptest::collection::vec((happening(), 1_u64..400), 1..60)
    ) {
        let mut told = Told::new();
        let (mut sessions, mut finished, mut meter) = (0, 0, 0);
        let mut runs: Option<(Timestamp, i64)> = None;
        let mut last_stop: Option<(i64, Timestamp, i64)> = None;
        for (happening, seconds) in happenings {
            let now = told.after(seconds).now;
            match (happening, runs, last_stop) {
                (Happening::Begin, None, _) => {
                    sessions += 1;
                    (runs, last_stop) = (Some((now, meter)), None);
                    told.start_at(Some(now), meter);
                }
                (Happening::SendStartAgain, Some((began, wh)), _) => {
                    told.start_at(Some(began), wh);
                }
                (Happening::Finish { names_it }, Some(_), _) => {
                    finished += 1;
                    meter += 1_000;
                    let id = told.station.running_on(1).map(|it| it.id.value()).unwrap();
                    let said = if names_it { id } else { -1 };
                    (runs, last_stop) = (None, Some((said, now, meter)));
                    told.stop(said, Some(now), meter);
                }
                (Happening::SendStopAgain, None, Some((said, at, wh))) => {
                    let before = told.events.len();
                    told.stop(said, Some(at), wh);
                    // One that names its transaction is recognized by a command id.
                    told.events.truncate(before);
                }
                (Happening::Charging, Some(_), _) => {
                    told.status(ChargePointStatus::Charging, Some(now));
                }
                (Happening::Free, None, _) => {
                    told.status(ChargePointStatus::Available, Some(now));
                }
                (Happening::Restart, ..) => {
                    told.tell(StationCommand::Boot(Booted::default()));
                }
                _ => {}
            }
            prop_assert_eq!((told.starts(), told.stops()), (sessions, finished));
            prop_assert_eq!(told.is_running(), runs.is_some());
        }
    }
}
