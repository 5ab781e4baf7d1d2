//! Files of a station: updates of firmware, uploads of diagnostics and of logs. The station answers
//! the request, and reports its progress later.

use std::collections::VecDeque;

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::request::{
    FileLocation, OperationAnswered, OperationRequested, OperationResult, StationOperation,
};
use crate::domain::request::StationAnswer;
use crate::ocpp::v16::{FirmwareStatus, UploadStatus};

/// Reports of progress that are kept, the latest ones.
const REPORTS_MAX: usize = 16;

/// A station reported the progress of an update of its firmware.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FirmwareReported {
    /// Progress.
    pub(crate) status: FirmwareStatus,
    /// Number of the request; `None` if the report carries none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<i64>,
    /// Moment when the report reached us.
    pub(crate) at: Timestamp,
}

/// A station reported the progress of an upload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UploadReported {
    /// True if the report is about a log, and not about diagnostics.
    pub(crate) of_log: bool,
    /// Progress.
    pub(crate) status: UploadStatus,
    /// Number of the request; `None` if the report carries none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<i64>,
    /// Moment when the report reached us.
    pub(crate) at: Timestamp,
}

/// Progress of a file of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FileProgress {
    /// Request that was answered last.
    pub(crate) asked: Option<AnsweredFile>,
    /// Latest reports, the newest last.
    pub(crate) reports: VecDeque<ProgressReported>,
}

/// Request for a file that was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AnsweredFile {
    /// Place of the file, without a password.
    pub(crate) location: String,
    /// Number that its reports carry; `None` if they carry none.
    pub(crate) request_id: Option<i64>,
    /// Moment of the request.
    pub(crate) requested_at: Timestamp,
    /// Answer of the station.
    pub(crate) answer: StationAnswer,
    /// Name of the file, as the station told it.
    pub(crate) file_name: Option<String>,
    /// True if it took the place of one that was under way.
    pub(crate) has_replaced: bool,
}

/// Report of progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProgressReported {
    /// Progress, in the station's words.
    pub(crate) status: String,
    /// Number of the request; `None` if the report carries none.
    pub(crate) request_id: Option<i64>,
    /// Moment when the report reached us.
    pub(crate) at: Timestamp,
}

impl FileProgress {
    /// Takes in the answer to a request.
    pub(super) fn answered(&mut self, asked: &OperationRequested, answered: &OperationAnswered) {
        let (location, request_id): (&FileLocation, _) = match &asked.operation {
            StationOperation::UpdateFirmware { location, .. }
            | StationOperation::UploadDiagnostics { location, .. } => (location, None),
            StationOperation::UpdateSignedFirmware { firmware, request_id, .. } => {
                (&firmware.location, Some(i64::from(*request_id)))
            }
            StationOperation::UploadLog { log, request_id, .. } => {
                (&log.location, Some(i64::from(*request_id)))
            }
            _ => return,
        };
        let (file_name, has_replaced) = match &answered.result {
            Some(OperationResult::File { name }) => (Some(name.clone()), false),
            Some(OperationResult::Replaced { file_name }) => (file_name.clone(), true),
            _ => (None, false),
        };
        self.asked = Some(AnsweredFile {
            location: location.as_str().to_owned(),
            request_id,
            requested_at: asked.requested_at,
            answer: answered.answer.clone(),
            file_name,
            has_replaced,
        });
    }

    /// Takes in a report; tells whether it shows that something is done.
    pub(super) fn reported(
        &mut self,
        status: &impl ToString,
        request_id: Option<i64>,
        at: Timestamp,
    ) -> bool {
        let status = status.to_string();
        let is_work = status != "Idle";
        self.reports.push_back(ProgressReported { status, request_id, at });
        if self.reports.len() > REPORTS_MAX {
            self.reports.pop_front();
        }
        is_work
    }

    /// Tells whether a report says what the last one said, so that it need not be recorded.
    #[must_use]
    pub(crate) fn repeats(&self, status: &str, request_id: Option<i64>) -> bool {
        let last = self.reports.back();
        last.is_some_and(|last| last.status == status && last.request_id == request_id)
    }
}
