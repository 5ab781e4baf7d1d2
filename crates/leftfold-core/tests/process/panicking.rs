//! Users' code that panics where a value passes through a process, an inbox or an effect: that
//! value waits for a person or is refused, and all else goes on.

use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::inbox::{Delivery, Inbox, ReceiveError};
use leftfold_core::runtime::process::{
    Context, Correlation, Process, Reaction, Targets, Trigger, Whose,
};
use leftfold_core::runtime::{
    Attempt, Conclusion, Effect, EffectId, EffectState, Performed, Policy,
};
use leftfold_core::store::{Append, EventType, NewEvent, Position, Store, StreamName};
use serde::{Deserialize, Serialize};

use crate::fuse::{Fuse, fuse};
use crate::runtime_stage::{Stage, settled, until};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum WickEvent {
    /// A command with this text is to be issued.
    CommandAsked {
        text: String,
    },
    /// One that is refused with it.
    RefusalAsked {
        text: String,
    },
    /// An effect whose outcome has it.
    OutcomeAsked {
        text: String,
        by: Fuse,
    },
    Lit {
        fuse: Fuse,
    },
}

impl Event for WickEvent {
    const NAMESPACE: &'static str = "wick";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Do {
    Say(WickEvent),
    Burn(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("burnt")]
struct Burnt {
    fuse: Fuse,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Wick {
    lit: Vec<Fuse>,
}

impl Aggregate for Wick {
    const CATEGORY: &'static str = "wick";
    type Event = WickEvent;
    type Command = Do;
    type Refusal = Burnt;

    fn apply(&mut self, event: &WickEvent) {
        if let WickEvent::Lit { fuse } = event {
            assert_ne!(fuse.0, "explode", "the wick exploded");
            self.lit.push(fuse.clone());
        }
    }

    fn decide(&self, command: &Do) -> Result<Vec<WickEvent>, Burnt> {
        match command.clone() {
            Do::Say(event) => Ok(vec![event]),
            Do::Burn(text) => Err(Burnt { fuse: fuse(&text) }),
        }
    }
}

/// Lights what it is asked to, an instance for each text.
#[derive(Debug, Default)]
struct Lighter;

impl Process for Lighter {
    const NAME: &'static str = "lighter";
    type Event = WickEvent;

    fn targets() -> Targets {
        Targets::of::<Wick>()
    }

    fn correlate(event: &Recorded<WickEvent>) -> Correlation {
        match &event.event {
            WickEvent::CommandAsked { text } => Correlation::starts(format!("command {text}")),
            WickEvent::RefusalAsked { text } => Correlation::starts(format!("refusal {text}")),
            _ => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<WickEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<WickEvent>, _: &Context) -> Reaction {
        let light = |fuse| Do::Say(WickEvent::Lit { fuse });
        match trigger {
            Trigger::Event(WickEvent::CommandAsked { text }) => {
                Reaction::none().command::<Wick>("lit", light(fuse(text)))
            }
            Trigger::Event(WickEvent::RefusalAsked { text }) => {
                Reaction::none().command::<Wick>("lit", Do::Burn(text.clone()))
            }
            Trigger::Refused(refused) => match refused.by::<Wick>() {
                Some(Burnt { fuse }) => Reaction::none().command::<Wick>("lit", light(fuse)),
                None => panic!("it was refused: {}", refused.reason()),
            },
            _ => Reaction::none(),
        }
    }
}

impl Inbox for Lighter {
    const NAME: &'static str = "sparks";
    type Message = Fuse;

    fn targets() -> Targets {
        Targets::of::<Wick>()
    }

    fn deliver(spark: &Fuse, _: &Delivery) -> Reaction {
        Reaction::none().command::<Wick>("lit", Do::Say(WickEvent::Lit { fuse: spark.clone() }))
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Asked {
    text: String,
    #[expect(dead_code, reason = "that it is read is the point")]
    by: Fuse,
}

struct Burn;

impl Effect for Burn {
    const NAME: &'static str = "burn";
    const INTENT: &'static str = "wick.OutcomeAsked";
    type Intent = Asked;
    type Outcome = Fuse;
    type Target = Wick;

    fn policy(&self) -> Policy {
        Policy::once()
    }

    async fn perform(&self, attempt: &Attempt<Asked>) -> Performed<Fuse> {
        Performed::Done(fuse(&attempt.intent.text))
    }

    fn report(&self, _: &Attempt<Asked>, conclusion: &Conclusion<Fuse>) -> Option<(String, Do)> {
        let Conclusion::Done(fuse) = conclusion else { return None };
        Some(("lit".to_owned(), Do::Say(WickEvent::Lit { fuse: fuse.clone() })))
    }
}

async fn say(store: &Store, event: WickEvent) {
    store.aggregate::<Wick>().execute("asked", Do::Say(event)).await.unwrap();
}

/// An event as another release wrote it, at which the code of this one panics.
async fn other_release_says(
    store: &Store,
    event_type: &'static str,
    data: &'static str,
) -> EffectId {
    let event = NewEvent::new(EventType::new(event_type).unwrap(), data);
    store
        .append(Append::of(vec![event.in_stream(StreamName::of("wick", "other").unwrap())]))
        .await
        .unwrap();
    EffectId(store.head().position)
}

async fn lit(store: &Store) -> Vec<Fuse> {
    store.aggregate::<Wick>().load("lit").await.unwrap().state.lit
}

#[tokio::test]
async fn commands_and_refusals_whose_code_panics_wait_for_a_person_and_the_process_goes_on() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().process::<Lighter>().start().await.unwrap();
    for text in ["write", "read", "ok"].map(str::to_owned) {
        say(&process.store, WickEvent::CommandAsked { text: text.clone() }).await;
        say(&process.store, WickEvent::RefusalAsked { text }).await;
    }
    until("the others are carried out", async || {
        lit(&process.store).await == [fuse("ok"), fuse("ok")]
    })
    .await;
    let parked = running.processes().parked("lighter").await.unwrap();
    let whose: Vec<_> = ["command read", "command write", "refusal read", "refusal write"]
        .map(|key| Whose::Instance(key.to_owned()))
        .into();
    let mut found: Vec<_> = parked.iter().map(|one| one.whose.clone()).collect();
    found.sort_by_key(|whose| format!("{whose:?}"));
    assert_eq!(found, whose);
    let says = |error: &str| error.contains("the pen broke") || error.contains("the glasses broke");
    assert!(parked.iter().all(|one| one.error.as_deref().is_some_and(says)), "{parked:?}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_at_whose_reading_code_panics_is_parked_for_its_stream_and_the_process_goes_on() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().process::<Lighter>().start().await.unwrap();
    other_release_says(&process.store, "wick.Lit", r#"{"fuse":"read"}"#).await;
    say(&process.store, WickEvent::CommandAsked { text: "ok".to_owned() }).await;
    until("the next one is heard", async || lit(&process.store).await == [fuse("ok")]).await;
    let parked = running.processes().parked("lighter").await.unwrap();
    assert_eq!(parked.len(), 1);
    let error = parked[0].error.as_ref().unwrap();
    assert!(error.contains("the glasses broke") && error.contains("position 1"), "{error}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_whose_code_panics_is_refused_at_the_door() {
    let stage = Stage::new();
    let process = stage.process();
    let inbox = process.store.inbox::<Lighter>();
    for text in ["write", "read"] {
        let received = inbox.receive("depot", text, None, fuse(text)).await;
        assert!(
            matches!(&received, Err(ReceiveError::Unwritable { detail }) if detail.contains("broke")),
            "{received:?}"
        );
    }
    let received = inbox.receive_bytes("depot", "bytes", None, b"\"read\"").await;
    assert!(
        matches!(&received, Err(ReceiveError::Unreadable { detail, .. }) if detail.contains("broke")),
        "{received:?}"
    );
    assert_eq!(process.store.head().position, Position::START);
}

/// An intent at whose reading code panicked ended as not done, also if the next release could carry
/// it out.
#[tokio::test]
async fn an_outcome_whose_code_panics_is_in_doubt_and_an_intent_waits_for_a_release_that_reads_it()
{
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().effect(Burn).start().await.unwrap();
    let unread =
        other_release_says(&process.store, "wick.OutcomeAsked", r#"{"text":"ok","by":"read"}"#)
            .await;
    for (text, is_done) in [("write", false), ("read", false), ("ok", true)] {
        say(&process.store, WickEvent::OutcomeAsked { text: text.to_owned(), by: fuse("me") })
            .await;
        let id = EffectId(process.store.head().position);
        match settled(&running.effects(), id).await {
            EffectState::Done { .. } if is_done => {}
            EffectState::InDoubt { reason, .. } if !is_done => {
                assert!(reason.contains("it took place") && reason.contains("broke"), "{reason}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    until("the intent is parked", async || running.status()[0].parked == 1).await;
    let state = running.effects().find(unread).await.unwrap().unwrap().state;
    assert!(
        matches!(&state, EffectState::Parked { reason } if reason.contains("the glasses broke")),
        "{state:?}"
    );
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_outcome_whose_event_the_target_cannot_take_is_recorded_without_it() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().effect(Burn).start().await.unwrap();
    say(&process.store, WickEvent::OutcomeAsked { text: "explode".to_owned(), by: fuse("me") })
        .await;
    let id = EffectId(process.store.head().position);
    assert!(matches!(settled(&running.effects(), id).await, EffectState::Done { .. }));
    let refused = running.effects().find(id).await.unwrap().unwrap().report_refused.unwrap();
    assert!(
        refused.contains("its apply panics (") && refused.contains("the wick exploded"),
        "{refused}"
    );
    assert_eq!(lit(&process.store).await, []);
    running.stop().await.unwrap();
}
