//! Stores that a server keeps, over real sockets.

mod between;
mod bounds;
mod calls;
mod conformance;
mod cut;
mod encrypted;
mod groups;
mod hostile;
#[path = "../kurrent/mod.rs"]
mod kurrent;
mod metrics;
mod runtime;
mod support;
mod tenants;
mod umadb;
mod users;

/// Codec of the clients that are generated from the descriptions of other protocols, under the
/// name that the server has for its own.
mod services {
    pub(crate) use tonic_prost::ProstCodec as FacadeCodec;
}
