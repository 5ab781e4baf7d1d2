//! Reactions, their commands, refusals.

use leftfold_core::fold::{Aggregates, Recorded};
use leftfold_core::runtime::process::{
    Context, Correlation, PROCESS_LEASE, Process, Reaction, Targets, Trigger,
};
use leftfold_core::store::{Position, Query};

use crate::clerk::{self, Act, starts, until_written, works, write};
use crate::runtime_stage::{SECOND, Stage, until};
use crate::transfer::{Move, Purse, PurseEvent, PurseRefusal, Transfer};

async fn filled(purses: &Aggregates<Purse>) {
    purses.execute("a", Move::Fill { amount: 10 }).await.unwrap();
    purses.execute("b", Move::Fill { amount: 1 }).await.unwrap();
}

fn ask(transfer: &str, amount: u64) -> Move {
    Move::AskTransfer { transfer: transfer.to_owned(), to: "b".to_owned(), amount }
}

/// Waits until so many transfers of a purse have ended.
async fn ended(purses: &Aggregates<Purse>, id: &str, count: usize) -> Purse {
    let mut news = purses.store().subscribe(Query::all(), Position::START);
    loop {
        let purse = purses.load(id).await.unwrap().state;
        if purse.ended.len() >= count {
            return purse;
        }
        news.event().await.unwrap();
    }
}

#[tokio::test]
async fn a_transfer_goes_from_one_purse_to_the_other() {
    let stage = Stage::new();
    let process = stage.process();
    let purses = process.store.aggregate::<Purse>();
    filled(&purses).await;
    let running = process.runtime().process::<Transfer>().start().await.unwrap();
    purses.execute("a", ask("t1", 4)).await.unwrap();
    let a = ended(&purses, "a", 1).await;
    assert_eq!((a.amount, a.ended), (6, vec![("t1".to_owned(), None)]));
    assert_eq!(purses.load("b").await.unwrap().state.amount, 5);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_refused_command_comes_back_with_its_reason_and_is_compensated() {
    let stage = Stage::new();
    let process = stage.process();
    let purses = process.store.aggregate::<Purse>();
    filled(&purses).await;
    purses.execute("b", Move::Close).await.unwrap();
    let running = process.runtime().process::<Transfer>().start().await.unwrap();
    purses.execute("a", ask("too-much", 40)).await.unwrap();
    purses.execute("a", ask("to-a-closed-one", 4)).await.unwrap();
    let a = ended(&purses, "a", 2).await;
    assert_eq!(a.amount, 10);
    let too_little = PurseRefusal::TooLittle { amount: 40, there: 10 }.to_string();
    assert!(a.ended.contains(&("too-much".to_owned(), Some(too_little.clone()))), "{a:?}");
    assert!(
        a.ended.contains(&("to-a-closed-one".to_owned(), Some("paid back".to_owned()))),
        "{a:?}"
    );
    let status = running.processes().find("transfer", "too-much").await.unwrap().unwrap();
    assert_eq!(status.refused[0].reason(), too_little);
    running.stop().await.unwrap();
}

/// Fills a purse again a minute after it was closed.
#[derive(Debug, Default)]
struct Reminder;

impl Process for Reminder {
    const NAME: &'static str = "reminder";
    type Event = PurseEvent;

    fn targets() -> Targets {
        Targets::of::<Purse>()
    }

    fn correlate(event: &Recorded<PurseEvent>) -> Correlation {
        match event.event {
            PurseEvent::Closed => Correlation::starts(event.stream_id()),
            _ => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<PurseEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<PurseEvent>, context: &Context) -> Reaction {
        match trigger {
            Trigger::Event(_) => Reaction::none().timer("minute", SECOND * 60),
            _ => Reaction::none().command::<Purse>(&context.key, Move::Fill { amount: 1 }).end(),
        }
    }
}

/// A runner that began on an empty store looked for timers in every minute since the year -9999.
#[tokio::test]
async fn a_timer_fires_in_a_store_that_was_empty_when_the_process_started() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().process::<Reminder>().start().await.unwrap();
    let purses = process.store.aggregate::<Purse>();
    purses.execute("a", Move::Close).await.unwrap();
    let mut reactions =
        process.store.subscribe(Query::category("$process:reminder"), Position::START);
    reactions.event().await.unwrap();
    stage.clock.advance(SECOND * 61);
    reactions.event().await.unwrap();
    let mut filled = process.store.subscribe(Query::category("purse"), Position(1));
    filled.event().await.unwrap();
    assert_eq!(purses.load("a").await.unwrap().state.amount, 1);
    running.stop().await.unwrap();
}

/// Whatever else is under way, and whenever the program is killed.
#[tokio::test]
async fn what_one_reaction_commands_of_one_aggregate_is_carried_out_in_the_order_given() {
    let stage = Stage::new();
    let asking = stage.process();
    let texts: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let desks = ["a", "b", "c"];
    let acts: Vec<Act> =
        texts.iter().flat_map(|text| desks.map(|desk| write(desk, text))).collect();
    clerk::ask(&asking.store, starts("orders", acts)).await;
    // Killed when some are carried out, so that the folds of their desks are gone too.
    for written in [1, 17, 18] {
        let process = stage.process();
        let running = works(&process).await;
        until("some are written", async || clerk::texts(&asking.store, "b").await.len() >= written)
            .await;
        process.kill();
        drop(running);
        stage.clock.advance(PROCESS_LEASE);
    }
    let running = works(&stage.process()).await;
    for desk in desks {
        until_written(&asking.store, desk, &texts.iter().map(String::as_str).collect::<Vec<_>>())
            .await;
    }
    running.stop().await.unwrap();
}
