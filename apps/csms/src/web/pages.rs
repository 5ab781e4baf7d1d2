//! The pages that show read models: all transactions, and the daily report.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use leftfold::prelude::{ProjectionError, Timestamp};
use serde::Deserialize;

use super::live::transaction;
use super::{PAGE_WITHIN, document};
use crate::api::EnergyQuery;
use crate::app::Csms;
use crate::dashboard::{self, EnergyDay, EnergyView, Tone, TransactionLine, TransactionsView};
use crate::http::Problem;
use crate::read::energy::date_of;
use crate::read::transactions::{self, TransactionFilter, TransactionRow, TransactionState};

/// Transactions of one page.
const LINES: usize = 50;
/// Rows of one report.
const ROWS_MAX: usize = 2_000;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TransactionsPageQuery {
    station: String,
    id_tag: String,
    open: String,
    before: Option<i64>,
}

/// All transactions, the newest first.
pub(super) async fn transactions(
    State(csms): State<Arc<Csms>>,
    which: Result<Query<TransactionsPageQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Problem> {
    let TransactionsPageQuery { station, id_tag, open, before } = read(which)?;
    let open = open.parse().ok();
    let filter = TransactionFilter {
        station: Some(station.clone()).filter(|station| !station.is_empty()),
        id_tag: Some(id_tag.clone()).filter(|id_tag| !id_tag.is_empty()),
        open,
        before,
        ..TransactionFilter::default()
    };
    show(&csms, transactions::NAME).await;
    let mut found = csms.read.transactions(&filter, LINES + 1).await;
    let older = found.as_mut().ok().filter(|found| found.len() > LINES).map(|found| {
        found.truncate(LINES);
        let last = found.last().map_or(0, |last| last.id);
        let open = open.map_or("", |open: bool| if open { "true" } else { "false" });
        let (station, id_tag) = (encoded(&station), encoded(&id_tag));
        format!("/transactions?station={station}&idTag={id_tag}&open={open}&before={last}")
    });
    let rows = found.map(|found| found.iter().map(line).collect());
    let rows = rows.map_err(|error| ProjectionError::from(error).to_string());
    let view = TransactionsView { as_of: Timestamp::now(), station, id_tag, open, rows, older };
    Ok(document(dashboard::transactions_page(&view)))
}

fn line(row: &TransactionRow) -> TransactionLine {
    let tone = match row.state {
        TransactionState::Running => Tone::Busy,
        TransactionState::Replaced | TransactionState::Ended => Tone::Waiting,
        TransactionState::Closed | TransactionState::Stopped => Tone::Quiet,
    };
    let state = row.state.word();
    TransactionLine { transaction: transaction(row), state, tone, stopped_at: row.stopped_at }
}

/// The daily report, the newest day first.
pub(super) async fn energy(
    State(csms): State<Arc<Csms>>,
    which: Result<Query<EnergyQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Problem> {
    let filter = read(which)?.filter(Timestamp::now(), None)?;
    show(&csms, transactions::NAME).await;
    let found = csms.read.daily_energy(&filter, ROWS_MAX + 1).await;
    let is_cut = found.as_ref().is_ok_and(|rows| rows.len() > ROWS_MAX);
    let days = found.map(|rows| {
        let mut days: Vec<EnergyDay> = Vec::new();
        for row in rows.into_iter().take(ROWS_MAX) {
            let (date, station) =
                (date_of(row.day).to_string(), (row.station, row.energy_wh, row.transactions));
            match days.last_mut().filter(|day| day.date == date) {
                Some(day) => day.stations.push(station),
                None => days.push(EnergyDay { date, stations: vec![station] }),
            }
        }
        days.reverse();
        days
    });
    let view = EnergyView {
        from: date_of(filter.from).to_string(),
        to: date_of(filter.to).to_string(),
        station: filter.station.unwrap_or_default(),
        days: days.map_err(|error| ProjectionError::from(error).to_string()),
        is_cut,
    };
    Ok(document(dashboard::energy_page(&view)))
}

/// Waits until a read model shows what is durable now, for a moment.
async fn show(csms: &Csms, name: &'static str) {
    if let Ok(consumers) = csms.consumers() {
        // What is late is on the first page.
        let _ =
            consumers.projections.wait_until(name, csms.store.head().position, PAGE_WITHIN).await;
    }
}

fn read<T>(which: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    which
        .map(|Query(which)| which)
        .map_err(|rejection| Problem::bad_request("invalid-query", rejection.body_text()))
}

/// Percent-encoded, as one value of a query.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
