//! Origin of a scheduled command, in the records about it: its conversation, its trace and
//! its metadata, which the events of the command have when it is carried out.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::Span;

use crate::fold::Origin;
use crate::runtime::inbox::MESSAGE_DEPTH_MAX;
use crate::runtime::json::Json;
use crate::runtime::positions::{Positions, RewriteError};
use crate::runtime::records::rewritten_label;
use crate::span;
use crate::store::{Label, Metadata, NewEvent, RecordedEvent, TraceContext};

/// Name of the member of a record that has the origin.
const MEMBER: &str = "origin";

/// Origin of a scheduled command, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredOrigin {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    tracestate: String,
    /// User metadata that is a JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Json>,
    /// Any other user metadata, in base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    metadata_bytes: String,
}

impl StoredOrigin {
    /// The origin of a request. If it names no trace, it is within that of the present span.
    pub(super) fn of(origin: &Origin) -> Self {
        let mut metadata = origin.metadata.clone();
        if metadata.trace.is_none() {
            span::carries(&Span::current(), &mut metadata);
        }
        let Metadata { correlation, trace, user, .. } = metadata;
        let json = json_of(&user);
        Self {
            correlation: correlation.map(|correlation| correlation.to_string()),
            traceparent: trace.as_ref().map(TraceContext::to_string),
            tracestate: trace.map_or_else(String::new, |trace| trace.state().to_owned()),
            metadata_bytes: match json {
                Some(_) => String::new(),
                None => BASE64_URL_SAFE_NO_PAD.encode(&user),
            },
            metadata: json,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Metadata of the command. A part that cannot be read is left out: it is no reason not to
    /// carry the command out.
    pub(super) fn metadata(&self) -> Metadata {
        let correlation = self.correlation.clone().and_then(|text| Label::new(text).ok());
        let trace = self
            .traceparent
            .as_ref()
            .and_then(|parent| TraceContext::parse(parent, Some(&self.tracestate)).ok());
        let user = match &self.metadata {
            Some(json) => Bytes::copy_from_slice(json.text().as_bytes()),
            None => BASE64_URL_SAFE_NO_PAD.decode(&self.metadata_bytes).unwrap_or_default().into(),
        };
        Metadata { correlation, trace, user, causation: None }
    }
}

/// Returns user metadata as JSON; `None` if it is none that a record can have as it is.
fn json_of(user: &Bytes) -> Option<Json> {
    let text = std::str::from_utf8(user).ok()?;
    let json = Json::parse(text).ok()?;
    (json.text() == text && json.depth() <= MESSAGE_DEPTH_MAX).then_some(json)
}

/// Rewrites a record for a copy of the store: the conversation may be named by a position.
pub(super) fn rewrite(
    record: &RecordedEvent,
    positions: &dyn Positions,
) -> Result<Option<NewEvent>, RewriteError> {
    let unread = |error: serde_json::Error| RewriteError::Detail(error.to_string());
    let mut new = record.to_new();
    let mut members: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(&record.data).map_err(unread)?;
    let Some(origin) = members.get_mut(MEMBER) else { return Ok(Some(new)) };
    let mut parts: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(origin.get()).map_err(unread)?;
    let Some(correlation) = parts.get_mut("correlation") else { return Ok(Some(new)) };
    let label: String = serde_json::from_str(correlation.get()).map_err(unread)?;
    let Some(label) = rewritten_label(&Label::new(label)?, positions) else {
        return Ok(Some(new));
    };
    *correlation = serde_json::value::to_raw_value(&label).map_err(unread)?;
    *origin = serde_json::value::to_raw_value(&parts).map_err(unread)?;
    new.data = serde_json::to_vec(&members).map_err(unread)?.into();
    Ok(Some(new))
}
