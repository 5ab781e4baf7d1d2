//! `leftfold append`: one event from flags, or many from lines of JSON.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;
use leftfold::store::{
    Append, CommandId, CommandRecord, Condition, Digest, EventType, Expected, NewEvent, Outcome,
    Position, Store, StreamName, Tag, Tags, Version,
};
use serde_json::json;
use serde_json::value::RawValue;

use crate::access::StoreArgument;
use crate::event_json::JsonEvent;
use crate::failure::CliFailure;
use crate::input::InputLines;
use crate::pipeline::{AppendPipeline, settled};
use crate::progress::{Interrupt, Measure, ProgressLine};
use crate::screen::{Screen, Tint, count, counted};
use crate::selection::query_of;

/// Scope of the ids of commands that come from the command line.
const SCOPE: &str = "leftfold append";
/// Bytes of a line: an event of the largest data and metadata, in base64.
const LINE_BYTES_MAX: usize = 24 << 20;

/// Appends events
///
/// One event by --type and --data, or else an event for each line of JSON in a file or on standard
/// input, as "read --json" writes them. It has returned when the events are durable. A store that
/// another program writes is appended to at the address of its server.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold append ./data --type shop.Sold --stream cart-7 --data '{\"cents\":500}' --expect 2
  leftfold append leftfold://host --command-id night-2026-02-01 < events.jsonl
  leftfold append ./data --type user.Named --data '{}' --tag name:ada \\
      --none-matching 'tag = name:ada'")]
pub(crate) struct AppendArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Appends one event, of this type
    #[arg(long = "type", value_name = "NAME", requires = "data", conflicts_with = "file")]
    event_type: Option<String>,
    /// Its data, as JSON
    #[arg(long, value_name = "JSON", requires = "event_type")]
    data: Option<String>,
    /// Its stream
    #[arg(long, value_name = "NAME", requires = "event_type")]
    stream: Option<String>,
    /// Its tags
    #[arg(long = "tag", value_name = "TAG", requires = "event_type")]
    tags: Vec<String>,
    /// File with an event on each line, instead of standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Appends all lines together: all of them, or none
    #[arg(long, conflicts_with = "event_type")]
    together: bool,
    /// Condition on the stream: absent, exists, or its version
    #[arg(long, value_name = "VERSION", value_parser = expected)]
    expect: Option<Expected>,
    /// Condition that no event matches, as --where has it: "type = user.Named and tag = name:ada"
    #[arg(long, value_name = "CONDITIONS")]
    none_matching: Option<String>,
    /// Events up to this position may match all the same
    #[arg(long, value_name = "POSITION", requires = "none_matching", default_value_t = 0)]
    after: u64,
    /// Name of the request: a request of the same name takes effect once. Of several lines each has
    /// the name with its number, so that a call that was interrupted can be repeated
    #[arg(long, value_name = "KEY")]
    command_id: Option<String>,
    /// Makes the store if there is none
    #[arg(long)]
    create: bool,
}

fn expected(text: &str) -> Result<Expected, String> {
    match text {
        "absent" => Ok(Expected::Absent),
        "exists" => Ok(Expected::Exists),
        number => {
            let version = number.replace(',', "").parse().map(Version);
            version.map(Expected::Exact).map_err(|_| "write absent, exists or a number".to_owned())
        }
    }
}

pub(crate) async fn run(
    arguments: &AppendArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let is_one = arguments.event_type.is_some() || arguments.together;
    if !is_one && (arguments.expect.is_some() || arguments.none_matching.is_some()) {
        let hint = "give the condition with --together, or with one event by --type and --data";
        return Err(CliFailure::Usage(format!("each line is an append of its own; {hint}")));
    }
    let one = match is_one {
        true => Some(one_append(arguments)?),
        false => None,
    };
    let store = match arguments.create {
        true => arguments.store.open_or_create().await?,
        false => arguments.store.open_to_write().await?,
    };
    match one {
        Some(append) => {
            let outcome = settled(store.append(append).await, "", "");
            let closed = store.close().await;
            let outcome = outcome?;
            closed?;
            print_one(&outcome, screen)
        }
        None => {
            let lines = append_lines(&store, arguments).await;
            let closed = store.close().await;
            let lines = lines?;
            closed?;
            print_lines(lines, store.head().position, screen)
        }
    }
}

/// Makes the one append that flags, or lines together, ask for.
fn one_append(arguments: &AppendArguments) -> Result<Append, CliFailure> {
    let usage = |error: leftfold::store::Invalid| CliFailure::Usage(error.to_string());
    let mut request = Vec::new();
    let events = match (&arguments.event_type, &arguments.data) {
        (Some(name), Some(data)) => {
            let event = flagged_event(arguments, name, data)?;
            request = request_of(&event);
            vec![event]
        }
        _ => {
            let mut events = Vec::new();
            let mut lines = Lines::of(arguments)?;
            while let Some((_, line)) = lines.next()? {
                events.push(lines.event(&line)?);
                request.extend(line);
            }
            events
        }
    };
    let mut condition = Condition::none();
    if let Some(expected) = arguments.expect {
        let stream = events.iter().find_map(|event| event.stream.clone());
        let missing = "--expect is about a stream; give it by --stream";
        let stream = stream.ok_or_else(|| CliFailure::Usage(missing.to_owned()))?;
        condition = condition.and_stream(stream, expected);
    }
    if let Some(text) = &arguments.none_matching {
        let query = query_of(text).map_err(CliFailure::Usage)?;
        condition = condition.and_none_matching(query, Position(arguments.after));
    }
    let command = arguments.command_id.as_deref().map(|key| command(key, &request));
    let append = Append { command, ..Append::of(events).when(condition) };
    append.validate().map_err(usage)?;
    Ok(append)
}

fn flagged_event(
    arguments: &AppendArguments,
    name: &str,
    data: &str,
) -> Result<NewEvent, CliFailure> {
    let usage = |error: leftfold::store::Invalid| CliFailure::Usage(error.to_string());
    if let Err(error) = serde_json::from_str::<&RawValue>(data) {
        return Err(CliFailure::Usage(format!("--data is no JSON: {error}")));
    }
    let event_type = EventType::new(name.to_owned()).map_err(usage)?;
    let mut event = NewEvent::new(event_type, data.trim().to_owned());
    event.stream = arguments.stream.clone().map(StreamName::new).transpose().map_err(usage)?;
    let mut tags = Tags::none();
    for tag in &arguments.tags {
        tags.insert(Tag::new(tag.clone()).map_err(usage)?);
    }
    Ok(event.tagged(tags))
}

/// The event that flags describe, as the bytes of a request: each text is behind its length, so no
/// two events have the same.
fn request_of(event: &NewEvent) -> Vec<u8> {
    let stream = event.stream.as_ref().map_or("", |name| name.as_str());
    let mut texts = vec![event.event_type.as_str().as_bytes(), stream.as_bytes(), &event.data];
    texts.extend(event.tags.as_slice().iter().map(|tag| tag.as_str().as_bytes()));
    let mut request = Vec::new();
    for text in texts {
        request.extend((text.len() as u64).to_le_bytes());
        request.extend(text);
    }
    request
}

fn command(key: &str, request: &[u8]) -> CommandRecord {
    let digest = Digest::of(request);
    CommandRecord { id: CommandId::new(SCOPE, key), digest, answer: "".into() }
}

/// Appends each line by itself, many at once, in order. Returns the number of them.
async fn append_lines(store: &Store, arguments: &AppendArguments) -> Result<u64, CliFailure> {
    let interrupt = Interrupt::listen();
    let hint = arguments.command_id.is_some().then_some("the same call goes on");
    let mut lines = Lines::of(arguments)?;
    let mut progress = ProgressLine::of("appending", Measure::Things("events"), 0);
    let mut queue = AppendPipeline::into(store, "line");
    let mut wrong = None;
    while !interrupt.is_on() {
        let (number, append) = match lines.next_append(arguments.command_id.as_deref()) {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(error) => {
                wrong = Some(error);
                break;
            }
        };
        queue.push(number, append).await?;
        progress.at(queue.done);
    }
    // Whatever is wrong with a line, those before it are there.
    queue.finish().await?;
    interrupt.check(hint)?;
    wrong.map_or(Ok(queue.done), Err)
}

fn print_one(outcome: &Outcome, screen: &mut Screen) -> Result<(), CliFailure> {
    let (what, first, events, versions) = match outcome {
        Outcome::Appended(done) => {
            let versions: Vec<u64> = done.versions.iter().map(|version| version.0).collect();
            ("appended", done.first.0, versions.len() as u64, versions)
        }
        Outcome::Repeated(again) => {
            ("repeated", again.first.0, u64::from(again.events), Vec::new())
        }
        Outcome::Conflict(_) => return Ok(()),
    };
    if screen.is_json() {
        return screen.object(&json!({
            "outcome": what, "first": first, "events": events, "versions": versions,
        }));
    }
    let versions = match &versions[..] {
        [0] | [] => String::new(),
        [.., version] => format!(", version {}", count(*version)),
    };
    let said = match what {
        "appended" => format!("appended at position {}{versions}", count(first)),
        _ => format!("nothing to do: it was appended at position {} before", count(first)),
    };
    screen.line(screen.tint(Tint::Green, &said))
}

fn print_lines(lines: u64, end: Position, screen: &mut Screen) -> Result<(), CliFailure> {
    if screen.is_json() {
        return screen.object(&json!({ "outcome": "appended", "events": lines, "end": end.0 }));
    }
    let said = format!("{} appended, the store ends at {}", counted(lines, "event"), count(end.0));
    screen.line(screen.tint(Tint::Green, &said))
}

/// Lines of a file, or of standard input, with their numbers from 1. Empty lines are passed over.
struct Lines {
    input: InputLines,
    number: u64,
}

impl Lines {
    fn of(arguments: &AppendArguments) -> Result<Self, CliFailure> {
        if arguments.file.is_none() && std::io::stdin().is_terminal() {
            let hint = "give --type and --data, --file, or lines on standard input";
            return Err(CliFailure::Usage(format!("there is nothing to append; {hint}")));
        }
        let place = arguments.file.as_deref().unwrap_or(Path::new("-"));
        Ok(Self { input: InputLines::open(place)?, number: 0 })
    }

    fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>, CliFailure> {
        let mut line = Vec::new();
        loop {
            self.number += 1;
            let read = self.input.next(&mut line, LINE_BYTES_MAX);
            if read.map_err(|error| self.fault(error))? == 0 {
                return Ok(None);
            }
            if line.len() > LINE_BYTES_MAX {
                return Err(self.fault(format!("it has more than {LINE_BYTES_MAX} bytes")));
            }
            let text = line.trim_ascii();
            if !text.is_empty() {
                return Ok(Some((self.number, text.to_vec())));
            }
        }
    }

    /// Returns the append of the next line, with its number. One that every store refuses is
    /// refused here, before any line behind it is handed over.
    fn next_append(&mut self, key: Option<&str>) -> Result<Option<(u64, Append)>, CliFailure> {
        let Some((number, line)) = self.next()? else { return Ok(None) };
        let command = key.map(|key| command(&format!("{key} {number}"), &line));
        let append = Append { command, ..Append::of(vec![self.event(&line)?]) };
        append.validate().map_err(|error| self.fault(error))?;
        Ok(Some((number, append)))
    }

    fn event(&self, line: &[u8]) -> Result<NewEvent, CliFailure> {
        let parsed: JsonEvent = serde_json::from_slice(line).map_err(|error| self.fault(error))?;
        parsed.to_new().map_err(|error| self.fault(error))
    }

    fn fault(&self, error: impl std::fmt::Display) -> CliFailure {
        CliFailure::Usage(format!("line {}: {error}", self.number))
    }
}
