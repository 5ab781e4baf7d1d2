//! Commands that are sent once, at a time: each takes effect once, unless it was cancelled in time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use leftfold_core::copy::Copy;
use leftfold_core::fold::{Aggregate, Event};
use leftfold_core::runtime::Clock;
use leftfold_core::runtime::process::Whose;
use leftfold_core::runtime::scheduled::{
    SCHEDULED_ID_BYTES_MAX, ScheduleError, ScheduleRefusal, ScheduledCommand, ScheduledState,
    ScheduledStatus,
};
use leftfold_core::store::{Kind, Store, Timestamp, Version};
use serde::{Deserialize, Serialize};

use crate::runtime_stage::{Crash, Fault, Faults, Process, SECOND, Stage, until};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum AuctionEvent {
    Closed { note: String },
}

impl Event for AuctionEvent {
    const NAMESPACE: &'static str = "auction";
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Auction {
    closed: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("there is no bid")]
struct NoBid;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Close {
    Now { note: String },
    Refused,
}

impl Aggregate for Auction {
    const CATEGORY: &'static str = "auction";
    type Event = AuctionEvent;
    type Command = Close;
    type Refusal = NoBid;

    fn apply(&mut self, _: &AuctionEvent) {
        self.closed += 1;
    }

    fn decide(&self, close: &Close) -> Result<Vec<AuctionEvent>, NoBid> {
        match close {
            Close::Now { note } => Ok(vec![AuctionEvent::Closed { note: note.clone() }]),
            Close::Refused => Err(NoBid),
        }
    }
}

fn closing(store: &Store) -> ScheduledCommand<Auction> {
    store.scheduled("closing of 17")
}

fn now(note: &str) -> Close {
    Close::Now { note: note.to_owned() }
}

/// Does what there is to do, as a program that is started for that.
async fn run(process: &Process) {
    process.runtime().scheduled::<Auction>().run_until_idle().await.unwrap();
}

async fn closed(stage: &Stage, id: &str) -> Vec<String> {
    let auctions = stage.process().store.aggregate::<Auction>();
    let history = auctions.history(id, Version(1)).unwrap().all().await.unwrap();
    let note = |AuctionEvent::Closed { note }| note;
    history.into_iter().map(|recorded| note(recorded.event)).collect()
}

fn refusal(answer: Result<(), ScheduleError>) -> ScheduleRefusal {
    match answer {
        Err(ScheduleError::Refused { refusal, .. }) => refusal,
        other => panic!("it was not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_command_takes_effect_at_its_time_and_not_before() {
    let stage = Stage::new();
    let at = stage.clock.now().plus(DAY);
    closing(&stage.process().store).send("17", &now("sold"), at).await.unwrap();
    run(&stage.process()).await;
    stage.clock.advance(DAY - Duration::from_secs(1));
    run(&stage.process()).await;
    assert!(closed(&stage, "17").await.is_empty());
    let open = ScheduledStatus { target: "17".to_owned(), at, state: ScheduledState::Open };
    assert_eq!(closing(&stage.process().store).status().await, Ok(Some(open.clone())));

    stage.clock.advance(Duration::from_secs(1));
    run(&stage.process()).await;
    run(&stage.process()).await;
    assert_eq!(closed(&stage, "17").await, ["sold"]);
    let done = ScheduledStatus { state: ScheduledState::CarriedOut, ..open };
    assert_eq!(closing(&stage.process().store).status().await, Ok(Some(done)));
}

#[tokio::test]
async fn a_time_that_has_passed_is_now() {
    let stage = Stage::new();
    closing(&stage.process().store).send("17", &now("late"), Timestamp::MIN).await.unwrap();
    stage.clock.advance(SECOND);
    run(&stage.process()).await;
    assert_eq!(closed(&stage, "17").await, ["late"]);
}

#[tokio::test]
async fn with_two_runtimes_and_restarts_each_command_takes_effect_once() {
    let stage = Stage::new();
    let (one, other) = (stage.process(), stage.process());
    let start =
        async |process: &Process| process.runtime().scheduled::<Auction>().start().await.unwrap();
    let runtimes = [start(&one).await, start(&other).await];
    for hour in 1..=5_u32 {
        let command: ScheduledCommand<Auction> = other.store.scheduled(format!("number {hour}"));
        command
            .send("17", &now(&hour.to_string()), stage.clock.now().plus(HOUR * hour))
            .await
            .unwrap();
    }
    for hour in 1..=3 {
        stage.clock.advance(HOUR);
        until("it takes effect", async || closed(&stage, "17").await.len() == hour).await;
    }
    for runtime in runtimes {
        runtime.stop().await.unwrap();
    }
    stage.clock.advance(2 * HOUR);
    run(&stage.process()).await;
    assert_eq!(closed(&stage, "17").await, ["1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_command_can_be_moved_both_ways_and_cancelled_until_it_is_due() {
    let stage = Stage::new();
    let store = stage.process().store;
    let begin = stage.clock.now();
    let command = closing(&store);
    command.send("17", &now("sold"), begin.plus(DAY)).await.unwrap();
    run(&stage.process()).await;
    command.move_to(begin.plus(2 * DAY)).await.unwrap();
    stage.clock.advance(DAY + HOUR);
    run(&stage.process()).await;
    assert!(closed(&stage, "17").await.is_empty());
    command.move_to(begin.plus(DAY)).await.unwrap();
    run(&stage.process()).await;
    assert_eq!(closed(&stage, "17").await, ["sold"]);
    let too_late = ScheduleRefusal::TooLate { due: begin.plus(DAY) };
    assert_eq!(refusal(command.move_to(begin.plus(3 * DAY)).await), too_late);
    assert_eq!(refusal(command.cancel().await), too_late);

    let unwanted: ScheduledCommand<Auction> = store.scheduled("closing of 18");
    unwanted.send("18", &now("sold"), begin.plus(2 * DAY)).await.unwrap();
    unwanted.cancel().await.unwrap();
    unwanted.cancel().await.unwrap();
    assert_eq!(refusal(unwanted.move_to(begin).await), ScheduleRefusal::Cancelled);
    assert_eq!(
        refusal(unwanted.send("18", &now("sold"), begin.plus(2 * DAY)).await),
        ScheduleRefusal::Cancelled
    );
    stage.clock.advance(5 * DAY);
    run(&stage.process()).await;
    assert!(closed(&stage, "18").await.is_empty());
    assert_eq!(
        unwanted.status().await.unwrap().map(|status| status.state),
        Some(ScheduledState::Cancelled)
    );
}

#[tokio::test]
async fn the_same_request_is_recorded_once_and_another_one_under_its_id_is_refused() {
    let stage = Stage::new();
    let process = stage.process();
    let at = stage.clock.now().plus(HOUR);
    let command = closing(&process.store);
    command.send("17", &now("sold"), at).await.unwrap();
    let head = process.store.head();
    command.send("17", &now("sold"), at).await.unwrap();
    assert_eq!(process.store.head(), head);
    let taken = ScheduleRefusal::Taken { target: "17".to_owned(), at };
    for (target, note, at) in
        [("18", "sold", at), ("17", "gone", at), ("17", "sold", at.plus(HOUR))]
    {
        assert_eq!(refusal(command.send(target, &now(note), at).await), taken);
    }
    // What was asked for counts, wherever it was moved to.
    command.move_to(at.plus(HOUR)).await.unwrap();
    command.send("17", &now("sold"), at).await.unwrap();
    assert_eq!(command.status().await.unwrap().map(|status| status.at), Some(at.plus(HOUR)));
    stage.clock.advance(2 * HOUR);
    run(&process).await;
    command.send("17", &now("sold"), at).await.unwrap();
    run(&process).await;
    assert_eq!(closed(&stage, "17").await, ["sold"]);
}

/// Ids and commands that cannot be recorded are reported when they are sent.
#[tokio::test]
async fn what_cannot_be_recorded_is_told_with_the_id_and_what_is_wrong() {
    let stage = Stage::new();
    let store = stage.process().store;
    let at = stage.clock.now();
    let long = "x".repeat(SCHEDULED_ID_BYTES_MAX + 1);
    for (id, target, note, says) in [
        ("", "17", "sold", "scheduled command \"\" cannot be recorded"),
        (long.as_str(), "17", "sold", "the id of a scheduled command"),
        ("one", "", "sold", "scheduled command \"one\" cannot be recorded"),
        ("one", &long.repeat(3), "sold", "scheduled command \"one\" cannot be recorded"),
        ("one", "17", &"x".repeat(2 << 20), "a scheduled command"),
    ] {
        let command: ScheduledCommand<Auction> = store.scheduled(id);
        let error = command.send(target, &now(note), at).await.unwrap_err();
        assert!(error.to_string().contains(says) && error.kind() == Kind::Invalid, "{error}");
    }
    let unknown: ScheduledCommand<Auction> = store.scheduled("nothing");
    assert_eq!(refusal(unknown.cancel().await), ScheduleRefusal::Unknown);
    assert_eq!(refusal(unknown.move_to(at).await), ScheduleRefusal::Unknown);
    assert_eq!(unknown.status().await, Ok(None));
    assert_eq!(store.head().position.0, 0);
}

#[tokio::test]
async fn what_is_refused_is_recorded_with_its_reason() {
    let stage = Stage::new();
    let command = closing(&stage.process().store);
    command.send("17", &Close::Refused, stage.clock.now()).await.unwrap();
    stage.clock.advance(SECOND);
    run(&stage.process()).await;
    let state = command.status().await.unwrap().map(|status| status.state);
    assert_eq!(state, Some(ScheduledState::Refused { reason: NoBid.to_string() }));
}

/// The command of a later release, for the same aggregates.
mod later {
    use super::{Aggregate, AuctionEvent, Deserialize, NoBid, Serialize};

    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    pub(super) struct Auction;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub(super) enum Close {
        WithPrice { price: u32 },
    }

    impl Aggregate for Auction {
        const CATEGORY: &'static str = "auction";
        type Event = AuctionEvent;
        type Command = Close;
        type Refusal = NoBid;

        fn apply(&mut self, _: &AuctionEvent) {}

        fn decide(&self, Close::WithPrice { price }: &Close) -> Result<Vec<AuctionEvent>, NoBid> {
            Ok(vec![AuctionEvent::Closed { note: price.to_string() }])
        }
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_read_any_more_is_parked_and_others_go_on() {
    let stage = Stage::new();
    let process = stage.process();
    closing(&process.store).send("17", &now("sold"), stage.clock.now()).await.unwrap();
    let readable: ScheduledCommand<later::Auction> = process.store.scheduled("closing of 18");
    readable.send("18", &later::Close::WithPrice { price: 5 }, stage.clock.now()).await.unwrap();
    stage.clock.advance(SECOND);
    let runtime = process.runtime().scheduled::<later::Auction>().start().await.unwrap();
    let parked = async || runtime.processes().parked("scheduled:auction").await.unwrap();
    until("it is parked", async || parked().await.len() == 1).await;
    until("the other one took effect", async || closed(&stage, "18").await == ["5"]).await;
    let parked = parked().await;
    let error = parked[0].error.as_deref().unwrap_or_default();
    assert_eq!(parked[0].whose, Whose::Instance("closing of 17".to_owned()));
    assert!(
        error.contains("scheduled command closing of 17 for auction-17 does not parse"),
        "{error}"
    );
    until("the status says so", async || {
        runtime.status().iter().any(|status| status.waits_for.contains("instance closing of 17"))
    })
    .await;
    runtime.stop().await.unwrap();

    // The release that can read it carries it out.
    let process = stage.process();
    let runtime = process.runtime().scheduled::<Auction>().start().await.unwrap();
    let whose = Whose::Instance("closing of 17".to_owned());
    until("it has the work", async || runtime.status().iter().all(|status| !status.standby)).await;
    assert_eq!(runtime.processes().retry("scheduled:auction", &whose).await, Ok(1));
    until("it took effect", async || closed(&stage, "17").await == ["sold"]).await;
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_store_that_takes_nothing_is_waited_for() {
    let stage = Stage::new();
    let process = stage.process();
    closing(&process.store).send("17", &now("sold"), stage.clock.now().plus(HOUR)).await.unwrap();
    let runtime = process.runtime().scheduled::<Auction>().start().await.unwrap();
    until("it has read all", async || {
        runtime.status().iter().all(|status| status.through == status.head)
    })
    .await;
    process.faults.set(Fault::ReadOnly);
    stage.clock.advance(HOUR);
    until("it waits", async || runtime.status().iter().any(|status| status.stalled)).await;
    process.faults.set(Fault::None);
    until("it took effect", async || {
        stage.clock.advance(Duration::from_secs(1));
        closed(&stage, "17").await == ["sold"]
    })
    .await;
    runtime.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_of_the_store_loses_no_command_and_doubles_none() {
    for crash in [Crash::Before, Crash::After] {
        for call in 0.. {
            let stage = Stage::new();
            let store = stage.process().store;
            for id in ["17", "18"] {
                let command: ScheduledCommand<Auction> =
                    store.scheduled(format!("closing of {id}"));
                command.send(id, &now("sold"), stage.clock.now().plus(HOUR)).await.unwrap();
            }
            run(&stage.process()).await;
            stage.clock.advance(HOUR);
            let crashing = stage.process();
            crashing.faults.crash_at(call, crash);
            let runtime = crashing.runtime().scheduled::<Auction>();
            let _ = tokio::time::timeout(Duration::from_secs(10), runtime.run_until_idle()).await;
            let is_over = crashing.faults.calls() <= call;
            // The lease of the one that was killed is over.
            stage.clock.advance(HOUR);
            run(&stage.process()).await;
            for id in ["17", "18"] {
                assert_eq!(
                    closed(&stage, id).await,
                    ["sold"],
                    "{id}, killed {crash:?} call {call}"
                );
            }
            if is_over {
                assert!(call > 8, "{call} calls are too few");
                break;
            }
        }
    }
}

type Answer = Arc<Mutex<Option<Result<(), ScheduleError>>>>;

/// Cancels just before an append of a process.
fn cancel_before(append: usize, faults: &Arc<Faults>, store: Store, answer: Answer) {
    let again = faults.clone();
    faults.before_append(move || match append.checked_sub(1) {
        Some(append) => cancel_before(append, &again, store, answer),
        None => *answer.lock().unwrap() = closing(&store).cancel().now_or_never(),
    });
}

#[tokio::test]
async fn a_cancellation_before_any_append_of_the_firing_wins_or_is_told_that_it_came_too_late() {
    let (mut won, mut lost) = (0, 0);
    for append in 0.. {
        let stage = Stage::new();
        let at = stage.clock.now().plus(HOUR);
        closing(&stage.process().store).send("17", &now("sold"), at).await.unwrap();
        run(&stage.process()).await;
        stage.clock.advance(HOUR);
        let (process, answer) = (stage.process(), Answer::default());
        cancel_before(append, &process.faults, stage.process().store, answer.clone());
        run(&process).await;
        run(&stage.process()).await;
        let answer = answer.lock().unwrap().take();
        match answer {
            Some(Ok(())) => {
                won += 1;
                assert!(closed(&stage, "17").await.is_empty(), "cancelled before append {append}");
            }
            Some(late) => {
                lost += 1;
                assert_eq!(refusal(late), ScheduleRefusal::TooLate { due: at });
                assert_eq!(closed(&stage, "17").await, ["sold"]);
            }
            None => break,
        }
    }
    assert!(won > 1 && lost > 1, "won {won} times and lost {lost} times");
}

/// A restart reads what changed, and none of what is scheduled for later.
#[tokio::test]
async fn the_calls_of_a_start_do_not_grow_with_what_is_scheduled() {
    let mut calls = Vec::new();
    for count in [10, 2_000] {
        let stage = Stage::new();
        let process = stage.process();
        for number in 0..count {
            let command: ScheduledCommand<Auction> =
                process.store.scheduled(format!("number {number}"));
            command.send("17", &now("sold"), stage.clock.now().plus(DAY * 30)).await.unwrap();
        }
        run(&process).await;
        let again = stage.process();
        run(&again).await;
        calls.push(again.faults.calls());
    }
    assert!(calls[1] <= calls[0] + 2, "{calls:?}");
}

#[tokio::test]
async fn what_is_scheduled_is_carried_out_from_a_copy_of_the_store() {
    let (before, after) = (Stage::new(), Stage::new());
    let (old, new) = (before.process(), after.process());
    let begin = before.clock.now();
    before.clock.advance(HOUR / 2);
    after.clock.advance(HOUR / 2);
    let due: ScheduledCommand<Auction> = old.store.scheduled("closing of 16");
    due.send("16", &now("early"), begin).await.unwrap();
    closing(&old.store).send("17", &now("sold"), begin.plus(HOUR)).await.unwrap();
    closing(&old.store).move_to(begin.plus(DAY)).await.unwrap();
    run(&old).await;
    // One that no runtime knows of yet.
    let unheard: ScheduledCommand<Auction> = old.store.scheduled("closing of 18");
    unheard.send("18", &now("unheard"), begin.plus(DAY)).await.unwrap();

    let copy =
        Copy::from(&old.store).into(&new.store).through(|_| leftfold_core::copy::Transformed::Keep);
    copy.switch().await.unwrap();
    assert_eq!(copy.verify().await.unwrap().difference, None);
    run(&new).await;
    assert_eq!((closed(&after, "16").await.len(), closed(&after, "17").await.len()), (1, 0));
    assert_eq!(closing(&new.store).status().await, closing(&old.store).status().await);
    after.clock.advance(DAY + HOUR);
    run(&new).await;
    assert_eq!(closed(&after, "16").await, ["early"]);
    assert_eq!(closed(&after, "17").await, ["sold"]);
    assert_eq!(closed(&after, "18").await, ["unheard"]);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum StayEvent {
    Reminded {},
}

impl Event for StayEvent {
    const NAMESPACE: &'static str = "stay";
}

/// A guest's stay, of which the mail is an effect of `Reminded`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Stay {
    reminded: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remind;

impl Aggregate for Stay {
    const CATEGORY: &'static str = "stay";
    type Event = StayEvent;
    type Command = Remind;
    type Refusal = NoBid;

    fn apply(&mut self, _: &StayEvent) {
        self.reminded += 1;
    }

    fn decide(&self, _: &Remind) -> Result<Vec<StayEvent>, NoBid> {
        Ok(vec![StayEvent::Reminded {}])
    }
}

// ANCHOR: send
/// Reminds the guest a day before the stay begins.
async fn remind(store: &Store, stay: &str, begins_at: Timestamp) -> Result<(), ScheduleError> {
    let reminder = store.scheduled::<Stay>(format!("reminder of {stay}"));
    reminder.send(stay, &Remind, begins_at.minus(DAY)).await
}
// ANCHOR_END: send

// ANCHOR: change
async fn postpone(store: &Store, stay: &str, begins_at: Timestamp) -> Result<(), ScheduleError> {
    store.scheduled::<Stay>(format!("reminder of {stay}")).move_to(begins_at.minus(DAY)).await
}

async fn call_off(store: &Store, stay: &str) -> Result<(), ScheduleError> {
    store.scheduled::<Stay>(format!("reminder of {stay}")).cancel().await
}
// ANCHOR_END: change

#[tokio::test]
async fn a_guest_is_reminded_once_of_a_postponed_stay_and_never_of_one_that_was_called_off() {
    let stage = Stage::new();
    let store = stage.process().store;
    let begins_at = stage.clock.now().plus(7 * DAY);
    for stay in ["7", "8"] {
        remind(&store, stay, begins_at).await.unwrap();
    }
    postpone(&store, "7", begins_at.plus(DAY)).await.unwrap();
    call_off(&store, "8").await.unwrap();
    let mut reminded = Vec::new();
    for _day in 0..9 {
        stage.clock.advance(DAY);
        stage.process().runtime().scheduled::<Stay>().run_until_idle().await.unwrap();
        let count = async |id| store.aggregate::<Stay>().load(id).await.unwrap().state.reminded;
        reminded.push((count("7").await, count("8").await));
    }
    let never_8 = |day| (u32::from(day >= 6), 0);
    assert_eq!(reminded, (0..9).map(never_8).collect::<Vec<_>>());
}
