//! What comes to an inbox, what comes again, and what becomes a dead letter.

use std::sync::Arc;
use std::time::Duration;

use leftfold_core::runtime::Runtime;
use leftfold_core::runtime::inbox::{BrokerQueue, QueueSession, ReceiverState, Settlement};
use leftfold_core::runtime::projection::Bus;
use leftfold_core::store::{AppendError, Store};
use leftfold_nats::async_nats::HeaderMap;
use leftfold_nats::{ID_HEADER, Nats, NatsMessageId, REASON_HEADER, SUBJECT_HEADER};
use leftfold_proving::NatsServer;
use leftfold_testing::{RefusingStore, Treatment};

use crate::soon;
use crate::transfers::{
    Incoming, client, consumer, creating, deposits, kept, message, payload, receive, until,
};

/// A message that the server delivers again for this is never waited for.
const NEVER: Duration = Duration::from_secs(3_600);

async fn send(nats: &Nats, subject: &str, count: u64) {
    let messages = (1..=count).map(|number| message(subject, "ada", number)).collect();
    nats.bus().publish(messages).await.unwrap();
}

/// A store that takes appends so far.
fn refusing() -> (Arc<RefusingStore>, Store) {
    let backend =
        RefusingStore::new(AppendError::ReadOnly { detail: "the test said so".to_owned() });
    (backend.clone(), Store::shared(backend))
}

#[tokio::test]
async fn a_message_that_can_never_be_taken_becomes_a_dead_letter_with_the_reason() {
    let server = NatsServer::shared();
    let (nats, store) = (creating(&server.url()), Store::memory());
    let queue = nats.queue("poisoned.*", "me").id(NatsMessageId::Header("App-Id".to_owned()));
    let receiver = receive(&store, &queue);
    until(&receiver, |status| status.state == ReceiverState::Receiving).await;
    let client = client(&server.url()).await;
    for (id, text) in [
        (Some("m1"), payload("ada", 5)),
        (None, payload("ada", 6)),
        (Some("m2"), b"no JSON\n".to_vec()),
        (Some("m1"), payload("ada", 7)),
        (Some("m3"), payload("ada", 8)),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("App-Colour", "blue");
        id.into_iter().for_each(|id| headers.insert("App-Id", id));
        let sent = client.publish_with_headers("poisoned.a", headers, text.into()).await;
        sent.unwrap().await.unwrap();
    }
    let status = until(&receiver, |status| status.taken == 2 && status.poisoned == 3).await;
    assert_eq!((status.repeated, status.given_back), (0, 0), "{status}");

    let letters = kept(&client, "poison_poisoned_+").await;
    let reasons = ["has no id", "the bytes of message m2", "another message under the id m1"];
    assert_eq!(letters.len(), reasons.len());
    for ((headers, _), reason) in letters.iter().zip(reasons) {
        let header = |name: &str| headers.get(name).unwrap().as_str();
        assert!(header(REASON_HEADER).contains(reason), "{headers:?}");
        assert_eq!((header(SUBJECT_HEADER), header("App-Colour")), ("poisoned.a", "blue"));
    }
    assert_eq!(letters[1].1, "no JSON\n");
    assert!(letters.iter().all(|(headers, _)| headers.get(ID_HEADER).is_none()));
    receiver.stop().await.unwrap();
    // None of them comes again.
    let state = consumer(&client, "poisoned_+").await;
    assert_eq!((state.num_ack_pending, state.num_pending), (0, 0));
}

#[tokio::test]
async fn while_the_store_refuses_messages_wait_in_the_stream_and_come_again_in_their_order() {
    let server = NatsServer::shared();
    let (nats, (backend, store)) = (creating(&server.url()), refusing());
    backend.set(Treatment::Refuses);
    send(&nats, "refused.kept", 20).await;
    let receiver = receive(&store, &nats.queue("refused.kept", "me").acknowledge_within(NEVER));
    let is_away = |state| matches!(state, ReceiverState::StoreAway { .. });
    let status = until(&receiver, |status| status.given_back >= 3 && is_away(status.state)).await;
    assert!(status.last_error.unwrap().contains("the test said so"));
    assert_eq!((status.taken, status.poisoned), (0, 0));

    backend.set(Treatment::Takes);
    let status = until(&receiver, |status| status.taken == 20).await;
    assert_eq!((status.repeated, status.poisoned), (0, 0), "{status}");
    receiver.stop().await.unwrap();
    let running = Runtime::new(&store).inbox::<Incoming>().start().await.unwrap();
    assert_eq!(deposits(&store, 20).await["ada"], (1..=20).collect::<Vec<_>>());
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_given_back_comes_again_at_once_and_in_its_order() {
    let server = NatsServer::shared();
    let nats = creating(&server.url());
    send(&nats, "returned.kept", 20).await;
    let mut queue = nats.queue("returned.kept", "me").acknowledge_within(NEVER);
    for _ in 0..3 {
        let mut session = queue.connect().await.unwrap();
        let (mut ids, mut handles) = (Vec::new(), Vec::new());
        while ids.len() < 20 {
            let arrival = soon("a message", session.next()).await.unwrap();
            ids.push(arrival.id.unwrap());
            handles.push(arrival.handle);
        }
        let in_order: Vec<String> =
            (1..=20).map(|number| message("", "", number).id.to_string()).collect();
        assert_eq!(ids, in_order);
        session.give_back(handles, Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn no_more_messages_are_under_way_than_the_bound_and_all_others_wait_in_the_stream() {
    let server = NatsServer::shared();
    let (nats, (backend, store)) = (creating(&server.url()), refusing());
    backend.set(Treatment::Holds(Vec::new()));
    send(&nats, "bounded.kept", 50).await;
    let receiver = receive(&store, &nats.queue("bounded.kept", "me").unacknowledged_max(5));
    until(&receiver, |status| status.under_way == 5).await;
    let state = consumer(&client(&server.url()).await, "bounded_kept").await;
    assert_eq!((state.num_ack_pending, state.num_pending), (5, 45));
    backend.set(Treatment::Takes);
    let status = until(&receiver, |status| status.taken == 50).await;
    assert_eq!(status.poisoned, 0);
    receiver.stop().await.unwrap();
}

/// The inbox had it, and the process died before the server heard of that.
#[tokio::test]
async fn a_message_that_was_taken_and_not_acknowledged_comes_again_and_has_no_second_effect() {
    let server = NatsServer::shared();
    let (nats, store) = (creating(&server.url()), Store::memory());
    send(&nats, "dropped.kept", 1).await;
    let mut queue = nats.queue("dropped.kept", "me").acknowledge_within(Duration::from_secs(1));
    let mut session = queue.connect().await.unwrap();
    let arrival = soon("the message", session.next()).await.unwrap();
    let id = arrival.id.as_deref();
    let inbox = store.inbox::<Incoming>();
    let settled = inbox.settle(queue.name(), id, None, &arrival.payload).await;
    assert!(matches!(settled, Settlement::Taken(_)));
    drop((session, arrival));

    let receiver = receive(&store, &queue);
    let status = until(&receiver, |status| status.repeated == 1).await;
    assert_eq!(status.taken, 0);
    receiver.stop().await.unwrap();
    Runtime::new(&store).inbox::<Incoming>().run_until_idle().await.unwrap();
    assert_eq!(deposits(&store, 1).await["ada"], [1]);
}

#[tokio::test]
async fn two_processes_on_one_store_share_the_messages_and_the_rest_of_one_that_stops() {
    let server = NatsServer::shared();
    let (nats, (backend, store)) = (creating(&server.url()), refusing());
    let other = Store::shared(backend.clone());
    let queue = nats.queue("shared.kept", "me").acknowledge_within(NEVER);
    let first = receive(&store, &queue);
    until(&first, |status| status.state == ReceiverState::Receiving).await;
    backend.set(Treatment::Holds(Vec::new()));
    send(&nats, "shared.kept", 100).await;
    until(&first, |status| status.under_way == 100).await;
    let second = receive(&other, &queue);
    until(&second, |status| status.state == ReceiverState::Receiving).await;
    // The first is stopped, and cannot take what it has.
    let mut stopped = first.status();
    drop(first);
    backend.set(Treatment::Refuses);
    let stopped = stopped.wait_for(|status| status.state == ReceiverState::Stopped);
    assert_eq!(soon("its end", stopped).await.unwrap().given_back, 100);
    backend.set(Treatment::Takes);
    let status = until(&second, |status| status.taken + status.repeated >= 100).await;
    assert_eq!((status.taken, status.poisoned), (100, 0), "{status}");
    second.stop().await.unwrap();
}

#[tokio::test]
async fn messages_without_ids_are_known_by_their_place_in_the_stream() {
    let server = NatsServer::shared();
    let (nats, store) = (creating(&server.url()), Store::memory());
    let queue = nats.queue("plain.>", "me").id(NatsMessageId::Sequence).by_subject();
    let receiver = receive(&store, &queue);
    until(&receiver, |status| status.state == ReceiverState::Receiving).await;
    let client = client(&server.url()).await;
    for subject in ["plain.a", "plain.a", "plain.b.c"] {
        client.publish(subject, payload("ada", 5).into()).await.unwrap().await.unwrap();
    }
    until(&receiver, |status| status.taken == 3).await;
    receiver.stop().await.unwrap();
    Runtime::new(&store).inbox::<Incoming>().run_until_idle().await.unwrap();
    assert_eq!(deposits(&store, 3).await["ada"], [5, 5, 5]);
    let inbox = store.inbox::<Incoming>();
    assert_eq!(inbox.source("plain.a").await.unwrap().held, 0);
}

#[tokio::test]
async fn a_receiver_without_a_stream_says_which_it_misses_and_goes_on_when_it_is_there() {
    let server = NatsServer::shared();
    let (nats, store) = (Nats::at(server.url()).unwrap(), Store::memory());
    let receiver = receive(&store, &nats.queue("missing.kept", "me"));
    let says = |part: &'static str| {
        until(&receiver, move |status| {
            status.last_error.as_ref().is_some_and(|error| error.contains(part))
        })
    };
    says("no stream captures the subject missing.kept").await;
    // Sending creates the stream, and nobody has created one for dead letters.
    send(&creating(&server.url()), "missing.kept", 1).await;
    says("no stream captures the subject poison.missing.kept").await;
    send(&creating(&server.url()), "poison.missing.kept", 1).await;
    until(&receiver, |status| status.taken == 1).await;
    receiver.stop().await.unwrap();
}

#[tokio::test]
async fn a_receiver_is_refused_whose_dead_letters_would_come_to_it() {
    let server = NatsServer::shared();
    let receiver = receive(&Store::memory(), &creating(&server.url()).queue(">", "me"));
    let status = until(&receiver, |status| status.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("would come to the receiver of > again"));
}
