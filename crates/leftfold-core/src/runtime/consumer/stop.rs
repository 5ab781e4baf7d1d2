//! Starting and stopping within a time, whatever a consumer hangs in.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::backoff;
use super::contained::{contained, message};
use super::start_error::StartError;
use crate::runtime::clock::StoreClock;
use crate::runtime::{Named, Running, Start};
use crate::store::ReadError;

// ANCHOR: time
/// Time that each consumer may take to start. A projection whose database gives no answer starts
/// without it before that, and its status says what it waits for.
pub const START_WITHIN: Duration = Duration::from_secs(60);
/// Time that [`stop`](crate::runtime::RunningRuntime::stop) waits, beyond the longest deadline of an effect.
pub const STOP_WITHIN: Duration = Duration::from_secs(20);
// ANCHOR_END: time

/// Reason why a runtime did not stop as it should. Everything that can be interrupted has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// Consumers are in the middle of a call that gives no answer. Transactions that they have not
    /// committed are undone by their databases, and done at the next start.
    #[error("{} did not stop within {} s, look for what they wait for: a database, a lock, or code that does not return", consumers.join(", "), within.as_secs())]
    Late {
        /// Names of the consumers that did not stop.
        consumers: Vec<&'static str>,
        /// Time that was waited.
        within: Duration,
    },
    /// A consumer had ended by a panic, a bug of the runtime; the others have stopped.
    #[error("{consumer} ended by a panic, start the runtime again: {said}")]
    Panicked {
        /// Name of the consumer.
        consumer: &'static str,
        /// Message of the panic.
        said: String,
    },
}

/// Waits until a consumer has started.
pub(in crate::runtime) async fn started(named: Named, start: Start) -> Result<Running, StartError> {
    match timeout(START_WITHIN, contained(start)).await {
        Ok(Ok(started)) => started.map_err(|fault| named.error(fault)),
        Ok(Err(said)) => Err(named.panicked(said)),
        Err(_) => {
            let Named { name, type_name } = named;
            Err(StartError::Late { type_name, name, within: START_WITHIN })
        }
    }
}

/// Waits until the time of the store is known. A store that is closed has none, and its consumers
/// say so.
pub(in crate::runtime) async fn told_time(clock: &StoreClock) -> Result<(), StartError> {
    let asking = async {
        loop {
            match clock.begin().await {
                Ok(()) | Err(ReadError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "the store does not tell its time, asking again");
                    sleep(backoff::CLOCK.first).await;
                }
            }
        }
    };
    let within = START_WITHIN;
    timeout(within, asking).await.map_err(|_| StartError::NoTime { within })
}

/// Waits until all consumers have stopped; a consumer that does not in time is interrupted, if that
/// can be.
pub(in crate::runtime) async fn stopped(
    tasks: Vec<(&'static str, JoinHandle<()>)>,
    within: Duration,
) -> Result<(), StopError> {
    let until = Instant::now() + within;
    let (mut late, mut panicked) = (Vec::new(), Ok(()));
    for (consumer, mut task) in tasks {
        match timeout_at(until, &mut task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let said = error
                    .try_into_panic()
                    .map_or_else(|error| error.to_string(), |panic| message(&*panic));
                panicked = panicked.and(Err(StopError::Panicked { consumer, said }));
            }
            Err(_) => {
                task.abort();
                late.push(consumer);
            }
        }
    }
    if late.is_empty() { panicked } else { Err(StopError::Late { consumers: late, within }) }
}
