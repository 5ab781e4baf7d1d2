//! `leftfold consumers`: who reads the store, how far each is, and who does the work.

use std::collections::BTreeMap;

use clap::Args;
use leftfold::store::{AppendsFrom, HeldLease, Position, Store, Timestamp};
use serde_json::{Value, json};

use crate::access::StoreArgument;
use crate::commands::read::end_of;
use crate::failure::CliFailure;
use crate::progress::{Interrupt, Measure, ProgressLine};
use crate::screen::{Screen, Side, TextTable, count, counted};

/// Bytes of appends that are read at once.
const PAGE_BYTES: u32 = 2 << 20;
/// Consumers that are listed at most.
const CONSUMERS_MAX: usize = 100_000;

/// Lists consumers, with their places and who does their work
///
/// Those that keep their checkpoint in the store: processes, effects, outboxes, and an
/// application's own; read models keep theirs in their database. It reads the whole store. Who does
/// the work is known by its lease, which only the program that writes has: give the address of its
/// server.
#[derive(Debug, Args)]
pub(crate) struct ConsumersArguments {
    #[command(flatten)]
    store: StoreArgument,
}

/// A consumer, as the store knows it.
#[derive(Clone, Debug)]
struct ListedConsumer {
    name: String,
    position: Position,
    moves: u64,
    moved_at: Option<Timestamp>,
    /// True if its checkpoint is one in another store.
    elsewhere: bool,
    work: Option<Work>,
}

/// Work that a runtime does now.
#[derive(Clone, Debug)]
struct Work {
    runtime: String,
    until: Timestamp,
    through: u64,
    waits_for: String,
}

pub(crate) async fn run(
    arguments: &ConsumersArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let store = arguments.store.open_to_read().await?;
    let end = end_of(&store).await?;
    let mut consumers = checkpoints(&store, end).await?;
    // A follower knows no leases, which is no error of a list.
    let leases = store.leases().await.unwrap_or_default();
    add_works(&mut consumers, &leases);
    if screen.is_json() {
        for consumer in consumers.values() {
            screen.object(&object(consumer, end))?;
        }
        return screen.flush();
    }
    let (left, right) = (Side::Left, Side::Right);
    let mut table = TextTable::new(&[
        ("consumer", left),
        ("position", right),
        ("behind", right),
        ("moves", right),
        ("last moved", left),
        ("done by", left),
        ("waits for", left),
    ]);
    for consumer in consumers.values() {
        let behind = match consumer.elsewhere {
            true => "-".to_owned(),
            false => count(end.0.saturating_sub(consumer.position.0)),
        };
        let work = consumer.work.as_ref();
        table.row(vec![
            consumer.name.clone(),
            count(consumer.position.0),
            behind,
            count(consumer.moves),
            consumer.moved_at.map_or("-".to_owned(), |at| screen.time(at)),
            work.map_or("-".to_owned(), |work| work.runtime.clone()),
            work.map_or(String::new(), |work| work.waits_for.clone()),
        ]);
    }
    if !table.is_empty() {
        screen.table(&table)?;
    }
    screen.note(&counted(consumers.len() as u64, "consumer"))
}

/// Finds the last checkpoint of each consumer, by its name and its source.
async fn checkpoints(
    store: &Store,
    end: Position,
) -> Result<BTreeMap<(String, String), ListedConsumer>, CliFailure> {
    let interrupt = Interrupt::listen();
    let mut progress = ProgressLine::of("reading", Measure::Things("events"), end.0);
    let own = store.identity().store;
    let mut consumers: BTreeMap<(String, String), ListedConsumer> = BTreeMap::new();
    let mut from = AppendsFrom::After(Position::START);
    loop {
        interrupt.check(None)?;
        let page = store.appends(from, PAGE_BYTES).await?;
        if page.appends.is_empty() {
            return Ok(consumers);
        }
        for append in page.appends {
            progress.at(append.last().0);
            let Some((name, checkpoint)) = &append.checkpoint else { continue };
            let key = (name.to_string(), checkpoint.store.to_string());
            if !consumers.contains_key(&key) && consumers.len() == CONSUMERS_MAX {
                let most = count(CONSUMERS_MAX as u64);
                return Err(CliFailure::Failed(format!("there are more than {most} consumers")));
            }
            let consumer = consumers.entry(key).or_insert_with(|| ListedConsumer {
                name: name.to_string(),
                position: Position::START,
                moves: 0,
                moved_at: None,
                elsewhere: checkpoint.store != own,
                work: None,
            });
            consumer.position = checkpoint.position;
            consumer.moves += 1;
            let recorded = append.events.first().map(|event| event.recorded_at);
            consumer.moved_at = recorded.or(consumer.moved_at);
        }
        from = page.next;
    }
}

/// Returns the names of the runtimes on a store by their ids, as their leases say.
pub(crate) fn runtimes(leases: &[HeldLease]) -> BTreeMap<String, String> {
    let named = leases.iter().filter_map(|lease| {
        let member = note_of(lease)?;
        Some((lease.work.strip_prefix("$runtime:")?.to_owned(), text_in(&member, "name")))
    });
    named.collect()
}

fn note_of(lease: &HeldLease) -> Option<Value> {
    serde_json::from_slice(&lease.note).ok()
}

fn text_in(note: &Value, name: &str) -> String {
    note[name].as_str().unwrap_or_default().to_owned()
}

/// Adds who does the work, by the leases of runtimes and the notes on them.
fn add_works(consumers: &mut BTreeMap<(String, String), ListedConsumer>, leases: &[HeldLease]) {
    let names = runtimes(leases);
    for lease in leases.iter().filter(|lease| !lease.work.starts_with("$runtime:")) {
        let Some(note) = note_of(lease) else { continue };
        let runtime = text_in(&note, "runtime");
        let work = Work {
            runtime: names.get(&runtime).cloned().unwrap_or(runtime),
            until: lease.until,
            through: note["through"].as_u64().unwrap_or(0),
            waits_for: text_in(&note, "waits_for"),
        };
        let name = lease.work.to_string();
        match consumers.values_mut().find(|consumer| consumer.name == name) {
            Some(consumer) => consumer.work = Some(work),
            None => {
                let consumer = ListedConsumer {
                    name: name.clone(),
                    position: Position(work.through),
                    moves: 0,
                    moved_at: None,
                    elsewhere: false,
                    work: Some(work),
                };
                consumers.insert((name, String::new()), consumer);
            }
        }
    }
}

fn object(consumer: &ListedConsumer, end: Position) -> Value {
    let behind = end.0.saturating_sub(consumer.position.0);
    let work = consumer.work.as_ref().map(|work| {
        json!({
            "runtime": work.runtime,
            "until": work.until.to_string(),
            "through": work.through,
            "waitsFor": work.waits_for,
        })
    });
    json!({
        "consumer": consumer.name,
        "position": consumer.position.0,
        "behind": (!consumer.elsewhere).then_some(behind),
        "moves": consumer.moves,
        "movedAt": consumer.moved_at.map(|at| at.to_string()),
        "work": work,
    })
}
