//! Meter values.

use leftfold::prelude::Answer;
use serde_json::json;

use super::{Confirmed, StationReport};
use crate::domain::meter::{self, MeterEvent};
use crate::ocpp::v16::{Confirmation, MeterValues};

impl StationReport<'_> {
    /// Facts that nothing depends on: recorded without a condition, but once.
    pub(super) async fn meter_values(&self, read: MeterValues) -> Confirmed {
        let MeterValues { connector_id, transaction_id, meter_values } = read;
        let transaction_id = self.transaction_of_values(connector_id, transaction_id).await?;
        let all_have_moments =
            !meter_values.is_empty() && meter_values.iter().all(|value| value.timestamp.is_some());
        let key = json!([connector_id, transaction_id, meter_values]).to_string();
        let event = MeterEvent::ValuesRecorded {
            station: self.station.to_owned(),
            connector_id,
            transaction_id,
            values: meter_values,
            received_at: self.now,
        };
        let events = [event];
        let mut facts = self
            .csms
            .store
            .facts(meter::CATEGORY, self.station, &events)
            .metadata(self.note.clone());
        if let Some(cause) = &self.cause {
            facts = facts.caused_by(cause.clone());
        }
        if all_have_moments {
            let hash = blake3::hash(key.as_bytes()).to_hex();
            facts = facts
                .id(&format!("ocpp/{}/MeterValues", self.station), &hash)
                .without_request_check();
        }
        if facts.record().await?.answer == Answer::Again {
            tracing::debug!(station = self.station, "meter values came again");
        }
        Ok(Confirmation::MeterValues)
    }
}
