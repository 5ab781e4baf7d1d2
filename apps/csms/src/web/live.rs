//! The first page: fills its view, and sends it again whenever something was recorded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use leftfold::fold::LoadError;
use leftfold::prelude::{Position, ProjectionError, Timestamp};
use leftfold::runtime::{EffectFilter, EffectId, EffectState, EffectStatus};
use leftfold::store::Status;
use tokio::time::{Instant, sleep_until, timeout};

use super::{PAGE_WITHIN, consumers, document};
use crate::app::{Csms, Starting};
use crate::dashboard::{
    self, Admission, ConnectionView, ConnectorView, Counts, EffectView, LapsedView, LiveView,
    OpenState, StationView, Tone, TransactionView,
};
use crate::domain::connector::Connector;
use crate::domain::id_tag::Strangers;
use crate::domain::station::Station;
use crate::http::{ApiCaller, Problem};
use crate::ocpp::v16::{ChargePointErrorCode, ChargePointStatus};
use crate::read::fleet::{self, Fleet, Lapsed};
use crate::read::transactions::{self, TransactionFilter, TransactionRow};

/// The most of each kind that the page shows.
const SHOWN_MAX: usize = 500;
/// The page is sent again at most so often, and at least so often, since it tells ages.
const EVERY: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(10));

/// Time that a page which is sent again soon waits for read models that are behind.
const LIVE_WITHIN: Duration = Duration::from_millis(300);
/// Time for which remote starts in vain are shown, at most `LAPSED_SHOWN_MAX` of them.
const LAPSED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
const LAPSED_SHOWN_MAX: usize = 20;

/// The page as a whole.
pub(super) async fn page(
    State(csms): State<Arc<Csms>>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    show_all(&csms, PAGE_WITHIN).await;
    let view = view(&csms, &host(&headers)).await?;
    Ok(document(dashboard::page(&view)))
}

/// Waits until everything that is durable now is shown, for a moment.
async fn show_all(csms: &Csms, within: Duration) {
    let Ok(consumers) = csms.consumers() else { return };
    let head = csms.store.head().position;
    let shown = |name| consumers.projections.wait_until(name, head, within);
    // What is late is shown as late.
    let _ = tokio::join!(shown(fleet::NAME), shown(transactions::NAME));
}

/// The page again, whenever something was recorded.
pub(super) async fn live(
    State(csms): State<Arc<Csms>>,
    Extension(caller): Extension<ApiCaller>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let first = Some((csms.store.status(), host(&headers), None));
    let updates = stream::unfold(first, move |state| {
        let (csms, caller) = (csms.clone(), caller.clone());
        async move {
            let (mut changes, host, last) = state?;
            if let Some(last) = last {
                tokio::select! {
                    () = csms.stopping() => return None,
                    () = next_turn(last, &mut changes) => {}
                }
            }
            changes.mark_unchanged();
            // A session that is over sees nothing more, and neither does a token that was revoked.
            // A store that is away ends neither.
            if !caller.is_still_admitted(&csms).await.unwrap_or(true) {
                return Some((Ok(Event::default().event("over").data("the session")), None));
            }
            show_all(&csms, LIVE_WITHIN).await;
            let view = view(&csms, &host).await.ok()?;
            let event = Event::default().event("view").data(dashboard::live(&view));
            Some((Ok(event), Some((changes, host, Some(Instant::now())))))
        }
    });
    Sse::new(updates).keep_alive(KeepAlive::default())
}

/// Waits for a change, or until the ages on the page are old.
async fn next_turn(last: Instant, changes: &mut tokio::sync::watch::Receiver<Status>) {
    sleep_until(last + EVERY.0).await;
    let _ = timeout(EVERY.1, changes.changed()).await;
}

fn host(headers: &HeaderMap) -> String {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost").to_owned()
}

async fn view(csms: &Csms, host: &str) -> Result<LiveView, LoadError> {
    let now = Timestamp::now();
    let look = |fleet: &Fleet| {
        let shown = fleet.stations.iter().take(SHOWN_MAX);
        let stations: Vec<_> =
            shown.map(|(identity, row)| station(identity, &row.state, now)).collect();
        (counts(fleet), stations, lapsed(fleet, now))
    };
    let (mut counts, stations, lapsed) = csms.read.fleet(look).await;
    let effects = match csms.consumers() {
        Ok(consumers) => {
            consumers
                .effects
                .list(EffectFilter::Open, EffectId(Position::START), SHOWN_MAX)
                .await?
                .effects
        }
        Err(Starting) => Vec::new(),
    };
    let running = TransactionFilter { open: Some(true), ..TransactionFilter::default() };
    let (transactions, missing) = match csms.read.transactions(&running, SHOWN_MAX).await {
        Ok(found) => (found.iter().map(transaction).collect(), None),
        Err(error) => (Vec::new(), Some(ProjectionError::from(error).to_string())),
    };
    counts.running = match csms.read.count_transactions(&running).await {
        Ok(running) => usize::try_from(running).unwrap_or_default(),
        Err(_) => transactions.len(),
    };
    let (parked, parked_total) = consumers::parked(csms).await;
    Ok(LiveView {
        as_of: now,
        connect_url: format!("ws://{host}/ocpp/"),
        api_url: format!("http://{host}/api"),
        admission: if csms.config.strangers() == Strangers::Welcome {
            Admission::Open
        } else {
            Admission::Registered
        },
        counts,
        stations,
        transactions,
        effects: effects.iter().map(effect).collect(),
        lapsed,
        consumers: consumers::consumers(csms),
        servers: consumers::servers(csms, LIVE_WITHIN).await,
        parked,
        parked_total,
        missing,
    })
}

fn counts(fleet: &Fleet) -> Counts {
    let stations = || fleet.stations.values().map(|row| &row.state);
    let is_faulted =
        |connector: &&Connector| connector.status() == Some(&ChargePointStatus::Faulted);
    Counts {
        stations: fleet.stations.len(),
        online: stations().filter(|station| station.online).count(),
        running: 0,
        faulted: stations()
            .flat_map(|station| station.connectors.values())
            .filter(is_faulted)
            .count(),
    }
}

/// Returns the recent remote starts after which no transaction started.
fn lapsed(fleet: &Fleet, now: Timestamp) -> Vec<LapsedView> {
    let of_late = fleet
        .lapsed
        .iter()
        .filter(|lapsed| now.since(lapsed.at) < LAPSED_FOR)
        .take(LAPSED_SHOWN_MAX);
    let view = |Lapsed { asked, at }: &Lapsed| LapsedView {
        station: asked.station.clone(),
        connector: asked.connector_id.map(std::num::NonZeroU32::get),
        id_tag: asked.id_tag.as_str().to_owned(),
        at: *at,
    };
    of_late.map(view).collect()
}

fn station(identity: &str, station: &Station, now: Timestamp) -> StationView {
    let booted = station.booted.as_ref();
    let model = booted.map(|booted| {
        let parts = [booted.vendor.as_deref(), booted.model.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    });
    let connection = match (station.online, station.online_changed_at) {
        (true, Some(since)) => ConnectionView::Online(since),
        (false, Some(since)) => ConnectionView::Offline(since),
        (_, None) => ConnectionView::Unknown,
    };
    StationView {
        identity: identity.to_owned(),
        model: model.filter(|model| !model.is_empty()),
        firmware: booted.and_then(|booted| booted.firmware_version.clone()),
        connection,
        connectors: station
            .connectors
            .iter()
            .map(|(number, it)| connector(*number, it, station, now))
            .collect(),
    }
}

fn connector(
    number: u32,
    connector: &Connector,
    station: &Station,
    now: Timestamp,
) -> ConnectorView {
    let held = station.claim_on(number, now);
    let report = connector.report.as_ref();
    let tone = match report.map(|report| &report.status) {
        Some(ChargePointStatus::Available) if held.is_none() => Tone::Ready,
        Some(ChargePointStatus::Charging) => Tone::Busy,
        Some(ChargePointStatus::Faulted) => Tone::Wrong,
        Some(ChargePointStatus::Unavailable) | None => Tone::Quiet,
        Some(_) => Tone::Waiting,
    };
    ConnectorView {
        number,
        status: report
            .map_or_else(|| "not reported".to_owned(), |report| report.status.to_string()),
        tone,
        error: report
            .filter(|it| it.error_code != ChargePointErrorCode::NoError)
            .map(|it| it.error_code.to_string()),
        since: report.map(|report| report.since()),
        held_for: held.map(|start| format!("held for {}", start.asked.id_tag.as_str())).or_else(
            || {
                let reservation =
                    station.reservation_on(number, now).filter(|reservation| reservation.accepted);
                reservation.map(|it| {
                    format!(
                        "reserved for {} until {}",
                        it.asked.id_tag.as_str(),
                        it.asked.expiry_date
                    )
                })
            },
        ),
    }
}

/// Returns what every list of transactions shows.
pub(super) fn transaction(transaction: &TransactionRow) -> TransactionView {
    TransactionView {
        id: transaction.id,
        station: transaction.station.clone(),
        connector: Some(transaction.connector_id).filter(|connector| *connector > 0),
        id_tag: transaction.id_tag.clone(),
        started_at: transaction.started_at,
        energy_wh: transaction.energy.energy_wh(),
        last_meter_at: transaction.energy.metered_at,
    }
}

fn effect(status: &EffectStatus) -> EffectView {
    let text = |name: &str| {
        status
            .intent
            .get(name)
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let about =
        [("connector", "connector_id"), ("transaction", "transaction_id"), ("tag", "id_tag")]
            .into_iter()
            .filter_map(|(word, field)| Some(format!("{word} {}", text(field)?)))
            .collect::<Vec<_>>()
            .join(", ");
    EffectView {
        id: status.id.0.0,
        name: status.name.to_owned(),
        station: status.stream.as_ref().map_or_else(String::new, |stream| stream.id().to_owned()),
        about,
        state: match &status.state {
            EffectState::InDoubt { reason, .. } => OpenState::InDoubt(reason.clone()),
            EffectState::Waiting { reason, .. } => OpenState::Waiting(reason.clone()),
            _ => OpenState::InFlight,
        },
        requested_at: status.requested_at,
    }
}
