//! The services of a server, each protocol in a room of its own, and all of them behind one router.

// `bounded` refuses requests that would take too much memory. `callers` finds out who calls.
// `native` is the protocol of Leftfold, `umadb` that of UmaDB, `kurrent` that of KurrentDB.
// `traced` finds the trace of a call. `health` answers balancers over gRPC, `http` those over HTTP,
// and has the metrics.

mod bounded;
mod callers;
mod health;
mod http;
pub(crate) mod kurrent;
mod native;
mod traced;
pub(crate) mod umadb;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use leftfold_protocol::NativeProtocol;
use leftfold_protocol::bounded::DescribedProtocol;
use tonic::Status;
use tonic::service::Routes;

use crate::guard::Guard;
use crate::stopping::Stopping;
use crate::stores::Stores;
use crate::users::Users;
pub(crate) use bounded::FacadeCodec;
use bounded::FacadeProtocols;

/// Returns the calls of all protocols: the names of service and method.
pub(crate) fn methods() -> impl Iterator<Item = (&'static str, &'static str)> {
    NativeProtocol::requests().methods().chain(FacadeProtocols::requests().methods())
}

/// Returns the router of everything that the server answers.
pub(crate) fn router(
    stores: &Arc<Stores>,
    stopping: &Stopping,
    users: Option<Users>,
    guard: &Arc<Guard>,
) -> axum::Router {
    let counts = Arc::clone(&guard.counts);
    let sessions = native::Sessions::new(stopping.clone());
    let door = callers::Door::new(users, Arc::clone(guard), refused);
    let (native, large) =
        native::services(Arc::clone(stores), Arc::clone(&sessions), stopping.clone());
    let (umadb, encoded) = umadb::services(Arc::clone(stores), stopping.clone());
    let routes = Routes::new(native)
        .add_service(umadb)
        .add_service(health::service(Arc::clone(stores), stopping.clone()));
    kurrent::add_to(routes, Arc::clone(stores), stopping.clone())
        .into_axum_router()
        .layer(axum::middleware::from_fn(kurrent::receive))
        .merge(large)
        .merge(encoded)
        .merge(http::router(Arc::clone(stores), sessions, stopping.clone()))
        .layer(axum::middleware::from_fn_with_state(door, callers::pass))
        .layer(axum::middleware::from_fn_with_state(counts, callers::count))
}

/// Messages of a call, made as the client takes them: nothing is queued for a slow one.
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Characters of a text of a client that are shown in an error.
const SHOWN_CHARACTERS_MAX: usize = 100;

/// Returns the beginning of a text: that of an error travels in the metadata of an answer, of which
/// clients take little.
fn cut(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Returns the status of a call that was not let in as clients of its protocol read it.
fn refused(path: &str, status: Status) -> Status {
    if umadb::is_called(path) { umadb::detailed(status) } else { status }
}
