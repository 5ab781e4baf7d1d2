//! Operations of the core profile and of remote trigger: availability, settings, restarts, the
//! cache, messages of vendors, triggers.

use serde_json::{Value, json};

use super::parts::object;
use crate::domain::operation::{
    KEYS_MAX, OperationResult, OperationalState, ReportedSetting, ResetKind, StationOperation,
    TriggeredReport, is_secret,
};
use crate::ocpp::frame::Payload;
use crate::ocpp::reading::{Fields, Notes, Presence, ViolationKind, WithViolations, cut};

/// The longest value of a setting that is kept, in characters.
const VALUE_CHARS_MAX: usize = 500;
/// Shown in the place of a secret.
const HIDDEN: &str = "[hidden]";

/// Returns the payload of an operation of these profiles.
pub(super) fn payload(operation: &StationOperation) -> Option<Value> {
    Some(match operation {
        StationOperation::ChangeAvailability { connector_id, availability } => {
            let kind = match availability {
                OperationalState::Operative => "Operative",
                OperationalState::Inoperative => "Inoperative",
            };
            json!({ "connectorId": connector_id.get(), "type": kind })
        }
        StationOperation::ChangeSetting { key, value } => {
            let value = value.as_ref().map_or("", |value| value.as_str());
            json!({ "key": key.as_str(), "value": value })
        }
        StationOperation::ReadSettings { keys } => {
            object([("key", (!keys.is_empty()).then(|| json!(keys)))])
        }
        StationOperation::ClearCache {} => json!({}),
        StationOperation::Reset { kind } => {
            let kind = match kind {
                ResetKind::Hard => "Hard",
                ResetKind::Soft => "Soft",
            };
            json!({ "type": kind })
        }
        StationOperation::SendVendorMessage { vendor_id, message_id, data } => object([
            ("vendorId", Some(vendor_id.as_str().into())),
            ("messageId", message_id.as_ref().map(|id| id.as_str().into())),
            ("data", data.as_ref().map(|data| data.as_str().into())),
        ]),
        StationOperation::Trigger { report, connector_id }
        | StationOperation::TriggerExtended { report, connector_id } => object([
            ("requestedMessage", Some(spelling(*report).into())),
            ("connectorId", connector_id.map(|id| id.get().into())),
        ]),
        _ => return None,
    })
}

fn spelling(report: TriggeredReport) -> &'static str {
    match report {
        TriggeredReport::Boot => "BootNotification",
        TriggeredReport::DiagnosticsStatus => "DiagnosticsStatusNotification",
        TriggeredReport::FirmwareStatus => "FirmwareStatusNotification",
        TriggeredReport::Heartbeat => "Heartbeat",
        TriggeredReport::LogStatus => "LogStatusNotification",
        TriggeredReport::MeterValues => "MeterValues",
        TriggeredReport::CertificateRequest => "SignChargePointCertificate",
        TriggeredReport::ConnectorStatus => "StatusNotification",
    }
}

/// Reads the settings of a station.
pub(super) fn settings(fields: &mut Fields<'_>, notes: &mut Notes) -> OperationResult {
    let listed = fields.list("configurationKey", Presence::Optional, notes);
    let read = |(path, raw): (String, &serde_json::value::RawValue)| {
        let Some(mut fields) = Fields::of(raw.get(), format!("{path}.")) else {
            notes.note(&path, ViolationKind::Unreadable);
            return None;
        };
        let key = fields.text("key", 50, Presence::Required, notes);
        let readonly = fields.boolean("readonly", Presence::Required, notes).unwrap_or(false);
        let value = fields.text("value", VALUE_CHARS_MAX, Presence::Optional, notes);
        fields.finish(notes);
        let key = key?;
        let is_secret = is_secret(&key);
        let value = value.filter(|_| !is_secret).map(|value| cut(&value, VALUE_CHARS_MAX));
        Some(ReportedSetting { key, readonly, value, is_secret })
    };
    let settings = listed.into_iter().take(KEYS_MAX).filter_map(read).collect();
    let unknown = fields.list("unknownKey", Presence::Optional, notes);
    let text = |(path, raw): (String, &serde_json::value::RawValue)| {
        crate::ocpp::reading::text_of(raw, &path, notes).map(|key| cut(&key, 50))
    };
    let unknown = unknown.into_iter().take(KEYS_MAX).filter_map(text).collect();
    OperationResult::Settings { settings, unknown }
}

/// Returns the answer to the question for settings as it was read, so that nothing is in it that
/// was not looked at. The values of secrets are hidden.
pub(super) fn settings_shown(settings: &[ReportedSetting], unknown: &[String]) -> Value {
    let shown = |setting: &ReportedSetting| {
        let value = match setting.is_secret {
            true => Some(HIDDEN),
            false => setting.value.as_deref(),
        };
        object([
            ("key", Some(setting.key.as_str().into())),
            ("readonly", Some(setting.readonly.into())),
            ("value", value.map(Into::into)),
        ])
    };
    json!({
        "configurationKey": settings.iter().map(shown).collect::<Vec<_>>(),
        "unknownKey": unknown,
    })
}

/// Reads the data of a vendor's own.
pub(super) fn vendor_data(fields: &mut Fields<'_>, notes: &mut Notes) -> Option<OperationResult> {
    let data = fields.content("data", DATA_CHARS_MAX, Presence::Optional, notes)?;
    Some(OperationResult::VendorData { data: cut(&data, DATA_CHARS_MAX) })
}

/// The longest data of a vendor's own that are kept, in characters.
const DATA_CHARS_MAX: usize = 16 * 1024;

/// A vendor's own message from a station (OCPP 1.6 sections 4.3 and 6.19).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DataTransfer {
    /// Vendor that defines the message. Required by the specification.
    pub(crate) vendor_id: Option<String>,
    /// Kind of the message.
    pub(crate) message_id: Option<String>,
    /// Content of the message, whatever its form.
    pub(crate) data: Option<String>,
}

/// Reads a vendor's own message.
pub(super) fn read_data_transfer(payload: &Payload) -> WithViolations<DataTransfer> {
    let mut notes = Notes::default();
    let mut fields = Fields::of_any(payload.as_str(), &mut notes);
    let transfer = DataTransfer {
        vendor_id: fields.text("vendorId", 255, Presence::Required, &mut notes),
        message_id: fields.text("messageId", 50, Presence::Optional, &mut notes),
        data: fields
            .content("data", DATA_CHARS_MAX, Presence::Optional, &mut notes)
            .map(|data| cut(&data, DATA_CHARS_MAX)),
    };
    fields.finish(&mut notes);
    notes.read(transfer)
}
