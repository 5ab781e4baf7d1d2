//! The answers of a station to what the server asks of it.

use serde_json::{Value, json};

use super::charge_point::ChargePoint;
use super::reports::LiveReport;
use crate::ocpp::frame::{Call, CallError, CallResult, ErrorCode, Frame, Payload};

/// Time that a remote start takes, in ms of the model.
const REMOTE_START_MS: u64 = 1_000;
/// Time after which a reset begins, in ms of the model.
const RESET_MS: u64 = 1_000;

impl ChargePoint {
    /// Does what the server asks, and returns the frame that answers it.
    pub(super) fn answer(&mut self, call: &Call, now_ms: u64) -> String {
        let asked: Value = serde_json::from_str(call.payload.as_str()).unwrap_or_default();
        let id = call.id.clone();
        let frame = match self.carry_out(&call.action, &asked, now_ms) {
            Some(payload) => Frame::CallResult(CallResult { id, payload: payload.into() }),
            None => Frame::CallError(CallError {
                id,
                code: ErrorCode::NotImplemented,
                description: "a simulated station does not know this action".to_owned(),
                details: Payload::empty(),
            }),
        };
        frame.encode()
    }

    fn carry_out(&mut self, action: &str, asked: &Value, now_ms: u64) -> Option<Value> {
        let status = |accepted: bool| {
            Some(json!({ "status": if accepted { "Accepted" } else { "Rejected" } }))
        };
        match action {
            "RemoteStartTransaction" => status(self.start_remotely(asked, now_ms)),
            "RemoteStopTransaction" => status(self.stop_remotely(asked, now_ms)),
            "Reset" => {
                self.reboot_at_ms = now_ms + RESET_MS;
                status(true)
            }
            "TriggerMessage" | "ExtendedTriggerMessage" => status(self.trigger(asked, now_ms)),
            "UnlockConnector" => Some(json!({"status": "Unlocked"})),
            "GetConfiguration" => Some(json!({"configurationKey": [
                {"key": "HeartbeatInterval", "readonly": true, "value": "60"},
                {"key": "NumberOfConnectors", "readonly": true,
                    "value": self.outlets.len().to_string()},
            ], "unknownKey": []})),
            "ChangeConfiguration" => Some(json!({"status": "NotSupported"})),
            "GetLocalListVersion" => Some(json!({"listVersion": -1})),
            "SendLocalList" => Some(json!({"status": "NotSupported"})),
            "DataTransfer" => Some(json!({"status": "UnknownVendorId"})),
            "ClearCache" | "ChangeAvailability" | "ReserveNow" | "CancelReservation" => {
                status(false)
            }
            _ => None,
        }
    }

    fn start_remotely(&mut self, asked: &Value, now_ms: u64) -> bool {
        let tag = asked["idTag"].as_str().unwrap_or_default().to_owned();
        let wanted = asked["connectorId"].as_u64();
        let is_wanted = |id: u32| wanted.is_none_or(|wanted| wanted == u64::from(id));
        let idle = self.outlets.iter_mut().find(|outlet| {
            outlet.session.is_none()
                && outlet.remote_tag.is_none()
                && is_wanted(outlet.connector_id)
        });
        let Some(outlet) = idle.filter(|_| !self.is_closing) else { return false };
        outlet.remote_tag = Some(tag);
        outlet.next_ms = now_ms + REMOTE_START_MS;
        true
    }

    fn stop_remotely(&mut self, asked: &Value, now_ms: u64) -> bool {
        let Some(id) = asked["transactionId"].as_i64() else { return false };
        for outlet in &mut self.outlets {
            let Some(session) = &mut outlet.session else { continue };
            if self.ledger[session.ledger].transaction_id == Some(id) {
                session.stops_ms = now_ms;
                outlet.next_ms = now_ms;
                return true;
            }
        }
        false
    }

    fn trigger(&mut self, asked: &Value, now_ms: u64) -> bool {
        match asked["requestedMessage"].as_str() {
            Some("Heartbeat") => self.outbox.push_live(LiveReport::Heartbeat),
            Some("BootNotification") => self.outbox.push_live(LiveReport::Boot),
            Some("StatusNotification") => self.report_all(now_ms),
            _ => return false,
        }
        true
    }
}
