//! The protocol of UmaDB 0.7: the package `umadb.v1`, for clients that exist.

/// Messages and services, as they are described in `proto/umadb.proto`.
#[allow(dead_code, unreachable_pub, clippy::all, clippy::pedantic)]
mod wire {
    tonic::include_proto!("umadb.v1");
}
