//! A process that does what the events tell it, and desks that remember what was written on them.
#![allow(unreachable_pub, reason = "a module of one test binary")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use leftfold_core::fold::{Aggregate, Event, Recorded, Upcasters};
use leftfold_core::runtime::RunningRuntime;
use leftfold_core::runtime::process::{
    Context, Correlation, Process, Processes, Reaction, Targets, Trigger,
};
use leftfold_core::store::{Store, Timestamp};
use serde::{Deserialize, Serialize};

use crate::runtime_stage::{self, SECOND, until};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DeskEvent {
    Asked(Ask),
    Wrote { text: String },
}

/// Whom an event concerns, and what follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ask {
    pub starts: Vec<String>,
    pub continues: Vec<String>,
    pub ends: Vec<String>,
    pub acts: Vec<Act>,
    /// Acts that follow when a timer fires, by its name, or when something is `refused`.
    pub later: BTreeMap<String, Vec<Act>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Act {
    Write {
        desk: String,
        text: String,
    },
    /// A command that is refused.
    Scrawl {
        desk: String,
    },
    /// A command that makes the aggregate panic while the desk is broken.
    Hit {
        desk: String,
    },
    /// A command at which the aggregate panics while the desk is broken, and that is refused after.
    Scold {
        desk: String,
    },
    /// A command that is written, and read as another one.
    Blurred {
        desk: String,
    },
    Ask {
        desk: String,
        ask: Ask,
    },
    Timer {
        name: String,
        seconds: u32,
    },
    At {
        name: String,
        at: Timestamp,
    },
    Cancel {
        name: String,
    },
    End,
    Commands {
        desk: String,
        count: usize,
    },
    Timers {
        count: usize,
    },
    Effects {
        door: String,
        count: usize,
    },
    UnknownTarget,
    Heavy {
        desk: String,
        bytes: usize,
    },
}

impl Event for DeskEvent {
    const NAMESPACE: &'static str = "desk";
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Do {
    Ask(Ask),
    Write(String),
    Scrawl,
    Hit,
    Scold,
    Blurred(Blurred),
}

/// Is written as a text, and read as a number.
#[derive(Clone, Debug, Default)]
pub struct Blurred;

impl Serialize for Blurred {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("seven")
    }
}

impl<'de> Deserialize<'de> for Blurred {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(|_| Self)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("desk cannot be read, write better")]
pub struct Illegible;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Desk {
    pub texts: Vec<String>,
}

impl Aggregate for Desk {
    const CATEGORY: &'static str = "desk";
    type Event = DeskEvent;
    type Command = Do;
    type Refusal = Illegible;

    fn apply(&mut self, event: &DeskEvent) {
        if let DeskEvent::Wrote { text } = event {
            self.texts.push(text.clone());
        }
    }

    fn decide(&self, command: &Do) -> Result<Vec<DeskEvent>, Illegible> {
        match command {
            Do::Ask(ask) => Ok(vec![DeskEvent::Asked(ask.clone())]),
            Do::Write(text) => Ok(vec![DeskEvent::Wrote { text: text.clone() }]),
            Do::Scrawl => Err(Illegible),
            Do::Hit => {
                let broken = self.texts.iter().any(|text| is_broken(text));
                assert!(!broken, "decide exploded");
                Ok(vec![DeskEvent::Wrote { text: "hit".to_owned() }])
            }
            Do::Scold => {
                let broken = self.texts.iter().any(|text| is_broken(text));
                assert!(!broken, "decide exploded");
                Err(Illegible)
            }
            Do::Blurred(_) => Ok(Vec::new()),
        }
    }
}

/// Instances, named by their keys, that panic: `KEY` in react, `KEY apply` in apply,
/// `KEY correlate` in correlate.
static BROKEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

pub fn break_it(what: &str) {
    BROKEN.lock().unwrap().insert(what.to_owned());
}

pub fn fix(what: &str) {
    BROKEN.lock().unwrap().remove(what);
}

pub fn is_broken(what: &str) -> bool {
    BROKEN.lock().unwrap().contains(what)
}

#[derive(Debug, Default)]
pub struct Clerk {
    later: BTreeMap<String, Vec<Act>>,
}

/// Events that the clerk follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClerkEvent {
    #[serde(rename = "desk.Asked")]
    Asked(Ask),
}

impl Event for ClerkEvent {
    const NAMESPACE: &'static str = "clerk";

    /// One old event was two of today's.
    fn upcasters() -> Upcasters {
        Upcasters::none().split(("desk.AskedTwice", 1), &[("desk.Asked", 1)], |mut data| {
            Ok(vec![("desk.Asked", data["one"].take()), ("desk.Asked", data["two"].take())])
        })
    }
}

impl Process for Clerk {
    const NAME: &'static str = "clerk";
    type Event = ClerkEvent;

    fn targets() -> Targets {
        Targets::of::<Desk>()
    }

    fn correlate(event: &Recorded<ClerkEvent>) -> Correlation {
        let ClerkEvent::Asked(ask) = &event.event;
        let all = || ask.starts.iter().chain(&ask.continues).chain(&ask.ends);
        assert!(!all().any(|key| is_broken(&format!("{key} correlate"))), "correlate exploded");
        let found = ask.starts.iter().fold(Correlation::ignores(), Correlation::and_starts);
        let found = ask.continues.iter().fold(found, Correlation::and_continues);
        ask.ends.iter().fold(found, Correlation::and_ends)
    }

    fn apply(&mut self, trigger: &Trigger<ClerkEvent>, context: &Context) {
        assert!(!is_broken(&format!("{} apply", context.key)), "apply exploded");
        if let Trigger::Event(ClerkEvent::Asked(ask)) = trigger {
            self.later.extend(ask.later.clone());
        }
    }

    fn react(&self, trigger: &Trigger<ClerkEvent>, context: &Context) -> Reaction {
        assert!(!is_broken(&context.key), "react exploded");
        let later = |name: &str| self.later.get(name).cloned().unwrap_or_default();
        let acts = match trigger {
            Trigger::Event(ClerkEvent::Asked(ask)) => ask.acts.clone(),
            Trigger::TimerFired { name } => later(name),
            Trigger::Refused(_) => later("refused"),
        };
        acts.into_iter().fold(Reaction::none(), act)
    }
}

fn act(reaction: Reaction, act: Act) -> Reaction {
    match act {
        Act::Write { desk, text } => reaction.command::<Desk>(desk, Do::Write(text)),
        Act::Scrawl { desk } => reaction.command::<Desk>(desk, Do::Scrawl),
        Act::Hit { desk } => reaction.command::<Desk>(desk, Do::Hit),
        Act::Scold { desk } => reaction.command::<Desk>(desk, Do::Scold),
        Act::Blurred { desk } => reaction.command::<Desk>(desk, Do::Blurred(Blurred)),
        Act::Ask { desk, ask } => reaction.command::<Desk>(desk, Do::Ask(ask)),
        Act::Timer { name, seconds } => reaction.timer(name, SECOND * seconds),
        Act::At { name, at } => reaction.timer(name, at),
        Act::Cancel { name } => reaction.cancel(name),
        Act::End => reaction.end(),
        Act::Commands { desk, count } => (0..count).fold(reaction, |reaction, n| {
            reaction.command::<Desk>(&desk, Do::Write(n.to_string()))
        }),
        Act::Timers { count } => {
            (0..count).fold(reaction, |reaction, n| reaction.timer(n.to_string(), SECOND))
        }
        Act::Effects { door, count } => (0..count).fold(reaction, |reaction, n| {
            reaction
                .effect::<runtime_stage::Opener>(&door, &runtime_stage::Opening { code: n as u32 })
        }),
        Act::UnknownTarget => reaction.command::<Door2>("d", ()),
        Act::Heavy { desk, bytes } => reaction.command::<Desk>(desk, Do::Write("x".repeat(bytes))),
    }
}

/// No target of the clerk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Door2;

impl Aggregate for Door2 {
    const CATEGORY: &'static str = "door2";
    type Event = DeskEvent;
    type Command = ();
    type Refusal = Illegible;
    fn apply(&mut self, _: &DeskEvent) {}
    fn decide(&self, (): &()) -> Result<Vec<DeskEvent>, Illegible> {
        Ok(Vec::new())
    }
}

pub fn write(desk: &str, text: &str) -> Act {
    Act::Write { desk: desk.to_owned(), text: text.to_owned() }
}

pub fn timer(name: &str, seconds: u32) -> Act {
    Act::Timer { name: name.to_owned(), seconds }
}

pub fn cancel(name: &str) -> Act {
    Act::Cancel { name: name.to_owned() }
}

pub fn starts(key: &str, acts: impl Into<Vec<Act>>) -> Ask {
    Ask { starts: vec![key.to_owned()], acts: acts.into(), ..Ask::default() }
}

pub fn continues(key: &str, acts: impl Into<Vec<Act>>) -> Ask {
    Ask { continues: vec![key.to_owned()], acts: acts.into(), ..Ask::default() }
}

impl Ask {
    pub fn later(mut self, name: &str, acts: impl Into<Vec<Act>>) -> Self {
        self.later.insert(name.to_owned(), acts.into());
        self
    }
}

/// Records an event that the clerk follows, in the stream of a desk.
pub async fn ask_at(store: &Store, desk: &str, ask: Ask) {
    store.aggregate::<Desk>().execute(desk, Do::Ask(ask)).await.unwrap();
}

pub async fn ask(store: &Store, ask: Ask) {
    ask_at(store, "asked", ask).await;
}

pub async fn texts(store: &Store, desk: &str) -> Vec<String> {
    store.aggregate::<Desk>().load(desk).await.unwrap().state.texts
}

pub async fn until_written(store: &Store, desk: &str, expected: &[&str]) {
    until(format!("{expected:?} is on {desk}"), async || {
        texts(store, desk).await.len() >= expected.len()
    })
    .await;
    assert_eq!(texts(store, desk).await, expected);
}

pub async fn works(process: &runtime_stage::Process) -> RunningRuntime {
    process.runtime().process::<Clerk>().start().await.unwrap()
}

pub async fn parked(processes: &Processes) -> usize {
    processes.parked("clerk").await.unwrap().len()
}
