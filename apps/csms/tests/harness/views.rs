//! How the API spells what it answers with. The issue names the routes; these names are nowhere else in the tests.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// `{"items": [...], "next": cursor or null}`
#[derive(Debug, Deserialize)]
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
    pub(crate) vendor: Option<String>,
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) connectors: Vec<ConnectorView>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConnectorView {
    pub(crate) connector_id: u32,
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
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TransactionView {
    pub(crate) id: i64,
    pub(crate) station: String,
    pub(crate) connector_id: u32,
    pub(crate) id_tag: String,
    pub(crate) meter_start_wh: Option<i64>,
    pub(crate) meter_stop_wh: Option<i64>,
    pub(crate) energy_wh: Option<i64>,
    pub(crate) started_at: Option<String>,
    pub(crate) stopped_at: Option<String>,
    pub(crate) reason: Option<String>,
    /// The effect that led to it.
    #[serde(default, deserialize_with = "id_or_null")]
    pub(crate) remote_start: Option<String>,
    /// Only where one transaction is asked for.
    #[serde(default)]
    pub(crate) meter_values: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EffectView {
    #[serde(deserialize_with = "id")]
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) station: String,
    pub(crate) state: State,
    pub(crate) attempts: u32,
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
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

/// Ids are opaque: a number is as good as a text.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        other => other.to_string(),
    })
}

fn id_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = id(deserializer)?;
    Ok((text != "null").then_some(text))
}

impl StationView {
    /// A connector that the station has told of.
    #[track_caller]
    pub(crate) fn connector(&self, connector_id: u32) -> &ConnectorView {
        let found = self.connectors.iter().find(|connector| connector.connector_id == connector_id);
        found.unwrap_or_else(|| panic!("no connector {connector_id} in {self:?}"))
    }

    pub(crate) fn status_of(&self, connector_id: u32) -> Option<&str> {
        self.connectors.iter().find(|connector| connector.connector_id == connector_id)?.status.as_deref()
    }
}
