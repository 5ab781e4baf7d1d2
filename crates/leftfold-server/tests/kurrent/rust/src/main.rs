//! Calls of a server by the crate `kurrentdb`, as it is published: appends, conflicts, reads,
//! subscriptions, reconnection, encryption with credentials. Each part compares the answers.
//!
//! Arguments: the part, and a connection string without its scheme.

use std::error::Error;
use std::fmt::Debug;

use kurrentdb::{
    AppendToStreamOptions, Authentication, Client, CurrentRevision, DeleteStreamOptions,
    Error as CallError, EventData, NakAction, PersistentSubscriptionOptions,
    PersistentSubscriptionToAllOptions, Position, ReadAllOptions, ReadStream, ReadStreamOptions,
    ResolvedEvent, RetryOptions, StreamMetadataBuilder, StreamMetadataResult, StreamPosition,
    StreamState, SubscribeToAllOptions, SubscribeToPersistentSubscriptionOptions,
    SubscribeToStreamOptions, Subscription, SubscriptionEvent, SubscriptionFilter,
    TombstoneStreamOptions,
};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use uuid::Uuid;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let part = arguments.next().ok_or("a part is missing")?;
    let address = arguments.next().ok_or("a connection string is missing")?;
    let client = Client::new(format!("kurrentdb://{address}").parse()?)?;
    match part.as_str() {
        "streams" => streams(&client).await,
        "deletions" => deletions(&client).await,
        "subscriptions" => subscriptions(&client).await,
        "groups" => groups(&client).await,
        "restart" => restart(&client).await,
        "encrypted" => encrypted(&client).await,
        other => Err(format!("there is no part {other}").into()),
    }
}

fn name(category: &str) -> String {
    format!("{category}-{}", Uuid::new_v4())
}

fn placed(number: usize) -> EventData {
    of_kind("OrderPlaced", number)
}

fn of_kind(kind: &str, number: usize) -> EventData {
    let event = EventData::json(kind, &json!({ "number": number })).expect("JSON is JSON");
    event.id(Uuid::new_v4())
}

fn several(kind: &str, count: usize) -> Vec<EventData> {
    (0..count).map(|number| of_kind(kind, number)).collect()
}

fn when(state: StreamState) -> AppendToStreamOptions {
    AppendToStreamOptions::default().stream_state(state)
}

/// Fails unless both are the same.
fn same<T: PartialEq + Debug>(found: T, wanted: T) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{found:?} is not {wanted:?}").into()) }
}

fn refused<T: Debug>(answer: Result<T, CallError>, is: fn(&CallError) -> bool) -> Outcome {
    match answer {
        Err(error) if is(&error) => Ok(()),
        other => Err(format!("another error was expected: {other:?}").into()),
    }
}

async fn all(mut reading: ReadStream) -> Result<Vec<ResolvedEvent>, CallError> {
    let mut found = Vec::new();
    while let Some(event) = reading.next().await? {
        found.push(event);
    }
    Ok(found)
}

async fn revisions(
    client: &Client,
    stream: &str,
    options: &ReadStreamOptions,
) -> Result<Vec<u64>, CallError> {
    let found = all(client.read_stream(stream, options).await?).await?;
    Ok(found.iter().map(|event| event.get_original_event().revision).collect())
}

async fn streams(client: &Client) -> Outcome {
    let order = name("order");
    let bytes = EventData::binary("Bytes", vec![0, 255].into()).id(Uuid::new_v4());
    let noted = placed(1).metadata_as_json(&json!({ "by": "ada" }))?;
    let appended = client
        .append_to_stream(&*order, &when(StreamState::NoStream), vec![placed(0), noted, bytes])
        .await?;
    same(appended.next_expected_version, 2)?;
    let forwards = ReadStreamOptions::default();
    let found = all(client.read_stream(&*order, &forwards).await?).await?;
    let found: Vec<_> = found.iter().map(ResolvedEvent::get_original_event).collect();
    let kinds = found.iter().map(|event| event.event_type.as_str()).collect::<Vec<_>>();
    same(kinds, vec!["OrderPlaced", "OrderPlaced", "Bytes"])?;
    same(found[1].as_json::<serde_json::Value>()?, json!({ "number": 1 }))?;
    same(&found[1].custom_metadata[..], br#"{"by":"ada"}"#)?;
    same((found[2].is_json, &found[2].data[..]), (false, &[0, 255]))?;
    same((found[2].stream_id(), found[2].position), (&order, appended.position))?;

    let conflict = client.append_to_stream(&*order, &when(StreamState::NoStream), placed(3)).await;
    refused(conflict, |error| {
        let CallError::WrongExpectedVersion { expected, current } = error else { return false };
        *expected == StreamState::NoStream && *current == CurrentRevision::Current(2)
    })?;
    let stale = when(StreamState::StreamRevision(7));
    let conflict = client.append_to_stream(&*order, &stale, placed(3)).await;
    refused(conflict, |error| matches!(error, CallError::WrongExpectedVersion { .. }))?;
    let next = when(StreamState::StreamRevision(2));
    client.append_to_stream(&*order, &next, several("OrderPlaced", 3)).await?;
    client.append_to_stream(&*order, &when(StreamState::StreamExists), placed(6)).await?;
    let again = placed(7);
    for _ in 0..2 {
        client.append_to_stream(&*order, &when(StreamState::Any), again.clone()).await?;
    }
    same(revisions(client, &order, &forwards).await?, (0..=7).collect())?;
    let from = |revision| forwards.clone().position(StreamPosition::Position(revision));
    same(revisions(client, &order, &from(5)).await?, vec![5, 6, 7])?;
    let backwards = forwards.clone().backwards().position(StreamPosition::End).max_count(2);
    same(revisions(client, &order, &backwards).await?, vec![7, 6])?;
    same(revisions(client, &order, &from(1).backwards()).await?, vec![1, 0])?;
    let none = revisions(client, &name("order"), &forwards).await;
    refused(none, |error| matches!(error, CallError::ResourceNotFound))?;

    let everything = ReadAllOptions::default();
    let rest = everything.clone().position(StreamPosition::Position(appended.position));
    let rest = all(client.read_all(&rest.max_count(2)).await?).await?;
    let at = |event: &ResolvedEvent| event.get_original_event().revision;
    same(rest.iter().map(at).collect(), vec![2, 3])?;
    let last = everything.backwards().position(StreamPosition::End).max_count(2);
    let last = all(client.read_all(&last).await?).await?;
    same(last.iter().map(at).collect(), vec![7, 6])
}

async fn deletions(client: &Client) -> Outcome {
    let (order, forwards) = (name("order"), ReadStreamOptions::default());
    client.append_to_stream(&*order, &when(StreamState::NoStream), several("A", 3)).await?;
    let metadata = StreamMetadataBuilder::new().max_count(2).build();
    client.set_stream_metadata(&*order, &when(StreamState::NoStream), &metadata).await?;
    match client.get_stream_metadata(&*order, &forwards).await? {
        StreamMetadataResult::Success(found) => same(found.metadata().max_count, Some(2))?,
        other => return Err(format!("no metadata: {other:?}").into()),
    }
    same(revisions(client, &order, &forwards).await?, vec![1, 2])?;
    let at = DeleteStreamOptions::default().stream_state(StreamState::StreamRevision(2));
    client.delete_stream(&*order, &at).await?;
    let gone = revisions(client, &order, &forwards).await;
    refused(gone, |error| matches!(error, CallError::ResourceNotFound))?;
    client.append_to_stream(&*order, &when(StreamState::NoStream), placed(3)).await?;
    same(revisions(client, &order, &forwards).await?, vec![3])?;
    client.tombstone_stream(&*order, &TombstoneStreamOptions::default()).await?;
    let gone = revisions(client, &order, &forwards).await;
    refused(gone, |error| matches!(error, CallError::ResourceDeleted))
}

/// Returns the revision of the next event, or `None` for the mark that all was sent.
async fn next(
    following: &mut Subscription,
    checkpoints: &mut Vec<Position>,
) -> Outcome<Option<u64>> {
    loop {
        match following.next_subscription_event().await? {
            SubscriptionEvent::EventAppeared(event) => {
                return Ok(Some(event.get_original_event().revision));
            }
            SubscriptionEvent::CaughtUp(_) => return Ok(None),
            SubscriptionEvent::Checkpoint(position) => checkpoints.push(position),
            _ => {}
        }
    }
}

async fn subscriptions(client: &Client) -> Outcome {
    let (order, kind) = (name("order"), name("Kind"));
    let any = when(StreamState::Any);
    let before = client.append_to_stream(&*order, &any, placed(0)).await?.position;
    client.append_to_stream(&*order, &any, several("OrderPlaced", 40)).await?;
    client.append_to_stream(&*order, &any, several(&kind, 2)).await?;
    let mut checkpoints = Vec::new();
    let from = SubscribeToStreamOptions::default().start_from(StreamPosition::Position(40));
    let mut following = client.subscribe_to_stream(&*order, &from).await;
    for wanted in [Some(41), Some(42), None] {
        same(next(&mut following, &mut checkpoints).await?, wanted)?;
    }
    client.append_to_stream(&*order, &any, placed(43)).await?;
    same(next(&mut following, &mut checkpoints).await?, Some(43))?;

    let filter = SubscriptionFilter::on_event_type().add_prefix(&kind).max(10);
    let from = SubscribeToAllOptions::default().position(StreamPosition::Position(before));
    let mut filtered = client.subscribe_to_all(&from.clone().filter(filter)).await;
    for wanted in [Some(41), Some(42), None] {
        same(next(&mut filtered, &mut checkpoints).await?, wanted)?;
    }
    let is_behind = checkpoints.iter().all(|at| at.commit > before.commit);
    same((is_behind, checkpoints.is_empty()), (true, false))?;

    let filter = SubscriptionFilter::on_stream_name().regex(format!("^{order}$"));
    let from = from.position(StreamPosition::End).filter(filter);
    let mut named = client.subscribe_to_all(&from).await;
    same(next(&mut named, &mut checkpoints).await?, None)?;
    client.append_to_stream(name("order"), &any, placed(0)).await?;
    client.append_to_stream(&*order, &any, placed(44)).await?;
    same(next(&mut named, &mut checkpoints).await?, Some(44))
}

async fn groups(client: &Client) -> Outcome {
    let (order, group, usual) = (name("order"), "workers", Default::default());
    let none = client.get_persistent_subscription_info(&*order, group, &usual).await;
    refused(none, |error| matches!(error, CallError::ResourceNotFound))?;
    let options = PersistentSubscriptionOptions::default().start_from(StreamPosition::Start);
    client.create_persistent_subscription(&*order, group, &options).await?;
    let again = client.create_persistent_subscription(&*order, group, &options).await;
    refused(again, |error| matches!(error, CallError::ResourceAlreadyExists))?;
    client.append_to_stream(&*order, &when(StreamState::Any), several("A", 3)).await?;
    let buffer = SubscribeToPersistentSubscriptionOptions::default();
    let mut workers = client.subscribe_to_persistent_subscription(&*order, group, &buffer).await?;
    let mut given = Vec::new();
    for _ in 0..3 {
        given.push(workers.next().await?);
    }
    workers.ack(&given[0]).await?;
    workers.nack(&given[1], NakAction::Park, "bad").await?;
    workers.nack(&given[2], NakAction::Retry, "later").await?;
    let event = workers.next().await?;
    same(event.get_original_event().revision, 2)?;
    workers.ack(&event).await?;
    loop {
        let info = client.get_persistent_subscription_info(&*order, group, &usual).await?;
        let stats = info.stats;
        if (stats.parked_message_count, stats.total_in_flight_messages) == (1, 0) {
            same(info.settings.map(|settings| settings.start_from), Some(StreamPosition::Start))?;
            same(stats.last_known_event_revision, Some(2))?;
            break;
        }
    }
    client.replay_parked_messages(&*order, group, &Default::default()).await?;
    same(workers.next().await?.get_original_event().revision, 1)?;
    client.delete_persistent_subscription(&*order, group, &Default::default()).await?;
    refused(workers.next().await, |error| matches!(error, CallError::IllegalStateError(_)))?;

    let all = name("all");
    let filter = SubscriptionFilter::on_stream_name().add_prefix(&*order);
    let options = PersistentSubscriptionToAllOptions::default().filter(filter);
    client.create_persistent_subscription_to_all(&*all, &options).await?;
    client.append_to_stream(name("other"), &when(StreamState::Any), placed(0)).await?;
    client.append_to_stream(&*order, &when(StreamState::Any), placed(3)).await?;
    let mut workers = client.subscribe_to_persistent_subscription_to_all(&*all, &buffer).await?;
    let event = workers.next().await?;
    same(event.get_original_event().revision, 3)?;
    workers.ack(&event).await?;
    let listed = client.list_persistent_subscriptions_to_all(&Default::default()).await?;
    same(listed.iter().filter(|info| info.group_name == all).count(), 1)?;
    Ok(client.delete_persistent_subscription_to_all(&*all, &Default::default()).await?)
}

async fn restart(client: &Client) -> Outcome {
    let order = name("order");
    client.append_to_stream(&*order, &when(StreamState::NoStream), placed(0)).await?;
    let retry = RetryOptions::default().retry_forever();
    let options = SubscribeToStreamOptions::default().retry_options(retry);
    let options = options.start_from(StreamPosition::Start);
    let mut following = client.subscribe_to_stream(&*order, &options).await;
    same(following.next().await?.get_original_event().revision, 0)?;
    println!("restart it");
    BufReader::new(stdin()).read_line(&mut String::new()).await?;
    // A client that lost its server finds it again, within a few calls.
    let (sent, at) = (placed(1), when(StreamState::StreamRevision(0)));
    let mut left = 20;
    while let Err(error) = client.append_to_stream(&*order, &at, sent.clone()).await {
        left -= 1;
        if left == 0 {
            return Err(error.into());
        }
    }
    same(revisions(client, &order, &ReadStreamOptions::default()).await?, vec![0, 1])?;
    // And so does the subscription, where it was.
    same(following.next().await?.get_original_event().revision, 1)
}

async fn encrypted(client: &Client) -> Outcome {
    let (order, forwards) = (name("order"), ReadStreamOptions::default());
    client.append_to_stream(&*order, &when(StreamState::NoStream), placed(0)).await?;
    same(revisions(client, &order, &forwards).await?, vec![0])?;
    let reader = || Authentication::basic("rae", "r");
    same(revisions(client, &order, &forwards.authenticated(reader())).await?, vec![0])?;
    let as_reader = when(StreamState::Any).authenticated(reader());
    let refusal = client.append_to_stream(&*order, &as_reader, placed(1)).await;
    refused(refusal, |error| matches!(error, CallError::AccessDenied))
}
