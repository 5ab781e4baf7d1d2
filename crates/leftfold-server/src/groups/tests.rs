//! Groups over real stores: two handles of one backend are two servers.

use std::collections::BTreeSet;
use std::time::Duration;

use leftfold::store::{
    Append, Backend, EventType, Lease, LeaseError, MemoryBackend, NewEvent, Query, Read, StreamName,
};

use super::*;

fn name() -> GroupName {
    GroupName::new("billing").unwrap()
}

fn lenses() -> LensMaker {
    Arc::new(|_| Arc::new(EveryEvent))
}

async fn append(store: &Store, count: usize) {
    let event = |number: usize| {
        let stream = StreamName::of("order", &(number % 3).to_string()).unwrap();
        NewEvent::new(EventType::new("order.Placed").unwrap(), "{}").in_stream(stream)
    };
    store.append(Append::of((0..count).map(event).collect())).await.unwrap();
}

async fn consume(store: &Store, capacity: usize) -> GroupConsumer {
    let who = ConsumerName { name: "worker".to_owned(), ..ConsumerName::default() };
    let groups = ConsumerGroups::of(store);
    groups.consume(store, &name(), capacity, who, lenses()).await.unwrap()
}

async fn settings(store: &Store, settings: GroupSettings) -> Arc<ConsumerGroups> {
    let groups = ConsumerGroups::of(store);
    groups.create(store, &name(), settings, Position::START).await.unwrap();
    groups
}

async fn given(consumer: &GroupConsumer, count: usize) -> Vec<GroupDelivery> {
    let mut given = Vec::new();
    for _ in 0..count {
        given.push(consumer.next().await.unwrap());
    }
    given
}

fn ids(given: &[GroupDelivery]) -> Vec<ItemId> {
    given.iter().map(|delivery| delivery.id).collect()
}

fn positions(given: &[GroupDelivery]) -> Vec<u64> {
    given.iter().map(|delivery| delivery.event.position.0).collect()
}

/// Waits until the figures of the group are as wanted.
async fn until(store: &Store, wanted: impl Fn(&GroupInfo) -> bool) -> GroupInfo {
    loop {
        let info = ConsumerGroups::of(store).info(store, &name()).await.unwrap();
        if wanted(&info) {
            return info;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn two_consumers_share_and_the_place_is_kept_when_they_go() {
    let store = Store::memory();
    let groups = settings(&store, GroupSettings::of(Query::all())).await;
    let all = GroupSettings::of(Query::all());
    let twice = groups.create(&store, &name(), all, Position::START).await;
    assert_eq!(twice, Err(GroupError::Exists));
    append(&store, 10).await;
    let (one, other) = (consume(&store, 5).await, consume(&store, 5).await);
    let (of_one, of_other) = (given(&one, 5).await, given(&other, 5).await);
    let all: BTreeSet<_> = positions(&of_one).into_iter().chain(positions(&of_other)).collect();
    assert_eq!(all.len(), 10);
    one.answer(ids(&of_one), ConsumerAnswer::Ack).await;
    let info = until(&store, |info| info.running.as_ref().unwrap().settled == 5).await;
    let running = info.running.unwrap();
    assert!(running.has_lease && running.is_caught_up);
    assert_eq!((running.in_flight, running.consumers.len()), (5, 2));
    // What the other one had goes to this one at once.
    drop(other);
    let again = given(&one, 5).await;
    assert_eq!(positions(&again), positions(&of_other));
    assert!(again.iter().all(|delivery| delivery.retries == 1));
    one.answer(ids(&again), ConsumerAnswer::Ack).await;
    drop(one);
    let info = until(&store, |info| info.running.is_none()).await;
    assert!(info.checkpoint >= Position(10) && info.lag == 0, "{info:?}");
    assert_eq!(info.last_settled.unwrap().position, Position(11));
    append(&store, 1).await;
    let one = consume(&store, 5).await;
    assert_eq!(given(&one, 1).await[0].event.position, Position(12));
}

#[tokio::test]
async fn what_is_parked_is_durable_and_comes_again_when_it_is_replayed() {
    let store = Store::memory();
    let groups = settings(&store, GroupSettings::of(Query::category("order"))).await;
    append(&store, 3).await;
    let consumer = consume(&store, 10).await;
    let all = given(&consumer, 3).await;
    let reason = "cannot be read".to_owned();
    consumer.answer(ids(&all[..2]), ConsumerAnswer::Park { reason: reason.clone() }).await;
    consumer.answer(ids(&all[2..]), ConsumerAnswer::Skip).await;
    let info = until(&store, |info| info.parked.count() == 2).await;
    assert_eq!(info.parked, ParkedRange { before: Version(0), last: Version(2) });
    let mut records = store.read(Read::stream(name().parked_stream(), Version(1)));
    let record = ParkedEntry::of(&records.next().await.unwrap().unwrap()).unwrap();
    assert_eq!((record.position, record.reason, record.is_wish), (2, reason, true));
    // A replay up to the first, and then of the rest, at another server.
    groups.replay(&store, &name(), Version(1)).await.unwrap();
    let again = given(&consumer, 1).await;
    assert_eq!((positions(&again), again[0].retries), (vec![2], 0));
    consumer.answer(ids(&again), ConsumerAnswer::Ack).await;
    until(&store, |info| info.parked.count() == 1).await;
    drop(consumer);
    until(&store, |info| info.running.is_none()).await;
    groups.replay(&store, &name(), Version::END).await.unwrap();
    let other = Store::shared(Arc::clone(store.backend()));
    let consumer = consume(&other, 10).await;
    let again = given(&consumer, 1).await;
    assert_eq!(positions(&again), [3]);
    consumer.answer(ids(&again), ConsumerAnswer::Park { reason: String::new() }).await;
    until(&other, |info| info.parked.count() == 1).await;
    // A group of this name that is made anew has none of it.
    groups.delete(&store, &name()).await.unwrap();
    assert_eq!(groups.info(&store, &name()).await.unwrap_err(), GroupError::NotFound);
    settings(&store, GroupSettings::of(Query::category("order"))).await;
    let info = groups.info(&store, &name()).await.unwrap();
    assert_eq!((info.parked.count(), info.checkpoint), (0, Position::START));
}

#[tokio::test]
async fn changes_reach_consumers_and_a_deletion_ends_them() {
    let store = Store::memory();
    let groups =
        settings(&store, GroupSettings { consumers_max: 1, ..GroupSettings::of(Query::all()) })
            .await;
    let consumer = consume(&store, 10).await;
    let who = ConsumerName::default();
    let second = groups.consume(&store, &name(), 1, who, lenses()).await.err();
    assert_eq!(second, Some(GroupError::ConsumersMax { limit: 1 }));
    let more = GroupSettings { consumers_max: 2, ..GroupSettings::of(Query::category("order")) };
    groups.update(&store, &name(), &more, None, ConnectedConsumers::Stay).await.unwrap();
    until(&store, |info| info.group.settings == more).await;
    let second = loop {
        let who = ConsumerName::default();
        if let Ok(second) = groups.consume(&store, &name(), 1, who, lenses()).await {
            break second;
        }
    };
    append(&store, 1).await;
    assert_eq!(given(&consumer, 1).await.len(), 1);
    groups.update(&store, &name(), &more, None, ConnectedConsumers::End).await.unwrap();
    assert_eq!(consumer.next().await.unwrap_err(), GroupEnd::Updated);
    assert_eq!(second.next().await.unwrap_err(), GroupEnd::Updated);
    let third = consume(&store, 1).await;
    assert_eq!(given(&third, 1).await[0].retries, 0);
    groups.delete(&store, &name()).await.unwrap();
    assert_eq!(third.next().await.unwrap_err(), GroupEnd::Deleted);
    let who = ConsumerName::default();
    let none = groups.consume(&store, &name(), 1, who, lenses()).await.err();
    assert_eq!(none, Some(GroupError::NotFound));
    assert!(groups.all(&store).await.unwrap().is_empty());
}

#[tokio::test]
async fn another_server_goes_on_when_one_stops_and_when_one_is_killed() {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let (one, other) = (Store::shared(Arc::clone(&backend)), Store::shared(backend));
    let groups = settings(&one, GroupSettings::of(Query::all())).await;
    append(&one, 4).await;
    let first = consume(&one, 2).await;
    let had = given(&first, 2).await;
    first.answer(ids(&had[..1]), ConsumerAnswer::Ack).await;
    // This one waits for the lease.
    let second = consume(&other, 10).await;
    until(&other, |info| info.running.as_ref().is_some_and(|running| !running.has_lease)).await;
    groups.stop().await;
    assert_eq!(first.next().await.unwrap_err(), GroupEnd::Stopped);
    let rest = given(&second, 3).await;
    assert_eq!(
        positions(&rest),
        positions(&had)[1..].iter().copied().chain([4, 5]).collect::<Vec<_>>()
    );
    second.answer(ids(&rest[..1]), ConsumerAnswer::Ack).await;
    // Killed: the lease is not given back, and what was acknowledged since is not written down.
    let killed = ConsumerGroups::of(&other).running().remove(&name()).unwrap();
    killed.task.abort();
    let third = consume(&one, 10).await;
    assert_eq!(positions(&given(&third, 3).await), positions(&rest));
}

#[tokio::test]
async fn a_server_that_lost_its_lease_ends_its_consumers_and_writes_nothing() {
    let store = Store::memory();
    settings(&store, GroupSettings::of(Query::all())).await;
    append(&store, 2).await;
    let consumer = consume(&store, 2).await;
    let all = given(&consumer, 2).await;
    let held = store.leases().await.unwrap().remove(0);
    // Somebody else is given the work.
    let lease = Lease { work: held.work.clone(), fence: held.fence, until: held.until };
    store.release(lease).await.unwrap();
    let request = leftfold::store::LeaseRequest::new(
        held.work,
        leftfold::store::Holder::random(),
        Duration::from_secs(60),
    );
    let taken: Result<_, LeaseError> = store.backend().lease(request).await;
    taken.unwrap();
    consumer.answer(ids(&all), ConsumerAnswer::Ack).await;
    assert!(matches!(consumer.next().await, Err(GroupEnd::Away { .. })));
    let at = store.checkpoint(name().consumer()).await.unwrap().unwrap();
    assert_eq!(at.position, Position::START);
}

#[tokio::test]
async fn a_consumer_that_takes_nothing_keeps_no_more_than_it_asked_for() {
    let store = Store::memory();
    let quick = GroupSettings {
        message_timeout_ms: 5,
        retries_max: 1_000,
        ..GroupSettings::of(Query::all())
    };
    settings(&store, quick).await;
    append(&store, 50).await;
    let stalled = consume(&store, 3).await;
    let load = |info: &GroupInfo| info.running.clone().unwrap().consumers[0].clone();
    let info = until(&store, |info| load(info).given > 30).await;
    assert!(load(&info).in_flight <= 3);
    // What it takes at last is what it has now.
    let first = stalled.next().await.unwrap();
    assert!(first.retries > 0);
}

#[tokio::test]
async fn an_event_that_kills_its_only_worker_is_parked_in_the_end() {
    let store = Store::memory();
    let settings_of = GroupSettings { retries_max: 2, ..GroupSettings::of(Query::all()) };
    settings(&store, settings_of).await;
    append(&store, 1).await;
    for retries in 0..3 {
        let worker = consume(&store, 1).await;
        assert_eq!(given(&worker, 1).await[0].retries, retries);
        drop(worker);
        until(&store, |info| info.running.is_none()).await;
    }
    until(&store, |info| info.parked.count() == 1).await;
}
