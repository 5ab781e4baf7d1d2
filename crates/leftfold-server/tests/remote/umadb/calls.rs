//! What clients of the protocol rely on, and what native programs see of it.

use std::sync::Arc;

use leftfold::store::{
    Append, EventType, MemoryBackend, Metadata, NewEvent, Outcome, Position, Query, Read, Store,
    StreamName, Tags,
};
use leftfold::testing::by_runtime;
use leftfold_protocol::health::{HealthCheckRequest, health_client};
use leftfold_server::{ServerOptions, Users};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use super::wire::error_response::ErrorType;
use super::wire::{
    AppendCondition, AppendRequest, Event, HeadRequest, MetadataEntry, ReadRequest, SequencedEvent,
    SubscribeRequest, TrackingInfo, TrackingRequest,
};
use super::{appends, class, client, event, events, tagged, wire};
use crate::support::{RunningServer, raw, usual_options};
use crate::users::file;

fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn pair(key: &str, value: &str) -> MetadataEntry {
    MetadataEntry { key: key.to_owned(), value: value.to_owned() }
}

fn if_none(tag: &str) -> Option<AppendCondition> {
    Some(AppendCondition { fail_if_events_match: Some(tagged(tag)), after: None })
}

fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, ErrorType) {
    class(&result.unwrap_err())
}

const CONFLICT: (Code, ErrorType) = (Code::FailedPrecondition, ErrorType::Integrity);
const UNFIT: (Code, ErrorType) = (Code::InvalidArgument, ErrorType::InvalidArgument);

#[tokio::test]
async fn what_comes_in_comes_out_unchanged_and_native_readers_see_plain_names() {
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    let mut client = client(server.port).await;
    let plain = Event {
        uuid: uuid(),
        metadata: vec![pair("z", "1"), pair("a", "2")],
        ..event("OrderPlaced", "order:7")
    };
    let odd = |event_type: &str, tags: &[&str]| Event {
        event_type: event_type.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        data: vec![0xff, 0].into(),
        ..Event::default()
    };
    let (long_type, long_tag) = ("t".repeat(2_000), "g".repeat(1_000));
    let sent = vec![
        plain.clone(),
        odd("", &["", "", "$x"]),
        odd("$timer.Set", &["\\", "b", "a", "b"]),
        odd(&long_type, &[&long_tag, "x"]),
        odd("\\#", &[]),
    ];
    let tracking_info = Some(TrackingInfo { source: "$up".to_owned(), position: 7 });
    let request = AppendRequest { tracking_info: tracking_info.clone(), ..appends(sent.clone()) };
    assert_eq!(client.append(request).await.unwrap().into_inner().position, 5);

    let read = events(&mut client, ReadRequest::default()).await;
    let expected = (1..).zip(sent).map(|(position, event)| SequencedEvent {
        position,
        event: Some(event),
        tracking_info: tracking_info.clone(),
    });
    assert_eq!(read, expected.collect::<Vec<_>>());
    for tag in ["", "$x", "\\", &long_tag] {
        let tagged = ReadRequest { query: Some(tagged(tag)), ..ReadRequest::default() };
        assert_eq!(events(&mut client, tagged).await.len(), 1, "{tag:?}");
    }

    let native = store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap();
    assert_eq!(native.len(), 5);
    assert_eq!((&*native[0].event_type, &*native[0].tags[0]), ("OrderPlaced", "order:7"));
    assert_eq!(native[0].id.to_string(), plain.uuid);
    let user = std::str::from_utf8(&native[0].metadata.user).unwrap();
    assert!(user.starts_with(r#"{"z":"1","a":"2","#), "{user}");
}

#[tokio::test]
async fn events_of_native_programs_are_seen_and_the_runtimes_own_are_not() {
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    let new = |name: &str, user: &'static str| NewEvent {
        metadata: Metadata { user: user.into(), ..Metadata::default() },
        ..NewEvent::new(EventType::new(name.to_owned()).unwrap(), "{}")
    };
    let lent = new("loan.Lent", r#"{"by":"ada"}"#)
        .in_stream(StreamName::of("loan", "1").unwrap())
        .tagged(Tags::none().with("book:B7"));
    let native = [vec![lent], vec![new("$timer.Set", "")], vec![new("fact.Known", "opaque")]];
    for events in native {
        let outcome = store.append(by_runtime(Append::of(events))).await.unwrap();
        assert!(matches!(outcome, Outcome::Appended(_)));
    }
    let mut client = client(server.port).await;
    let read = events(&mut client, ReadRequest::default()).await;
    assert_eq!(read.iter().map(|event| event.position).collect::<Vec<_>>(), [1, 3]);
    let lent = read[0].event.clone().unwrap();
    assert_eq!((&*lent.event_type, &*lent.tags), ("loan.Lent", &["book:B7".to_owned()][..]));
    assert_eq!(uuid::Uuid::parse_str(&lent.uuid).unwrap().get_version_num(), 7);
    let stream = [pair("leftfold-stream", "loan-1"), pair("leftfold-version", "1")];
    assert_eq!(lent.metadata, [&[pair("by", "ada")][..], &stream].concat());
    assert_eq!(read[1].event.clone().unwrap().metadata, []);
    let head = client.head(HeadRequest {}).await.unwrap().into_inner().position;
    assert_eq!(head, Some(3));
    let timers = wire::QueryItem { types: vec!["$timer.Set".to_owned()], tags: Vec::new() };
    let query = Some(wire::Query { items: vec![timers] });
    assert_eq!(events(&mut client, ReadRequest { query, ..ReadRequest::default() }).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_ids_under_the_same_condition_land_once_and_others_are_refused() {
    let server = RunningServer::of(Store::memory()).await;
    let named = |id: &str| Event { uuid: id.to_owned(), ..event("A", "k") };
    let (first, second) = (uuid(), uuid());
    let request = |ids: &[&String]| AppendRequest {
        condition: if_none("k"),
        ..appends(ids.iter().map(|id| named(id)).collect())
    };
    // Many at once, as a client sends it that heard no answer.
    let mut sending = JoinSet::new();
    for _ in 0..8 {
        let (mut client, request) = (client(server.port).await, request(&[&first, &second]));
        sending.spawn(async move { client.append(request).await.unwrap().into_inner().position });
    }
    assert_eq!(sending.join_all().await, [2; 8]);
    let mut client = client(server.port).await;
    for others in [&[&second, &first][..], &[&first, &second, &uuid()], &[&uuid()]] {
        assert_eq!(refused(client.append(request(others)).await), CONFLICT);
    }
    // A part of it from its beginning was carried out as well.
    assert_eq!(client.append(request(&[&first])).await.unwrap().into_inner().position, 1);
    assert_eq!(client.head(HeadRequest {}).await.unwrap().into_inner().position, Some(2));
    // Without a condition nothing tells one request from the next.
    let again = appends(vec![named(&first)]);
    assert_eq!(client.append(again).await.unwrap().into_inner().position, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tracking_that_does_not_advance_is_refused_and_several_are_judged_in_order() {
    let server = RunningServer::of(Store::memory()).await;
    let tracked = |position| AppendRequest {
        tracking_info: Some(TrackingInfo { source: "up".to_owned(), position }),
        ..appends(vec![event("A", "k")])
    };
    let mut appending = JoinSet::new();
    for position in 1..=20 {
        let mut client = client(server.port).await;
        appending.spawn(async move { client.append(tracked(position)).await });
    }
    let answers = appending.join_all().await;
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    for error in answers.into_iter().filter_map(Result::err) {
        assert_eq!(class(&error), CONFLICT);
    }
    let mut client = client(server.port).await;
    let read = events(&mut client, ReadRequest::default()).await;
    let positions: Vec<_> =
        read.iter().map(|event| event.tracking_info.as_ref().unwrap().position).collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
    assert_eq!((positions.len(), positions.last()), (accepted, Some(&20)));
    // Alone it needs no event.
    let alone = AppendRequest { events: Vec::new(), ..tracked(21) };
    assert_eq!(client.append(alone.clone()).await.unwrap().into_inner().position, 0);
    assert_eq!(refused(client.append(alone).await), CONFLICT);
    for (source, position) in [("up", Some(21)), ("down", None)] {
        let request = TrackingRequest { source: source.to_owned() };
        let reply = client.get_tracking_info(request).await.unwrap().into_inner();
        assert_eq!(reply.position, position);
    }
}

#[tokio::test]
async fn a_read_ends_at_the_head_that_it_found_and_says_it() {
    let server = RunningServer::of(Store::memory()).await;
    let mut client = client(server.port).await;
    let some = |tag: &str| appends((0..10).map(|_| event("A", tag)).collect());
    for tag in ["a", "b"] {
        client.append(some(tag)).await.unwrap();
    }
    let by_threes =
        ReadRequest { query: Some(tagged("a")), batch_size: Some(3), ..ReadRequest::default() };
    let mut heads = async |request| {
        let mut stream = client.read(request).await.unwrap().into_inner();
        let mut heads = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            heads.push((message.events.len(), message.head));
            if heads.len() == 1 {
                client.append(some("a")).await.unwrap();
            }
        }
        heads
    };
    let unlimited = heads(by_threes.clone()).await;
    assert_eq!(unlimited, [(3, Some(20)), (3, Some(20)), (3, Some(20)), (1, Some(20))]);
    let limited = heads(ReadRequest { limit: Some(5), ..by_threes.clone() }).await;
    assert_eq!(limited, [(3, Some(3)), (2, Some(5))]);
    let nothing = ReadRequest { query: Some(tagged("x")), ..by_threes };
    assert_eq!(heads(nothing.clone()).await, [(0, Some(40))]);
    assert_eq!(heads(ReadRequest { limit: Some(5), ..nothing.clone() }).await, [(0, None)]);
    assert_eq!(heads(ReadRequest { limit: Some(0), ..nothing }).await, []);
}

/// A page of the store has fewer bytes than a message, and a message fewer than all events.
#[tokio::test]
async fn large_events_come_in_messages_that_clients_take() {
    let server = RunningServer::of(Store::memory()).await;
    let mut client = client(server.port).await;
    let large = |bytes: usize| Event { data: vec![7; bytes].into(), ..event("A", "k") };
    let sizes =
        [3 << 20, 2 << 20, 3 << 20, 1, 700_000, 700_000, 700_000, 700_000, 700_000, 700_000];
    for bytes in sizes {
        client.append(appends(vec![large(bytes)])).await.unwrap();
    }
    for backwards in [false, true] {
        let request = ReadRequest { backwards: Some(backwards), ..ReadRequest::default() };
        let mut stream = client.read(request).await.unwrap().into_inner();
        let mut read = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            assert!(prost::Message::encoded_len(&message) <= 4 << 20);
            assert_eq!(message.head, Some(10));
            read.extend(message.events.into_iter().map(|one| one.event.unwrap().data.len()));
        }
        if backwards {
            read.reverse();
        }
        assert_eq!(read, sizes);
    }
    let mut live = client.subscribe(SubscribeRequest::default()).await.unwrap().into_inner();
    let mut read = Vec::new();
    while read.len() < sizes.len() {
        let message = live.message().await.unwrap().unwrap();
        read.extend(message.events.into_iter().map(|one| one.event.unwrap().data.len()));
    }
    assert_eq!(read, sizes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_follows_and_ends_cleanly_with_the_server() {
    let server = RunningServer::of(Store::memory()).await;
    let mut client = client(server.port).await;
    client.append(appends(vec![event("A", "a"), event("A", "b")])).await.unwrap();
    let request = SubscribeRequest {
        query: Some(tagged("b")),
        after: Some(0),
        ..SubscribeRequest::default()
    };
    let mut live = client.subscribe(request).await.unwrap().into_inner();
    let mut positions = Vec::new();
    for _ in 0..2 {
        let message = live.message().await.unwrap().unwrap();
        positions.extend(message.events.iter().map(|event| event.position));
        client.append(appends(vec![event("A", "a"), event("A", "b")])).await.unwrap();
    }
    assert_eq!(positions, [2, 4]);
    let stopping = tokio::spawn(server.stop());
    while let Some(message) = live.message().await.unwrap() {
        assert_eq!(message.events[0].position, 6);
    }
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_cancel_is_freed() {
    let backend = Arc::new(MemoryBackend::new());
    let server = RunningServer::of(Store::shared(backend.clone())).await;
    let mut client = client(server.port).await;
    client.append(appends(vec![event("A", "a"); 3])).await.unwrap();
    let before = Arc::strong_count(&backend);
    let mut live = Vec::new();
    for number in 0..50 {
        let mut stream = client.subscribe(SubscribeRequest::default()).await.unwrap().into_inner();
        if number % 2 == 0 {
            stream.message().await.unwrap().unwrap();
        }
        live.push(stream);
        let by_ones = ReadRequest { batch_size: Some(1), ..ReadRequest::default() };
        client.read(by_ones).await.unwrap().into_inner().message().await.unwrap();
    }
    assert!(Arc::strong_count(&backend) >= before + 50);
    drop(live);
    while Arc::strong_count(&backend) > before {
        tokio::task::yield_now().await;
    }
}

/// Each of the calls, made with an API key or with none.
async fn codes(port: u16, key: Option<&str>) -> Vec<(Code, Option<ErrorType>)> {
    fn with<T>(message: T, key: Option<&str>) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(key) = key {
            let value = format!("Bearer {key}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        request
    }
    let mut client = client(port).await;
    let never = SubscribeRequest { after: Some(u64::MAX), ..SubscribeRequest::default() };
    let answers = [
        client.append(with(appends(vec![event("A", "a")]), key)).await.map(drop),
        client.read(with(ReadRequest::default(), key)).await.map(drop),
        client.subscribe(with(never, key)).await.map(drop),
        client.head(with(HeadRequest {}, key)).await.map(drop),
        client.get_tracking_info(with(TrackingRequest::default(), key)).await.map(drop),
    ];
    let code = |answer: Result<(), Status>| match answer {
        Ok(()) => (Code::Ok, None),
        Err(status) => (status.code(), Some(class(&status).1)),
    };
    answers.into_iter().map(code).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_is_the_token_of_a_user_and_every_call_needs_one() {
    let rae = Users::with_token("rae", "read").unwrap();
    let ada = Users::with_token("ada", "append").unwrap();
    let (_directory, path) = file(&[rae.entry, ada.entry].join("\n"));
    let users = Some(Users::of_file(&path).unwrap());
    let server =
        RunningServer::with(ServerOptions { users, ..usual_options() }, Store::memory()).await;
    let unknown = (Code::Unauthenticated, Some(ErrorType::Authentication));
    for key in [None, Some("wrong"), Some(&rae.token[1..]), Some("")] {
        assert_eq!(codes(server.port, key).await, [unknown; 5], "{key:?}");
    }
    let allowed = (Code::Ok, None);
    assert_eq!(codes(server.port, Some(&ada.token)).await, [allowed; 5]);
    let reads = codes(server.port, Some(&rae.token)).await;
    assert_eq!(reads[0], (Code::PermissionDenied, Some(ErrorType::Authentication)));
    assert_eq!(reads[1..], [allowed; 4]);
    let origin = format!("http://127.0.0.1:{}", server.port).parse().unwrap();
    let mut health = health_client::HealthClient::with_origin(raw(server.port).await, origin);
    let service = HealthCheckRequest { service: "umadb.v1.DCB".to_owned() };
    assert!(health.check(service).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_narrowed_right_holds_and_has_no_tracking() {
    let till = Users::with_token("till", "append").unwrap();
    let entry = format!("{}append.tags = [\"shop:7\"]\nread.tags = [\"shop:7\"]\n", till.entry);
    let (_directory, path) = file(&entry);
    let users = Some(Users::of_file(&path).unwrap());
    let server =
        RunningServer::with(ServerOptions { users, ..usual_options() }, Store::memory()).await;
    let mut client = client(server.port).await;
    fn with<T>(message: T, key: &str) -> Request<T> {
        let mut request = Request::new(message);
        let value = format!("Bearer {key}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    }
    let mut append = async |request: AppendRequest| client.append(with(request, &till.token)).await;
    let own =
        |tag| AppendRequest { condition: if_none(tag), ..appends(vec![event("A", "shop:7")]) };
    let denied = (Code::PermissionDenied, ErrorType::Authentication);
    assert!(append(own("shop:7")).await.is_ok());
    assert_eq!(refused(append(own("shop:7")).await), CONFLICT);
    assert_eq!(refused(append(own("shop:8")).await), denied);
    assert_eq!(refused(append(appends(vec![event("A", "shop:8")])).await), denied);
    let tracking_info = Some(TrackingInfo { source: "up".to_owned(), position: u64::MAX });
    let tracked = AppendRequest { tracking_info, ..appends(vec![event("A", "shop:7")]) };
    assert_eq!(refused(append(tracked).await), denied);
    let info = with(TrackingRequest::default(), &till.token);
    assert_eq!(refused(client.get_tracking_info(info).await), denied);
    let read = ReadRequest { query: Some(tagged("shop:7")), ..ReadRequest::default() };
    assert!(client.read(with(read, &till.token)).await.is_ok());
    let all = with(ReadRequest::default(), &till.token);
    assert_eq!(refused(client.read(all).await.map(drop)), denied);
    let all = with(SubscribeRequest::default(), &till.token);
    assert_eq!(refused(client.subscribe(all).await.map(drop)), denied);
}

/// One of two waits for its turn, which is minutes away, and the other one is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_a_second_of_a_user_hold_over_this_protocol_too() {
    let ada = Users::with_token("ada", "append").unwrap();
    let (_directory, path) = file(&format!("{}limits.bytes_per_second = 1\n", ada.entry));
    let users = Some(Users::of_file(&path).unwrap());
    let server =
        RunningServer::with(ServerOptions { users, ..usual_options() }, Store::memory()).await;
    let append = async || {
        let data = vec![7; 10_000].into();
        let mut request = Request::new(appends(vec![Event { data, ..event("A", "a") }]));
        let value = format!("Bearer {}", ada.token).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        client(server.port).await.append(request).await
    };
    let answer = tokio::select! { first = append() => first, second = append() => second };
    assert_eq!(refused(answer), (Code::ResourceExhausted, ErrorType::Io));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_that_is_taken_can_be_read_and_one_that_is_larger_has_its_own_error() {
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    let mut client = client(server.port).await;
    let of = |bytes: usize| {
        let uuid = uuid().replace('-', "");
        let large = Event { data: vec![7; bytes].into(), uuid, ..event("A", "a") };
        let tracking_info = Some(TrackingInfo { source: "up".to_owned(), position: 7 });
        AppendRequest { tracking_info, ..appends(vec![large]) }
    };
    let most = (8 << 20) - prost::Message::encoded_len(&of(4 << 20));
    let request = of(most);
    assert_eq!(prost::Message::encoded_len(&request), 4 << 20);
    assert_eq!(refused(client.append(request).await), UNFIT);
    let taken = AppendRequest { tracking_info: None, ..of(most - 64) };
    client.append(taken).await.unwrap();
    let read = ReadRequest::default();
    assert_eq!(events(&mut client, read.clone()).await.len(), 1);

    let native = NewEvent::new(EventType::new("B").unwrap(), vec![7; 5 << 20]);
    let small = NewEvent::new(EventType::new("C").unwrap(), "c");
    store.append(Append::of(vec![small.clone(), native, small])).await.unwrap();
    let mut reads = client.read(read).await.unwrap().into_inner();
    let mut live = client.subscribe(SubscribeRequest::default()).await.unwrap().into_inner();
    let (mut read, mut followed) = (0, 0);
    let status = loop {
        match reads.message().await {
            Ok(message) => read += message.unwrap().events.len(),
            Err(status) => break status,
        }
    };
    assert_eq!(class(&status), (Code::OutOfRange, ErrorType::Serialization));
    assert!(status.message().contains("position 3"), "{status:?}");
    let status = loop {
        match live.message().await {
            Ok(message) => followed += message.unwrap().events.len(),
            Err(status) => break status,
        }
    };
    assert_eq!(class(&status), (Code::OutOfRange, ErrorType::Serialization));
    assert_eq!((read, followed), (2, 2));
    let rest = ReadRequest { start: Some(4), ..ReadRequest::default() };
    assert_eq!(events(&mut client, rest).await.len(), 1);
}

/// A native program writes user metadata as it likes, though no right of it is looked at.
#[tokio::test]
async fn what_metadata_says_of_tags_and_type_counts_only_if_the_event_has_them() {
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    let mut client = client(server.port).await;
    let user = br#"{"$umadb":{"tags":["shop:8"],"event_type":"Paid"}}"#;
    let metadata = Metadata { user: user.to_vec().into(), ..Metadata::default() };
    let forged = NewEvent {
        metadata,
        tags: Tags::none().with("shop:7"),
        ..NewEvent::new(EventType::new("Sold").unwrap(), "{}")
    };
    store.append(Append::of(vec![forged])).await.unwrap();
    let read = events(&mut client, ReadRequest::default()).await;
    let event = read[0].event.as_ref().unwrap();
    assert_eq!((&*event.event_type, &event.tags[..]), ("Sold", &["shop:7".to_owned()][..]));
}

/// It travels twice in the metadata of the answer, of which clients take 16 KiB.
#[tokio::test]
async fn a_long_text_of_a_client_does_not_come_back_in_a_status() {
    let server = RunningServer::of(Store::memory()).await;
    let long = "\u{e9}".repeat(1_000_000);
    let mut client = client(server.port).await;
    let bad = Event { uuid: long.clone(), ..event("A", "a") };
    let status = client.append(appends(vec![bad])).await.unwrap_err();
    assert_eq!(class(&status), (Code::DataLoss, ErrorType::Corruption));
    assert!(status.message().len() < 1_000, "{}", status.message().len());
    let metadata = vec![pair(&long, "1"), pair(&long, "2")];
    let status = client.append(appends(vec![Event { metadata, ..event("A", "a") }])).await;
    assert!(status.unwrap_err().message().len() < 1_000);
    let origin = format!("http://127.0.0.1:{}", server.port).parse().unwrap();
    let mut health = health_client::HealthClient::with_origin(raw(server.port).await, origin);
    let status = health.check(HealthCheckRequest { service: long }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().len() < 1_000);
}

#[tokio::test]
async fn what_is_beyond_a_limit_is_refused_and_the_condition_comes_first() {
    let server = RunningServer::of(Store::memory()).await;
    let mut client = client(server.port).await;
    client.append(appends(vec![event("A", "k")])).await.unwrap();
    // To compare each with every other one would take minutes.
    let tags = (0..400_000).map(|number| number.to_string()).collect();
    let many_tags = appends(vec![Event { tags, ..event("A", "") }]);
    let metadata = vec![pair("long", &"v".repeat(66_000))];
    let much_metadata = appends(vec![Event { metadata, ..event("A", "") }]);
    let metadata = vec![pair("same", "1"), pair("same", "2")];
    let twice = appends(vec![Event { metadata, ..event("A", "") }]);
    let many_events = appends(vec![Event::default(); 10_001]);
    for request in [many_tags, much_metadata, twice, many_events] {
        assert_eq!(refused(client.append(request.clone()).await), UNFIT);
        let overtaken = AppendRequest { condition: if_none("k"), ..request.clone() };
        assert_eq!(refused(client.append(overtaken).await), CONFLICT);
        let unfit = AppendRequest { condition: if_none("other"), ..request };
        assert_eq!(refused(client.append(unfit).await), UNFIT);
    }
    let items = vec![wire::QueryItem::default(); 1_001];
    let read = ReadRequest { query: Some(wire::Query { items }), ..ReadRequest::default() };
    assert_eq!(refused(client.read(read).await.map(drop)), UNFIT);
    #[allow(deprecated)]
    let goes_on = ReadRequest { subscribe: Some(true), ..ReadRequest::default() };
    assert_eq!(refused(client.read(goes_on).await.map(drop)), UNFIT);
    let large = appends(vec![Event { data: vec![0; 4 << 20].into(), ..event("A", "") }]);
    assert_eq!(client.append(large).await.unwrap_err().code(), Code::OutOfRange);

    // A condition without events is asked, and refused, too.
    let question = |tag| AppendRequest { condition: if_none(tag), ..AppendRequest::default() };
    assert_eq!(refused(client.append(question("k")).await), CONFLICT);
    assert_eq!(client.append(question("other")).await.unwrap().into_inner().position, 0);
    let mut of_other_store = Request::new(HeadRequest {});
    of_other_store.metadata_mut().insert("leftfold-store", "other".parse().unwrap());
    let refused = refused(client.head(of_other_store).await);
    assert_eq!(refused, (Code::NotFound, ErrorType::InvalidArgument));
    assert_eq!(client.head(HeadRequest {}).await.unwrap().into_inner().position, Some(1));
}
