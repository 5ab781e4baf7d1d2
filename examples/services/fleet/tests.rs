//! The rules, one by one and in any order, and both departments as programs over a real NATS.

use std::collections::BTreeMap;
use std::process::Command;

use futures_util::StreamExt;
use leftfold::fold::Schema;
use leftfold::nats::async_nats;
use leftfold::store::RecordedEvent;
use leftfold::testing::explorer::{Explorer, Schedules};
use leftfold::testing::{given, given_events};
use leftfold_proving::NatsServer;

use super::*;
use crate::absences::{Absence, NoteVacation};
use crate::assigning::{Absences, AssignRefusal, FleetEvent};
use crate::exceptions::Vehicle;
use crate::people::{DriverEvent, DriverRefusal, VACATIONS, VacationTold};
use crate::programs::{ALL_RECORDED, DRIVERS, driver_id};

const SOON: Duration = Duration::from_secs(60);

fn noted(vacation: &str, from: u32, until: u32) -> FleetEvent {
    FleetEvent::Noted { vacation: vacation.into(), version: 1, from, until }
}

/// Command for a vacation of which the office told.
fn note(version: u64, away: Option<(u32, u32)>) -> NoteVacation {
    NoteVacation { vacation: "v".into(), version, away }
}

fn told(driver: &str, from: u32, until: u32) -> VacationTold {
    let (driver, vacation) = (driver.to_owned(), "v".to_owned());
    VacationTold { driver, vacation, version: 1, away: Some((from, until)) }
}

fn assigned(vehicle: &str, driver: &str, from: u32, until: u32) -> FleetEvent {
    FleetEvent::Assigned { vehicle: vehicle.into(), driver: driver.into(), from, until }
}

#[test]
fn nobody_is_assigned_for_days_of_a_vacation_as_it_is_known_now() {
    let lifted = FleetEvent::Lifted { vacation: "v".into(), version: 2 };
    let history = |events: &[FleetEvent]| {
        given_events(events.iter().map(|event| ("absence-ann", event.clone())))
    };
    let wish = |from, until| assign("truck", "ann", from, until);
    let away = |from| AssignRefusal::OnVacation { from };
    let (planned, moved) = (noted("v", 10, 20), noted("v", 30, 40));
    history(std::slice::from_ref(&planned)).decide(&wish(19, 25)).then_refused(away(10));
    history(std::slice::from_ref(&planned))
        .decide(&wish(20, 25))
        .then([assigned("truck", "ann", 20, 25)]);
    history(&[planned.clone(), moved.clone()])
        .decide(&wish(10, 20))
        .then([assigned("truck", "ann", 10, 20)]);
    history(&[planned.clone(), moved.clone()]).decide(&wish(36, 38)).then_refused(away(30));
    history(&[planned.clone(), moved, noted("v", 30, 35)])
        .decide(&wish(36, 38))
        .then([assigned("truck", "ann", 36, 38)]);
    history(&[planned, lifted]).decide(&wish(10, 20)).then([assigned("truck", "ann", 10, 20)]);
}

#[test]
fn what_is_told_late_or_twice_changes_no_picture() {
    let known =
        |version, from| AbsenceEvent::Noted { vacation: "v".into(), version, from, until: 20 };
    let cancelled = AbsenceEvent::Lifted { vacation: "v".into(), version: 4 };
    given::<Absence>([]).when(note(2, Some((10, 20)))).then([known(2, 10)]);
    given::<Absence>([known(2, 10)]).when(note(2, Some((10, 20)))).then_nothing();
    given::<Absence>([known(3, 10)]).when(note(2, Some((5, 20)))).then_nothing();
    given::<Absence>([known(2, 10)]).when(note(4, None)).then([cancelled.clone()]);
    given::<Absence>([known(2, 10), cancelled]).when(note(3, Some((9, 20)))).then_nothing();
}

#[tokio::test]
async fn the_office_tells_of_vacations_as_they_are_by_now_and_of_nothing_else() {
    let (store, (bus, mut sent)) = (Store::memory(), LocalBus::new());
    let drivers = store.aggregate::<Driver>();
    let v = || "v".to_owned();
    for command in [
        DriverCommand::Hire { name: "Ann".into(), birthday: "1990-01-01".into() },
        vacation("v", 10, 20),
        DriverCommand::Change { vacation: v(), from: 30, until: 40 },
        DriverCommand::EndEarly { vacation: v(), on: 35 },
        DriverCommand::Cancel { vacation: v() },
    ] {
        drivers.execute("ann", command).await.unwrap();
    }
    let office = people::start(&store, bus).await.unwrap();
    let told = [Some((10, 20)), Some((30, 40)), Some((30, 35)), None];
    for (version, away) in (2..).zip(told) {
        let message = sent.recv().await.unwrap();
        assert_eq!((&*message.destination, &*message.key), (VACATIONS, "ann"));
        let told: VacationTold = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(told, VacationTold { driver: "ann".into(), vacation: v(), version, away });
    }
    office.stop().await.unwrap();
}

#[test]
fn a_vehicle_has_at_most_one_driver() {
    let theirs = AssignRefusal::HasDriver { driver: "bob".into() };
    let history = given_events([("vehicle-truck", assigned("truck", "bob", 1, 2))]);
    history.decide(&assign("truck", "ann", 5, 6)).then_refused(theirs);
    history.decide(&assign("truck", "bob", 1, 2)).then_nothing();
}

// ANCHOR: race
#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_races_with_a_vacation_that_becomes_known_is_never_stale() {
    for store in examples::stores().await {
        for round in 0..200 {
            let (driver, truck) = (format!("d{round}"), format!("t{round}"));
            let (deciding, wish) = (store.clone(), assign(&truck, &driver, 10, 20));
            let assigning = tokio::spawn(async move { deciding.decide(&wish).await });
            let away = store
                .aggregate::<Absence>()
                .execute(&driver, note(1, Some((10, 20))))
                .await
                .unwrap();
            match assigning.await.unwrap() {
                Ok(assigned) => assert!(
                    assigned.position < away.position,
                    "it was decided without the vacation"
                ),
                Err(refused) => assert_eq!(
                    refused,
                    ExecuteError::Refused(AssignRefusal::OnVacation { from: 10 })
                ),
            }
        }
    }
}
// ANCHOR_END: race

#[tokio::test]
async fn a_vacation_after_the_assignment_is_an_exception_until_the_driver_is_taken_off() {
    for store in examples::stores().await {
        let report = Memory::<Report>::new();
        let absences = store.aggregate::<Absence>();
        let run = || Runtime::new(&store).project(ExceptionReport, report.clone()).run_until_idle();
        store.decide(&assign("truck", "ann", 10, 20)).await.unwrap();
        store.decide(&assign("van", "ann", 1, 5)).await.unwrap();
        absences.execute("ann", note(1, Some((15, 16)))).await.unwrap();
        run().await.unwrap();
        assert_eq!(report.read(exceptions).await, [("truck".to_owned(), "ann".to_owned(), 15)]);
        Runtime::new(&store).process::<Unassignment>().run_until_idle().await.unwrap();
        run().await.unwrap();
        assert_eq!(report.read(exceptions).await, []);
        let vehicles = store.aggregate::<Vehicle>();
        assert_eq!(vehicles.load("truck").await.unwrap().state.driver, None);
        assert_eq!(vehicles.load("van").await.unwrap().state.driver.as_deref(), Some("ann"));
    }
}

#[tokio::test]
async fn an_exception_goes_when_the_vacation_is_ended_early_moved_away_or_cancelled() {
    for store in examples::stores().await {
        let report = Memory::<Report>::new();
        let absences = store.aggregate::<Absence>();
        let run = || Runtime::new(&store).project(ExceptionReport, report.clone()).run_until_idle();
        store.decide(&assign("truck", "ann", 10, 20)).await.unwrap();
        let changes = [((5, 15), 1), ((5, 8), 0), ((12, 14), 1), ((30, 40), 0)];
        for (version, (days, count)) in (1..).zip(changes) {
            absences.execute("ann", note(version, Some(days))).await.unwrap();
            run().await.unwrap();
            let listed = report.read(|report| exceptions(report).len()).await;
            assert_eq!(listed, count, "{days:?}");
        }
        absences.execute("ann", note(5, Some((10, 11)))).await.unwrap();
        absences.execute("ann", note(6, None)).await.unwrap();
        run().await.unwrap();
        assert_eq!(report.read(exceptions).await, []);
    }
}

/// Nobody was assigned for days of a vacation that was known by then, and no vehicle that had a
/// driver.
fn no_assignment_was_stale<'e>(
    events: impl IntoIterator<Item = &'e RecordedEvent>,
) -> Result<(), String> {
    let schema = Schema::of::<FleetEvent>().unwrap();
    let (mut absences, mut drivers) = (BTreeMap::<String, Absences>::new(), BTreeMap::new());
    for recorded in events {
        for event in schema.decode::<FleetEvent>(recorded, Unknown::Ignore).unwrap() {
            match &event {
                FleetEvent::Assigned { vehicle, driver, from, until } => {
                    let away = absences.get(driver).and_then(|known| known.within(*from, *until));
                    if let Some(day) = away {
                        let what = &event;
                        return Err(format!(
                            "{driver} was known to be away on day {day}: {what:?}"
                        ));
                    }
                    if let Some(has) = drivers.insert(vehicle.clone(), driver.clone()) {
                        return Err(format!("the vehicle had {has}: {event:?}"));
                    }
                }
                FleetEvent::Unassigned { vehicle, .. } => _ = drivers.remove(vehicle),
                absence => {
                    let driver = recorded.stream.as_ref().unwrap().name.id().to_owned();
                    absences.entry(driver).or_default().apply(absence);
                }
            }
        }
    }
    Ok(())
}

// ANCHOR: explored
#[test]
fn no_crash_and_no_order_of_things_leaves_a_driver_on_vacation_on_a_vehicle() {
    Explorer::new()
        .aggregate::<Vehicle>()
        .aggregate::<Absence>()
        .inbox::<VacationNews>()
        .process::<Unassignment>()
        .start(|clients| {
            clients
                .client("dispatch")
                .decide(assign("truck", "ann", 10, 20))
                .decide(assign("truck", "bob", 1, 5));
            clients.client("bob").decide(assign("truck", "bob", 10, 12));
            let broker = clients.client("broker");
            broker
                .send::<VacationNews>(VACATIONS, "m1", None, told("ann", 12, 14))
                .send::<VacationNews>(VACATIONS, "m2", None, told("bob", 1, 2))
                .send::<VacationNews>(VACATIONS, "m1", None, told("ann", 12, 14));
        })
        .always("no assignment was stale", |world| no_assignment_was_stale(world.events()))
        .finally("each vacation is known, once", |world| {
            world.events_of::<AbsenceEvent>().len() == 2
        })
        .finally("who drives is not away", |world| {
            let driver = world.state::<Vehicle>("truck").and_then(|vehicle| vehicle.driver.clone());
            let days =
                world.events_of::<VehicleEvent>().into_iter().rev().find_map(|event| match event {
                    VehicleEvent::Assigned { from, until, .. } => Some((from, until)),
                    VehicleEvent::Unassigned { .. } => None,
                });
            !matches!((driver.as_deref(), days), (Some("ann"), _) | (Some("bob"), Some((1, _))))
        })
        .finally("nothing is parked", |world| world.parked() == 0)
        .run(Schedules(200));
}
// ANCHOR_END: explored

#[test]
fn the_people_office_refuses_only_what_is_no_vacation() {
    given::<Driver>([]).when(vacation("v", 2, 2)).then_refused(DriverRefusal::EndsBeforeItBegins);
    let planned = DriverEvent::VacationScheduled { vacation: "v".into(), from: 1, until: 9 };
    let end = |on| DriverCommand::EndEarly { vacation: "v".into(), on };
    given::<Driver>([planned.clone()]).when(end(9)).then_refused(DriverRefusal::EndsBeforeItBegins);
    given::<Driver>([planned]).when(end(4)).then([DriverEvent::VacationEndedEarly {
        vacation: "v".into(),
        from: 1,
        on: 4,
    }]);
    let none = DriverRefusal::NoVacation { vacation: "w".into() };
    given::<Driver>([]).when(DriverCommand::Cancel { vacation: "w".into() }).then_refused(none);
}

// ANCHOR: killed
/// The two programs, each killed on its way whenever the seed likes, and once more in the end; and
/// the broker once, while they tell and hear.
#[tokio::test(flavor = "multi_thread")]
async fn both_departments_and_the_broker_are_killed_and_in_the_end_they_agree() {
    let rounds = u32::try_from(leftfold::testing::extent(16, 60)).unwrap();
    let kills = rounds as usize / 4;
    let place = tempfile::tempdir().unwrap();
    let place = place.path().join("store").to_str().unwrap().to_owned();
    let mut broker = NatsServer::start();
    let witness = async_nats::connect(broker.url()).await.unwrap();
    let mut witnessed = witness.subscribe(VACATIONS).await.unwrap();
    let program = examples::built("fleet");
    let killing = ["people", "assignment"].map(|department| {
        let (program, place, url) = (program.clone(), place.clone(), broker.url());
        let command = move || {
            let mut command = Command::new(&program);
            command.args([department, &place, &rounds.to_string()]).env("FLEET_NATS", &url);
            command
        };
        tokio::task::spawn_blocking(move || examples::killed_service(&command, kills, ALL_RECORDED))
    });
    for _ in 0..50 {
        tokio::time::timeout(SOON, witnessed.next()).await.unwrap().unwrap();
    }
    broker.stop_hard();
    broker.start_again();
    for killed in killing {
        killed.await.unwrap();
    }
    judge(&Places::in_place(&place), rounds, &broker.url()).await;
}
// ANCHOR_END: killed

/// Lets both departments do what is left, and compares one with the other.
async fn judge(places: &Places, rounds: u32, url: &str) {
    let people = leftfold::open(&places.people).await.unwrap();
    let assignment = leftfold::open(&places.assignment).await.unwrap();
    let (nats, report) = (programs::servers(url).unwrap(), Memory::<Report>::new());
    let office = people::start(&people, nats.bus()).await.unwrap();
    let receiver = programs::receive(&nats, &assignment);
    let side = programs::assigning(&assignment, &report).await.unwrap();

    let mut news = assignment.follow::<FleetEvent>(Position::START).unwrap();
    let settled = async {
        while !agree(&people, &assignment).await || !is_settled(&assignment, &side, &report).await {
            news.next().await.unwrap();
        }
    };
    if tokio::time::timeout(SOON, settled).await.is_err() {
        panic!("they do not agree; {}", *receiver.status().borrow());
    }
    assert_eq!(receiver.status().borrow().poisoned, 0);
    receiver.stop().await.unwrap();
    side.stop().await.unwrap();
    office.stop().await.unwrap();

    let all = assignment.read(leftfold::store::Read::matching(Query::all(), Position(1)));
    no_assignment_was_stale(&all.all().await.unwrap()).unwrap();
    for number in 0..DRIVERS {
        let drivers = people.aggregate::<Driver>();
        let told = drivers.history(&driver_id(number), Version(1)).unwrap().all().await.unwrap();
        let plans = (0..rounds).map(|round| if (round + number) % 4 == 0 { 1 } else { 2 });
        assert_eq!(told.len(), plans.sum::<usize>(), "every plan was recorded once");
        let absences = assignment.aggregate::<Absence>();
        let known = absences.history(&driver_id(number), Version(1)).unwrap().all().await.unwrap();
        let versions: std::collections::BTreeSet<u64> = known
            .iter()
            .map(|known| match known.event {
                AbsenceEvent::Noted { version, .. } | AbsenceEvent::Lifted { version, .. } => {
                    version
                }
            })
            .collect();
        assert_eq!(versions.len(), known.len(), "nothing that was told had an effect twice");
    }
}

/// Tells whether the picture that one side has of all drivers is what the other side says of them.
async fn agree(people: &Store, assignment: &Store) -> bool {
    for number in 0..DRIVERS {
        let driver = driver_id(number);
        let says = people.aggregate::<Driver>().load(&driver).await.unwrap().state.vacations;
        let knows = assignment.aggregate::<Absence>().load(&driver).await.unwrap().state.vacations;
        if says != knows {
            return false;
        }
    }
    true
}

/// Tells whether every exception is fixed.
async fn is_settled(assignment: &Store, side: &RunningRuntime, report: &Memory<Report>) -> bool {
    let head = assignment.head().position;
    side.projections().wait_until(ExceptionReport::NAME, head, SOON).await.unwrap();
    report.read(exceptions).await.is_empty()
}
