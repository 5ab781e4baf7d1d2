//! How the API spells what it answers with. The issue names the routes; these names are nowhere
//! else in the tests.

use serde::Deserialize;
use serde_json::Value;

/// `{"items": [...], "next": cursor or null}`
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StationView {
    pub(crate) id: String,
    pub(crate) version: u64,
    pub(crate) online: bool,
    /// What it said of itself when it started last.
    pub(crate) boot: Option<Boot>,
    #[serde(default)]
    pub(crate) connectors: Vec<ConnectorView>,
    pub(crate) reservations: Vec<ReservationView>,
}

/// A connector that is kept for a driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReservationView {
    pub(crate) id: i64,
    pub(crate) connector_id: u32,
    pub(crate) id_tag: String,
    pub(crate) accepted: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Boot {
    pub(crate) vendor: Option<String>,
    pub(crate) model: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConnectorView {
    pub(crate) id: u32,
    pub(crate) status: Option<String>,
    pub(crate) error_code: Option<String>,
    pub(crate) transaction_id: Option<i64>,
}

/// One event of a station.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HistoryItem {
    pub(crate) version: u64,
    /// Such as `station.Booted`.
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    pub(crate) recorded_at: String,
    pub(crate) metadata: MetadataView,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct MetadataView {
    pub(crate) traceparent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TransactionView {
    pub(crate) id: i64,
    pub(crate) station: String,
    pub(crate) connector_id: u32,
    pub(crate) id_tag: String,
    /// Whether it runs.
    pub(crate) open: bool,
    /// State of it in a word.
    pub(crate) state: String,
    /// Words for what is unusual about it.
    pub(crate) flags: Vec<String>,
    pub(crate) possible_repeat_of: Option<i64>,
    pub(crate) reported_id: Option<i64>,
    pub(crate) meter_start_wh: Option<i64>,
    pub(crate) meter_stop_wh: Option<i64>,
    pub(crate) energy_wh: Option<i64>,
    pub(crate) started_at: Option<String>,
    pub(crate) stopped_at: Option<String>,
    pub(crate) stop_reason: Option<String>,
    /// The request that led to it; see [`EffectView::request`].
    pub(crate) remote_start: Option<String>,
    /// How many messages with meter values there were.
    pub(crate) meter_messages: i64,
    /// The meter values; only where one transaction is asked for.
    pub(crate) meter_values: Option<Page<Value>>,
    /// The values that came with the stop; only there too.
    #[serde(default)]
    pub(crate) transaction_data: Vec<Value>,
}

/// What was charged on a day at a station.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnergyView {
    pub(crate) day: String,
    pub(crate) station: String,
    pub(crate) energy_wh: i64,
    pub(crate) transactions: i64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "WireEffect")]
pub(crate) struct EffectView {
    pub(crate) id: String,
    /// What kind of effect it is.
    pub(crate) name: String,
    pub(crate) station: String,
    pub(crate) state: State,
    pub(crate) attempts: u32,
    pub(crate) reason: Option<String>,
    /// The station's whole answer to an operation.
    pub(crate) response: Option<Value>,
    /// Names the request, also towards the station: it is the message id of the call.
    pub(crate) request: String,
}

/// How an effect stands (`state`), and what that means for whoever asked (`answer`).
#[derive(Deserialize)]
struct WireEffect {
    id: String,
    kind: String,
    station: String,
    state: WireState,
    answer: Option<WireAnswer>,
    attempts: u32,
    reason: Option<String>,
    #[serde(default)]
    response: Option<Value>,
    request: WireRequest,
}

#[derive(Deserialize)]
struct WireRequest {
    request: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum WireState {
    Pending,
    InFlight,
    Waiting,
    InDoubt,
    Done,
    NotDone,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum WireAnswer {
    Done,
    Rejected,
    NoAnswer,
    InDoubt,
    NotDone,
}

/// What became of a request to a station, so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing has been sent.
    Pending,
    /// The station has it, and has not answered.
    InFlight,
    /// It may have happened.
    InDoubt,
    /// The station said yes.
    Done,
    /// The station said no.
    Rejected,
    /// It certainly did not happen.
    NotDone,
}

/// RFC 9457
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Problem {
    pub(crate) title: String,
    pub(crate) status: u16,
    pub(crate) detail: String,
    /// A word for programs, with refusals of the domain.
    pub(crate) code: Option<String>,
}

impl From<WireEffect> for EffectView {
    fn from(wire: WireEffect) -> Self {
        let state = match (wire.state, wire.answer) {
            (WireState::Pending | WireState::Waiting, None) => State::Pending,
            (WireState::InFlight, None) => State::InFlight,
            (WireState::InDoubt, Some(WireAnswer::NoAnswer | WireAnswer::InDoubt)) => {
                State::InDoubt
            }
            (WireState::Done, Some(WireAnswer::Done)) => State::Done,
            (WireState::Done, Some(WireAnswer::Rejected)) => State::Rejected,
            (WireState::NotDone, Some(WireAnswer::NotDone)) => State::NotDone,
            _ => panic!("effect {}: its answer does not belong to its state", wire.id),
        };
        let WireEffect { id, kind: name, station, attempts, reason, response, request, .. } = wire;
        let request = request.request;
        Self { id, name, station, state, attempts, reason, response, request }
    }
}

impl StationView {
    /// A connector that the station has told of.
    #[track_caller]
    pub(crate) fn connector(&self, connector_id: u32) -> &ConnectorView {
        let found = self.connectors.iter().find(|connector| connector.id == connector_id);
        found.unwrap_or_else(|| panic!("no connector {connector_id} in {self:?}"))
    }

    pub(crate) fn status_of(&self, connector_id: u32) -> Option<&str> {
        self.connectors.iter().find(|connector| connector.id == connector_id)?.status.as_deref()
    }
}
