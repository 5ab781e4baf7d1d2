//! What a station reports, and the payloads that it sends.

use serde_json::{Value, json};

use super::habits::{Habit, Habits};
use super::outlet::{Occasion, RegisterReading};
use crate::ocpp::frame::{Call, Frame, MessageId};

/// Report that means something only now: it is dropped with the connection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LiveReport {
    Boot,
    Heartbeat,
    Authorize { id_tag: String },
    Status { connector_id: u32, status: &'static str, at_ms: i64 },
}

/// Report about a session: it is kept until it is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeptReport {
    /// Place of the session's truth in the ledger.
    pub(crate) ledger: usize,
    /// Connector of the session.
    pub(crate) connector_id: u32,
    /// Energy of the session at the report, in Wh.
    pub(crate) energy_wh: i64,
    /// Content.
    pub(crate) told: SessionReport,
}

/// Content of a report about a session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SessionReport {
    Start { meter_start: i64, at_ms: i64, id_tag: String },
    Values(RegisterReading),
    Stop { meter_stop: i64, at_ms: i64, reason: &'static str },
}

impl LiveReport {
    /// Returns the action and the payload.
    pub(crate) fn call(&self, model: &str) -> (&'static str, Value) {
        match self {
            Self::Boot => (
                "BootNotification",
                json!({"chargePointVendor": "Leftfold", "chargePointModel": model,
                    "firmwareVersion": env!("CARGO_PKG_VERSION")}),
            ),
            Self::Heartbeat => ("Heartbeat", json!({})),
            Self::Authorize { id_tag } => ("Authorize", json!({ "idTag": id_tag })),
            Self::Status { connector_id, status, at_ms } => (
                "StatusNotification",
                json!({"connectorId": connector_id, "status": status, "errorCode": "NoError",
                    "timestamp": moment_text(*at_ms)}),
            ),
        }
    }
}

impl KeptReport {
    /// Returns the action and the payload. It is the same whenever it is sent, but for the id of
    /// the transaction, which the answer to its start tells.
    pub(crate) fn call(
        &self,
        transaction_id: Option<i64>,
        habits: Habits,
    ) -> (&'static str, Value) {
        match &self.told {
            SessionReport::Start { meter_start, at_ms, id_tag } => (
                "StartTransaction",
                json!({"connectorId": self.connector_id, "idTag": id_tag,
                    "meterStart": meter_start, "timestamp": moment_text(*at_ms)}),
            ),
            SessionReport::Values(reading) => {
                let mut payload = json!({"connectorId": self.connector_id,
                    "meterValue": [meter_value(reading, habits)]});
                if let Some(id) = transaction_id {
                    payload["transactionId"] = id.into();
                }
                ("MeterValues", payload)
            }
            SessionReport::Stop { meter_stop, at_ms, reason } => {
                let id = match habits.has(Habit::StopWithMinusOne) {
                    true => -1,
                    false => transaction_id.unwrap_or(-1),
                };
                let stop = json!({"transactionId": id, "meterStop": meter_stop,
                    "timestamp": moment_text(*at_ms), "reason": reason});
                ("StopTransaction", stop)
            }
        }
    }
}

/// Returns the frame of a call.
pub(crate) fn call_text(id: String, action: &str, payload: Value) -> String {
    let id = MessageId::new(id).expect("ids of the outbox have 1 to 16 characters");
    Frame::Call(Call { id, action: action.to_owned(), payload: payload.into() }).encode()
}

fn meter_value(reading: &RegisterReading, habits: Habits) -> Value {
    let context = match reading.occasion {
        Occasion::Periodic => "Sample.Periodic",
        Occasion::End => "Transaction.End",
        Occasion::Interruption => "Interruption.Begin",
    };
    let (phases, shown_wh): (&[&str], _) = match habits.has(Habit::PerPhase) {
        true => (&["L1", "L2", "L3"], reading.shown_wh),
        false => (&[""], reading.shown_wh),
    };
    let parts = i64::try_from(phases.len()).unwrap_or(1);
    let mut samples = Vec::with_capacity(phases.len() + 2);
    for (nth, phase) in (0_i64..).zip(phases) {
        // The last phase has what the others leave, so that the sum is the register.
        let wh = match nth + 1 == parts {
            true => shown_wh - shown_wh / parts * (parts - 1),
            false => shown_wh / parts,
        };
        let mut sample = json!({"value": wh.to_string(), "context": context, "unit": "Wh",
            "measurand": "Energy.Active.Import.Register"});
        if habits.has(Habit::KwhUnit) {
            sample["value"] = format!("{}.{:03}", wh / 1_000, wh % 1_000).into();
            sample["unit"] = "kWh".into();
        }
        if habits.has(Habit::MissingUnit)
            && let Some(fields) = sample.as_object_mut()
        {
            fields.remove("unit");
        }
        if !phase.is_empty() {
            sample["phase"] = (*phase).into();
        }
        samples.push(sample);
    }
    samples.push(json!({"value": reading.power_w.to_string(), "context": context,
        "measurand": "Power.Active.Import", "unit": "W"}));
    if habits.has(Habit::SignedMeterValues) && reading.occasion == Occasion::End {
        // The begin of an OCMF record; nobody checks its signature.
        let signed = format!(
            "OCMF|{{\"FV\":\"1.0\",\"RD\":[{{\"RV\":{}}}]}}|{{\"SD\":\"00\"}}",
            reading.shown_wh
        );
        samples.push(json!({"value": signed, "context": context, "format": "SignedData",
            "measurand": "Energy.Active.Import.Register"}));
    }
    json!({"timestamp": moment_text(reading.at_ms), "sampledValue": samples})
}

/// Returns a moment as stations write it, to the millisecond.
fn moment_text(at_ms: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(at_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{moment:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_sum_up_to_the_register_and_kwh_keep_every_wh() {
        let reading = RegisterReading {
            at_ms: 15_000,
            shown_wh: 10_001,
            power_w: 11_000,
            occasion: Occasion::End,
        };
        let value = meter_value(&reading, Habits::default().with(Habit::PerPhase));
        let samples = value["sampledValue"].as_array().unwrap();
        let wh = |at: usize| samples[at]["value"].as_str().unwrap().parse::<i64>().unwrap();
        assert_eq!((0..3).map(wh).sum::<i64>(), 10_001);
        assert_eq!(value["timestamp"], "1970-01-01T00:00:15.000Z");
        let value = meter_value(&reading, Habits::default().with(Habit::KwhUnit));
        assert_eq!(value["sampledValue"][0]["value"], "10.001");
    }
}
