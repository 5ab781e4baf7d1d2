//! `leftfold effects` and `leftfold parked`: work that is open, as the records of the runtime say.

use std::collections::BTreeMap;

use clap::Args;
use leftfold::store::{
    EventType, Position, Query, QueryItem, Read, RecordedEvent, Store, StreamMatch, System,
    Timestamp, TypeMatch,
};
use serde_json::{Value, json};

use super::listed::{ListArguments, ListedParked, listed};
use crate::access::StoreArgument;
use crate::failure::CliFailure;
use crate::progress::{Interrupt, Measure, ProgressLine};
use crate::screen::{Screen, Side, TextTable, count, counted};

const OF_EFFECTS: &str = "say what became of one in doubt with `leftfold resolve`";
const OF_PARKED: &str =
    "have them tried again with `leftfold retry`, or let go with `leftfold skip`";

/// Reason of an item that has none of its own.
const WAITS: &str = "waits behind another";

/// Lists effects whose attempts are open, in doubt or waiting
///
/// An effect is known here from its first attempt on. `leftfold resolve` says what became of one in
/// doubt.
#[derive(Debug, Args)]
pub(crate) struct EffectsArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Lists those that are concluded, too
    #[arg(long)]
    all: bool,
    /// Lists only those that may have taken place, and wait for a look or a person
    #[arg(long, conflicts_with = "all")]
    in_doubt: bool,
}

/// Lists what processes, inboxes, read models and outboxes have parked
///
/// What failed for good, and what waits behind it: see "leftfold retry" and "leftfold skip". What
/// processes and inboxes have parked is in the store. What read models and outboxes have parked is
/// in their targets, and the application is asked for it with --ask.
#[derive(Debug, Args)]
pub(crate) struct ParkedArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Lists those of this process, inbox, read model or outbox alone
    #[arg(long, visible_alias = "process", value_name = "NAME")]
    consumer: Option<String>,
    #[command(flatten)]
    list: ListArguments,
}

/// An effect, as its ledger says.
#[derive(Clone, Debug)]
struct LedgerLine {
    effect: String,
    state: &'static str,
    attempts: u64,
    since: Timestamp,
    detail: String,
}

pub(crate) async fn effects(
    arguments: &EffectsArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let store = arguments.store.open_to_read().await?;
    let mut ledgers: BTreeMap<u64, LedgerLine> = BTreeMap::new();
    let query = of_runtime(StreamMatch::Category("$effect".to_owned()), &[])?;
    each_event(&store, query, &mut |event| {
        let id = event.stream.as_ref().and_then(|at| at.name.id().parse().ok());
        let Some(id) = id else { return };
        let line = ledgers.entry(id).or_insert_with(|| LedgerLine {
            effect: String::new(),
            state: "pending",
            attempts: 0,
            since: event.recorded_at,
            detail: String::new(),
        });
        take(line, event);
    })
    .await?;
    ledgers.retain(|_, line| {
        let concluded = ["done", "not done"].contains(&line.state);
        match arguments.in_doubt {
            true => line.state == "in doubt",
            false => arguments.all || !concluded,
        }
    });
    let (left, right) = (Side::Left, Side::Right);
    let heads = [("id", right), ("effect", left), ("state", left), ("attempts", right)];
    let mut table = TextTable::new(&[&heads[..], &[("since", left), ("reason", left)]].concat());
    for (id, line) in &ledgers {
        if screen.is_json() {
            screen.object(&json!({
                "id": id,
                "effect": line.effect,
                "state": line.state,
                "attempts": line.attempts,
                "since": line.since.to_string(),
                "reason": line.detail,
            }))?;
        }
        let (number, since) = (id.to_string(), screen.time(line.since));
        let (effect, state, attempts) = (line.effect.clone(), line.state, count(line.attempts));
        table.row(vec![number, effect, state.to_owned(), attempts, since, line.detail.clone()]);
    }
    finish(&table, ("effect", OF_EFFECTS), ledgers.len(), screen)
}

/// Goes on with what is known of an effect, by one record of its ledger.
fn take(line: &mut LedgerLine, event: &RecordedEvent) {
    let data: Value = serde_json::from_slice(&event.data).unwrap_or_default();
    let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
    let (state, detail) = match event.event_type.rsplit('.').next().unwrap_or_default() {
        "AttemptOpened" => {
            line.attempts = data["number"].as_u64().unwrap_or(0);
            line.effect = text("effect");
            ("under way", format!("until {}", text("deadline")))
        }
        "AttemptFailed" => {
            ("waiting", format!("{}; again at {}", text("reason"), text("again_at")))
        }
        "Doubted" => ("in doubt", text("reason")),
        "Cancelled" => ("in doubt", format!("{} wants no more: {}", text("by"), text("reason"))),
        "Done" => ("done", format!("by {}", text("by"))),
        "NotDone" => ("not done", format!("by {}: {}", text("by"), text("reason"))),
        // An attempt did not take place; others may have.
        _ => return,
    };
    (line.state, line.detail, line.since) = (state, detail, event.recorded_at);
}

/// A trigger that is parked.
#[derive(Clone, Debug)]
struct ParkedLine {
    since: Timestamp,
    cause: Value,
    error: Option<String>,
}

pub(crate) async fn parked(
    arguments: &ParkedArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let store = arguments.store.open_to_read().await?;
    let mut streams: BTreeMap<String, Vec<ParkedLine>> = BTreeMap::new();
    for prefix in ["$process:", "$parked:"] {
        let at = match &arguments.consumer {
            Some(name) => StreamMatch::Category(format!("{prefix}{name}")),
            None => StreamMatch::Prefix(prefix.to_owned()),
        };
        let types = ["$process.Parked", "$process.Unparked", "$process.Skipped"];
        each_event(&store, of_runtime(at, &types)?, &mut |event| {
            let Some(stream) = &event.stream else { return };
            let parked = streams.entry(stream.name.to_string()).or_default();
            take_parked(parked, event);
        })
        .await?;
    }
    streams.retain(|_, parked| !parked.is_empty());
    let listed = listed(&arguments.store, &arguments.list, arguments.consumer.as_deref()).await?;
    print_parked(&streams, &listed, screen)?;
    match listed.remark {
        Some(remark) => Err(remark),
        None => Ok(()),
    }
}

/// Goes on with the triggers that are parked for a stream, by one record of the process.
fn take_parked(parked: &mut Vec<ParkedLine>, event: &RecordedEvent) {
    let data: Value = serde_json::from_slice(&event.data).unwrap_or_default();
    let cause = data["cause"].clone();
    if event.event_type.ends_with(".Parked") {
        let error = data["error"].as_str().map(ToOwned::to_owned);
        parked.push(ParkedLine { since: event.recorded_at, cause, error });
    } else if let Some(concluded) = parked.iter().position(|line| line.cause == cause) {
        parked.remove(concluded);
    }
}

fn print_parked(
    streams: &BTreeMap<String, Vec<ParkedLine>>,
    listed: &ListedParked,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let left = Side::Left;
    let heads = [("consumer", left), ("key", left), ("trigger", left), ("since", left)];
    let mut table = TextTable::new(&[&heads[..], &[("reason", left)]].concat());
    let mut number = 0;
    for (stream, parked) in streams {
        // A name of a process has no "-", so the first one ends it.
        let (process, instance) = stream.split_once('-').unwrap_or((stream, ""));
        let process = process.split_once(':').map_or(process, |(_, name)| name);
        for line in parked {
            number += 1;
            if screen.is_json() {
                screen.object(&json!({
                    "process": process,
                    "instance": instance,
                    "readable": stream.starts_with("$process:"),
                    "cause": line.cause,
                    "since": line.since.to_string(),
                    "reason": line.error,
                }))?;
            }
            let reason = line.error.clone().unwrap_or_else(|| WAITS.to_owned());
            let (since, cause) = (screen.time(line.since), shown_cause(&line.cause));
            table.row(vec![process.to_owned(), instance.to_owned(), cause, since, reason]);
        }
    }
    for (runtime, item) in &listed.items {
        let (consumer, position) = (&item.place.consumer, item.place.position);
        if screen.is_json() {
            screen.object(&json!({
                "consumer": consumer,
                "runtime": runtime,
                "key": item.key,
                "stream": item.stream,
                "position": position.0,
                "reason": item.error,
            }))?;
        }
        let reason = item.error.clone().unwrap_or_else(|| WAITS.to_owned());
        let trigger = format!("event at {}", count(position.0));
        table.row(vec![consumer.clone(), item.key.clone(), trigger, "-".to_owned(), reason]);
    }
    finish(&table, ("parked item", OF_PARKED), number + listed.items.len(), screen)
}

/// The trigger in words.
fn shown_cause(cause: &Value) -> String {
    let Some((kind, parts)) = cause.as_object().and_then(|object| object.iter().next()) else {
        return cause.to_string();
    };
    let name = parts["name"].as_str().or(parts["to"].as_str()).unwrap_or_default();
    let at = parts["position"].as_u64().or(parts["set_at"].as_u64());
    let at = at.map(|at| format!("at {}", count(at))).unwrap_or_default();
    let words = [kind.to_lowercase(), name.to_owned(), at];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn finish(
    table: &TextTable,
    (noun, hint): (&str, &str),
    number: usize,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    if screen.is_json() {
        return screen.flush();
    }
    if !table.is_empty() {
        screen.table(table)?;
    }
    screen.note(&counted(number as u64, noun))?;
    if table.is_empty() { Ok(()) } else { screen.note(hint) }
}

/// The query of the runtime's own events in some streams, of some types; no types are all.
fn of_runtime(streams: StreamMatch, types: &[&str]) -> Result<Query, CliFailure> {
    let mut item = QueryItem { streams: Some(streams), ..QueryItem::default() };
    item.system = System::Included;
    for name in types {
        let event_type = EventType::new((*name).to_owned()).map_err(CliFailure::of)?;
        item.types.push(TypeMatch::Exact(event_type));
    }
    Ok(item.into())
}

async fn each_event(
    store: &Store,
    query: Query,
    take: &mut dyn FnMut(&RecordedEvent),
) -> Result<(), CliFailure> {
    let interrupt = Interrupt::listen();
    let end = crate::commands::read::end_of(store).await?;
    let mut progress = ProgressLine::of("reading", Measure::Things("positions"), end.0);
    let mut events = store.read(Read::matching(query, Position(1)));
    while let Some(event) = events.next().await?.filter(|event| event.position <= end) {
        interrupt.check(None)?;
        progress.at(event.position.0);
        take(&event);
    }
    Ok(())
}
