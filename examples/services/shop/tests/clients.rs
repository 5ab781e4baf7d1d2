//! Clients that race, repeat themselves, and send what is wrong.

use futures_util::future::join_all;
use leftfold::store::Read;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::feed::FeedEvent;
use crate::order::{Order, OrderCommand};

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_sign_up_with_one_address_at_once_one_becomes_a_customer() {
    for store in examples::stores().await {
        let street = Street::open(store).await;
        let sign_up = |n: u32| {
            let email = if n < 20 { "ada@example.org" } else { "Ada@Example.org" };
            street.post("/customers", json!({ "name": format!("Ada {n}"), "email": email }))
        };
        let replies = join_all((0..40).map(sign_up)).await;
        let (won, lost): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 201);
        assert_eq!(won.len(), 1);
        assert!(lost.iter().all(|reply| problem(reply) == (409, "email-taken".to_owned())));
        street.running.stop().await.unwrap();
    }
}

// ANCHOR: repeated
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_again_has_the_same_answer_and_is_refused_with_another_body() {
    for store in examples::stores().await {
        let street = Street::open(store).await;
        let ada = street.customer("ada").await;
        street.product("mug", 10).await;
        let wish = json!({ "customer": ada, "product": "mug", "pieces": 2 });
        let replies = join_all((0..20).map(|_| street.post_as("one", "/orders", &wish))).await;
        for reply in &replies {
            assert_eq!((reply.status, &reply.body), (201, &replies[0].body));
            assert_eq!(position(reply), position(&replies[0]));
        }
        assert_eq!(street.stock("mug").await, [8, 2, 0]);

        let other = json!({ "customer": ada, "product": "mug", "pieces": 3 });
        assert_eq!(
            problem(&street.post_as("one", "/orders", &other).await),
            (422, "key-reused".to_owned())
        );
        assert_eq!(problem(&street.post_as("one", "/customers", &wish).await).0, 400);
        let delivery =
            street.post_as("one", "/products/mug/deliveries", &json!({ "pieces": 1 })).await;
        assert_eq!(problem(&delivery), (422, "key-reused".to_owned()));
        street.running.stop().await.unwrap();
    }
}
// ANCHOR_END: repeated

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_order_the_last_piece_one_gets_it_and_the_other_is_told_that_none_is_left() {
    for store in examples::stores().await {
        let street = Street::open(store).await;
        let (ada, bob) = (street.customer("ada").await, street.customer("bob").await);
        for round in 0..10 {
            let product = format!("lamp-{round}");
            street.product(&product, 1).await;
            let replies =
                tokio::join!(street.order(&ada, &product, 1), street.order(&bob, &product, 1));
            let lost = if replies.0.status == 201 { replies.1 } else { replies.0 };
            assert_eq!(problem(&lost), (409, "sold-out".to_owned()));
            assert_eq!(lost.json().unwrap()["detail"], "0 pieces are left");
            assert_eq!(street.stock(&product).await, [0, 1, 0]);
        }
        street.running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_orders_for_one_product_at_once_are_all_placed() {
    for store in examples::stores().await {
        let street = Street::open(store).await;
        let ada = street.customer("ada").await;
        street.product("mug", 100).await;
        let replies = join_all((0..100).map(|_| street.order(&ada, "mug", 1))).await;
        assert!(replies.iter().all(|reply| reply.status == 201));
        assert_eq!(street.stock("mug").await, [0, 100, 0]);
        street.running.stop().await.unwrap();
    }
}

// ANCHOR: statuses
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_said_by_its_status_and_a_word() {
    for store in examples::stores().await {
        let street = Street::open(store).await;
        let ada = street.customer("ada").await;
        street.product("mug", 1).await;
        let order = async |customer: &str, product: &str| street.order(customer, product, 1).await;
        let of = |status: u16, code: &str| (status, code.to_owned());
        assert_eq!(problem(&order("nobody", "mug").await), of(404, "no-customer"));
        assert_eq!(problem(&order(&ada, "nothing").await), of(404, "no-product"));
        assert_eq!(problem(&street.get("/orders/none").await), of(404, "no-order"));
        assert_eq!(problem(&street.get("/nowhere").await), of(404, "no-route"));
        assert_eq!(problem(&order(&"x".repeat(2_000), "mug").await).0, 404);
        assert_eq!(
            problem(&street.get(&format!("/orders/{}", "x".repeat(2_000))).await),
            of(400, "not-possible")
        );
        assert_eq!(problem(&street.get("/orders/%FF").await), of(400, "invalid"));
        assert_eq!(problem(&street.get("/orders?customer=1&at=soon").await), of(400, "invalid"));
        assert_eq!(problem(&street.get("/orders?customer=1&at=99999").await), of(409, "ahead"));
        assert_eq!(
            street.get(&format!("/orders?customer=1&after={}", u64::MAX)).await.body,
            r#"{"next":null,"orders":[]}"#
        );

        let placed = field(&order(&ada, "mug").await, 201, "order");
        assert_eq!(
            street.post(&format!("/orders/{placed}/cancellation"), json!({})).await.status,
            202
        );
        assert_eq!(problem(&street.pay(&placed).await), of(409, "over"));

        assert_eq!(
            street.post(&format!("/customers/{ada}/block"), json!({ "why": "debts" })).await.status,
            202
        );
        let blocked = order(&ada, "mug").await;
        assert_eq!(problem(&blocked), of(422, "blocked"));
        assert_eq!(blocked.json().unwrap()["detail"], "the customer is blocked: debts");

        // The store is gone before the server is.
        street.store.close().await.unwrap();
        let closed = order(&ada, "mug").await;
        assert_eq!(problem(&closed), of(503, "later"));
        assert_eq!(closed.headers["retry-after"], "1");
    }
}
// ANCHOR_END: statuses

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_of_the_shop_is_refused_and_nothing_is_recorded() {
    for store in examples::stores().await {
        let street = Street::open(store).await;
        let before = street.store.head().position;
        let send = async |headers: &[(&str, &str)], path: &str, body: &str| {
            problem(
                &send(&street.shop, Method::POST, path, headers, body.to_owned()).await.unwrap(),
            )
            .0
        };
        let key = [("idempotency-key", "k")];
        assert_eq!(send(&[], "/customers", "{}").await, 400);
        assert_eq!(send(&[("idempotency-key", "")], "/customers", "{}").await, 400);
        assert_eq!(send(&[("idempotency-key", &"k".repeat(256))], "/customers", "{}").await, 400);
        for body in [
            "",
            "{",
            "null",
            "[]",
            "{\"name\": 1}",
            r#"{"name": "a", "email": "a@b.c", "is_admin": true}"#,
        ] {
            assert_eq!(send(&key, "/customers", body).await, 400, "{body}");
        }
        for email in ["", "ada", "@example.org", "a b@example.org", "ada@localhost"] {
            let body = json!({ "name": "Ada", "email": email }).to_string();
            assert_eq!(send(&key, "/customers", &body).await, 400, "{email}");
        }
        for pieces in ["0", "-1", "1.5", "1001", "99999999999"] {
            let body = format!(r#"{{"customer": "1", "product": "1", "pieces": {pieces}}}"#);
            assert_eq!(send(&key, "/orders", &body).await, 400, "{pieces}");
        }
        for (path, body) in [
            ("Mug", r#"{"name": "a", "cents": 1}"#),
            ("%0A", r#"{"name": "a", "cents": 1}"#),
            ("mug", r#"{"name": "", "cents": 1}"#),
        ] {
            assert_eq!(send(&key, &format!("/products/{path}"), body).await, 400, "{path} {body}");
        }
        assert_eq!(send(&key, "/customers", &"x".repeat(100_000)).await, 413);
        let long = "x".repeat(300);
        assert_eq!(
            send(
                &[("x-request-id", &long), key[0]],
                "/products/mug",
                r#"{"name": "a", "cents": 1}"#
            )
            .await,
            400
        );
        let wrong =
            crate::client::send(&street.shop, Method::DELETE, "/orders", &[], String::new())
                .await
                .unwrap();
        assert_eq!(problem(&wrong), (405, "no-method".to_owned()));
        assert_eq!(street.store.head().position, before);
        street.running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_says_of_the_conversation_and_the_trace_stands_with_the_events() {
    for store in examples::stores().await {
        let street = Street::open(store).await;
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers = [("idempotency-key", "k"), ("x-request-id", "r-17"), ("traceparent", trace)];
        let body = json!({ "name": "Ada", "email": "ada@example.org" }).to_string();
        let signed_up =
            send(&street.shop, Method::POST, "/customers", &headers, body).await.unwrap();
        let read = Read::matching(Query::category("customer"), Position::START);
        let event = street.store.page(read).await.unwrap().events.remove(0);
        assert_eq!(event.position.0.to_string(), position(&signed_up));
        assert_eq!(event.metadata.correlation.as_deref().map(AsRef::<str>::as_ref), Some("r-17"));
        assert_eq!(event.metadata.trace.as_ref().map(ToString::to_string), Some(trace.to_owned()));
        street.running.stop().await.unwrap();
    }
}

// ANCHOR: own-writes
#[tokio::test(flavor = "multi_thread")]
async fn who_says_the_position_of_what_he_wrote_finds_it_in_the_list() {
    for store in examples::stores().await {
        let street = Street::open(store).await;
        let ada = street.customer("ada").await;
        street.product("mug", 50).await;
        for placed in 1..=50 {
            let at = position(&street.order(&ada, "mug", 1).await);
            let list = street.get(&format!("/orders?customer={ada}&at={at}")).await.json().unwrap();
            assert_eq!(list["orders"].as_array().unwrap().len(), placed);
        }
        street.running.stop().await.unwrap();
    }
}
// ANCHOR_END: own-writes

// ANCHOR: feed
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_cut_off_again_and_again_has_no_gap_and_tells_nothing_twice() {
    const TOLD: usize = 60;
    for store in examples::stores().await {
        let street = Street::open(store).await;
        let orders = street.store.aggregate::<Order>();
        let (placing, reading) = (
            // Both events of an order in one append, so that they stand side by side.
            join_all((0..TOLD / 2).map(|id| {
                let (orders, id) = (orders.clone(), id.to_string());
                async move { orders.record(&id, &[placed(), cancelled()]).await.unwrap() }
            })),
            async {
                let (mut told, mut stood) = (Vec::new(), "0".to_owned());
                while told.len() < TOLD {
                    let mut feed = Feed::open(&street.shop, &stood).await.unwrap();
                    for _ in 0..(told.len() % 4 + 1).min(TOLD - told.len()) {
                        let (position, data) = feed.next().await.unwrap();
                        stood.clone_from(&position);
                        told.push((position, data["order"].as_str().unwrap().to_owned()));
                    }
                }
                told
            },
        );
        let (_, told) = timeout(SOON, async { tokio::join!(placing, reading) }).await.unwrap();
        let mut events = street.store.follow::<FeedEvent>(Position::START).unwrap();
        for told in told {
            let event = events.next().await.unwrap();
            assert_eq!(told, (event.position().to_string(), event.stream_id().to_owned()));
        }
        assert!(
            matches!(Feed::open(&street.shop, "99999").await, Err(error) if error.to_string().contains("409"))
        );
        street.running.stop().await.unwrap();
    }
}
// ANCHOR_END: feed

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_is_stopped_ends_its_feeds_and_answers_what_is_under_way() {
    for store in examples::stores().await {
        let street = Street::open(store).await;
        let mut feed = Feed::open(&street.shop, "0").await.unwrap();
        let ben = street.customer("ben").await;
        street.product("mug", 3).await;
        let mut orders = Vec::new();
        for _ in 0..3 {
            orders.push(field(&street.order(&ben, "mug", 1).await, 201, "order"));
        }
        let body = json!({ "name": "Ada", "email": "ada@example.org" }).to_string();
        let mut sign_up = under_way(&street.shop, "/customers", body.len()).await;

        let stop = async { street.running.stop().await.map_err(|error| error.to_string()) };
        let stopping = tokio::spawn(stop);
        let told = async {
            loop {
                if let Err(error) = feed.next().await {
                    break error.to_string();
                }
            }
        };
        assert!(timeout(SOON, told).await.unwrap().contains("ended"));
        // What runs behind the shop is not stopped before the request is answered.
        let placed = street.store.aggregate::<Order>();
        for order in orders {
            placed.execute(&order, OrderCommand::Cancel).await.unwrap();
            let released = ProductEvent::Released { order, pieces: 1 };
            until_recorded(&street.store, |event: &ProductEvent| *event == released).await;
        }
        assert!(!stopping.is_finished());

        sign_up.write_all(body.as_bytes()).await.unwrap();
        let mut reply = String::new();
        timeout(SOON, sign_up.read_to_string(&mut reply)).await.unwrap().unwrap();
        assert!(reply.starts_with("HTTP/1.1 201 "), "{reply}");
        timeout(SOON, stopping).await.unwrap().unwrap().unwrap();
    }
}

/// Sends the head of a POST, and returns when the shop waits for its body.
async fn under_way(shop: &str, path: &str, body_bytes: usize) -> TcpStream {
    let mut request = TcpStream::connect(shop).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {shop}\r\nidempotency-key: k\r\n\
         content-length: {body_bytes}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    );
    request.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    timeout(SOON, request.read_exact(&mut go_on)).await.unwrap().unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100 "), "{}", go_on.escape_ascii());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_tell_of_the_store_and_of_what_runs_behind_it() {
    for store in examples::stores().await {
        let street = Street::open(store).await;
        street.customer("ada").await;
        let metrics = street.get("/metrics").await.body;
        // The list is built in both versions.
        for name in [
            "leftfold_store_head_position",
            "orders v1",
            "orders v2",
            "leftfold_consumer_up{consumer=\"payment\"} 1",
        ] {
            assert!(metrics.contains(name), "{name} is not in {metrics}");
        }
        assert_eq!(
            (street.get("/health").await.status, street.get("/health").await.body.as_str()),
            (200, r#"{"unhealthy":[]}"#)
        );
        street.running.stop().await.unwrap();
    }
}
