//! What a station reports of itself and of its connectors.

use super::{Confirmed, StationReport};
use crate::domain::connector::StatusChanged;
use crate::domain::moment;
use crate::domain::station::{Booted, StationCommand, StationEvent};
use crate::gateway::follow_up::follow_up;
use crate::ocpp::v16::{BootNotification, Confirmation, RegistrationStatus, StatusNotification};

impl StationReport<'_> {
    pub(super) async fn boot(&self, boot: BootNotification) -> Confirmed {
        // After a restart all stations boot at once; those that wait here are served within
        // seconds.
        let _turn = self.csms.boots.acquire().await;
        let decided = self.csms.stations.load(self.station).await?.state.registration;
        let status = decided.unwrap_or(self.csms.config.registration);
        let is_accepted = status == RegistrationStatus::Accepted;
        let booted = Booted {
            registration: (!is_accepted).then_some(status),
            vendor: boot.charge_point_vendor,
            model: boot.charge_point_model,
            serial_number: boot.charge_point_serial_number.or(boot.charge_box_serial_number),
            firmware_version: boot.firmware_version,
            iccid: boot.iccid,
            imsi: boot.imsi,
            meter_type: boot.meter_type,
            meter_serial_number: boot.meter_serial_number,
        };
        self.execute(StationCommand::Boot(booted), None).await?;
        // A start may be the proof of a restart.
        self.csms.look_again();
        self.csms.unaccepted.note(self.station, is_accepted);
        if is_accepted {
            follow_up(self.csms, self.station);
        }
        let interval_s =
            u32::try_from(self.csms.config.heartbeat_interval.as_secs()).unwrap_or(u32::MAX);
        let current_time = jiff::Timestamp::now();
        Ok(Confirmation::BootNotification { status, current_time, interval_s })
    }

    pub(super) async fn heartbeat(&self) -> Confirmed {
        if self.csms.config.keep_heartbeats {
            let heartbeat = StationEvent::HeartbeatReceived { at: self.now };
            self.csms.stations.record(self.station, &[heartbeat]).await?;
        }
        Ok(Confirmation::Heartbeat { current_time: jiff::Timestamp::now() })
    }

    pub(super) async fn status(&self, status: StatusNotification) -> Confirmed {
        let report = StatusChanged {
            connector_id: status.connector_id,
            status: status.status,
            error_code: status.error_code,
            info: status.info,
            vendor_id: status.vendor_id,
            vendor_error_code: status.vendor_error_code,
            timestamp: status.timestamp.map(moment),
            received_at: self.now,
        };
        self.execute(StationCommand::ReportStatus(report), None).await?;
        self.csms.registry.reported(self.station);
        Ok(Confirmation::StatusNotification)
    }

    pub(super) async fn authorize(&self, id_tag: &str) -> Confirmed {
        Ok(Confirmation::Authorize { id_tag_info: self.tag(id_tag).await? })
    }
}
