//! The turn of a runner at a place that several processes share.
//!
//! A database that other processes can write, too, has one session for each place, whoever comes
//! first: its own lock keeps two from writing, whatever else is believed. So that the places are
//! spread evenly over the runtimes on an event store, each place has a lease there as well, by
//! which members plan and people are told who has what:
//!
//! ```text
//! $projection:NAME vVERSION at HOME
//! ```
//!
//! HOME is the [name](super::Target::shared_as) that the database has for every process, so a read
//! model that is kept on each of two machines is two works. VERSION is the version, and `v3 beside`
//! while it is rebuilt in its [other place](super::BESIDE): so the version that serves, the next
//! one, and a rebuild are works of their own, which different processes may have, and a process
//! whose program does not know a version is given no part in it.
//!
//! *The lock decides and the lease tells.* A runner asks for the lease only when it has the
//! session, and works on without one: while the store gives none, or while that of a crashed
//! process is not over. Before it asks for the session it waits until the plan calls it. If the
//! rows stand still meanwhile, although there is something new, it tries all the same, so a process
//! that crashed is replaced as soon as the database has noticed. One that is called away closes its
//! sessions and then gives the lease back; one whose sessions are lost gives the place up, and
//! takes no part until the target has answered again, and for some time only if nobody else can. A
//! program of an earlier release, which knows nothing of these leases, is one that has the lock.

use std::sync::Arc;

use super::lane::{LaneContext, ProjectionTrouble};
use super::{BESIDE, Projection, TARGET_WITHIN, Target};
use crate::runtime::Host;
use crate::runtime::clock::Clock;
use crate::runtime::consumer::lease::{self, Right, WorkTenure};
use crate::store::{Digest, Label, Position, Timestamp};

// ANCHOR: limits
/// Bytes of the name of a home that several processes share, as leases have it.
pub const HOME_BYTES_MAX: usize = 120;
// ANCHOR_END: limits

/// Part of a runner in a place that it may share with other processes.
#[derive(Debug, Default)]
pub(super) struct PlaceTurn {
    /// `None` if the place is not shared.
    tenure: Option<WorkTenure>,
    /// The work that the tenure is for.
    work: Option<Label>,
    /// True if it tries to have the place next, whoever is to have it.
    pub(super) insists: bool,
    /// True until it has asked for its turn.
    is_new: bool,
    /// True if it is to have the place, or has it: so it counts if it fails.
    counts: bool,
}

impl PlaceTurn {
    /// Takes part in the place that the version has its rows in, if it is shared.
    pub(super) async fn join<T: Target, P: Projection<T>>(
        &mut self,
        ground: &LaneContext<T, P>,
    ) -> Result<(), ProjectionTrouble> {
        if T::KEPT_IN_STORE || ground.host.membership.is_none() {
            return Ok(());
        }
        let home = ground.target.shared_as();
        let home = ground
            .calls
            .ask("its target to name itself, at", Position::START, TARGET_WITHIN, home)
            .await
            .map_err(|error| ground.trouble(&error))?;
        // A work whose name is none is not shared.
        let work = home.and_then(|home| work_of(P::NAME, ground.desk.slot(), &home));
        if work != self.work {
            self.give_back(&ground.host).await;
            let new = |work| WorkTenure::new::<P>(&ground.host, ground.desk.label, work);
            (self.tenure, self.work) = (work.clone().map(new), work);
            self.is_new = true;
            if let Some(tenure) = &self.tenure {
                // So a start does not wait for the lock of each place that another one has.
                tenure.gives_way(&ground.host).await;
            }
        }
        Ok(())
    }

    /// Returns an error if another one has the place, or is to have it, unless this one insists.
    pub(super) fn begins(&mut self, now: Timestamp) -> Result<(), ProjectionTrouble> {
        let is_new = std::mem::take(&mut self.is_new);
        if self.insists {
            return Ok(());
        }
        if let Some(waits) = self.waits(now) {
            // That one may be dead: a runtime that has just started asks for the lock once.
            self.insists = is_new;
            return Err(waits);
        }
        self.counts = true;
        Ok(())
    }

    /// Returns who has the place, or is to have it; `None` if it is this one's turn.
    pub(super) fn waits(&mut self, now: Timestamp) -> Option<ProjectionTrouble> {
        match self.tenure.as_mut()?.waits_for_call(now)? {
            Right::StandsBy(why, until) => Some(ProjectionTrouble::StandsBy(why, until)),
            _ => None,
        }
    }

    /// Tells the others that it has the place, if it is time.
    pub(super) async fn announce(&mut self, host: &Host) {
        (self.insists, self.counts) = (false, true);
        if let Some(tenure) = &mut self.tenure {
            tenure.announce(host).await;
        }
    }

    /// Tells whether other processes may have the place.
    pub(super) fn is_shared(&self) -> bool {
        self.tenure.is_some()
    }

    /// Tells whether another runtime is to have the place.
    pub(super) fn is_called_away(&self) -> bool {
        self.tenure.as_ref().is_some_and(WorkTenure::is_called_away)
    }

    /// Waits until it is to announce itself again, or its part in the plan changes.
    pub(super) fn due(&self, clock: &Arc<dyn Clock>) -> impl Future<Output = ()> + Send + use<> {
        lease::due(self.tenure.as_ref(), clock)
    }

    /// Waits until its part in the plan changes.
    pub(super) fn called(&self) -> impl Future<Output = ()> + Send + use<> {
        lease::called(self.tenure.as_ref())
    }

    /// Lets others have the place at once; its sessions are closed.
    pub(super) async fn give_back(&mut self, host: &Host) {
        self.counts = false;
        if let Some(tenure) = &mut self.tenure {
            tenure.release(host).await;
        }
    }

    /// Gives the place up, since the target cannot be used from here: another process that can use
    /// it goes on. This one tries again by itself.
    pub(super) async fn give_up(&mut self, host: &Host) {
        self.insists = true;
        let counts = std::mem::take(&mut self.counts);
        if let Some(tenure) = &mut self.tenure {
            if counts {
                tenure.give_up(host).await;
            }
            // Until the target answers.
            tenure.steps_back();
        }
    }

    /// Takes part in the plan again, since the target answers.
    pub(super) fn steps_forward(&self, now: Timestamp) {
        self.tenure.iter().for_each(|tenure| tenure.steps_forward(now));
    }

    /// Notes that it can do the work.
    pub(super) fn worked(&mut self) {
        self.tenure.iter_mut().for_each(WorkTenure::worked);
    }
}

/// Returns the name of the lease on a place.
fn work_of(name: &str, place: u32, home: &str) -> Option<Label> {
    let beside = if place & BESIDE == 0 { "" } else { " beside" };
    let home = if home.len() > HOME_BYTES_MAX || home.chars().any(char::is_control) {
        let Digest(hash) = Digest::of(home.as_bytes());
        format!("{:032x}", u128::from_be_bytes(hash))
    } else {
        home.to_owned()
    };
    Label::new(format!("$projection:{name} v{}{beside} at {home}", place & !BESIDE)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::limits::LABEL_BYTES_MAX;

    #[test]
    fn every_place_has_a_work_of_its_own_whatever_its_home_is_called() {
        let longest = "z".repeat(40);
        let work = |name, place, home: &str| work_of(name, place, home).unwrap().to_string();
        assert_eq!(work("visits", 3, "home"), "$projection:visits v3 at home");
        assert_eq!(work("visits", 3 | BESIDE, "home"), "$projection:visits v3 beside at home");
        let (one, other) = ("h".repeat(5_000), "i".repeat(5_000));
        assert_ne!(work(&longest, u32::MAX, &one), work(&longest, u32::MAX, &other));
        assert_ne!(work("visits", 1, "a\0"), work("visits", 1, "b\0"));
        assert!(work(&longest, u32::MAX, &"h".repeat(HOME_BYTES_MAX)).len() < LABEL_BYTES_MAX);
    }
}
