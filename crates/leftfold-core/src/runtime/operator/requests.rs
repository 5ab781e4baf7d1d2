//! The door of whoever asks: requests are written into a store, and read with their answers.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;

use super::record::{AskedOfRuntime, AskedRecord, OperatorEvent, RequestCommand, RequestRefusal};
use super::{
    NewRequest, OPERATOR_TEXT_BYTES_MAX, OperatorAction, OperatorRequestId, ParkedChoice,
    RequestState, RequestStatus,
};
use crate::fold::{Aggregate, EventError, ExecuteError, Schema, Unknown};
use crate::store::{
    Invalid, Kind, Position, Query, Read, ReadError, RecordedEvent, Store, StreamName, Version,
};

/// Requests of operators to the runtimes on a store, whichever programs they are in.
///
/// A request is a record. It needs no runtime that runs: one that is started later takes it up,
/// carries it out once and records the answer. To write one takes the right of the runtime, which a
/// server gives to the roles `runtime` and `admin`.
///
/// ```
/// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
/// # mod balances {
/// #     use super::wallet::*;
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/balances.rs"));
/// # }
/// use std::time::Duration;
///
/// use balances::Balances;
/// use leftfold_core::runtime::Runtime;
/// use leftfold_core::runtime::operator::{
///     OperatorAction, NewRequest, OperatorRequests, ParkedChoice, RequestState,
/// };
/// use leftfold_core::runtime::projection::Memory;
/// use leftfold_core::store::Store;
/// use wallet::{Wallet, WalletEvent};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::memory();
/// let runtime = Runtime::new(&store).project(Balances, Memory::new()).start().await?;
/// // `Balances` refuses a deposit of nothing.
/// let nothing = [WalletEvent::Deposited { cents: 0 }];
/// let position = store.aggregate::<Wallet>().record("ada", &nothing).await?.last();
/// let waited =
///     runtime.projections().wait_until("balances", position, Duration::from_secs(5)).await;
/// assert!(waited.is_err());
///
/// // In another program.
/// let requests = OperatorRequests::of(&store);
/// let parked = ParkedChoice { position: Some(position), ..ParkedChoice::default() };
/// let id = requests
///     .ask(NewRequest {
///         action: OperatorAction::Skip { consumer: "balances".to_owned(), parked },
///         by: "bob".to_owned(),
///         reason: "it was a test".to_owned(),
///         runtime: None,
///     })
///     .await?;
/// let status = requests.wait(id, Duration::from_secs(5)).await?.ok_or("it is there")?;
/// assert!(matches!(status.state, RequestState::Done { number: 1, .. }));
/// runtime.stop().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct OperatorRequests {
    store: Store,
}

/// Error of a request that is not in the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// The text is the id of no request.
    #[error("{text:?} is no id of a request, list them")]
    NotAnId {
        /// The text.
        text: String,
    },
    /// The store has no request of that id.
    #[error("there is no request {id}, list those that are open")]
    NotFound {
        /// The id.
        id: OperatorRequestId,
    },
    /// The request was carried out, refused or withdrawn.
    #[error("request {id} has ended, look it up to see how")]
    Ended {
        /// The id.
        id: OperatorRequestId,
    },
    /// A part of the request is beyond its limits, or is missing.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The outcome that it has cannot be recorded.
    #[error("the request cannot be recorded: {0}")]
    Unwritable(EventError),
    /// The store failed, or the caller may not ask: the request is not recorded, or it is not known
    /// whether it is.
    #[error("{detail}")]
    Store {
        /// Meaning of the failure.
        kind: Kind,
        /// Message of the store.
        detail: String,
    },
}

impl OperatorError {
    /// Returns the meaning of the error to a caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotAnId { .. } | Self::Invalid(_) | Self::Unwritable(_) => Kind::Invalid,
            Self::NotFound { .. } => Kind::NotFound,
            Self::Ended { .. } => Kind::Conflict,
            Self::Store { kind, .. } => *kind,
        }
    }
}

impl From<ReadError> for OperatorError {
    fn from(error: ReadError) -> Self {
        Self::Store { kind: error.kind(), detail: error.to_string() }
    }
}

impl OperatorRequests {
    /// Returns the requests in a store.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        Self { store: store.clone() }
    }

    /// Asks, and returns the id of the request as soon as it is durable.
    ///
    /// # Errors
    /// [`OperatorError::Invalid`] if a name or the reason is empty or longer than
    /// [`OPERATOR_TEXT_BYTES_MAX`]; those of the store.
    pub async fn ask(&self, request: NewRequest) -> Result<OperatorRequestId, OperatorError> {
        let id = OperatorRequestId::new();
        let NewRequest { action, by, reason, runtime } = request;
        is_text("the name of a person", &by)?;
        is_text("the reason of a request", &reason)?;
        check(&action)?;
        if let Some(runtime) = &runtime {
            is_text("the name of a runtime", runtime)?;
        }
        let asked = AskedRecord { action, by, reason, runtime, caller: None };
        self.execute(id, RequestCommand::Ask(asked)).await.map(|()| id)
    }

    /// Takes a request back that no runtime has answered.
    ///
    /// # Errors
    /// [`OperatorError::Ended`] if one has; [`OperatorError::NotFound`]; those of
    /// [`ask`](Self::ask).
    pub async fn withdraw(
        &self,
        id: OperatorRequestId,
        by: &str,
        reason: &str,
    ) -> Result<(), OperatorError> {
        is_text("the name of a person", by)?;
        is_text("the reason of a request", reason)?;
        let (by, reason) = (by.to_owned(), reason.to_owned());
        self.execute(id, RequestCommand::Withdraw { by, reason }).await
    }

    /// Returns a request; `None` if there is none of that id.
    pub async fn find(
        &self,
        id: OperatorRequestId,
    ) -> Result<Option<RequestStatus>, OperatorError> {
        let mut events = self.store.read(Read::stream(stream_of(id)?, Version(1)));
        let mut status = None;
        while let Some(event) = events.next().await? {
            take(&mut status, id, &event);
        }
        Ok(status)
    }

    /// Returns a request as soon as it has ended; when the time is up, as it is then.
    pub async fn wait(
        &self,
        id: OperatorRequestId,
        within: Duration,
    ) -> Result<Option<RequestStatus>, OperatorError> {
        let Some(status) = self.find(id).await? else { return Ok(None) };
        let ended = async {
            let query = Query::stream(stream_of(id)?);
            let mut news = self.store.subscribe(query, status.position);
            let mut status = Some(status.clone());
            while status.as_ref().is_some_and(|status| status.state == RequestState::Open) {
                take(&mut status, id, &news.event().await?);
            }
            Ok(status)
        };
        match timeout(within, ended).await {
            Ok(ended) => ended,
            Err(_) => self.find(id).await,
        }
    }

    /// Calls a function with each request that is open, or with all of them, in the order in which
    /// they were asked. Only those that are open are kept in memory meanwhile.
    pub async fn each(
        &self,
        which: RequestFilter,
        mut take_one: impl FnMut(RequestStatus),
    ) -> Result<(), OperatorError> {
        let mut open = BTreeMap::new();
        let query = Query::category(AskedOfRuntime::CATEGORY);
        let mut events = self.store.read(Read::matching(query, Position(1)));
        while let Some(event) = events.next().await? {
            let Some(id) = id_of(&event) else { continue };
            let mut status = open.remove(&id);
            take(&mut status, id, &event);
            match status {
                Some(status) if status.state == RequestState::Open => _ = open.insert(id, status),
                Some(status) if which == RequestFilter::All => take_one(status),
                _ => {}
            }
        }
        let mut open: Vec<_> = open.into_values().collect();
        open.sort_by_key(|status| status.position);
        open.into_iter().for_each(take_one);
        Ok(())
    }

    async fn execute(
        &self,
        id: OperatorRequestId,
        step: RequestCommand,
    ) -> Result<(), OperatorError> {
        let requests = self.store.aggregate::<AskedOfRuntime>();
        match requests.execute(&id.to_string(), step).await {
            Ok(_) => Ok(()),
            Err(ExecuteError::Refused(RequestRefusal::Unknown)) => {
                Err(OperatorError::NotFound { id })
            }
            Err(ExecuteError::Refused(RequestRefusal::Ended)) => Err(OperatorError::Ended { id }),
            Err(ExecuteError::Event(error)) => Err(OperatorError::Unwritable(error)),
            Err(error) => {
                Err(OperatorError::Store { kind: error.kind(), detail: error.to_string() })
            }
        }
    }
}

/// Choice of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestFilter {
    /// Those that no runtime has answered.
    #[default]
    Open,
    /// Every one: those that have ended, and then those that are open.
    All,
}

/// Refuses a name or a reason that says nothing, or is beyond its limit.
fn is_text(what: &'static str, text: &str) -> Result<(), Invalid> {
    if text.trim().is_empty() {
        return Err(Invalid::Empty { what });
    }
    Invalid::if_over(what, text.len(), OPERATOR_TEXT_BYTES_MAX)
}

fn check(action: &OperatorAction) -> Result<(), Invalid> {
    match action {
        OperatorAction::Retry { consumer, parked } | OperatorAction::Skip { consumer, parked } => {
            is_text("the name of a consumer", consumer)?;
            let ParkedChoice { key, stream, saying, position: _ } = parked;
            [key, stream, saying].into_iter().flatten().try_for_each(|text| {
                Invalid::if_over("the choice of parked items", text.len(), OPERATOR_TEXT_BYTES_MAX)
            })
        }
        OperatorAction::List { consumer, after } => {
            let names = consumer.iter().chain(after.iter().map(|after| &after.consumer));
            names.into_iter().try_for_each(|name| is_text("the name of a consumer", name))
        }
        OperatorAction::Conclude { .. } | OperatorAction::Cancel { .. } => Ok(()),
    }
}

fn stream_of(id: OperatorRequestId) -> Result<StreamName, Invalid> {
    StreamName::of(AskedOfRuntime::CATEGORY, &id.to_string())
}

/// Returns the request that a record is about; `None` if it is about none.
pub(super) fn id_of(event: &RecordedEvent) -> Option<OperatorRequestId> {
    let stream = &event.stream.as_ref()?.name;
    (stream.category() == AskedOfRuntime::CATEGORY).then(|| stream.id().parse().ok())?
}

/// Returns what a record says; `None` if it is of a later release.
pub(super) fn said(event: &RecordedEvent) -> Option<OperatorEvent> {
    let schema = Schema::of::<OperatorEvent>().ok()?;
    schema.decode::<OperatorEvent>(event, Unknown::Ignore).ok()?.pop()
}

/// Goes on with a request by one of its records.
pub(super) fn take(
    status: &mut Option<RequestStatus>,
    id: OperatorRequestId,
    event: &RecordedEvent,
) {
    let at = event.recorded_at;
    let state = match said(event) {
        Some(OperatorEvent::Asked(AskedRecord { action, by, reason, runtime, caller })) => {
            *status = Some(RequestStatus {
                id,
                request: NewRequest { action, by, reason, runtime },
                caller,
                position: event.position,
                asked_at: at,
                state: RequestState::Open,
            });
            return;
        }
        Some(OperatorEvent::Done { runtime, number, failing }) => {
            RequestState::Done { runtime, number, failing, at }
        }
        Some(OperatorEvent::Listed { runtime, items, has_more }) => {
            RequestState::Listed { runtime, items, has_more, at }
        }
        Some(OperatorEvent::Refused { runtime, reason }) => {
            RequestState::Refused { runtime, reason, at }
        }
        Some(OperatorEvent::Withdrawn { by, reason, .. }) => {
            RequestState::Withdrawn { by, reason, at }
        }
        None => return,
    };
    if let Some(status) = status {
        status.state = state;
    }
}
