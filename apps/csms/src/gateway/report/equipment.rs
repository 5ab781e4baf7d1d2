//! What a station reports of its firmware, its uploads and its security, and messages of vendors.

use std::time::Duration;

use leftfold::prelude::Aggregates;

use super::{Confirmed, StationReport};
use crate::app::{SigningError, StationAuthority};
use crate::domain::moment;
use crate::domain::operation::{
    BoundedText, CertificateRequested, EquipmentReport, FirmwareReported, OperationRequested,
    SecurityEventReported, StationOperation, UploadReported, VendorMessageReceived,
};
use crate::domain::station::{SecurityProfile, Station, StationCommand};
use crate::ocpp::reading::cut;
use crate::ocpp::v16::{
    Confirmation, DataTransfer, FirmwareStatus, ProgressReport, SecurityEventNotification,
    UploadStatus,
};

/// Time for the answer to a request for a certificate to be on its way before the certificate is.
const ANSWERED_WITHIN: Duration = Duration::from_millis(200);

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
        let requested = CertificateRequested { csr: csr.clone(), received_at: self.now };
        self.equipment(EquipmentReport::Certificate(requested)).await?;
        // Without an authority here a person has the request signed.
        let Some(authority) = self.csms.station_authority.clone() else {
            return Ok(Confirmation::SignCertificate { is_taken: true });
        };
        let is_taken = match self.signed(authority, csr).await {
            Ok(chain) => {
                let operation = StationOperation::ProvideCertificate { chain };
                let asked = self.csms.operation_requested(self.station, operation, "csms", false);
                tokio::spawn(provide_certificate(self.csms.stations.clone(), asked));
                true
            }
            Err(reason) => {
                tracing::warn!(station = self.station, reason, "a certificate was not signed");
                false
            }
        };
        Ok(Confirmation::SignCertificate { is_taken })
    }

    /// Signs the request of a station that has shown who it is.
    async fn signed(
        &self,
        authority: StationAuthority,
        csr: String,
    ) -> Result<BoundedText<10_000>, String> {
        let station = self.csms.stations.load(self.station).await;
        let profile = station.map_err(|error| error.to_string())?.state.access.profile;
        if profile == SecurityProfile::Open {
            return Err("the station shows no proof of who it is; give it a key first".to_owned());
        }
        let (station, now) = (self.station.to_owned(), self.now);
        let signing = tokio::task::spawn_blocking(move || authority.sign(&station, &csr, now));
        let signed = signing.await.map_err(|error| error.to_string())?;
        let chain = signed.map_err(|error: SigningError| error.to_string())?;
        BoundedText::new(chain).map_err(|error| error.to_string())
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

/// Asks a station to use a certificate that was signed. Its request for that is answered first.
async fn provide_certificate(stations: Aggregates<Station>, asked: OperationRequested) {
    tokio::time::sleep(ANSWERED_WITHIN).await;
    let station = asked.station.clone();
    let command = StationCommand::Operate(Box::new(asked));
    if let Err(error) = stations.execute(&station, command).await {
        tracing::warn!(station, %error, "the station was not asked to use its new certificate");
    }
}
