//! Running until there is nothing left to do.

use std::future::poll_fn;
use std::task::Poll;

use tokio::sync::watch;

use super::Running;
use super::consumer::status::Board;
use crate::store::Store;

/// Polls the consumers in the caller's task until all that is recorded was taken up and nothing is
/// under way, tells them to stop, and waits for their ends.
pub(super) async fn run(
    store: &Store,
    board: &Board,
    stop: &watch::Sender<bool>,
    mut consumers: Vec<Running>,
) {
    poll_fn(|context| {
        loop {
            consumers.retain_mut(|consumer| consumer.as_mut().poll(context).is_pending());
            if consumers.is_empty() {
                return Poll::Ready(());
            }
            if *stop.borrow() || !board.is_idle(store, context.waker()) {
                return Poll::Pending;
            }
            // They are polled at once: so each of them waits for its stop, or is gone.
            stop.send_replace(true);
        }
    })
    .await;
}
