//! Names that begin with `$` are the runtime's: an application cannot write them by any way that it
//! has.
//!
//! A decision once wrote an event into `$process:p-1`; the runtime took it for its own memory, and
//! did not start any more.

use std::convert::Infallible;
use std::time::Duration;

use leftfold_core::fold::{Aggregate, Decided, Decision, Event, ExecuteError, RecordError};
use leftfold_core::store::{
    Append, AppendError, CheckpointRecord, EventType, Expected, Holder, Invalid, Label, LeaseError,
    LeaseRequest, MoveFrom, NewEvent, Position, Query, Store, StreamName,
};
use serde::{Deserialize, Serialize};

use crate::purse::put;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Forged {
    Reacted {},
    #[serde(rename = "$process.Reacted")]
    System {},
}

impl Event for Forged {
    const NAMESPACE: &'static str = "forged";
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Impostor;

impl Aggregate for Impostor {
    const CATEGORY: &'static str = "$process:p";
    type Event = Forged;
    type Command = ();
    type Refusal = Infallible;

    fn apply(&mut self, _: &Forged) {}

    fn decide(&self, (): &()) -> Result<Vec<Forged>, Infallible> {
        Ok(vec![Forged::Reacted {}])
    }
}

/// Records what it is given.
struct Records(Decided<Forged>);

impl Decision for Records {
    type Event = Forged;
    type State = ();
    type Refusal = Infallible;

    fn query(&self) -> Query {
        Query::tag("none")
    }

    fn apply(&self, (): &mut (), _: &Forged) {}

    fn decide(&self, (): &()) -> Result<Decided<Forged>, Infallible> {
        Ok(self.0.clone())
    }
}

fn is_reserved(invalid: &Invalid) -> bool {
    matches!(invalid, Invalid::Reserved { name, .. } if name.starts_with('$'))
}

async fn decided(store: &Store, decided: Decided<Forged>) {
    match store.decide(&Records(decided)).await {
        Err(
            ExecuteError::Invalid(invalid) | ExecuteError::Append(AppendError::Invalid(invalid)),
        ) if is_reserved(&invalid) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_way_of_writing_reaches_a_name_of_the_runtime() {
    let store = Store::memory();
    decided(&store, Decided::event("$process:p-1", Forged::Reacted {})).await;
    decided(&store, Decided::of::<Impostor>("1", Forged::Reacted {})).await;
    decided(&store, Decided::event("forged-1", Forged::System {})).await;
    decided(&store, Decided::fact(Forged::Reacted {}).and("$effect-1", Forged::Reacted {})).await;

    let done = store.aggregate::<Impostor>().execute("1", ()).await;
    let Err(ExecuteError::Invalid(invalid) | ExecuteError::Append(AppendError::Invalid(invalid))) =
        &done
    else {
        panic!("{done:?}")
    };
    assert!(is_reserved(invalid), "{invalid}");

    let facts = store.facts("$inbox:orders", "1", &[put(1)]).record().await;
    assert!(
        matches!(
            &facts,
            Err(RecordError::Append(AppendError::Invalid(invalid))) if is_reserved(invalid)
        ),
        "{facts:?}"
    );

    let checkpoint = store.checkpoint_at(Position::START).await.unwrap();
    let record = CheckpointRecord {
        consumer: Label::new("$leases").unwrap(),
        from: MoveFrom::Anywhere,
        checkpoint,
    };
    let event = |kind: &'static str, stream: &'static str| {
        let stream = StreamName::new(stream).unwrap();
        NewEvent::new(EventType::new(kind).unwrap(), "{}").in_stream(stream)
    };
    let appends = [
        Append::of(vec![event("a.Made", "$effect-1")]),
        Append::of(vec![event("$effect.Done", "a-1")]),
        Append { checkpoint: Some(record), ..Append::default() },
    ];
    for append in appends {
        let answer = store.append(append).await;
        assert!(
            matches!(&answer, Err(AppendError::Invalid(invalid)) if is_reserved(invalid)),
            "{answer:?}"
        );
    }

    let work = Label::new("$process:p").unwrap();
    let lease =
        store.lease(LeaseRequest::new(work, Holder::random(), Duration::from_secs(1))).await;
    assert!(
        matches!(&lease, Err(LeaseError::Invalid(invalid)) if is_reserved(invalid)),
        "{lease:?}"
    );
    assert_eq!(store.head().position, Position::START);
}

#[tokio::test]
async fn a_name_of_the_runtime_may_be_expected_and_read_by_everyone() {
    let store = Store::memory();
    let expecting =
        Decided::event("forged-1", Forged::Reacted {}).expecting("$effect-1", Expected::Absent);
    store.decide(&Records(expecting)).await.unwrap();
    assert_eq!(store.head().position, Position(1));
}
