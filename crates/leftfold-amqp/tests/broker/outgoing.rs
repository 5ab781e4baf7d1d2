//! The outbox: what is sent, and what is never sent.

use std::collections::BTreeMap;

use lapin::types::{AMQPValue, FieldTable};
use leftfold_amqp::{Amqp, KEY_HEADER, POSITION_HEADER};
use leftfold_core::runtime::projection::ParkedState;
use leftfold_core::store::Store;
use leftfold_proving::RabbitMqServer;

use crate::stage::{Mail, Stranger, queue_named, reached, sends, shared, until, until_sent, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_kept_on_disk_with_its_id_its_key_and_the_position_of_its_event() {
    let (store, queue, stranger) = (Store::memory(), queue_named("sent"), Stranger::shared().await);
    write(&store, "ada", &queue, "one").await;
    write(&store, "bob", &queue, "two").await;
    let sending = sends(&store, &shared()).await;
    until_sent(&store, &sending).await;
    sending.stop().await.unwrap();

    let sent = stranger.take(&queue).await;
    let payloads: Vec<&str> = sent.iter().map(|(_, payload)| payload.as_str()).collect();
    assert_eq!(payloads, [r#"{"text":"one"}"#, r#"{"text":"two"}"#]);
    let ids: Vec<_> = sent.iter().map(|(sent, _)| sent.message_id().clone().unwrap()).collect();
    assert_ne!(ids[0], ids[1]);
    let (properties, _) = &sent[1];
    let headers = properties.headers().as_ref().unwrap().inner();
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(headers[KEY_HEADER], AMQPValue::LongString("bob".into()));
    let position = headers[POSITION_HEADER].as_long_long_int().unwrap();
    assert!(position > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_through_an_exchange_of_others_to_every_queue_that_is_bound() {
    let (store, stranger) = (Store::memory(), Stranger::shared().await);
    let queues = [queue_named("first"), queue_named("second")];
    for queue in &queues {
        stranger.declare(queue).await;
        let (options, arguments) = (Default::default(), FieldTable::default());
        let exchange = "amq.topic".into();
        let bound = stranger.channel.queue_bind(
            queue.as_str().into(),
            exchange,
            "notes.*".into(),
            options,
            arguments,
        );
        bound.await.unwrap();
    }
    write(&store, "ada", "amq.topic/notes.new", "to both").await;
    let sending = sends(&store, &shared()).await;
    until_sent(&store, &sending).await;
    for queue in &queues {
        assert_eq!(stranger.take(queue).await.len(), 1);
    }
    sending.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_queue_takes_is_parked_and_the_others_are_sent() {
    let (store, queue, stranger) =
        (Store::memory(), queue_named("routed"), Stranger::shared().await);
    let long = "q".repeat(256);
    let bad = ["amq.direct/nobody", "no-such-exchange/any", long.as_str(), "/key"];
    for (number, to) in bad.into_iter().enumerate() {
        write(&store, &format!("bad{number}"), to, "nowhere").await;
        write(&store, "good", &queue, &format!("note {number}")).await;
    }
    let sending = sends(&store, &shared()).await;
    until("all are sent or parked", async || {
        let parked = sending.projections().parked("letters").unwrap().len();
        parked == 4 && stranger.waiting(&queue).await >= 4
    })
    .await;
    let parked = sending.projections().parked("letters").unwrap();
    let errors: BTreeMap<String, String> = parked
        .into_iter()
        .map(|parked| match parked.state {
            ParkedState::Failed { error, .. } => (parked.stream, error),
            other => panic!("{other:?}"),
        })
        .collect();
    let told = ["no queue takes messages for amq.direct/nobody", "(404)", "qqq", "\"/key\" is not"];
    assert!(errors.values().zip(told).all(|(error, part)| error.contains(part)), "{errors:?}");
    sending.stop().await.unwrap();
    let mut notes: Vec<String> =
        stranger.take(&queue).await.into_iter().map(|(_, payload)| payload).collect();
    notes.dedup();
    let expected: Vec<String> = (0..4).map(|n| format!(r#"{{"text":"note {n}"}}"#)).collect();
    assert_eq!(notes, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_with_a_wrong_password_waits_and_parks_nothing_and_stops() {
    let store = Store::memory();
    let url = RabbitMqServer::shared().url().replace("guest:guest", "guest:no-such-secret");
    write(&store, "ada", "any", "hello").await;
    let sending = sends(&store, &Amqp::at(&url).unwrap()).await;
    let waits_for = || sending.projections().list()[0].consumer.waits_for.clone();
    until("it says so", async || waits_for().contains("refuses the user guest")).await;
    assert!(!waits_for().contains("secret"));
    assert_eq!(sending.projections().list()[0].parked, 0);
    sending.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_was_deleted_under_way_is_declared_again() {
    let (store, queue, stranger) =
        (Store::memory(), queue_named("deleted"), Stranger::shared().await);
    let sending = sends(&store, &shared()).await;
    write(&store, "ada", &queue, "one").await;
    until_sent(&store, &sending).await;
    stranger.channel.queue_delete(queue.as_str().into(), Default::default()).await.unwrap();
    write(&store, "ada", &queue, "two").await;
    until_sent(&store, &sending).await;
    let receiver = store.inbox::<Mail>().receive_from(shared().queue(&queue));
    reached(&receiver, "the second is there", |s| s.taken == 1).await;
    receiver.stop().await.unwrap();
    sending.stop().await.unwrap();
}
