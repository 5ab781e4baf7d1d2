//! The names and numbers of the store: positions, versions, ids, and the texts that name streams,
//! types and tags.

use std::fmt;
use std::ops::Deref;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Invalid;
use super::limits::{LABEL_BYTES_MAX, STREAM_BYTES_MAX, TAG_BYTES_MAX, TYPE_BYTES_MAX};

/// The place of an event in the store's order. The first event has position 1; 0 is "before
/// everything".
///
/// Gapless on the embedded log. Opaque to applications: compare it, keep it, do not compute with
/// it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// Before every event.
    pub const START: Self = Self(0);
    /// After every event that can be.
    pub const END: Self = Self(u64::MAX);

    /// The position that follows this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The version of a stream: the number of events in it. 0 means that the stream does not exist; its
/// first event has version 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The version of a stream that does not exist.
    pub const ABSENT: Self = Self(0);
    /// Beyond the last event of any stream.
    pub const END: Self = Self(u64::MAX);

    /// The version after one more event.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of one store, drawn at random when it is created. A copy keeps it; see
/// [`Epoch`](super::Epoch).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreId(pub Uuid);

impl StoreId {
    /// Draws a new identity.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A hash of the store's history up to some position: BLAKE3 in the embedded log, SHA-256 in a
/// database.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of an empty history.
    pub const EMPTY: Self = Self([0; 32]);
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The id of one event. The store mints a UUIDv7 if the caller brings none; an id that a caller
/// brings is kept and can be looked up, but is not promised to be unique in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub Uuid);

impl EventId {
    /// The id that a store mints for the event at `position`: a UUIDv7 (RFC 9562 section 5.7) of
    /// the recorded millisecond, the store and the position. It is a function of what is stored
    /// anyway, so it costs no bytes. A store that was restored from a copy puts another id in the
    /// place of its own, one for each epoch.
    #[must_use]
    pub fn minted(store: StoreId, position: Position, recorded_at: super::Timestamp) -> Self {
        let (store_high, store_low) = store.0.as_u64_pair();
        // A bijection of the position keeps ids of one store distinct; the store's own bits keep
        // stores apart.
        let mixed = mix(position.0 ^ store_low);
        let random = ((u128::from(store_high & 0x3ff)) << 64) | u128::from(mixed);
        let millis =
            u128::from(recorded_at.as_micros().max(0).cast_unsigned() / 1_000) & ((1 << 48) - 1);
        let rand_a = (random >> 62) & 0xfff;
        let rand_b = random & ((1 << 62) - 1);
        Self(Uuid::from_u128(millis << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b))
    }
}

impl EventId {
    /// Returns the millisecond that a UUIDv7 tells. For a minted id it is that of its recording: an
    /// event that was copied into another store with its id still tells when it was first recorded.
    /// `None` for an id of another kind.
    #[must_use]
    pub fn moment(self) -> Option<super::Timestamp> {
        let millis = i64::try_from(self.0.as_u128() >> 80).ok()?;
        (self.0.get_version_num() == 7)
            .then(|| super::Timestamp::from_micros(millis.saturating_mul(1_000)))
    }
}

impl EventId {
    /// An id for something that follows from the event, for the world outside: an idempotency key,
    /// the id of a message.
    ///
    /// It is made of this id and nothing else, so it is the same after any number of crashes, and
    /// in a copy of the store, which keeps the ids of events. It never comes again after a declared
    /// restore: an event that takes the position of a lost one is of another epoch, which is part
    /// of a minted id. A caller that brings its own ids has to bring each one once.
    #[must_use]
    pub fn derived(self, what: &str) -> Uuid {
        Uuid::new_v5(&self.0, what.as_bytes())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The 64-bit finalizer of SplitMix64: a bijection that spreads neighbouring numbers.
const fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Names one request: 16 bytes drawn from a scope (the caller's identity and route) and a key that
/// the caller chose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub [u8; 16]);

/// Context from which command ids are derived.
const COMMAND_IDS: &str = "leftfold command id v1";
/// Prefixes of the scopes of the runtime's own requests.
const RUNTIME_SCOPES: [&str; 4] = ["$process:", "$inbox:", "$personal", "$schedule:"];

impl CommandId {
    /// The id of `key` within `scope`. The same pair gives the same id for ever; scopes do not
    /// overlap.
    ///
    /// A scope that begins like one of the runtime's (`$process:`, `$inbox:`, `$personal`,
    /// `$schedule:`) is another scope than the runtime's of that name: a caller that sends such a
    /// pair cannot make the runtime believe that its own command was carried out.
    #[must_use]
    pub fn new(scope: &str, key: &str) -> Self {
        let is_of_runtime = RUNTIME_SCOPES.iter().any(|prefix| scope.starts_with(prefix));
        let context =
            if is_of_runtime { "leftfold command id of an application v1" } else { COMMAND_IDS };
        Self::derived(context, scope, key)
    }

    /// The id of one of the runtime's own requests. Stores have them as they were always derived.
    pub(crate) fn of_runtime(scope: &str, key: &str) -> Self {
        assert!(
            RUNTIME_SCOPES.iter().any(|prefix| scope.starts_with(prefix)),
            "{scope} must be kept from applications"
        );
        Self::derived(COMMAND_IDS, scope, key)
    }

    fn derived(context: &str, scope: &str, key: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&(scope.len() as u64).to_le_bytes());
        hasher.update(scope.as_bytes());
        hasher.update(key.as_bytes());
        Self(first_half(hasher.finalize()))
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A digest of the request that came under a command id, so that other bytes under the same id are
/// noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// Stands for a request whose bytes are not checked. No request bytes have it.
    pub const UNCHECKED: Self = Self([0; 16]);

    /// The digest of a caller's own request bytes.
    #[must_use]
    pub fn of(request: &[u8]) -> Self {
        Self(first_half(blake3::hash(request)))
    }
}

fn first_half(hash: blake3::Hash) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    half
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $bytes_max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(ByteString);

        impl $name {
            #[doc = concat!("Takes a text as ", $what, ".")]
            ///
            /// Refused are the empty text and one beyond its limit of bytes.
            pub fn new(text: impl Into<ByteString>) -> Result<Self, Invalid> {
                let text = text.into();
                match text.len() {
                    0 => Err(Invalid::Empty { what: $what }),
                    bytes if bytes > $bytes_max => {
                        Err(Invalid::TooLarge { what: $what, size: bytes, limit: $bytes_max })
                    }
                    _ => Ok(Self(text)),
                }
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Returns the text, which shares its memory.
            #[must_use]
            pub fn to_shared(&self) -> ByteString {
                self.0.clone()
            }

            /// The same text in memory of its own.
            #[must_use]
            pub(crate) fn detached(&self) -> Self {
                Self(ByteString::from(self.as_str().to_owned()))
            }

            /// Tells whether the name is one of the runtime's own (`$…`), which are outside "all
            /// events".
            #[must_use]
            pub fn is_system(&self) -> bool {
                self.0.starts_with('$')
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = Invalid;
            fn try_from(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }
    };
}

text! {
    /// The name of a stream: the events of one aggregate, `category-id` by convention. Any UTF-8
    /// text.
    StreamName, "a stream name", STREAM_BYTES_MAX
}
text! {
    /// The type of an event: `namespace.Variant`, for example `rover.MovedForward`.
    EventType, "an event type", TYPE_BYTES_MAX
}
text! {
    /// A tag on an event: any UTF-8 text, `key:value` by convention.
    Tag, "a tag", TAG_BYTES_MAX
}
text! {
    /// A short text: a correlation or causation id, a content type, a key id, a consumer's or a
    /// partition's name.
    Label, "a label", LABEL_BYTES_MAX
}

impl StreamName {
    /// The stream of one aggregate. A category has no `-`, so the first one ends it.
    pub fn of(category: &str, id: &str) -> Result<Self, Invalid> {
        if category.is_empty() || category.contains('-') {
            return Err(Invalid::Category { category: category.to_owned() });
        }
        if id.is_empty() {
            return Err(Invalid::Empty { what: "an aggregate's id" });
        }
        Self::new(format!("{category}-{id}"))
    }

    /// Returns the part before the first `-`, or the whole name if it has none.
    #[must_use]
    pub fn category(&self) -> &str {
        self.split_once('-').map_or(self.as_str(), |(category, _)| category)
    }

    /// Returns the part after the first `-`, or the empty text if the name has none.
    #[must_use]
    pub fn id(&self) -> &str {
        self.split_once('-').map_or("", |(_, id)| id)
    }
}

/// The tags of one event, without repetition, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<Tag>);

impl Tags {
    /// No tag.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Adds a tag, unless it is there. A text that is no tag (empty, or too long) is kept out of
    /// the store by the append that carries it, so that events can tag themselves without a
    /// `Result`.
    #[must_use]
    pub fn with(mut self, tag: impl Into<ByteString>) -> Self {
        self.insert(Tag(tag.into()));
        self
    }

    pub(crate) fn detached(&self) -> Self {
        Self(self.0.iter().map(Tag::detached).collect())
    }

    /// Adds a tag, unless it is there.
    pub fn insert(&mut self, tag: Tag) {
        if !self.0.contains(&tag) {
            self.0.push(tag);
        }
    }

    /// The tags.
    #[must_use]
    pub fn as_slice(&self) -> &[Tag] {
        &self.0
    }
}

impl FromIterator<Tag> for Tags {
    fn from_iter<I: IntoIterator<Item = Tag>>(tags: I) -> Self {
        let mut all = Self::none();
        tags.into_iter().for_each(|tag| all.insert(tag));
        all
    }
}

impl Deref for Tags {
    type Target = [Tag];
    fn deref(&self) -> &[Tag] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Tags {
    type Item = &'a Tag;
    type IntoIter = std::slice::Iter<'a, Tag>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Timestamp;

    #[test]
    fn a_command_id_keeps_scopes_apart() {
        assert_ne!(CommandId::new("ab", "c"), CommandId::new("a", "bc"));
        assert_eq!(CommandId::new("api", "1"), CommandId::new("api", "1"));
        assert_ne!(CommandId::new("$process:p", "1"), CommandId::new("$process:", "p1"));
    }

    #[test]
    fn a_minted_id_is_a_uuid_of_version_7_and_its_own_for_every_position() {
        let store = StoreId::random();
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        let ids: std::collections::HashSet<_> =
            (1..10_000).map(|p| EventId::minted(store, Position(p), at)).collect();
        assert_eq!(ids.len(), 9_999);
        assert_eq!(EventId(Uuid::from_u128(7)).moment(), None);
        for id in ids {
            assert_eq!(id.0.get_version_num(), 7);
            assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
            assert_eq!(id.moment(), Some(Timestamp::from_micros(1_700_000_000_123_000)));
        }
    }

    #[test]
    fn a_category_ends_at_the_first_dash() {
        let stream = StreamName::of("station", "CP-1").unwrap();
        assert_eq!((stream.category(), stream.id()), ("station", "CP-1"));
        assert!(matches!(StreamName::of("sta-tion", "1"), Err(Invalid::Category { .. })));
        assert!(matches!(StreamName::of("station", ""), Err(Invalid::Empty { .. })));
    }

    /// An application could give one of its own requests the id of a process's next command, which
    /// then counted as carried out. The ids that stores have stay what they are.
    #[test]
    fn no_application_names_a_request_of_the_runtime() {
        let runtime = CommandId::of_runtime;
        let ids = [
            runtime("$process:transfer", "1 0 t1"),
            runtime("$inbox:mails", "1 s m"),
            CommandId::new("$other", "1"),
        ];
        let kept = [
            "fbfba701-d0bd-4db5-97bd-073c599f122d",
            "7fe35294-09c3-45b6-88bc-16532f9b9775",
            "d06a7b92-4681-a10f-4c1e-4d5a726aa268",
        ];
        assert_eq!(ids.map(|id| id.to_string()), kept);
        for (scope, key) in
            [("$process:transfer", "1 0 t1"), ("$inbox:mails", "1 s m"), ("$personal", "1")]
        {
            assert_ne!(CommandId::new(scope, key), runtime(scope, key));
        }
    }
}
