//! Story of a run, in the words of the domain.

use std::collections::BTreeMap;
use std::time::Duration;

use leftfold_core::drive::{
    DescribedRecord, DescribedTrigger, LedgerEvent, RecordDescription, describe_record, entry_of,
};
use leftfold_core::store::{Position, RecordedEvent, Timestamp};

use super::shown;
use super::world::World;

/// The lines of a story, in order.
#[derive(Debug, Default)]
pub(super) struct Story {
    lines: Vec<String>,
    /// Time that passed since the last line, and that the clock was turned back.
    passed: Duration,
    back: Duration,
    /// Instance that reacted, by the name of the reaction: a command bears that name as its cause.
    reactions: BTreeMap<String, String>,
}

/// Author of an append.
pub(super) enum AppendAuthor<'a> {
    Client { name: &'a str, what: &'a str },
    Consumer(&'a str),
}

impl Story {
    pub(super) fn line(&mut self, line: String) {
        // Less comes from the order of appends alone.
        if self.passed >= Duration::from_millis(1) {
            self.lines.push(format!("{} later", shown::duration(std::mem::take(&mut self.passed))));
        }
        if !self.back.is_zero() {
            self.lines.push(format!(
                "the clock is turned back by {}",
                shown::duration(std::mem::take(&mut self.back))
            ));
        }
        self.lines.push(line);
    }

    /// The end: how long nothing happened before it does not matter.
    pub(super) fn end(&mut self, line: String) {
        (self.passed, self.back) = (Duration::ZERO, Duration::ZERO);
        self.line(line);
    }

    pub(super) fn time_passes(&mut self, passed: Duration) {
        self.passed += passed;
    }

    pub(super) fn clock_goes_back(&mut self, by: Duration) {
        self.back += by;
    }

    pub(super) fn lines(self) -> Vec<String> {
        self.lines
    }

    /// Tells the events that one append recorded.
    pub(super) fn appended(
        &mut self,
        teller: &AppendAuthor<'_>,
        events: &[RecordedEvent],
        world: &World,
    ) {
        let mut domain = Vec::new();
        for event in events {
            if let Some(described) = describe_record(event) {
                self.reactions.insert(
                    format!("$process:{}@{}", described.process, event.position),
                    instance(&described),
                );
                let line = record_line(&described, event.recorded_at, world);
                self.line(line);
            } else if let Some((id, entry)) = entry_of(event) {
                let intent = id
                    .parse()
                    .ok()
                    .and_then(|at| event_at(world, Position(at)))
                    .map(shown::event)
                    .unwrap_or_default();
                let name = if let AppendAuthor::Consumer(name) = teller { name } else { "effect" };
                self.line(format!("{name} for {intent}: {}", in_words(&entry)));
            } else if !event.event_type.starts_with('$') {
                domain.push(event);
            }
        }
        if domain.is_empty() {
            return;
        }
        let cause = domain[0]
            .metadata
            .causation
            .as_ref()
            .and_then(|cause| self.reactions.get(cause.as_str()));
        let who = match (teller, cause) {
            (AppendAuthor::Client { name, what }, _) => format!("{name}: {what}"),
            (AppendAuthor::Consumer(_), Some(who)) => who.clone(),
            (AppendAuthor::Consumer(name), None) => (*name).to_owned(),
        };
        let told = in_streams(&domain);
        // Where it was asked for is said already.
        let target = domain[0].stream.as_ref().map_or("", |at| &at.name);
        let told = told
            .strip_prefix(&format!("{target}: "))
            .filter(|_| who.ends_with(&format!(" to {target}")))
            .unwrap_or(&told);
        self.line(format!("{who} -> {told}"));
    }
}

/// Events with the streams that they are in.
pub(super) fn in_streams(events: &[&RecordedEvent]) -> String {
    let mut text = String::new();
    let mut stream = None;
    for event in events {
        let name = event.stream.as_ref().map(|at| &at.name);
        if !text.is_empty() {
            text.push_str(", ");
        }
        if name != stream {
            text.push_str(name.map_or("", |name| name));
            text.push_str(": ");
        }
        stream = name;
        text.push_str(&shown::event(event));
    }
    text
}

fn instance(described: &RecordDescription) -> String {
    format!("{} {}", described.process, described.key)
}

fn record_line(described: &RecordDescription, at: Timestamp, world: &World) -> String {
    let who = instance(described);
    match &described.what {
        DescribedRecord::Parked(error) => format!(
            "{who} is parked: {}",
            error.as_deref().unwrap_or("it waits behind another trigger")
        ),
        DescribedRecord::LetGo => format!("{who}: a person lets go what was parked"),
        DescribedRecord::Reacted { to, ends, commands, set, cancelled, .. } => {
            let mut does: Vec<String> = commands
                .iter()
                .map(|(to, command)| format!("asks {to} to {}", shown::tagged(command)))
                .collect();
            does.extend(set.iter().map(|(name, due)| {
                format!("sets timer {name:?} in {}", shown::duration(due.since(at)))
            }));
            does.extend(cancelled.iter().map(|name| format!("cancels timer {name:?}")));
            if *ends {
                does.push("ends".to_owned());
            }
            if does.is_empty() {
                does.push("does nothing".to_owned());
            }
            format!("{who} {}, {}", trigger(to, world), does.join(", "))
        }
    }
}

fn trigger(to: &DescribedTrigger, world: &World) -> String {
    match to {
        DescribedTrigger::Event(position) => {
            let event = event_at(world, *position).map(shown::event);
            format!("handles {}", event.unwrap_or_else(|| format!("the event at {position}")))
        }
        DescribedTrigger::Timer(name) => format!("handles the due timer {name:?}"),
        DescribedTrigger::Refused { by, command, reason } => {
            format!("handles the refusal of {by} to {} ({reason})", shown::tagged(command))
        }
    }
}

fn event_at(world: &World, position: Position) -> Option<&RecordedEvent> {
    world.events().get(usize::try_from(position.0).ok()?.checked_sub(1)?)
}

fn in_words(entry: &LedgerEvent) -> String {
    match entry {
        LedgerEvent::AttemptOpened { number, .. } => format!("attempt {number} begins"),
        LedgerEvent::AttemptFailed { number, reason, .. } => {
            format!("attempt {number} failed ({reason}), another one follows")
        }
        LedgerEvent::Doubted { number, reason } => {
            format!("attempt {number} is in doubt ({reason})")
        }
        LedgerEvent::Done { .. } => "it is recorded as done".to_owned(),
        LedgerEvent::NotDone { reason, .. } => format!("it is recorded as not done ({reason})"),
        LedgerEvent::Cleared { number, reason } => {
            format!("attempt {number} did not take place ({reason})")
        }
        LedgerEvent::Cancelled { reason, by } => {
            format!("{by} wants no further attempt ({reason})")
        }
    }
}

/// Describes the operations that a crash took with it.
pub(super) fn crashed(
    application: usize,
    applications: usize,
    lost: &[String],
    carried: &[String],
) -> String {
    let mut line = "crash".to_owned();
    if applications > 1 {
        line = format!("crash of application {}", application + 1);
    }
    if !lost.is_empty() {
        line.push_str(&format!("; lost: {}", lost.join(", ")));
    }
    if !carried.is_empty() {
        line.push_str(&format!("; carried out, but the answer was lost: {}", carried.join(", ")));
    }
    line
}
