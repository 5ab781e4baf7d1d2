//! Arrays within each other, around the greatest depth that can be written: each is carried and
//! read again after a restart, or refused before anything of it is written.

use leftfold_core::fold::{Aggregate, Event, EventError, ExecuteError, Recorded, SnapshotPolicy};
use leftfold_core::runtime::inbox::{Delivery, Inbox, Receipt, ReceiveError};
use leftfold_core::runtime::process::{
    AskError, Context, Correlation, Process, Reaction, Targets, Trigger, Whose,
};
use leftfold_core::runtime::{
    Attempt, Conclusion, Effect, EffectId, EffectState, Performed, Policy,
};
use leftfold_core::store::{Store, Version};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::runtime_stage::{SECOND, Stage, quiet, record, settled, until};

/// JSON that is kept as it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Raw(Box<RawValue>);

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// Value that a client sent, as it was parsed or as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Client {
    parsed: Option<Value>,
    raw: Option<Raw>,
}

/// A depth, of what was parsed or of what came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Depth {
    is_raw: bool,
    levels: usize,
}

impl Depth {
    fn client(self) -> Client {
        let text = format!("{}{}", "[".repeat(self.levels), "]".repeat(self.levels));
        let parsed = (0..self.levels)
            .fold(None, |inner: Option<Value>, _| Some(inner.into_iter().collect()));
        match self.is_raw {
            true => Client { parsed: None, raw: Some(Raw(RawValue::from_string(text).unwrap())) },
            false => Client { parsed, raw: None },
        }
    }

    fn key(self) -> String {
        format!("{}-{}", self.is_raw, self.levels)
    }

    /// Each depth, from one that any record has room for to one that cannot be read.
    fn all() -> impl Iterator<Item = Self> {
        [false, true]
            .into_iter()
            .flat_map(|is_raw| (110..=130).map(move |levels| Self { is_raw, levels }))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum DeepEvent {
    CommandAsked(Depth),
    RefusalAsked(Depth),
    OutcomeAsked(Depth),
    Took { client: Client },
    RefusalHeard(Depth),
}

impl Event for DeepEvent {
    const NAMESPACE: &'static str = "deep";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Do {
    Say(DeepEvent),
    Refuse(Depth),
}

fn take(client: Client) -> Do {
    Do::Say(DeepEvent::Took { client })
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("no")]
struct No {
    client: Client,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Deep {
    took: Vec<Client>,
    heard: u32,
}

impl Aggregate for Deep {
    const CATEGORY: &'static str = "deep";
    type Event = DeepEvent;
    type Command = Do;
    type Refusal = No;

    fn apply(&mut self, event: &DeepEvent) {
        match event {
            DeepEvent::Took { client } => self.took.push(client.clone()),
            DeepEvent::RefusalHeard(_) => self.heard += 1,
            _ => {}
        }
    }

    fn decide(&self, command: &Do) -> Result<Vec<DeepEvent>, No> {
        match command.clone() {
            Do::Say(event) => Ok(vec![event]),
            Do::Refuse(depth) => Err(No { client: depth.client() }),
        }
    }

    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(1)
    }
}

/// Takes what is asked for, and notes what is refused.
#[derive(Debug, Default)]
struct Carrying;

impl Process for Carrying {
    const NAME: &'static str = "carrying";
    type Event = DeepEvent;

    fn targets() -> Targets {
        Targets::of::<Deep>()
    }

    fn correlate(event: &Recorded<DeepEvent>) -> Correlation {
        match event.event {
            DeepEvent::CommandAsked(depth) => Correlation::starts(format!("took-{}", depth.key())),
            DeepEvent::RefusalAsked(depth) => {
                Correlation::starts(format!("refused-{}", depth.key()))
            }
            _ => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<DeepEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<DeepEvent>, context: &Context) -> Reaction {
        match trigger {
            Trigger::Event(DeepEvent::CommandAsked(depth)) => {
                Reaction::none().command::<Deep>(&context.key, take(depth.client()))
            }
            Trigger::Event(DeepEvent::RefusalAsked(depth)) => {
                Reaction::none().command::<Deep>(&context.key, Do::Refuse(*depth))
            }
            Trigger::Refused(refused) => {
                let (Some(No { client }), Some(Do::Refuse(depth))) =
                    (refused.by::<Deep>(), refused.command::<Deep>())
                else {
                    panic!("it was refused: {}", refused.reason());
                };
                assert_eq!(client, depth.client());
                Reaction::none()
                    .command::<Deep>(&context.key, Do::Say(DeepEvent::RefusalHeard(depth)))
            }
            _ => Reaction::none(),
        }
    }
}

impl Inbox for Carrying {
    const NAME: &'static str = "clients";
    type Message = Client;

    fn targets() -> Targets {
        Targets::of::<Deep>()
    }

    fn deliver(client: &Client, from: &Delivery) -> Reaction {
        Reaction::none().command::<Deep>(&from.id, take(client.clone()))
    }
}

struct Fetch;

impl Effect for Fetch {
    const NAME: &'static str = "fetch";
    const INTENT: &'static str = "deep.OutcomeAsked";
    type Intent = Depth;
    type Outcome = Client;
    type Target = Deep;

    fn policy(&self) -> Policy {
        Policy::once()
    }

    async fn perform(&self, attempt: &Attempt<Depth>) -> Performed<Client> {
        Performed::Done(attempt.intent.client())
    }

    fn report(
        &self,
        attempt: &Attempt<Depth>,
        conclusion: &Conclusion<Client>,
    ) -> Option<(String, Do)> {
        let Conclusion::Done(client) = conclusion else { return None };
        Some((format!("fetched-{}", attempt.intent.key()), take(client.clone())))
    }
}

async fn loaded(store: &Store, id: &str) -> Deep {
    store.aggregate::<Deep>().load(id).await.unwrap().state
}

async fn ask(store: &Store, event: DeepEvent) -> EffectId {
    EffectId(store.aggregate::<Deep>().execute("asked", Do::Say(event)).await.unwrap().position)
}

#[tokio::test]
async fn events_and_states_of_every_depth_are_read_again_or_refused_with_nothing_written() {
    let stage = Stage::new();
    let mut carried = Vec::new();
    for depth in Depth::all() {
        let store = stage.process().store;
        let before = store.head().position;
        match store.aggregate::<Deep>().execute(&depth.key(), take(depth.client())).await {
            Ok(_) => carried.push(depth),
            Err(ExecuteError::Event(EventError::Encode { detail, .. })) => {
                assert!(
                    detail.starts_with("Took.client.") && detail.contains("more than 120"),
                    "{detail}"
                );
                assert_eq!(store.head().position, before);
            }
            other => panic!("{depth:?}: {other:?}"),
        }
    }
    // Two objects are around it.
    assert_eq!(carried, Depth::all().filter(|depth| depth.levels <= 118).collect::<Vec<_>>());
    let store = stage.process().store;
    for depth in carried {
        assert_eq!(
            loaded(&store, &depth.key()).await.took,
            [depth.client()],
            "from a snapshot, {depth:?}"
        );
        let from_events =
            store.aggregate::<Deep>().load_at(&depth.key(), Version::END).await.unwrap().state;
        assert_eq!(from_events.took, [depth.client()], "{depth:?}");
    }
}

/// A command, or a refusal, of JSON as it came that was deeper than a record has room for: its
/// process tried to record it each second, and did nothing else.
#[tokio::test]
async fn commands_and_refusals_of_every_depth_are_carried_or_parked_and_hold_up_nobody() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().process::<Carrying>().start().await.unwrap();
    for depth in Depth::all() {
        ask(&process.store, DeepEvent::CommandAsked(depth)).await;
        ask(&process.store, DeepEvent::RefusalAsked(depth)).await;
    }
    let status = async |store: &Store, parked: &[Whose]| {
        let (mut carried, mut waiting) = (0, 0);
        for depth in Depth::all() {
            for what in ["took", "refused"] {
                let id = format!("{what}-{}", depth.key());
                let Deep { took, heard } = loaded(store, &id).await;
                carried += usize::from(took == [depth.client()] || heard == 1);
                waiting += usize::from(parked.contains(&Whose::Instance(id)));
            }
        }
        (carried, waiting)
    };
    let parked = async |running: &leftfold_core::runtime::RunningRuntime| {
        let parked = running.processes().parked("carrying").await.unwrap();
        assert!(
            parked
                .iter()
                .all(|one| one.error.as_ref().is_some_and(|why| why.contains("more than 120"))),
            "{parked:?}"
        );
        parked.into_iter().map(|one| one.whose).collect::<Vec<_>>()
    };
    let all = 2 * Depth::all().count();
    until("each is carried or waits for a person", async || {
        let (carried, waiting) = status(&process.store, &parked(&running).await).await;
        carried + waiting == all
    })
    .await;
    let before = status(&process.store, &parked(&running).await).await;
    // Four objects are around it in a command, two in a refusal.
    assert_eq!(before, (2 * (7 + 9), 2 * (14 + 12)));
    quiet().await;
    running.stop().await.unwrap();
    let process = stage.process();
    let running = process.runtime().process::<Carrying>().start().await.unwrap();
    quiet().await;
    let head = process.store.head().position;
    stage.clock.advance(60 * SECOND);
    quiet().await;
    assert_eq!(status(&process.store, &parked(&running).await).await, before);
    let status = &running.status()[0];
    assert!(
        process.store.head().position == head && !status.stalled && status.needs_person,
        "{status:?}"
    );
    running.stop().await.unwrap();
}

#[tokio::test]
async fn outcomes_of_every_depth_are_recorded_or_leave_their_effect_in_doubt() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().effect(Fetch).start().await.unwrap();
    let mut all = Vec::new();
    for depth in Depth::all() {
        let id = ask(&process.store, DeepEvent::OutcomeAsked(depth)).await;
        all.push((id, depth, settled(&running.effects(), id).await));
    }
    running.stop().await.unwrap();
    let process = stage.process();
    let running = process.runtime().effect(Fetch).start().await.unwrap();
    let mut done = 0;
    for (id, depth, before) in all {
        let after = running.effects().find(id).await.unwrap().unwrap().state;
        match (&before, &after) {
            (EffectState::Done { .. }, EffectState::Done { .. }) => done += 1,
            (EffectState::InDoubt { reason, .. }, EffectState::InDoubt { .. }) => {
                assert!(
                    reason.contains("it took place") && reason.contains("more than 120"),
                    "{reason}"
                );
            }
            other => panic!("{depth:?}: {other:?}"),
        }
    }
    // One object is around it.
    assert_eq!(done, 2 * 10);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn messages_of_every_depth_are_delivered_or_refused_at_the_door() {
    let stage = Stage::new();
    let mut accepted = 0;
    for levels in (95..=105).chain(110..=130) {
        for is_raw in [false, true] {
            let depth = Depth { is_raw, levels };
            let process = stage.process();
            let (running, inbox) = (
                process.runtime().inbox::<Carrying>().start().await.unwrap(),
                process.store.inbox::<Carrying>(),
            );
            let before = process.store.head().position;
            let received = inbox.receive("depot", &depth.key(), None, depth.client()).await;
            match received {
                Ok(Receipt::Accepted) => {
                    accepted += 1;
                    until(format!("{depth:?} is delivered"), async || {
                        loaded(&process.store, &depth.key()).await.took == [depth.client()]
                    })
                    .await;
                    let again = inbox.receive("depot", &depth.key(), None, depth.client()).await;
                    assert_eq!(again, Ok(Receipt::Duplicate));
                }
                Err(ReceiveError::Invalid(_) | ReceiveError::Unwritable { .. }) => {
                    assert_eq!(process.store.head().position, before);
                    let bytes = serde_json::to_vec(&depth.client()).unwrap();
                    let as_bytes = inbox.receive_bytes("depot", &depth.key(), None, &bytes).await;
                    assert!(matches!(as_bytes, Err(ReceiveError::Invalid(_))), "{as_bytes:?}");
                }
                other => panic!("{depth:?}: {other:?}"),
            }
            running.stop().await.unwrap();
        }
    }
    assert_eq!(accepted, 2 * (95..100).count());
}

/// An earlier release recorded commands that were deeper, and what happened to such a one could not
/// be recorded: it was carried out again and again.
#[tokio::test]
async fn a_refused_command_that_is_too_deep_to_be_recorded_again_waits_for_a_person() {
    let stage = Stage::new();
    let process = stage.process();
    let store = &process.store;
    store
        .aggregate::<Deep>()
        .execute("other", take(Depth { is_raw: false, levels: 1 }.client()))
        .await
        .unwrap();
    let (deep, stream) =
        (format!("{}{}", "[".repeat(121), "]".repeat(121)), "$process:carrying-old");
    let command = format!(r#"{{"Refuse":{{"is_raw":false,"levels":1,"unknown":{deep}}}}}"#);
    let commands = format!(r#"[{{"to":"deep","id":"old","command":{command}}}]"#);
    let reacted = format!(
        r#"{{"process":"carrying","cause":{{"Event":{{"position":1}}}},"starts":true,"commands":{commands}}}"#
    );
    let issued = record(store, stream, "$process.Reacted", 1, &reacted).await;
    let running = process.runtime().process::<Carrying>().start().await.unwrap();
    let parked = async || running.processes().parked("carrying").await.unwrap();
    until("it waits", async || parked().await.len() == 1).await;
    let why = parked().await[0].error.clone().unwrap();
    assert!(
        why.contains("it was refused, and that cannot be recorded")
            && why.contains("more than 120"),
        "{why}"
    );
    let whose = Whose::Instance("old".to_owned());
    let again = running.processes().retry("carrying", &whose).await;
    assert!(
        matches!(&again, Err(AskError::FailsAgain { why, .. }) if why.contains("more than 120")),
        "{again:?}"
    );
    // Others go on.
    ask(store, DeepEvent::CommandAsked(Depth { is_raw: true, levels: 110 })).await;
    until("another is carried out", async || !loaded(store, "took-true-110").await.took.is_empty())
        .await;
    assert_eq!(running.processes().skip("carrying", &whose, issued, "ann").await, Ok(1));
    assert_eq!(parked().await, []);
    running.stop().await.unwrap();
}
