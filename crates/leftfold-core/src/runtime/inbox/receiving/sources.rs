//! Messages under way: those of one source one after the other, different sources side by side.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::queue::Arrival;
use super::settlement::Settlement;
use crate::runtime::consumer::backoff::RECEIVER_TAKE;
use crate::runtime::inbox::{Inbox, Intake};

// ANCHOR: limits
/// Messages of one receiver that are under way at most; a broker should be asked for fewer.
pub const RECEIVED_MAX: usize = 1_000;
// ANCHOR_END: limits

/// Tries before a message that the store cannot take goes back to the broker: enough for processes
/// that are in each other's way, and over in less than a second.
const TRIES_MAX: u32 = 5;

/// Messages that came and are not settled.
pub(super) struct IncomingSources<I: Inbox, H> {
    intake: Intake<I>,
    queue: String,
    /// Handles of all of them, by number, in the order in which they came.
    handles: BTreeMap<u64, H>,
    next_number: u64,
    taking: FuturesUnordered<Pin<Box<dyn Future<Output = Taken> + Send>>>,
    /// IncomingSources of which a message is being taken, with those that wait behind it.
    behind: HashMap<String, VecDeque<Incoming<I>>>,
}

/// A message on its way into the inbox.
struct Incoming<I: Inbox> {
    number: u64,
    intake: Intake<I>,
    source: String,
    id: Option<String>,
    payload: Bytes,
}

struct Taken {
    number: u64,
    source: String,
    settlement: Settlement,
}

impl<I: Inbox, H> IncomingSources<I, H> {
    pub(super) fn new(intake: Intake<I>, queue: &str) -> Self {
        Self {
            intake,
            queue: queue.to_owned(),
            handles: BTreeMap::new(),
            next_number: 0,
            taking: FuturesUnordered::new(),
            behind: HashMap::new(),
        }
    }

    pub(super) fn under_way(&self) -> usize {
        self.handles.len()
    }

    /// Takes a message, after those of its source that came before it.
    pub(super) fn add(&mut self, arrival: Arrival<H>) {
        let Arrival { source, id, payload, trace, handle } = arrival;
        let intake = match trace {
            Some(trace) => self.intake.clone().trace(trace),
            None => self.intake.clone(),
        };
        let source = source.unwrap_or_else(|| self.queue.clone());
        let number = self.next_number;
        self.next_number += 1;
        self.handles.insert(number, handle);
        let incoming = Incoming { number, intake, source, id, payload };
        if let Some(behind) = self.behind.get_mut(&incoming.source) {
            behind.push_back(incoming);
        } else {
            self.behind.insert(incoming.source.clone(), VecDeque::new());
            self.taking.push(Box::pin(incoming.take()));
        }
    }

    /// Waits for the next message that is taken or cannot be, by its number; `None` if none is
    /// under way. The messages behind it go on. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<(u64, Settlement)> {
        let Taken { number, source, settlement } = self.taking.next().await?;
        match self.behind.get_mut(&source).and_then(VecDeque::pop_front) {
            Some(next) => self.taking.push(Box::pin(next.take())),
            None => drop(self.behind.remove(&source)),
        }
        Some((number, settlement))
    }

    /// Removes a message, whose handle is used to settle it.
    pub(super) fn remove(&mut self, number: u64) -> Option<H> {
        self.handles.remove(&number)
    }

    /// Gives up, and returns the handles of all that is under way. It may be durable or not.
    pub(super) fn given_up(self) -> Vec<H> {
        self.handles.into_values().collect()
    }
}

impl<I: Inbox> Incoming<I> {
    async fn take(self) -> Taken {
        let Self { number, intake, source, id, payload } = self;
        let mut tries = 0;
        loop {
            let settlement = intake.settle(&source, id.as_deref(), None, &payload).await;
            tries += 1;
            if tries == TRIES_MAX || !matches!(settlement, Settlement::Later { .. }) {
                return Taken { number, source, settlement };
            }
            sleep(RECEIVER_TAKE.after(tries)).await;
        }
    }
}
