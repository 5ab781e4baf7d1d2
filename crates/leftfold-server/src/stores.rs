//! The stores of a server, by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leftfold::store::{Append, State, Store};
use leftfold_protocol::{DEFAULT_STORE, STORE_METADATA};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::guard::{RateUse, StoreLimits, TooFast};
use crate::options::ServerOptions;
use crate::users::{Caller, UserRole, Wish};

/// Characters of the name of a store.
pub const STORE_NAME_MAX: usize = 64;

/// A store that is served, under a name.
#[derive(Clone)]
pub(crate) struct ServedStore {
    pub(crate) name: Arc<str>,
    pub(crate) store: Store,
    uses: Arc<RateUse>,
    limits: StoreLimits,
}

impl ServedStore {
    /// Counts bytes that a caller appends, and returns the time until the turn of its next append;
    /// a protocol that has a call for each append waits for so long before it appends.
    ///
    /// # Errors
    /// [`TooFast`] if the turn is too far away: the append is not to be made.
    pub(crate) fn pace(&self, caller: &Caller, append: &Append) -> Result<Duration, TooFast> {
        let bytes = append.events.iter().map(|event| event.data.len() as u64).sum();
        let own = caller.appends(bytes)?;
        Ok(own.max(self.uses.bytes(bytes, self.limits.bytes_per_second)?))
    }
}

/// All stores of a server.
pub(crate) struct Stores(BTreeMap<Arc<str>, ServedStore>);

impl Stores {
    pub(crate) fn new(stores: Vec<(String, Store)>, options: &ServerOptions) -> Self {
        let served = |(name, store): (String, Store)| {
            let limits = *options.store_limits_of.get(&name).unwrap_or(&options.store_limits);
            let name: Arc<str> = name.into();
            (Arc::clone(&name), ServedStore { name, store, uses: Arc::default(), limits })
        };
        Self(stores.into_iter().map(served).collect())
    }

    /// Returns the store that a call names in its metadata (the one named `default` if it names
    /// none), for a caller who has any right to it, when it is the turn of the call.
    ///
    /// # Errors
    /// `NOT_FOUND` if there is no such store, or the caller has no right to it;
    /// `RESOURCE_EXHAUSTED` if the turn is too far away.
    pub(crate) async fn of(
        &self,
        caller: &Caller,
        metadata: &MetadataMap,
    ) -> Result<ServedStore, Status> {
        let name = match metadata.get(STORE_METADATA) {
            None => DEFAULT_STORE,
            Some(name) => name
                .to_str()
                .map_err(|_| Status::invalid_argument("the name of a store is ASCII"))?,
        };
        caller.may(name, Wish::Role(UserRole::Read))?;
        let served = self.named(name).cloned().ok_or_else(|| {
            let text = format!("this server has no store {name:?}, use one of its own");
            Status::not_found(text)
        })?;
        let turn = served.uses.call(served.limits.calls_per_second)?;
        if !turn.is_zero() {
            tokio::time::sleep(turn).await;
        }
        Ok(served)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&ServedStore> {
        self.0.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &ServedStore> {
        self.0.values()
    }

    /// Returns the names of the stores that take no appends now.
    pub(crate) fn not_open(&self) -> Vec<&str> {
        let is_open = |served: &ServedStore| served.store.status().borrow().state == State::Open;
        self.0.values().filter(|served| !is_open(served)).map(|served| &*served.name).collect()
    }
}

/// Tells whether a text can name a store: letters, digits, `.`, `_` and `-`, at most
/// [`STORE_NAME_MAX`], the first a letter or a digit.
#[must_use]
pub fn is_store_name(text: &str) -> bool {
    text.len() <= STORE_NAME_MAX
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}
