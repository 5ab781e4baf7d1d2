//! Events of users: externally tagged serde enums, their types in the store, and the way from one
//! to the other.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::owner::Owners;
use super::upcast::Upcasters;
use crate::store::{Label, RecordedEvent, Tags, Timestamp, Version};

/// The events of an aggregate or a decision, or the view that a consumer has of events of others.
///
/// An externally tagged serde enum (serde's default) whose variants have named fields, no fields,
/// or one struct. A variant is stored under `NAMESPACE.Variant`. A variant whose serde name has a
/// dot is stored under just that name: so a consumer's own enum names the events of others,
/// `#[serde(rename = "project.PointsWithdrawn")]`, with no more variants and fields than it reads.
/// That is a view; how old events are read, the schema version and the tags are those of the enum
/// that owns the type, see [`owners`](Event::owners).
///
/// Before an event is recorded it is written as JSON, read back, and must be what it was: what JSON
/// would blur is [`EventError::Encode`](super::EventError::Encode). That is so for a NaN or an
/// infinity, a `Some` that is written as null, an untagged variant that another one fits, a key
/// that an object has twice, a field that is left out and has no default, numbers of 128 bits
/// within `#[serde(tag)]`, `untagged` and `flatten`, and more than 120 arrays and objects within
/// each other. Nobody can see what serde is not told: fields with `#[serde(skip)]`, two untagged
/// variants that are written in the same way, a flattened `Option` or `Value` of which nothing is
/// written. `given`, of the testing kit, compares with `PartialEq`, and can.
///
/// ```
/// use leftfold_core::fold::{Event, Schema};
/// use leftfold_core::store::Tags;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// enum LoanEvent {
///     Lent { book: String, to: String },
///     Returned { book: String },
/// }
///
/// impl Event for LoanEvent {
///     const NAMESPACE: &'static str = "loan";
///
///     fn tags(&self) -> Tags {
///         let (Self::Lent { book, .. } | Self::Returned { book }) = self;
///         Tags::none().with(format!("book:{book}"))
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let returned = LoanEvent::Returned { book: "B7".to_owned() };
/// let stored = Schema::of::<LoanEvent>()?.encode(&returned)?;
/// assert_eq!(&*stored.event_type, "loan.Returned");
/// assert_eq!(stored.data, r#"{"book":"B7"}"#);
/// assert_eq!(&*stored.tags[0], "book:B7");
/// # Ok(()) }
/// ```
pub trait Event: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// Stands before the variant's name; two aggregates may both have a `Created`.
    const NAMESPACE: &'static str;

    /// Returns the tags by which the event can be found: they depend on the event alone, not on its
    /// writer.
    fn tags(&self) -> Tags {
        Tags::none()
    }

    /// Returns the ids of the keys with which the application itself encrypts fields of the event:
    /// destroying a key makes its fields unreadable. Those of `Personal` fields (of the feature
    /// `personal`) are known without being named; of both an event has at most
    /// [`KEY_IDS_MAX`](crate::store::limits::KEY_IDS_MAX).
    fn key_ids(&self) -> Vec<Label> {
        Vec::new()
    }

    /// Returns the steps by which the stored shapes of old events become today's.
    fn upcasters() -> Upcasters {
        Upcasters::none()
    }

    /// Returns, for a view, the enums that own the types that it names.
    ///
    /// A view that names no owner takes the enum that writes the type in the same store. While
    /// there is none it reads events as they are stored, or by its own upcasters, and records none:
    /// nobody could tell their tags. An owner that comes into use later is taken then; if events
    /// were read in another shape before, that is
    /// [`EventError::Claimed`](super::EventError::Claimed), and what was made of them is to be
    /// rebuilt. A program that only reads should name the owners, so that it reads old events as
    /// they do.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::fold::{Event, Owners};
    /// use leftfold_core::store::{Position, Store};
    /// use serde::{Deserialize, Serialize};
    /// use wallet::{Wallet, WalletEvent};
    ///
    /// /// The only event of wallets that a statistic reads, and the only field.
    /// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    /// enum Income {
    ///     #[serde(rename = "wallet.Deposited")]
    ///     Deposited { cents: u64 },
    /// }
    ///
    /// impl Event for Income {
    ///     const NAMESPACE: &'static str = "statistics";
    ///
    ///     fn owners() -> Owners {
    ///         Owners::of::<WalletEvent>()
    ///     }
    /// }
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let deposit = [WalletEvent::Deposited { cents: 500 }];
    /// store.aggregate::<Wallet>().record("ada", &deposit).await?;
    /// let mut income = store.follow::<Income>(Position::START)?;
    /// assert_eq!(income.next().await?.event, Income::Deposited { cents: 500 });
    /// # Ok(()) }
    /// ```
    fn owners() -> Owners {
        Owners::unnamed()
    }
}

/// Treatment of an event in a fold's stream whose type is none of the fold's variants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// An error: a newer release may have written it, and a state that lacks it would be wrong.
    #[default]
    Refuse,
    /// It does not concern this fold.
    Ignore,
}

/// An event with what the store knows of it.
///
/// ```
/// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
/// use leftfold_core::store::{Store, Version};
/// use serde::{Deserialize, Serialize};
/// use wallet::{Wallet, WalletCommand};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Clerk {
///     clerk: String,
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let wallets = Store::memory().aggregate::<Wallet>();
/// let by_bob = Clerk { clerk: "bob".to_owned() };
/// let deposit = wallets.command("ada", WalletCommand::Deposit { cents: 500 });
/// deposit.metadata_as(&by_bob).header("till", "12").execute().await?;
///
/// let recorded = &wallets.history("ada", Version(1))?.all().await?[0];
/// assert_eq!(recorded.metadata_as::<Clerk>()?, Some(by_bob));
/// assert_eq!(recorded.header("till").as_deref(), Some("12"));
/// assert_eq!((recorded.stream_id(), recorded.version()), ("ada", Version(1)));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded<E> {
    /// The event, as of today's shape.
    pub event: E,
    /// Event as it was recorded.
    pub envelope: RecordedEvent,
}

impl<E> Recorded<E> {
    /// Returns the version of its stream with it, 0 if it belongs to none.
    #[must_use]
    pub fn version(&self) -> Version {
        self.envelope.version()
    }

    /// Returns the id in its stream's name, empty if it belongs to none.
    #[must_use]
    pub fn stream_id(&self) -> &str {
        self.envelope.stream.as_ref().map_or("", |at| at.name.id())
    }

    /// Returns its recorded time.
    #[must_use]
    pub fn recorded_at(&self) -> Timestamp {
        self.envelope.recorded_at
    }
}
