//! One page at `/` that shows what is going on.
use std::sync::Arc;
use axum::Router;
use crate::Csms;
/// The routes.
pub fn router(_csms: Arc<Csms>) -> Router<Arc<Csms>> {
    Router::new()
}
