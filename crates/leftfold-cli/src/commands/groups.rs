//! `leftfold groups`: the groups of consumers of a store that a server keeps.

use std::time::Duration;

use clap::{Args, Subcommand};
use leftfold::remote::{
    GroupKey, GroupOptions, GroupPlace, GroupState, GroupStrategy, ParkedEvent, RemoteGroups,
    RemoteOptions, RemoteStore,
};
use leftfold::store::{Position, Store};
use serde_json::{Value, json};

use crate::access::{StoreArgument, shown};
use crate::event_json::JsonEvent;
use crate::failure::CliFailure;
use crate::screen::{Screen, Side, TextTable, count, counted};
use crate::selection::SelectionArguments;

/// Shows and changes groups of consumers, and what they have parked
///
/// The workers of a group share the events that its query finds; a server gives each event to one
/// of them at a time. So the store is one behind an address.
#[derive(Debug, Args)]
pub(crate) struct GroupsArguments {
    #[command(subcommand)]
    action: GroupsAction,
}

/// Work on groups.
#[derive(Debug, Subcommand)]
enum GroupsAction {
    /// Lists the groups, how far each is and what it has parked
    List {
        #[command(flatten)]
        store: StoreArgument,
    },
    /// Shows a group, with its consumers
    Show {
        #[command(flatten)]
        group: GroupArguments,
    },
    /// Makes a group, of all events or those that are selected
    Create(CreateArguments),
    /// Gives a group other options; those that are left out stay, and so do its consumers
    Update(UpdateArguments),
    /// Deletes a group: its consumers are ended, its parked events are forgotten
    Delete {
        #[command(flatten)]
        group: GroupArguments,
    },
    /// Lists the events that a group has parked; with --json in full
    Parked {
        #[command(flatten)]
        group: GroupArguments,
    },
    /// Gives parked events to the consumers again
    Replay {
        #[command(flatten)]
        group: GroupArguments,
        /// Those up to this number, as "leftfold groups parked" has it; all if it is left out
        #[arg(long, value_name = "NUMBER")]
        through: Option<u64>,
    },
    /// Gives single parked events to the consumers again: all that are named, or none
    Retry(ParkedNumbers),
    /// Forgets single parked events, which nobody handles then: all that are named, or none
    Discard(ParkedNumbers),
}

/// Events that a group has parked.
#[derive(Debug, Args)]
struct ParkedNumbers {
    #[command(flatten)]
    group: GroupArguments,
    /// Their numbers, as "leftfold groups parked" has them, at most 100
    #[arg(required = true, num_args = 1..=100, value_name = "NUMBER")]
    numbers: Vec<u64>,
}

/// Options of a group that is there.
#[derive(Debug, Args)]
struct UpdateArguments {
    #[command(flatten)]
    group: GroupArguments,
    /// Of all events, instead of those that were selected
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    selection: SelectionArguments,
    /// As for "create"; "none" for no order
    #[arg(long, value_name = "KEY", value_parser = changed_key_of)]
    ordered: Option<ChangedKey>,
    /// As for "create"; "none" for consumers in turn
    #[arg(long, value_name = "KEY", value_parser = changed_key_of)]
    pinned: Option<ChangedKey>,
    /// Gives an event out again at most so often, and parks it then
    #[arg(long, value_name = "NUMBER")]
    retries: Option<u32>,
    /// Seconds after which an event without an answer is given out again; 0 for never
    #[arg(long, value_name = "SECONDS")]
    answer_within: Option<u64>,
    /// Consumers at once; 0 for as many as the server allows
    #[arg(long, value_name = "NUMBER")]
    consumers: Option<u32>,
}

/// Key that a group has from now on; `None` for none.
#[derive(Clone, Debug)]
struct ChangedKey(Option<GroupKey>);

/// A group of a store.
#[derive(Debug, Args)]
struct GroupArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Name of the group
    #[arg(value_name = "GROUP")]
    name: String,
}

/// Options of a new group.
#[derive(Debug, Args)]
struct CreateArguments {
    #[command(flatten)]
    group: GroupArguments,
    #[command(flatten)]
    selection: SelectionArguments,
    /// Begins behind what is there now
    #[arg(long)]
    new_only: bool,
    /// Gives the events of one key out one after the other: "stream", "correlation" or "tag:PREFIX"
    #[arg(long, value_name = "KEY", value_parser = key_of)]
    ordered: Option<GroupKey>,
    /// Gives all events of a key to one consumer, as long as the consumers stay the same
    #[arg(long, value_name = "KEY", value_parser = key_of)]
    pinned: Option<GroupKey>,
    /// Gives an event out again at most so often, and parks it then
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    retries: u32,
    /// Seconds after which an event without an answer is given out again; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    answer_within: u64,
    /// Consumers at once; 0 for as many as the server allows
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    consumers: u32,
}

fn key_of(text: &str) -> Result<GroupKey, String> {
    match text.split_once(':') {
        None if text == "stream" => Ok(GroupKey::Stream),
        None if text == "correlation" => Ok(GroupKey::Correlation),
        Some(("tag", prefix)) if !prefix.is_empty() => Ok(GroupKey::Tag(prefix.to_owned())),
        _ => Err("a key is stream, correlation, or tag: and how the tag begins".to_owned()),
    }
}

fn changed_key_of(text: &str) -> Result<ChangedKey, String> {
    match text {
        "none" => Ok(ChangedKey(None)),
        _ => key_of(text).map(|key| ChangedKey(Some(key))),
    }
}

fn key_text(key: &GroupKey) -> String {
    match key {
        GroupKey::Stream => "stream".to_owned(),
        GroupKey::Correlation => "correlation".to_owned(),
        GroupKey::Tag(prefix) => format!("tag:{prefix}"),
    }
}

pub(crate) async fn run(
    arguments: &GroupsArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    match &arguments.action {
        GroupsAction::List { store } => list(&groups_of(store).await?.groups(), screen).await,
        GroupsAction::Show { group } => {
            let info = group.open().await?.info(&group.name).await.map_err(CliFailure::of)?;
            show(&info, screen)
        }
        GroupsAction::Create(create) => make(create).await,
        GroupsAction::Update(update) => change(update).await,
        GroupsAction::Delete { group } => {
            group.open().await?.delete(&group.name).await.map_err(CliFailure::of)
        }
        GroupsAction::Parked { group } => parked(group, screen).await,
        GroupsAction::Replay { group, through } => {
            group.open().await?.replay(&group.name, *through).await.map_err(CliFailure::of)
        }
        GroupsAction::Retry(ParkedNumbers { group, numbers }) => {
            group.open().await?.retry(&group.name, numbers).await.map_err(CliFailure::of)
        }
        GroupsAction::Discard(ParkedNumbers { group, numbers }) => {
            group.open().await?.discard(&group.name, numbers).await.map_err(CliFailure::of)
        }
    }
}

impl GroupArguments {
    async fn open(&self) -> Result<RemoteGroups, CliFailure> {
        Ok(groups_of(&self.store).await?.groups())
    }
}

/// Opens a store behind an address; no other one has groups.
async fn groups_of(store: &StoreArgument) -> Result<RemoteStore, CliFailure> {
    let scheme = store.url.split_once(':').map_or("", |(scheme, _)| scheme);
    if !scheme.eq_ignore_ascii_case("leftfold") {
        let url = shown(&store.url);
        let hint = "groups are a server's: give its address, as leftfold://host:2113";
        return Err(CliFailure::Usage(format!("{url} is no address of a server; {hint}")));
    }
    let options = RemoteOptions::at(&store.url).map_err(CliFailure::of)?;
    let options = RemoteOptions { create: false, ..options };
    RemoteStore::open_with(options).await.map_err(CliFailure::of)
}

async fn make(create: &CreateArguments) -> Result<(), CliFailure> {
    let remote = groups_of(&create.group.store).await?;
    let selection = create.selection.resolve(&Store::new(remote.clone())).await?;
    if selection.through != Position::END {
        let text = "a group has no last event, leave the end of the selection out";
        return Err(CliFailure::Usage(text.to_owned()));
    }
    let start = match create.new_only {
        true => GroupPlace::End,
        false => GroupPlace::After(Position(selection.from.0.saturating_sub(1))),
    };
    let pinned = create.pinned.clone().map(GroupStrategy::Pinned);
    let options = GroupOptions {
        start,
        ordered: create.ordered.clone(),
        strategy: pinned.unwrap_or(GroupStrategy::RoundRobin),
        answer_within: Duration::from_secs(create.answer_within),
        retries_max: create.retries,
        consumers_max: create.consumers,
        ..GroupOptions::of(selection.query)
    };
    remote.groups().create(&create.group.name, &options).await.map_err(CliFailure::of)
}

async fn change(update: &UpdateArguments) -> Result<(), CliFailure> {
    if update.all && !update.selection.is_empty() {
        let text = "the group is of --all events, or of those that are selected";
        return Err(CliFailure::Usage(text.to_owned()));
    }
    let remote = groups_of(&update.group.store).await?;
    let (groups, name) = (remote.groups(), &update.group.name);
    let mut options = groups.info(name).await.map_err(CliFailure::of)?.options;
    if update.all || !update.selection.is_empty() {
        let selection = update.selection.resolve(&Store::new(remote.clone())).await?;
        if (selection.from, selection.through) != (Position::START, Position::END) {
            let text = "a group keeps its place, so a selection here has no positions and times";
            return Err(CliFailure::Usage(text.to_owned()));
        }
        options.query = selection.query;
    }
    if let Some(ChangedKey(ordered)) = update.ordered.clone() {
        options.ordered = ordered;
    }
    if let Some(ChangedKey(pinned)) = update.pinned.clone() {
        options.strategy = pinned.map_or(GroupStrategy::RoundRobin, GroupStrategy::Pinned);
    }
    options.retries_max = update.retries.unwrap_or(options.retries_max);
    options.consumers_max = update.consumers.unwrap_or(options.consumers_max);
    let within = update.answer_within.map(Duration::from_secs);
    options.answer_within = within.unwrap_or(options.answer_within);
    groups.update(name, &options).await.map_err(CliFailure::of)
}

async fn list(groups: &RemoteGroups, screen: &mut Screen) -> Result<(), CliFailure> {
    let all = groups.list().await.map_err(CliFailure::of)?;
    if screen.is_json() {
        for info in &all {
            screen.object(&object(info))?;
        }
        return screen.flush();
    }
    let (left, right) = (Side::Left, Side::Right);
    let mut table = TextTable::new(&[
        ("group", left),
        ("settled", right),
        ("behind", right),
        ("parked", right),
        ("consumers", right),
        ("unanswered", right),
    ]);
    for info in &all {
        let running = info.running.as_ref();
        table.row(vec![
            info.name.clone(),
            count(info.checkpoint.0),
            count(info.lag),
            count(info.parked),
            count(running.map_or(0, |running| running.consumers.len() as u64)),
            count(running.map_or(0, |running| running.in_flight)),
        ]);
    }
    if !table.is_empty() {
        screen.table(&table)?;
    }
    screen.note(&counted(all.len() as u64, "group"))
}

fn show(info: &GroupState, screen: &mut Screen) -> Result<(), CliFailure> {
    if screen.is_json() {
        screen.object(&object(info))?;
        return screen.flush();
    }
    let options = &info.options;
    let key = |key: Option<&GroupKey>| key.map_or("-".to_owned(), key_text);
    let within = match options.answer_within.is_zero() {
        true => "any time".to_owned(),
        false => format!("{} s", options.answer_within.as_secs_f64()),
    };
    let mut facts = vec![
        ("group", info.name.clone()),
        ("ordered by", key(options.ordered.as_ref())),
        ("given to", strategy_text(&options.strategy)),
        ("answered within", within),
        ("retries", count(options.retries_max.into())),
        ("settled", count(info.checkpoint.0)),
        ("behind", count(info.lag)),
        ("parked", count(info.parked)),
    ];
    if info.is_foreign {
        facts.push(("made by", "another protocol, over which it is consumed".to_owned()));
    }
    if let Some(running) = &info.running {
        let state = if running.has_lease { "by this server" } else { "waits for another server" };
        facts.push(("served", state.to_owned()));
        facts.push(("unanswered", count(running.in_flight)));
        facts.push(("waiting", count(running.waiting)));
    }
    screen.facts(&facts)?;
    let consumers = info.running.iter().flat_map(|running| &running.consumers);
    let (left, right) = (Side::Left, Side::Right);
    let mut table = TextTable::new(&[
        ("consumer", left),
        ("user", left),
        ("unanswered", right),
        ("at once", right),
        ("given", right),
    ]);
    for consumer in consumers {
        table.row(vec![
            consumer.name.clone(),
            consumer.user.clone(),
            count(consumer.in_flight),
            count(consumer.credit.into()),
            count(consumer.given),
        ]);
    }
    if table.is_empty() { Ok(()) } else { screen.table(&table) }
}

fn strategy_text(strategy: &GroupStrategy) -> String {
    match strategy {
        GroupStrategy::RoundRobin => "consumers in turn".to_owned(),
        GroupStrategy::Pinned(key) => format!("one consumer for each {}", key_text(key)),
        GroupStrategy::OneAtATime => "one consumer as long as it has room".to_owned(),
    }
}

async fn parked(group: &GroupArguments, screen: &mut Screen) -> Result<(), CliFailure> {
    let groups = group.open().await?;
    let (left, right) = (Side::Left, Side::Right);
    let mut table = TextTable::new(&[
        ("number", right),
        ("position", right),
        ("type", left),
        ("stream", left),
        ("retries", right),
        ("parked", left),
        ("reason", left),
    ]);
    let (mut after, mut total) = (0, 0);
    loop {
        let page = groups.parked(&group.name, after).await.map_err(CliFailure::of)?;
        let Some(last) = page.last() else { break };
        after = last.number;
        total += page.len() as u64;
        for parked in &page {
            if screen.is_json() {
                screen.object(&parked_object(parked)?)?;
                continue;
            }
            let event = parked.event.as_ref();
            let stream = event.and_then(|event| event.stream.as_ref());
            table.row(vec![
                count(parked.number),
                event.map_or("-".to_owned(), |event| count(event.position.0)),
                event.map_or("-".to_owned(), |event| event.event_type.to_string()),
                stream.map_or("-".to_owned(), |at| at.name.to_string()),
                count(parked.retries.into()),
                screen.time(parked.parked_at),
                parked.reason.clone(),
            ]);
        }
    }
    if screen.is_json() {
        return screen.flush();
    }
    if !table.is_empty() {
        screen.table(&table)?;
    }
    screen.note(&counted(total, "parked event"))
}

fn parked_object(parked: &ParkedEvent) -> Result<Value, CliFailure> {
    let event = parked.event.as_ref().map(|event| serde_json::to_value(JsonEvent::of(event)));
    Ok(json!({
        "number": parked.number,
        "retries": parked.retries,
        "reason": parked.reason,
        "asked": parked.is_wish,
        "parkedAt": parked.parked_at.to_string(),
        "event": event.transpose().map_err(CliFailure::of)?,
    }))
}

fn object(info: &GroupState) -> Value {
    let options = &info.options;
    let running = info.running.as_ref().map(|running| {
        let consumers = running.consumers.iter().map(|consumer| {
            json!({
                "name": consumer.name,
                "user": consumer.user,
                "credit": consumer.credit,
                "unanswered": consumer.in_flight,
                "given": consumer.given,
            })
        });
        json!({
            "hasLease": running.has_lease,
            "unanswered": running.in_flight,
            "waiting": running.waiting,
            "retrying": running.retrying,
            "settled": running.settled,
            "consumers": consumers.collect::<Vec<_>>(),
        })
    });
    json!({
        "group": info.name,
        "ordered": options.ordered.as_ref().map(key_text),
        "given": strategy_text(&options.strategy),
        "answerWithinMs": options.answer_within.as_millis() as u64,
        "retries": options.retries_max,
        "foreign": info.is_foreign,
        "settled": info.checkpoint.0,
        "behind": info.lag,
        "parked": info.parked,
        "running": running,
    })
}
