//! Scans of parcels that come from depots: what the tests of inboxes stand on.
#![allow(unreachable_pub, reason = "a module of one test binary")]

use std::time::Duration;

use leftfold_core::fold::{Aggregate, Event};
use leftfold_core::runtime::inbox::{Delivery, Inbox, Intake, OverGap, Receipt};
use leftfold_core::runtime::process::{Reaction, Targets};
use leftfold_core::store::Store;
use serde::{Deserialize, Serialize};

use crate::runtime_stage::until;

pub const HOLD: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ParcelEvent {
    Scanned { scan: String, late: bool },
}

impl Event for ParcelEvent {
    const NAMESPACE: &'static str = "parcel";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parcel {
    pub scans: Vec<String>,
    pub late: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scan {
    scan: String,
    late: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("there is no such place as {0}")]
pub struct NoSuchPlace(String);

impl Aggregate for Parcel {
    const CATEGORY: &'static str = "parcel";
    type Event = ParcelEvent;
    type Command = Scan;
    type Refusal = NoSuchPlace;

    fn apply(&mut self, event: &ParcelEvent) {
        let ParcelEvent::Scanned { scan, late } = event.clone();
        self.scans.push(scan);
        self.late += usize::from(late);
    }

    fn decide(&self, Scan { scan, late }: &Scan) -> Result<Vec<ParcelEvent>, NoSuchPlace> {
        if scan == "nowhere" {
            return Err(NoSuchPlace(scan.clone()));
        }
        Ok(vec![ParcelEvent::Scanned { scan: scan.clone(), late: *late }])
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Update {
    pub parcel: String,
    pub scan: String,
}

pub fn update(parcel: &str, scan: &str) -> Update {
    Update { parcel: parcel.to_owned(), scan: scan.to_owned() }
}

fn deliver(update: &Update, from: &Delivery) -> Reaction {
    assert!(update.scan != "explodes", "deliver exploded");
    Reaction::none()
        .command::<Parcel>(&update.parcel, Scan { scan: update.scan.clone(), late: from.is_late })
}

/// Releases its gaps.
pub struct Tracking;

impl Inbox for Tracking {
    const NAME: &'static str = "tracking";
    type Message = Update;

    fn targets() -> Targets {
        Targets::of::<Parcel>()
    }

    fn hold() -> Duration {
        HOLD
    }

    fn deliver(message: &Update, from: &Delivery) -> Reaction {
        deliver(message, from)
    }
}

/// Reports its gaps.
pub struct Strict;

impl Inbox for Strict {
    const NAME: &'static str = "strict";
    type Message = Update;

    fn targets() -> Targets {
        Targets::of::<Parcel>()
    }

    fn hold() -> Duration {
        HOLD
    }

    fn over_gap() -> OverGap {
        OverGap::Report
    }

    fn deliver(message: &Update, from: &Delivery) -> Reaction {
        deliver(message, from)
    }
}

/// Receives the message of a number, whose scan is its number, for a parcel.
pub async fn receive<I: Inbox<Message = Update>>(
    inbox: &Intake<I>,
    source: &str,
    sequence: u64,
    parcel: &str,
) -> Receipt {
    let (id, scan) = (format!("m{sequence}"), sequence.to_string());
    inbox.receive(source, &id, Some(sequence), update(parcel, &scan)).await.unwrap()
}

pub async fn scans(store: &Store, parcel: &str) -> Vec<String> {
    store.aggregate::<Parcel>().load(parcel).await.unwrap().state.scans
}

pub async fn until_scanned(store: &Store, parcel: &str, expected: &[&str]) {
    until(format!("{parcel} was scanned at {expected:?}"), async || {
        scans(store, parcel).await.len() >= expected.len()
    })
    .await;
    assert_eq!(scans(store, parcel).await, expected);
}
