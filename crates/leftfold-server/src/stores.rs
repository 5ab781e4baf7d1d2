//! The stores of a server, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use leftfold::store::{State, Store};
use leftfold_protocol::{DEFAULT_STORE, STORE_METADATA};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::users::{Caller, UserRole, Wish};

/// Characters of the name of a store.
pub const STORE_NAME_MAX: usize = 64;

/// A store that is served, under a name.
#[derive(Clone)]
pub(crate) struct ServedStore {
    pub(crate) name: Arc<str>,
    pub(crate) store: Store,
}

/// All stores of a server.
pub(crate) struct Stores(BTreeMap<Arc<str>, ServedStore>);

impl Stores {
    pub(crate) fn new(stores: Vec<(String, Store)>) -> Self {
        let served = |(name, store): (String, Store)| {
            let name: Arc<str> = name.into();
            (Arc::clone(&name), ServedStore { name, store })
        };
        Self(stores.into_iter().map(served).collect())
    }

    /// Returns the store that a call names in its metadata (the one named `default` if it names
    /// none), for a caller who has any right to it.
    ///
    /// # Errors
    /// `NOT_FOUND` if there is no such store, or the caller has no right to it.
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
        self.named(name).cloned().ok_or_else(|| {
            let text = format!("this server has no store {name:?}, use one of its own");
            Status::not_found(text)
        })
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
