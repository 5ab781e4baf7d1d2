//! One tenure of a group: from the lease to its end.
//!
//! What is durable of a tenure is appended under its lease, so that of two servers only one writes.
//! It begins by reading what earlier ones left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use leftfold::store::{
    Append, AppendError, CheckpointRecord, Lease, LeaseError, Leased, MoveFrom, Outcome, Position,
    Query, Read, ReadError, RecordedEvent, State, Store,
};

use super::EventLens;
use super::command::GroupCommand;
use super::error::{GroupEnd, GroupError};
use super::info::RunningInfo;
use super::machine::{GroupMachine, ItemId, ItemSource, Millis, ParkOrder, SettledPlace};
use super::members::{AGAIN, GroupMembers};
use super::records::{self, GroupPlaces, ParkedEntry, StoredGroup};
use super::settings::GroupName;

/// Parked events that are looked up at once.
const REPLAYED_AT_ONCE: usize = 32;
/// Events that are parked by one append.
const PARKED_AT_ONCE: usize = 100;

/// Reason for which a tenure is over.
#[derive(Debug)]
pub(super) enum TenureEnd {
    NoConsumers,
    Ended(GroupEnd),
}

/// Events that were read, and the position up to which there are no others.
struct FetchedPage {
    events: Vec<(Position, RecordedEvent)>,
    through: Position,
    is_end: bool,
}

/// Something that was done beside.
enum JobDone {
    Fetched(ItemSource, Result<FetchedPage, ReadError>),
    Parked(Vec<ItemId>, Result<(), AppendError>),
    Checkpointed(ItemSource, SettledPlace, Result<(), GroupError>),
    Renewed(Result<Leased, LeaseError>),
    Looked(Result<Option<StoredGroup>, ReadError>),
}

/// Kind of a job: one of each is under way at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TenureJob {
    Read,
    Replay,
    Park,
    Checkpoint,
    Renew,
    Look,
}

/// The right to serve a group, and its state meanwhile.
pub(super) struct GroupTenure<'a> {
    members: &'a mut GroupMembers,
    group: StoredGroup,
    lens: Arc<dyn EventLens>,
    machine: GroupMachine,
    lease: Lease,
    began: Millis,
    renewed: Millis,
    is_caught_up: bool,
    /// Events that are to be parked and are not durably parked yet.
    to_park: Vec<ParkOrder>,
    jobs: FuturesUnordered<BoxFuture<'static, JobDone>>,
    /// Jobs that are under way.
    pending: BTreeSet<TenureJob>,
    /// Jobs that failed, and the time at which they are tried again.
    again: BTreeMap<TenureJob, Millis>,
}

impl<'a> GroupTenure<'a> {
    /// Serves the group under a lease, and gives the lease back.
    pub(super) async fn of(
        members: &'a mut GroupMembers,
        group: StoredGroup,
        lease: Lease,
    ) -> TenureEnd {
        let (group, places) = match Self::loaded(members, &group).await {
            Ok(loaded) => loaded,
            Err(end) => {
                members.give_lease_back(lease).await;
                return TenureEnd::Ended(end);
            }
        };
        let now = members.now();
        let mut machine =
            GroupMachine::new(group.settings.clone(), places.read, places.replayed, now);
        machine.remember(members.given.take(group.created));
        let lens = (members.lenses)(&group.settings);
        let mut tenure = Self {
            members,
            group,
            lens,
            machine,
            lease,
            began: now,
            renewed: now,
            is_caught_up: false,
            to_park: Vec::new(),
            jobs: FuturesUnordered::new(),
            pending: BTreeSet::new(),
            again: BTreeMap::new(),
        };
        for (id, member) in &tenure.members.all {
            tenure.machine.enter(*id, member.capacity, now);
        }
        let end = tenure.serve().await;
        tenure.leave(&end).await;
        end
    }

    /// Reads the group anew: what was read before the lease may be older than what its last holder
    /// did.
    async fn loaded(
        members: &GroupMembers,
        before: &StoredGroup,
    ) -> Result<(StoredGroup, GroupPlaces), GroupEnd> {
        let (group, _) = StoredGroup::load(&members.store, &members.name).await.map_err(away)?;
        let group = group.filter(|now| now.created == before.created).ok_or(GroupEnd::Deleted)?;
        let places = group.places(&members.store, &members.name).await.map_err(away)?;
        Ok((group, places))
    }

    async fn serve(&mut self) -> TenureEnd {
        let mut status = self.members.store.status();
        loop {
            self.hand_out();
            if self.members.all.is_empty() && !self.pending.contains(&TenureJob::Park) {
                return TenureEnd::NoConsumers;
            }
            self.start_jobs();
            let wake = self.members.moment(self.next_wake());
            let head = status.borrow_and_update().head.position;
            let waits_for_head = head <= self.machine.taken_through(ItemSource::Read);
            let ended = tokio::select! {
                biased;
                Some(done) = self.jobs.next() => self.take_done(done),
                Some(command) = self.members.commands.recv() => self.take_command(command),
                () = tokio::time::sleep_until(wake) => None,
                changed = status.changed(), if waits_for_head => match changed {
                    Ok(()) if status.borrow().state != State::Closed => None,
                    _ => Some(GroupEnd::Away { detail: "the store is closed".to_owned() }),
                },
            };
            if let Some(end) = ended {
                return TenureEnd::Ended(end);
            }
            let now = self.members.now();
            if now.saturating_sub(self.renewed) > millis(self.members.lease_time()) {
                let detail = "its lease could not be renewed".to_owned();
                return TenureEnd::Ended(GroupEnd::Away { detail });
            }
            self.machine.tick(now);
        }
    }

    /// Writes down what was reached, and gives the lease back.
    async fn leave(mut self, end: &TenureEnd) {
        let is_ours = !matches!(end, TenureEnd::Ended(GroupEnd::Deleted | GroupEnd::Away { .. }));
        if is_ours && let Err(error) = self.write_down().await {
            tracing::debug!(group = %self.members.name, %error, "some events will come again");
        }
        self.members.given.keep(self.group.created, self.machine.given());
        self.members.give_lease_back(self.lease).await;
    }

    async fn write_down(&mut self) -> Result<(), GroupError> {
        while [TenureJob::Park, TenureJob::Checkpoint]
            .iter()
            .any(|kind| self.pending.contains(kind))
        {
            let Some(done) = self.jobs.next().await else { break };
            if let Some(end) = self.take_done(done) {
                return Err(GroupError::unavailable(end));
            }
        }
        self.hand_out();
        for orders in std::mem::take(&mut self.to_park).chunks(PARKED_AT_ONCE) {
            let append = records::parking(&self.members.name, orders).under(&self.lease);
            self.members.store.append(append).await?;
            let ids: Vec<_> = orders.iter().map(|order| order.id).collect();
            self.machine.parked(&ids, self.members.now());
        }
        for source in [ItemSource::Read, ItemSource::Parked] {
            let due = self.machine.due_checkpoint(source, self.members.now(), true);
            if let Some(due) = due {
                self.checkpoint(source, due.position).await?;
            }
        }
        Ok(())
    }

    /// Gives to consumers what the machine says.
    fn hand_out(&mut self) {
        for (consumer, id) in self.machine.revoked() {
            if let Some(member) = self.members.all.get(&consumer) {
                member.queue.revoke(id);
            }
        }
        for (consumer, delivery) in self.machine.deliveries() {
            if let Some(member) = self.members.all.get(&consumer) {
                member.queue.give(delivery);
            }
        }
        self.to_park.append(&mut self.machine.parks());
    }

    fn start_jobs(&mut self) {
        let now = self.members.now();
        if millis(self.members.lease_time()) / 3 <= now.saturating_sub(self.renewed) {
            let (store, asking) = (self.members.store.clone(), self.members.lease_request());
            self.start(TenureJob::Renew, now, async move {
                JobDone::Renewed(store.backend().lease(asking).await)
            });
        }
        if !self.to_park.is_empty() && self.may_start(TenureJob::Park, now) {
            let count = self.to_park.len().min(PARKED_AT_ONCE);
            let orders = &self.to_park[..count];
            let ids = orders.iter().map(|order| order.id).collect();
            let append = records::parking(&self.members.name, orders).under(&self.lease);
            let store = self.members.store.clone();
            self.start(TenureJob::Park, now, async move {
                JobDone::Parked(ids, store.append(append).await.map(drop))
            });
        }
        for source in [ItemSource::Parked, ItemSource::Read] {
            if let Some(due) = self.machine.due_checkpoint(source, now, false)
                && self.may_start(TenureJob::Checkpoint, now)
            {
                let writing = self.checkpoint(source, due.position);
                self.start(TenureJob::Checkpoint, now, async move {
                    JobDone::Checkpointed(source, due, writing.await)
                });
            }
        }
        self.start_reads(now);
    }

    fn start_reads(&mut self, now: Millis) {
        let room = self.machine.room();
        if room == 0 {
            return;
        }
        let store = self.members.store.clone();
        let from = self.machine.taken_through(ItemSource::Parked).next();
        if from <= self.group.replay_through {
            let (stream, through) = (self.members.name.parked_stream(), self.group.replay_through);
            let query = Query::stream(stream);
            let store = store.clone();
            self.start(TenureJob::Replay, now, async move {
                let fetched = replayed(&store, query, from, through, room).await;
                JobDone::Fetched(ItemSource::Parked, fetched)
            });
            return;
        }
        let from = self.machine.taken_through(ItemSource::Read).next();
        if from <= store.head().position {
            let query = self.machine.settings().query.clone();
            let lens = Arc::clone(&self.lens);
            self.start(TenureJob::Read, now, async move {
                let fetched = fetched(&store, query, from, room, &*lens).await;
                JobDone::Fetched(ItemSource::Read, fetched)
            });
        }
    }

    fn may_start(&self, kind: TenureJob, now: Millis) -> bool {
        !self.pending.contains(&kind) && self.again.get(&kind).is_none_or(|at| *at <= now)
    }

    fn start(
        &mut self,
        kind: TenureJob,
        now: Millis,
        job: impl Future<Output = JobDone> + Send + 'static,
    ) {
        if self.may_start(kind, now) {
            self.pending.insert(kind);
            self.jobs.push(Box::pin(job));
        }
    }

    /// Looks into the store if the group was changed, by this server or another one.
    fn look(&mut self) {
        let (store, name) = (self.members.store.clone(), self.members.name.clone());
        let (group, now) = (self.group.clone(), self.members.now());
        self.start(TenureJob::Look, now, async move {
            JobDone::Looked(group.reload(&store, &name).await)
        });
    }

    fn checkpoint(
        &self,
        source: ItemSource,
        position: Position,
    ) -> impl Future<Output = Result<(), GroupError>> + Send + use<> {
        let (store, name) = (self.members.store.clone(), self.members.name.clone());
        let (from, lease) = (self.machine.checkpoint(source), self.lease.clone());
        async move { write_checkpoint(&store, &name, source, from, position, &lease).await }
    }

    fn next_wake(&self) -> Millis {
        let (now, lease) = (self.members.now(), millis(self.members.lease_time()));
        let renewal = self.may_start(TenureJob::Renew, now).then_some(self.renewed + lease / 3);
        let checkpoint =
            self.machine.next_checkpoint().filter(|_| self.may_start(TenureJob::Checkpoint, now));
        let failed = self.again.values().copied().filter(|at| *at > now);
        let known = [self.machine.next_tick(), renewal, checkpoint].into_iter().flatten();
        known.chain(failed).fold(self.renewed + lease + 1, Millis::min)
    }

    fn take_done(&mut self, done: JobDone) -> Option<GroupEnd> {
        let now = self.members.now();
        let kind = match &done {
            JobDone::Fetched(ItemSource::Read, _) => TenureJob::Read,
            JobDone::Fetched(ItemSource::Parked, _) => TenureJob::Replay,
            JobDone::Parked(..) => TenureJob::Park,
            JobDone::Checkpointed(..) => TenureJob::Checkpoint,
            JobDone::Renewed(_) => TenureJob::Renew,
            JobDone::Looked(_) => TenureJob::Look,
        };
        self.pending.remove(&kind);
        self.again.remove(&kind);
        let failed = match done {
            JobDone::Fetched(source, Ok(page)) => {
                if source == ItemSource::Read {
                    self.is_caught_up = page.is_end;
                }
                self.machine.take(source, page.events, page.through, now);
                None
            }
            JobDone::Parked(ids, Ok(())) => {
                self.to_park.retain(|order| !ids.contains(&order.id));
                self.machine.parked(&ids, now);
                None
            }
            JobDone::Checkpointed(source, at, Ok(())) => {
                self.machine.checkpointed(source, at, now);
                None
            }
            JobDone::Renewed(Ok(Leased::Held(lease))) if lease.fence == self.lease.fence => {
                (self.lease, self.renewed) = (lease, now);
                // Other servers change groups too.
                self.look();
                None
            }
            JobDone::Looked(Ok(group)) => return self.take_group(group),
            JobDone::Renewed(Ok(_)) | JobDone::Parked(_, Err(AppendError::Fenced { .. })) => {
                return Some(away("another server serves it"));
            }
            JobDone::Checkpointed(_, _, Err(error @ GroupError::Contended)) => {
                return Some(away(error));
            }
            JobDone::Fetched(_, Err(ReadError::Closed))
            | JobDone::Looked(Err(ReadError::Closed))
            | JobDone::Parked(_, Err(AppendError::Closed))
            | JobDone::Renewed(Err(LeaseError::Closed)) => return Some(away(ReadError::Closed)),
            JobDone::Fetched(_, Err(error)) | JobDone::Looked(Err(error)) => {
                Some(error.to_string())
            }
            JobDone::Parked(_, Err(error)) => Some(error.to_string()),
            JobDone::Checkpointed(_, _, Err(error)) => Some(error.to_string()),
            JobDone::Renewed(Err(error)) => Some(error.to_string()),
        };
        if let Some(error) = failed {
            tracing::warn!(group = %self.members.name, %error, "a group cannot go on, it waits");
            self.again.insert(kind, now + millis(AGAIN));
        }
        None
    }

    fn take_group(&mut self, now: Option<StoredGroup>) -> Option<GroupEnd> {
        let Some(now) = now.filter(|now| now.created == self.group.created) else {
            return Some(GroupEnd::Deleted);
        };
        if now.ended_consumers > self.group.ended_consumers {
            return Some(GroupEnd::Updated);
        }
        if now.settings != self.group.settings {
            self.lens = (self.members.lenses)(&now.settings);
            self.machine.configure(now.settings.clone(), self.members.now());
        }
        self.group = now;
        None
    }

    fn take_command(&mut self, command: GroupCommand) -> Option<GroupEnd> {
        let now = self.members.now();
        match command {
            GroupCommand::Enter(new) => {
                let (capacity, limit) = (new.capacity, self.group.settings.consumers_max());
                if let Some(id) = self.members.let_in(new, limit) {
                    self.machine.enter(id, capacity, now);
                }
            }
            GroupCommand::Leave { consumer } => {
                self.members.all.remove(&consumer);
                self.machine.leave(consumer, now);
            }
            GroupCommand::Answer { consumer, ids, answer, reply } => {
                self.machine.answer(consumer, &ids, &answer, now);
                let _ = reply.send(());
            }
            GroupCommand::Look { reply } => drop(reply.send(self.info(now))),
            GroupCommand::Changed => self.look(),
            GroupCommand::Stop => return Some(GroupEnd::Stopped),
        }
        None
    }

    fn info(&self, now: Millis) -> RunningInfo {
        let load = self.machine.load();
        RunningInfo {
            has_lease: true,
            is_caught_up: self.is_caught_up,
            settled_through: self.machine.settled_through(ItemSource::Read),
            in_flight: load.in_flight,
            waiting: load.waiting,
            retrying: load.retrying,
            parking: load.parking,
            settled: self.machine.settled(),
            served_ms: now - self.began,
            consumers: self.members.infos(|id| {
                let of = self.machine.consumers().get(&id);
                of.map_or((0, 0), |load| (load.in_flight, load.given))
            }),
        }
    }
}

fn away(why: impl ToString) -> GroupEnd {
    GroupEnd::Away { detail: why.to_string() }
}

fn millis(during: std::time::Duration) -> Millis {
    u64::try_from(during.as_millis()).unwrap_or(Millis::MAX)
}

/// Writes a checkpoint. It is contended if somebody else moved it.
async fn write_checkpoint(
    store: &Store,
    name: &GroupName,
    source: ItemSource,
    from: Position,
    position: Position,
    lease: &Lease,
) -> Result<(), GroupError> {
    let (consumer, from) = match source {
        ItemSource::Read => (name.consumer(), MoveFrom::Exactly(from)),
        // It may be that of a group of this name that was there before.
        ItemSource::Parked => (name.replayer(), MoveFrom::Anywhere),
    };
    let checkpoint = store.checkpoint_at(position).await?;
    let append: Append = records::moving(CheckpointRecord { consumer, from, checkpoint });
    match store.append(append.under(lease)).await {
        Ok(Outcome::Appended(_) | Outcome::Repeated(_)) => Ok(()),
        Ok(Outcome::Conflict(_))
        | Err(AppendError::CheckpointMoved { .. } | AppendError::Fenced { .. }) => {
            Err(GroupError::Contended)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads the next events of the group.
async fn fetched(
    store: &Store,
    query: Query,
    from: Position,
    count: usize,
    lens: &dyn EventLens,
) -> Result<FetchedPage, ReadError> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let page = store.page(Read::matching(query, from).page_of(count)).await?;
    let mut events = Vec::with_capacity(page.events.len());
    for event in page.events {
        if lens.passes(&event).await? {
            events.push((event.position, event));
        }
    }
    Ok(FetchedPage { events, through: page.through, is_end: page.next.is_none() })
}

/// Reads the next parked events, each with the position of its record.
async fn replayed(
    store: &Store,
    query: Query,
    from: Position,
    through: Position,
    count: usize,
) -> Result<FetchedPage, ReadError> {
    let count = u32::try_from(count.min(REPLAYED_AT_ONCE)).unwrap_or(1);
    let page = store.page(Read::matching(query, from).page_of(count)).await?;
    let mut events = Vec::new();
    for record in page.events.iter().filter(|record| record.position <= through) {
        let Some(parked) = ParkedEntry::of(record) else { continue };
        let at = Position(parked.position);
        let read = Read::matching(Query::everything(), at).page_of(1);
        let found = store.page(read).await?.events.into_iter().find(|event| event.position == at);
        events.extend(found.map(|event| (record.position, event)));
    }
    let is_end = page.next.is_none() || page.through >= through;
    Ok(FetchedPage { events, through: page.through.min(through), is_end })
}
