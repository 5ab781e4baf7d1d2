//! Wrong passwords: whoever says many of them waits longer and longer for the next answer, and
//! nobody else does. Who that is, is the prefix of an address, or whatever else guesses are counted
//! by.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::AddressPrefix;

/// Wrong passwords of a prefix before it has to wait.
const FREE: u32 = 8;
/// Time after which one wrong password is forgotten.
const FORGOTTEN_EVERY: Duration = Duration::from_secs(10);
/// Time between two comparisons for a prefix that has to wait.
const COMPARED_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for a comparison; a caller beyond it is sent away, whatever the password.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Prefixes that are remembered; those beyond them wait together.
const PREFIXES_MAX: usize = 4_096;

/// Wrong passwords by prefix, or by another key. A password that was found right before is not
/// compared again, so its user does not wait. Cheap to clone.
#[derive(Debug)]
pub struct Guesses<K = AddressPrefix>(Arc<Mutex<GuessLanes<K>>>);

#[derive(Debug)]
struct GuessLanes<K> {
    of: HashMap<K, GuessLane>,
    /// Of all prefixes that had no room.
    crowded: GuessLane,
}

impl<K> Clone for Guesses<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Guesses<K> {
    fn default() -> Self {
        let lanes = GuessLanes { of: HashMap::new(), crowded: GuessLane::default() };
        Self(Arc::new(Mutex::new(lanes)))
    }
}

#[derive(Debug, Default)]
struct GuessLane {
    wrong: u32,
    /// Passwords of which is not known yet if they are wrong.
    open: u32,
    /// Time from which on wrong passwords are forgotten.
    since: Option<Instant>,
    /// Time of the next comparison.
    next: Option<Instant>,
}

/// A password that waits to be compared, or is compared.
#[derive(Debug)]
pub struct GuessTurn<K: Copy + Eq + Hash = AddressPrefix> {
    guesses: Guesses<K>,
    /// `None` if the prefix had no room.
    prefix: Option<K>,
    /// Time before which it is not compared.
    pub not_before: Instant,
}

impl<K: Copy + Eq + Hash> Guesses<K> {
    /// Returns the turn of a password of this prefix; `None` if it would be too far away.
    #[must_use]
    pub fn turn(&self, prefix: K, now: Instant) -> Option<GuessTurn<K>> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = lanes.make_room(prefix, now).then_some(prefix);
        let lane = lanes.lane(prefix);
        lane.forget(now);
        let mut not_before = now;
        if lane.wrong.saturating_add(lane.open) >= FREE {
            not_before = lane.next.map_or(now, |next| next.max(now));
            if not_before.duration_since(now) > WAIT_MAX {
                return None;
            }
            lane.next = Some(not_before + COMPARED_EVERY);
        }
        lane.open += 1;
        Some(GuessTurn { guesses: self.clone(), prefix, not_before })
    }
}

#[cfg(test)]
impl Guesses {
    /// Returns the wrong passwords of a prefix.
    pub(crate) fn wrong_of(&self, prefix: AddressPrefix) -> u32 {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.lane(Some(prefix)).wrong
    }
}

impl<K: Copy + Eq + Hash> GuessTurn<K> {
    /// Notes that the password is wrong.
    pub fn end_wrong(self, now: Instant) {
        let mut lanes = self.guesses.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.lane(self.prefix);
        lane.forget(now);
        lane.wrong = lane.wrong.saturating_add(1).min(2 * FREE);
        lane.since.get_or_insert(now);
    }
}

impl<K: Copy + Eq + Hash> Drop for GuessTurn<K> {
    fn drop(&mut self) {
        let mut lanes = self.guesses.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.lane(self.prefix);
        lane.open = lane.open.saturating_sub(1);
        if let Some(prefix) = self.prefix
            && lane.is_empty()
        {
            lanes.of.remove(&prefix);
        }
    }
}

impl<K: Copy + Eq + Hash> GuessLanes<K> {
    /// Tells whether the prefix has a lane of its own, or there is room for one.
    fn make_room(&mut self, prefix: K, now: Instant) -> bool {
        if self.of.contains_key(&prefix) || self.of.len() < PREFIXES_MAX {
            return true;
        }
        self.of.retain(|_, lane| {
            lane.forget(now);
            !lane.is_empty()
        });
        self.of.len() < PREFIXES_MAX
    }

    fn lane(&mut self, prefix: Option<K>) -> &mut GuessLane {
        match prefix {
            Some(prefix) => self.of.entry(prefix).or_default(),
            None => &mut self.crowded,
        }
    }
}

impl GuessLane {
    fn is_empty(&self) -> bool {
        self.wrong == 0 && self.open == 0
    }

    fn forget(&mut self, now: Instant) {
        let Some(since) = self.since else { return };
        let times = now.saturating_duration_since(since).as_secs() / FORGOTTEN_EVERY.as_secs();
        let times = u32::try_from(times).unwrap_or(u32::MAX).min(self.wrong);
        self.wrong -= times;
        self.since = (self.wrong > 0).then(|| since + FORGOTTEN_EVERY * times);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn prefix(number: u32) -> AddressPrefix {
        AddressPrefix::of(IpAddr::V4(Ipv4Addr::from(number << 8)))
    }

    /// Returns the seconds to wait.
    fn waits(guesses: &Guesses, of: AddressPrefix, now: Instant) -> Option<u64> {
        guesses.turn(of, now).map(|turn| turn.not_before.duration_since(now).as_secs())
    }

    fn guess(guesses: &Guesses, of: AddressPrefix, now: Instant) {
        guesses.turn(of, now).unwrap().end_wrong(now);
    }

    #[test]
    fn a_prefix_that_guesses_waits_and_another_one_does_not() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let (eve, ada) = (prefix(1), prefix(2));
        for _ in 0..FREE {
            assert_eq!(waits(&guesses, eve, now), Some(0));
            guess(&guesses, eve, now);
        }
        let seconds: Vec<_> = std::iter::from_fn(|| waits(&guesses, eve, now)).collect();
        assert_eq!(seconds, (0..=WAIT_MAX.as_secs()).collect::<Vec<_>>());
        assert_eq!(waits(&guesses, ada, now), Some(0));
        // The turns that were given pass, and what was wrong is forgotten.
        assert_eq!(waits(&guesses, eve, now + WAIT_MAX + FORGOTTEN_EVERY), Some(0));
    }

    #[test]
    fn passwords_that_are_said_at_once_count_before_they_are_compared() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let turns: Vec<_> = (0..=FREE + 1).map(|_| guesses.turn(prefix(1), now).unwrap()).collect();
        assert!(turns.last().unwrap().not_before > now);
        // They were right, or nobody waits for them any more.
        drop(turns);
        assert_eq!(guesses.0.lock().unwrap().of.len(), 0);
        assert_eq!(waits(&guesses, prefix(1), now), Some(0));
    }

    #[test]
    fn prefixes_beyond_those_that_are_remembered_take_no_memory_and_wait_together() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for number in 0..u32::try_from(PREFIXES_MAX).unwrap() {
            guess(&guesses, prefix(number), now);
        }
        for number in 0..FREE {
            guess(&guesses, prefix((1 << 20) + number), now);
        }
        assert_eq!(guesses.0.lock().unwrap().of.len(), PREFIXES_MAX);
        let stranger = prefix(1 << 21);
        assert_eq!([(); 2].map(|()| waits(&guesses, stranger, now)), [Some(0), Some(1)]);
        // One that is remembered has guessed once only.
        assert_eq!(waits(&guesses, prefix(7), now), Some(0));
        // When they are forgotten there is room again.
        guess(&guesses, stranger, now + FORGOTTEN_EVERY * 2);
        assert_eq!(guesses.0.lock().unwrap().of.len(), 1);
    }
}
