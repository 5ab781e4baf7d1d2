//! Looking up the queries of a condition that reach further back than the writer knows, before the
//! append is judged.

use std::sync::Arc;

use leftfold_core::store::AppendError;

use super::request::{LookedUp, StoreRequest, WaitingAppend};
use crate::store::read::pages;
use crate::store::shared::StoreShared;

/// An append that was announced to the queue: it arrives there, or is taken back even by a panic.
struct LookUpUnderWay {
    shared: Arc<StoreShared>,
    bytes: usize,
    request: Option<StoreRequest>,
}

impl LookUpUnderWay {
    fn end(mut self, request: Option<StoreRequest>) {
        self.request = request;
    }
}

impl Drop for LookUpUnderWay {
    fn drop(&mut self) {
        self.shared.queue.arrive(self.bytes, self.request.take());
    }
}

/// Looks up the queries by the connections that read, and hands the append to the writer then. It
/// was announced to the queue.
pub(in crate::store) fn look_up(shared: &Arc<StoreShared>, waiting: Box<WaitingAppend>) {
    let under_way =
        LookUpUnderWay { shared: Arc::clone(shared), bytes: waiting.held_bytes, request: None };
    let store = Arc::clone(shared);
    shared.runtime.spawn(async move { under_way.end(looked_up(&store, waiting).await) });
}

/// The append with what was found; `None` if it was answered because that cannot be read.
async fn looked_up(shared: &StoreShared, mut waiting: Box<WaitingAppend>) -> Option<StoreRequest> {
    let mut found = Vec::new();
    for (clause, none) in waiting.append.condition.none_matching.iter().enumerate() {
        let after = match waiting.looked_up.get(clause) {
            Some(LookedUp::Found(position)) => {
                found.push(LookedUp::Found(*position));
                continue;
            }
            Some(LookedUp::NoneThrough(through)) => none.after.max(*through),
            None => none.after,
        };
        match pages::first_match(shared, &none.query, after).await {
            Ok(one) => found.push(one),
            Err(error) => {
                waiting.answer.send(Err(AppendError::Read(error)));
                return None;
            }
        }
    }
    waiting.looked_up = found;
    Some(StoreRequest::Append(waiting))
}

/// Looks a condition up again for which more was written meanwhile than the writer keeps.
pub(in crate::store) fn look_up_again(shared: &Arc<StoreShared>, request: StoreRequest) {
    let StoreRequest::Append(waiting) = request else { return };
    match shared.queue.announce(waiting.held_bytes) {
        Ok(()) => look_up(shared, waiting),
        Err(refused) => {
            waiting.answer.send(Err(refused.into()));
        }
    }
}
