//! The real program under load, killed again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::*;
use crate::bank::Mood;
use crate::product::Product;
use crate::unpaid::Unpaid;

const KILLS: u32 = 4;
const CLIENTS: u32 = 6;
const ORDERS_EACH: u32 = 10;

/// The program on a store, and where it is served.
async fn started(store: &Path, bank: &str) -> (Child, String) {
    let mut command = Command::new(examples::built("shop"));
    command.arg(store).arg("127.0.0.1:0").env("SHOP_BANK", bank).env("SHOP_BANK_SECONDS", "1");
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = timeout(SOON, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .expect("it says where it is served");
    (child, said.strip_prefix("the shop is served at ").unwrap().to_owned())
}

/// Asks until there is an answer, as a client does that has a key for it.
async fn answered(shop: &watch::Receiver<String>, key: &str, path: &str, body: &Value) -> Reply {
    loop {
        let at = shop.borrow().clone();
        match send(&at, Method::POST, path, &[("idempotency-key", key)], body.to_string()).await {
            Ok(reply) if reply.status < 500 => return reply,
            Ok(_) | Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Orders and pays, and says which orders were acknowledged.
async fn client(
    number: u32,
    shop: watch::Receiver<String>,
    answers: Arc<watch::Sender<u32>>,
) -> Vec<String> {
    let who = json!({ "name": "A", "email": format!("{number}@example.org") });
    let customer = field(
        &answered(&shop, &format!("customer {number}"), "/customers", &who).await,
        201,
        "customer",
    );
    let mut orders = Vec::new();
    for turn in 0..ORDERS_EACH {
        let wish = json!({ "customer": customer, "product": "mug", "pieces": 1 });
        let placed = answered(&shop, &format!("order {number} {turn}"), "/orders", &wish).await;
        let order = field(&placed, 201, "order");
        let (path, card) = (format!("/orders/{order}/payments"), json!({ "card": "4711" }));
        assert_eq!(
            answered(&shop, &format!("payment {number} {turn}"), &path, &card).await.status,
            202
        );
        answers.send_modify(|answers| *answers += 1);
        orders.push(order);
    }
    orders
}

// ANCHOR: killed
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_is_doubled_wherever_the_program_is_killed() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    let bank = Bank::default();
    bank.takes(
        &[Mood::Works, Mood::Hangs, Mood::FailsCharged, Mood::BreaksOff, Mood::Fails].repeat(3),
    );
    let at = bank.open().await.unwrap().to_string();
    let (mut child, address) = started(&path, &at).await;
    let (shop, seen) = watch::channel(address);
    let answers = Arc::new(watch::Sender::new(0));
    let mug = json!({ "name": "a mug", "cents": 300 });
    assert_eq!(answered(&seen, "mug", "/products/mug", &mug).await.status, 202);
    let pieces = json!({ "pieces": CLIENTS * ORDERS_EACH });
    assert_eq!(answered(&seen, "pieces", "/products/mug/deliveries", &pieces).await.status, 202);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(client(number, seen.clone(), answers.clone())))
        .collect();

    let mut random = fastrand::Rng::with_seed(leftfold::testing::seed());
    let step = CLIENTS * ORDERS_EACH / (KILLS + 1);
    for kill in 0..KILLS {
        let after = kill * step + random.u32(1..step);
        _ = timeout(SOON, answers.subscribe().wait_for(|answers| *answers >= after)).await.unwrap();
        child.kill().await.unwrap();
        let (again, address) = started(&path, &at).await;
        child = again;
        shop.send_replace(address);
    }
    let mut acknowledged = BTreeSet::new();
    for client in clients {
        acknowledged.extend(timeout(SOON, client).await.unwrap().unwrap());
    }
    let all = (CLIENTS * ORDERS_EACH) as usize;
    assert_eq!(acknowledged.len(), all);

    let mut feed = Feed::open(&shop.borrow(), "0").await.unwrap();
    let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    while told.get("order.Paid").is_none_or(|paid| paid.len() < all) {
        let (_, data) = timeout(SOON, feed.next()).await.unwrap().unwrap();
        let what = ["order.Placed", "order.Paid"]
            .into_iter()
            .find(|what| data["what"].get(what).is_some())
            .unwrap();
        told.entry(what).or_default().push(data["order"].as_str().unwrap().to_owned());
    }
    for told in told.values() {
        assert_eq!(
            (told.len(), told.iter().cloned().collect::<BTreeSet<_>>()),
            (all, acknowledged.clone())
        );
    }
    assert_eq!(bank.charged(), acknowledged.iter().map(|order| (order.clone(), 1)).collect());

    let terminated = Command::new("kill")
        .arg("-TERM")
        .arg(child.id().unwrap().to_string())
        .status()
        .await
        .unwrap();
    assert!(terminated.success() && timeout(SOON, child.wait()).await.unwrap().unwrap().success());
    let store = leftfold::open(path.to_str().unwrap()).await.unwrap();
    Runtime::new(&store).process::<Unpaid>().run_until_idle().await.unwrap();
    let product = store.aggregate::<Product>().load("mug").await.unwrap().state;
    assert_eq!((product.free, product.reserved.len(), product.sold), (0, 0, all as u64));
    store.close().await.unwrap();
}
// ANCHOR_END: killed
