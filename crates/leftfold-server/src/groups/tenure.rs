//! One tenure of a group: from the lease to its end.
//!
//! What is durable of a tenure is appended under its lease, so that of two servers only one writes,
//! and while the group is as the tenure knows it. It begins by reading what earlier ones left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use leftfold::store::{Lease, LeaseError, Leased, Position, ReadError, State};

use super::EventLens;
use super::command::GroupCommand;
use super::error::GroupEnd;
use super::info::RunningInfo;
use super::jobs::{FetchedPage, TenureRight, WriteFault, fetched, replayed, retried};
use super::machine::{
    GroupMachine, GroupPlaces, ItemId, ItemSource, Millis, ParkOrder, SettledPlace,
};
use super::members::{AGAIN, GroupMembers};
use super::records::{self, ChangedGroup, StoredGroup};
use super::released::released_through;

/// Events that are parked by one append: with their reasons far below what an append may have.
const PARKED_AT_ONCE: usize = 100;
/// Failures in a row of one job after which another server may try.
const FAILURES_MAX: u32 = 20;

/// Reason for which a tenure is over.
#[derive(Debug)]
pub(super) enum TenureEnd {
    NoConsumers,
    /// The lease was over before the group was read.
    Late,
    Ended(GroupEnd),
}

/// Something that was done beside.
enum JobDone {
    /// With the number of the settings by which it was read.
    Fetched(ItemSource, u64, Result<FetchedPage, ReadError>),
    Parked(Vec<ItemId>, Result<(), WriteFault>),
    Checkpointed(ItemSource, SettledPlace, Result<(), WriteFault>),
    /// With the time at which it was asked for.
    Renewed(Millis, Result<Leased, LeaseError>),
    /// With the last record of what was taken out of what is parked.
    Looked(Result<(ChangedGroup, Position), ReadError>),
}

/// Kind of a job: one of each is under way at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TenureJob {
    Read,
    Replay,
    Retry,
    Park,
    Checkpoint,
    Renew,
    Look,
}

/// The right to serve a group, and its state meanwhile.
pub(super) struct GroupTenure<'a> {
    members: &'a mut GroupMembers,
    group: StoredGroup,
    /// Position of the last record of what was taken out of what is parked.
    released_through: Position,
    lens: Arc<dyn EventLens>,
    machine: GroupMachine,
    lease: Lease,
    began: Millis,
    /// Time at which the lease was asked for last: from then on it holds.
    renewed: Millis,
    /// Nothing more may be written.
    is_lost: bool,
    /// Number of the settings by which events are read.
    reading: u64,
    /// The group is to be looked at.
    is_stale: bool,
    is_caught_up: bool,
    /// Events that are to be parked and are not durably parked yet.
    to_park: Vec<ParkOrder>,
    jobs: FuturesUnordered<BoxFuture<'static, JobDone>>,
    /// Jobs that are under way.
    pending: BTreeSet<TenureJob>,
    /// Jobs that failed, and the time at which they are tried again.
    again: BTreeMap<TenureJob, Millis>,
    /// Failures in a row, and the last one.
    failures: BTreeMap<TenureJob, (u32, String)>,
}

impl<'a> GroupTenure<'a> {
    /// Serves the group under a lease that was asked for at a time, and gives the lease back.
    pub(super) async fn of(
        members: &'a mut GroupMembers,
        group: StoredGroup,
        lease: Lease,
        asked: Millis,
    ) -> TenureEnd {
        let (group, places, released_through) = match Self::loaded(members, &group).await {
            Ok(loaded) => loaded,
            Err(end) => {
                members.give_lease_back(lease).await;
                return TenureEnd::Ended(end);
            }
        };
        let now = members.now();
        if now.saturating_sub(asked) >= millis(members.lease_time()) {
            return TenureEnd::Late;
        }
        let mut machine = GroupMachine::new(group.settings.clone(), &places, now);
        machine.remember(members.given.take(group.created));
        let lens = (members.lenses)(&group.settings);
        let mut tenure = Self {
            members,
            group,
            released_through,
            lens,
            machine,
            lease,
            began: now,
            renewed: asked,
            is_lost: false,
            reading: 0,
            is_stale: false,
            is_caught_up: false,
            to_park: Vec::new(),
            jobs: FuturesUnordered::new(),
            pending: BTreeSet::new(),
            again: BTreeMap::new(),
            failures: BTreeMap::new(),
        };
        for (id, member) in &tenure.members.all {
            tenure.machine.enter(*id, member.capacity, now);
        }
        let end = tenure.serve().await;
        // What the consumers have not taken may be with those of another server soon.
        if let TenureEnd::Ended(end) = &end {
            tenure.members.end_all(end);
        }
        tenure.leave(&end).await;
        end
    }

    /// Reads the group anew: what was read before the lease may be older than what its last holder
    /// did.
    async fn loaded(
        members: &GroupMembers,
        before: &StoredGroup,
    ) -> Result<(StoredGroup, GroupPlaces, Position), GroupEnd> {
        let (group, _) = StoredGroup::load(&members.store, &members.name).await.map_err(away)?;
        let group = group.filter(|now| now.created == before.created).ok_or(GroupEnd::Deleted)?;
        let places = group.places(&members.store, &members.name).await.map_err(away)?;
        let released = released_through(&members.store, &members.name).await.map_err(away)?;
        Ok((group, places, released))
    }

    async fn serve(&mut self) -> TenureEnd {
        let mut status = self.members.store.status();
        loop {
            if self.members.now() >= self.lease_end() {
                self.is_lost = true;
                return TenureEnd::Ended(away("its lease could not be renewed"));
            }
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
            self.machine.tick(self.members.now());
        }
    }

    /// Time from which on another server may have the lease.
    fn lease_end(&self) -> Millis {
        self.renewed.saturating_add(millis(self.members.lease_time()))
    }

    /// Writes down what was reached, and gives the lease back. Neither takes longer than the lease.
    async fn leave(mut self, end: &TenureEnd) {
        let is_deleted = matches!(end, TenureEnd::Ended(GroupEnd::Deleted));
        if !is_deleted && !self.is_lost {
            let until = self.members.moment(self.lease_end());
            match tokio::time::timeout_at(until, self.write_down()).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => {
                    tracing::debug!(group = %self.members.name, ?fault, "some events come again");
                }
                Err(_) => tracing::debug!(group = %self.members.name, "some events come again"),
            }
        }
        self.members.given.keep(self.group.created, self.machine.given());
        let giving_back = self.members.give_lease_back(self.lease);
        let _ = tokio::time::timeout(self.members.lease_time(), giving_back).await;
    }

    async fn write_down(&mut self) -> Result<(), WriteFault> {
        let writes = [TenureJob::Park, TenureJob::Checkpoint];
        while writes.iter().any(|kind| self.pending.contains(kind)) {
            let Some(done) = self.jobs.next().await else { break };
            if let Some(end) = self.take_done(done) {
                return Err(WriteFault::Failed(end.to_string()));
            }
        }
        match self.write_all().await {
            Err(WriteFault::Changed) => {}
            written => return written,
        }
        let (store, name) = (&self.members.store, &self.members.name);
        let changed = StoredGroup::load_on(store, name, &self.group).await;
        let changed = changed.map_err(|error| WriteFault::Failed(error.to_string()))?;
        match self.take_group(changed) {
            Some(GroupEnd::Deleted) => Err(WriteFault::Changed),
            _ if self.is_lost => Err(WriteFault::Changed),
            _ => self.write_all().await,
        }
    }

    async fn write_all(&mut self) -> Result<(), WriteFault> {
        self.hand_out();
        let right = self.right();
        let mut parked = Ok(());
        while parked.is_ok() && !self.to_park.is_empty() {
            let count = self.to_park.len().min(PARKED_AT_ONCE);
            let orders = &self.to_park[..count];
            parked = right.append(records::parking(&right.name, orders)).await;
            if parked.is_ok() {
                let ids: Vec<_> = orders.iter().map(|order| order.id).collect();
                self.to_park.drain(..count);
                self.members.totals.park(count);
                self.machine.parked(&ids, self.members.now());
            }
        }
        // What is settled is written down all the same.
        for source in ItemSource::ALL {
            let now = self.members.now();
            if let Some(due) = self.machine.due_checkpoint(source, now, true) {
                let from = self.machine.checkpoint(source);
                right.write_checkpoint(source, from, due.position).await?;
                self.machine.checkpointed(source, due, now);
            }
        }
        parked
    }

    fn right(&self) -> TenureRight {
        TenureRight {
            store: self.members.store.clone(),
            name: self.members.name.clone(),
            lease: self.lease.clone(),
            unchanged: records::unchanged(&self.members.name, &self.group),
        }
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
                self.members.totals.deliver(delivery.retries);
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
                JobDone::Renewed(now, store.backend().lease(asking).await)
            });
        }
        if self.is_stale && self.may_start(TenureJob::Look, now) {
            self.is_stale = false;
            let (store, name) = (self.members.store.clone(), self.members.name.clone());
            let group = self.group.clone();
            self.start(TenureJob::Look, now, async move {
                let looked = async {
                    let released = released_through(&store, &name).await?;
                    Ok((StoredGroup::load_on(&store, &name, &group).await?, released))
                };
                JobDone::Looked(looked.await)
            });
        }
        if !self.to_park.is_empty() && self.may_start(TenureJob::Park, now) {
            let count = self.to_park.len().min(PARKED_AT_ONCE);
            let orders = &self.to_park[..count];
            let ids = orders.iter().map(|order| order.id).collect();
            let (append, right) = (records::parking(&self.members.name, orders), self.right());
            self.start(TenureJob::Park, now, async move {
                JobDone::Parked(ids, right.append(append).await)
            });
        }
        for source in ItemSource::ALL {
            if let Some(due) = self.machine.due_checkpoint(source, now, false)
                && self.may_start(TenureJob::Checkpoint, now)
            {
                let (from, right) = (self.machine.checkpoint(source), self.right());
                self.start(TenureJob::Checkpoint, now, async move {
                    let written = right.write_checkpoint(source, from, due.position).await;
                    JobDone::Checkpointed(source, due, written)
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
        let (store, reading) = (self.members.store.clone(), self.reading);
        let from = self.machine.taken_through(ItemSource::Parked).next();
        if from <= self.group.replay_through {
            let (name, through) = (self.members.name.clone(), self.group.replay_through);
            self.start(TenureJob::Replay, now, async move {
                let fetched = replayed(&store, &name, from, through, room).await;
                JobDone::Fetched(ItemSource::Parked, reading, fetched)
            });
            return;
        }
        let from = self.machine.taken_through(ItemSource::Retried).next();
        if from <= self.released_through {
            let (name, through) = (self.members.name.clone(), self.released_through);
            self.start(TenureJob::Retry, now, async move {
                let fetched = retried(&store, &name, from, through, room).await;
                JobDone::Fetched(ItemSource::Retried, reading, fetched)
            });
            return;
        }
        let from = self.machine.taken_through(ItemSource::Read).next();
        if from <= store.head().position {
            let query = self.machine.settings().query.clone();
            let lens = Arc::clone(&self.lens);
            self.start(TenureJob::Read, now, async move {
                let fetched = fetched(&store, query, from, room, &*lens).await;
                JobDone::Fetched(ItemSource::Read, reading, fetched)
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

    fn next_wake(&self) -> Millis {
        let (now, lease) = (self.members.now(), millis(self.members.lease_time()));
        let renewal = self.may_start(TenureJob::Renew, now).then_some(self.renewed + lease / 3);
        let checkpoint =
            self.machine.next_checkpoint().filter(|_| self.may_start(TenureJob::Checkpoint, now));
        let failed = self.again.values().copied().filter(|at| *at > now);
        let known = [self.machine.next_tick(), renewal, checkpoint].into_iter().flatten();
        known.chain(failed).fold(self.lease_end(), Millis::min)
    }

    fn take_done(&mut self, done: JobDone) -> Option<GroupEnd> {
        let now = self.members.now();
        let kind = match &done {
            JobDone::Fetched(ItemSource::Read, ..) => TenureJob::Read,
            JobDone::Fetched(ItemSource::Parked, ..) => TenureJob::Replay,
            JobDone::Fetched(ItemSource::Retried, ..) => TenureJob::Retry,
            JobDone::Parked(..) => TenureJob::Park,
            JobDone::Checkpointed(..) => TenureJob::Checkpoint,
            JobDone::Renewed(..) => TenureJob::Renew,
            JobDone::Looked(_) => TenureJob::Look,
        };
        self.pending.remove(&kind);
        self.again.remove(&kind);
        let fault = match done {
            JobDone::Fetched(source, reading, Ok(page)) => {
                // What was read by other settings is read once more.
                if source != ItemSource::Read || reading == self.reading {
                    self.take_page(source, page, now);
                }
                Ok(())
            }
            JobDone::Parked(ids, Ok(())) => {
                self.to_park.retain(|order| !ids.contains(&order.id));
                self.members.totals.park(ids.len());
                self.machine.parked(&ids, now);
                Ok(())
            }
            JobDone::Checkpointed(source, at, Ok(())) => {
                self.machine.checkpointed(source, at, now);
                Ok(())
            }
            JobDone::Renewed(asked, Ok(Leased::Held(lease))) if lease.fence == self.lease.fence => {
                (self.lease, self.renewed) = (lease, asked);
                // Other servers change groups too.
                self.is_stale = true;
                Ok(())
            }
            JobDone::Looked(Ok((changed, released_through))) => {
                self.failures.remove(&kind);
                self.released_through = self.released_through.max(released_through);
                return self.take_group(changed);
            }
            JobDone::Renewed(_, Ok(_)) => Err(WriteFault::Fenced),
            JobDone::Renewed(_, Err(LeaseError::Closed))
            | JobDone::Fetched(_, _, Err(ReadError::Closed))
            | JobDone::Looked(Err(ReadError::Closed)) => Err(WriteFault::Closed),
            JobDone::Fetched(_, _, Err(error)) | JobDone::Looked(Err(error)) => {
                Err(WriteFault::Failed(error.to_string()))
            }
            JobDone::Renewed(_, Err(error)) => Err(WriteFault::Failed(error.to_string())),
            JobDone::Parked(_, Err(fault)) | JobDone::Checkpointed(_, _, Err(fault)) => Err(fault),
        };
        match fault {
            Ok(()) => {
                self.failures.remove(&kind);
                None
            }
            Err(fault) => self.take_fault(kind, fault, now),
        }
    }

    fn take_page(&mut self, source: ItemSource, page: FetchedPage, now: Millis) {
        if source == ItemSource::Read {
            self.is_caught_up = page.is_end;
        }
        self.machine.take(source, page.events, page.through, now);
    }

    /// Lets a job that failed wait, or ends the tenure if it is no use to wait here.
    fn take_fault(&mut self, kind: TenureJob, fault: WriteFault, now: Millis) -> Option<GroupEnd> {
        match fault {
            WriteFault::Fenced => {
                self.is_lost = true;
                Some(away("another server serves it"))
            }
            WriteFault::Closed => {
                self.is_lost = true;
                Some(away(ReadError::Closed))
            }
            WriteFault::Changed => {
                self.is_stale = true;
                self.again.insert(kind, now + millis(AGAIN));
                None
            }
            WriteFault::Failed(error) => {
                tracing::warn!(group = %self.members.name, %error, "a group cannot go on, it waits");
                self.is_stale |= kind == TenureJob::Look;
                self.again.insert(kind, now + millis(AGAIN));
                let (count, last) = self.failures.entry(kind).or_default();
                *count += 1;
                last.clone_from(&error);
                (*count >= FAILURES_MAX).then(|| away(error))
            }
        }
    }

    /// Takes what the group is by now.
    fn take_group(&mut self, changed: ChangedGroup) -> Option<GroupEnd> {
        let ChangedGroup { group, first_update } = changed;
        let Some(next) = group.filter(|next| next.created == self.group.created) else {
            return Some(GroupEnd::Deleted);
        };
        let before = std::mem::replace(&mut self.group, next);
        let (next, now) = (&self.group, self.members.now());
        if next.start != before.start {
            // What was settled of what is read no longer is not written down.
            self.is_lost = true;
            return Some(GroupEnd::Updated);
        }
        if next.settings != before.settings {
            let is_read_else = next.settings.query != before.settings.query
                || next.settings.face != before.settings.face;
            if let Some(at) = first_update.filter(|_| is_read_else) {
                self.machine.go_back(ItemSource::Read, at);
                self.reading += 1;
                self.is_caught_up = false;
            }
            self.lens = (self.members.lenses)(&next.settings);
            self.machine.configure(next.settings.clone(), now);
        }
        // What waited for this is done by the right of the group as it is now.
        self.again.retain(|kind, _| !matches!(kind, TenureJob::Park | TenureJob::Checkpoint));
        (next.ended_consumers > before.ended_consumers).then_some(GroupEnd::Updated)
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
            GroupCommand::Changed => self.is_stale = true,
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
            failing: self.failures.values().next().map(|(_, error)| error.clone()),
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
