//! Errors of events, and of their metadata, that cannot be written or read.

use crate::json::JsonReadError;
use crate::panic::caught;
use crate::store::{EventType, Invalid, Position, RecordedEvent};

/// Error of an event that cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The type is not what serde calls an externally tagged enum.
    #[error(
        "{name} cannot be events: use a plain enum, without #[serde(tag)], #[serde(untagged)] or a Deserialize of its own"
    )]
    NotAnEnum {
        /// Name of the Rust type.
        name: &'static str,
    },
    /// The value does not serialize as an externally tagged variant with named fields.
    #[error("{name} cannot be written: {what}")]
    Shape {
        /// Name of the Rust type.
        name: &'static str,
        /// Reason, for people.
        what: &'static str,
    },
    /// The value cannot be written, or would not be read as it was written. Nothing was recorded.
    #[error("{name} cannot be written: {detail}")]
    Encode {
        /// Name of the Rust type.
        name: &'static str,
        /// Place in the value, what would be lost, and what can be done.
        detail: String,
    },
    /// A fold panics at an event that was decided on. Nothing was recorded: no fold could read it
    /// again.
    #[error(
        "{name} cannot take {event_type}: its apply panics ({detail}); fix apply, or refuse the command in decide"
    )]
    Apply {
        /// The Rust type of the fold.
        name: &'static str,
        /// The event's type.
        event_type: EventType,
        /// Message of the panic.
        detail: String,
    },
    /// The stored data does not have the shape of its type.
    #[error(
        "the event at position {position} does not parse as {event_type} version {schema_version}: {detail}; add an upcaster"
    )]
    Decode {
        /// Position of the event.
        position: u64,
        /// Its stored type.
        event_type: EventType,
        /// Its stored schema version.
        schema_version: u32,
        /// Message of serde.
        detail: String,
    },
    /// The code that reads an event panics. The event is as it was recorded.
    #[error(
        "the event at position {position} cannot be read as {event_type} version {schema_version}: Deserialize of {name} \
         panics, fix it and read again: {detail}"
    )]
    DecodePanics {
        /// Name of the Rust type.
        name: &'static str,
        /// Position of the event.
        position: u64,
        /// Its stored type.
        event_type: EventType,
        /// Its stored schema version.
        schema_version: u32,
        /// Message of the panic.
        detail: String,
    },
    /// The fold does not know the type.
    #[error(
        "the event at position {position} has the unknown type {event_type}; add the variant, or let the fold ignore it"
    )]
    UnknownType {
        /// Position of the event.
        position: u64,
        /// Its stored type.
        event_type: EventType,
    },
    /// No upcaster leads from the stored schema version to today's.
    #[error(
        "the event at position {position} is {event_type} version {stored}, today's is {current}; add an upcaster or upgrade"
    )]
    SchemaVersion {
        /// Position of the event.
        position: u64,
        /// Its stored type.
        event_type: EventType,
        /// Its stored schema version.
        stored: u32,
        /// Schema version of today.
        current: u32,
    },
    /// An upcaster refused, or upcasters lead in a circle.
    #[error("the event at position {position} cannot be upcast from {event_type}: {detail}")]
    Upcast {
        /// Position of the event.
        position: u64,
        /// The type at which it failed.
        event_type: EventType,
        /// Reason, for people.
        detail: String,
    },
    /// The upcasters leave events unread. Nothing is read or written before they are corrected.
    #[error("the upcasters of {name} leave {event_type} version {schema_version} unread: {what}")]
    Upcasters {
        /// Name of the Rust type.
        name: &'static str,
        /// The stored type.
        event_type: &'static str,
        /// The stored schema version.
        schema_version: u32,
        /// Reason, for people.
        what: String,
    },
    /// Two enums, or two variants of one, say different things of one stored type.
    #[error("{name} and {other} do not agree on {event_type}: {what}")]
    Claimed {
        /// The stored type.
        event_type: EventType,
        /// Enum or variant that was to be used.
        name: String,
        /// Enum or variant that it does not agree with.
        other: String,
        /// Difference, for people.
        what: &'static str,
    },
    /// None of the owners that a view names has the type today.
    #[error(
        "{name} names owners, and none of them has a variant for {event_type} today; fix the name, or owners()"
    )]
    NotOwned {
        /// The Rust type of the view.
        name: &'static str,
        /// The stored type.
        event_type: EventType,
    },
    /// An event would be recorded through a view whose owner is not known. Nothing was recorded.
    #[error(
        "{name} has only a view of {event_type}, whose tags and schema version are its owner's: name it in owners()"
    )]
    NoOwner {
        /// The Rust type of the view.
        name: &'static str,
        /// The stored type.
        event_type: EventType,
    },
    /// Code of the application panics. Nothing was recorded.
    #[error("{place} of {name} panics, fix it and try again: {detail}")]
    Panicked {
        /// Name of the Rust type.
        name: &'static str,
        /// Name of the function.
        place: &'static str,
        /// Message of the panic.
        detail: String,
    },
    /// The tags of an event cannot be told. Nothing was recorded.
    #[error("{name} cannot tag {event_type}: tags() panics ({detail})")]
    Tags {
        /// Name of the Rust type.
        name: &'static str,
        /// The event's type.
        event_type: EventType,
        /// Message of the panic.
        detail: String,
    },
    /// A name that the type declares is no name, or it declares too many types.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl EventError {
    /// Returns what code of the application returns, or the error that it panics.
    pub(super) fn caught<N: ?Sized, T>(
        place: &'static str,
        run: impl FnOnce() -> T,
    ) -> Result<T, Self> {
        caught(run).map_err(|detail| Self::Panicked {
            name: std::any::type_name::<N>(),
            place,
            detail,
        })
    }

    /// Makes the error of a recorded event whose data is not read as a type.
    pub(super) fn unread<T>(recorded: &RecordedEvent, error: JsonReadError) -> Self {
        let (position, event_type, schema_version) =
            (recorded.position.0, recorded.event_type.clone(), recorded.schema_version);
        match error {
            JsonReadError::Json(error) => {
                Self::Decode { position, event_type, schema_version, detail: error.to_string() }
            }
            JsonReadError::Panicked(detail) => Self::DecodePanics {
                name: std::any::type_name::<T>(),
                position,
                event_type,
                schema_version,
                detail,
            },
        }
    }

    pub(super) fn claimed(
        event_type: &EventType,
        name: &str,
        other: &str,
        what: &'static str,
    ) -> Self {
        Self::Claimed {
            event_type: event_type.clone(),
            name: name.to_owned(),
            other: other.to_owned(),
            what,
        }
    }
}

/// Error of metadata that cannot be written, or cannot be read as the requested type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The type is not written as a JSON object. Nothing was recorded.
    #[error(
        "{name} cannot be metadata: it is not written as a JSON object, use a struct with named fields"
    )]
    NotAnObject {
        /// Name of the Rust type.
        name: &'static str,
    },
    /// The value cannot be written, or would not be read as it was written. Nothing was recorded.
    #[error("{name} cannot be written as metadata: {detail}")]
    Encode {
        /// Name of the Rust type.
        name: &'static str,
        /// Place in the value, what would be lost, and what can be done.
        detail: String,
    },
    /// The metadata of an event does not have the shape of the type.
    #[error(
        "the metadata of the event at position {position} does not parse as {name}: {detail}; \
         let fields that not every event has be Option, or have a default"
    )]
    Decode {
        /// Position of the event.
        position: Position,
        /// Name of the Rust type.
        name: &'static str,
        /// Message of serde.
        detail: String,
    },
    /// Headers, or a typed value, were to be added to bytes that are no JSON object. Nothing was
    /// recorded.
    #[error(
        "headers cannot be added to metadata that is not a JSON object, give either bytes or headers"
    )]
    Bytes,
    /// A name or the whole is beyond its limit.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}
