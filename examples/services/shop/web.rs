//! The routes: JSON in, JSON out. A POST has an Idempotency-Key and is answered with the position
//! of what it recorded; `GET /orders?at=` shows at least what is up to there.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use leftfold::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::asked::{Asked, BODY_BYTES_MAX, asked_by, check};
use crate::customer::{Block, Customer, CustomerEvent, SignUp};
use crate::feed;
use crate::list;
use crate::order::{Order, OrderCommand, State as OrderState};
use crate::ordering::{OrderingEvent, PlaceOrder};
use crate::problem::Problem;
use crate::product::{Product, ProductCommand};
use crate::refusal::Refusal;
use crate::service::Shop;

type Shared = State<Arc<Shop>>;
type Id = Result<Path<String>, PathRejection>;
type Answer = Result<Response, Problem>;

/// Longest time that a reader of the list waits for their own write.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);
const PAGE_MAX: u32 = 100;
const PIECES_MAX: u32 = 1_000;

pub(crate) fn router(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/customers", post(sign_up))
        .route("/customers/{id}/block", post(block))
        .route("/products/{id}", get(product).post(list_product))
        .route("/products/{id}/deliveries", post(deliver))
        .route("/orders", get(orders).post(place_order))
        .route("/orders/events", get(order_events))
        .route("/orders/{id}", get(order))
        .route("/orders/{id}/payments", post(pay))
        .route("/orders/{id}/cancellation", post(cancel))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .fallback(|uri: Uri| async move {
            Problem::new(StatusCode::NOT_FOUND, "no-route", format!("nothing is at {}", uri.path()))
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-method", "see the header Allow")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shop)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCustomer {
    name: String,
    email: String,
}

async fn sign_up(State(shop): Shared, asked: Asked) -> Answer {
    let NewCustomer { name, email } = asked.json()?;
    check((1..=200).contains(&name.len()), "a name has 1 to 200 bytes")?;
    let is_email =
        email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
    check(
        is_email && email.len() <= 254 && !email.contains(char::is_whitespace),
        "that is no e-mail address",
    )?;
    let sign_up = SignUp { customer: Uuid::now_v7().to_string(), name, email };
    let done = asked_by!(asked, shop.store.decision(&sign_up)).execute().await?;
    // The id is that of the first time, if the key comes again.
    let customer = done.events.iter().find_map(|event| match event {
        CustomerEvent::SignedUp { customer, .. } => Some(customer.clone()),
        CustomerEvent::Blocked { .. } => None,
    });
    Ok(created(&done, json!({ "customer": customer })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    why: String,
}

async fn block(State(shop): Shared, id: Id, asked: Asked) -> Answer {
    let (id, Reason { why }) = (path(id)?, asked.json()?);
    let done = asked_by!(asked, shop.store.aggregate::<Customer>().command(&id, Block { why }))
        .execute()
        .await?;
    Ok(accepted(&done))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewProduct {
    name: String,
    cents: u32,
}

async fn list_product(State(shop): Shared, id: Id, asked: Asked) -> Answer {
    let (id, NewProduct { name, cents }) = (path(id)?, asked.json()?);
    check(is_article(&id), "a product is named by 1 to 40 of a to z, 0 to 9 and -")?;
    check(
        (1..=200).contains(&name.len()) && cents > 0,
        "a product has a name of 1 to 200 bytes, and a price",
    )?;
    let done = asked_by!(asked, shop.products().command(&id, ProductCommand::List { name, cents }))
        .execute()
        .await?;
    Ok(accepted(&done))
}

fn is_article(id: &str) -> bool {
    let is_plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=40).contains(&id.len()) && id.bytes().all(is_plain)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delivery {
    pieces: u32,
}

async fn deliver(State(shop): Shared, id: Id, asked: Asked) -> Answer {
    let (id, Delivery { pieces }) = (path(id)?, asked.json()?);
    check(pieces > 0, "a delivery has at least one piece")?;
    let done = asked_by!(asked, shop.products().command(&id, ProductCommand::Deliver { pieces }))
        .execute()
        .await?;
    Ok(accepted(&done))
}

async fn product(State(shop): Shared, id: Id) -> Answer {
    let Product { listed, free, reserved, sold } = shop.products().load(&path(id)?).await?.state;
    let (name, cents) = listed.ok_or_else(|| Problem::refused(&Refusal::NoProduct))?;
    let reserved: u64 = reserved.values().copied().map(u64::from).sum();
    Ok(json_of(
        json!({ "name": name, "cents": cents, "free": free, "reserved": reserved, "sold": sold }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOrder {
    customer: String,
    product: String,
    pieces: u32,
}

// ANCHOR: place-order
async fn place_order(State(shop): Shared, asked: Asked) -> Answer {
    let NewOrder { customer, product, pieces } = asked.json()?;
    check((1..=PIECES_MAX).contains(&pieces), "an order is for 1 to 1000 pieces")?;
    let order = Uuid::now_v7().to_string();
    let place_order = PlaceOrder { order, customer, product, pieces };
    let done = asked_by!(asked, shop.store.decision(&place_order)).execute().await?;
    // The order of the first time, if the key comes again.
    let order = done.events.iter().find_map(|event| match event {
        OrderingEvent::Reserved { order, .. } => Some(order.clone()),
        _ => None,
    });
    Ok(created(&done, json!({ "order": order })))
}
// ANCHOR_END: place-order

async fn order(State(shop): Shared, id: Id) -> Answer {
    let id = path(id)?;
    let Order { customer, product, pieces, cents, state, .. } =
        shop.orders().load(&id).await?.state;
    if state == OrderState::Unknown {
        return Err(Problem::refused(&Refusal::NoOrder));
    }
    let state = state.to_string();
    Ok(json_of(
        json!({ "order": id, "customer": customer, "product": product, "pieces": pieces, "cents": cents, "state": state }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPayment {
    card: String,
}

async fn pay(State(shop): Shared, id: Id, asked: Asked) -> Answer {
    let (order, NewPayment { card }) = (path(id)?, asked.json()?);
    check((1..=100).contains(&card.len()), "a card has 1 to 100 bytes")?;
    let pay = OrderCommand::Pay { order: order.clone(), card };
    let done = asked_by!(asked, shop.orders().command(&order, pay)).execute().await?;
    Ok(accepted(&done))
}

async fn cancel(State(shop): Shared, id: Id, asked: Asked) -> Answer {
    let done =
        asked_by!(asked, shop.orders().command(&path(id)?, OrderCommand::Cancel)).execute().await?;
    Ok(accepted(&done))
}

#[derive(Deserialize)]
struct Wanted {
    customer: String,
    /// Position of the caller's last write, which the answer must include.
    at: Option<u64>,
    #[serde(default)]
    after: u64,
}

// ANCHOR: orders
async fn orders(State(shop): Shared, wanted: Result<Query<Wanted>, QueryRejection>) -> Answer {
    let Wanted { customer, at, after } = query(wanted)?;
    if let Some(at) = at.map(Position) {
        not_ahead(&shop, at)?;
        shop.runtime.projections().wait_until("orders", at, SHOWN_WITHIN).await?;
    }
    let list = shop.list.clone();
    let read = tokio::task::spawn_blocking(move || {
        list::page(&list, &customer, Position(after), PAGE_MAX)
    });
    let orders = read.await??;
    let next =
        (orders.len() == PAGE_MAX as usize).then(|| orders.last().map(|order| order.position));
    Ok(json_of(json!({ "orders": orders, "next": next.flatten() })))
}
// ANCHOR_END: orders

#[derive(Deserialize)]
struct Since {
    after: Option<u64>,
}

// ANCHOR: events
async fn order_events(
    State(shop): Shared,
    headers: HeaderMap,
    since: Result<Query<Since>, QueryRejection>,
) -> Answer {
    // A browser that comes again says where it stood by the header, whatever its address says.
    let after = match headers.get("last-event-id") {
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.parse().ok()).map(Position);
            id.ok_or_else(|| Problem::invalid("the Last-Event-ID is none of this feed"))?
        }
        None => query(since)?.after.map_or(shop.store.head().position, Position),
    };
    not_ahead(&shop, after)?;
    let events = feed::events(&shop.store, after, shop.stopping.clone())?;
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}
// ANCHOR_END: events

/// Refuses a position beyond the end of the log: the caller has seen another store, or one from
/// before a restore.
fn not_ahead(shop: &Shop, seen: Position) -> Result<(), Problem> {
    let end = shop.store.head().position;
    let ahead = || {
        let detail = format!("the log ends at {end}: read the orders again, and go on from there");
        Problem::new(StatusCode::CONFLICT, "ahead", detail)
    };
    if seen > end { Err(ahead()) } else { Ok(()) }
}

// ANCHOR: health
async fn health(State(shop): Shared) -> Response {
    let statuses = shop.runtime.status();
    let unhealthy: Vec<Value> = statuses
        .iter()
        .filter(|status| status.stalled || status.needs_person)
        .map(|status| {
            json!({
                "name": status.name,
                "stalled": status.stalled,
                "needsPerson": status.needs_person,
                "waitsFor": status.waits_for,
            })
        })
        .collect();
    let is_healthy = unhealthy.is_empty();
    let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, json_of(json!({ "unhealthy": unhealthy }))).into_response()
}

async fn metrics(State(shop): Shared) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shop.runtime.metrics()).into_response()
}
// ANCHOR_END: health

fn json_of(value: Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// Something new, and where it is recorded.
fn created<E>(done: &Executed<E>, body: Value) -> Response {
    (StatusCode::CREATED, [("position", done.position.to_string())], json_of(body)).into_response()
}

fn accepted<E>(done: &Executed<E>) -> Response {
    (StatusCode::ACCEPTED, [("position", done.position.to_string())], json_of(json!({})))
        .into_response()
}

fn path(path: Id) -> Result<String, Problem> {
    path.map(|Path(id)| id).map_err(|rejection| Problem::invalid(rejection.body_text()))
}

fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|rejection| Problem::invalid(rejection.body_text()))
}
