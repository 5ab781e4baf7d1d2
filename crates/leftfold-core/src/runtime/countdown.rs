//! Light timers, in memory, for very many keys: restarting one costs a look-up and writes nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Timers that are restarted far more often than they expire: the silence of a hundred thousand
/// stations.
///
/// They are gone with the process; if a deadline must survive that, use a timer of a
/// [`Process`](super::process::Process). One task takes the keys that expire.
///
/// ```
/// use std::time::Duration;
///
/// use leftfold_core::runtime::Countdowns;
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let silence = Countdowns::new();
/// silence.restart("station 1", Duration::from_millis(1));
/// silence.restart("station 2", Duration::from_secs(600));
/// // A sign of life.
/// silence.restart("station 1", Duration::from_millis(2));
/// assert_eq!(silence.running(), 2);
///
/// assert_eq!(silence.expired().await, "station 1");
/// assert!(silence.cancel(&"station 2"));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Countdowns<K> {
    timers: Mutex<Timers<K>>,
    /// A key is due before all others that were waited for.
    sooner: Notify,
}

#[derive(Debug)]
struct Timers<K> {
    keys: HashMap<K, Key>,
    /// An entry for each key that is never later than the key is due. Entries of a key that ended,
    /// or that were overtaken by an earlier one, go when their time comes.
    queue: BinaryHeap<Reverse<(Instant, K)>>,
}

/// Longer timers are as long as this, a hundred years: so no sum of times overflows.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
/// Entries beyond two for each key before the queue is tidied.
const QUEUE_SPARE: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Key {
    due: Instant,
    /// The time of its earliest entry in the queue.
    queued: Instant,
}

impl<K> Default for Countdowns<K>
where
    K: Ord,
{
    fn default() -> Self {
        Self {
            timers: Mutex::new(Timers { keys: HashMap::new(), queue: BinaryHeap::new() }),
            sooner: Notify::new(),
        }
    }
}

impl<K: Clone + Ord + Hash> Countdowns<K> {
    /// No timer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the key's timer, or starts it again.
    pub fn restart(&self, key: K, duration: Duration) {
        let due = Instant::now() + duration.min(DURATION_MAX);
        let mut timers = self.timers();
        // An entry that stands is early enough, and will find the new time.
        let standing = timers.keys.get(&key).map(|key| key.queued).filter(|queued| *queued <= due);
        timers.keys.insert(key.clone(), Key { due, queued: standing.unwrap_or(due) });
        if standing.is_none() {
            let first = timers.queue.peek().is_none_or(|Reverse((first, _))| due < *first);
            timers.queue.push(Reverse((due, key)));
            timers.tidy();
            drop(timers);
            if first {
                self.sooner.notify_one();
            }
        }
    }

    /// Ends the key's timer; whether there was one.
    pub fn cancel(&self, key: &K) -> bool {
        self.timers().keys.remove(key).is_some()
    }

    /// Returns the number of running countdowns.
    #[must_use]
    pub fn running(&self) -> usize {
        self.timers().keys.len()
    }

    /// Waits for the next key whose time is up. Its timer has ended then. Safe to cancel.
    pub async fn expired(&self) -> K {
        loop {
            let next = match self.timers().take_due(Instant::now()) {
                Ok(key) => return key,
                Err(next) => next,
            };
            match next {
                // A sooner timer wakes this up.
                Some(next) => drop(timeout_at(next, self.sooner.notified()).await),
                None => self.sooner.notified().await,
            }
        }
    }

    fn timers(&self) -> MutexGuard<'_, Timers<K>> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Ord + Hash> Timers<K> {
    /// Drops the entries of keys that ended or were overtaken, once they are the most: so
    /// cancelling is cheap, and memory is bounded by the keys that run.
    fn tidy(&mut self) {
        if self.queue.len() <= 2 * self.keys.len() + QUEUE_SPARE {
            return;
        }
        let entry = |(key, times): (&K, &mut Key)| {
            times.queued = times.due;
            Reverse((times.due, key.clone()))
        };
        self.queue = self.keys.iter_mut().map(entry).collect();
    }

    /// A key that is due, or when to look again.
    fn take_due(&mut self, now: Instant) -> Result<K, Option<Instant>> {
        loop {
            let Some(Reverse((at, key))) = self.queue.peek() else { return Err(None) };
            if *at > now {
                return Err(Some(*at));
            }
            let (at, key) = (*at, key.clone());
            self.queue.pop();
            match self.keys.get_mut(&key) {
                Some(entry) if entry.due <= at => {
                    self.keys.remove(&key);
                    return Ok(key);
                }
                // Restarted since: it comes back when it may be due.
                Some(entry) if entry.queued == at => {
                    entry.queued = entry.due;
                    self.queue.push(Reverse((entry.due, key)));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_restarted_expires_once_and_late() {
        let countdowns = Countdowns::new();
        let start = Instant::now();
        countdowns.restart("a", SECOND);
        for _ in 0..5 {
            tokio::time::advance(SECOND / 2).await;
            countdowns.restart("a", SECOND);
        }
        assert_eq!(countdowns.expired().await, "a");
        assert_eq!(start.elapsed().as_millis() / 100, 35);
        assert_eq!(countdowns.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn timers_expire_in_order_and_a_cancelled_one_never() {
        let countdowns = std::sync::Arc::new(Countdowns::new());
        countdowns.restart("late", SECOND * 3);
        countdowns.restart("cancelled", SECOND * 2);
        let waiting = tokio::spawn({
            let countdowns = countdowns.clone();
            async move { [countdowns.expired().await, countdowns.expired().await] }
        });
        tokio::task::yield_now().await;
        countdowns.restart("soon", SECOND);
        assert!(countdowns.cancel(&"cancelled"));
        assert_eq!(waiting.await.unwrap(), ["soon", "late"]);
    }

    #[tokio::test(start_paused = true)]
    async fn many_restarts_of_many_keys_keep_one_entry_each() {
        let countdowns = Countdowns::new();
        for round in 0..100 {
            for key in 0..1_000 {
                countdowns.restart(key, SECOND + Duration::from_millis(round));
            }
        }
        assert_eq!(countdowns.timers().queue.len(), 1_000);
    }

    /// A cancelled timer used to leave its entry until its time came: stations that come and go
    /// would have filled the memory with them.
    #[tokio::test(start_paused = true)]
    async fn timers_that_are_cancelled_or_shortened_again_and_again_leave_nothing_behind() {
        let countdowns = Countdowns::new();
        for round in 0..100_000 {
            countdowns.restart("comes and goes", SECOND * 3_600);
            countdowns.restart("comes and goes", SECOND * 3_599);
            if round % 2 == 0 {
                assert!(countdowns.cancel(&"comes and goes"));
            }
        }
        assert!(countdowns.timers().queue.len() <= 2 + QUEUE_SPARE + 1);
        assert_eq!(countdowns.expired().await, "comes and goes");
    }
}
