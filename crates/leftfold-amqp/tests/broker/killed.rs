//! A broker that is killed, and one that is short of memory.

use leftfold_amqp::Amqp;
use leftfold_core::store::Store;
use leftfold_proving::RabbitMqServer;

use crate::stage::{Mail, pinned, queue_named, reached, sends, until, until_sent, write};

/// In one test, since a broker of its own takes seconds to start.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_or_blocks_under_load_loses_nothing_and_doubles_nothing() {
    let mut server = RabbitMqServer::start();
    let broker = Amqp::at(&server.url()).unwrap();
    let (sender, receiver) = (Store::memory(), Store::memory());
    let queue = queue_named("killed");
    let sending = sends(&sender, &broker).await;
    let receiving = receiver.inbox::<Mail>().receive_from(broker.queue(&queue).prefetch(16));
    let note = |number: u64| format!("note {number:04}");

    // Under load: it is killed while messages are on both ways.
    let writer = sender.clone();
    let (to, load) = (queue.clone(), 600);
    let writing = tokio::spawn(async move {
        for number in 0..load {
            write(&writer, "ada", &to, &note(number)).await;
            tokio::task::yield_now().await;
        }
    });
    for taken in [20, 200] {
        reached(&receiving, "some are taken", |s| s.taken >= taken).await;
        server.stop_hard();
        server.start_again();
    }
    writing.await.unwrap();
    reached(&receiving, "all are taken", |s| s.taken == load).await;
    until_sent(&sender, &sending).await;

    // Short of memory: nothing is taken, nothing is parked, and stopping works.
    server.control(&["set_vm_memory_high_watermark", "0"]);
    write(&sender, "ada", &queue, &note(load)).await;
    let status = || sending.projections().list().remove(0);
    until("it waits for the broker", async || status().consumer.waits_for.contains("short of"))
        .await;
    assert_eq!(status().parked, 0);
    sending.stop().await.unwrap();
    let sending = sends(&sender, &broker).await;
    server.control(&["set_vm_memory_high_watermark", "0.6"]);
    until_sent(&sender, &sending).await;
    let last = reached(&receiving, "the last is taken", |s| s.taken == load + 1).await;
    assert_eq!((last.poisoned, sending.projections().list()[0].parked), (0, 0));

    sending.stop().await.unwrap();
    receiving.stop().await.unwrap();
    assert_eq!(pinned(&receiver).await, (0..=load).map(note).collect::<Vec<_>>());
}
