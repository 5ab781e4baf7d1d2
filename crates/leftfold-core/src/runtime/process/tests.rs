//! Memory that very many timers take.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::instance::InstanceReader;
use super::record::{ProcessEvent, ReactionRecord, SetTimer, StoredCause};
use super::step::Step;
use super::timers::ProcessTimers;
use super::{Context, Correlation, Process, ProcessRunner, Reaction, Targets, Trigger};
use crate::fold::{Event, Recorded};
use crate::runtime::clock::HandClock;
use crate::runtime::{Clock, Host};
use crate::store::{Append, Authority, Position, Query, Read, Store, StreamName, Timestamp};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Note {
    Taken { names: Vec<String>, due: Timestamp },
}

impl Event for Note {
    const NAMESPACE: &'static str = "note";
}

/// Sets the timers that a note names.
#[derive(Default)]
struct Alarm;

impl Process for Alarm {
    const NAME: &'static str = "alarm";
    type Event = Note;

    fn targets() -> Targets {
        Targets::none()
    }

    fn correlate(event: &Recorded<Note>) -> Correlation {
        Correlation::starts(event.stream_id())
    }

    fn apply(&mut self, _: &Trigger<Note>, _: &Context) {}

    fn react(&self, trigger: &Trigger<Note>, _: &Context) -> Reaction {
        let Trigger::Event(Note::Taken { names, due }) = trigger else { return Reaction::none() };
        names.iter().fold(Reaction::none(), |reaction, name| reaction.timer(name, *due))
    }
}

/// One reaction in a stream of its own, that sets so many timers.
fn reaction(archive: &InstanceReader, key: usize, timers: Vec<SetTimer>) -> crate::store::NewEvent {
    let cause = StoredCause::Event { position: 1, part: 0 };
    let (process, commands, cancelled) = ("alarm".to_owned(), Vec::new(), Vec::new());
    let reacted = ReactionRecord {
        process,
        cause,
        starts: true,
        ends: false,
        commands,
        timers,
        cancelled,
        behind: 0,
        depth: 0,
        rounds: 0,
        carried: 0,
        fired_before: 0,
    };
    let stream = StreamName::of("$process:alarm", &key.to_string()).unwrap();
    archive.own.encode(&ProcessEvent::Reacted(reacted)).unwrap().in_stream(stream)
}

/// In three hours, so many a minute that one minute is more than is kept.
#[tokio::test]
async fn a_hundred_thousand_timers_fire_each_once_and_a_bounded_number_of_them_is_in_memory() {
    const MINUTES: usize = 180;
    const PER_REACTION: usize = 60;
    const REACTIONS: usize = 100_000 / PER_REACTION + 1;
    const NEAR_MAX: usize = 400;
    let store = Store::memory();
    let archive = InstanceReader::new::<Alarm>(store.clone()).unwrap();
    let start = Timestamp::from_micros(0);
    let timer = |key: usize, number: usize| {
        let due = start
            .plus(MINUTE * (key % MINUTES) as u32 + Duration::from_millis(number as u64 * 900));
        SetTimer { name: number.to_string(), due, at_once: false }
    };
    for first in (0..REACTIONS).step_by(1_000) {
        let keys = first..REACTIONS.min(first + 1_000);
        let events = keys.map(|key| {
            reaction(&archive, key, (0..PER_REACTION).map(|number| timer(key, number)).collect())
        });
        store.append(Append::of(events.collect()).by(Authority::RUNTIME)).await.unwrap();
    }
    let mut timers = ProcessTimers::from("alarm", start, NEAR_MAX);
    let (mut fired, mut near_max, mut last) = (0, 0, start);
    for minute in 0..=MINUTES as u32 + 1 {
        let now = start.plus(MINUTE * minute);
        loop {
            let more = timers.look_ahead(&archive, now).await.unwrap();
            near_max = near_max.max(timers.near());
            let due = timers.due(now, 1_000);
            if due.is_empty() && !more {
                break;
            }
            for timer in due {
                assert!(timer.due >= last, "they fire in order");
                last = timer.due;
                timers.forget(&timer);
                fired += 1;
            }
        }
        assert!(timers.fired_before() > now, "everything that was due has fired");
    }
    assert_eq!(fired, REACTIONS * PER_REACTION);
    assert!((NEAR_MAX / 2..=NEAR_MAX).contains(&near_max), "{near_max} were in memory");
}

#[tokio::test]
async fn more_timers_at_one_moment_than_are_kept_fire_each_once_also_over_restarts() {
    const NOTES: usize = 40;
    const TIMERS: usize = 50;
    let store = Store::memory();
    let clock = Arc::new(HandClock::default());
    let due = clock.now().plus(MINUTE * 30);
    let schema = crate::fold::Schema::of::<Note>().unwrap();
    for note in 0..NOTES {
        let names = (0..TIMERS).map(|number| number.to_string()).collect();
        let event = schema.encode(&Note::Taken { names, due }).unwrap();
        store
            .append(Append::of(vec![
                event.in_stream(StreamName::of("note", &note.to_string()).unwrap()),
            ]))
            .await
            .unwrap();
    }
    let reactions = async || {
        let read = Read::matching(Query::category("$process:alarm"), Position(1));
        store.read(read).all().await.unwrap().len()
    };
    // It is killed again and again while they fire.
    for restart in 0..12 {
        if restart < 4 {
            let now = clock.now().plus(MINUTE * 10);
            clock.set(now);
        }
        let (_asked, asks) = mpsc::channel(1);
        let mut runner = ProcessRunner::<Alarm>::new(Host::new(store.clone(), clock.clone()), asks)
            .await
            .unwrap();
        runner.keep_near(100).await;
        // What fired at the same moment before is passed over again, a look and a step for each
        // hundred.
        for _ in 0..50 {
            if matches!(runner.step().await, Step::Idle(_)) {
                break;
            }
        }
    }
    assert_eq!(reactions().await, NOTES + NOTES * TIMERS);
}
