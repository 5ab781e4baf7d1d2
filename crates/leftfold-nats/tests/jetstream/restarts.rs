//! The server is killed while messages are on their way.

use std::time::Duration;

use leftfold_core::runtime::Runtime;
use leftfold_core::runtime::projection::Outbox;
use leftfold_core::store::Store;
use leftfold_proving::NatsServer;
use tokio::task::JoinSet;

use crate::transfers::{
    Incoming, Transfers, Wallet, WalletCommand, creating, deposits, receive, until,
};

const WALLETS: u64 = 8;
const DEPOSITS: u64 = 60;
const KILLS: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn whenever_the_server_is_killed_every_message_takes_effect_once() {
    let (here, there) = (Store::memory(), Store::memory());
    let mut server = NatsServer::start();
    let nats = creating(&server.url());
    let outbox = Outbox::new(&here, nats.bus());
    let sending = Runtime::new(&here)
        .project(Transfers("killed.kept".to_owned()), outbox)
        .start()
        .await
        .unwrap();
    let receiving = Runtime::new(&there).inbox::<Incoming>().start().await.unwrap();
    let queue = nats.queue("killed.kept", "there").by_key();
    let receiver = receive(&there, &queue.acknowledge_within(Duration::from_secs(2)));

    for kill in 1..=KILLS + 1 {
        let mut depositing = JoinSet::new();
        for wallet in 0..WALLETS {
            let wallets = here.aggregate::<Wallet>();
            depositing.spawn(async move {
                for number in 0..DEPOSITS / (KILLS + 1) {
                    let cents = (kill - 1) * (DEPOSITS / (KILLS + 1)) + number + 1;
                    let deposit = WalletCommand::Deposit { cents };
                    wallets.execute(&format!("w{wallet}"), deposit).await.unwrap();
                }
            });
        }
        if kill <= KILLS {
            // On its way: some are there, and most are not.
            until(&receiver, |status| status.taken + status.repeated > (kill - 1) * 40).await;
            server.stop_hard();
            depositing.join_all().await;
            server.start_again();
        } else {
            depositing.join_all().await;
        }
    }
    let all = deposits(&there, usize::try_from(WALLETS * DEPOSITS).unwrap()).await;
    assert_eq!(all.len(), usize::try_from(WALLETS).unwrap());
    for (wallet, mut deposits) in all {
        // What was not acknowledged comes again behind what came since.
        deposits.sort_unstable();
        assert_eq!(deposits, (1..=DEPOSITS).collect::<Vec<_>>(), "{wallet}");
    }
    receiver.stop().await.unwrap();
    receiving.stop().await.unwrap();
    sending.stop().await.unwrap();
}
