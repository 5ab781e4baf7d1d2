//! Facts are recorded as they come: without deciding, without a condition, and with all that a
//! command may carry.

use leftfold_core::fold::{Answer, Cause, RecordError};
use leftfold_core::store::{AppendError, CommandId, Position, Store, Version};

use crate::probe::Probe;
use crate::purse::{Do, Purse, PurseEvent, put, taken};

fn reused(id: CommandId) -> RecordError {
    RecordError::Append(AppendError::CommandIdReused { id })
}

#[tokio::test]
async fn repeated_facts_are_answered_as_the_first_time_and_recorded_once() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    purses.execute("1", Do::Put(9)).await.unwrap();
    let first = purses
        .facts("1", &[put(1), put(2)])
        .id("api", "k")
        .request(b"both")
        .record()
        .await
        .unwrap();
    assert_eq!(first.answer, Answer::First);
    assert_eq!(
        (first.appended.first, &*first.appended.versions),
        (Position(2), &[Version(2), Version(3)][..])
    );
    purses.execute("1", Do::Take(3)).await.unwrap();
    for purses in [purses, probe.store().aggregate::<Purse>()] {
        let again = purses
            .facts("1", &[put(1), put(2)])
            .id("api", "k")
            .request(b"both")
            .record()
            .await
            .unwrap();
        assert_eq!((again.answer, again.appended), (Answer::Again, first.appended.clone()));
        assert_eq!(purses.load("1").await.unwrap().state.coins, 9);
    }
}

#[tokio::test]
async fn an_id_is_that_of_one_request_and_one_stream() {
    let store = Store::memory();
    let purses = store.aggregate::<Purse>();
    let id = CommandId::new("api", "k");
    let facts = |to, bytes: &'static [u8]| {
        purses.facts(to, &[PurseEvent::Put { coins: 1 }]).with_id(id).request(bytes).record()
    };
    facts("1", b"a").await.unwrap();
    assert_eq!(facts("1", b"b").await, Err(reused(id)));
    assert_eq!(facts("2", b"a").await, Err(reused(id)), "the bytes do not say which purse");
    let without_bytes = |to| {
        purses
            .facts(to, &[PurseEvent::Put { coins: 1 }])
            .id("api", "k2")
            .without_request_check()
            .record()
    };
    without_bytes("1").await.unwrap();
    assert_eq!(
        without_bytes("2").await,
        Err(reused(CommandId::new("api", "k2"))),
        "the stream stands in for them"
    );
    assert_eq!(store.head().position, Position(2));
}

#[tokio::test]
async fn facts_say_where_they_come_from() {
    let store = Store::memory();
    let cause = Cause::message("m1").unwrap();
    let facts = [put(1), taken(1)];
    store
        .aggregate::<Purse>()
        .facts("1", &facts)
        .caused_by(cause.clone())
        .metadata("raw")
        .record()
        .await
        .unwrap();
    let history = store.aggregate::<Purse>().history("1", Version(1)).unwrap().all().await.unwrap();
    for (recorded, fact) in history.iter().zip(&facts) {
        let metadata = &recorded.envelope.metadata;
        assert_eq!(&recorded.event, fact);
        assert_eq!(
            (&metadata.causation, &metadata.correlation),
            (&Some(cause.causation.clone()), &Some(cause.correlation.clone()))
        );
        assert_eq!(&*metadata.user, b"raw");
    }
    assert_eq!(history.len(), 2);
}

#[tokio::test]
async fn facts_of_no_aggregate_and_no_facts_at_all_are_recorded_too() {
    let store = Store::memory();
    let recorded = store.facts("till", "1", &[put(1)]).record().await.unwrap();
    assert_eq!(recorded.appended.versions, [Version(1)]);
    let none: &[PurseEvent] = &[];
    for answer in [Answer::First, Answer::Again] {
        let recorded = store
            .facts("till", "1", none)
            .id("api", "k")
            .without_request_check()
            .record()
            .await
            .unwrap();
        assert_eq!((recorded.answer, recorded.appended.first), (answer, Position(1)));
    }
    assert!(matches!(
        store.facts("ti-ll", "1", &[put(1)]).record().await,
        Err(RecordError::Invalid(_))
    ));
    assert_eq!(store.head().position, Position(1));
}
