//! What time it is: given to the runtime from outside, so that tests and explorers can own it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::sleep;

use crate::store::Timestamp;

/// A wait until some moment.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What time it is. Deadlines and due times are moments in the log, that other processes read too: so it is a wall
/// clock that they are held against.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The moment that it is now.
    fn now(&self) -> Timestamp;

    /// Waits until [`now`](Clock::now) is the moment, or later; also where the clock is set in between.
    fn sleep_until(&self, moment: Timestamp) -> Sleep<'_>;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// How long a sleep is at most before it looks at the clock: clocks are set, and sleeps do not notice.
const SLEEP_MAX: Duration = Duration::from_secs(1);

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep_until(&self, moment: Timestamp) -> Sleep<'_> {
        Box::pin(async move {
            loop {
                let left = moment.since(self.now());
                if left.is_zero() {
                    return;
                }
                sleep(left.min(SLEEP_MAX)).await;
            }
        })
    }
}
