//! What a station reports of its firmware, its uploads and its security, and messages of vendors.

use super::{Confirmed, StationReport};
use crate::domain::moment;
use crate::domain::operation::{
    CertificateRequested, EquipmentReport, FirmwareReported, SecurityEventReported, UploadReported,
    VendorMessageReceived,
};
use crate::domain::station::StationCommand;
use crate::ocpp::reading::cut;
use crate::ocpp::v16::{
    Confirmation, DataTransfer, FirmwareStatus, ProgressReport, SecurityEventNotification,
    UploadStatus,
};

impl StationReport<'_> {
    /// Takes a message of a vendor that is registered here; others are not known.
    pub(super) async fn vendor_message(&self, transfer: DataTransfer) -> Confirmed {
        let DataTransfer { vendor_id, message_id, data } = transfer;
        let vendor_id = vendor_id.unwrap_or_default();
        let mut vendors = self.csms.config.vendors.iter();
        let is_taken = vendors.any(|known| known.eq_ignore_ascii_case(vendor_id.trim()));
        if is_taken {
            let (vendor_id, received_at) = (cut(&vendor_id, 255), self.now);
            let message = VendorMessageReceived { vendor_id, message_id, data, received_at };
            self.equipment(EquipmentReport::Vendor(message)).await?;
        }
        Ok(Confirmation::DataTransfer { is_taken })
    }

    pub(super) async fn firmware(&self, report: ProgressReport<FirmwareStatus>) -> Confirmed {
        if let Some(status) = report.status {
            let (request_id, at) = (report.request_id, self.now);
            let reported = FirmwareReported { status, request_id, at };
            self.equipment(EquipmentReport::Firmware(reported)).await?;
        }
        Ok(Confirmation::Report)
    }

    pub(super) async fn upload(
        &self,
        report: ProgressReport<UploadStatus>,
        of_log: bool,
    ) -> Confirmed {
        if let Some(status) = report.status {
            let (request_id, at) = (report.request_id, self.now);
            let reported = UploadReported { of_log, status, request_id, at };
            self.equipment(EquipmentReport::Upload(reported)).await?;
        }
        Ok(Confirmation::Report)
    }

    pub(super) async fn security_event(&self, event: SecurityEventNotification) -> Confirmed {
        let reported = SecurityEventReported {
            kind: event.kind.unwrap_or_default(),
            timestamp: event.timestamp.map(moment),
            details: event.tech_info,
            received_at: self.now,
        };
        self.equipment(EquipmentReport::Security(reported)).await?;
        Ok(Confirmation::Report)
    }

    pub(super) async fn sign_certificate(&self, csr: Option<String>) -> Confirmed {
        let Some(csr) = csr else { return Ok(Confirmation::SignCertificate { is_taken: false }) };
        let requested = CertificateRequested { csr, received_at: self.now };
        self.equipment(EquipmentReport::Certificate(requested)).await?;
        Ok(Confirmation::SignCertificate { is_taken: true })
    }

    async fn equipment(&self, report: EquipmentReport) -> Result<(), super::ReportError> {
        let may_prove = matches!(report, EquipmentReport::Firmware(_) | EquipmentReport::Upload(_));
        self.execute(StationCommand::ReportEquipment(report), None).await?;
        if may_prove {
            self.csms.look_again();
        }
        Ok(())
    }
}
