//! Serves the dashboard: fills its view, and sends it again whenever something was recorded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::middleware::from_fn_with_state;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use futures_util::stream::{self, Stream};
use leftfold::fold::LoadError;
use leftfold::prelude::{Position, Timestamp};
use leftfold::runtime::{EffectFilter, EffectId, EffectState, EffectStatus};
use tokio::time::{Instant, sleep_until, timeout};

use crate::Csms;
use crate::api::{Problem, guard};
use crate::dashboard::{
    self, Admission, Connection, ConnectorView, Counts, EffectView, OpenState, StationView, Tone, TransactionView, View,
};
use crate::domain::connector::Connector;
use crate::domain::id_tag::Strangers;
use crate::domain::station::Station;
use crate::ocpp::v16::{ChargePointErrorCode, ChargePointStatus};
use crate::view::{Model, TransactionRow};

/// The most of each kind that the page shows.
const SHOWN_MAX: usize = 500;
/// The page is sent again at most so often, and at least so often, since it tells ages.
const EVERY: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(10));

/// The routes of the dashboard, for whoever may use the API.
pub(crate) fn router(csms: Arc<Csms>) -> Router<Arc<Csms>> {
    Router::new()
        .route("/", get(page))
        .route("/live", get(live))
        .route("/dashboard.css", get(([(header::CONTENT_TYPE, "text/css; charset=utf-8")], dashboard::STYLE)))
        .route("/dashboard.js", get(([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], dashboard::SCRIPT)))
        .layer(from_fn_with_state(csms, guard))
}

async fn page(State(csms): State<Arc<Csms>>, headers: HeaderMap) -> Result<impl IntoResponse, Problem> {
    csms.view.caught_up(&csms.store).await;
    let view = view(&csms, &host(&headers)).await?;
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_SECURITY_POLICY, dashboard::CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Html(dashboard::page(&view))))
}

/// The page again, whenever something was recorded.
async fn live(State(csms): State<Arc<Csms>>, headers: HeaderMap) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let first = (csms.view.changes(), host(&headers), None);
    let updates = stream::unfold(first, move |(mut changes, host, last)| {
        let csms = csms.clone();
        async move {
            if let Some(last) = last {
                tokio::select! {
                    () = csms.stopping() => return None,
                    () = next_turn(last, &mut changes) => {}
                }
            }
            changes.mark_unchanged();
            let view = view(&csms, &host).await.ok()?;
            let event = Event::default().event("view").data(dashboard::live(&view));
            Some((Ok(event), (changes, host, Some(Instant::now()))))
        }
    });
    Sse::new(updates).keep_alive(KeepAlive::default())
}

/// Waits for a change, or until the ages on the page are old.
async fn next_turn(last: Instant, changes: &mut tokio::sync::watch::Receiver<Position>) {
    sleep_until(last + EVERY.0).await;
    let _ = timeout(EVERY.1, changes.changed()).await;
}

fn host(headers: &HeaderMap) -> String {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost").to_owned()
}

async fn view(csms: &Csms, host: &str) -> Result<View, LoadError> {
    let now = Timestamp::now();
    let (counts, stations, transactions) = {
        let model = csms.view.read();
        let stations = model.stations.iter().take(SHOWN_MAX).map(|(identity, row)| station(identity, &row.state, now)).collect();
        (counts(&model), stations, running(&model))
    };
    let effects = match csms.effects() {
        Some(effects) => effects.list(EffectFilter::Open, EffectId(Position::START), SHOWN_MAX).await?.effects,
        None => Vec::new(),
    };
    Ok(View {
        as_of: now,
        connect_url: format!("ws://{host}/ocpp/"),
        api_url: format!("http://{host}/api"),
        admission: if csms.config.strangers() == Strangers::Welcome { Admission::Open } else { Admission::Registered },
        counts,
        stations,
        transactions,
        effects: effects.iter().map(effect).collect(),
    })
}

fn counts(model: &Model) -> Counts {
    let stations = || model.stations.values().map(|row| &row.state);
    let is_faulted = |connector: &&Connector| connector.status() == Some(&ChargePointStatus::Faulted);
    Counts {
        stations: model.stations.len(),
        online: stations().filter(|station| station.online).count(),
        running: model.transactions.values().filter(|row| row.is_running()).count(),
        faulted: stations().flat_map(|station| station.connectors.values()).filter(is_faulted).count(),
    }
}

/// The newest of the transactions that run.
fn running(model: &Model) -> Vec<TransactionView> {
    let newest = model.transactions.iter().rev().filter(|(_, row)| row.is_running());
    newest.take(SHOWN_MAX).map(|(id, row)| transaction(*id, row)).collect()
}

fn station(identity: &str, station: &Station, now: Timestamp) -> StationView {
    let booted = station.booted.as_ref();
    let model = booted.map(|booted| {
        let parts = [booted.vendor.as_deref(), booted.model.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    });
    let connection = match (station.online, station.online_changed_at) {
        (true, Some(since)) => Connection::Online(since),
        (false, Some(since)) => Connection::Offline(since),
        (_, None) => Connection::Unknown,
    };
    StationView {
        identity: identity.to_owned(),
        model: model.filter(|model| !model.is_empty()),
        firmware: booted.and_then(|booted| booted.firmware_version.clone()),
        connection,
        connectors: station.connectors.iter().map(|(number, it)| connector(*number, it, station, now)).collect(),
    }
}

fn connector(number: u32, connector: &Connector, station: &Station, now: Timestamp) -> ConnectorView {
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
        status: report.map_or_else(|| "not reported".to_owned(), |report| report.status.to_string()),
        tone,
        error: report.filter(|it| it.error_code != ChargePointErrorCode::NoError).map(|it| it.error_code.to_string()),
        since: report.map(|report| report.since()),
        held_for: held.map(|start| format!("held for {}", start.asked.id_tag.as_str())),
    }
}

fn transaction(id: i64, row: &TransactionRow) -> TransactionView {
    TransactionView {
        id,
        station: row.station.clone(),
        connector: Some(row.started.connector_id).filter(|connector| *connector > 0),
        id_tag: row.started.id_tag.clone(),
        started_at: row.started.timestamp.unwrap_or(row.started.received_at),
        energy_wh: row.energy_wh(),
        last_meter_at: row.register_wh.map(|(at, _)| at),
    }
}

fn effect(status: &EffectStatus) -> EffectView {
    let text = |name: &str| status.intent.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let about = [("connector", "connector_id"), ("transaction", "transaction_id"), ("tag", "id_tag")]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::transaction::Started;
    use crate::ocpp::v16::{AuthorizationStatus, TransactionId};

    fn row(id: i64) -> TransactionRow {
        let started = Started {
            transaction_id: TransactionId::new(id).unwrap(),
            connector_id: 1,
            id_tag: "CAFE".to_owned(),
            parent_id_tag: None,
            authorization: AuthorizationStatus::Accepted,
            meter_start_wh: None,
            timestamp: None,
            received_at: Timestamp::from_micros(id),
            reservation_id: None,
            remote_start: None,
        };
        TransactionRow::new("CP1", started)
    }

    /// The oldest were shown, and what had just begun was left out without a word.
    #[test]
    fn the_newest_that_run_are_shown_and_all_of_them_counted() {
        let mut model = Model::default();
        let last = SHOWN_MAX as i64 + 100;
        model.transactions.extend((1..=last).map(|id| (id, row(id))));
        model.transactions.insert(last, TransactionRow { superseded: true, ..row(last) });
        let shown = running(&model);
        assert_eq!((shown.len(), shown[0].id, shown[1].id), (SHOWN_MAX, last - 1, last - 2));
        assert_eq!(counts(&model).running, SHOWN_MAX + 99);
    }
}
