//! The health service of gRPC: `SERVING` while the server takes calls and every store is open to
//! appends; asked about [`APPENDS`], also while none of them lacks room.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use leftfold_protocol::health::health_check_response::ServingStatus;
use leftfold_protocol::health::{HealthCheckRequest, HealthCheckResponse, health_server};
use tonic::{Request, Response, Status};

use super::{Messages, SHOWN_CHARACTERS_MAX, cut};
use crate::stopping::Stopping;
use crate::stores::Stores;

/// Services that may be asked about, beside the whole server, which is the empty name.
const SERVICES: [&str; 3] = ["leftfold.v1.Store", super::umadb::SERVICE, APPENDS];
/// Name for appends of any protocol: those of a store whose disk is full are refused, and its reads
/// are answered.
const APPENDS: &str = "appends";

/// Time between two looks at the stores for somebody who watches.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The service `grpc.health.v1.Health`.
#[derive(Clone)]
pub(super) struct HealthService {
    stores: Arc<Stores>,
    stopping: Stopping,
}

pub(super) fn service(
    stores: Arc<Stores>,
    stopping: Stopping,
) -> health_server::HealthServer<HealthService> {
    health_server::HealthServer::new(HealthService { stores, stopping })
}

fn is_known(service: &str) -> bool {
    service.is_empty() || SERVICES.contains(&service)
}

impl HealthService {
    fn serving(&self, service: &str) -> HealthCheckResponse {
        let serves = !self.stopping.is_wanted()
            && self.stores.not_open().is_empty()
            && (service != APPENDS || self.stores.short_of_room().is_empty());
        let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
        HealthCheckResponse { status: status.into() }
    }

    /// Waits until the status is another one than was told; a server that stops tells that once.
    async fn changed(
        &mut self,
        service: &str,
        told: Option<HealthCheckResponse>,
    ) -> Result<HealthCheckResponse, Status> {
        loop {
            let now = self.serving(service);
            if told != Some(now) {
                return Ok(now);
            }
            if self.stopping.is_wanted() {
                return Err(Status::unavailable("the server is stopping"));
            }
            let _ = tokio::time::timeout(LOOK_EVERY, self.stopping.wanted()).await;
        }
    }
}

#[tonic::async_trait]
impl health_server::Health for HealthService {
    type WatchStream = Messages<HealthCheckResponse>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !is_known(&service) {
            let service = cut(&service, SHOWN_CHARACTERS_MAX);
            return Err(Status::not_found(format!("this server has no service {service:?}")));
        }
        Ok(Response::new(self.serving(&service)))
    }

    /// Says the status now, and again within a second when it has changed.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let asked = request.into_inner().service;
        if !is_known(&asked) {
            let status = ServingStatus::ServiceUnknown.into();
            let once = async move { Ok(HealthCheckResponse { status }) };
            return Ok(Response::new(Box::pin(stream::once(once))));
        }
        let watched = (HealthService::clone(self), asked, None);
        let states = stream::try_unfold(watched, |(mut service, asked, told)| async move {
            let now = service.changed(&asked, told).await?;
            Ok(Some((now, (service, asked, Some(now)))))
        });
        Ok(Response::new(Box::pin(states)))
    }
}
