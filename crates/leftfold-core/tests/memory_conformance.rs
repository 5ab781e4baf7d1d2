//! The memory backend passes the suite that it is the template for.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use leftfold_core::drive::memory_at;
use leftfold_core::store::{Store, Timestamp};
use leftfold_testing::conformance::{Factory, PassingTime, Reopens, cases, conformance, one};

struct Memory;

impl Factory for Memory {
    type Place = ();
    const REOPENS: Reopens = Reopens::No;

    async fn place(&self) {}

    async fn open(&self, _: &()) -> Store {
        Store::memory()
    }
}

/// The same by a clock that a test sets.
struct Timed;

/// Microseconds by which a store is ahead of the machine's clock.
#[derive(Clone, Default)]
struct Ahead(Arc<AtomicI64>);

impl Ahead {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(Timestamp::now().as_micros() + self.0.load(Ordering::SeqCst))
    }
}

impl PassingTime for Ahead {
    fn pass(&self, during: Duration) {
        let micros = i64::try_from(during.as_micros()).expect("hours are few microseconds");
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Factory for Timed {
    type Place = Ahead;
    const REOPENS: Reopens = Reopens::No;

    async fn place(&self) -> Ahead {
        Ahead::default()
    }

    async fn open(&self, place: &Ahead) -> Store {
        let time = place.clone();
        Store::new(memory_at(move || time.now()))
    }

    fn time(&self, place: &Ahead) -> Option<Box<dyn PassingTime>> {
        Some(Box::new(place.clone()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_memory_backend_keeps_the_contract() {
    conformance(&Memory).await;
    one(&Timed, "lease::a_lease_that_ended_long_ago_is_forgotten").await;
}

/// Gives out one store for all, as a backend does that ignores where it is opened.
struct Shared(Store);

impl Factory for Shared {
    type Place = ();
    const REOPENS: Reopens = Reopens::No;

    async fn place(&self) {}

    async fn open(&self, _: &()) -> Store {
        self.0.clone()
    }
}

#[tokio::test]
async fn a_broken_rule_is_told_with_its_reason() {
    let shared = Shared(Store::memory());
    let rule =
        cases().into_iter().find(|case| case.name == "durability::stores_are_apart").unwrap();
    let how = rule.judge(&shared).await.unwrap_err();
    assert!(how.contains("left: Position(3)"), "{how}");
}

#[test]
fn every_rule_is_in_the_list() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../leftfold-testing/src/conformance");
    let mut written = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let rules = text
            .lines()
            .filter_map(|line| line.strip_prefix("pub async fn "))
            .map(|rest| rest.split(['(', '<']).next().unwrap());
        written.extend(rules.filter(|_| module != "mod").map(|rule| format!("{module}::{rule}")));
    }
    let mut listed: Vec<String> =
        cases::<Memory>().iter().map(|case| case.name.to_owned()).collect();
    written.sort();
    listed.sort();
    assert_eq!(written, listed);
}
