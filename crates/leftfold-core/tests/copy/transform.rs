//! Answers of the function, and their results.

use std::sync::atomic::{AtomicU64, Ordering};

use leftfold_core::copy::{
    Copy, CopyError, EventFate, FunctionFault, PositionMap, Transformed, in_todays_shape,
};
use leftfold_core::fold::{Event, Upcasters};
use leftfold_core::store::limits::APPEND_EVENTS_MAX;
use leftfold_core::store::{
    Append, CommandId, CommandRecord, EventType, Invalid, NewEvent, Position, RecordedEvent, Store,
    StreamName, Tags, Version,
};

use crate::stage::{
    append, appends, command, event, everything, history, reform, reforming, shape, tagged,
};

fn stream(event: &RecordedEvent) -> StreamName {
    event.stream.as_ref().unwrap().name.clone()
}

async fn copied(
    old: &Store,
    function: impl Fn(&RecordedEvent) -> Transformed + Send + Sync + 'static,
) -> (Store, Copy) {
    let new = Store::memory();
    let copy = Copy::from(old).into(&new).through(function);
    copy.switch().await.unwrap();
    let report = copy.verify().await.unwrap();
    assert_eq!(report.difference, None);
    (new, copy)
}

#[tokio::test]
async fn events_are_renamed_split_dropped_and_tagged_anew() {
    let old = Store::memory();
    let sold = || event("shop-1", "goods.Sold", "{}");
    append(
        &old,
        Append::of(vec![sold(), tagged(event("depot-1", "goods.Bought", "{\"n\":1}"), "k:v")]),
    )
    .await;
    append(&old, Append::of(vec![event("trial-1", "goods.Sold", "{}")])).await;
    append(
        &old,
        Append::of(vec![
            event("trial-1", "goods.Sold", "{}"),
            event("shop-2", "goods.Counted", "{}"),
        ]),
    )
    .await;
    let (new, _) = copied(&old, reform).await;
    assert_eq!(
        shape(&new).await,
        [
            "bill-1@1 bill.Written {}  + store-1@1 goods.Sold {} sold:yes + depot-1@1 goods.Bought {\"n\":1} k:v",
            "store-2@1 goods.Counted {} ",
        ]
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_are_copied_as_they_are() {
    let old = Store::memory();
    let bytes = [&b"\xff\xfe\x00"[..], b"caf\xe9", b"\xc3\x28", b"", b"\xf0\x9f"];
    for (number, data) in (0_u8..).zip(bytes) {
        let mut happened =
            NewEvent::new(EventType::new("trial.Happened".to_owned()).unwrap(), data.to_vec());
        happened.metadata.user = data.to_vec().into();
        let answer = command(&number.to_string(), "");
        let answer = CommandRecord { answer: data.to_vec().into(), ..answer };
        let events = vec![happened.in_stream(StreamName::of("trial", "1").unwrap())];
        append(&old, Append { command: Some(answer), ..Append::of(events) }).await;
    }
    let (new, _) = copied(&old, |event| event.to_new().into()).await;
    let copies: Vec<_> = everything(&new)
        .await
        .into_iter()
        .filter(|event| !event.event_type.starts_with('$'))
        .collect();
    assert_eq!(copies.len(), bytes.len());
    for ((number, data), event) in (0_u8..).zip(bytes).zip(copies) {
        assert_eq!((&*event.data, &*event.metadata.user), (data, data));
        let answered =
            new.answered(CommandId::new("test", &number.to_string())).await.unwrap().unwrap();
        assert_eq!(&*answered.record.answer, data);
    }
}

// ANCHOR: split
#[tokio::test]
async fn a_category_is_split_in_two() {
    let old = Store::memory();
    for (stream, data) in
        [("invoice-1", "private"), ("invoice-2", "business"), ("invoice-1", "private")]
    {
        append(&old, Append::of(vec![event(stream, "invoice.Sent", data)])).await;
    }
    let (new, _) = copied(&old, |event| {
        let category = if &*event.data == b"private" { "receipt" } else { "invoice" };
        event.to_new().in_stream(StreamName::of(category, stream(event).id()).unwrap()).into()
    })
    .await;
    let expected = [
        "receipt-1@1 invoice.Sent private ",
        "invoice-2@1 invoice.Sent business ",
        "receipt-1@2 invoice.Sent private ",
    ];
    assert_eq!(shape(&new).await, expected);
}
// ANCHOR_END: split

#[tokio::test]
async fn streams_are_merged_in_the_order_of_their_events() {
    let old = Store::memory();
    for (stream, data) in [("a-1", "1"), ("b-1", "2"), ("a-1", "3")] {
        append(&old, Append::of(vec![event(stream, "t.Happened", data)])).await;
    }
    let (new, _) =
        copied(&old, |event| event.to_new().in_stream(StreamName::of("c", "1").unwrap()).into())
            .await;
    assert_eq!(
        shape(&new).await,
        ["c-1@1 t.Happened 1 ", "c-1@2 t.Happened 2 ", "c-1@3 t.Happened 3 "]
    );
}

#[tokio::test]
async fn two_events_of_an_append_are_merged_into_one() {
    let old = Store::memory();
    append(&old, Append::of(vec![event("a-1", "a.Opened", "1"), event("a-1", "a.Named", "2")]))
        .await;
    append(&old, Append::of(vec![event("a-1", "a.Named", "3")])).await;
    let new = Store::memory();
    let copy = Copy::from(&old).into(&new).through_appends(|events| match events {
        [opened, named] if &*opened.event_type == "a.Opened" => {
            let mut merged = opened.to_new();
            merged.data = [&opened.data[..], &named.data[..]].concat().into();
            vec![merged.into(), Transformed::Drop]
        }
        events => vec![Transformed::Keep; events.len()],
    });
    copy.switch().await.unwrap();
    assert_eq!(copy.verify().await.unwrap().difference, None);
    assert_eq!(shape(&new).await, ["a-1@1 a.Opened 12 ", "a-1@2 a.Named 3 "]);
    // Anyone who refers to the one that was merged into the other finds that.
    assert_eq!(
        copy.map(Position(2)).await.unwrap().position,
        copy.map(Position(1)).await.unwrap().position
    );
}

#[tokio::test]
async fn two_changes_of_a_schema_become_one_shape() {
    let old = Store::memory();
    for (version, data) in
        [(1, "{\"sum\":1}"), (2, "{\"cents\":100}"), (3, "{\"cents\":100,\"currency\":\"EUR\"}")]
    {
        let mut sent = event("invoice-1", "invoice.Sent", data);
        sent.schema_version = version;
        append(&old, Append::of(vec![sent])).await;
    }
    let (new, _) = copied(&old, |event| {
        let mut new = event.to_new();
        new.schema_version = 3;
        if event.schema_version < 3 {
            new.data = "{\"cents\":100,\"currency\":\"EUR\"}".into();
        }
        new.into()
    })
    .await;
    let all = everything(&new).await;
    let invoices: Vec<_> = all.iter().filter(|event| !event.is_system()).collect();
    assert_eq!(invoices.len(), 3);
    assert!(
        invoices.iter().all(|event| event.schema_version == 3 && event.data == invoices[0].data)
    );
}

#[tokio::test]
async fn the_image_of_an_event_has_its_id() {
    let old = Store::memory();
    history(&old, 7, 60).await;
    let (new, copy) = copied(&old, reform).await;
    let (before, after) = (everything(&old).await, everything(&new).await);
    for event in before {
        let image = copy.map(event.position).await.unwrap();
        let found = after.iter().find(|new| new.id == event.id);
        assert_eq!(found.is_some(), image.fate == EventFate::Copied);
        if let Some(found) = found {
            assert_eq!(
                (found.position, new.positions_of(event.id, 9).await.unwrap()),
                (image.position, vec![image.position])
            );
        }
    }
}

#[tokio::test]
async fn the_map_tells_where_every_position_went_and_needs_no_old_store() {
    let old = Store::memory();
    history(&old, leftfold_testing::seed(), 300).await;
    let (new, copy) = copied(&old, reform).await;
    let mut map = PositionMap::open(&new, old.identity().store).await.unwrap();
    let (mut nearest, mut through) = (Position::START, Position::START);
    for event in everything(&old).await {
        let image = map.image(event.position).await.unwrap();
        assert_eq!(image, copy.map(event.position).await.unwrap());
        let dropped = stream(&event).category() == "trial";
        assert_eq!(image.fate == EventFate::Dropped, dropped, "at {}", event.position);
        if dropped {
            assert_eq!((image.position, image.through), (nearest, through));
        } else {
            assert!(image.position > through && image.through >= image.position);
        }
        (nearest, through) = (image.position, image.through);
    }
    let beyond = old.head().position.next();
    assert_eq!(
        copy.map(beyond).await,
        Err(CopyError::NotYet { position: beyond, copied: old.head().position })
    );
}

#[tokio::test]
async fn a_long_history_is_mapped_in_many_records() {
    let old = Store::memory();
    for number in 0..3_000 {
        // Every other event is dropped, so that no two of them go the same way.
        let stream = if number % 2 == 0 { "trial-1" } else { "depot-1" };
        append(&old, Append::of(vec![event(stream, "goods.Counted", "{}")])).await;
    }
    let (new, _) = copied(&old, reform).await;
    let records =
        everything(&new).await.iter().filter(|event| &*event.event_type == "$copy.Mapped").count();
    assert!(records > 2, "{records} records");
    let mut map = PositionMap::open(&new, old.identity().store).await.unwrap();
    for position in [2, 1_024, 1_025, 2_047, 2_048, 2_049, 3_000, 4] {
        let image = map.image(Position(position)).await.unwrap();
        let version = new
            .page(leftfold_core::store::Read::matching(
                leftfold_core::store::Query::all(),
                image.position,
            ))
            .await;
        let found = &version.unwrap().events[0];
        assert_eq!(
            (found.position, found.version()),
            (image.position, Version(position / 2)),
            "old {position}"
        );
    }
}

#[tokio::test]
async fn an_append_stays_one_append() {
    let old = Store::memory();
    history(&old, 3, 100).await;
    let (new, _) = copied(&old, |_| Transformed::Keep).await;
    let sizes = |appends: Vec<leftfold_core::store::RecordedAppend>| -> Vec<_> {
        let events = |append: &leftfold_core::store::RecordedAppend| {
            append
                .events
                .iter()
                .filter(|event| !event.is_system())
                .map(|event| event.id)
                .collect::<Vec<_>>()
        };
        appends.iter().map(events).filter(|ids| !ids.is_empty()).collect()
    };
    assert_eq!(sizes(appends(&new).await), sizes(appends(&old).await));
}

#[tokio::test]
async fn nothing_is_written_of_an_append_that_the_function_fails_at() {
    type Bad = fn(&RecordedEvent) -> Transformed;
    let system = |name: &str| FunctionFault::System { name: name.to_owned() };
    let cases: [(Bad, FunctionFault); 5] = [
        (
            |_| panic!("no such thing"),
            FunctionFault::Panicked { message: "no such thing".to_owned() },
        ),
        (
            |event| event.to_new().in_stream(StreamName::new("$mine-1").unwrap()).into(),
            system("$mine-1"),
        ),
        (
            |event| {
                let mut new = event.to_new();
                new.event_type = EventType::new("$mine.Happened").unwrap();
                new.into()
            },
            system("$mine.Happened"),
        ),
        (
            |event| event.to_new().tagged(leftfold_core::store::Tags::none().with("")).into(),
            FunctionFault::Invalid(Invalid::Empty { what: "a tag" }),
        ),
        (
            |event| Transformed::Replace(vec![event.to_new(); APPEND_EVENTS_MAX + 1]),
            FunctionFault::Invalid(Invalid::TooLarge {
                what: "the events of an append",
                size: APPEND_EVENTS_MAX + 1,
                limit: APPEND_EVENTS_MAX,
            }),
        ),
    ];
    for (bad, fault) in cases {
        let (old, new) = (Store::memory(), Store::memory());
        append(&old, Append::of(vec![event("a-1", "a.Good", "{}")])).await;
        append(&old, Append::of(vec![event("a-1", "a.Good", "{}"), event("a-1", "a.Bad", "{}")]))
            .await;
        append(&old, Append::of(vec![event("a-1", "a.Good", "{}")])).await;
        let copy = Copy::from(&old).into(&new).through(move |event| match &*event.event_type {
            "a.Bad" => bad(event),
            _ => Transformed::Keep,
        });
        let position =
            if matches!(fault, FunctionFault::Panicked { .. }) { Position(2) } else { Position(3) };
        assert_eq!(copy.run_until_caught_up().await, Err(CopyError::Function { position, fault }));
        assert_eq!(shape(&new).await, ["a-1@1 a.Good {} "]);
        // With the function fixed it goes on.
        let fixed = Copy::from(&old).into(&new).through(|_| Transformed::Keep);
        fixed.switch().await.unwrap();
        assert_eq!(fixed.verify().await.unwrap().difference, None);
    }
}

/// Money, as of today: it was a bare number of euros once.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
enum Till {
    Paid { cents: u64 },
}

impl Event for Till {
    const NAMESPACE: &'static str = "till";

    fn tags(&self) -> Tags {
        Tags::none().with("kind:payment")
    }

    fn upcasters() -> Upcasters {
        Upcasters::none().change("till.Paid", 1, |data| {
            let euros = data["euros"].as_u64().ok_or("euros are missing")?;
            Ok(serde_json::json!({ "cents": euros * 100 }))
        })
    }
}

#[tokio::test]
async fn what_upcasters_read_in_todays_shape_is_stored_in_it() {
    let old = Store::memory();
    let mut todays = event("till-1", "till.Paid", "{ \"cents\": 5 }");
    todays.schema_version = 2;
    let events = vec![
        event("till-1", "till.Paid", "{\"euros\":3}"),
        todays,
        event("depot-1", "goods.Bought", "{}"),
    ];
    append(&old, Append::of(events)).await;
    let (new, _) = copied(&old, in_todays_shape::<Till>).await;
    assert_eq!(
        shape(&new).await,
        [
            "till-1@1 till.Paid {\"cents\":300} kind:payment + till-1@2 till.Paid { \"cents\": 5 }  + depot-1@1 goods.Bought {} "
        ]
    );
    let users = everything(&new).await.into_iter().filter(|event| !event.is_system());
    assert_eq!(users.map(|event| event.schema_version).collect::<Vec<_>>(), [2, 2, 1]);
}

#[tokio::test]
async fn an_event_that_upcasters_cannot_read_stops_the_copy_at_its_place() {
    let (old, new) = (Store::memory(), Store::memory());
    append(&old, Append::of(vec![event("till-1", "till.Paid", "{\"euros\":3}")])).await;
    append(&old, Append::of(vec![event("till-1", "till.Paid", "{}")])).await;
    let copy = Copy::from(&old).into(&new).through(in_todays_shape::<Till>);
    let Err(CopyError::Function { position, fault: FunctionFault::Refused { reason } }) =
        copy.run_until_caught_up().await
    else {
        panic!("it went on")
    };
    assert_eq!(position, Position(2));
    assert!(reason.contains("euros are missing"), "{reason}");
}

#[tokio::test]
async fn an_answer_is_owed_for_every_event_of_an_append() {
    let (old, new) = (Store::memory(), Store::memory());
    append(&old, Append::of(vec![event("a-1", "a.Happened", "{}"); 3])).await;
    let copy = Copy::from(&old).into(&new).through_appends(|_| vec![Transformed::Keep]);
    let fault = FunctionFault::Answers { events: 3, answers: 1 };
    assert_eq!(
        copy.run_until_caught_up().await,
        Err(CopyError::Function { position: Position(1), fault })
    );
}

#[tokio::test]
async fn a_store_that_holds_something_else_is_left_alone() {
    let (old, new) = (Store::memory(), Store::memory());
    append(&new, Append::of(vec![event("a-1", "a.Happened", "{}")])).await;
    let foreign = Err(CopyError::Foreign { found: Position(1) });
    assert_eq!(reforming(&old, &new).run_until_caught_up().await, foreign);
    let same = CopyError::SameStore { store: old.identity().store };
    assert_eq!(reforming(&old, &old).run_until_caught_up().await, Err(same));
    assert_eq!(everything(&new).await.len(), 1);
}

#[tokio::test]
async fn whoever_writes_the_new_store_before_the_switch_is_noticed() {
    let (old, new) = (Store::memory(), Store::memory());
    history(&old, 1, 20).await;
    let copy = reforming(&old, &new);
    copy.run_until_caught_up().await.unwrap();
    append(&new, Append::of(vec![event("a-1", "a.Happened", "{}")])).await;
    history(&old, 2, 20).await;
    let found = new.head().position;
    assert_eq!(copy.run_until_caught_up().await, Err(CopyError::Foreign { found }));
}

#[tokio::test]
async fn requests_are_answered_again_with_the_events_of_their_images() {
    let old = Store::memory();
    let calls = AtomicU64::new(0);
    for events in [
        vec![],
        vec![event("shop-1", "goods.Sold", "{}")],
        vec![event("trial-1", "goods.Sold", "{}")],
    ] {
        let request = command(&calls.fetch_add(1, Ordering::Relaxed).to_string(), "as it was");
        append(&old, Append { events, command: Some(request), ..Append::default() }).await;
    }
    let (new, _) = copied(&old, reform).await;
    for (number, events) in [0, 2, 0].into_iter().enumerate() {
        let request = command(&number.to_string(), "as it was");
        let answered = new.answered(request.id).await.unwrap().unwrap();
        assert_eq!((answered.record, answered.events), (request.clone(), events));
        let again =
            new.append(Append { command: Some(request), ..Append::default() }).await.unwrap();
        assert!(matches!(again, leftfold_core::store::Outcome::Repeated(_)), "{again:?}");
    }
}
