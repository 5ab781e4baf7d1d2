//! The inbox: what becomes of a message in a queue.

use std::sync::Arc;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use leftfold_amqp::{Amqp, AmqpMessageId, QUEUE_HEADER, REASON_HEADER};
use leftfold_core::runtime::inbox::{
    BrokerQueue, QueueSession, Receipt, ReceiverState, Settlement,
};
use leftfold_core::store::{AppendError, MemoryBackend, Store, StreamName, Version};
use leftfold_proving::RabbitMqServer;
use leftfold_testing::{RefusingStore, Treatment};

use crate::stage::{Mail, Stranger, pinned, queue_named, reached, sends, shared, write};

/// A store that does not take appends yet.
fn refusing(treatment: Treatment) -> Arc<RefusingStore> {
    let away = AppendError::Unavailable { detail: "the database is away".to_owned() };
    let store = RefusingStore::new(away);
    store.set(treatment);
    store
}

/// The process dies after the inbox has a message, and before the broker hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_taken_and_not_acknowledged_comes_again_and_takes_effect_once() {
    let (store, queue, stranger) =
        (Store::memory(), queue_named("unacknowledged"), Stranger::shared().await);
    stranger.declare(&queue).await;
    stranger.note(&queue, "m1", "hello").await;

    let mut dying = shared().queue(&queue).connect().await.unwrap();
    let arrival = dying.next().await.unwrap();
    let inbox = store.inbox::<Mail>();
    let taken = inbox.settle(&queue, arrival.id.as_deref(), None, &arrival.payload).await;
    assert_eq!(taken, Settlement::Taken(Receipt::Accepted));
    drop((dying, arrival));

    let receiver = inbox.receive_from(shared().queue(&queue));
    let status = reached(&receiver, "it came again", |s| s.repeated == 1).await;
    assert_eq!(status.taken, 0);
    receiver.stop().await.unwrap();
    assert_eq!(pinned(&store).await, ["hello"]);
    assert_eq!(stranger.waiting(&queue).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_goes_to_its_queue_with_the_reason_and_what_it_had_and_the_others_are_taken() {
    let (store, queue, stranger) =
        (Store::memory(), queue_named("poisoned"), Stranger::shared().await);
    stranger.declare(&queue).await;
    let mut headers = FieldTable::default();
    headers.insert("origin".into(), AMQPValue::LongString("depot".into()));
    let with_id = BasicProperties::default().with_message_id("m1".into()).with_headers(headers);
    stranger.publish(&queue, "no JSON", with_id).await;
    stranger.publish(&queue, r#"{"text":"no id"}"#, BasicProperties::default()).await;
    stranger.note(&queue, "m3", "good").await;

    let receiver = store.inbox::<Mail>().receive_from(shared().queue(&queue));
    let status = reached(&receiver, "all are settled", |s| s.taken + s.poisoned == 3).await;
    assert_eq!((status.taken, status.poisoned), (1, 2));
    receiver.stop().await.unwrap();
    assert_eq!(pinned(&store).await, ["good"]);

    let dead = stranger.take(&format!("{queue}.poison")).await;
    let header = |(properties, _): &(BasicProperties, String), name: &str| {
        let headers = properties.headers().as_ref().unwrap();
        headers.inner().get(name).and_then(|value| value.as_long_string()).unwrap().to_string()
    };
    assert_eq!((dead[0].1.as_str(), dead[1].1.as_str()), ("no JSON", r#"{"text":"no id"}"#));
    assert!(header(&dead[0], REASON_HEADER).contains("the bytes of message m1 are no message"));
    assert!(header(&dead[1], REASON_HEADER).contains("has no id"));
    assert_eq!(dead[0].0.message_id().as_ref().unwrap().as_str(), "m1");
    assert_eq!(
        (header(&dead[0], "origin"), header(&dead[0], QUEUE_HEADER)),
        ("depot".into(), queue)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_refuses_messages_stay_in_the_queue_and_keep_their_order() {
    let (backend, queue, stranger) =
        (refusing(Treatment::Refuses), queue_named("refused"), Stranger::shared().await);
    let store = Store::shared(backend.clone());
    stranger.declare(&queue).await;
    let texts: Vec<String> = (0..20).map(|number| format!("note {number:02}")).collect();
    for text in &texts {
        stranger.note(&queue, text, text).await;
    }
    let receiver = store.inbox::<Mail>().receive_from(shared().queue(&queue));
    let away = reached(&receiver, "twice given back", |s| {
        s.given_back >= 40 && matches!(s.state, ReceiverState::StoreAway { .. })
    });
    let away = away.await;
    assert!(away.last_error.unwrap().contains("the database is away"));

    backend.set(Treatment::Takes);
    let status = reached(&receiver, "all are taken", |s| s.taken == 20).await;
    assert_eq!((status.poisoned, status.repeated), (0, 0));
    receiver.stop().await.unwrap();
    assert_eq!(pinned(&store).await, texts);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_messages_are_under_way_than_the_prefetch_however_slow_the_store_is() {
    let (backend, queue, stranger) =
        (refusing(Treatment::Holds(Vec::new())), queue_named("slow"), Stranger::shared().await);
    let store = Store::shared(backend.clone());
    stranger.declare(&queue).await;
    for number in 0..30 {
        stranger.note(&queue, &format!("m{number}"), "slow").await;
    }
    let slow = shared().queue(&queue).prefetch(7);
    let receiver = store.inbox::<Mail>().receive_from(slow);
    reached(&receiver, "seven are under way", |s| s.under_way == 7).await;
    assert_eq!(stranger.waiting(&queue).await, 23);
    backend.set(Treatment::Takes);
    let mut most = 0;
    let status = reached(&receiver, "all are taken", |s| {
        most = most.max(s.under_way);
        s.taken == 30
    });
    status.await;
    assert!(most <= 7, "{most} were under way");
    receiver.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_share_a_queue_and_each_message_takes_effect_once() {
    let backend = Arc::new(MemoryBackend::new());
    let (queue, stranger) = (queue_named("shared"), Stranger::shared().await);
    stranger.declare(&queue).await;
    let stores: Vec<Store> = (0..2).map(|_| Store::shared(backend.clone())).collect();
    let receive = |store: &Store| {
        let few = shared().queue(&queue).prefetch(4);
        store.inbox::<Mail>().receive_from(few)
    };
    let receivers: Vec<_> = stores.iter().map(receive).collect();
    for receiver in &receivers {
        reached(receiver, "it receives", |s| s.state == ReceiverState::Receiving).await;
    }
    for number in 0..60 {
        stranger.note(&queue, &format!("m{number}"), &format!("note {number:02}")).await;
    }
    let both = async {
        let mut status: Vec<_> = receivers.iter().map(|receiver| receiver.status()).collect();
        while status.iter().map(|status| status.borrow().taken).sum::<u64>() < 60 {
            let (one, other) = status.split_at_mut(1);
            let _ = futures_util::future::select(
                Box::pin(one[0].changed()),
                Box::pin(other[0].changed()),
            )
            .await;
        }
    };
    tokio::time::timeout(crate::stage::SOON, both).await.unwrap();
    assert!(receivers.iter().all(|receiver| receiver.status().borrow().taken > 0));
    for receiver in receivers {
        receiver.stop().await.unwrap();
    }
    let mut notes = pinned(&stores[0]).await;
    notes.sort();
    assert_eq!(notes, (0..60).map(|number| format!("note {number:02}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_message_may_stand_in_a_header_or_be_its_content() {
    for (name, id) in [
        ("by_header", AmqpMessageId::Header("order".to_owned())),
        ("by_content", AmqpMessageId::Content),
    ] {
        let (store, queue, stranger) =
            (Store::memory(), queue_named(name), Stranger::shared().await);
        stranger.declare(&queue).await;
        for (order, text) in [(1, "a"), (2, "b"), (1, "a")] {
            let mut headers = FieldTable::default();
            headers.insert("order".into(), AMQPValue::LongLongInt(order));
            let properties = BasicProperties::default().with_headers(headers);
            stranger.publish(&queue, &format!(r#"{{"text":"{text}"}}"#), properties).await;
        }
        let receiver = store.inbox::<Mail>().receive_from(shared().queue(&queue).id(id));
        let status = reached(&receiver, "all are settled", |s| s.taken + s.repeated == 3).await;
        assert_eq!((status.taken, status.repeated, status.poisoned), (2, 1, 0));
        receiver.stop().await.unwrap();
        assert_eq!(pinned(&store).await, ["a", "b"]);
    }
}

/// The order of a key is kept, and a key is a source of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_by_key_has_a_source_for_each_key() {
    let (store, queue) = (Store::memory(), queue_named("by_key"));
    for number in 0..6 {
        let writer = if number % 2 == 0 { "ada" } else { "bob" };
        write(&store, writer, &queue, &format!("{writer} {number}")).await;
    }
    let sending = sends(&store, &shared()).await;
    let receiver = store.inbox::<Mail>().receive_from(shared().queue(&queue).by_key());
    reached(&receiver, "all are taken", |s| s.taken == 6).await;
    receiver.stop().await.unwrap();
    sending.stop().await.unwrap();
    for writer in ["ada", "bob"] {
        let source = StreamName::of("$inbox:mail", &format!("{queue}/{writer}")).unwrap();
        assert_eq!(store.version(source).await.unwrap(), Version(3));
    }
    let notes = pinned(&store).await;
    let of =
        |writer: &str| notes.iter().filter(|note| note.starts_with(writer)).collect::<Vec<_>>();
    assert_eq!(of("ada"), ["ada 0", "ada 2", "ada 4"]);
    assert_eq!(of("bob"), ["bob 1", "bob 3", "bob 5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_missing_queue_are_told_and_waited_for() {
    let store = Store::memory();
    let url = RabbitMqServer::shared().url().replace("guest:guest", "guest:no-such-secret");
    let wrong = Amqp::at(&url).unwrap();
    let receiver = store.inbox::<Mail>().receive_from(wrong.queue("refused"));
    let away = reached(&receiver, "it is refused", |s| s.last_error.is_some()).await;
    assert!(matches!(away.state, ReceiverState::BrokerAway { .. }), "{away}");
    let told = away.last_error.unwrap();
    assert!(told.contains("refuses the user guest") && !told.contains("secret"), "{told}");
    receiver.stop().await.unwrap();

    let queue = queue_named("missing");
    let receiver = store.inbox::<Mail>().receive_from(shared().declaring_nothing().queue(&queue));
    let away = reached(&receiver, "it is missing", |s| s.last_error.is_some()).await;
    assert!(away.last_error.unwrap().contains("(404)"));
    let stranger = Stranger::shared().await;
    stranger.declare(&queue).await;
    stranger.note(&queue, "m1", "found").await;
    reached(&receiver, "it is there", |s| s.taken == 1).await;
    receiver.stop().await.unwrap();
}
