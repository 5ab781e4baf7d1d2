use std::num::NonZeroU32;
use std::time::Duration;

use leftfold::prelude::Timestamp;
use leftfold::testing::{Given, given};

use super::*;
use crate::domain::connector::StatusChanged;
use crate::domain::request::{
    RemoteStartRequested, RemoteStopRequested, RequestAnswered, RequestId,
    ReservationCancelRequested, ReservationRequested, StationAnswer, UnlockRequested,
};
use crate::domain::transaction::{TransactionStarted, TransactionStopped};
use crate::ocpp::v16::{
    AuthorizationStatus, ChargePointErrorCode, ChargePointStatus, IdToken, Reason, TransactionId,
};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const HERE: ServerId = ServerId(uuid::Uuid::from_u128(1));
const ELSEWHERE: ServerId = ServerId(uuid::Uuid::from_u128(2));

fn now() -> Timestamp {
    "2026-02-01T10:00:00Z".parse().unwrap()
}

pub(super) fn online() -> StationEvent {
    StationEvent::CameOnline { at: now().minus(HOUR), server: Some(HERE) }
}

pub(super) fn report(
    connector_id: u32,
    status: ChargePointStatus,
    timestamp: Option<Timestamp>,
) -> StatusChanged {
    StatusChanged {
        connector_id,
        status,
        error_code: ChargePointErrorCode::NoError,
        info: None,
        vendor_id: None,
        vendor_error_code: None,
        timestamp,
        received_at: now(),
    }
}

fn is(connector_id: u32, status: ChargePointStatus) -> StationEvent {
    StationEvent::StatusChanged(report(connector_id, status, Some(now().minus(HOUR))))
}

fn available(connector_id: u32) -> StationEvent {
    is(connector_id, ChargePointStatus::Available)
}

fn transaction_id(id: i64) -> TransactionId {
    TransactionId::new(id).unwrap()
}

pub(super) fn started(id: i64, connector_id: u32, id_tag: &str) -> TransactionStarted {
    TransactionStarted {
        transaction_id: transaction_id(id),
        connector_id,
        id_tag: id_tag.to_owned(),
        parent_id_tag: Some("FLEET".to_owned()),
        authorization: AuthorizationStatus::Accepted,
        meter_start_wh: Some(1_000),
        timestamp: Some(now()),
        received_at: now(),
        reservation_id: None,
        remote_start: None,
        late: false,
        possible_repeat_of: None,
    }
}

fn running(id: i64, connector_id: u32, id_tag: &str) -> StationEvent {
    StationEvent::TransactionStarted(started(id, connector_id, id_tag))
}

pub(super) fn stopped(id: Option<i64>) -> TransactionStopped {
    let (id_tag, meter_stop_wh, timestamp) = (None, Some(2_000), Some(now()));
    let (reason, transaction_data) = (Some(Reason::EvDisconnected), Vec::new());
    TransactionStopped {
        transaction_id: id,
        reported_id: None,
        guessed: false,
        id_tag,
        meter_stop_wh,
        timestamp,
        received_at: now(),
        reason,
        transaction_data,
    }
}

fn report_stop(id: Option<i64>) -> StationCommand {
    StationCommand::ReportStop { stopped: stopped(id), adopt_as: None }
}

fn asked(name: &str, connector_id: u32, id_tag: &str) -> RemoteStartRequested {
    RemoteStartRequested {
        charging_profile: None,
        station: "CP1".to_owned(),
        request: RequestId(name.to_owned()),
        connector_id: NonZeroU32::new(connector_id),
        id_tag: IdToken::new(id_tag).unwrap(),
        requested_at: now(),
        until: now().plus(MINUTE),
    }
}

fn remote_start(name: &str, connector_id: u32, id_tag: &str) -> StationCommand {
    let authorization = AuthorizationStatus::Accepted;
    StationCommand::RemoteStart {
        asked: asked(name, connector_id, id_tag),
        authorization,
        parent_id_tag: None,
    }
}

fn remote_stop(transaction_id: i64, on_behalf: Option<OnBehalf>) -> StationCommand {
    let request = RequestId("stop".to_owned());
    let until = now().plus(MINUTE);
    let station = "CP1".to_owned();
    StationCommand::RemoteStop(RemoteStop {
        station,
        request,
        transaction_id,
        on_behalf,
        now: now(),
        until,
    })
}

fn claimed(name: &str, connector_id: u32, id_tag: &str) -> StationEvent {
    StationEvent::RemoteStartRequested(asked(name, connector_id, id_tag))
}

pub(super) fn station(events: impl IntoIterator<Item = StationEvent>) -> Given<Station> {
    given::<Station>([online(), available(1), available(2)].into_iter().chain(events))
}

#[test]
fn silence_and_its_end_are_recorded_once() {
    let (at, reason, heard_by) = (now(), OfflineReason::Silent, Some(HERE));
    given::<Station>([])
        .when(StationCommand::MarkOnline { at, server: HERE })
        .then([StationEvent::CameOnline { at, server: heard_by }]);
    let online_here = StationCommand::MarkOnline { at, server: HERE };
    given::<Station>([online()]).when(online_here).then_nothing();
    given::<Station>([online()])
        .when(StationCommand::MarkOffline { at, reason, heard_by })
        .then([StationEvent::WentOffline { at, reason }]);
    given::<Station>([])
        .when(StationCommand::MarkOffline { at, reason, heard_by: None })
        .then_nothing();
}

#[test]
fn only_the_server_that_hears_a_station_records_its_silence() {
    let (at, reason) = (now(), OfflineReason::Silent);
    let moved = StationEvent::CameOnline { at, server: Some(ELSEWHERE) };
    let connected = StationCommand::MarkConnected { at, server: HERE };
    given::<Station>([online()]).when(connected.clone()).then_nothing();
    given::<Station>([online(), moved.clone()])
        .when(connected)
        .then([StationEvent::CameOnline { at, server: Some(HERE) }]);
    given::<Station>([online(), moved.clone()])
        .when(StationCommand::MarkOnline { at, server: HERE })
        .then_nothing();
    given::<Station>([online(), moved.clone()])
        .when(StationCommand::MarkOffline { at, reason, heard_by: Some(HERE) })
        .then_nothing();
    given::<Station>([online(), moved])
        .when(StationCommand::MarkOffline { at, reason, heard_by: Some(ELSEWHERE) })
        .then([StationEvent::WentOffline { at, reason }]);
}

/// Until it moves it is online since the same moment.
#[test]
fn a_station_that_moves_to_another_server_was_online_all_the_time() {
    let mut station = Station::default();
    station.apply(&online());
    let since = station.online_changed_at;
    station.apply(&StationEvent::CameOnline { at: now(), server: Some(ELSEWHERE) });
    assert_eq!((station.online_changed_at, station.heard_by), (since, Some(ELSEWHERE)));
}

#[test]
fn a_status_is_recorded_only_if_it_tells_anything_new() {
    let again = report(1, ChargePointStatus::Available, Some(now()));
    station([]).when(StationCommand::ReportStatus(again.clone())).then_nothing();
    let other_code = StatusChanged { vendor_error_code: Some("E17".to_owned()), ..again.clone() };
    station([])
        .when(StationCommand::ReportStatus(other_code.clone()))
        .then([StationEvent::StatusChanged(other_code)]);
    let faulted = StatusChanged {
        status: ChargePointStatus::Faulted,
        error_code: ChargePointErrorCode::UnderVoltage,
        ..again
    };
    station([])
        .when(StationCommand::ReportStatus(faulted.clone()))
        .then([StationEvent::StatusChanged(faulted)]);
}

#[test]
fn a_report_out_of_the_past_is_kept_once_and_never_overwrites_a_newer_one() {
    let past = report(1, ChargePointStatus::Faulted, Some(now().minus(2 * HOUR)));
    station([])
        .when(StationCommand::ReportStatus(past.clone()))
        .then([StationEvent::StatusChanged(past.clone())]);
    let told = station([StationEvent::StatusChanged(past.clone())]);
    assert_eq!(told.state().connectors[&1].status(), Some(&ChargePointStatus::Available));
    told.when(StationCommand::ReportStatus(past.clone())).then_nothing();
    // A clock that ran ahead does not make later reports the past: after our own time it counts as
    // now.
    let ahead = report(1, ChargePointStatus::Unavailable, Some(now().plus(24 * HOUR)));
    let back = StatusChanged {
        received_at: now().plus(MINUTE),
        ..report(1, ChargePointStatus::Available, None)
    };
    let state = station([StationEvent::StatusChanged(ahead), StationEvent::StatusChanged(back)]);
    assert_eq!(state.state().connectors[&1].status(), Some(&ChargePointStatus::Available));
    // Nor is a clock that was set back by a boot the past.
    let booted =
        station([StationEvent::Booted(Booted::default()), StationEvent::StatusChanged(past)]);
    assert_eq!(booted.state().connectors[&1].status(), Some(&ChargePointStatus::Faulted));
}

#[test]
fn connector_0_is_the_station_and_its_fault_leaves_the_others_as_they_are() {
    let state = station([is(0, ChargePointStatus::Faulted)]);
    assert_eq!(state.state().connectors[&1].status(), Some(&ChargePointStatus::Available));
    let status = ChargePointStatus::Faulted;
    state
        .when(remote_start("a", 1, "CAFE"))
        .then_refused(StationRefusal::StationOutOfOrder { status });
}

#[test]
fn a_free_connector_is_kept_for_whoever_asks_first() {
    station([]).when(remote_start("a", 1, "CAFE")).then([claimed("a", 1, "CAFE")]);
    let until = now().plus(MINUTE);
    let taken = || station([claimed("a", 1, "CAFE")]);
    taken()
        .when(remote_start("b", 1, "BEEF"))
        .then_refused(StationRefusal::Claimed { connector_id: 1, until });
    taken().when(remote_start("b", 2, "BEEF")).then([claimed("b", 2, "BEEF")]);
    // Nobody keeps a connector for ever.
    let later = StationEvent::RemoteStartRequested(RemoteStartRequested {
        requested_at: now().minus(HOUR),
        until: now().minus(MINUTE),
        ..asked("a", 1, "CAFE")
    });
    station([later]).when(remote_start("b", 1, "BEEF")).then([claimed("b", 1, "BEEF")]);
}

#[test]
fn what_cannot_charge_is_refused_before_anything_is_sent() {
    given::<Station>([]).when(remote_start("a", 1, "CAFE")).then_refused(StationRefusal::Unknown);
    let (at, reason) = (now(), OfflineReason::Silent);
    station([StationEvent::WentOffline { at, reason }])
        .when(remote_start("a", 1, "CAFE"))
        .then_refused(StationRefusal::Offline);
    for status in [ChargePointStatus::Faulted, ChargePointStatus::Unavailable] {
        let refusal = StationRefusal::OutOfOrder { connector_id: 1, status: status.clone() };
        station([is(1, status)]).when(remote_start("a", 1, "CAFE")).then_refused(refusal);
    }
    station([])
        .when(remote_start("a", 7, "CAFE"))
        .then_refused(StationRefusal::UnknownConnector { connector_id: 7 });
    station([running(1, 1, "BEEF")])
        .when(remote_start("a", 1, "CAFE"))
        .then_refused(StationRefusal::Occupied { connector_id: 1 });
    let authorization = AuthorizationStatus::Blocked;
    let blocked = StationCommand::RemoteStart {
        asked: asked("a", 1, "CAFE"),
        authorization,
        parent_id_tag: None,
    };
    station([])
        .when(blocked)
        .then_refused(StationRefusal::NotAuthorized { status: AuthorizationStatus::Blocked });
}

#[test]
fn a_station_that_serves_fewer_transactions_than_it_has_connectors_refuses_the_rest() {
    let limited = StationEvent::TransactionsLimited { transactions_max: Some(1) };
    let refusal = StationRefusal::LimitReached { transactions_max: 1 };
    station([limited.clone(), running(1, 1, "BEEF")])
        .when(remote_start("a", 2, "CAFE"))
        .then_refused(refusal.clone());
    station([limited.clone(), claimed("a", 1, "BEEF")])
        .when(remote_start("b", 2, "CAFE"))
        .then_refused(refusal);
    let ended = StationEvent::TransactionStopped(stopped(Some(1)));
    station([limited, running(1, 1, "BEEF"), ended])
        .when(remote_start("a", 2, "CAFE"))
        .then([claimed("a", 2, "CAFE")]);
}

#[test]
fn where_the_station_chooses_each_driver_has_a_connector_left() {
    let two = || station([claimed("a", 0, "CAFE"), claimed("b", 0, "BEEF")]);
    two().when(remote_start("c", 0, "F00D")).then_refused(StationRefusal::NoFreeConnector);
    two()
        .when(remote_start("c", 1, "F00D"))
        .then_refused(StationRefusal::Occupied { connector_id: 1 });
    station([claimed("a", 0, "CAFE")])
        .when(remote_start("b", 0, "BEEF"))
        .then([claimed("b", 0, "BEEF")]);
}

#[test]
fn a_start_is_taken_for_the_result_of_a_remote_start_by_tag_connector_and_time() {
    let correlated = |id_tag: &str, connector_id, timestamp, received_at| {
        let report = TransactionStarted {
            timestamp: Some(timestamp),
            received_at,
            ..started(1, connector_id, id_tag)
        };
        station([claimed("a", 1, "CAFE")]).state().decide_start(&report)
    };
    let expect = |events: Vec<StationEvent>, remote_start: Option<&str>| match &events[..] {
        [StationEvent::TransactionStarted(started)] => {
            assert_eq!(
                started.remote_start.as_ref().map(|request| request.0.as_str()),
                remote_start
            );
        }
        other => panic!("{other:?}"),
    };
    let soon = now().plus(Duration::from_secs(10));
    expect(correlated("cafe", 1, soon, soon), Some("a"));
    expect(correlated("BEEF", 1, soon, soon), None);
    expect(correlated("CAFE", 2, soon, soon), None);
    expect(correlated("CAFE", 1, soon, now().plus(2 * MINUTE)), None);
    // Queued while the station was offline: it happened before anybody asked.
    expect(correlated("CAFE", 1, now().minus(HOUR), soon), None);
}

#[test]
fn accepted_only_means_will_attempt_and_rejected_frees_the_connector() {
    let answered = |answer| {
        StationEvent::RemoteStartAnswered(RequestAnswered {
            request: RequestId("a".to_owned()),
            answer,
        })
    };
    let until = now().plus(MINUTE);
    station([claimed("a", 1, "CAFE"), answered(StationAnswer::Accepted)])
        .when(remote_start("b", 1, "BEEF"))
        .then_refused(StationRefusal::Claimed { connector_id: 1, until });
    let rejected = StationAnswer::Rejected { status: "Rejected".to_owned() };
    station([claimed("a", 1, "CAFE"), answered(rejected)])
        .when(remote_start("b", 1, "BEEF"))
        .then([claimed("b", 1, "BEEF")]);
}

#[test]
fn a_start_is_recorded_whatever_it_says_and_a_tag_that_is_not_accepted_is_kept_with_it() {
    let nonsense = TransactionStarted {
        id_tag: String::new(),
        connector_id: 99,
        meter_start_wh: None,
        timestamp: None,
        authorization: AuthorizationStatus::Invalid,
        ..started(5, 99, "")
    };
    given::<Station>([])
        .when(StationCommand::ReportStart(nonsense.clone()))
        .then([StationEvent::TransactionStarted(nonsense)]);
}

#[test]
fn a_running_start_that_is_reported_again_under_another_id_is_not_counted_again() {
    let again = TransactionStarted { transaction_id: transaction_id(2), ..started(1, 1, "CAFE") };
    station([running(1, 1, "CAFE")])
        .when(StationCommand::ReportStart(again.clone()))
        .then_nothing();
    assert_eq!(
        station([running(1, 1, "CAFE")]).state().repeated_start(&again).map(|t| t.id),
        Some(transaction_id(1))
    );
}

#[test]
fn a_transaction_whose_stop_was_lost_holds_nothing_once_another_one_starts() {
    let next = StationEvent::TransactionStarted(TransactionStarted {
        timestamp: Some(now().plus(HOUR)),
        ..started(2, 1, "BEEF")
    });
    let state = station([running(1, 1, "CAFE"), next.clone()]);
    assert!(state.state().transactions[&1].superseded);
    let late = StationEvent::TransactionStopped(stopped(Some(1)));
    let state = station([running(1, 1, "CAFE"), next, late]);
    assert_eq!(state.state().connectors[&1].transaction, Some(transaction_id(2)));
}

#[test]
fn a_stop_of_an_unknown_transaction_is_a_fact_too() {
    for id in [None, Some(-1), Some(4711)] {
        let expected = StationEvent::UnmatchedStopReported(stopped(id));
        station([]).when(report_stop(id)).then([expected]);
    }
    let expected = StationEvent::TransactionStopped(stopped(Some(1)));
    station([running(1, 1, "CAFE")]).when(report_stop(Some(1))).then([expected]);
}

#[test]
fn a_transaction_is_stopped_by_its_tag_or_its_group_and_never_by_a_foreign_tag() {
    let on_behalf = |id_tag: &str, parent: Option<&str>| {
        Some(OnBehalf { id_tag: id_tag.to_owned(), parent_id_tag: parent.map(str::to_owned) })
    };
    let expected = || {
        let (station, request) = ("CP1".to_owned(), RequestId("stop".to_owned()));
        let (transaction_id, until) = (transaction_id(1), now().plus(MINUTE));
        StationEvent::RemoteStopRequested(RemoteStopRequested {
            reported_id: None,
            station,
            request,
            transaction_id,
            until,
        })
    };
    let running = || station([running(1, 1, "CAFE")]);
    running().when(remote_stop(1, None)).then([expected()]);
    running().when(remote_stop(1, on_behalf("cafe", None))).then([expected()]);
    running().when(remote_stop(1, on_behalf("BEEF", Some("fleet")))).then([expected()]);
    let foreign = StationRefusal::ForeignTag { transaction_id: transaction_id(1) };
    running().when(remote_stop(1, on_behalf("BEEF", Some("OTHERS")))).then_refused(foreign.clone());
    running().when(remote_stop(1, on_behalf("BEEF", None))).then_refused(foreign);
    running()
        .when(remote_stop(2, None))
        .then_refused(StationRefusal::NotRunning { transaction_id: 2 });
}

#[test]
fn a_connector_is_unlocked_if_the_station_can_be_asked_and_has_told_of_it() {
    let asked = |connector_id| UnlockRequested {
        station: "CP1".to_owned(),
        request: RequestId("unlock".to_owned()),
        connector_id: NonZeroU32::new(connector_id).unwrap(),
        until: now().plus(MINUTE),
    };
    let unlock = |connector_id| StationCommand::Unlock(asked(connector_id));
    station([running(1, 1, "CAFE")])
        .when(unlock(1))
        .then([StationEvent::UnlockRequested(asked(1))]);
    station([]).when(unlock(7)).then_refused(StationRefusal::UnknownConnector { connector_id: 7 });
    given::<Station>([]).when(unlock(1)).then_refused(StationRefusal::Unknown);
}

#[test]
fn a_transaction_is_not_asked_twice_to_stop() {
    let asked = StationEvent::RemoteStopRequested(RemoteStopRequested {
        reported_id: None,
        station: "CP1".to_owned(),
        request: RequestId("first".to_owned()),
        transaction_id: transaction_id(1),
        until: now().plus(MINUTE),
    });
    let being_stopped = StationRefusal::BeingStopped { transaction_id: transaction_id(1) };
    station([running(1, 1, "CAFE"), asked.clone()])
        .when(remote_stop(1, None))
        .then_refused(being_stopped);
    let reason = "no connection".to_owned();
    let answer = StationAnswer::NotDone { reason };
    let answered = StationEvent::RemoteStopAnswered(RequestAnswered {
        request: RequestId("first".to_owned()),
        answer,
    });
    let given = station([running(1, 1, "CAFE"), asked, answered]);
    assert!(given.state().decide(&remote_stop(1, None)).is_ok());
}

#[test]
fn what_a_station_may_make_us_keep_is_bounded() {
    let many = (0..CONNECTORS_MAX as u32).map(available);
    given::<Station>(many)
        .when(StationCommand::ReportStatus(report(9_999, ChargePointStatus::Available, None)))
        .then_refused(StationRefusal::TooManyConnectors { connectors_max: CONNECTORS_MAX });
    let start = |id: i64| {
        let timestamp = Some(now().plus(Duration::from_secs(id.unsigned_abs())));
        StationEvent::TransactionStarted(TransactionStarted { timestamp, ..started(id, 1, "CAFE") })
    };
    let given = given::<Station>((1..=2 * OPEN_TRANSACTIONS_MAX as i64).map(start));
    assert_eq!(given.state().transactions.len(), OPEN_TRANSACTIONS_MAX);
}

fn reservation(reservation_id: i64, connector_id: u32, id_tag: &str) -> ReservationRequested {
    ReservationRequested {
        station: "CP1".to_owned(),
        request: RequestId(format!("reserve-{reservation_id}")),
        reservation_id,
        connector_id: NonZeroU32::new(connector_id).unwrap(),
        id_tag: IdToken::new(id_tag).unwrap(),
        parent_id_tag: Some(IdToken::new("FLEET").unwrap()),
        requested_at: now(),
        expiry_date: now().plus(2 * MINUTE),
        until: now().plus(MINUTE),
    }
}

fn reserve(connector_id: u32, id_tag: &str) -> StationCommand {
    let asked = ReservationRequested { reservation_id: 0, ..reservation(0, connector_id, id_tag) };
    StationCommand::Reserve { asked, authorization: AuthorizationStatus::Accepted }
}

fn reserved(reservation_id: i64, connector_id: u32, id_tag: &str) -> StationEvent {
    StationEvent::ReservationRequested(reservation(reservation_id, connector_id, id_tag))
}

fn answered(name: &str, answer: StationAnswer) -> RequestAnswered {
    RequestAnswered { request: RequestId(name.to_owned()), answer }
}

#[test]
fn a_reserved_connector_is_refused_to_all_but_the_driver_and_his_group() {
    let kept = || station([reserved(1, 1, "CAFE")]);
    let until = now().plus(2 * MINUTE);
    let refusal = || StationRefusal::Reserved { connector_id: 1, until };
    kept().when(remote_start("a", 1, "BEEF")).then_refused(refusal());
    kept().when(reserve(1, "CAFE")).then_refused(refusal());
    kept().when(remote_start("a", 1, "cafe")).then([claimed("a", 1, "cafe")]);
    let (authorization, parent_id_tag) =
        (AuthorizationStatus::Accepted, IdToken::new("fleet").ok());
    let of_group =
        StationCommand::RemoteStart { asked: asked("a", 1, "BEEF"), authorization, parent_id_tag };
    kept().when(of_group).then([claimed("a", 1, "BEEF")]);
    let mut request = reservation(2, 2, "BEEF");
    request.request = RequestId("reserve-0".to_owned());
    kept().when(reserve(2, "BEEF")).then([StationEvent::ReservationRequested(request)]);
    station([reserved(1, 1, "CAFE"), reserved(2, 2, "CAFE")])
        .when(StationCommand::RemoteStart {
            asked: RemoteStartRequested { connector_id: None, ..asked("a", 1, "BEEF") },
            authorization: AuthorizationStatus::Accepted,
            parent_id_tag: None,
        })
        .then_refused(StationRefusal::NoFreeConnector);
}

#[test]
fn a_reservation_ends_by_use_refusal_cancelling_or_time_and_only_once() {
    let expire = || StationCommand::ExpireReservation { reservation_id: 1, at: now() };
    let expired = StationEvent::ReservationExpired { reservation_id: 1, at: now() };
    let refused = StationEvent::ReservationAnswered(answered(
        "reserve-1",
        StationAnswer::Rejected { status: "Faulted".into() },
    ));
    let cancel = ReservationCancelRequested {
        station: "CP1".to_owned(),
        request: RequestId("cancel".to_owned()),
        reservation_id: 1,
        until: now(),
    };
    let cancelled = [
        StationEvent::ReservationCancelRequested(cancel.clone()),
        StationEvent::ReservationCancelAnswered(answered("cancel", StationAnswer::Accepted)),
    ];
    let kept = || vec![reserved(1, 1, "CAFE")];
    station(kept()).when(expire()).then([expired.clone()]);
    // Used by its tag, though the station did not name it.
    station([kept(), vec![running(7, 1, "CAFE")]].concat()).when(expire()).then_nothing();
    station([kept(), vec![running(7, 2, "CAFE")]].concat()).when(expire()).then([expired.clone()]);
    let of_another = StationEvent::TransactionStarted(TransactionStarted {
        parent_id_tag: None,
        ..started(7, 1, "BEEF")
    });
    station([kept(), vec![of_another]].concat()).when(expire()).then([expired.clone()]);
    station([kept(), vec![refused]].concat()).when(expire()).then_nothing();
    station([kept(), cancelled.to_vec()].concat()).when(expire()).then_nothing();
    station([kept(), vec![expired]].concat()).when(expire()).then_nothing();
    let unknown = StationRefusal::UnknownReservation { reservation_id: 1 };
    station([]).when(StationCommand::CancelReservation(cancel)).then_refused(unknown);
}

#[test]
fn a_remote_start_lapses_if_it_was_accepted_and_led_to_nothing() {
    let lapse =
        || StationCommand::LapseRemoteStart { request: RequestId("a".to_owned()), at: now() };
    let lapsed = StationEvent::RemoteStartLapsed { request: RequestId("a".to_owned()), at: now() };
    let accepted = || StationEvent::RemoteStartAnswered(answered("a", StationAnswer::Accepted));
    station([claimed("a", 1, "CAFE")]).when(lapse()).then_nothing();
    station([claimed("a", 1, "CAFE"), accepted()]).when(lapse()).then([lapsed.clone()]);
    // Another one was asked for in the meantime.
    let mut later = asked("b", 2, "BEEF");
    later.requested_at = now().plus(3 * MINUTE);
    let later = StationEvent::RemoteStartRequested(later);
    station([claimed("a", 1, "CAFE"), accepted(), later]).when(lapse()).then([lapsed.clone()]);
    station([claimed("a", 1, "CAFE"), accepted(), lapsed]).when(lapse()).then_nothing();
    let started = StationEvent::TransactionStarted(TransactionStarted {
        remote_start: Some(RequestId("a".to_owned())),
        ..started(7, 1, "CAFE")
    });
    station([claimed("a", 1, "CAFE"), accepted(), started]).when(lapse()).then_nothing();
}
