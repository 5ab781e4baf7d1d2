//! A store on disk is copied into another one, with both closed and opened again on the way.

use std::ops::ControlFlow::Continue;
use std::path::Path;

use leftfold::copy::{Copy, PositionMap, Transformed};
use leftfold::log::{Log, Options, verify};
use leftfold::prelude::*;
use leftfold::store::{
    Append, CommandId, CommandRecord, Digest, EventType, NewEvent, Outcome, Read, RecordedEvent,
};

fn open(path: &Path) -> Store {
    // Small, so that appends are read over many segments.
    let options = Options { segment_bytes: 32 << 10, memory_bytes: 1 << 20, ..Options::default() };
    Store::new(Log::open(path, options).unwrap().0)
}

fn request(number: u64) -> CommandRecord {
    let (id, digest) =
        (CommandId::new("test", &number.to_string()), Digest::of(&number.to_le_bytes()));
    CommandRecord { id, digest, answer: format!("answer {number}").into() }
}

/// Appends of one or two events, some of them with a request.
async fn grow(store: &Store, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let event = |category: &str| {
            let stream = StreamName::of(category, &(number % 7).to_string()).unwrap();
            NewEvent::new(
                EventType::new("parcel.Moved").unwrap(),
                format!("{{\"number\":{number}}}"),
            )
            .in_stream(stream)
        };
        let events = if number % 3 == 0 {
            vec![event("parcel"), event("trace")]
        } else {
            vec![event("parcel")]
        };
        let command = (number % 2 == 0).then(|| request(number));
        let outcome = store.append(Append { events, command, ..Append::default() }).await.unwrap();
        assert!(matches!(outcome, Outcome::Appended(_)), "{outcome:?}");
    }
}

/// Traces are dropped, parcels become shipments.
fn shipped(event: &RecordedEvent) -> Transformed {
    let name = &event.stream.as_ref().unwrap().name;
    match name.category() {
        "trace" => Transformed::Drop,
        _ => event.to_new().in_stream(StreamName::of("shipment", name.id()).unwrap()).into(),
    }
}

#[tokio::test]
async fn a_log_is_copied_over_reopenings_of_both() {
    let place = tempfile::tempdir().unwrap();
    let (old_path, new_path) = (place.path().join("old"), place.path().join("new"));
    let mut number = 0;
    for round in 0..4 {
        let (old, new) = (open(&old_path), open(&new_path));
        grow(&old, number..number + 300).await;
        number += 300;
        let copy = Copy::from(&old).into(&new).through(shipped);
        if round % 2 == 0 {
            copy.run_until_caught_up().await.unwrap();
        } else {
            // It is dropped before its end; what was handed over by then is there.
            let some = tokio::time::timeout(
                std::time::Duration::from_millis(3),
                copy.run_until_caught_up(),
            )
            .await;
            assert!(some.is_ok() || old.head().position > Position(0));
        }
        old.close().await.unwrap();
        new.close().await.unwrap();
    }

    let (old, new) = (open(&old_path), open(&new_path));
    let copy = Copy::from(&old).into(&new).through(shipped);
    let progress = copy.switch().await.unwrap();
    assert_eq!((progress.copied, progress.old_head), (old.head().position, old.head().position));
    let report = copy.verify().await.unwrap();
    assert_eq!(report.difference, None);
    assert_eq!(
        (report.old_events, report.dropped, report.new_events, report.commands),
        (1_600, 400, 1_200, 600)
    );
    let id = old.identity().store;
    old.close().await.unwrap();
    new.close().await.unwrap();

    assert!(verify(&new_path, &mut |_| Continue(())).unwrap().is_sound());
    let new = open(&new_path);
    for number in (0..1_200).step_by(2) {
        let again = new
            .append(Append { command: Some(request(number)), ..Append::default() })
            .await
            .unwrap();
        let Outcome::Repeated(answered) = again else { panic!("{again:?}") };
        let event = &new
            .page(Read::matching(Query::everything(), answered.first).page_of(1))
            .await
            .unwrap()
            .events[0];
        assert_eq!(
            (answered.events, &event.data[..]),
            (1, format!("{{\"number\":{number}}}").as_bytes())
        );
    }
    let mut map = PositionMap::open(&new, id).await.unwrap();
    let image = map.image(Position(1_600)).await.unwrap();
    assert!(new.checkpoint_at(image.through).await.is_ok());
}
