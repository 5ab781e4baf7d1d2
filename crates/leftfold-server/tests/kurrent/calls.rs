//! Calls of the protocol of KurrentDB, as its clients make them, and the store that they name.

use leftfold::store::Store;
use tonic::{Code, Request};

use crate::support::{RawChannel, RunningServer, raw, usual_options};
use wire::streams::streams_client::StreamsClient;
use wire::streams::{AppendReq, DeleteReq, ProposedMessage, ReadReq, append_req, read_req};
use wire::{Empty, StreamIdentifier, Uuid as WireUuid, uuid};

/// Messages and calls, as the server's build makes them.
#[allow(dead_code, missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub(crate) mod wire {
    include!(concat!(env!("OUT_DIR"), "/event_store.client.rs"));

    pub(crate) mod streams {
        include!(concat!(env!("OUT_DIR"), "/event_store.client.streams.rs"));
    }

    pub(crate) mod persistent_subscriptions {
        include!(concat!(env!("OUT_DIR"), "/event_store.client.persistent_subscriptions.rs"));
    }
}

/// The calls, on a connection of their own.
pub(crate) async fn client(port: u16) -> StreamsClient<RawChannel> {
    let origin = format!("http://127.0.0.1:{port}").parse().unwrap();
    StreamsClient::with_origin(raw(port).await, origin)
}

fn named(stream: &str) -> Option<StreamIdentifier> {
    Some(StreamIdentifier { stream_name: stream.as_bytes().to_vec().into() })
}

fn any(stream: &str) -> append_req::Options {
    append_req::Options {
        stream_identifier: named(stream),
        expected_stream_revision: Some(append_req::options::ExpectedStreamRevision::Any(Empty {})),
    }
}

/// The messages that append one event.
pub(crate) fn append(stream: &str) -> [AppendReq; 2] {
    let id = ::uuid::Uuid::new_v4().to_string();
    let event = ProposedMessage {
        id: Some(WireUuid { value: Some(uuid::Value::String(id)) }),
        metadata: [("type", "Placed"), ("content-type", "application/json")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        custom_metadata: "".into(),
        data: "{}".into(),
    };
    let options = append_req::Content::Options(any(stream));
    [options, append_req::Content::ProposedMessage(event)]
        .map(|content| AppendReq { content: Some(content) })
}

pub(crate) fn delete(stream: &str) -> DeleteReq {
    DeleteReq { options: Some(any(stream)) }
}

/// A read of the first events of a stream.
pub(crate) fn read(stream: &str) -> ReadReq {
    use read_req::options::{CountOption, FilterOption, StreamOption};
    use read_req::stream_options::RevisionOption;
    let stream = read_req::StreamOptions {
        stream_identifier: named(stream),
        revision_option: Some(RevisionOption::Start(Empty {})),
    };
    let options = read_req::Options {
        stream_option: Some(StreamOption::Stream(stream)),
        count_option: Some(CountOption::Count(10)),
        filter_option: Some(FilterOption::NoFilter(Empty {})),
        uuid_option: Some(read_req::UuidOption {
            content: Some(read_req::uuid_option::Content::String(Empty {})),
        }),
        ..read_req::Options::default()
    };
    ReadReq { options: Some(options) }
}

/// A subscription to a stream.
pub(crate) fn follow(stream: &str) -> ReadReq {
    use read_req::options::CountOption;
    let mut follow = read(stream);
    if let Some(options) = &mut follow.options {
        options.count_option = Some(CountOption::Subscription(read_req::SubscriptionOptions {}));
    }
    follow
}

/// The same stream in two stores of a server; without the metadata a call is for `default`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metadata_of_a_call_names_its_store() {
    let stores = ["default", "orders"].map(|name| (name.to_owned(), Store::memory()));
    let heads = stores.clone().map(|(_, store)| store);
    let heads = || heads.each_ref().map(|store| store.head().position.0);
    let server = RunningServer::with_stores(usual_options(), stores.to_vec()).await;
    let mut client = client(server.port).await;
    fn of<T>(name: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("leftfold-store", name.parse().unwrap());
        request
    }
    client.append(of("orders", tokio_stream::iter(append("a-1")))).await.unwrap();
    assert_eq!(heads(), [0, 1]);
    client.append(Request::new(tokio_stream::iter(append("a-1")))).await.unwrap();
    client.append(of("default", tokio_stream::iter(append("a-1")))).await.unwrap();
    assert_eq!(heads(), [2, 1]);
    let mut events = async |name| {
        let mut answers = client.read(of(name, read("a-1"))).await.unwrap().into_inner();
        let mut count = 0;
        while let Some(answer) = answers.message().await.unwrap() {
            let content = answer.content.unwrap();
            count += u32::from(matches!(content, wire::streams::read_resp::Content::Event(_)));
        }
        count
    };
    assert_eq!((events("orders").await, events("default").await), (1, 2));
    client.delete(of("orders", delete("a-1"))).await.unwrap();
    assert_eq!(heads(), [2, 2]);
    for bad in ["none", "..", "a/b", ""] {
        let refused = client.read(of(bad, read("a-1"))).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{bad}: {refused:?}");
    }
}

/// Metadata of a stream of parked events would hide what is parked, for all and for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_parked_events_are_neither_deleted_nor_given_metadata() {
    let store = Store::memory();
    let stores = vec![("default".to_owned(), store.clone())];
    let server = RunningServer::with_stores(usual_options(), stores).await;
    let mut client = client(server.port).await;
    let parked = "$persistentsubscription-order-1::billing-parked";
    let deleted = client.delete(delete(parked)).await.map(drop).unwrap_err();
    assert_eq!(deleted.code(), Code::PermissionDenied, "{deleted:?}");
    for stream in [parked.to_owned(), format!("$${parked}")] {
        let appended = client.append(tokio_stream::iter(append(&stream))).await;
        let refused = match appended.map(tonic::Response::into_inner) {
            Ok(answered) => panic!("{stream}: {answered:?}"),
            Err(refused) => refused,
        };
        assert_eq!(refused.code(), Code::PermissionDenied, "{stream}: {refused:?}");
    }
    assert_eq!(store.head().position.0, 0);
}
