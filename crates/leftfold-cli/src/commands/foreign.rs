//! `leftfold import` from a server of KurrentDB or UmaDB, over its protocol.

use std::collections::VecDeque;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use leftfold::remote::{Channel, RemoteOptions, RemoteTls, RemoteUser, dial};
use leftfold::store::{
    Append, Checkpoint, CheckpointRecord, Condition, Digest, Expected, Hash, Label, MoveFrom,
    Partition, Position, Store, StoreId, Version,
};
use leftfold_server::foreign::{
    ForeignEvent, KurrentClient, KurrentReply, UmaClient, UmaReply, kurrent_event, kurrent_read,
    uma_events, uma_read,
};
use serde_json::json;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Request, Status, Streaming};
use uuid::Uuid;

use crate::access::shown;
use crate::failure::CliFailure;
use crate::import_times::ImportTimes;
use crate::pipeline::AppendPipeline;
use crate::progress::{Interrupt, Measure, ProgressLine};
use crate::screen::{Screen, Tint, counted};

/// Bytes of a message that a server may send.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Port of a server of KurrentDB.
const KURRENT_PORT: u16 = 2113;
/// Port of a server of UmaDB.
const UMA_PORT: u16 = 50051;
/// Variable of the environment with the key of a server of UmaDB.
const UMA_KEY: &str = "UMADB_API_KEY";
const HINT: &str = "the same call goes on";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ForeignKind {
    Kurrent,
    Uma,
}

/// A server that events are read from.
#[derive(Debug)]
pub(crate) struct ForeignSource {
    kind: ForeignKind,
    /// Host, port and encryption.
    options: RemoteOptions,
    /// Credential that calls show, to be let in.
    authorization: Option<String>,
}

impl ForeignSource {
    /// Reads a source; `None` if the text is the name of a file.
    pub(crate) fn of(text: &str) -> Option<Result<Self, CliFailure>> {
        let (scheme, rest) = text.split_once("://")?;
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "kurrentdb" | "kurrent" | "kdb" | "esdb" => ForeignKind::Kurrent,
            "umadb" => ForeignKind::Uma,
            "kurrentdb+discover" | "kurrent+discover" | "kdb+discover" | "esdb+discover" => {
                let hint = "name one node, as kurrentdb://host:2113";
                return Some(Err(CliFailure::Usage(format!("an import reads one server; {hint}"))));
            }
            _ => return None,
        };
        let said = |detail| CliFailure::Usage(format!("{}: {detail}", shown(text)));
        Some(Self::parse(kind, rest).map_err(said))
    }

    fn parse(kind: ForeignKind, rest: &str) -> Result<Self, String> {
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.trim_end_matches('/');
        if place.contains(',') {
            return Err("an import reads one server; name one node".to_owned());
        }
        let port = if kind == ForeignKind::Kurrent { KURRENT_PORT } else { UMA_PORT };
        let has_port = place.rsplit_once(':').is_some_and(|(_, port)| {
            !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit())
        });
        let place = if has_port { place.to_owned() } else { format!("{place}:{port}") };
        let options = RemoteOptions::at(&format!("leftfold://{place}"));
        let mut options = options.map_err(|error| error.to_string())?;
        options.tls = encryption(kind, parameters)?;
        let authorization = match (kind, options.user.take()) {
            (ForeignKind::Kurrent, Some(RemoteUser { name, password })) => {
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}"))))
            }
            (ForeignKind::Uma, Some(_)) => {
                return Err(format!("give the key of the server as {UMA_KEY}"));
            }
            (ForeignKind::Uma, None) => {
                std::env::var(UMA_KEY).ok().map(|key| format!("Bearer {key}"))
            }
            (ForeignKind::Kurrent, None) => None,
        };
        Ok(Self { kind, options, authorization })
    }

    /// The name under which the place of the import is kept: the server, however it is called.
    fn name(&self) -> String {
        let scheme = if self.kind == ForeignKind::Kurrent { "kurrentdb" } else { "umadb" };
        format!("{scheme}://{}:{}", self.options.host, self.options.port)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let value = self.authorization.as_ref().map(AsciiMetadataValue::try_from);
        if let Some(Ok(mut value)) = value {
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    /// Begins to read, from a place on.
    async fn read(&self, from: u64) -> Result<ForeignEvents, CliFailure> {
        let (channel, origin): (Channel, _) = dial(&self.options).await.map_err(CliFailure::of)?;
        let replies = match self.kind {
            ForeignKind::Kurrent => {
                let mut client = KurrentClient::with_origin(channel, origin)
                    .max_decoding_message_size(MESSAGE_BYTES_MAX);
                let read = client.read(self.request(kurrent_read(from.checked_sub(1)))).await;
                ForeignReplies::Kurrent(read.map_err(|status| self.told(&status))?.into_inner())
            }
            ForeignKind::Uma => {
                let mut client = UmaClient::with_origin(channel, origin)
                    .max_decoding_message_size(MESSAGE_BYTES_MAX);
                let read = client.read(self.request(uma_read(from))).await;
                ForeignReplies::Uma(read.map_err(|status| self.told(&status))?.into_inner())
            }
        };
        Ok(ForeignEvents { replies, from, ready: VecDeque::new() })
    }

    fn told(&self, status: &Status) -> CliFailure {
        CliFailure::Failed(format!("{}: {}; {HINT}", self.name(), status.message()))
    }
}

/// Returns how the connection is encrypted, by the parameters of each kind of URL.
fn encryption(kind: ForeignKind, parameters: &str) -> Result<Option<RemoteTls>, String> {
    // A client of KurrentDB encrypts unless it is told not to, and one of UmaDB the other way.
    let mut is_encrypted = kind == ForeignKind::Kurrent;
    let mut tls = RemoteTls::default();
    let (mut certificate, mut key) = (None, None);
    let pairs = parameters.split('&').filter(|pair| !pair.is_empty());
    for pair in pairs {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let path = || Some(PathBuf::from(value));
        match (kind, name.to_ascii_lowercase().as_str()) {
            (ForeignKind::Kurrent, "tls") => is_encrypted = !value.eq_ignore_ascii_case("false"),
            (ForeignKind::Kurrent, "tlscafile") | (ForeignKind::Uma, "tls-roots") => {
                tls.roots = path();
                is_encrypted = true;
            }
            (ForeignKind::Kurrent, "usercertfile") => certificate = path(),
            (ForeignKind::Kurrent, "userkeyfile") => key = path(),
            (ForeignKind::Kurrent, "tlsverifycert") if value.eq_ignore_ascii_case("false") => {
                return Err("certificates are verified; name yours by tlsCaFile".to_owned());
            }
            (ForeignKind::Uma, "tls") if value == "require" => is_encrypted = true,
            (ForeignKind::Uma, _) => {
                return Err("its options are tls=require and tls-roots=PATH".to_owned());
            }
            // Others are about how a client waits and whom it prefers.
            (ForeignKind::Kurrent, _) => {}
        }
    }
    tls.certificate = certificate.zip(key);
    Ok(is_encrypted.then_some(tls))
}

enum ForeignReplies {
    Kurrent(Streaming<KurrentReply>),
    Uma(Streaming<UmaReply>),
}

/// Events from a place on, in their order.
struct ForeignEvents {
    replies: ForeignReplies,
    from: u64,
    ready: VecDeque<ForeignEvent>,
}

impl ForeignEvents {
    /// Returns the next event; `None` at the end.
    async fn next(&mut self, source: &ForeignSource) -> Result<Option<ForeignEvent>, CliFailure> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let unfit = |error: leftfold_server::foreign::UnfitForeign| CliFailure::of(error);
            let failed = |status: Status| source.told(&status);
            match &mut self.replies {
                ForeignReplies::Kurrent(replies) => {
                    let Some(reply) = replies.message().await.map_err(failed)? else {
                        return Ok(None);
                    };
                    self.ready.extend(kurrent_event(reply).map_err(unfit)?);
                }
                ForeignReplies::Uma(replies) => {
                    let Some(reply) = replies.message().await.map_err(failed)? else {
                        return Ok(None);
                    };
                    self.ready.extend(uma_events(reply).map_err(unfit)?);
                }
            }
            // A server of KurrentDB is asked from a place that it has: the one before.
            let from = self.from;
            self.ready.retain(|event| event.place >= from);
        }
    }
}

/// Imports what the source has and the store has not, up to the end that it has now.
pub(crate) async fn import(
    (store, times): (&Store, &ImportTimes),
    source: &ForeignSource,
    is_renumbered: bool,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let interrupt = Interrupt::listen();
    let mut moves = ImportMoves::of(store, source).await?;
    let mut progress = ProgressLine::of("importing", Measure::Things("events"), 0);
    let mut events = source.read(moves.next).await?;
    let mut queue = AppendPipeline::into(store, "append");
    let (mut next, mut imported) = (events.next(source).await?, 0);
    while let Some(first) = next.take() {
        let place = first.place;
        let mut together = vec![first];
        // What has one place was one append.
        loop {
            next = events.next(source).await?;
            match next.take_if(|event| event.place == place) {
                Some(event) => together.push(event),
                None => break,
            }
        }
        if is_renumbered {
            together.retain(|event| !is_metadata(event));
        }
        imported += together.len() as u64;
        let moment = together.iter().find_map(|event| event.recorded_at);
        if times.must_be_set(moment) {
            queue.finish().await?;
        }
        let mut timed: Vec<_> =
            together.iter_mut().map(|one| (&mut one.event, one.recorded_at)).collect();
        times.record_at(moment, &mut timed);
        let append = moves.append(place, together, is_renumbered)?;
        queue.push(moves.appends, append).await?;
        progress.at(imported);
        if interrupt.is_on() {
            break;
        }
    }
    queue.finish().await?;
    interrupt.check(Some(HINT))?;
    drop(progress);
    if screen.is_json() {
        return screen.object(&json!({
            "source": source.name(), "events": imported, "appends": moves.appends,
            "next": moves.next,
        }));
    }
    let said = format!("{} imported from {}", counted(imported, "event"), source.name());
    screen.line(screen.tint(Tint::Green, &said))
}

/// Tells whether an event is in the metadata stream of a stream of KurrentDB.
fn is_metadata(event: &ForeignEvent) -> bool {
    event.event.stream.as_ref().is_some_and(|stream| stream.starts_with("~$$"))
}

/// The place of the import, which each append moves.
struct ImportMoves {
    consumer: Label,
    source: StoreId,
    /// First place in the source that is not imported.
    next: u64,
    appends: u64,
}

impl ImportMoves {
    async fn of(store: &Store, source: &ForeignSource) -> Result<Self, CliFailure> {
        let name = source.name();
        let consumer = Label::new(format!("import {name}")).map_err(CliFailure::of)?;
        let id = StoreId(Uuid::from_bytes(Digest::of(name.as_bytes()).0));
        let at = store.checkpoint_in(consumer.clone(), id).await?;
        if at.is_none() && store.head().position > Position::START {
            return Err(CliFailure::Failed(format!(
                "the store has events, and none of {name}: import into a new one"
            )));
        }
        let next = at.map_or(0, |at| at.position.0);
        Ok(Self { consumer, source: id, next, appends: 0 })
    }

    /// Makes the append of what has one place in the source.
    fn append(
        &mut self,
        place: u64,
        events: Vec<ForeignEvent>,
        is_renumbered: bool,
    ) -> Result<Append, CliFailure> {
        let mut condition = Condition::none();
        let mut seen = Vec::new();
        for ForeignEvent { revision, event, .. } in &events {
            let (Some(stream), Some(revision)) = (&event.stream, revision) else { continue };
            if !is_renumbered && !seen.contains(&stream) {
                seen.push(stream);
                let version = Version(*revision);
                let expected =
                    if *revision == 0 { Expected::Absent } else { Expected::Exact(version) };
                condition = condition.and_stream(stream.clone(), expected);
            }
        }
        let next = place.saturating_add(1);
        let at = Checkpoint {
            store: self.source,
            partition: Partition::default(),
            position: Position(next),
            hash: Hash::EMPTY,
        };
        let from = MoveFrom::Exactly(Position(self.next));
        let checkpoint = CheckpointRecord { consumer: self.consumer.clone(), from, checkpoint: at };
        let events = events.into_iter().map(|event| event.event).collect();
        (self.next, self.appends) = (next, self.appends + 1);
        let append = Append { checkpoint: Some(checkpoint), ..Append::of(events).when(condition) };
        append.validate().map_err(|error| {
            CliFailure::Failed(format!("what is at {place} of the source: {error}"))
        })?;
        Ok(append)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> ForeignSource {
        ForeignSource::of(text).unwrap().unwrap()
    }

    /// A stream of KurrentDB that was scavenged begins with a later revision, and other events
    /// would be hidden by its metadata if it were taken as one that begins.
    #[test]
    fn a_stream_that_has_lost_its_first_events_is_refused_unless_it_is_numbered_anew() {
        let event_type = leftfold::store::EventType::new("shop.Sold").unwrap();
        let stream = leftfold::store::StreamName::new("shop-1").unwrap();
        let event = leftfold::store::NewEvent::new(event_type, "{}").in_stream(stream);
        let foreign = |revision| ForeignEvent {
            place: 7,
            revision: Some(revision),
            recorded_at: None,
            event: event.clone(),
        };
        let consumer = Label::new("import kurrentdb://db:2113".to_owned()).unwrap();
        let moves = || ImportMoves {
            consumer: consumer.clone(),
            source: StoreId::random(),
            next: 3,
            appends: 0,
        };
        let expected = |revisions: &[u64], is_renumbered| {
            let events = revisions.iter().copied().map(foreign).collect();
            let append = moves().append(7, events, is_renumbered).unwrap();
            append.condition.streams.into_iter().map(|(_, expected)| expected).collect::<Vec<_>>()
        };
        assert_eq!(expected(&[0, 1], false), [Expected::Absent]);
        assert_eq!(expected(&[5, 6], false), [Expected::Exact(Version(5))]);
        assert_eq!(expected(&[5, 6], true), []);
        let at = moves().append(7, vec![foreign(0)], true).unwrap().checkpoint.unwrap();
        assert_eq!(
            (at.from, at.checkpoint.position),
            (MoveFrom::Exactly(Position(3)), Position(8))
        );
    }

    #[test]
    fn a_source_is_read_as_the_clients_of_its_server_read_it() {
        let kurrent = source("esdb://admin:s%40t@db.example?tls=false&nodePreference=leader");
        assert_eq!(kurrent.name(), "kurrentdb://db.example:2113");
        assert_eq!(
            (kurrent.options.tls, &*kurrent.authorization.unwrap()),
            (None, "Basic YWRtaW46c0B0")
        );
        let encrypted = source("kurrentdb://db:2114?tlsCaFile=/ca.pem").options;
        assert_eq!((encrypted.port, encrypted.tls.unwrap().roots), (2114, Some("/ca.pem".into())));
        assert_eq!(source("umadb://db").name(), "umadb://db:50051");
        assert!(source("umadb://db:7?tls=require").options.tls.is_some());
        for wrong in ["esdb+discover://db", "esdb://a:1,b:2", "umadb://db?tls=no", "umadb://u:p@db"]
        {
            assert!(matches!(ForeignSource::of(wrong), Some(Err(CliFailure::Usage(_)))), "{wrong}");
        }
        for file in ["shop.jsonl", "./umadb", "C:\\x", "https://x"] {
            assert!(ForeignSource::of(file).is_none(), "{file}");
        }
    }
}
