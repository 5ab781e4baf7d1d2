//! Messages and services, as they are described in `proto/kurrent`.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::all, clippy::pedantic)]

pub(super) mod event_store {
    pub(in super::super) mod client {
        tonic::include_proto!("event_store.client");

        pub mod streams {
            tonic::include_proto!("event_store.client.streams");
        }
        pub mod persistent_subscriptions {
            tonic::include_proto!("event_store.client.persistent_subscriptions");
        }
        pub mod gossip {
            tonic::include_proto!("event_store.client.gossip");
        }
        pub mod server_features {
            tonic::include_proto!("event_store.client.server_features");
        }
    }
}

pub(super) mod kurrentdb {
    pub(in super::super) mod protocol {
        pub mod v2 {
            pub mod streams {
                tonic::include_proto!("kurrentdb.protocol.v2.streams");

                pub mod errors {
                    tonic::include_proto!("kurrentdb.protocol.v2.streams.errors");
                }
            }
        }
    }
}

pub(super) use event_store::client::persistent_subscriptions as persistent;
pub(super) use event_store::client::*;
pub(super) use kurrentdb::protocol::v2::streams as sessions;
