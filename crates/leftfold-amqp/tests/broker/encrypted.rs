//! Encrypted connections to a broker with a certificate, trusted and not.

use leftfold_amqp::Amqp;
use leftfold_core::runtime::inbox::ReceiverState;
use leftfold_core::store::Store;
use leftfold_proving::RabbitMqServer;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::stage::{Mail, pinned, queue_named, reached, sends, until_sent, write};

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_and_come_encrypted_and_only_to_a_broker_that_is_trusted() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = names.signed_by(&key, &authority).unwrap();
    let server = RabbitMqServer::start_encrypted(&certificate.pem(), &key.serialize_pem());
    let (store, queue) = (Store::memory(), queue_named("encrypted"));
    let broker = Amqp::at(&server.encrypted_url()).unwrap();

    let receiver = store.inbox::<Mail>().receive_from(broker.queue(&queue));
    let away = reached(&receiver, "it is not trusted", |s| s.last_error.is_some()).await;
    assert!(matches!(away.state, ReceiverState::BrokerAway { .. }), "{away}");
    assert!(away.to_string().to_lowercase().contains("issuer"), "{away}");
    receiver.stop().await.unwrap();

    let trusted = broker.trusting(authority.pem());
    write(&store, "ada", &queue, "secret").await;
    let sending = sends(&store, &trusted).await;
    until_sent(&store, &sending).await;
    let receiver = store.inbox::<Mail>().receive_from(trusted.queue(&queue));
    reached(&receiver, "it is taken", |s| s.taken == 1).await;
    receiver.stop().await.unwrap();
    sending.stop().await.unwrap();
    assert_eq!(pinned(&store).await, ["secret"]);
}
