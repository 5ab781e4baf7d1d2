//! A command whose conditions fail for reasons of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::*;
use crate::fold::Event;
use crate::store::{EventType, NewEvent, NoneMatching, Query, Store};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    Taken {},
}

impl Event for Step {
    const NAMESPACE: &'static str = "step";
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Steps;

impl Aggregate for Steps {
    const CATEGORY: &'static str = "steps";
    type Event = Step;
    /// Counts how often it is decided.
    type Command = Arc<AtomicU32>;
    type Refusal = std::convert::Infallible;

    fn apply(&mut self, _: &Step) {}

    fn decide(&self, decided: &Arc<AtomicU32>) -> Result<Vec<Step>, std::convert::Infallible> {
        decided.fetch_add(1, Ordering::Relaxed);
        Ok(vec![Step::Taken {}])
    }
}

#[tokio::test]
async fn where_what_goes_alongside_is_overtaken_nothing_is_decided_again() {
    let store = Store::memory();
    let (ledger, note) = (StreamName::new("ledger").unwrap(), EventType::new("note.Made").unwrap());
    let entry = NewEvent::new(note, "{}").in_stream(ledger.clone());
    store.append(Append::of(vec![entry.clone()])).await.unwrap();
    let stream = vec![(ledger, Expected::Absent)];
    let query = NoneMatching { query: Query::all(), after: Position::START };
    let overtaken = [
        Alongside { expected: stream, ..Alongside::default() },
        Alongside { none_matching: Some(query), ..Alongside::default() },
    ];
    for alongside in overtaken {
        let alongside = Alongside { events: vec![entry.clone()], ..alongside };
        let decided = Arc::new(AtomicU32::new(0));
        let steps = store.aggregate::<Steps>();
        let answer = steps.command("1", decided.clone()).alongside(alongside).execute().await;
        assert!(matches!(answer, Err(AlongsideError::Overtaken)), "{answer:?}");
        assert_eq!((decided.load(Ordering::Relaxed), store.head().position), (1, Position(1)));
    }
    assert_eq!(
        store.aggregate::<Steps>().execute("1", Arc::default()).await.unwrap().version,
        Version(1)
    );
}
