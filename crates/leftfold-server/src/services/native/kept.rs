//! Memory that the sessions take: of each user, and of all users together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the answers that the sessions of one user keep; beyond them each forgets its oldest.
const KEPT_BYTES_OF_USER_MAX: usize = 256 << 20;
/// Bytes of the answers that all sessions keep. Beyond them those of each user who has more than
/// an equal share forget their oldest.
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
    pub(super) fn add(&self, bytes: usize) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.all.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts answers that are forgotten.
    pub(super) fn forget(&self, bytes: usize) {
        self.own.fetch_sub(bytes, Ordering::Relaxed);
        self.all.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Tells whether the user has to forget something. All users together keep at most twice
    /// [`KEPT_BYTES_MAX`]: whoever has its share, or less, keeps it.
    pub(super) fn is_too_much(&self) -> bool {
        let own = self.own.load(Ordering::Relaxed);
        if self.all.bytes.load(Ordering::Relaxed) <= KEPT_BYTES_MAX {
            return own > KEPT_BYTES_OF_USER_MAX;
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
    fn a_user_who_is_alone_keeps_its_own_bound() {
        let all = Arc::new(AllKeptBytes::default());
        let ada = KeptBytes::of_user(&all);
        keep(&ada, 1_000);
        assert_eq!(ada.own.load(Ordering::Relaxed), KEPT_BYTES_OF_USER_MAX);
    }
}
