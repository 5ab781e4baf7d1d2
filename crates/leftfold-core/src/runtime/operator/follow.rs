//! The follower of operators' requests in a runtime: finds those that are open, has them carried
//! out, and records the answers.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable, Aborted};
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::carry::{OperatorAnswer, carry};
use super::record::{AskedOfRuntime, AskedRecord, OperatorEvent, RequestCommand};
use super::requests::{id_of, said};
use super::{OPEN_REQUESTS_MAX, OperatorRequestId};
use crate::fold::Aggregate;
use crate::runtime::consumer::backoff::OPERATOR;
use crate::runtime::consumer::contained;
use crate::runtime::handle::RuntimeHandle;
use crate::runtime::stopped;
use crate::store::{
    Position, Query, Read, ReadError, RecordedEvent, State, Status, Store, Timestamp,
};

/// Time between two looks at a log that grows.
const LOOKED_EVERY: Duration = Duration::from_millis(250);
/// Requests that are carried out at once.
const CARRIED_MAX: usize = 16;

/// Follows the requests on a store for one runtime.
pub(in crate::runtime) struct OperatorFollower {
    store: Store,
    runtime: RuntimeHandle,
    /// Name of the runtime.
    name: String,
    /// Everything up to here was read.
    through: Position,
    open: BTreeMap<OperatorRequestId, OpenRequest>,
    /// Position of the first request that found no room: it is read again when there is some.
    missed: Option<Position>,
    /// Moment at which requests that made room for later ones have their turn again; `None` if
    /// there are none.
    round_at: Option<Instant>,
    carried: FuturesUnordered<Abortable<Carrying>>,
    /// Reads that failed in a row.
    failures: u32,
}

type Carrying = Pin<Box<dyn Future<Output = (OperatorRequestId, CarriedStep)> + Send>>;

/// Request that nobody has answered so far.
struct OpenRequest {
    asked: AskedRecord,
    at: (Position, Timestamp),
    /// Answer of this runtime, which is still to be recorded.
    answer: Option<OperatorAnswer>,
    /// Number of times that it was not for this runtime, or could not be done.
    tries: u32,
    again_at: Instant,
    under_way: Option<AbortHandle>,
}

/// Result of a step with a request.
enum CarriedStep {
    Answered(OperatorAnswer),
    Recorded,
    /// It is tried again later.
    Later,
}

impl OperatorFollower {
    pub(in crate::runtime) fn new(store: Store, runtime: RuntimeHandle, name: String) -> Self {
        Self {
            store,
            runtime,
            name,
            through: Position::START,
            open: BTreeMap::new(),
            missed: None,
            round_at: None,
            carried: FuturesUnordered::new(),
            failures: 0,
        }
    }

    /// Follows until it is told to stop, or the store is closed. It is safe to drop it anywhere:
    /// what was done and not answered is tried again, and changes nothing again.
    pub(in crate::runtime) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut status = self.store.status();
        let mut reads_at = Instant::now();
        loop {
            self.go_back();
            if reads_at <= Instant::now() && !self.has_read_all() {
                reads_at = match self.read().await {
                    Ok(()) => Instant::now() + LOOKED_EVERY,
                    Err(ReadError::Closed) => return,
                    Err(error) => self.cannot_read(&error),
                };
            }
            self.begin_steps();
            let through = self.through;
            let news = async {
                let is_news = |status: &Status| {
                    status.head.position > through || status.state == State::Closed
                };
                let known = status.wait_for(is_news).await.map(|status| status.state.clone());
                sleep_until(reads_at).await;
                known
            };
            let again_at = self.again_at();
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                Some(step) = self.carried.next(), if !self.carried.is_empty() => self.ended(step),
                () = sleep_until(again_at.unwrap_or(reads_at)), if again_at.is_some() => {}
                state = news => match state {
                    Ok(State::Closed) | Err(_) => return,
                    Ok(_) => {}
                },
            }
        }
    }

    fn has_read_all(&self) -> bool {
        self.through >= self.store.head().position
    }

    /// Reads again from requests that found no room, or that made room, if it is their turn.
    ///
    /// Every request has its turn however many there are that nobody can answer: one that was tried
    /// makes room for a later one, those that found none follow as soon as all that are kept were
    /// tried, and when there are none of them the first ones come again.
    fn go_back(&mut self) {
        if !self.has_tried_all() {
            return;
        }
        if let Some(missed) = self.missed.take() {
            self.through = Position(missed.0.saturating_sub(1));
        } else if self.round_at.is_some_and(|at| at <= Instant::now()) {
            (self.round_at, self.through) = (None, Position::START);
        }
    }

    fn has_tried_all(&self) -> bool {
        self.open.values().all(|request| request.tries > 0 || request.answer.is_some())
    }

    /// Takes in what is new of all requests.
    async fn read(&mut self) -> Result<(), ReadError> {
        let end = self.store.head().position;
        let query = Query::category(AskedOfRuntime::CATEGORY);
        let mut events = self.store.read(Read::matching(query, self.through.next()));
        while let Some(event) = events.next().await? {
            self.take(&event);
            self.through = self.through.max(event.position);
        }
        self.through = self.through.max(end);
        self.failures = 0;
        Ok(())
    }

    fn cannot_read(&mut self, error: &ReadError) -> Instant {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            tracing::warn!(%error, "requests of operators cannot be read");
        }
        Instant::now() + OPERATOR.after(self.failures)
    }

    fn take(&mut self, event: &RecordedEvent) {
        let (Some(id), Some(said)) = (id_of(event), said(event)) else { return };
        let OperatorEvent::Asked(asked) = said else {
            if let Some(OpenRequest { under_way: Some(step), .. }) = self.open.remove(&id) {
                step.abort();
            }
            return;
        };
        if asked.runtime.as_ref().is_some_and(|name| *name != self.name) {
            return;
        }
        if self.open.len() >= OPEN_REQUESTS_MAX
            && !self.open.contains_key(&id)
            && !self.has_made_room()
        {
            self.missed.get_or_insert(event.position);
            return;
        }
        self.open.entry(id).or_insert_with(|| OpenRequest {
            asked,
            at: (event.position, event.recorded_at),
            answer: None,
            tries: 0,
            again_at: Instant::now(),
            under_way: None,
        });
    }

    /// Lets go of the request that was tried most often in vain. Returns false if there is none.
    fn has_made_room(&mut self) -> bool {
        let waits = |request: &OpenRequest| {
            request.tries > 0 && request.answer.is_none() && request.under_way.is_none()
        };
        let tried = self.open.iter().filter(|(_, request)| waits(request));
        let Some(id) = tried.max_by_key(|(_, request)| request.tries).map(|(id, _)| *id) else {
            return false;
        };
        self.open.remove(&id);
        self.round_at.get_or_insert_with(|| Instant::now() + OPERATOR.after(u32::MAX));
        true
    }

    /// Begins what is due, as much as is carried out at once.
    fn begin_steps(&mut self) {
        let now = Instant::now();
        let due = |request: &OpenRequest| request.under_way.is_none() && request.again_at <= now;
        for (id, request) in self.open.iter_mut().filter(|(_, request)| due(request)) {
            if self.carried.len() >= CARRIED_MAX {
                return;
            }
            let step = match &request.answer {
                Some(answer) => recording(&self.store, *id, answer.clone().event(&self.name)),
                None => carrying(self.runtime.clone(), *id, request),
            };
            let (handle, registration) = AbortHandle::new_pair();
            request.under_way = Some(handle);
            self.carried.push(Abortable::new(step, registration));
        }
    }

    /// Returns when the next step is due; `None` if none is, or as many as may be are under way.
    fn again_at(&self) -> Option<Instant> {
        if self.carried.len() >= CARRIED_MAX {
            return None;
        }
        let waiting = self.open.values().filter(|request| request.under_way.is_none());
        let round_at = self.round_at.filter(|_| self.missed.is_none() && self.has_tried_all());
        waiting.map(|request| request.again_at).chain(round_at).min()
    }

    fn ended(&mut self, step: Result<(OperatorRequestId, CarriedStep), Aborted>) {
        let Ok((id, step)) = step else { return };
        let Some(request) = self.open.get_mut(&id) else { return };
        request.under_way = None;
        match step {
            CarriedStep::Answered(answer) => {
                let by = request.asked.author();
                // A list has what errors say.
                match &answer {
                    OperatorAnswer::Listed { items, .. } => {
                        tracing::info!(%id, by, items = items.len(), "parked items are listed");
                    }
                    _ => {
                        tracing::info!(%id, by, ?answer, "a request of an operator is carried out")
                    }
                }
                (request.answer, request.tries) = (Some(answer), 0);
                request.again_at = Instant::now();
            }
            CarriedStep::Recorded => _ = self.open.remove(&id),
            CarriedStep::Later => {
                request.tries = request.tries.saturating_add(1);
                request.again_at = Instant::now() + OPERATOR.after(request.tries);
            }
        }
    }
}

fn carrying(runtime: RuntimeHandle, id: OperatorRequestId, request: &OpenRequest) -> Carrying {
    let (asked, at) = (request.asked.clone(), request.at);
    Box::pin(async move {
        let step = match contained(carry(runtime, asked, at)).await {
            Ok(Some(answer)) => CarriedStep::Answered(answer),
            Ok(None) => CarriedStep::Later,
            Err(said) => {
                tracing::error!(%id, said, "a request of an operator panicked");
                CarriedStep::Answered(OperatorAnswer::Refused(format!("it panicked: {said}")))
            }
        };
        (id, step)
    })
}

fn recording(store: &Store, id: OperatorRequestId, answer: OperatorEvent) -> Carrying {
    let requests = store.aggregate::<AskedOfRuntime>();
    Box::pin(async move {
        let recorded = requests.execute(&id.to_string(), RequestCommand::Answer(answer)).await;
        let step = match recorded {
            Ok(_) => CarriedStep::Recorded,
            Err(error) => {
                tracing::warn!(%id, %error, "the answer to an operator is not recorded");
                CarriedStep::Later
            }
        };
        (id, step)
    })
}
