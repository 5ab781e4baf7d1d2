//! What the server says of itself: a cluster of one node, which leads, and the calls that it takes.

use axum::extract::Request as HttpRequest;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response as HttpResponse;
use leftfold::store::Timestamp;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::records::{IdSpelling, ticks, wire_id};
use super::wire::Empty;
use super::wire::gossip::member_info::VNodeState;
use super::wire::gossip::{ClusterInfo, EndPoint, MemberInfo, gossip_server};
use super::wire::server_features::{SupportedMethod, SupportedMethods, server_features_server};

/// Version of the protocol, as clients compare it.
const VERSION: &str = "25.1.0";
const STREAMS: &str = "event_store.client.streams.streams";
const SESSIONS: &str = "kurrentdb.protocol.v2.streams.streamsservice";
const PERSISTENT: &str = "event_store.client.persistent_subscriptions.persistentsubscriptions";
/// Sources of persistent subscriptions.
const STREAM_AND_ALL: &[&str] = &["stream", "all"];
/// Calls that are answered, each with its service and what it can do.
const METHODS: [(&str, &str, &[&str]); 17] = [
    ("read", STREAMS, &["position", "events"]),
    ("append", STREAMS, &[]),
    ("delete", STREAMS, &[]),
    ("tombstone", STREAMS, &[]),
    ("batchappend", STREAMS, &["deadline_duration"]),
    ("appendsession", SESSIONS, &[]),
    ("appendrecords", SESSIONS, &[]),
    ("create", PERSISTENT, STREAM_AND_ALL),
    ("update", PERSISTENT, STREAM_AND_ALL),
    ("delete", PERSISTENT, STREAM_AND_ALL),
    ("read", PERSISTENT, STREAM_AND_ALL),
    ("getinfo", PERSISTENT, STREAM_AND_ALL),
    ("replayparked", PERSISTENT, STREAM_AND_ALL),
    ("list", PERSISTENT, STREAM_AND_ALL),
    ("restartsubsystem", PERSISTENT, &[]),
    ("read", "event_store.client.gossip.gossip", &[]),
    ("getsupportedmethods", "event_store.client.server_features.serverfeatures", &[]),
];
/// Path of the call that asks for the nodes.
const NODES: &str = "/event_store.client.gossip.Gossip/Read";
/// Path of the call that asks for the methods.
const METHODS_ASKED: &str =
    "/event_store.client.server_features.ServerFeatures/GetSupportedMethods";
/// Services that are not served, by the beginning of their paths, and what is there instead.
const NOT_SERVED: [(&str, &str); 4] = [
    (
        "/event_store.client.projections.",
        "projections are not served; streams of categories ($ce-) and types ($et-) are there \
         without them",
    ),
    (
        "/event_store.client.operations.",
        "operations of a cluster are not served; the program leftfold has those of a store",
    ),
    (
        "/event_store.client.users.",
        "users are not changed by calls; the server reads them from its file",
    ),
    (
        "/event_store.client.monitoring.",
        "statistics are not served by this call; the server has them at /metrics",
    ),
];
/// Port of an address that says none.
const PORT: u16 = 2113;

/// The address by which a client reached the server.
#[derive(Clone, Debug)]
struct CalledAddress(String);

/// Tells whether a call only asks what the server is: clients send no password with it.
pub(in crate::services) fn tells_of_server(path: &str) -> bool {
    matches!(path, NODES | METHODS_ASKED)
}

/// Answers calls of services that are not served, and notes the address of a call that asks for the
/// nodes: by it a client finds the server again.
pub(in crate::services) async fn receive(mut request: HttpRequest, next: Next) -> HttpResponse {
    let path = request.uri().path();
    if let Some((_, advice)) = NOT_SERVED.iter().find(|(service, _)| path.starts_with(service)) {
        return Status::unimplemented(*advice).into_http();
    }
    if path != NODES {
        return next.run(request).await;
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(|authority| authority.as_str()).or(host);
    if let Some(authority) = authority.map(|authority| CalledAddress(authority.to_owned())) {
        request.extensions_mut().insert(authority);
    }
    next.run(request).await
}

/// The service `event_store.client.gossip.Gossip`.
pub(super) struct GossipService {
    node: Uuid,
}

pub(super) fn gossip() -> gossip_server::GossipServer<GossipService> {
    gossip_server::GossipServer::new(GossipService { node: Uuid::new_v4() })
}

#[tonic::async_trait]
impl gossip_server::Gossip for GossipService {
    async fn read(&self, request: Request<Empty>) -> Result<Response<ClusterInfo>, Status> {
        let authority = request.extensions().get::<CalledAddress>();
        let authority = authority.map_or("127.0.0.1", |authority| &*authority.0);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(PORT)),
            _ => (authority, PORT),
        };
        let address = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let member = MemberInfo {
            instance_id: Some(wire_id(self.node, IdSpelling::Text)),
            time_stamp: ticks(Timestamp::now()),
            state: VNodeState::Leader.into(),
            is_alive: true,
            http_end_point: Some(EndPoint { address, port: port.into() }),
        };
        Ok(Response::new(ClusterInfo { members: vec![member] }))
    }
}

/// The service `event_store.client.server_features.ServerFeatures`.
pub(super) struct FeaturesService;

pub(super) fn features() -> server_features_server::ServerFeaturesServer<FeaturesService> {
    server_features_server::ServerFeaturesServer::new(FeaturesService)
}

#[tonic::async_trait]
impl server_features_server::ServerFeatures for FeaturesService {
    async fn get_supported_methods(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<SupportedMethods>, Status> {
        let methods = METHODS.iter().map(|(method, service, features)| SupportedMethod {
            method_name: (*method).to_owned(),
            service_name: (*service).to_owned(),
            features: features.iter().map(|feature| (*feature).to_owned()).collect(),
        });
        Ok(Response::new(SupportedMethods {
            methods: methods.collect(),
            event_store_server_version: VERSION.to_owned(),
        }))
    }
}
