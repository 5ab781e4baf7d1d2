//! `leftfold transform`: a copy of a store by simple rules.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use leftfold::copy::{Copy, CopyError, CopyReport, Progress, Transformed};
use leftfold::store::{EventType, Position, RecordedEvent, Store, StreamName};
use serde_json::json;

use crate::access::StoreArgument;
use crate::commands::read::end_of;
use crate::failure::CliFailure;
use crate::progress::{Interrupt, Measure, ProgressLine};
use crate::screen::{Screen, Tint, count};

/// Time between two looks at how far a copy is.
const LOOKED_EVERY: Duration = Duration::from_millis(100);

/// Copies a store into a new one by rules
///
/// Events are left out, their types and streams get other names; everything else goes over as it
/// is: ids, data, answers to commands, and what the runtime has recorded, with the positions in it
/// rewritten. The old store may be written meanwhile. If it is interrupted the same call goes on,
/// with the same rules. When nobody writes the old store any more, --switch copies the rest,
/// carries the places of consumers over, and compares both stores.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold transform ./old ./new --drop-type 'trial.*' --rename-category shop=store
  leftfold transform ./old ./new --drop-type 'trial.*' --rename-category shop=store --switch")]
pub(crate) struct TransformArguments {
    #[command(flatten)]
    old: StoreArgument,
    /// Directory or URL of the new store
    #[arg(value_name = "NEW")]
    new: String,
    #[command(flatten)]
    rules: RuleArguments,
    /// Ends the copy: nobody writes the old store any more, and from now on the new one is written
    #[arg(long)]
    switch: bool,
}

/// Rules of a copy.
#[derive(Clone, Debug, Args)]
struct RuleArguments {
    /// Leaves out the events of this type; with * at the end, of every type that begins so
    #[arg(long, value_name = "NAME")]
    drop_type: Vec<String>,
    /// Leaves out the events of this stream; with * at the end, of every stream that begins so
    #[arg(long, value_name = "NAME")]
    drop_stream: Vec<String>,
    /// Gives the events of a type another one
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    rename_type: Vec<(String, String)>,
    /// Gives a stream another name
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    rename_stream: Vec<(String, String)>,
    /// Gives the streams of a category another one
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    rename_category: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.into(), new.into())),
        _ => Err("write it as OLD=NEW".to_owned()),
    }
}

/// The rules, as they are asked for each event.
#[derive(Debug)]
struct Rules {
    drop_types: Vec<String>,
    drop_streams: Vec<String>,
    types: BTreeMap<String, EventType>,
    streams: BTreeMap<String, StreamName>,
    categories: BTreeMap<String, String>,
}

impl Rules {
    fn of(arguments: &RuleArguments) -> Result<Self, CliFailure> {
        let usage = |error: leftfold::store::Invalid| CliFailure::Usage(error.to_string());
        let mut types = BTreeMap::new();
        for (old, new) in &arguments.rename_type {
            types.insert(old.clone(), EventType::new(new.clone()).map_err(usage)?);
        }
        let mut streams = BTreeMap::new();
        for (old, new) in &arguments.rename_stream {
            streams.insert(old.clone(), StreamName::new(new.clone()).map_err(usage)?);
        }
        for (_, new) in &arguments.rename_category {
            StreamName::of(new, "1").map_err(usage)?;
        }
        Ok(Self {
            drop_types: arguments.drop_type.clone(),
            drop_streams: arguments.drop_stream.clone(),
            types,
            streams,
            categories: arguments.rename_category.iter().cloned().collect(),
        })
    }

    fn apply(&self, event: &RecordedEvent) -> Transformed {
        let is_in = |names: &[String], name: &str| {
            names.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == pattern,
            })
        };
        let stream = event.stream.as_ref().map(|at| &at.name);
        if is_in(&self.drop_types, &event.event_type)
            || stream.is_some_and(|name| is_in(&self.drop_streams, name))
        {
            return Transformed::Drop;
        }
        let new_type = self.types.get(event.event_type.as_str());
        let new_stream = stream.and_then(|name| self.renamed(name));
        if new_type.is_none() && new_stream.is_none() {
            return Transformed::Keep;
        }
        let mut image = event.to_new();
        if let Some(event_type) = new_type {
            image.event_type = event_type.clone();
        }
        image.stream = new_stream.or(image.stream);
        image.into()
    }

    /// The new name of a stream; `None` if it stays, also because it would be too long.
    fn renamed(&self, name: &StreamName) -> Option<StreamName> {
        if let Some(new) = self.streams.get(name.as_str()) {
            return Some(new.clone());
        }
        let category = self.categories.get(name.category())?;
        match name.id() {
            "" => StreamName::new(category.clone()).ok(),
            id => StreamName::of(category, id).ok(),
        }
    }
}

pub(crate) async fn run(
    arguments: &TransformArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let rules = Rules::of(&arguments.rules)?;
    let old = arguments.old.open_to_read().await?;
    let new = StoreArgument { url: arguments.new.clone() }.open_or_create().await?;
    let interrupt = Interrupt::listen();
    let copy = Copy::from(&old).into(&new).through(move |event| rules.apply(event));
    let done = shown_meanwhile(copied(&copy, arguments.switch), &new, end_of(&old).await?).await;
    let closed = new.close().await;
    interrupt.check(Some("the same call goes on"))?;
    let (progress, report) = done?;
    closed?;
    print(&progress, report.as_ref(), screen)
}

/// Shows how far a copy is, by the end of the new store.
async fn shown_meanwhile<T>(copying: impl Future<Output = T>, new: &Store, all: Position) -> T {
    let mut progress = ProgressLine::of("copying", Measure::Things("events"), all.0);
    let mut copying = std::pin::pin!(copying);
    loop {
        tokio::select! {
            done = &mut copying => return done,
            () = tokio::time::sleep(LOOKED_EVERY) => progress.at(new.head().position.0),
        }
    }
}

async fn copied(copy: &Copy, switch: bool) -> Result<(Progress, Option<CopyReport>), CliFailure> {
    let failed = |error: CopyError| CliFailure::of(error);
    if !switch {
        return Ok((copy.run_until_caught_up().await.map_err(failed)?, None));
    }
    copy.run_until_caught_up().await.map_err(failed)?;
    let progress = copy.switch().await.map_err(failed)?;
    Ok((progress, Some(copy.verify().await.map_err(failed)?)))
}

fn print(
    progress: &Progress,
    report: Option<&CopyReport>,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    if screen.is_json() {
        screen.object(&json!({
            "copied": progress.copied.0,
            "newEnd": progress.new_head.0,
            "switched": report.is_some(),
            "sound": report.map(CopyReport::is_sound),
            "events": report.map(|report| report.old_events),
            "dropped": report.map(|report| report.dropped),
        }))?;
    } else {
        let (copied, end) = (count(progress.copied.0), count(progress.new_head.0));
        let said = format!("copied up to position {copied}, the new store ends at {end}");
        screen.line(screen.tint(Tint::Green, &said))?;
    }
    match report {
        None => screen.note("stop the writers of the old store, and call it again with --switch"),
        Some(report) if report.is_sound() => {
            let (events, dropped) = (count(report.old_events), count(report.dropped));
            screen.note(&format!(
                "compared: {events} events, {dropped} left out; write the new store now"
            ))
        }
        Some(_) => Err(CliFailure::Fault(
            "the new store is not what the rules make of the old one; begin anew".to_owned(),
        )),
    }
}
