//! The lease on a piece of the runtime's work: of several runners one works, the others stand by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::backoff;
use crate::runtime::Host;
use crate::runtime::clock::Clock;
use crate::runtime::sharing::{WorkAbility, WorkCall, WorkShare};
use crate::store::{Fence, Holder, Label, Lease, LeaseError, LeaseRequest, Leased, Timestamp};

// ANCHOR: limits
/// Time for which the work of a process, an effect or an outbox is leased, unless
/// [`Runtime::lease`](crate::runtime::Runtime::lease) says otherwise: the work stands still this
/// long if its runner is killed and another machine takes over. On the embedded log a new start
/// takes over at once.
pub const WORK_LEASE: Duration = Duration::from_secs(30);
/// The shortest time for which work is leased.
pub const WORK_LEASE_MIN: Duration = Duration::from_secs(2);
// ANCHOR_END: limits

/// The types of the runners of this program that have asked for leases: so whoever stands by can
/// say for whom.
static RUNNERS: Mutex<Option<HashMap<Holder, &'static str>>> = Mutex::new(None);

/// The right of one runner to work.
#[derive(Debug)]
pub(crate) struct WorkTenure {
    holder: Holder,
    /// The type of the consumer.
    type_name: &'static str,
    work: Label,
    lease: Option<Lease>,
    /// Time at which the lease was last asked for.
    asked_at: Timestamp,
    /// The answer, if it was not given; it is not asked for again before the moment in it.
    refused: Option<Right>,
    /// Time since which it has the work.
    since: Timestamp,
    /// Time for which it asks.
    during: Duration,
    /// Its part among the runtimes on the store; `None` if it takes whatever is free.
    share: Option<WorkShare>,
    /// Number of times in a row that it gave the work up.
    given_up: u32,
    /// Moment until which it takes the work only if nobody else can do it.
    last_resort_until: Timestamp,
}

/// Right of a runner to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    Held,
    /// Another has the work; it is worth asking again at this moment.
    StandsBy(String, Timestamp),
    /// The store gives no leases now, for this reason; it is worth asking again at this moment.
    Waits(String, Timestamp),
    Closed,
}

impl WorkTenure {
    /// A tenure that holds nothing yet. The name of the work is that of the consumer `C`:
    /// `$process:NAME`, `$effect:NAME`. The consumer has a name in its status, too.
    pub(crate) fn new<C>(host: &Host, consumer: &'static str, work: Label) -> Self {
        let (holder, type_name) = (Holder::random(), std::any::type_name::<C>());
        with_runners(|runners| runners.insert(holder, type_name));
        let membership = host.membership.as_ref();
        let share = membership.map(|membership| membership.share(consumer, &work, holder));
        let (lease, refused, during) = (None, None, host.work_lease());
        let (asked_at, since) = (Timestamp::MIN, Timestamp::MIN);
        let (given_up, last_resort_until) = (0, Timestamp::MIN);
        Self {
            holder,
            type_name,
            work,
            lease,
            asked_at,
            refused,
            since,
            during,
            share,
            given_up,
            last_resort_until,
        }
    }

    /// Asks for the lease, if it is not held or a third of its time is over.
    ///
    /// If the [fence](Self::fence) changed by this, the runner has a new tenure, and begins with
    /// reading: its earlier knowledge is stale.
    pub(crate) async fn hold(&mut self, host: &Host) -> Right {
        let now = host.clock.now();
        self.steps_forward(now);
        if let Some(share) = &mut self.share {
            let (call, is_new) = share.call();
            if is_new {
                self.refused = None;
            }
            if self.lease.is_none() && call != WorkCall::Take {
                let waits = self.waits(call, now);
                (self.refused, self.asked_at) = (Some(waits.clone()), now);
                return waits;
            }
        }
        // A clock that was set back says nothing of how much has passed.
        if now < self.renews_at() && now >= self.asked_at {
            match &self.refused {
                Some(refused) => return refused.clone(),
                None if self.lease.is_some() => return Right::Held,
                None => {}
            }
        }
        let right = self.ask(host, now).await;
        self.asked_at = now;
        self.refused = Some(right.clone()).filter(|right| *right != Right::Held);
        right
    }

    /// Lets another one have the work for now, if that has it as the leases say: until there is a
    /// plan.
    pub(crate) async fn gives_way(&self, host: &Host) {
        let Some(share) = &self.share else { return };
        let held = host.store.leases().await.unwrap_or_default();
        if let Some(held) = held.iter().find(|held| held.work == self.work) {
            share.presume(WorkCall::Wait(Some((held.holder, held.until))));
        }
    }

    /// Returns its right if it is not its turn to take the work; `None` if it may try. For works
    /// that something else than the lease gives to one runner: a place in a database.
    pub(crate) fn waits_for_call(&mut self, now: Timestamp) -> Option<Right> {
        let (call, _) = self.share.as_mut()?.call();
        (call != WorkCall::Take).then(|| self.waits(call, now))
    }

    /// Asks for the lease as one who has the work already, whatever the plan says, if it is not
    /// held or a third of its time is over. If it is not given, the runner works all the same.
    pub(crate) async fn announce(&mut self, host: &Host) {
        let now = host.clock.now();
        self.steps_forward(now);
        if let Some(share) = &mut self.share
            && share.call().1
        {
            // The lease of whoever had the work before may be over.
            self.refused = None;
        }
        let is_early = now < self.renews_at() && now >= self.asked_at;
        if is_early && (self.lease.is_some() || self.refused.is_some()) {
            return;
        }
        let right = self.ask(host, now).await;
        self.asked_at = now;
        self.refused = Some(right).filter(|right| *right != Right::Held);
    }

    async fn ask(&mut self, host: &Host, now: Timestamp) -> Right {
        let since = if self.lease.is_some() { self.since } else { now };
        let mut request = LeaseRequest::new(self.work.clone(), self.holder, self.during);
        if let Some(share) = &self.share {
            request = request.with_note(share.note(since, &host.board));
        }
        match host.store.lease_for_runtime(request).await {
            Ok(Leased::Held(lease)) => {
                let before = self.lease.replace(lease).map(|before| before.fence);
                if before != self.lease.as_ref().map(|lease| lease.fence) {
                    self.since = now;
                }
                Right::Held
            }
            Ok(Leased::HeldBy { holder, until }) => {
                self.lost();
                let why = format!("the lease, held by {} until {until}", self.told(holder));
                Right::StandsBy(why, now.plus(self.during / 3))
            }
            Err(LeaseError::Closed) => Right::Closed,
            Err(error) => {
                Right::Waits(format!("the lease: {error}"), now.plus(backoff::LEASE.first))
            }
        }
    }

    /// Returns the right of a runner that is to wait.
    fn waits(&self, call: WorkCall, now: Timestamp) -> Right {
        let why = match call {
            WorkCall::Wait(Some((holder, until))) => {
                format!("the lease, held by {} until {until}", self.told(holder))
            }
            _ => "the lease, which another runtime is about to take".to_owned(),
        };
        Right::StandsBy(why, now.plus(self.during / 3))
    }

    /// Tells whether another runtime is to have the work that this one has.
    pub(crate) fn is_called_away(&self) -> bool {
        let hands_over = |share: &WorkShare| share.latest_call() == WorkCall::HandOver;
        self.lease.is_some() && self.share.as_ref().is_some_and(hands_over)
    }

    /// Waits until the lease is to be asked for again, or to be handed over.
    fn due(&self, clock: &Arc<dyn Clock>) -> impl Future<Output = ()> + Send + use<> {
        let (clock, at) = (clock.clone(), self.renews_at());
        let called = self.share.as_ref().map(WorkShare::called);
        async move {
            let called = async {
                match called {
                    Some(called) => called.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = called => {}
                () = clock.sleep_until(at) => {}
            }
        }
    }

    /// Says that it can do the work again; for some time after it gave the work up, only if nobody
    /// else can.
    pub(crate) fn steps_forward(&self, now: Timestamp) {
        let ability = match now < self.last_resort_until {
            true => WorkAbility::LastResort,
            false => WorkAbility::Able,
        };
        self.share.iter().for_each(|share| share.is_able(ability));
    }

    /// Lets others do the work until it asks for the lease again: it cannot do it now.
    pub(crate) fn steps_back(&mut self) {
        self.share.iter().for_each(|share| share.is_able(WorkAbility::Unable));
    }

    /// Gives up the work, which it cannot do now: a runtime that can do it goes on at once. For
    /// some time, longer with every time in a row, this one takes it only if nobody else can.
    pub(crate) async fn give_up(&mut self, host: &Host) {
        self.given_up = self.given_up.saturating_add(1);
        let pause = backoff::LAST_RESORT.after(self.given_up);
        self.last_resort_until = host.clock.now().plus(pause);
        // Whoever learns that the work is free knows this, too.
        self.share.iter().for_each(|share| share.is_able(WorkAbility::LastResort));
        self.release(host).await;
    }

    /// Notes that it can do the work.
    pub(crate) fn worked(&mut self) {
        if std::mem::take(&mut self.given_up) > 0 {
            self.last_resort_until = Timestamp::MIN;
            self.share.iter().for_each(|share| share.is_able(WorkAbility::Able));
        }
    }

    /// Another holder, in words: a type of another name is told as the mistake that it is.
    fn told(&self, holder: Holder) -> String {
        match with_runners(|runners| runners.get(&holder).copied()) {
            None => format!("another program ({holder})"),
            Some(same) if same == self.type_name => {
                format!("another runtime of this program ({holder})")
            }
            Some(other) => {
                let (own, work) = (self.type_name, &self.work);
                format!(
                    "{other} in this program ({holder}), whose name {own} has too: give one of them another NAME than {work}"
                )
            }
        }
    }

    /// Returns the moment at which to ask for the lease again.
    pub(crate) fn renews_at(&self) -> Timestamp {
        match &self.refused {
            Some(Right::StandsBy(_, until) | Right::Waits(_, until)) => *until,
            _ => self.asked_at.plus(self.during / 3),
        }
    }

    /// Returns the fence of its appends.
    pub(crate) fn fence(&self) -> Option<(Label, Fence)> {
        self.lease.as_ref().map(|lease| (lease.work.clone(), lease.fence))
    }

    /// Another has the work.
    pub(crate) fn lost(&mut self) {
        (self.lease, self.refused) = (None, None);
    }

    /// Lets the next one work at once.
    pub(crate) async fn release(&mut self, host: &Host) {
        if let Some(lease) = self.lease.take() {
            self.refused = None;
            // Where that fails, the next one waits until the lease is over.
            let _ = host.store.release(lease).await;
        }
    }
}

/// Waits until a lease is to be asked for again, or to be handed over; without an end if there is
/// none.
pub(crate) fn due(
    tenure: Option<&WorkTenure>,
    clock: &Arc<dyn Clock>,
) -> impl Future<Output = ()> + Send + use<> {
    let due = tenure.map(|tenure| tenure.due(clock));
    async move {
        match due {
            Some(due) => due.await,
            None => std::future::pending().await,
        }
    }
}

/// Waits until the part of a runner in the plan changes; without an end if there is no plan.
pub(crate) fn called(tenure: Option<&WorkTenure>) -> impl Future<Output = ()> + Send + use<> {
    let called = tenure.and_then(|tenure| tenure.share.as_ref()).map(WorkShare::called);
    async move {
        match called {
            Some(called) => called.await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for WorkTenure {
    fn drop(&mut self) {
        with_runners(|runners| runners.remove(&self.holder));
    }
}

fn with_runners<T>(run: impl FnOnce(&mut HashMap<Holder, &'static str>) -> T) -> T {
    run(RUNNERS.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}
