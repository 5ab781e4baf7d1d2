//! The store of a call, and the right of its caller to it.

use leftfold::store::{Append, AppendError, Outcome, Store};
use tonic::{Request, Status};

use super::status;
use crate::metrics::{CallProtocol, OpenSubscription};
use crate::stores::{ServedStore, StoreUse, Stores};
use crate::users::{Caller, Wish};

/// The store that a call means.
pub(super) struct AskedStore {
    pub(super) store: Store,
    served: ServedStore,
    caller: Caller,
}

impl AskedStore {
    /// Finds the store that the metadata of the call names, or the usual one.
    pub(super) async fn of<T: Sync>(
        stores: &Stores,
        request: &Request<T>,
        wished: StoreUse,
    ) -> Result<Self, Status> {
        let caller = Caller::of(request).map_err(status::detailed)?;
        let served = stores.of(&caller, request.metadata(), wished).await;
        let served = served.map_err(status::detailed)?;
        Ok(Self { store: served.store.clone(), served, caller })
    }

    /// Refuses what the caller may not do with the store.
    pub(super) fn may(&self, wish: Wish<'_>) -> Result<(), Status> {
        self.caller.may(&self.served.name, wish).map_err(|denied| status::detailed(denied.into()))
    }

    /// Counts a subscription for as long as the value is kept.
    pub(super) fn subscribed(&self) -> OpenSubscription {
        self.served.subscribed(CallProtocol::UmaDb)
    }

    /// Notes how an append was answered.
    pub(super) fn noted(&self, answer: &Result<Outcome, AppendError>) {
        self.served.room.note(answer);
    }

    /// Waits until it is the turn of an append, by the limits of the caller and of the store.
    pub(super) async fn pace(&self, append: &Append) -> Result<(), Status> {
        let turn = self.served.pace(&self.caller, append);
        let turn = turn.map_err(|too_fast| status::detailed(too_fast.into()))?;
        if !turn.is_zero() {
            tokio::time::sleep(turn).await;
        }
        Ok(())
    }
}
