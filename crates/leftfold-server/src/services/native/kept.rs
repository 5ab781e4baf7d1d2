//! Answers that a session keeps until its client has them, and the memory that sessions take: of
//! each user, and of all users together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use leftfold_protocol::IN_FLIGHT_MAX;

/// Bytes of the answers that the sessions of one user keep; beyond them each forgets its oldest.
const KEPT_BYTES_OF_USER_MAX: usize = 256 << 20;
/// Bytes of the answers that all sessions keep. Beyond them those of each user who has more than
/// an equal share forget their oldest, and beyond twice as many those of whoever adds one.
const KEPT_BYTES_MAX: usize = 512 << 20;

/// Bytes of the answers that all sessions keep, and the users who have sessions.
#[derive(Default)]
pub(super) struct AllKeptBytes {
    bytes: AtomicUsize,
    users: AtomicUsize,
}

impl AllKeptBytes {
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Bytes of the answers that all sessions of a user keep.
pub(super) struct KeptBytes {
    own: AtomicUsize,
    all: Arc<AllKeptBytes>,
}

impl KeptBytes {
    /// A user who keeps nothing yet.
    pub(super) fn of_user(all: &Arc<AllKeptBytes>) -> Arc<Self> {
        all.users.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { own: AtomicUsize::new(0), all: Arc::clone(all) })
    }

    /// Counts an answer that is kept.
    fn add(&self, bytes: usize) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.all.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts answers that are forgotten.
    fn forget(&self, bytes: usize) {
        self.own.fetch_sub(bytes, Ordering::Relaxed);
        self.all.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Tells whether the user has to forget something. Whoever has its share, or less, keeps it
    /// while all users together keep at most twice [`KEPT_BYTES_MAX`]: those who had more when they
    /// were fewer come down to it only when they add something.
    fn is_too_much(&self) -> bool {
        let own = self.own.load(Ordering::Relaxed);
        let all = self.all.bytes.load(Ordering::Relaxed);
        if all <= KEPT_BYTES_MAX {
            return own > KEPT_BYTES_OF_USER_MAX;
        }
        if all > 2 * KEPT_BYTES_MAX {
            return own > 0;
        }
        let share = KEPT_BYTES_MAX / self.all.users.load(Ordering::Relaxed).max(1);
        own > share.min(KEPT_BYTES_OF_USER_MAX)
    }
}

impl Drop for KeptBytes {
    fn drop(&mut self) {
        self.all.users.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers that are kept for a client that has not confirmed them; an older one is then unknown.
pub(super) const ANSWERS_MAX: usize = 2 * IN_FLIGHT_MAX;
/// Bytes of these answers.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Bytes that an answer takes beside its own: its place, and what the allocator adds.
const KEPT_EACH: usize = 64;

/// Answers of a session, encoded, that its client has not confirmed. Nothing is kept if nobody can
/// ask for them.
pub(super) struct KeptAnswers {
    of_user: Option<Arc<KeptBytes>>,
    /// Number of the first.
    first: u64,
    /// `None` for those that are to come.
    answers: VecDeque<Option<Bytes>>,
    bytes: usize,
}

/// Knowledge of the answer to an append that was taken.
#[derive(Debug, PartialEq)]
pub(super) enum KnownAnswer<'a> {
    Known(&'a Bytes),
    ToCome,
    Forgotten,
}

impl KeptAnswers {
    pub(super) fn new(of_user: Option<Arc<KeptBytes>>) -> Self {
        Self { of_user, first: 0, answers: VecDeque::new(), bytes: 0 }
    }

    /// Notes that an append was taken; their numbers count up by one.
    pub(super) fn expect(&mut self, number: u64) {
        if self.of_user.is_none() {
            return;
        }
        if self.answers.is_empty() {
            self.first = number;
        }
        self.answers.push_back(None);
        while self.answers.len() > ANSWERS_MAX {
            self.forget_oldest();
        }
    }

    /// Keeps the answer of an append that was taken.
    pub(super) fn note(&mut self, number: u64, answer: Bytes) {
        let Some(of_user) = self.of_user.clone() else { return };
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let place = place.and_then(|place| self.answers.get_mut(place));
        // Nobody asks for one that was forgotten before it came.
        let Some(to_come @ None) = place else { return };
        // It may be a part of a large message.
        let answer = Bytes::copy_from_slice(&answer);
        of_user.add(bytes_of(&answer));
        self.bytes += bytes_of(&answer);
        *to_come = Some(answer);
        while self.bytes > ANSWER_BYTES_MAX || (self.bytes > 0 && of_user.is_too_much()) {
            self.forget_oldest();
        }
    }

    pub(super) fn get(&self, number: u64) -> KnownAnswer<'_> {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| self.answers.get(place)) {
            Some(Some(answer)) => KnownAnswer::Known(answer),
            Some(None) => KnownAnswer::ToCome,
            None => KnownAnswer::Forgotten,
        }
    }

    /// Forgets the answers that the client has got.
    pub(super) fn confirm(&mut self, first_unanswered: u64) {
        while self.first < first_unanswered && !self.answers.is_empty() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.answers.pop_front() else { return };
        self.first += 1;
        let bytes = oldest.as_ref().map_or(0, bytes_of);
        self.bytes -= bytes;
        if let Some(of_user) = &self.of_user {
            of_user.forget(bytes);
        }
    }
}

impl Drop for KeptAnswers {
    fn drop(&mut self) {
        if let Some(of_user) = &self.of_user {
            of_user.forget(self.bytes);
        }
    }
}

/// Memory of an answer that is kept.
fn bytes_of(answer: &Bytes) -> usize {
    KEPT_EACH + answer.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends answers of a megabyte, and forgets them as a session does.
    fn keep(user: &KeptBytes, megabytes: usize) {
        for _ in 0..megabytes {
            user.add(1 << 20);
            while user.is_too_much() {
                user.forget(1 << 20);
            }
        }
    }

    #[test]
    fn all_users_together_keep_a_bounded_number_of_bytes_and_none_takes_the_share_of_another() {
        let all = Arc::new(AllKeptBytes::default());
        let ada = KeptBytes::of_user(&all);
        keep(&ada, 8);
        let many: Vec<_> = (0..31).map(|_| KeptBytes::of_user(&all)).collect();
        for user in &many {
            keep(user, 600);
        }
        assert!(all.bytes.load(Ordering::Relaxed) <= 2 * KEPT_BYTES_MAX);
        // Those who had more when they were alone come down to their share.
        for user in &many {
            keep(user, 1);
        }
        assert!(all.bytes.load(Ordering::Relaxed) <= KEPT_BYTES_MAX + (32 << 20));
        assert_eq!(ada.own.load(Ordering::Relaxed), 8 << 20);
        drop(many);
        assert_eq!(all.users.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn users_who_come_one_after_the_other_keep_no_more() {
        let all = Arc::new(AllKeptBytes::default());
        let mut users = Vec::new();
        for _ in 0..200 {
            let user = KeptBytes::of_user(&all);
            keep(&user, 600);
            users.push(user);
            assert!(all.bytes.load(Ordering::Relaxed) <= 2 * KEPT_BYTES_MAX);
        }
    }

    #[test]
    fn a_user_who_is_alone_keeps_its_own_bound() {
        let all = Arc::new(AllKeptBytes::default());
        let ada = KeptBytes::of_user(&all);
        keep(&ada, 1_000);
        assert_eq!(ada.own.load(Ordering::Relaxed), KEPT_BYTES_OF_USER_MAX);
    }

    #[test]
    fn answers_are_known_until_they_are_confirmed_or_too_many() {
        let of_user = KeptBytes::of_user(&Arc::default());
        let mut kept = KeptAnswers::new(Some(Arc::clone(&of_user)));
        (5..8).for_each(|number| kept.expect(number));
        let answer = Bytes::from_static(b"answer");
        kept.note(6, answer.clone());
        // One that comes twice, or of an append that was never taken, changes nothing.
        kept.note(6, Bytes::from_static(b"another"));
        kept.note(4, answer.clone());
        kept.note(8, answer.clone());
        let state = |number, kept: &KeptAnswers| match kept.get(number) {
            KnownAnswer::Known(known) => known.len(),
            KnownAnswer::ToCome => 0,
            KnownAnswer::Forgotten => usize::MAX,
        };
        let states = |kept: &KeptAnswers| [4, 5, 6, 7, 8].map(|number| state(number, kept));
        assert_eq!(states(&kept), [usize::MAX, 0, 6, 0, usize::MAX]);
        assert_eq!(of_user.own.load(Ordering::Relaxed), 6 + KEPT_EACH);
        kept.confirm(7);
        assert_eq!(states(&kept), [usize::MAX, usize::MAX, usize::MAX, 0, usize::MAX]);
        (8..8 + ANSWERS_MAX as u64).for_each(|number| kept.expect(number));
        assert_eq!((kept.get(7), kept.get(8)), (KnownAnswer::Forgotten, KnownAnswer::ToCome));
        kept.note(8, Bytes::from(vec![0; ANSWER_BYTES_MAX]));
        kept.note(9, answer);
        assert_eq!((kept.get(8), state(9, &kept)), (KnownAnswer::Forgotten, 6));
        drop(kept);
        assert_eq!(of_user.own.load(Ordering::Relaxed), 0);
    }
}
