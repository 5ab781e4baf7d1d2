//! What a message carries beside its bytes.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use leftfold_core::runtime::projection::Message;
use leftfold_core::store::TraceContext;

/// Header with the key of a message: the messages that it must stay in order with.
pub const KEY_HEADER: &str = "leftfold-key";
/// Header with the position of the event that a message follows from, in the store of its sender.
pub const POSITION_HEADER: &str = "leftfold-position";
/// Header of a dead letter with the reason, for people.
pub const REASON_HEADER: &str = "leftfold-reason";
/// Header of a dead letter with the name of the queue that it came from.
pub const QUEUE_HEADER: &str = "leftfold-queue";

/// Delivery mode of messages that are kept on the disk.
const PERSISTENT: u8 = 2;

/// Returns the properties of a message of an outbox.
pub(crate) fn of_message(message: &Message) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(name(KEY_HEADER), text(&message.key));
    let position = i64::try_from(message.sequence.0).unwrap_or(i64::MAX);
    headers.insert(name(POSITION_HEADER), AMQPValue::LongLongInt(position));
    BasicProperties::default()
        .with_message_id(name(&message.id.to_string()))
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}

/// Returns the properties of a message as a dead letter: all that it had, and why it is one. It
/// does not expire.
pub(crate) fn of_dead_letter(
    properties: &BasicProperties,
    queue: &str,
    reason: &str,
) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(name(REASON_HEADER), text(reason));
    headers.insert(name(QUEUE_HEADER), text(queue));
    let kept = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
    let kept = match properties.message_id() {
        Some(id) => kept.with_message_id(id.clone()),
        None => kept,
    };
    let kept = match properties.correlation_id() {
        Some(id) => kept.with_correlation_id(id.clone()),
        None => kept,
    };
    let kept = match properties.content_type() {
        Some(content_type) => kept.with_content_type(content_type.clone()),
        None => kept,
    };
    match properties.kind() {
        Some(kind) => kept.with_type(kind.clone()),
        None => kept,
    }
}

/// Returns a header that is a text or a number, as a text.
pub(crate) fn header(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        AMQPValue::LongLongInt(number) => Some(number.to_string()),
        AMQPValue::LongInt(number) => Some(number.to_string()),
        AMQPValue::LongUInt(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns the trace that a message is part of, by the headers of W3C.
pub(crate) fn trace(properties: &BasicProperties) -> Option<TraceContext> {
    let parent = header(properties, "traceparent")?;
    TraceContext::parse(&parent, header(properties, "tracestate").as_deref()).ok()
}

/// Our own names and ids are short.
fn name(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
