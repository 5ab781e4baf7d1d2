//! The rules of leases: which holder is given some work, and which fences hold.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::limits::{LEASE_REMEMBERED_SECONDS, LEASE_SECONDS_MAX, LEASES_MAX};
use super::{
    AppendError, Fence, HeldLease, Holder, Label, Lease, LeaseError, LeaseRequest, Leased,
    Timestamp,
};

/// The leases of a backend that has one owner and keeps them in memory: the rules, without a clock
/// or a lock.
///
/// The backend calls it in the order in which it judges appends, and answers a new tenure only
/// after all that it judged before is durable: the new holder then reads everything that was
/// appended under earlier fences.
///
/// A tenure that has been over for an hour ([`LEASE_REMEMBERED_SECONDS`]) is forgotten: each start
/// of a program leaves some whose names never come again. That is safe at any time. The last fence
/// is kept by itself, so no fence is ever given twice, and a fence whose tenure is not known is
/// refused. Only a holder that is late by more than that has to ask anew, though nobody has had
/// its work.
#[derive(Debug, Default)]
pub struct Leases {
    /// The greatest fence that was given for any work: so a tenure that is forgotten is still
    /// smaller than the next.
    last: Fence,
    tenures: HashMap<Label, Tenure>,
    /// Number of tenures that were forgotten.
    forgotten: u64,
    /// Moment at which it was last seen to that those are forgotten that were over long ago.
    swept_at: Option<Timestamp>,
}

/// Longest time that a lease can have left, by a clock that is set back a little.
const LEFT_MAX: Duration = Duration::from_secs(2 * LEASE_SECONDS_MAX as u64);
/// Time after its end for which a tenure is kept.
const REMEMBERED: Duration = Duration::from_secs(LEASE_REMEMBERED_SECONDS as u64);
/// Time between two looks for those that were over long ago, so that not every new tenure looks at
/// all that there are.
const SWEPT_EVERY: Duration = Duration::from_secs(LEASE_REMEMBERED_SECONDS as u64 / 12);

/// The latest tenure of one piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Fence of the tenure.
    pub fence: Fence,
    /// Holder of the tenure; `None` if it was released.
    pub holder: Option<Holder>,
    /// Moment at which it is over, unless it is renewed.
    pub until: Timestamp,
    /// Note of the latest request.
    pub note: Bytes,
}

impl Tenure {
    /// Returns the holder that has the work at `now`, if any. A lease that has twice as long left
    /// as any is given for was given by a clock that was ahead then: nobody waits for its end.
    #[must_use]
    pub fn holder_at(&self, now: Timestamp) -> Option<Holder> {
        let lasts = self.until > now && self.until.since(now) <= LEFT_MAX;
        self.holder.filter(|_| lasts)
    }
}

impl Leases {
    /// Makes all later fences greater than this one: a fence that no earlier opening of the store
    /// reached.
    pub fn go_beyond(&mut self, last: Fence) {
        self.last = self.last.max(last);
    }

    /// Returns the greatest fence that was given, or that it was told to go beyond.
    #[must_use]
    pub fn last(&self) -> Fence {
        self.last
    }

    /// Puts back a tenure that the backend keeps elsewhere too.
    pub fn restore(&mut self, work: Label, tenure: Tenure) {
        self.go_beyond(tenure.fence);
        self.tenures.insert(work, tenure);
    }

    /// Returns the latest tenure of some work; `None` if there was none, or it was forgotten.
    #[must_use]
    pub fn tenure(&self, work: &Label) -> Option<&Tenure> {
        self.tenures.get(work)
    }

    /// Returns the works whose latest tenures are kept, in no order.
    pub fn works(&self) -> impl Iterator<Item = &Label> {
        self.tenures.keys()
    }

    /// Returns the number of tenures that were forgotten so far. A backend that keeps them
    /// elsewhere too forgets there all but the [works](Self::works) when this has grown.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Gives the work to the holder, or renews its lease, unless another has it at `now`.
    pub fn lease(&mut self, request: LeaseRequest, now: Timestamp) -> Result<Leased, LeaseError> {
        request.validate()?;
        let LeaseRequest { work, holder, during, note } = request;
        let until = now.plus(during);
        match self.tenures.get_mut(&work) {
            Some(tenure) if tenure.holder == Some(holder) => {
                (tenure.until, tenure.note) = (until, note);
                return Ok(Leased::Held(Lease { work, fence: tenure.fence, until }));
            }
            Some(tenure) => match tenure.holder_at(now) {
                Some(holder) => return Ok(Leased::HeldBy { holder, until: tenure.until }),
                None => self.sweep(now),
            },
            None => {
                self.sweep(now);
                self.make_room(now)?;
            }
        }
        self.last = Fence(self.last.0.saturating_add(1));
        let tenure = Tenure { fence: self.last, holder: Some(holder), until, note };
        self.tenures.insert(work.clone(), tenure);
        Ok(Leased::Held(Lease { work, fence: self.last, until }))
    }

    /// Ends the tenure of a lease, if it is the latest; its fence stays until another holds the
    /// work.
    pub fn release(&mut self, lease: &Lease) {
        if let Some(tenure) = self.tenures.get_mut(&lease.work)
            && tenure.fence == lease.fence
        {
            (tenure.holder, tenure.note) = (None, Bytes::new());
        }
    }

    /// Returns the leases that are held at `now`, in the order of the names of their works.
    #[must_use]
    pub fn held(&self, now: Timestamp) -> Vec<HeldLease> {
        let mut held: Vec<HeldLease> = self
            .tenures
            .iter()
            .filter_map(|(work, tenure)| {
                let holder = tenure.holder_at(now)?;
                let Tenure { fence, until, note, .. } = tenure;
                let (work, note) = (work.clone(), note.clone());
                Some(HeldLease { work, holder, fence: *fence, until: *until, note })
            })
            .collect();
        held.sort_unstable_by(|one, other| one.work.cmp(&other.work));
        held
    }

    /// Refuses an append whose fence is not the latest of its work.
    pub fn check(&self, under: Option<&(Label, Fence)>) -> Result<(), AppendError> {
        let Some((work, fence)) = under else { return Ok(()) };
        let current = self.tenures.get(work).map(|tenure| tenure.fence);
        if current == Some(*fence) {
            return Ok(());
        }
        Err(AppendError::Fenced { work: work.clone(), fence: *fence, current })
    }

    /// Forgets the tenures that were over long ago, if it is time to look.
    fn sweep(&mut self, now: Timestamp) {
        // A clock that was set back says nothing of when it was last done.
        if self.swept_at.is_some_and(|at| now >= at && now < at.plus(SWEPT_EVERY)) {
            return;
        }
        self.swept_at = Some(now);
        self.keep_only(|tenure| tenure.until.plus(REMEMBERED) > now);
    }

    /// Makes room for a new lease. A lease that is over is kept until then, so that a holder that
    /// was only late goes on.
    fn make_room(&mut self, now: Timestamp) -> Result<(), LeaseError> {
        if self.tenures.len() >= LEASES_MAX {
            self.keep_only(|tenure| tenure.holder_at(now).is_some());
        }
        if self.tenures.len() >= LEASES_MAX {
            Err(LeaseError::TooMany { limit: LEASES_MAX })
        } else {
            Ok(())
        }
    }

    fn keep_only(&mut self, is_kept: impl Fn(&Tenure) -> bool) {
        let before = self.tenures.len();
        self.tenures.retain(|_, tenure| is_kept(tenure));
        self.forgotten += (before - self.tenures.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn work(name: &str) -> Label {
        Label::new(name.to_owned()).unwrap()
    }

    fn ask(name: &str, holder: Holder) -> LeaseRequest {
        LeaseRequest::new(work(name), holder, MINUTE)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn held(leased: Result<Leased, LeaseError>) -> Lease {
        match leased {
            Ok(Leased::Held(lease)) => lease,
            other => panic!("the work should have been given, but the answer is {other:?}"),
        }
    }

    #[test]
    fn a_lease_lasts_until_its_moment_and_not_at_it() {
        let (mut leases, one, other) = (Leases::default(), Holder::random(), Holder::random());
        let first = held(leases.lease(ask("w", one), at(100)));
        assert_eq!(first.until, at(160));
        let refused = leases.lease(ask("w", other), at(159));
        assert_eq!(refused, Ok(Leased::HeldBy { holder: one, until: at(160) }));
        let second = held(leases.lease(ask("w", other), at(160)));
        assert!(second.fence > first.fence);
    }

    /// Its holder, if it lives, goes on until another asks.
    #[test]
    fn a_lease_of_a_clock_that_was_a_year_ahead_is_over_when_the_clock_is_right_again() {
        let (mut leases, one, other) = (Leases::default(), Holder::random(), Holder::random());
        let year = 365 * 86_400;
        let first = held(leases.lease(ask("w", one), at(year)));
        assert_eq!(leases.held(at(year)).len(), 1);
        assert_eq!(leases.held(at(0)), []);
        assert_eq!(leases.check(Some(&(work("w"), first.fence))), Ok(()));
        let second = held(leases.lease(ask("w", other), at(0)));
        assert!(second.fence > first.fence);
        assert_eq!(leases.held(at(0)).len(), 1);
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_asked_for() {
        let (mut leases, one, other) = (Leases::default(), Holder::random(), Holder::random());
        let first = held(leases.lease(ask("w", one), at(100)));
        let renewed = held(leases.lease(ask("w", one), at(130)));
        assert_eq!((renewed.fence, renewed.until), (first.fence, at(190)));
        assert_eq!(
            leases.lease(ask("w", other), at(189)),
            Ok(Leased::HeldBy { holder: one, until: at(190) })
        );
    }

    #[test]
    fn leases_are_listed_in_order_until_they_are_over_or_given_back() {
        let (mut leases, one, other) = (Leases::default(), Holder::random(), Holder::random());
        let second = held(leases.lease(ask("b", one).with_note("b"), at(130)));
        let first = held(leases.lease(ask("a", other), at(100)));
        let listed = |leases: &Leases, second| {
            let held = leases.held(at(second)).into_iter();
            held.map(|held| (held.work, held.holder, held.fence, held.note)).collect::<Vec<_>>()
        };
        let (a, b) = (
            (work("a"), other, first.fence, Bytes::new()),
            (work("b"), one, second.fence, Bytes::from("b")),
        );
        assert_eq!(listed(&leases, 159), [a, b.clone()]);
        assert_eq!(listed(&leases, 160), [b]);
        leases.release(&second);
        assert_eq!(listed(&leases, 100).len(), 1, "a clock that goes back finds no released one");
    }

    #[test]
    fn fences_grow_though_tenures_are_forgotten_and_the_clock_goes_back() {
        let (mut leases, mut last) = (Leases::default(), Fence(5_000_000));
        leases.go_beyond(last);
        for number in 0..3 * LEASES_MAX as i64 {
            let (work, holder) = (work(&format!("w{number}")), Holder::random());
            let request = LeaseRequest::new(work, holder, Duration::ZERO);
            let lease = held(leases.lease(request, at(9 - number % 10)));
            assert!(lease.fence > last, "{number}");
            last = lease.fence;
        }
        assert!(leases.tenures.len() <= LEASES_MAX);
    }

    /// Each start of a program left the leases of its runtime, up to ten thousand of them.
    #[test]
    fn starts_leave_no_more_than_those_of_the_last_hour_behind() {
        let mut leases = Leases::default();
        for start in 0..1_000 {
            let now = at(600 * start);
            for name in ["runtime", "server"] {
                held(leases.lease(ask(&format!("{name} {start}"), Holder::random()), now));
            }
            // Two each, of at most 62 minutes and a sweep.
            assert!(leases.works().count() <= 2 * 8, "{}", leases.works().count());
        }
        assert_eq!(leases.forgotten() + leases.works().count() as u64, 2_000);
        // A clock that was set back by a day does not keep them all.
        let mut late = at(600 * 1_000 - 86_400);
        for start in 0..1_000 {
            late = late.plus(10 * MINUTE);
            held(leases.lease(ask(&format!("again {start}"), Holder::random()), late));
        }
        assert!(leases.works().count() <= 8, "{}", leases.works().count());
    }

    #[test]
    fn what_is_held_is_never_forgotten_and_what_is_over_makes_room() {
        let (mut leases, holder) = (Leases::default(), Holder::random());
        let all: Vec<Lease> = (0..LEASES_MAX)
            .map(|number| held(leases.lease(ask(&number.to_string(), holder), at(0))))
            .collect();
        let more = |leases: &mut Leases, second| leases.lease(ask("one more", holder), at(second));
        assert_eq!(more(&mut leases, 59), Err(LeaseError::TooMany { limit: LEASES_MAX }));
        assert_eq!(
            held(leases.lease(ask("0", holder), at(59))).fence,
            all[0].fence,
            "a renewal needs no room"
        );
        leases.release(&all[1]);
        held(more(&mut leases, 59));
        let under = |lease: &Lease| Some((lease.work.clone(), lease.fence));
        let forgotten = AppendError::Fenced { work: work("1"), fence: all[1].fence, current: None };
        assert_eq!(leases.check(under(&all[1]).as_ref()), Err(forgotten));
        assert_eq!(leases.check(under(&all[2]).as_ref()), Ok(()));
    }
}
