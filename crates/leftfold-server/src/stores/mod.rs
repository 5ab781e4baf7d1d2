//! The stores of a server, by name.

// Those of the `tenants` are opened on demand; `live` is the end of each, for all who follow it,
// `room` the notice that its disk is full.

mod live;
mod room;
mod tenants;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leftfold::store::{Append, Metrics, NewEvent, Position, Query, State, Store};
use leftfold_protocol::{DEFAULT_STORE, STORE_METADATA};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::guard::{RateUse, StoreLimits, TooFast};
use crate::metrics::{CallProtocol, CallRefusal, OpenSubscription, ServerCounts};
use crate::users::{Caller, UserRole, Wish};
use live::LiveEnd;
pub(crate) use live::{LiveEvents, LiveSubscription};
pub(crate) use room::RoomNotice;
pub(crate) use tenants::OpenTenants;
pub use tenants::{Tenants, TenantsError};

/// Characters of the name of a store.
pub const STORE_NAME_MAX: usize = 64;

/// Use of a store that a call is for: of a store that is opened on demand, none is made to look at
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreUse {
    /// It is read, or changed in what is there.
    Look,
    /// It is made if it is not there, for a caller who may do that.
    Create,
}

/// A store that is served, under a name.
#[derive(Clone)]
pub(crate) struct ServedStore {
    pub(crate) name: Arc<str>,
    pub(crate) store: Store,
    uses: Arc<RateUse>,
    limits: StoreLimits,
    counts: Arc<ServerCounts>,
    live: LiveEnd,
    pub(crate) room: RoomNotice,
}

impl ServedStore {
    /// Tells whether anybody but the list of stores has the store, or anything of it.
    fn is_used(&self) -> bool {
        Arc::strong_count(self.store.backend()) > 1
    }

    /// Counts bytes that a caller appends, and returns the time until the turn of its next append;
    /// a protocol that has a call for each append waits for so long before it appends.
    ///
    /// # Errors
    /// [`TooFast`] if the turn is too far away: the append is not to be made.
    pub(crate) fn pace(&self, caller: &Caller, append: &Append) -> Result<Duration, TooFast> {
        let bytes_of = |event: &NewEvent| event.data.len() + event.metadata.user.len();
        let bytes = append.events.iter().map(|event| bytes_of(event) as u64).sum();
        let own = caller.appends(bytes);
        let turn = own.and_then(|own| {
            let of_store = self.uses.bytes(bytes, self.limits.bytes_per_second)?;
            Ok(own.max(of_store))
        });
        turn.inspect_err(|_| self.counts.refuse_call(CallRefusal::Rate))
    }

    /// Follows the events that match, from just after a position.
    pub(crate) fn subscribe(&self, query: Query, after: Position) -> LiveSubscription {
        self.live.subscribe(&self.store, query, after)
    }

    /// Counts a subscription for as long as the value is kept.
    pub(crate) fn subscribed(&self, protocol: CallProtocol) -> OpenSubscription {
        self.counts.open_subscription(protocol)
    }
}

/// All stores of a server: those that it was started with, and those that are opened on demand.
pub(crate) struct Stores {
    lasting: BTreeMap<Arc<str>, ServedStore>,
    tenants: Option<Arc<OpenTenants>>,
    limits: StoreLimits,
    limits_of: BTreeMap<String, StoreLimits>,
    counts: Arc<ServerCounts>,
}

impl Stores {
    pub(crate) fn new(
        stores: Vec<(String, Store)>,
        tenants: Option<Tenants>,
        limits: StoreLimits,
        limits_of: BTreeMap<String, StoreLimits>,
        counts: Arc<ServerCounts>,
    ) -> Self {
        let mut all = Self {
            lasting: BTreeMap::new(),
            tenants: tenants.map(OpenTenants::new),
            limits,
            limits_of,
            counts,
        };
        for (name, store) in stores {
            let name: Arc<str> = name.into();
            let limits = all.limits_of(&name);
            let served = all.served(Arc::clone(&name), store, limits);
            all.lasting.insert(name, served);
        }
        all
    }

    fn served(&self, name: Arc<str>, store: Store, limits: StoreLimits) -> ServedStore {
        let counts = Arc::clone(&self.counts);
        let (live, room) = (LiveEnd::default(), RoomNotice::new());
        ServedStore { name, store, uses: Arc::default(), limits, counts, live, room }
    }

    pub(crate) fn counts(&self) -> &Arc<ServerCounts> {
        &self.counts
    }

    fn limits_of(&self, name: &str) -> StoreLimits {
        *self.limits_of.get(name).unwrap_or(&self.limits)
    }

    /// Returns the store that a call names in its metadata (the one named `default` if it names
    /// none), for a caller who has any right to it, when it is the turn of the call. A store that
    /// is opened on demand stays open as long as somebody has it, or anything of it.
    ///
    /// # Errors
    /// `NOT_FOUND` if there is no such store, or the caller has no right to it;
    /// `RESOURCE_EXHAUSTED` if the turn is too far away, or too many stores are open;
    /// `UNAVAILABLE` if it cannot be opened.
    pub(crate) async fn of(
        &self,
        caller: &Caller,
        metadata: &MetadataMap,
        wished: StoreUse,
    ) -> Result<ServedStore, Status> {
        let name = match metadata.get(STORE_METADATA) {
            None => DEFAULT_STORE,
            Some(name) => name
                .to_str()
                .map_err(|_| Status::invalid_argument("the name of a store is ASCII"))?,
        };
        if !is_store_name(name) {
            return Err(Status::not_found("no store can have the name that the call says"));
        }
        let served = self.named(caller, name, wished).await?;
        let turn = served.uses.call(served.limits.calls_per_second);
        let turn = turn.inspect_err(|_| self.counts.refuse_call(CallRefusal::Rate))?;
        if !turn.is_zero() {
            tokio::time::sleep(turn).await;
        }
        Ok(served)
    }

    /// Returns the store of that name, as [`of`](Self::of) does.
    async fn named(
        &self,
        caller: &Caller,
        name: &str,
        wished: StoreUse,
    ) -> Result<ServedStore, Status> {
        caller.may(name, Wish::Role(UserRole::Read))?;
        match (self.lasting.get(name), &self.tenants) {
            (Some(served), _) => Ok(served.clone()),
            (None, None) => Err(no_store(name)),
            (None, Some(tenants)) => {
                let limits = self.limits_of(name);
                let counts = Arc::clone(&self.counts);
                let make = move |name, store| ServedStore {
                    name,
                    store,
                    uses: Arc::default(),
                    limits,
                    counts,
                    live: LiveEnd::default(),
                    room: RoomNotice::new(),
                };
                tenants.open(name, caller, wished, make).await
            }
        }
    }

    /// Returns the stores that are open now.
    pub(crate) fn all(&self) -> Vec<ServedStore> {
        let tenants = self.tenants.iter().flat_map(|tenants| tenants.all());
        self.lasting.values().cloned().chain(tenants).collect()
    }

    pub(crate) fn tenants(&self) -> Option<Arc<OpenTenants>> {
        self.tenants.clone()
    }

    /// Adds what the server has counted, and how many stores are open.
    pub(crate) fn measure(&self, metrics: &mut Metrics) {
        self.counts.measure(metrics);
        let tenants = self.tenants.iter().map(|tenants| tenants.all().len()).sum::<usize>();
        for (kind, open) in [("lasting", self.lasting.len()), ("tenant", tenants)] {
            let text = "Stores that are open: those that are always, and tenants, on demand.";
            metrics.gauge("leftfold_server_stores_open", text, &[("kind", kind)], open);
        }
    }

    /// Returns the names of the open stores that take no appends now.
    pub(crate) fn not_open(&self) -> Vec<Arc<str>> {
        let is_open = |served: &ServedStore| served.store.status().borrow().state == State::Open;
        let all = self.all().into_iter();
        all.filter(|served| !is_open(served)).map(|served| served.name).collect()
    }

    /// Returns the names of the open stores that refused appends lately since they have no room.
    pub(crate) fn short_of_room(&self) -> Vec<Arc<str>> {
        let all = self.all().into_iter();
        all.filter(|served| served.room.is_short()).map(|served| served.name).collect()
    }
}

fn no_store(name: &str) -> Status {
    Status::not_found(format!("this server has no store {name:?}, use one of its own"))
}

/// Tells whether a text can name a store: letters, digits, `.`, `_` and `-`, at most
/// [`STORE_NAME_MAX`], the first a letter or a digit.
#[must_use]
pub fn is_store_name(text: &str) -> bool {
    text.len() <= STORE_NAME_MAX
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}
