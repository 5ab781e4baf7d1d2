//! The bus of an outbox: messages into streams, each confirmed.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use async_nats::header::{HeaderMap, HeaderValue};
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Error as ServerAnswer, ErrorCode};
use futures_util::future::try_join_all;
use leftfold_core::runtime::projection::{Bus, Message, ProjectionError, with_causes};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::servers::{CONFIRM_WITHIN, NatsConnection};
use crate::streams::{is_concrete, stream_for, stream_of};
use crate::{Nats, NatsError};

/// Header with the key of a message, the messages that it must stay in order with: percent-encoded
/// where it has control characters or `%`.
pub const KEY_HEADER: &str = "leftfold-key";
/// Header with the position of the event that a message follows from, in the store of its sender.
pub const POSITION_HEADER: &str = "leftfold-position";

/// Messages that wait for confirmation at a time.
const UNCONFIRMED_MAX: usize = 256;
/// Time for which messages of one transaction wait for those of their key. What a slow server has
/// not taken by then goes without waiting, since the transaction has to come to its end.
const IN_ORDER_WITHIN: Duration = Duration::from_secs(15);

const NOT_IN_HEADERS: &AsciiSet = &CONTROLS.add(b'%');

/// The bus of an outbox: see [`Nats::bus`].
#[derive(Debug)]
pub struct NatsBus {
    nats: Nats,
    connection: Option<NatsConnection>,
}

impl NatsBus {
    pub(crate) fn new(nats: Nats) -> Self {
        Self { nats, connection: None }
    }

    async fn connection(&mut self) -> Result<NatsConnection, NatsError> {
        if let Some(connection) = self.connection.take().filter(|before| !before.is_lost()) {
            return Ok(connection);
        }
        self.nats.servers.connect().await
    }

    /// Sends messages in their order: one goes out when those of its key before it are confirmed.
    async fn send(
        &self,
        connection: &NatsConnection,
        messages: &[Message],
    ) -> Result<(), NatsError> {
        if let Some(wrong) = messages.iter().find(|message| !is_concrete(&message.destination)) {
            return Err(NatsError::Subject { subject: wrong.destination.clone() });
        }
        let began = Instant::now();
        let (mut from, mut keys) = (0, HashSet::new());
        for (at, message) in messages.iter().enumerate() {
            let is_behind = !keys.insert(&*message.key) && began.elapsed() < IN_ORDER_WITHIN;
            if is_behind || at - from == UNCONFIRMED_MAX {
                self.send_together(connection, &messages[from..at]).await?;
                from = at;
                keys.clear();
                keys.insert(&*message.key);
            }
        }
        self.send_together(connection, &messages[from..]).await
    }

    async fn send_together(
        &self,
        connection: &NatsConnection,
        messages: &[Message],
    ) -> Result<(), NatsError> {
        let mut sent = Vec::with_capacity(messages.len());
        for message in messages {
            let ack = publish(connection, message).await?;
            sent.push(self.confirmed(connection, message, ack));
        }
        tokio::select! {
            confirmed = try_join_all(sent) => confirmed.map(drop),
            () = connection.lost() => Err(NatsError::Lost),
        }
    }

    async fn confirmed(
        &self,
        connection: &NatsConnection,
        message: &Message,
        ack: PublishAckFuture,
    ) -> Result<(), NatsError> {
        let Err(error) = ack.await else { return Ok(()) };
        if error.kind() != PublishErrorKind::StreamNotFound {
            return Err(publish_error(connection, &message.destination, &error));
        }
        // Nobody listens: because there is no stream, or because it has no leader.
        let (subject, options) = (&*message.destination, self.nats.streams.as_ref());
        if let Some(stream) = stream_of(connection, subject).await? {
            return Err(NatsError::NoLeader { stream });
        }
        stream_for(connection, subject, options).await?;
        let ack = publish(connection, message).await?;
        ack.await.map(drop).map_err(|error| publish_error(connection, subject, &error))
    }
}

impl Bus for NatsBus {
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
        let connection = self.connection().await?;
        let sent = self.send(&connection, &messages).await;
        // Dropped, too, if this is: what was not confirmed is not known.
        if !sent.as_ref().is_err_and(NatsError::ends_connection) {
            self.connection = Some(connection);
        }
        Ok(sent?)
    }

    fn is_away(error: &ProjectionError) -> bool {
        error.downcast_ref::<NatsError>().is_none_or(NatsError::is_away)
    }
}

async fn publish(
    connection: &NatsConnection,
    message: &Message,
) -> Result<PublishAckFuture, NatsError> {
    let key = utf8_percent_encode(&message.key, NOT_IN_HEADERS).to_string();
    let mut headers = HeaderMap::new();
    headers.insert(KEY_HEADER, HeaderValue::from(&*key));
    headers.insert(POSITION_HEADER, HeaderValue::from(message.sequence.0));
    let publish = PublishMessage::build()
        .headers(headers)
        .message_id(message.id.to_string())
        .payload(message.payload.clone());
    let sent = connection.jetstream.send_publish(message.destination.clone(), publish).await;
    sent.map_err(|error| publish_error(connection, &message.destination, &error))
}

/// Returns the error for a message that was not confirmed.
pub(crate) fn publish_error(
    connection: &NatsConnection,
    subject: &str,
    error: &PublishError,
) -> NatsError {
    let (subject, detail) = (subject.to_owned(), with_causes(error).to_string());
    match error.kind() {
        PublishErrorKind::StreamNotFound => NatsError::NoStream { subject },
        PublishErrorKind::MaxPayloadExceeded => NatsError::TooLarge { subject, detail },
        PublishErrorKind::TimedOut => {
            NatsError::Unconfirmed { subject, within: CONFIRM_WITHIN, said: connection.complaint() }
        }
        PublishErrorKind::BrokenPipe => NatsError::Lost,
        _ => match answer_of(error) {
            Some(
                ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM
                | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM,
            ) => NatsError::TooLarge { subject, detail },
            Some(ErrorCode::STREAM_SEALED) => NatsError::Sealed { subject, detail },
            Some(_) => NatsError::Refused { subject, detail },
            None if connection.is_lost() => NatsError::Lost,
            None => NatsError::Refused { subject, detail },
        },
    }
}

/// Returns the code that the server answered with, if it answered.
fn answer_of(error: &PublishError) -> Option<ErrorCode> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<ServerAnswer>().map(ServerAnswer::error_code)
}
