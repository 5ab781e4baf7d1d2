//! Groups over real stores: two handles of one backend are two servers.

use std::collections::BTreeSet;
use std::time::Duration;

use leftfold::store::{
    Append, AppendError, Backend, EventType, Lease, LeaseError, Leased, MemoryBackend, NewEvent,
    Outcome, Query, Read, StreamName,
};
use leftfold::testing::{RefusingStore, Treatment};

use super::*;

fn name() -> GroupName {
    GroupName::new("billing").unwrap()
}

fn lenses() -> LensMaker {
    Arc::new(|_| Arc::new(EveryEvent))
}

/// Settings by which each settled event is written down at once.
fn eager() -> GroupSettings {
    GroupSettings {
        checkpoint_events_min: 1,
        checkpoint_events_max: 1,
        ..GroupSettings::of(Query::all())
    }
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

/// The entry of a group that is served was dropped for others, since it remembered no tries: the
/// group went on counting in one that nobody looked at any more.
#[tokio::test]
async fn a_group_that_is_served_is_remembered_however_many_others_there_are() {
    let store = Store::memory();
    let groups = settings(&store, GroupSettings::of(Query::all())).await;
    append(&store, 1).await;
    let one = consume(&store, 1).await;
    given(&one, 1).await;
    let others = (0..REMEMBERED_GROUPS_MAX).map(|n| GroupName::new(&n.to_string()).unwrap());
    groups.before.lock().unwrap().extend(others.map(|other| (other, ServedBefore::default())));
    let other = GroupName::new("shipping").unwrap();
    groups.create(&store, &other, eager(), Position::START).await.unwrap();
    let who = ConsumerName::default();
    let _other = groups.consume(&store, &other, 1, who, lenses()).await.unwrap();
    let before = groups.before.lock().unwrap();
    let remembered: BTreeSet<_> = before.keys().map(ToString::to_string).collect();
    assert_eq!(remembered, BTreeSet::from(["billing".to_owned(), "shipping".to_owned()]));
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
    assert_eq!(info.last_events(&store).await.unwrap().settled.unwrap().position, Position(11));
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
    assert_eq!(info.parked, ParkedRange { last: Version(2), ..ParkedRange::default() });
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

/// It is given out once, whatever is replayed around it and whoever serves.
#[tokio::test]
async fn a_parked_event_is_given_out_again_or_forgotten_by_itself() {
    let store = Store::memory();
    append(&store, 5).await;
    let groups = settings(&store, eager()).await;
    let consumer = consume(&store, 5).await;
    let all = given(&consumer, 5).await;
    consumer.answer(ids(&all), ConsumerAnswer::Park { reason: "bad".to_owned() }).await;
    until(&store, |info| info.parked.count() == 5).await;
    let release = async |numbers: &[u64], to| {
        let numbers = numbers.iter().copied().map(Version).collect();
        groups.release(&store, &name(), &numbers, to, "ada").await
    };
    release(&[3], ReleasedTo::Consumers).await.unwrap();
    let third = given(&consumer, 1).await;
    assert_eq!((positions(&third), third[0].retries), (vec![3], 0));
    release(&[2], ReleasedTo::Nobody).await.unwrap();
    for wrong in [&[3][..], &[2], &[1, 2], &[9], &[]] {
        let refused = release(wrong, ReleasedTo::Consumers).await;
        assert!(matches!(refused, Err(GroupError::Invalid { .. })), "{wrong:?} {refused:?}");
    }
    assert_eq!(groups.parked(&store, &name()).await.unwrap().count(), 3);
    // A replay of what is older leaves out what was taken out.
    groups.replay(&store, &name(), Version(4)).await.unwrap();
    let replayed = given(&consumer, 2).await;
    assert_eq!(positions(&replayed), [1, 4]);
    assert_eq!(groups.parked(&store, &name()).await.unwrap().count(), 1);
    // Another consumer gets what this one has not settled, and no more.
    consumer.answer(ids(&replayed), ConsumerAnswer::Ack).await;
    drop(consumer);
    let consumer = consume(&store, 5).await;
    let again = given(&consumer, 1).await;
    assert_eq!((positions(&again), again[0].retries), (vec![3], 1));
    consumer.answer(ids(&again), ConsumerAnswer::Ack).await;
    release(&[5], ReleasedTo::Consumers).await.unwrap();
    let fifth = given(&consumer, 1).await;
    assert_eq!(positions(&fifth), [5]);
    consumer.answer(ids(&fifth), ConsumerAnswer::Ack).await;
    groups.replay(&store, &name(), Version::END).await.unwrap();
    drop(consumer);
    append(&store, 1).await;
    let consumer = consume(&store, 5).await;
    let next = given(&consumer, 1).await;
    assert_eq!(next[0].id.source, ItemSource::Read, "{next:?}");
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
    let stored = groups.stored(&store, &name()).await.unwrap();
    assert_eq!(groups.all(&store).await.unwrap(), [(name(), stored)]);
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
    settings(&store, eager()).await;
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

/// Two servers of one store.
fn two_servers() -> (Store, Store) {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    (Store::shared(Arc::clone(&backend)), Store::shared(backend))
}

async fn checkpoint(store: &Store) -> Position {
    store.checkpoint(name().consumer()).await.unwrap().unwrap().position
}

/// A tenure wrote its checkpoint, and what it parked, for another group of the same name.
#[tokio::test]
async fn a_group_that_is_made_anew_has_nothing_of_the_tenure_of_the_old_one() {
    for answer in [ConsumerAnswer::Ack, ConsumerAnswer::Park { reason: String::new() }] {
        let (one, other) = two_servers();
        settings(&one, eager()).await;
        append(&one, 12).await;
        let consumer = consume(&one, 12).await;
        let had = given(&consumer, 12).await;
        ConsumerGroups::of(&other).delete(&other, &name()).await.unwrap();
        settings(&other, eager()).await;
        // The server of the consumer has not looked yet.
        consumer.answer(ids(&had[..10]), answer).await;
        assert_eq!(consumer.next().await.unwrap_err(), GroupEnd::Deleted);
        let consumer = consume(&one, 20).await;
        assert_eq!(positions(&given(&consumer, 12).await), positions(&had));
        let info = ConsumerGroups::of(&one).info(&one, &name()).await.unwrap();
        assert_eq!((info.parked.count(), info.checkpoint), (0, Position::START));
    }
}

/// An event behind an update was read by the query before it, and passed.
#[tokio::test]
async fn what_is_recorded_after_an_update_is_read_by_its_query() {
    for connected in [ConnectedConsumers::Stay, ConnectedConsumers::End] {
        let (one, other) = two_servers();
        let first = GroupSettings { query: Query::category("order"), ..eager() };
        settings(&one, first.clone()).await;
        append(&one, 2).await;
        let mut consumer = consume(&one, 10).await;
        let all = given(&consumer, 2).await;
        consumer.answer(ids(&all), ConsumerAnswer::Ack).await;
        until(&one, |info| info.running.as_ref().unwrap().settled == 2).await;
        let second = first.query.clone().or(Query::category("cart"));
        let second = GroupSettings { query: second, ..first };
        let groups = ConsumerGroups::of(&other);
        groups.update(&other, &name(), &second, None, connected).await.unwrap();
        let cart = StreamName::of("cart", "1").unwrap();
        let event = NewEvent::new(EventType::new("cart.Filled").unwrap(), "{}").in_stream(cart);
        let Outcome::Appended(at) = other.append(Append::of(vec![event])).await.unwrap() else {
            panic!("it is not appended")
        };
        // The server of the consumer has read it by the query that it knows.
        let has_read =
            |running: &RunningInfo| running.settled_through >= at.last() || running.in_flight > 0;
        until(&one, |info| info.running.as_ref().is_none_or(has_read)).await;
        append(&one, 1).await;
        if connected == ConnectedConsumers::End {
            let end = loop {
                match consumer.next().await {
                    Ok(early) => consumer.answer(vec![early.id], ConsumerAnswer::Ack).await,
                    Err(end) => break end,
                }
            };
            assert_eq!(end, GroupEnd::Updated);
            consumer = consume(&one, 10).await;
        }
        let missed = loop {
            let next = consumer.next().await.unwrap();
            if next.event.position <= at.last() {
                break next;
            }
            consumer.answer(vec![next.id], ConsumerAnswer::Ack).await;
            let position = next.event.position;
            until(&one, |info| {
                let settled = info.running.as_ref().unwrap().settled_through;
                assert!(info.checkpoint < position, "it is passed over: {info:?}");
                settled < at.last() || settled >= position
            })
            .await;
        };
        assert_eq!(missed.event.position, at.last());
    }
}

/// The answer of the store to the release of a lease was waited for before consumers heard of it.
#[tokio::test]
async fn a_server_whose_store_hangs_gives_nothing_out_when_its_lease_is_over() {
    let backend = RefusingStore::new(AppendError::Unknown { detail: "it hangs".to_owned() });
    let store = Store::shared(backend.clone());
    settings(&store, GroupSettings::of(Query::all())).await;
    append(&store, 4).await;
    let consumer = consume(&store, 2).await;
    let first = consumer.next().await.unwrap();
    backend.set(Treatment::Hangs(Vec::new()));
    consumer.queue.ended().await;
    assert!(matches!(consumer.next().await, Err(GroupEnd::Away { .. })));
    consumer.answer(vec![first.id], ConsumerAnswer::Ack).await;
    backend.set(Treatment::Takes);
}

/// The age of a lease was counted from the answer, and not from the request.
#[tokio::test]
async fn a_lease_that_is_over_when_it_is_answered_gives_nothing_out() {
    let backend = RefusingStore::new(AppendError::Unknown { detail: "it hangs".to_owned() });
    let store = Store::shared(backend.clone());
    settings(&store, GroupSettings::of(Query::all())).await;
    append(&store, 1).await;
    backend.set(Treatment::Hangs(Vec::new()));
    let consumer = consume(&store, 1).await;
    while store.leases().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    while !store.leases().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    // Another server has it by now.
    let (holder, during) = (leftfold::store::Holder::random(), Duration::from_secs(60));
    let request = leftfold::store::LeaseRequest::new(name().consumer(), holder, during);
    let other = backend.lease(request);
    let asked = backend.leases_asked();
    backend.set(Treatment::Takes);
    let asks_again = async {
        while backend.leases_asked() < asked + 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        given = consumer.next() => panic!("{given:?}"),
        () = asks_again => {}
    }
    let Leased::Held(lease) = other.await.unwrap() else { panic!("it is not leased") };
    store.release(lease).await.unwrap();
    assert_eq!(given(&consumer, 1).await.len(), 1);
}

#[tokio::test]
async fn a_checkpoint_whose_answer_is_lost_ends_nobody() {
    let backend = RefusingStore::new(AppendError::Unknown { detail: "it is lost".to_owned() });
    let store = Store::shared(backend.clone());
    settings(&store, eager()).await;
    append(&store, 3).await;
    let consumer = consume(&store, 3).await;
    let all = given(&consumer, 3).await;
    backend.set(Treatment::Loses);
    consumer.answer(ids(&all[..1]), ConsumerAnswer::Ack).await;
    until(&store, |info| info.checkpoint == all[0].event.position).await;
    backend.set(Treatment::Takes);
    consumer.answer(ids(&all[1..2]), ConsumerAnswer::Ack).await;
    until(&store, |info| info.checkpoint == all[1].event.position).await;
    let info = ConsumerGroups::of(&store).info(&store, &name()).await.unwrap();
    assert_eq!(info.running.unwrap().consumers[0].given, 3);
}

#[tokio::test]
async fn an_event_that_kills_its_only_worker_is_parked_in_the_end() {
    let store = Store::memory();
    settings(&store, GroupSettings { retries_max: 2, ..GroupSettings::of(Query::all()) }).await;
    append(&store, 1).await;
    for retries in 0..=2 {
        let consumer = consume(&store, 1).await;
        assert_eq!(given(&consumer, 1).await[0].retries, retries);
        drop(consumer);
        until(&store, |info| info.running.is_none()).await;
    }
    let info = until(&store, |info| info.parked.count() == 1).await;
    assert_eq!(info.checkpoint, Position(2));
}

/// A lens that never answers as it should.
struct BrokenLens;

impl EventLens for BrokenLens {
    fn passes<'a>(&'a self, _: &'a RecordedEvent) -> Judging<'a> {
        let detail = "the filter cannot be read".to_owned();
        Box::pin(std::future::ready(Err(ReadError::Io { detail })))
    }
}

#[tokio::test]
async fn a_group_that_cannot_go_on_says_why_and_goes_to_another_server() {
    let store = Store::memory();
    let groups = settings(&store, eager()).await;
    append(&store, 1).await;
    let broken: LensMaker = Arc::new(|_| Arc::new(BrokenLens));
    let who = ConsumerName::default();
    let consumer = groups.consume(&store, &name(), 1, who.clone(), broken).await.unwrap();
    until(&store, |info| info.running.as_ref().is_some_and(|running| running.failing.is_some()))
        .await;
    assert!(matches!(consumer.next().await, Err(GroupEnd::Away { .. })));
    until(&store, |info| info.running.is_none()).await;
    assert!(checkpoint(&store).await < Position(2));
    // A task that fails tells its consumers too, and another one takes its place.
    let failing: LensMaker = Arc::new(|_| panic!("this is what the test wants"));
    let consumer = groups.consume(&store, &name(), 1, who, failing).await.unwrap();
    assert!(matches!(consumer.next().await, Err(GroupEnd::Away { .. })));
    let consumer = consume(&store, 1).await;
    assert_eq!(given(&consumer, 1).await.len(), 1);
}
