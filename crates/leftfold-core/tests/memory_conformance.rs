//! The memory backend passes the suite that it is the template for.

use leftfold_core::store::Store;
use leftfold_testing::conformance::{Factory, Reopens, cases, conformance};

struct Memory;

impl Factory for Memory {
    type Place = ();
    const REOPENS: Reopens = Reopens::No;

    async fn place(&self) {}

    async fn open(&self, _: &()) -> Store {
        Store::memory()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_memory_backend_keeps_the_contract() {
    conformance(&Memory).await;
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
