//! Calls as clients in other languages make them: what they get, and what refuses them.

use leftfold::store::{
    Append, Checkpoint, EventType, Hash, NewEvent, Outcome, Position, Query, Read, Store, StoreId,
    Tags, TraceContext,
};
use leftfold_protocol::health::health_check_response::ServingStatus;
use leftfold_protocol::health::{HealthCheckRequest, HealthCheckResponse, health_client};
use leftfold_protocol::wire::{self, append_answer, append_problem, append_reply, append_request};
use leftfold_protocol::{AppendBatch, IN_FLIGHT_MAX, answers_of, event_of};
use tonic::{Code, Request};
use wire::subscribe_reply::Signal;
use wire::subscribe_request::From;

use crate::support::{RunningServer, raw, raw_client};

fn event(tag: &str) -> NewEvent {
    NewEvent::new(EventType::new("test.Happened").unwrap(), "{}").tagged(Tags::none().with(tag))
}

async fn record(store: &Store, tag: &str) {
    let outcome = store.append(Append::of(vec![event(tag)])).await;
    assert!(matches!(outcome, Ok(Outcome::Appended(_))), "{outcome:?}");
}

/// Positions of the events that come, up to the next mark, and the mark.
async fn up_to_mark(
    signals: &mut tonic::Streaming<wire::SubscribeReply>,
) -> (Vec<u64>, Option<Signal>) {
    let mut positions = Vec::new();
    loop {
        match signals.message().await.unwrap().unwrap().signal {
            Some(Signal::Events(some)) => {
                let events = some.events.into_iter().map(|event| event_of(event).unwrap());
                positions.extend(events.map(|event| event.position.0));
            }
            mark => return (positions, mark),
        }
    }
}

#[tokio::test]
async fn a_subscription_catches_up_then_follows_and_says_how_far_it_has_come() {
    let server = RunningServer::of(Store::memory()).await;
    let store = server.open().await;
    for tag in ["a", "b", "a"] {
        record(&store, tag).await;
    }
    let subscribe = |from| wire::SubscribeRequest {
        query: Some((&Query::tag("a")).into()),
        from: Some(from),
        takes_through: false,
    };
    let mut client = raw_client(server.port).await;
    let mut signals = client.subscribe(subscribe(From::After(0))).await.unwrap().into_inner();
    assert_eq!(up_to_mark(&mut signals).await, (vec![1, 3], Some(Signal::CaughtUp(3))));
    record(&store, "b").await;
    assert_eq!(up_to_mark(&mut signals).await, (vec![], Some(Signal::Progress(4))));
    record(&store, "a").await;
    assert_eq!(up_to_mark(&mut signals).await, (vec![5], Some(Signal::Progress(5))));
    let checkpoint = store.checkpoint_at(Position(3)).await.unwrap();
    let resumed = subscribe(From::Checkpoint(checkpoint.clone().into()));
    let mut signals = client.subscribe(resumed).await.unwrap().into_inner();
    assert_eq!(up_to_mark(&mut signals).await, (vec![5], Some(Signal::CaughtUp(5))));
    let other = Checkpoint { store: StoreId::random(), ..checkpoint.clone() };
    let history = Checkpoint { hash: Hash([7; 32]), ..checkpoint.clone() };
    let ahead = Checkpoint { position: Position(99), ..checkpoint };
    for refused in [other, history, ahead] {
        let refused = client.subscribe(subscribe(From::Checkpoint(refused.into()))).await;
        assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    }
}

fn open(session: &'static [u8]) -> wire::AppendRequest {
    let open = wire::OpenAppends { session: session.into(), ..wire::OpenAppends::default() };
    wire::AppendRequest { request: Some(append_request::Request::Open(open)) }
}

fn numbered(number: u64, append: impl Into<wire::Append>) -> wire::AppendRequest {
    let append = Some(append.into());
    let numbered = wire::NumberedAppend { number, first_unanswered: 1, append };
    wire::AppendRequest { request: Some(append_request::Request::Append(numbered)) }
}

/// All replies of a call, and the status that ends it.
async fn replies(
    port: u16,
    messages: Vec<wire::AppendRequest>,
) -> (Vec<append_reply::Reply>, Option<Code>) {
    let mut replies = Vec::new();
    let call = raw_client(port).await.append(tokio_stream::iter(messages)).await;
    let mut stream = match call {
        Ok(response) => response.into_inner(),
        Err(status) => return (replies, Some(status.code())),
    };
    loop {
        match stream.message().await {
            Ok(Some(message)) => replies.extend(message.reply),
            Ok(None) => return (replies, None),
            Err(status) => return (replies, Some(status.code())),
        }
    }
}

#[tokio::test]
async fn a_call_of_appends_without_a_session_is_answered_and_ends_with_its_client() {
    let server = RunningServer::of(Store::memory()).await;
    let appends = (1..=3).map(|number| numbered(number, Append::of(vec![event("a")])));
    let messages = std::iter::once(open(b"")).chain(appends).collect();
    let (replies, status) = replies(server.port, messages).await;
    assert_eq!(status, None);
    assert!(matches!(&replies[0], append_reply::Reply::Opened(opened) if opened.next == 1));
    for (number, reply) in (1..).zip(&replies[1..]) {
        let append_reply::Reply::Answer(answer) = reply else { panic!("{reply:?}") };
        let Some(append_answer::Outcome::Appended(appended)) = &answer.outcome else {
            panic!("{answer:?}")
        };
        assert_eq!((answer.number, appended.first), (number, number));
    }
    assert_eq!(replies.len(), 4);
}

#[tokio::test]
async fn appends_of_one_message_are_answered_in_one_to_a_client_that_takes_several() {
    let server = RunningServer::of(Store::memory()).await;
    let several = |first, count| {
        let mut batch = AppendBatch::new(first, 1);
        (0..count).for_each(|_| batch.push(&Append::of(vec![event("a")])));
        batch.into_request()
    };
    let takes_several = |takes_several| {
        let open = wire::OpenAppends { takes_several, ..wire::OpenAppends::default() };
        wire::AppendRequest { request: Some(append_request::Request::Open(open)) }
    };
    let messages = vec![takes_several(true), several(1, 3), several(4, 2)];
    let (replies_of_several, status) = replies(server.port, messages).await;
    assert_eq!(status, None);
    let mut answered = Vec::new();
    for reply in &replies_of_several[1..] {
        let append_reply::Reply::Answers(bytes) = reply else { panic!("{reply:?}") };
        let answers = answers_of(bytes.clone()).unwrap();
        let head = answers.head.unwrap().position;
        assert!(answers.answers.iter().all(|answer| answer.head.is_none()));
        answered.extend(answers.answers.iter().map(|answer| answer.number));
        assert!(head >= *answered.last().unwrap(), "{head} {answered:?}");
    }
    assert_eq!(answered, [1, 2, 3, 4, 5]);
    let (singly, _) = replies(server.port, vec![takes_several(false), several(1, 3)]).await;
    assert_eq!(singly.len(), 4, "{singly:?}");
    // A number that is not the next one, more appends than a message may have, and no message.
    let refused = async |message| replies(server.port, vec![takes_several(true), message]).await.1;
    assert_eq!(refused(several(2, 1)).await, Some(Code::FailedPrecondition));
    assert_eq!(refused(several(1, IN_FLIGHT_MAX + 1)).await, Some(Code::InvalidArgument));
    let cut = append_request::Request::Appends(vec![0x1a, 9].into());
    let cut = wire::AppendRequest { request: Some(cut) };
    assert_eq!(refused(cut).await, Some(Code::InvalidArgument));
}

/// An event that names a trace keeps it.
#[tokio::test]
async fn events_belong_to_the_trace_of_the_call_that_appends_them() {
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    let of_call = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let of_event = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut second = event("b");
    second.metadata.trace = Some(TraceContext::parse(of_event, None).unwrap());
    let messages = vec![open(b""), numbered(1, Append::of(vec![event("a"), second]))];
    let mut request = tonic::Request::new(tokio_stream::iter(messages));
    request.metadata_mut().insert("traceparent", of_call.parse().unwrap());
    let call = raw_client(server.port).await.append(request).await;
    let mut replies = call.unwrap().into_inner();
    while replies.message().await.unwrap().is_some() {}
    let page = store.page(Read::matching(Query::all(), Position(1))).await.unwrap();
    let traces = page.events.iter().map(|event| event.metadata.trace.as_ref().unwrap().to_string());
    assert_eq!(traces.collect::<Vec<_>>(), [of_call, of_event]);
}

#[tokio::test]
async fn appends_that_no_client_sends_are_refused_and_write_nothing() {
    let server = RunningServer::of(Store::memory()).await;
    let good = || Append::of(vec![event("a")]);
    let refused = async |messages| replies(server.port, messages).await.1;
    assert_eq!(refused(vec![]).await, Some(Code::InvalidArgument));
    assert_eq!(refused(vec![numbered(1, good())]).await, Some(Code::InvalidArgument));
    assert_eq!(refused(vec![open(b"short")]).await, Some(Code::InvalidArgument));
    assert_eq!(refused(vec![open(b""), open(b"")]).await, Some(Code::InvalidArgument));
    assert_eq!(refused(vec![open(b""), numbered(2, good())]).await, Some(Code::FailedPrecondition));
    // One that cannot be understood is answered, and the call goes on.
    let nameless =
        wire::Append { events: vec![wire::NewEvent::default()], ..wire::Append::default() };
    let strange = wire::Append { authority: 77, ..wire::Append::default() };
    let reserved = NewEvent::new(EventType::new("$timer.Set").unwrap(), "{}");
    let messages = vec![
        open(b""),
        numbered(1, nameless),
        numbered(2, strange),
        numbered(3, Append::of(vec![reserved])),
        numbered(4, good()),
    ];
    let (replies, status) = replies(server.port, messages).await;
    assert_eq!(status, None);
    let mut refused = Vec::new();
    for reply in &replies[1..] {
        let append_reply::Reply::Answer(answer) = reply else { panic!("{reply:?}") };
        match &answer.outcome {
            Some(append_answer::Outcome::Problem(problem)) => {
                assert!(!problem.message.is_empty());
                let is_invalid =
                    matches!(problem.problem, Some(append_problem::Problem::Invalid(_)));
                refused.push((answer.number, is_invalid));
            }
            Some(append_answer::Outcome::Appended(appended)) => {
                assert_eq!((answer.number, appended.first), (4, 1));
            }
            other => panic!("{other:?}"),
        }
    }
    refused.sort_unstable();
    assert_eq!(refused, [(1, true), (2, false), (3, true)]);
}

#[tokio::test]
async fn a_call_names_its_store_and_what_it_lacks_is_refused() {
    let server = RunningServer::of(Store::memory()).await;
    let mut client = raw_client(server.port).await;
    let mut other = Request::new(wire::IdentifyRequest::default());
    other.metadata_mut().insert("leftfold-store", "other".parse().unwrap());
    assert_eq!(client.identify(other).await.unwrap_err().code(), Code::NotFound);
    let known = client.identify(wire::IdentifyRequest::default()).await.unwrap().into_inner();
    assert!(known.server.starts_with("leftfold "));
    let placeless = wire::ReadRequest::default();
    assert_eq!(client.read(placeless).await.unwrap_err().code(), Code::InvalidArgument);
    let empty_tag = wire::ReadRequest::from(&Read::matching(Query::tag(""), Position(1)));
    assert_eq!(client.read(empty_tag).await.unwrap_err().code(), Code::InvalidArgument);
    let short = wire::AnsweredRequest { id: vec![1, 2, 3].into() };
    assert_eq!(client.answered(short).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn health_says_serving_until_a_store_takes_no_appends() {
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    let origin = format!("http://127.0.0.1:{}", server.port).parse().unwrap();
    let mut client = health_client::HealthClient::with_origin(raw(server.port).await, origin);
    let of = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "leftfold.v1.Store"] {
        let answer = client.check(of(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    assert_eq!(client.check(of("other")).await.unwrap_err().code(), Code::NotFound);
    let mut watched = client.watch(of("")).await.unwrap().into_inner();
    let told = async |watched: &mut tonic::Streaming<HealthCheckResponse>| {
        watched.message().await.unwrap().unwrap().status()
    };
    assert_eq!(told(&mut watched).await, ServingStatus::Serving);
    store.close().await.unwrap();
    let answer = client.check(of("")).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::NotServing);
    assert_eq!(told(&mut watched).await, ServingStatus::NotServing);
}
