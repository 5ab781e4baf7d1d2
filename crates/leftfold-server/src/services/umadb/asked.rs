//! The store of a call, and the right of its caller to it.

use std::sync::Arc;

use leftfold::store::Store;
use tonic::{Request, Status};

use super::status;
use crate::stores::Stores;
use crate::users::{Caller, Wish};

/// The store that a call means.
pub(super) struct AskedStore {
    pub(super) store: Store,
    name: Arc<str>,
    caller: Caller,
}

impl AskedStore {
    /// Finds the store that the metadata of the call names, or the usual one.
    pub(super) async fn of<T: Sync>(stores: &Stores, request: &Request<T>) -> Result<Self, Status> {
        let caller = Caller::of(request).map_err(status::detailed)?;
        let served = stores.of(&caller, request.metadata()).await.map_err(status::detailed)?;
        Ok(Self { store: served.store, name: served.name, caller })
    }

    /// Refuses what the caller may not do with the store.
    pub(super) fn may(&self, wish: Wish<'_>) -> Result<(), Status> {
        self.caller.may(&self.name, wish).map_err(|denied| status::detailed(denied.into()))
    }
}
