//! `leftfold streams`, `types` and `stats`: what a store holds.

use std::collections::BTreeMap;

use clap::Args;
use leftfold::operations::{EventFigures, StoreStatistics, statistics};
use leftfold::store::{Read, Store, Timestamp};
use serde_json::json;

use crate::access::StoreArgument;
use crate::commands::read::end_of;
use crate::failure::CliFailure;
use crate::progress::{Interrupt, Measure, ProgressLine};
use crate::screen::{Screen, Side, TextTable, bytes, count, counted};
use crate::selection::SelectionArguments;

/// Streams that are listed at most: their names are in memory.
const STREAMS_MAX: usize = 1_000_000;

/// Lists streams, with their versions and times
///
/// It reads the events that are chosen, by the index of the store.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold streams ./data --category cart --by newest --limit 20
  leftfold streams leftfold://host --tag customer:7 --json")]
pub(crate) struct StreamsArguments {
    #[command(flatten)]
    store: StoreArgument,
    #[command(flatten)]
    events: SelectionArguments,
    /// Order of the streams
    #[arg(long, value_enum, default_value_t = StreamOrder::Name)]
    by: StreamOrder,
    /// Lists at most so many streams
    #[arg(short = 'n', long, value_name = "NUMBER")]
    limit: Option<usize>,
}

/// Order in which streams are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum StreamOrder {
    /// By name
    Name,
    /// Those with the most events first
    Events,
    /// Those with the newest event first
    Newest,
}

/// Lists types of events, with their numbers and bytes
///
/// It reads the whole store.
#[derive(Debug, Args)]
pub(crate) struct TypesArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Also the runtime's own types, which begin with $
    #[arg(long)]
    system: bool,
}

/// Counts what a store holds
///
/// It reads the whole store, and shows its figures by category.
#[derive(Debug, Args)]
pub(crate) struct StatsArguments {
    #[command(flatten)]
    store: StoreArgument,
}

/// Figures of a stream.
struct StreamLine {
    events: u64,
    version: u64,
    first: Timestamp,
    last: Timestamp,
}

pub(crate) async fn streams(
    arguments: &StreamsArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let store = arguments.store.open_to_read().await?;
    let selection = arguments.events.resolve(&store).await?;
    let end = selection.through.min(end_of(&store).await?);
    let mut progress = ProgressLine::of("reading", Measure::Things("events"), end.0);
    let mut streams: BTreeMap<String, StreamLine> = BTreeMap::new();
    let mut events = store.read(Read::matching(selection.query, selection.from));
    while let Some(event) = events.next().await?.filter(|event| event.position <= end) {
        progress.at(event.position.0);
        let Some(at) = &event.stream else { continue };
        if !streams.contains_key(at.name.as_str()) && streams.len() == STREAMS_MAX {
            let most = count(STREAMS_MAX as u64);
            let hint = "choose some, by --category, --stream 'name*' or --where";
            return Err(CliFailure::Failed(format!("there are more than {most} streams; {hint}")));
        }
        let line = streams.entry(at.name.to_string()).or_insert(StreamLine {
            events: 0,
            version: 0,
            first: event.recorded_at,
            last: event.recorded_at,
        });
        line.events += 1;
        line.version = at.version.0;
        line.last = event.recorded_at;
    }
    drop(progress);
    let mut listed: Vec<(String, StreamLine)> = streams.into_iter().collect();
    match arguments.by {
        StreamOrder::Name => {}
        StreamOrder::Events => listed.sort_by_key(|(_, line)| std::cmp::Reverse(line.events)),
        StreamOrder::Newest => listed.sort_by_key(|(_, line)| std::cmp::Reverse(line.last)),
    }
    let all = listed.len();
    listed.truncate(arguments.limit.unwrap_or(usize::MAX));
    print_streams(&listed, all, screen)
}

fn print_streams(
    listed: &[(String, StreamLine)],
    all: usize,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let (left, right) = (Side::Left, Side::Right);
    let heads = [("stream", left), ("version", right), ("events", right), ("first", left)];
    let mut table = TextTable::new(&[&heads[..], &[("last", left)]].concat());
    for (name, line) in listed {
        if screen.is_json() {
            screen.object(&json!({
                "stream": name,
                "version": line.version,
                "events": line.events,
                "firstAt": line.first.to_string(),
                "lastAt": line.last.to_string(),
            }))?;
            continue;
        }
        let (version, events) = (count(line.version), count(line.events));
        let (first, last) = (screen.time(line.first), screen.time(line.last));
        table.row(vec![name.clone(), version, events, first, last]);
    }
    if screen.is_json() {
        return screen.flush();
    }
    if !table.is_empty() {
        screen.table(&table)?;
    }
    let shown = listed.len();
    let note = match shown == all {
        true => counted(all as u64, "stream"),
        false => format!("{} of {}", count(shown as u64), counted(all as u64, "stream")),
    };
    screen.note(&note)
}

pub(crate) async fn types(
    arguments: &TypesArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let store = arguments.store.open_to_read().await?;
    let figures = counted_figures(&store).await?;
    let mut table = figures_table("type");
    let others = figures.other_types;
    let mut listed = 0;
    for (name, figures) in &figures.types {
        if name.starts_with('$') && !arguments.system {
            continue;
        }
        listed += 1;
        if screen.is_json() {
            let EventFigures { events, streams, bytes } = *figures;
            screen.object(&json!({
                "type": name, "events": events, "streamsBegun": streams, "bytes": bytes,
            }))?;
        }
        table.row(figures_row(name, *figures));
    }
    if others.events > 0 {
        table.row(figures_row("(others)", others));
    }
    if screen.is_json() {
        return screen.flush();
    }
    screen.table(&table)?;
    screen.note(&counted(listed, "type"))
}

pub(crate) async fn stats(
    arguments: &StatsArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let store = arguments.store.open_to_read().await?;
    let figures = counted_figures(&store).await?;
    let (identity, head) = (store.identity(), store.head());
    if screen.is_json() {
        let of = |figures: &EventFigures| {
            let EventFigures { events, streams, bytes } = *figures;
            json!({ "events": events, "streams": streams, "bytes": bytes })
        };
        let categories: serde_json::Map<String, serde_json::Value> =
            figures.categories.iter().map(|(name, figures)| (name.clone(), of(figures))).collect();
        screen.object(&json!({
            "store": identity.store.to_string(),
            "epoch": identity.epoch.number,
            "through": figures.through.0,
            "appends": figures.appends,
            "commands": figures.commands,
            "checkpoints": figures.checkpoints,
            "all": of(&figures.all),
            "categories": categories,
            "otherCategories": of(&figures.other_categories),
        }))?;
        return screen.flush();
    }
    screen.facts(&[
        ("store", identity.store.to_string()),
        ("epoch", identity.epoch.number.to_string()),
        (
            "last event",
            format!("{} at {}", count(figures.through.0), screen.time(head.recorded_at)),
        ),
        ("events", count(figures.all.events)),
        ("streams", count(figures.all.streams)),
        ("data", bytes(figures.all.bytes)),
        ("appends", count(figures.appends)),
        ("commands", format!("{} answers kept", count(figures.commands))),
        ("checkpoints", count(figures.checkpoints)),
    ])?;
    if figures.categories.is_empty() {
        return screen.flush();
    }
    let mut table = figures_table("category");
    for (name, figures) in &figures.categories {
        table.row(figures_row(if name.is_empty() { "(no stream)" } else { name }, *figures));
    }
    if figures.other_categories.events > 0 {
        table.row(figures_row("(others)", figures.other_categories));
    }
    screen.line("")?;
    screen.table(&table)?;
    screen.flush()
}

/// Counts the whole store, with its progress.
async fn counted_figures(store: &Store) -> Result<StoreStatistics, CliFailure> {
    let interrupt = Interrupt::listen();
    let end = end_of(store).await?;
    let mut progress = ProgressLine::of("counting", Measure::Things("events"), end.0);
    let figures = statistics(store, &mut |at| {
        progress.at(at.0);
        interrupt.flow()
    })
    .await?;
    interrupt.check(None)?;
    Ok(figures)
}

fn figures_table(of: &'static str) -> TextTable {
    let right = Side::Right;
    let streams = if of == "type" { "streams begun" } else { "streams" };
    TextTable::new(&[(of, Side::Left), ("events", right), (streams, right), ("data", right)])
}

fn figures_row(name: &str, figures: EventFigures) -> Vec<String> {
    vec![name.to_owned(), count(figures.events), count(figures.streams), bytes(figures.bytes)]
}
