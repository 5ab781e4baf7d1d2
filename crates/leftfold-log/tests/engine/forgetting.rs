//! Forgetting over a log and a key file, stopped at every line of either: a person who was
//! forgotten by one of the two is forgotten by both once they are opened again, and a receipt that
//! was given holds.

use std::sync::Arc;

use leftfold_core::fold::Event;
use leftfold_core::personal::{Erasure, Keys, Opened, Personal};
use leftfold_core::store::{EventType, Position, Query, Read, Store, Tags};
use leftfold_log::disk::{DiskUse, Fault, Simulated};
use leftfold_log::{KeyFile, Log, Options, Upkeep};
use serde::{Deserialize, Serialize};

use crate::support::TestClock;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PersonEvent {
    Named { name: Personal<String> },
}

impl Event for PersonEvent {
    const NAMESPACE: &'static str = "person";

    fn tags(&self) -> Tags {
        let PersonEvent::Named { name } = self;
        Tags::none().with(name.tag().to_owned())
    }
}

/// The two disks of a machine, and how they are opened.
#[derive(Clone)]
struct Machine {
    log: Simulated,
    keys: Simulated,
}

impl Machine {
    fn new(seed: u64) -> Self {
        Self { log: Simulated::new(seed), keys: Simulated::new(seed + 1) }
    }

    fn is_stopped(&self) -> bool {
        self.log.is_stopped() || self.keys.is_stopped()
    }

    fn crash(&self) -> Self {
        Self { log: self.log.crash(), keys: self.keys.crash() }
    }

    async fn open(&self) -> Result<(Store, Keys), String> {
        let clock = Arc::new(TestClock::default());
        let options = Options {
            segment_bytes: 16 << 10,
            upkeep: Upkeep::Inline,
            clock,
            ..Options::default()
        };
        let (log, _) =
            Log::open_on(Arc::new(self.log.clone()), options).map_err(|error| error.to_string())?;
        let store = Store::new(log);
        let key_file =
            KeyFile::open_on(Arc::new(self.keys.clone())).map_err(|error| error.to_string())?;
        let keys = Keys::of(&store, key_file).await.map_err(|error| error.to_string())?;
        Ok((store, keys))
    }
}

/// Answers that were given before the end.
#[derive(Default)]
struct Answered {
    named: Vec<(&'static str, Personal<String>)>,
    receipts: Vec<Erasure>,
    /// Subject whose forgetting was asked for and not answered.
    in_doubt: Option<&'static str>,
}

impl Answered {
    async fn life(&mut self, machine: &Machine) -> Result<(), String> {
        let (store, keys) = machine.open().await?;
        for person in ["ada", "bob"] {
            self.name(&store, &keys, person).await?;
        }
        self.forget(&keys, "ada").await?;
        self.name(&store, &keys, "eve").await?;
        self.forget(&keys, "eve").await?;
        store.close().await.map_err(|error| error.to_string())
    }

    async fn name(
        &mut self,
        store: &Store,
        keys: &Keys,
        person: &'static str,
    ) -> Result<(), String> {
        let subject = keys.subject(person).await.map_err(|error| error.to_string())?;
        let sealed = subject
            .seal_findable("name", &format!("the name of {person}"))
            .await
            .map_err(|error| error.to_string())?;
        let named = PersonEvent::Named { name: sealed.clone() };
        store
            .facts("person", person, &[named])
            .record()
            .await
            .map_err(|error| error.to_string())?;
        self.named.push((person, sealed));
        Ok(())
    }

    async fn forget(&mut self, keys: &Keys, person: &'static str) -> Result<(), String> {
        self.in_doubt = Some(person);
        let receipt = keys.forget(person).await.map_err(|error| error.to_string())?;
        self.in_doubt = None;
        self.receipts.push(receipt);
        Ok(())
    }

    async fn check(&self, machine: &Machine, story: &str) {
        let (store, keys) = machine.open().await.unwrap_or_else(|error| panic!("{story}: {error}"));
        for receipt in &self.receipts {
            keys.verify(receipt).await.unwrap_or_else(|error| panic!("{story}: {error}"));
        }
        let said = Query::types([EventType::new("$personal.Forgotten").unwrap()]);
        let said = store.read(Read::matching(said, Position::START)).all().await.unwrap();
        for (person, name) in &self.named {
            let is_forgotten = self.receipts.iter().any(|receipt| receipt.subject == *person);
            let opened = keys.open(name).await.unwrap_or_else(|error| panic!("{story}: {error}"));
            let found = keys.find("name", &format!("the name of {person}")).await.unwrap();
            let subject = format!("\"subject\":\"{person}\"");
            let said = said
                .iter()
                .filter(|event| String::from_utf8_lossy(&event.data).contains(&subject))
                .count();
            match opened {
                Opened::Known(value) => {
                    assert_eq!(
                        (value, found.as_deref(), said),
                        (format!("the name of {person}"), Some(name.tag()), 0),
                        "{story}"
                    );
                    assert!(!is_forgotten, "{story}: {person} came back");
                }
                Opened::Forgotten => {
                    assert_eq!((found, said), (None, 1), "{story}: {person}");
                    assert!(
                        is_forgotten || self.in_doubt == Some(*person),
                        "{story}: {person} is lost"
                    );
                    keys.verify(&keys.forget(person).await.unwrap()).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn both_forget_whichever_line_of_either_a_crash_comes_at() {
    let mut points = 0;
    for (kind, of_keys) in
        DiskUse::CHANGES.into_iter().flat_map(|kind| [(kind, false), (kind, true)])
    {
        for nth in 1.. {
            let mut is_reached = false;
            for seed in 0..6 {
                let machine = Machine::new(seed);
                let disk = if of_keys { &machine.keys } else { &machine.log };
                disk.plan(kind, nth, Fault::Stop);
                let mut answered = Answered::default();
                let life = answered.life(&machine).await;
                is_reached |= machine.is_stopped();
                let place = if of_keys { "the keys" } else { "the log" };
                let story = format!("seed {seed}, stopped at {kind:?} {nth} of {place}: {life:?}");
                let machine = machine.crash();
                answered.check(&machine, &story).await;
                points += 1;
            }
            if !is_reached {
                break;
            }
        }
    }
    assert!(points > 200, "{points}");
}
