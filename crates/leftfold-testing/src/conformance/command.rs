//! Command ids: one request takes effect once, and is answered the same forever.

use bytes::Bytes;
use leftfold_core::store::{
    Answered, Append, AppendError, CommandRecord, Condition, Digest, Expected, MoveFrom, Outcome,
    Position, Version,
};
use tokio::task::JoinSet;

use super::Factory;
use super::examples::{checkpoint, command, event, events, moving, positions, stream};
use super::subject::TestedStore;

fn request(key: &str, append: Append) -> Append {
    Append { command: Some(command(key)), ..append }
}

async fn repeated<F: Factory>(store: &TestedStore<'_, F>, append: Append) -> Answered {
    match store.append(append).await {
        Ok(Outcome::Repeated(answered)) => answered,
        other => panic!("the request took effect before, but the answer is {other:?}"),
    }
}

/// The second time, the first answer is given, whatever comes with it, and nothing is appended.
pub async fn a_repeated_request_is_answered_as_first(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("x-1", 1)).await;
    let first = store.appended(request("1", events("a-1", 3))).await;
    store.appended(events("x-1", 1)).await;
    let expected = Answered {
        record: command("1"),
        recorded_at: first.recorded_at,
        first: Position(2),
        events: 3,
    };
    let other_answer = CommandRecord { answer: Bytes::from_static(b"another"), ..command("1") };
    for again in [
        request("1", events("a-1", 3)),
        request("1", events("b-1", 1)),
        request("1", Append::default()),
        Append { command: Some(other_answer), ..events("a-1", 3) },
    ] {
        assert_eq!(repeated(&store, again).await, expected);
    }
    assert_eq!(store.answered(command("1").id).await, Ok(Some(expected)));
    assert_eq!(positions(&store.everything().await), [1, 2, 3, 4, 5]);
}

/// A request may take effect without an event: accepted, or refused and remembered.
pub async fn a_request_without_events_is_remembered(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let at_start = store.appended(request("start", Append::default())).await;
    store.appended(events("a-1", 2)).await;
    let later = store.appended(request("later", Append::default())).await;
    store.appended(events("a-1", 1)).await;
    store.reopen().await;
    for (key, first, recorded_at) in
        [("start", 0, at_start.recorded_at), ("later", 2, later.recorded_at)]
    {
        let expected =
            Answered { record: command(key), recorded_at, first: Position(first), events: 0 };
        assert_eq!(repeated(&store, request(key, events("a-1", 5))).await, expected);
        assert_eq!(store.answered(command(key).id).await, Ok(Some(expected)));
    }
    assert_eq!(store.head().position, Position(3));
}

/// Other bytes under the same id are refused, and change nothing.
pub async fn other_bytes_under_one_id_are_refused(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    store.appended(request("1", events("a-1", 1))).await;
    for _ in 0..2 {
        let other = CommandRecord { digest: Digest::of(b"other bytes"), ..command("1") };
        let id = other.id;
        let append = Append { command: Some(other), ..events("a-1", 1) };
        assert_eq!(store.refused(append).await, AppendError::CommandIdReused { id });
        store.reopen().await;
    }
    let remembered = store.answered(command("1").id).await.expect("the store can be read");
    assert_eq!(remembered.map(|answered| answered.record), Some(command("1")));
}

/// The id is looked at before the condition and the checkpoint: a repetition is not a conflict with
/// its own effect.
pub async fn the_id_is_looked_at_before_the_condition(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let absent = Condition::stream(stream("a-1"), Expected::Absent);
    let moved =
        moving("c", MoveFrom::Exactly(Position::START), checkpoint(store.identity().store, 1))
            .checkpoint;
    let append =
        Append { checkpoint: moved, ..request("1", events("a-1", 1)).when(absent.clone()) };
    store.appended(append.clone()).await;
    assert_eq!(repeated(&store, append).await.first, Position(1));
    let other = CommandRecord { digest: Digest::of(b"other bytes"), ..command("1") };
    let refused =
        store.refused(Append { command: Some(other), ..events("a-1", 1).when(absent) }).await;
    assert!(matches!(refused, AppendError::CommandIdReused { .. }), "{refused:?}");
}

/// A conflict, or a refusal by the store, leaves the id free: the request has not taken effect.
pub async fn an_append_that_was_refused_leaves_its_id_free(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 1)).await;
    store
        .conflict(
            request("1", events("a-1", 1)).when(Condition::stream(stream("a-1"), Expected::Absent)),
        )
        .await;
    assert_eq!(store.answered(command("1").id).await, Ok(None), "after a conflict");
    let moved = moving("c", MoveFrom::Exactly(Position(7)), checkpoint(store.identity().store, 8))
        .checkpoint;
    store.refused(Append { checkpoint: moved, ..request("1", events("a-1", 1)) }).await;
    assert_eq!(
        store.answered(command("1").id).await,
        Ok(None),
        "after a checkpoint that had moved"
    );
    assert_eq!(store.appended(request("1", events("a-1", 1))).await.versions, [Version(2)]);
}

/// Nothing is remembered of an id that was never used.
pub async fn an_unknown_id_has_no_answer(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    assert_eq!(store.answered(command("1").id).await, Ok(None));
    store.appended(request("1", events("a-1", 1))).await;
    assert_eq!(store.answered(command("2").id).await, Ok(None));
}

/// Ids are remembered among many others, and after the store was opened again.
pub async fn answers_are_remembered_for_ever(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let mut expected = Vec::new();
    for number in 0..300 {
        let appended =
            store.appended(request(&number.to_string(), events("a-1", number % 3))).await;
        let record = command(&number.to_string());
        let (recorded_at, first) = (appended.recorded_at, appended.first);
        expected.push(Answered { record, recorded_at, first, events: (number % 3) as u32 });
    }
    for _ in 0..2 {
        for answered in &expected {
            assert_eq!(
                store.answered(answered.record.id).await.as_ref(),
                Ok(&Some(answered.clone()))
            );
            let again = Append { command: Some(answered.record.clone()), ..events("b-1", 1) };
            assert_eq!(repeated(&store, again).await, *answered);
        }
        store.reopen().await;
    }
}

/// Of many requests with one id at the same time, one takes effect and all others hear its answer.
pub async fn of_concurrent_requests_one_takes_effect(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    for round in 0..20 {
        let mut running = JoinSet::new();
        for task in 0..8 {
            let append = request(&format!("round {round}"), events(&format!("a-{task}"), 1 + task));
            let store = (*store).clone();
            running.spawn(async move { store.append(append).await });
        }
        let (mut appended, mut answers) = (Vec::new(), Vec::new());
        while let Some(answer) = running.join_next().await {
            match answer.expect("a task ends without a panic") {
                Ok(Outcome::Appended(one)) => appended.push(one),
                Ok(Outcome::Repeated(answered)) => answers.push(answered),
                other => panic!("a repeated request was answered {other:?}"),
            }
        }
        let [one] = &appended[..] else {
            panic!("{} of 8 requests took effect under one id", appended.len())
        };
        for answered in answers {
            let seen = (answered.first, answered.events as usize, answered.recorded_at);
            assert_eq!(
                seen,
                (one.first, one.versions.len(), one.recorded_at),
                "what the others hear"
            );
        }
        assert_eq!(store.head().position, one.last());
    }
}

/// Of different requests under one id at the same time, one takes effect and the others are
/// refused.
pub async fn of_concurrent_requests_with_other_bytes_one_takes_effect(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let mut running = JoinSet::new();
    for task in 0..8 {
        let record = CommandRecord { digest: Digest::of(&[task]), ..command("1") };
        let append = Append { command: Some(record), ..Append::of(vec![event("a-1")]) };
        let store = (*store).clone();
        running.spawn(async move { store.append(append).await });
    }
    let (mut appended, mut reused) = (0, 0);
    while let Some(answer) = running.join_next().await {
        match answer.expect("a task ends without a panic") {
            Ok(Outcome::Appended(_)) => appended += 1,
            Err(AppendError::CommandIdReused { .. }) => reused += 1,
            other => panic!("another request under a used id was answered {other:?}"),
        }
    }
    assert_eq!((appended, reused), (1, 7));
}

/// The answer comes back byte by byte: none, any bytes, as many as the limit allows.
pub async fn answers_of_every_size_survive(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let sizes = [0, 1, 255, 4_096, leftfold_core::store::limits::ANSWER_BYTES_MAX];
    let record = |size: usize| {
        let answer = (0..size).map(|index| (index * 7) as u8).collect::<Vec<_>>();
        CommandRecord { answer: answer.into(), ..command(&size.to_string()) }
    };
    for size in sizes {
        store.appended(Append { command: Some(record(size)), ..Append::default() }).await;
    }
    store.reopen().await;
    for size in sizes {
        let answered = store.answered(record(size).id).await.expect("the store can be read");
        assert!(
            answered.is_some_and(|answered| answered.record == record(size)),
            "an answer of {size} bytes"
        );
    }
}
