//! The services of a server, each protocol in a room of its own, and all of them behind one router.

// `native` is the protocol of Leftfold. `health` answers balancers over gRPC, `http` those over
// HTTP, and has the metrics.

mod health;
mod http;
mod native;

use std::sync::Arc;

use tonic::service::Routes;

use crate::stopping::Stopping;
use crate::stores::Stores;

/// Returns the router of everything that the server answers.
pub(crate) fn router(stores: &Arc<Stores>, stopping: &Stopping) -> axum::Router {
    Routes::new(native::service(Arc::clone(stores), stopping.clone()))
        .add_service(health::service(Arc::clone(stores), stopping.clone()))
        .into_axum_router()
        .merge(http::router(Arc::clone(stores), stopping.clone()))
}
