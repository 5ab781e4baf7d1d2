//! A command that was recorded is the same command after a restart.

use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_core::store::Store;
use serde::{Deserialize, Serialize};

use crate::runtime_stage::{Stage, until};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum MeterEvent {
    Read { kwh: f64 },
    Counted { kwh: f64, from: String },
}

impl Event for MeterEvent {
    const NAMESPACE: &'static str = "meter";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("never")]
struct Never;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Meter {
    kwh: Vec<f64>,
}

impl Aggregate for Meter {
    const CATEGORY: &'static str = "meter";
    type Event = MeterEvent;
    type Command = MeterEvent;
    type Refusal = Never;

    fn apply(&mut self, event: &MeterEvent) {
        let (MeterEvent::Read { kwh } | MeterEvent::Counted { kwh, .. }) = event;
        self.kwh.push(*kwh);
    }

    fn decide(&self, event: &MeterEvent) -> Result<Vec<MeterEvent>, Never> {
        Ok(vec![event.clone()])
    }
}

/// Counts what is read anywhere in one place.
#[derive(Default)]
struct Sum;

impl Process for Sum {
    const NAME: &'static str = "sum";
    type Event = MeterEvent;

    fn targets() -> Targets {
        Targets::of::<Meter>()
    }

    fn correlate(event: &Recorded<MeterEvent>) -> Correlation {
        match event.event {
            MeterEvent::Read { .. } => Correlation::starts(event.stream_id()),
            MeterEvent::Counted { .. } => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<MeterEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<MeterEvent>, context: &Context) -> Reaction {
        let Trigger::Event(MeterEvent::Read { kwh }) = trigger else { return Reaction::none() };
        Reaction::none()
            .command::<Meter>("sum", MeterEvent::Counted { kwh: *kwh, from: context.key.clone() })
    }
}

async fn counted(store: &Store) -> Vec<f64> {
    store.aggregate::<Meter>().load("sum").await.unwrap().state.kwh
}

/// A float that did not come back from JSON as it was: after a restart the command had another
/// digest under its id, and no later command for that aggregate was ever carried out.
#[tokio::test]
async fn a_command_with_a_floating_point_number_is_carried_out_once_and_so_is_what_follows() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::new();
    let asking = stage.process();
    let mut expected = vec![117.633_313_911_400_17, 0.1 * 0.29, f64::MIN_POSITIVE, -0.0, 1e300];
    expected.extend((0..20).map(|_| random.f64() * 1e3));
    for (number, kwh) in expected.iter().enumerate() {
        let process = stage.process();
        let running = process.runtime().process::<Sum>().start().await.unwrap();
        asking
            .store
            .aggregate::<Meter>()
            .execute(&number.to_string(), MeterEvent::Read { kwh: *kwh })
            .await
            .unwrap();
        until("it was counted", async || counted(&asking.store).await.len() > number).await;
        // Killed before anything says that the command was carried out.
        process.kill();
        drop(running);
        stage.clock.advance(leftfold_core::runtime::process::PROCESS_LEASE);
    }
    let bits = |all: &[f64]| all.iter().map(|one| one.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&counted(&asking.store).await), bits(&expected));
}
