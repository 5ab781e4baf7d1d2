//! The notice that a store had no room for an append.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use leftfold::store::{AppendError, Outcome};

/// Time for which a refusal is remembered if nothing is appended meanwhile: balancers that send no
/// more appends try again then.
const NOTICED_FOR: Duration = Duration::from_secs(30);

/// Notice of appends that a store refused because there was no room for them: on its disk, or of
/// memory or file handles. Reads are answered all the same.
#[derive(Clone, Debug)]
pub(crate) struct RoomNotice(Arc<NoticedRoom>);

#[derive(Debug)]
struct NoticedRoom {
    began: Instant,
    /// Milliseconds from then to the last refusal, and one more; 0 if an append was taken since.
    refused: AtomicU64,
}

impl RoomNotice {
    pub(super) fn new() -> Self {
        Self(Arc::new(NoticedRoom { began: Instant::now(), refused: AtomicU64::new(0) }))
    }

    /// Notes how an append was answered.
    pub(crate) fn note(&self, answer: &Result<Outcome, AppendError>) {
        self.note_at(answer, self.0.began.elapsed());
    }

    /// Tells whether appends were refused lately, and none was taken since.
    pub(super) fn is_short(&self) -> bool {
        self.is_short_at(self.0.began.elapsed())
    }

    fn note_at(&self, answer: &Result<Outcome, AppendError>, now: Duration) {
        match answer {
            Err(AppendError::Full { .. }) => {
                self.0.refused.store(millis(now).saturating_add(1), Ordering::Relaxed);
            }
            // Appends are many, and hardly any follows a refusal.
            Ok(Outcome::Appended(_)) if self.0.refused.load(Ordering::Relaxed) > 0 => {
                self.0.refused.store(0, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn is_short_at(&self, now: Duration) -> bool {
        let refused = self.0.refused.load(Ordering::Relaxed);
        refused > 0 && millis(now) < refused.saturating_add(millis(NOTICED_FOR))
    }
}

fn millis(during: Duration) -> u64 {
    u64::try_from(during.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use leftfold::store::{Appended, Position, Timestamp};

    use super::*;

    #[test]
    fn a_refusal_counts_until_an_append_is_taken_or_for_half_a_minute() {
        let notice = RoomNotice::new();
        let at = Duration::from_secs;
        let full = Err(AppendError::Full { detail: "no room".to_owned() });
        assert!(!notice.is_short_at(at(1)));
        notice.note_at(&full, at(1));
        notice.note_at(&Err(AppendError::Busy { waiting: 1 }), at(2));
        assert!(notice.is_short_at(at(30)) && !notice.is_short_at(at(32)));
        let first = Position(1);
        let taken = Appended { first, versions: Vec::new(), recorded_at: Timestamp::now() };
        notice.note_at(&Ok(Outcome::Appended(taken)), at(3));
        assert!(!notice.is_short_at(at(3)));
    }
}
