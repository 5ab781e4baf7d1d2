//! The queue of an inbox: a durable consumer of a stream.

use std::cmp::Reverse;
use std::time::Duration;

use async_nats::header::{HeaderMap, HeaderValue, NATS_MESSAGE_ID};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{AckKind, Message};
use futures_util::{FutureExt, StreamExt};
use leftfold_core::runtime::inbox::{Arrival, BrokerQueue, QueueSession, RECEIVED_MAX};
use leftfold_core::runtime::projection::with_causes;
use leftfold_core::store::TraceContext;
use percent_encoding::percent_decode_str;
use tokio::time::timeout;

use crate::bus::{KEY_HEADER, publish_error};
use crate::servers::NatsConnection;
use crate::streams::{matches, stream_for};
use crate::{Nats, NatsError};

/// Header of a dead letter with the reason.
pub const REASON_HEADER: &str = "leftfold-reason";
/// Header of a dead letter with the id that it came with.
pub const ID_HEADER: &str = "leftfold-id";
/// Header of a dead letter with the subject that it came on.
pub const SUBJECT_HEADER: &str = "leftfold-subject";

/// Bytes of a reason in a header: messages near the server's limit stay below it.
const REASON_BYTES_MAX: usize = 500;
/// The server says at least so often that it is there; two silences end a session.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Time after which a request for messages is made anew.
const REQUEST: Duration = Duration::from_secs(30);
/// Silence after which the messages that came first are taken to be complete.
const FIRST_WITHIN: Duration = Duration::from_millis(50);

/// Messages that are under way at a time, to all processes of a consumer, if nothing else is said.
pub const UNACKNOWLEDGED_MAX: u16 = 256;
/// Time after which an unacknowledged message is delivered again, if nothing else is said.
pub const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);

/// Part of a message that is its id: the same whenever it is sent, and different for every message
/// of its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NatsMessageId {
    /// The header `Nats-Msg-Id`, as an outbox sets it. A message without it is poison.
    #[default]
    MessageId,
    /// Another header. A message without it is poison.
    Header(String),
    /// The number of the message in its stream, and the time at which it came there: for senders
    /// that give no ids. If such a sender sends a message twice, it is two messages.
    Sequence,
}

/// A subject of a stream, for [`receive_from`](leftfold_core::runtime::inbox::Intake::receive_from).
///
/// The server keeps what was taken by the name of a durable consumer. At most
/// [`UNACKNOWLEDGED_MAX`] messages of it are under way; that bounds what waits in memory, together
/// with the server's limit of a message's size. A message that can never be taken is published on
/// `poison.SUBJECT`, with its headers, the [reason](crate::REASON_HEADER), the
/// [subject](crate::SUBJECT_HEADER) and the [id](crate::ID_HEADER), and not delivered again. To take
/// one after a correction, publish it once more on its subject.
#[derive(Clone, Debug)]
pub struct NatsQueue {
    nats: Nats,
    subject: String,
    consumer: String,
    poison: String,
    unacknowledged_max: u16,
    acknowledge_within: Duration,
    id: NatsMessageId,
    source: MessageSource,
    creates_consumer: bool,
}

/// Source of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MessageSource {
    /// The subject of the queue, with its wildcards.
    Queue,
    /// The subject that the message was published on.
    Subject,
    /// The key that the outbox gave it.
    Key,
}

impl NatsQueue {
    pub(crate) fn new(nats: Nats, subject: String, consumer: String) -> Self {
        Self {
            nats,
            subject,
            consumer,
            poison: "poison".to_owned(),
            unacknowledged_max: UNACKNOWLEDGED_MAX,
            acknowledge_within: ACKNOWLEDGE_WITHIN,
            id: NatsMessageId::default(),
            source: MessageSource::Queue,
            creates_consumer: true,
        }
    }

    /// Sets how many messages may be under way, to all processes of the consumer together: 1 to
    /// 1,000.
    #[must_use]
    pub fn unacknowledged_max(self, messages: u16) -> Self {
        let most = u16::try_from(RECEIVED_MAX).unwrap_or(u16::MAX);
        Self { unacknowledged_max: messages.clamp(1, most), ..self }
    }

    /// Sets the time after which the server delivers a message again that was not acknowledged:
    /// because its process died, or is that slow. At least 1 s.
    #[must_use]
    pub fn acknowledge_within(self, time: Duration) -> Self {
        Self { acknowledge_within: time.max(Duration::from_secs(1)), ..self }
    }

    /// Sets where the id of a message is: senders that are no outbox may have it elsewhere.
    #[must_use]
    pub fn id(self, id: NatsMessageId) -> Self {
        Self { id, ..self }
    }

    /// Makes a source of every key ([`KEY_HEADER`](crate::KEY_HEADER)), named `SUBJECT/KEY`: order
    /// is kept within a key only, messages of different keys are taken side by side, and one that
    /// parks its source parks that key and no other. A key costs a stream of its own in the store.
    #[must_use]
    pub fn by_key(self) -> Self {
        Self { source: MessageSource::Key, ..self }
    }

    /// Makes a source of every subject, for a queue whose subject has wildcards.
    #[must_use]
    pub fn by_subject(self) -> Self {
        Self { source: MessageSource::Subject, ..self }
    }

    /// Sets the beginning of the subjects of dead letters: `poison` if it is not set.
    #[must_use]
    pub fn poison_to(self, prefix: impl Into<String>) -> Self {
        Self { poison: prefix.into(), ..self }
    }

    /// Uses the consumer as it is, which somebody else has created: its own limits hold. It has to
    /// be durable, pulled, and acknowledged one by one. Without this it is created, or changed to
    /// what is set here.
    #[must_use]
    pub fn existing_consumer(self) -> Self {
        Self { creates_consumer: false, ..self }
    }

    /// Subject of the dead letters of messages on a subject.
    fn poison_of(&self, subject: &str) -> String {
        format!("{}.{subject}", self.poison)
    }

    async fn consumer(
        &self,
        connection: &NatsConnection,
        stream: &str,
    ) -> Result<PullConsumer, NatsError> {
        let jetstream = &connection.jetstream;
        let consumer = if self.creates_consumer {
            let config = pull::Config {
                durable_name: Some(self.consumer.clone()),
                ack_policy: AckPolicy::Explicit,
                ack_wait: self.acknowledge_within,
                max_ack_pending: i64::from(self.unacknowledged_max),
                filter_subject: self.subject.clone(),
                ..pull::Config::default()
            };
            let created = jetstream.create_consumer_on_stream(config, stream).await;
            created.map_err(|error| with_causes(&error).to_string())
        } else {
            let found = jetstream.get_consumer_from_stream(&self.consumer, stream).await;
            found.map_err(|error| with_causes(&error).to_string())
        };
        consumer.map_err(|detail| self.unusable(stream, detail))
    }

    fn unusable(&self, stream: &str, detail: String) -> NatsError {
        NatsError::Consumer { stream: stream.to_owned(), consumer: self.consumer.clone(), detail }
    }

    fn arrival(&self, message: Message) -> Arrival<NatsHandle> {
        let header = |name: &str| {
            let headers = message.headers.as_ref()?;
            headers.get(name).map(|value| value.as_str().to_owned())
        };
        let id = match &self.id {
            NatsMessageId::MessageId => header(NATS_MESSAGE_ID.as_ref()),
            NatsMessageId::Header(name) => header(name),
            NatsMessageId::Sequence => message.info().ok().map(|at| {
                let published = at.published.unix_timestamp_nanos();
                format!("{}/{}/{published}", at.stream, at.stream_sequence)
            }),
        };
        let source = match self.source {
            MessageSource::Queue => None,
            MessageSource::Subject => Some(message.subject.to_string()),
            MessageSource::Key => header(KEY_HEADER).map(|key| {
                format!("{}/{}", self.subject, percent_decode_str(&key).decode_utf8_lossy())
            }),
        };
        let trace = header("traceparent")
            .and_then(|trace| TraceContext::parse(&trace, header("tracestate").as_deref()).ok());
        let payload = message.payload.clone();
        Arrival { source, id, payload, trace, handle: NatsHandle(message) }
    }
}

impl BrokerQueue for NatsQueue {
    type Session = NatsSession;

    fn name(&self) -> &str {
        &self.subject
    }

    async fn connect(&mut self) -> Result<NatsSession, NatsError> {
        let poison = self.poison_of(&self.subject);
        if matches(&self.subject, &poison.replace(['*', '>'], "x")) {
            return Err(NatsError::PoisonLoop { poison, subject: self.subject.clone() });
        }
        let connection = self.nats.servers.connect().await?;
        let streams = self.nats.streams.as_ref();
        let stream = stream_for(&connection, &self.subject, streams).await?;
        stream_for(&connection, &poison, streams).await?;
        let consumer = self.consumer(&connection, &stream).await?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(usize::from(self.unacknowledged_max))
            .heartbeat(HEARTBEAT)
            .expires(REQUEST)
            .messages()
            .await;
        let messages =
            messages.map_err(|error| self.unusable(&stream, with_causes(&error).to_string()))?;
        let (first, has_first) = (Vec::new(), false);
        Ok(NatsSession { connection, messages, first, has_first, queue: self.clone() })
    }
}

/// Connection of a receiver.
pub struct NatsSession {
    connection: NatsConnection,
    messages: pull::Stream,
    /// Messages that came first and were not asked for yet, the last of the stream first.
    first: Vec<Message>,
    /// True if all that came first is there.
    has_first: bool,
    queue: NatsQueue,
}

/// Message that is not acknowledged.
#[derive(Debug)]
pub struct NatsHandle(Message);

impl NatsSession {
    async fn settle(&self, message: &Message, kind: AckKind) -> Result<(), NatsError> {
        // What is handed over now would never go out.
        if self.connection.is_lost() {
            return Err(NatsError::Lost);
        }
        message.ack_with(kind).await.map_err(|_| NatsError::Lost)
    }

    /// Waits for the next message of the server. Cancel safe.
    async fn delivered(&mut self) -> Result<Message, NatsError> {
        let next = tokio::select! {
            next = self.messages.next() => next,
            () = self.connection.lost() => None,
        };
        match next {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => {
                let detail = with_causes(&error).to_string();
                Err(NatsError::NoJetStream { detail })
            }
            None => Err(NatsError::Lost),
        }
    }

    /// Gathers the messages that come first and puts them in order: what was given back comes again
    /// before all others, and one that the server tried to deliver while nobody asked comes last.
    /// Cancel safe.
    async fn gather_first(&mut self) -> Result<(), NatsError> {
        while !self.has_first {
            match timeout(FIRST_WITHIN, self.delivered()).await {
                Ok(message) => self.first.push(message?),
                Err(_) => self.has_first = true,
            }
            self.has_first |= self.first.len() >= usize::from(self.queue.unacknowledged_max);
        }
        self.first.sort_by_key(|message| Reverse(place(message)));
        Ok(())
    }

    /// Messages that came and were not asked for yet.
    fn unread(&mut self) -> Vec<Message> {
        let mut unread = std::mem::take(&mut self.first);
        while let Some(Some(Ok(message))) = self.messages.next().now_or_never() {
            unread.push(message);
        }
        unread
    }
}

/// Number of a message in its stream.
fn place(message: &Message) -> u64 {
    message.info().map_or(0, |at| at.stream_sequence)
}

impl QueueSession for NatsSession {
    type Handle = NatsHandle;
    type Error = NatsError;

    async fn next(&mut self) -> Result<Arrival<NatsHandle>, NatsError> {
        if !self.has_first {
            self.gather_first().await?;
        }
        let message = match self.first.pop() {
            Some(message) => message,
            None => self.delivered().await?,
        };
        Ok(self.queue.arrival(message))
    }

    async fn acknowledge(&mut self, NatsHandle(message): NatsHandle) -> Result<(), NatsError> {
        self.settle(&message, AckKind::Ack).await
    }

    async fn dead_letter(
        &mut self,
        NatsHandle(message): NatsHandle,
        reason: &str,
    ) -> Result<(), NatsError> {
        let subject = self.queue.poison_of(&message.subject);
        let letter = PublishMessage::build()
            .headers(dead_letter_headers(&message, reason))
            .payload(message.payload.clone());
        let refused = |error| publish_error(&self.connection, &subject, &error);
        let sent = self.connection.jetstream.send_publish(subject.clone(), letter).await;
        sent.map_err(refused)?.await.map_err(refused)?;
        self.settle(&message, AckKind::Term).await
    }

    /// Messages go back at once and in their order: the receiver waits before it asks again.
    async fn give_back(mut self, handles: Vec<NatsHandle>, _: Duration) {
        let mut messages: Vec<Message> = handles.into_iter().map(|handle| handle.0).collect();
        messages.extend(self.unread());
        messages.sort_by_key(place);
        // The server hears first that nothing is asked for any more, or it would send them here.
        let Self { connection, messages: asked, .. } = self;
        drop(asked);
        for message in &messages {
            if connection.is_lost() || message.ack_with(AckKind::Nak(None)).await.is_err() {
                return;
            }
        }
        // Also what was acknowledged before goes out now. If not, it comes again.
        let _ = connection.client.flush().await;
    }
}

/// Headers of a dead letter: those of the message, and why it is one. An id of its own, since the
/// id of the message may be none, or that of another message.
fn dead_letter_headers(message: &Message, reason: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        // What the server was asked to do with the message holds for the message.
        let of_server: &str = name.as_ref();
        if !of_server.starts_with("Nats-") {
            values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
        }
    }
    if let Ok(at) = message.info() {
        let id = format!("poison/{}/{}/{}", at.stream, at.consumer, at.stream_sequence);
        headers.insert(NATS_MESSAGE_ID, HeaderValue::from(&*id));
    }
    if let Some(id) = message.headers.as_ref().and_then(|all| all.get(NATS_MESSAGE_ID)) {
        headers.insert(ID_HEADER, id.clone());
    }
    headers.insert(SUBJECT_HEADER, HeaderValue::from(message.subject.as_str()));
    headers.insert(REASON_HEADER, HeaderValue::from(&*in_one_line(reason)));
    headers
}

fn in_one_line(text: &str) -> String {
    let mut line = text.replace(|part: char| part.is_control(), " ");
    // The start of a text is a boundary.
    let end = (0..=REASON_BYTES_MAX.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    line.truncate(end.unwrap_or(0));
    line
}
