//! Projections and outboxes of a simulation: the runtime's own runners, over rows in memory and a
//! bus that does what the schedule says.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::FutureExt;
use leftfold_core::drive;
use leftfold_core::fold::{EventError, Recorded, Schema, Unknown};
use leftfold_core::runtime::projection::{
    Bus, Memory, Message, Outbox, Outgoing, Parked, Projection, ProjectionError,
};
use leftfold_core::store::{MemoryBackend, RecordedEvent};

use super::models::{ModelProjection, SentMessages};
use super::outside::Outside;
use super::scene::Scene;
use super::store::{OperationSubject, SharedSimulation};
use super::task::ConsumerFuture;

/// The events that a projection reads, in order.
fn read<E: leftfold_core::fold::Event>(
    events: &[RecordedEvent],
) -> Result<Vec<Recorded<E>>, EventError> {
    let schema = Schema::of::<E>()?;
    let mut all = Vec::new();
    for envelope in events {
        let read = schema.decode::<E>(envelope, Unknown::Ignore)?;
        all.extend(read.into_iter().map(|event| Recorded { event, envelope: envelope.clone() }));
    }
    Ok(all)
}

fn none_parked(parked: &[Parked]) -> Result<(), String> {
    match parked.first() {
        None => Ok(()),
        Some(item) => Err(format!(
            "the event at {} is parked: {}",
            item.position,
            item.state.error().unwrap_or("it waits")
        )),
    }
}

/// A read model in memory.
struct Model<S, P> {
    memory: Memory<S>,
    make: Arc<dyn Fn() -> P + Send + Sync>,
    parked: Box<dyn Fn() -> Vec<Parked> + Send>,
}

impl<S, P> ModelProjection for Model<S, P>
where
    S: Clone + Debug + Default + PartialEq + Send + Sync + 'static,
    P: Projection<Memory<S>>,
{
    fn judge(&self, events: &[RecordedEvent], _: &SentMessages) -> Result<(), String> {
        none_parked(&(self.parked)())?;
        let (projection, mut expected) = ((self.make)(), S::default());
        let _ = projection.set_up(&mut expected).now_or_never();
        for event in read::<P::Event>(events).map_err(|error| error.to_string())? {
            match projection.apply(&mut expected, &event).now_or_never() {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    return Err(format!("the event at {}: {error}", event.envelope.position));
                }
                // It waits for something, which only its runner can do.
                None => return Ok(()),
            }
        }
        let found =
            self.memory.read(S::clone).now_or_never().ok_or("its rows are written still")?;
        if found == expected {
            Ok(())
        } else {
            Err(format!("\n     rows     {found:?}\n     expected {expected:?}"))
        }
    }

    fn rows(&self) -> Option<Box<dyn std::any::Any>> {
        Some(Box::new(self.memory.read(S::clone).now_or_never()?))
    }
}

/// Starts a projection in memory, which is built again in each life of its application.
pub(super) fn model<S, P>(scene: &Scene, make: Arc<dyn Fn() -> P + Send + Sync>) -> ConsumerFuture
where
    S: Clone + Debug + Default + PartialEq + Send + Sync + 'static,
    P: Projection<Memory<S>>,
{
    let memory = Memory::<S>::new();
    let (running, parked) = match scene.driver().projection(make(), memory.clone()) {
        Ok(started) => started,
        Err(error) => return Box::pin(async move { Err(error) }),
    };
    let follows = Model { memory, make, parked };
    scene.models.all().insert((P::NAME, scene.application), Box::new(follows));
    running
}

/// A bus that hands over what the schedule lets it.
pub(super) struct ScheduledBus {
    name: &'static str,
    shared: Arc<SharedSimulation>,
    outside: Outside,
    sent: SentMessages,
}

impl Bus for ScheduledBus {
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
        let (name, sent, outside) = (self.name, self.sent.clone(), self.outside.clone());
        let what = format!(
            "sending {} of {name}",
            if messages.len() == 1 { "a message" } else { "messages" }
        );
        let about = OperationSubject::Outside(what.clone());
        // It is done; or not, because the bus is away; or it is done, and nobody is told.
        let asked = self.shared.ask(about, 3, move |_: &MemoryBackend, way| {
            if way != 1 {
                sent.all().entry(name).or_default().extend(messages);
            }
            match way {
                0 => {}
                1 => outside.say(format!("the bus is away, and takes nothing: {what}")),
                _ => outside.say(format!("the bus takes it, and its answer is lost: {what}")),
            }
            way == 0
        });
        match asked.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(ProjectionError::message("the bus is away")),
        }
    }
}

/// The user's own projection, with a bus that does what the schedule says.
struct SimulatedOutbox<B, P>(P, PhantomData<fn(B)>);

impl<B: Bus, P: Projection<Outbox<B>>> Projection<Outbox<ScheduledBus>> for SimulatedOutbox<B, P> {
    const NAME: &'static str = P::NAME;
    const VERSION: u32 = P::VERSION;
    type Event = P::Event;

    fn key(&self, event: &Recorded<P::Event>) -> String {
        self.0.key(event)
    }

    async fn set_up(&self, rows: &mut Outgoing) -> Result<(), ProjectionError> {
        self.0.set_up(rows).await
    }

    async fn apply(
        &self,
        rows: &mut Outgoing,
        event: &Recorded<P::Event>,
    ) -> Result<(), ProjectionError> {
        self.0.apply(rows, event).await
    }
}

/// An outbox of one application.
struct OutboxModel<B, P> {
    make: Arc<dyn Fn() -> P + Send + Sync>,
    parked: Box<dyn Fn() -> Vec<Parked> + Send>,
    bus: PhantomData<fn(B)>,
}

impl<B: Bus, P: Projection<Outbox<B>>> ModelProjection for OutboxModel<B, P> {
    fn judge(&self, events: &[RecordedEvent], sent: &SentMessages) -> Result<(), String> {
        none_parked(&(self.parked)())?;
        let (projection, mut expected) = ((self.make)(), drive::outgoing(P::NAME));
        for event in read::<P::Event>(events).map_err(|error| error.to_string())? {
            drive::begin_event(&mut expected, &event.envelope);
            match projection.apply(&mut expected, &event).now_or_never() {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    return Err(format!("the event at {}: {error}", event.envelope.position));
                }
                None => return Ok(()),
            }
        }
        let found = sent.of(P::NAME);
        if found == drive::messages(&expected) {
            return Ok(());
        }
        let words = |messages: &[Message]| -> Vec<String> {
            messages
                .iter()
                .map(|message| format!("{} {:?}", message.sequence, message.payload))
                .collect()
        };
        Err(format!(
            "\n     sent     {:?}\n     expected {:?}",
            words(&found),
            words(drive::messages(&expected))
        ))
    }

    fn rows(&self) -> Option<Box<dyn std::any::Any>> {
        None
    }
}

/// Starts an outbox, which goes on from the position at which any application left it.
pub(super) fn outbox<B: Bus, P: Projection<Outbox<B>>>(
    scene: &Scene,
    make: Arc<dyn Fn() -> P + Send + Sync>,
) -> ConsumerFuture {
    let (shared, outside, sent) = (scene.shared.clone(), scene.outside.clone(), scene.sent.clone());
    let carrier = ScheduledBus { name: P::NAME, shared, outside, sent };
    let target = Outbox::new(&scene.store, carrier);
    let carried = SimulatedOutbox::<B, P>(make(), PhantomData);
    let (running, parked) = match scene.driver().projection(carried, target) {
        Ok(started) => started,
        Err(error) => return Box::pin(async move { Err(error) }),
    };
    let follows = OutboxModel::<B, P> { make, parked, bus: PhantomData };
    scene.models.all().insert((P::NAME, scene.application), Box::new(follows));
    running
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::super::Explorer;
    use super::super::schedule::{Choice, ChoiceSource, RunSchedule};
    use super::super::simulation::{self, StoryMode};
    use super::*;
    use leftfold_core::fold::{Aggregate, Event};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum BellEvent {
        Rung,
    }

    impl Event for BellEvent {
        const NAMESPACE: &'static str = "bell";
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Bell;

    #[derive(Clone, Debug, PartialEq, thiserror::Error)]
    #[error("no")]
    struct No;

    impl Aggregate for Bell {
        const CATEGORY: &'static str = "bell";
        type Event = BellEvent;
        type Command = ();
        type Refusal = No;

        fn apply(&mut self, _: &BellEvent) {}

        fn decide(&self, (): &()) -> Result<Vec<BellEvent>, No> {
            Ok(vec![BellEvent::Rung])
        }
    }

    struct Broker;

    impl Bus for Broker {
        async fn publish(&mut self, _: Vec<Message>) -> Result<(), ProjectionError> {
            Ok(())
        }
    }

    struct Echo;

    impl Projection<Outbox<Broker>> for Echo {
        const NAME: &'static str = "echo";
        type Event = BellEvent;

        async fn apply(
            &self,
            outgoing: &mut Outgoing,
            event: &Recorded<BellEvent>,
        ) -> Result<(), ProjectionError> {
            outgoing.send("hill", event.stream_id(), "ding");
            Ok(())
        }
    }

    /// A bus that was away eight times in a row was taken for a world in which nothing more
    /// happens: the run ended while the outbox waited to try again, and its messages were said to
    /// be missing.
    #[test]
    fn a_run_does_not_end_while_a_bus_is_away() {
        let given = Explorer::new()
            .outbox(|| Echo)
            .start(|clients| clients.given::<Bell>("tower", [BellEvent::Rung]));
        for from in 0..30 {
            let away =
                (from..from + 300).map(|point| (point, Choice::Take { operation: 0, way: 1 }));
            let schedule = RunSchedule { others: 0, choices: away.collect() };
            let ended =
                simulation::run(&given.plan, ChoiceSource::Known(schedule), StoryMode::InFull);
            assert_eq!(
                ended.broken,
                None,
                "away from point {from} on:\n{}",
                ended.story.join("\n")
            );
        }
    }
}
