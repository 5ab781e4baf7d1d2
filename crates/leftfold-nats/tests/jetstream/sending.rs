//! What the bus sends, parks and waits for.

use leftfold_core::runtime::Runtime;
use leftfold_core::runtime::projection::{Bus, NotReached, Outbox, ProjectionError};
use leftfold_core::store::Store;
use leftfold_nats::async_nats::jetstream::stream::Config;
use leftfold_nats::{KEY_HEADER, Nats, NatsBus, NatsError, POSITION_HEADER, StreamOptions};
use leftfold_proving::NatsServer;

use crate::soon;
use crate::transfers::{
    Transfers, Wallet, WalletCommand, client, creating, kept, message, payload,
};

/// The error of sending, and that the bus is taken to be away for it, or not.
fn failed(sent: Result<(), ProjectionError>) -> (NatsError, bool) {
    let error = sent.unwrap_err();
    let is_away = NatsBus::is_away(&error);
    (error.downcast_ref::<NatsError>().unwrap().clone(), is_away)
}

#[tokio::test]
async fn messages_are_kept_in_their_order_with_id_key_and_sequence_and_once() {
    let server = NatsServer::shared();
    let mut bus = creating(&server.url()).bus();
    let keys = ["ada", "bob", "ada", "100% \n odd", "ada", "bob"];
    let sent: Vec<_> = keys.iter().zip(1..).map(|(key, n)| message("order.kept", key, n)).collect();
    // The first creates the stream; then the order is that of the batch.
    bus.publish(sent[..1].to_vec()).await.unwrap();
    for _ in 0..2 {
        bus.publish(sent.clone()).await.unwrap();
    }
    let kept = kept(&client(&server.url()).await, "order_kept").await;
    let header = |at: usize, name: &str| kept[at].0.get(name).unwrap().as_str().to_owned();
    assert_eq!(kept.len(), sent.len());
    for (at, sent) in sent.iter().enumerate() {
        assert_eq!(kept[at].1.as_bytes(), &sent.payload[..]);
        assert_eq!(header(at, "Nats-Msg-Id"), sent.id.to_string());
        assert_eq!(header(at, POSITION_HEADER), sent.sequence.0.to_string());
    }
    assert_eq!(
        (header(0, KEY_HEADER), header(3, KEY_HEADER)),
        ("ada".into(), "100%25 %0A odd".into())
    );
}

#[tokio::test]
async fn an_event_whose_message_has_no_stream_is_parked_until_there_is_one() {
    let server = NatsServer::shared();
    let store = Store::memory();
    let wallets = store.aggregate::<Wallet>();
    let deposited = wallets.execute("ada", WalletCommand::Deposit { cents: 5 }).await.unwrap();
    let outbox = Outbox::new(&store, Nats::at(server.url()).unwrap().bus());
    let running = Runtime::new(&store)
        .project(Transfers("nowhere.kept".to_owned()), outbox)
        .start()
        .await
        .unwrap();
    let sending = running.projections();
    let reached = sending.wait_until("transfers", deposited.position, crate::SOON).await;
    let Err(NotReached::Parked { reason, .. }) = reached else { panic!("{reached:?}") };
    assert!(reason.contains("no stream captures the subject nowhere.kept"), "{reason}");

    let key = sending.parked("transfers").unwrap()[0].key.clone();
    let client = client(&server.url()).await;
    let (name, subjects) = ("nowhere".to_owned(), vec!["nowhere.>".to_owned()]);
    client.create_stream(Config { name, subjects, ..Config::default() }).await.unwrap();
    sending.retry("transfers", &key).await.unwrap();
    assert_eq!(sending.parked("transfers").unwrap(), []);
    assert_eq!(kept(&client, "nowhere").await[0].1.as_bytes(), payload("ada", 5));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_server_can_never_take_is_no_reason_to_wait() {
    let server = NatsServer::start_with("max_payload: 2000");
    let nats = creating(&server.url());
    let mut bus = nats.bus();
    let mut large = message("never.large", "ada", 1);
    large.payload = vec![b' '; 2_000].into();
    let (error, is_away) = failed(bus.publish(vec![large]).await);
    assert!(matches!(&error, NatsError::TooLarge { .. }) && !is_away, "{error}");
    for subject in ["never.*", "", "a b"] {
        let (error, is_away) = failed(bus.publish(vec![message(subject, "ada", 2)]).await);
        assert_eq!((error, is_away), (NatsError::Subject { subject: subject.to_owned() }, false));
    }
    let mut without = Nats::at(server.url()).unwrap().bus();
    let (error, is_away) = failed(without.publish(vec![message("never.kept", "ada", 3)]).await);
    assert_eq!((error, is_away), (NatsError::NoStream { subject: "never.kept".into() }, false));
    // The same bus goes on.
    bus.publish(vec![message("never.kept", "ada", 4)]).await.unwrap();
    without.publish(vec![message("never.kept", "ada", 5)]).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_is_full_is_waited_for() {
    let server = NatsServer::shared();
    let options = StreamOptions { bytes_max: Some(2_000), ..StreamOptions::default() };
    let mut bus = Nats::at(server.url()).unwrap().streams(options).bus();
    let mut number = 0;
    let (error, is_away) = loop {
        number += 1;
        assert!(number < 100, "it is never full");
        let sent = bus.publish(vec![message("full.kept", "ada", number)]).await;
        if sent.is_err() {
            break failed(sent);
        }
    };
    assert!(matches!(&error, NatsError::Refused { .. }) && is_away, "{error}");
    let stream = client(&server.url()).await.get_stream("full_kept").await.unwrap();
    stream.purge().await.unwrap();
    bus.publish(vec![message("full.kept", "ada", number)]).await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_waited_for_and_never_shown() {
    let server = NatsServer::start_with(r#"authorization { user: ada, password: "s3cr&t" }"#);
    let at = |user: &str, password: &str| creating(&server.url_of(user, password));
    let wrong = at("ada", "wr0ng");
    let (error, is_away) = failed(wrong.bus().publish(vec![message("door.kept", "ada", 1)]).await);
    assert!(matches!(&error, NatsError::Unauthorized { .. }) && is_away, "{error}");
    for shown in [error.to_string(), format!("{error:?}"), format!("{wrong:?} {:?}", wrong.bus())] {
        assert!(!shown.contains("wr0ng") && !shown.contains("ada"), "{shown}");
    }
    let right = at("ada", "s3cr%26t");
    right.check().await.unwrap();
    right.bus().publish(vec![message("door.kept", "ada", 1)]).await.unwrap();

    let server = NatsServer::start_with(r#"authorization { token: "t0ken" }"#);
    let token = server.url().replace("nats://", "nats://t0ken@");
    creating(&token).bus().publish(vec![message("door.kept", "ada", 1)]).await.unwrap();
    assert!(matches!(creating(&server.url()).check().await, Err(NatsError::Unauthorized { .. })));
}

#[tokio::test]
async fn a_server_that_is_gone_frozen_or_without_jetstream_is_waited_for_and_found_again() {
    let mut server = NatsServer::start();
    let mut bus = creating(&server.url()).bus();
    let send = |number| vec![message("gone.kept", "ada", number)];
    bus.publish(send(1)).await.unwrap();

    server.freeze();
    let (error, is_away) = failed(soon("an answer", bus.publish(send(2))).await);
    assert!(matches!(&error, NatsError::Unconfirmed { .. }) && is_away, "{error}");
    server.thaw();
    bus.publish(send(2)).await.unwrap();

    server.stop_hard();
    let (error, is_away) = failed(soon("an answer", bus.publish(send(3))).await);
    let is_gone = matches!(&error, NatsError::Unreachable { .. } | NatsError::Lost);
    assert!(is_gone && is_away, "{error}");
    server.start_again();
    bus.publish(send(3)).await.unwrap();
    assert_eq!(kept(&client(&server.url()).await, "gone_kept").await.len(), 3);
}

#[tokio::test]
async fn a_missing_permission_is_waited_for_and_named() {
    let server = NatsServer::start_with(
        r#"authorization { users: [{ user: ada, password: b, permissions: { publish: { deny: "denied.>" } } }] }"#,
    );
    let mut bus = creating(&server.url_of("ada", "b")).bus();
    let (error, is_away) = failed(bus.publish(vec![message("denied.kept", "ada", 1)]).await);
    assert!(matches!(&error, NatsError::Unconfirmed { .. }) && is_away, "{error}");
    assert!(error.to_string().contains("Permissions Violation"), "{error}");
}
