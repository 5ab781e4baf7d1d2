//! Operations that are asked of stations: by people through the API, and by the system itself.

use leftfold::prelude::{ExecuteError, Executed, Timestamp};

use super::Csms;
use crate::domain::operation::{OperationRequested, StationOperation};
use crate::domain::request::RequestId;
use crate::domain::station::{StationCommand, StationEvent, StationRefusal};

/// Name under which the system asks by itself.
const SYSTEM: &str = "csms";

impl Csms {
    /// Returns a new request for an operation. If it has a secret, that is kept in memory until the
    /// request ends; whoever does not record the request has it forgotten.
    pub(crate) fn operation_requested(
        &self,
        station: &str,
        mut operation: StationOperation,
        by: &str,
        forced: bool,
    ) -> OperationRequested {
        let (request, requested_at) = (RequestId::random(), Timestamp::now());
        let secret = operation.take_secret();
        let has_secret = secret.is_some();
        if let Some(secret) = secret {
            self.secrets.keep(request.clone(), secret);
        }
        OperationRequested {
            station: station.to_owned(),
            request,
            operation,
            has_secret,
            by: by.to_owned(),
            forced,
            requested_at,
            until: requested_at.plus(2 * self.config.call_timeout),
        }
    }

    /// Asks a station for an operation on behalf of the system: to read its settings, or to use a
    /// certificate that was signed for it. The position of what is recorded names the effect.
    pub(crate) async fn operate(
        &self,
        station: &str,
        operation: StationOperation,
    ) -> Result<Executed<StationEvent>, ExecuteError<StationRefusal>> {
        let asked = self.operation_requested(station, operation, SYSTEM, false);
        let request = asked.request.clone();
        let executed =
            self.stations.execute(station, StationCommand::Operate(Box::new(asked))).await;
        if executed.is_err() {
            self.secrets.forget(&request);
        }
        executed
    }
}
