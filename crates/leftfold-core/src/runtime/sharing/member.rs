//! A runtime as a member: it says that it is there, lists who else is, and calls its own consumers
//! to their parts of the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use super::note::{MEMBERS, MemberNote, member_of, work_of, written};
use super::plan::{Abilities, Situation, WorkId, plan};
use super::share::{Membership, WorkAbility, WorkCall};
use crate::runtime::consumer::{backoff, contained};
use crate::runtime::{Host, stopped};
use crate::store::{
    HeldLease, Holder, Invalid, Label, Lease, LeaseError, LeaseRequest, Leased, Timestamp,
};

/// Time between two listings of the leases: a work that was given back has its next runner within
/// this time, and the moment that taking it takes.
const LISTED_EVERY: Duration = Duration::from_millis(500);
/// The same while no other runtime is there.
const LISTED_ALONE_EVERY: Duration = Duration::from_secs(3);
/// Time after which a work that a member is to take, and does not, is planned to another one.
const FREE_FOR: Duration = Duration::from_secs(3);
/// Time that a start waits for the first list of the other runtimes on the store, and a stop until
/// they are told, at most.
pub(in crate::runtime) const TAKES_PART_WITHIN: Duration = Duration::from_secs(2);
/// Time for which a work is not moved to a member that did not take it.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The member that a running runtime is.
pub(in crate::runtime) struct Member {
    host: Host,
    membership: Arc<Membership>,
    work: Label,
    holder: Holder,
    /// Its own lease, with the note and the time of the last renewal.
    lease: Option<(Lease, MemberNote, Timestamp)>,
    is_alone: bool,
    /// Works that other members had when they were listed last, and until when.
    seen: BTreeMap<WorkId, (Uuid, Timestamp)>,
    /// Members that let the lease on a work go by, or did not take one, and so are likely gone,
    /// each with the end that its own lease had then.
    lapsed: BTreeMap<Uuid, Timestamp>,
    /// Works that nobody has, the member that is to take each, and since when it is.
    free: BTreeMap<WorkId, (Uuid, Timestamp)>,
    /// Works that a member was to take and did not, and until when they are not moved to it.
    kept: BTreeMap<WorkId, (Uuid, Timestamp)>,
}

/// A lease on a work, as it was listed.
struct ListedWork {
    runtime: Option<Uuid>,
    holder: Holder,
    until: Timestamp,
}

impl Member {
    pub(in crate::runtime) fn new(
        host: Host,
        membership: Arc<Membership>,
    ) -> Result<Self, Invalid> {
        let work = Label::new(format!("{MEMBERS}{}", membership.id))?;
        Ok(Self {
            host,
            membership,
            work,
            holder: Holder::random(),
            lease: None,
            is_alone: true,
            seen: BTreeMap::new(),
            lapsed: BTreeMap::new(),
            free: BTreeMap::new(),
            kept: BTreeMap::new(),
        })
    }

    /// Takes part until it is told to stop and every consumer has ended. After a panic, which would
    /// be a bug, consumers ask for their leases without a plan until it takes part again.
    pub(in crate::runtime) async fn run(mut self, stop: watch::Receiver<bool>) {
        loop {
            let (host, membership) = (self.host.clone(), self.membership.clone());
            let holder = self.holder;
            let Err(said) = contained(self.takes_part(stop.clone())).await else { return };
            tracing::error!(
                said,
                "the sharing of work panicked, so each consumer takes what is free"
            );
            membership.call(|_, _| WorkCall::Take);
            let Ok(again) = Self::new(host, membership) else { return };
            self = Self { holder, ..again };
            let again_at = self.host.clock.now().plus(backoff::SHARING.first);
            self.host.clock.sleep_until(again_at).await;
        }
    }

    async fn takes_part(mut self, mut stop: watch::Receiver<bool>) {
        let (clock, mut changes) = (self.host.clock.clone(), self.membership.changes());
        loop {
            let stops = *stop.borrow() || stop.has_changed().is_err();
            changes.borrow_and_update();
            if stops && self.membership.is_empty() {
                break;
            }
            if let Err(LeaseError::Closed) = self.take_part(stops).await {
                // Each consumer asks the store itself, and ends.
                break;
            }
            let again_at = clock.now().plus(self.listed_every());
            tokio::select! {
                biased;
                () = stopped(&mut stop), if !stops => {}
                Ok(()) = changes.changed() => {}
                () = clock.sleep_until(again_at) => {}
            }
        }
        if let Some((lease, ..)) = self.lease.take() {
            // Where that fails, the others wait until it is over.
            let _ = self.host.store.release(lease).await;
        }
    }

    fn listed_every(&self) -> Duration {
        if self.is_alone { LISTED_ALONE_EVERY } else { LISTED_EVERY }
    }

    /// Says that it is there, and calls its consumers to their parts. While the leases cannot be
    /// listed each consumer asks for its own.
    pub(in crate::runtime) async fn take_part(&mut self, stops: bool) -> Result<(), LeaseError> {
        let listed = match self.say_so(stops).await {
            Err(LeaseError::Closed) => Err(LeaseError::Closed),
            // Others do not see it, and it works all the same.
            Ok(()) | Err(_) => self.host.store.leases().await,
        };
        match listed {
            Ok(held) => self.call(&held, stops),
            Err(error) => {
                tracing::debug!(%error, "the leases cannot be listed, so every consumer asks");
                self.membership.call(|_, _| WorkCall::Take);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes or renews the lease of its own, if there is something new to say or it is time.
    async fn say_so(&mut self, stops: bool) -> Result<(), LeaseError> {
        let (now, note) = (self.host.clock.now(), self.membership.note(stops));
        if let Some((_, said, at)) = &self.lease
            && *said == note
            && now >= *at
            && now < at.plus(self.membership.lease / 3)
        {
            return Ok(());
        }
        let request = LeaseRequest::new(self.work.clone(), self.holder, self.membership.lease)
            .with_note(written(&note));
        if let Leased::Held(lease) = self.host.store.lease_for_runtime(request).await? {
            self.lease = Some((lease, note, now));
        }
        Ok(())
    }

    /// Plans by the leases that are held, and calls its consumers.
    fn call(&mut self, held: &[HeldLease], stops: bool) {
        let (now, own) = (self.host.clock.now(), self.membership.id);
        let mut members: BTreeMap<Uuid, Abilities> = held
            .iter()
            .filter_map(member_of)
            .filter(|(_, note)| !note.stops)
            .map(|(id, note)| (id, note.abilities()))
            .collect();
        members.remove(&own);
        let works_of = |ability| self.membership.works_of(ability).into_iter().collect();
        let able: BTreeSet<WorkId> = works_of(WorkAbility::Able);
        let last_resort: BTreeSet<WorkId> = works_of(WorkAbility::LastResort);
        if !stops {
            members.insert(own, Abilities::These(able.clone()));
        }
        let works: BTreeMap<WorkId, ListedWork> = held
            .iter()
            .filter(|lease| lease.work.is_system() && !lease.work.starts_with(MEMBERS))
            .map(|lease| {
                let runtime = work_of(lease).map(|note| note.runtime);
                let HeldLease { holder, until, .. } = *lease;
                (WorkId::of(&lease.work), ListedWork { runtime, holder, until })
            })
            .collect();
        let others = |listed: &ListedWork| listed.runtime.is_some_and(|runtime| runtime != own);
        self.is_alone = !held.iter().filter_map(member_of).any(|(id, _)| id != own)
            && !works.values().any(others);
        self.watch_lapses(held, &works, now);
        self.kept.retain(|_, (_, until)| *until > now);
        members.retain(|member, _| !self.lapsed.contains_key(member));
        let holders = works.iter().map(|(work, listed)| (*work, listed.runtime)).collect();
        let mut situation = Situation { members, held: holders, kept: BTreeMap::new() };
        let planned = loop {
            situation.kept = self.kept.iter().map(|(work, (from, _))| (*work, *from)).collect();
            let planned = plan(&situation);
            self.watch_free(&able, &works, &planned, now);
            if !self.watch_idle(&mut situation, held, now) {
                break planned;
            }
        };
        self.membership.call(|work, holder| {
            let is_own = planned.get(&work).is_none_or(|member| *member == own);
            match works.get(&work) {
                Some(listed) if listed.holder != holder => {
                    WorkCall::Wait(Some((listed.holder, listed.until)))
                }
                Some(_) if is_own || stops => WorkCall::Take,
                Some(_) => WorkCall::HandOver,
                None if is_own && able.contains(&work) => WorkCall::Take,
                // Nobody is able to do it, and somebody has to find out when that is over.
                None if last_resort.contains(&work) && !planned.contains_key(&work) => {
                    WorkCall::Take
                }
                None => WorkCall::Wait(None),
            }
        });
    }

    /// Finds the members that let a lease go by: whoever lives renews it long before. Their own
    /// lease may last a little longer, and a plan that counts on them leaves work undone meanwhile.
    fn watch_lapses(
        &mut self,
        held: &[HeldLease],
        works: &BTreeMap<WorkId, ListedWork>,
        now: Timestamp,
    ) {
        let until = ends_of_members(held);
        for (work, (member, ends_at)) in std::mem::take(&mut self.seen) {
            let is_held = works.get(&work).is_some_and(|listed| listed.runtime == Some(member));
            // What was given back ends later.
            if !is_held
                && ends_at <= now.plus(LISTED_EVERY)
                && let Some(until) = until.get(&member)
            {
                self.lapsed.insert(member, *until);
            }
        }
        self.lapsed.retain(|member, then| until.get(member) == Some(then));
        let own = self.membership.id;
        let others = works.iter().filter_map(|(work, listed)| {
            Some((*work, (listed.runtime.filter(|member| *member != own)?, listed.until)))
        });
        self.seen = others.collect();
    }

    /// Notes since when each free work is to be taken by the same member.
    fn watch_free(
        &mut self,
        able: &BTreeSet<WorkId>,
        works: &BTreeMap<WorkId, ListedWork>,
        planned: &BTreeMap<WorkId, Uuid>,
        now: Timestamp,
    ) {
        let before = std::mem::take(&mut self.free);
        let free = planned.iter().filter(|(work, _)| able.contains(work));
        let free = free.filter(|(work, _)| !works.contains_key(work)).map(|(work, member)| {
            let same = before.get(work).filter(|(before, _)| before == member);
            (*work, same.copied().unwrap_or((*member, now)))
        });
        self.free = free.collect();
    }

    /// Finds the members that did not take a work for a while, takes them out of the situation, and
    /// tells whether there are any. Whoever lives says so soon, and is given other works then.
    fn watch_idle(
        &mut self,
        situation: &mut Situation,
        held: &[HeldLease],
        now: Timestamp,
    ) -> bool {
        let own = self.membership.id;
        let until = ends_of_members(held);
        let mut are_any = false;
        for (work, (member, since)) in &self.free {
            if *member != own && now.since(*since) >= FREE_FOR {
                self.kept.insert(*work, (*member, now.plus(KEPT_FOR)));
                self.lapsed.extend(until.get(member).map(|until| (*member, *until)));
                are_any |= situation.members.remove(member).is_some();
            }
        }
        are_any
    }
}

/// Returns the end of each member's own lease.
fn ends_of_members(held: &[HeldLease]) -> BTreeMap<Uuid, Timestamp> {
    held.iter().filter_map(|lease| Some((member_of(lease)?.0, lease.until))).collect()
}
