//! Errors as clients of this protocol understand them: by their code, their text, and what stands
//! in the metadata behind it.

use std::fmt::Write;

use leftfold::store::{AppendError, ReadError};
use leftfold_protocol::read_status;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use super::expected::ExpectedRevision;

/// Key of the name of an error.
const NAME: &str = "exception";

/// An error with a name, and the values that belong to it.
pub(super) fn named(
    code: Code,
    text: String,
    name: &'static str,
    values: &[(&'static str, &str)],
) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(NAME, MetadataValue::from_static(name));
    for (key, value) in values {
        if let Ok(value) = MetadataValue::try_from(printable(value)) {
            metadata.insert(*key, value);
        }
    }
    Status::with_metadata(code, text, metadata)
}

/// The text in the characters that metadata can have; the others are percent-encoded.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') {
            printable.push(byte.into());
        } else {
            let _ = write!(printable, "%{byte:02X}");
        }
    }
    printable
}

pub(super) fn access_denied() -> Status {
    named(Code::PermissionDenied, "Access Denied".to_owned(), "access-denied", &[])
}

pub(super) fn stream_deleted(stream: &str) -> Status {
    let text = format!("Event stream '{stream}' is deleted.");
    named(Code::FailedPrecondition, text, "stream-deleted", &[("stream-name", stream)])
}

/// `operation` is the word for it that their server uses.
pub(super) fn wrong_expected_version(
    operation: &str,
    stream: &str,
    expected: ExpectedRevision,
    current: Option<u64>,
) -> Status {
    let expected = expected.number().to_string();
    let actual = current.map_or_else(|| "-1".to_owned(), |current| current.to_string());
    let text = format!(
        "{operation} failed due to WrongExpectedVersion. Stream: {stream}, Expected version: \
         {expected}, Actual version: {actual}"
    );
    let values =
        [("stream-name", stream), ("expected-version", &*expected), ("actual-version", &*actual)];
    named(Code::FailedPrecondition, text, "wrong-expected-version", &values)
}

pub(super) fn append_too_large(limit: usize) -> Status {
    let text = format!("Maximum Append Size of {limit} Exceeded.");
    let limit = limit.to_string();
    let name = "maximum-append-size-exceeded";
    named(Code::InvalidArgument, text, name, &[("maximum-append-size", &limit)])
}

pub(super) fn metadata_missing(property: &str) -> Status {
    let text = format!("Required Metadata Property '{property}' is missing");
    let values = [("required-metadata-properties", "type,content-type")];
    named(Code::InvalidArgument, text, "missing-required-metadata-property", &values)
}

/// Names of the values of errors about persistent subscriptions.
fn of_group<'a>(stream: &'a str, group: &'a str) -> [(&'static str, &'a str); 2] {
    [("stream-name", stream), ("group-name", group)]
}

pub(super) fn group_missing(stream: &str, group: &str) -> Status {
    let text = format!("Subscription group {group} on stream {stream} does not exist.");
    let name = "persistent-subscription-does-not-exist";
    named(Code::NotFound, text, name, &of_group(stream, group))
}

pub(super) fn group_exists(stream: &str, group: &str) -> Status {
    let text = format!("Subscription group {group} on stream {stream} exists.");
    let name = "persistent-subscription-exists";
    named(Code::AlreadyExists, text, name, &of_group(stream, group))
}

pub(super) fn group_dropped(stream: &str, group: &str) -> Status {
    let text = format!("Subscription group {group} on stream {stream} was dropped.");
    named(Code::Cancelled, text, "persistent-subscription-dropped", &of_group(stream, group))
}

pub(super) fn group_is_full(stream: &str, group: &str) -> Status {
    let text =
        format!("Maximum subscriptions reached for subscription group {group} on stream {stream}.");
    let name = "maximum-subscribers-reached";
    named(Code::FailedPrecondition, text, name, &of_group(stream, group))
}

pub(super) fn group_failed(stream: &str, group: &str, reason: &str) -> Status {
    let text = format!("Subscription group {group} on stream {stream} failed: '{reason}'");
    let [stream, group] = of_group(stream, group);
    let values = [stream, group, ("reason", reason)];
    named(Code::Internal, text, "persistent-subscription-failed", &values)
}

pub(super) fn unread(error: ReadError) -> Status {
    read_status(&error)
}

/// The status of an append that the store did not judge.
pub(super) fn unappended(error: AppendError) -> Status {
    let text = error.to_string();
    match error {
        AppendError::Invalid(_) => Status::invalid_argument(text),
        AppendError::Busy { .. } => Status::unavailable("Server Is Too Busy"),
        AppendError::Unavailable { .. } | AppendError::Closed => Status::unavailable(text),
        AppendError::Full { .. } => Status::resource_exhausted(text),
        AppendError::Denied { .. } => access_denied(),
        AppendError::Read(error) => read_status(&error),
        // Whether it is stored is not known: their clients take this for a time-out.
        AppendError::Unknown { .. } => Status::aborted(format!("Operation timed out: {text}")),
        _ => Status::unknown(text),
    }
}

pub(super) fn is_stopping() -> Status {
    Status::unavailable("the server is stopping")
}
