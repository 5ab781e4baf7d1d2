//! Names of streams and event types: what clients of this protocol write, and what the store keeps.
//!
//! Names that begin with `$` are the runtime's own in a store, and ordinary here (`$$order-1`,
//! `$metadata`, `$>`). So a name in which `$` follows any number of `~`, none included, gets one
//! more `~` in front: `$metadata` is kept as `~$metadata`, `~$x` as `~~$x`. Every other name is
//! kept as it is, and no name of a client is ever the store's own.

use std::borrow::Cow;

use leftfold::store::limits::STREAM_BYTES_MAX;
use leftfold::store::{EventType, StreamName};
use tonic::Status;

use super::wire::StreamIdentifier;
use crate::groups::GroupName;

/// Type of the events that link to another one.
pub(super) const LINK_TYPE: &str = "$>";
/// Type of the metadata of a stream.
pub(super) const METADATA_TYPE: &str = "$metadata";
/// Type of the last event of a stream that was deleted for ever.
pub(super) const DELETED_TYPE: &str = "$streamDeleted";
/// Start of the name of the stream that has another one's metadata.
pub(super) const METADATA_STREAM: &str = "$$";
/// Name under which the events without a stream are shown among all events.
pub(super) const STREAMLESS: &str = "$streamless";
/// Start of the name of a stream with parked events, before that of their subscription.
const PARKED_START: &str = "$persistentsubscription-";
/// End of the name of a stream with parked events.
const PARKED_END: &str = "-parked";
/// Start of the names of groups that are persistent subscriptions.
const GROUPS: &str = "kurrent:";
/// Bytes of a name: its metadata stream must have a name too.
const NAME_BYTES_MAX: usize = STREAM_BYTES_MAX - METADATA_STREAM.len() - 1;

/// Returns the name under which the store keeps a client's name.
pub(super) fn stored(shown: &str) -> Cow<'_, str> {
    if shown.trim_start_matches('~').starts_with('$') {
        format!("~{shown}").into()
    } else {
        shown.into()
    }
}

/// Returns the name that clients see.
pub(super) fn shown(stored: &str) -> &str {
    match stored.strip_prefix('~') {
        Some(shown) if shown.trim_start_matches('~').starts_with('$') => shown,
        _ => stored,
    }
}

/// Returns the type that the store keeps.
pub(super) fn stored_type(shown: &str) -> Result<EventType, Status> {
    EventType::new(stored(shown).into_owned())
        .map_err(|invalid| Status::invalid_argument(invalid.to_string()))
}

/// A type that this room writes itself.
pub(super) fn own_type(shown: &'static str) -> EventType {
    EventType::new(format!("~{shown}")).expect("the types of this room are short")
}

/// A stream, as clients name it and as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedStream {
    pub(super) shown: String,
    pub(super) name: StreamName,
}

impl NamedStream {
    /// Reads the name in a request.
    pub(super) fn of(identifier: Option<StreamIdentifier>) -> Result<Self, Status> {
        let bytes = identifier.unwrap_or_default().stream_name;
        let text = String::from_utf8(bytes.to_vec())
            .map_err(|_| Status::invalid_argument("the name of a stream is UTF-8"))?;
        Self::named(text)
    }

    pub(super) fn named(shown: String) -> Result<Self, Status> {
        if shown.len() > NAME_BYTES_MAX {
            let text = format!("the name of a stream has {NAME_BYTES_MAX} bytes at most");
            return Err(Status::invalid_argument(text));
        }
        if let Some(group) = parked_in(&shown) {
            return Ok(Self { name: group.parked_stream(), shown });
        }
        let name = StreamName::new(stored(&shown).into_owned())
            .map_err(|invalid| Status::invalid_argument(invalid.to_string()))?;
        Ok(Self { shown, name })
    }

    /// The stream that has the metadata of this one.
    pub(super) fn metadata(&self) -> StreamName {
        let shown = format!("{METADATA_STREAM}{}", self.shown);
        StreamName::new(stored(&shown).into_owned())
            .expect("a name is short enough for that of its metadata")
    }

    /// Tells whether the stream has the metadata of another one.
    pub(super) fn is_metadata(&self) -> bool {
        self.shown.starts_with(METADATA_STREAM)
    }

    /// The stream whose metadata this one has, or this one.
    pub(super) fn owner(&self) -> Self {
        let of = self.shown.strip_prefix(METADATA_STREAM).map(str::to_owned);
        of.and_then(|of| Self::named(of).ok()).unwrap_or_else(|| self.clone())
    }

    pub(super) fn identifier(&self) -> StreamIdentifier {
        identifier(&self.shown)
    }
}

/// Returns the name of the group that is a persistent subscription, which is named by its stream,
/// `::`, and its own name. A long one is shortened to a hash.
pub(super) fn group_name(subscription: &str) -> GroupName {
    GroupName::new(&format!("{GROUPS}{subscription}")).unwrap_or_else(|_| {
        let hash = blake3::hash(subscription.as_bytes()).to_hex();
        GroupName::new(&format!("{GROUPS}#{hash}")).expect("a hash is short")
    })
}

/// Returns the group whose parked events are in a stream; `None` if it has no such events.
pub(super) fn parked_in(shown: &str) -> Option<GroupName> {
    let subscription = shown.strip_prefix(PARKED_START)?.strip_suffix(PARKED_END)?;
    subscription.contains("::").then(|| group_name(subscription))
}

/// Returns the name, as clients see it, of the stream with the parked events of a group.
pub(super) fn parked_stream(group: &str) -> String {
    format!("{PARKED_START}{}{PARKED_END}", group.strip_prefix(GROUPS).unwrap_or(group))
}

pub(super) fn identifier(shown: &str) -> StreamIdentifier {
    StreamIdentifier { stream_name: shown.to_owned().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_as_it_is_unless_it_could_be_the_stores_own() {
        for (client, kept) in [
            ("order-1", "order-1"),
            ("with spaces and ünïcode", "with spaces and ünïcode"),
            ("$$order-1", "~$$order-1"),
            ("$>", "~$>"),
            ("~$x", "~~$x"),
            ("~~$", "~~~$"),
            ("~x", "~x"),
            ("~", "~"),
            ("a$", "a$"),
        ] {
            assert_eq!((&*stored(client), shown(kept)), (kept, client));
            assert!(!kept.starts_with('$'));
        }
    }

    #[test]
    fn the_streams_of_parked_events_are_those_of_their_groups() {
        let shown = "$persistentsubscription-order-1::billing-parked";
        let parked = NamedStream::named(shown.to_owned()).unwrap();
        assert_eq!(&*parked.name, "$group:parked-kurrent:order-1::billing");
        assert_eq!(parked_stream("kurrent:order-1::billing"), shown);
        let of_none = NamedStream::named("$persistentsubscription-x-parked".to_owned()).unwrap();
        assert_eq!(&*of_none.name, "~$persistentsubscription-x-parked");
        let [one, other] = ["a", "b"].map(|end| group_name(&format!("{}{end}", "x".repeat(300))));
        assert!(one != other && one.as_str().starts_with("kurrent:#"));
    }

    #[test]
    fn the_longest_name_has_metadata_and_no_longer_one_is_a_name() {
        let longest = NamedStream::named("$".repeat(NAME_BYTES_MAX)).unwrap();
        assert_eq!(longest.metadata().len(), STREAM_BYTES_MAX);
        assert!(NamedStream::named("x".repeat(NAME_BYTES_MAX + 1)).is_err());
        assert!(NamedStream::named(String::new()).is_err());
        let broken = StreamIdentifier { stream_name: vec![0xff].into() };
        assert!(NamedStream::of(Some(broken)).is_err());
    }
}
