//! Noticing that the server does not answer: a handle says so by its status, and goes on by itself.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use leftfold_core::store::State;
use leftfold_protocol::wire::IdentifyRequest;
use tokio::time::sleep;

use crate::connect::request;
use crate::shared::{LinkState, RemoteShared};

/// Seconds in a row without any answer after which the store is shown as away. They are counted
/// while this process runs: one that stood still has missed none.
const UNANSWERED_SECONDS_MAX: u32 = 3;

/// Counts the seconds without an answer until the handle is closed. While nothing else is asked it
/// asks each second who the server is.
pub(crate) async fn run(shared: Arc<RemoteShared>) {
    let mut status = shared.status.subscribe();
    tokio::select! {
        // It ends too when everybody who could close the handle is gone.
        _ = status.wait_for(|status| status.state == State::Closed) => {}
        () = count(&shared) => {}
    }
}

async fn count(shared: &RemoteShared) {
    let mut unanswered = 0;
    let mut second = pin!(sleep(Duration::from_secs(1)));
    let mut asking = pin!(None);
    loop {
        tokio::select! {
            () = &mut second => {
                second.set(sleep(Duration::from_secs(1)));
                if shared.take_answered() {
                    unanswered = 0;
                    continue;
                }
                unanswered += 1;
                if unanswered >= UNANSWERED_SECONDS_MAX {
                    shared.unanswered(UNANSWERED_SECONDS_MAX);
                }
                if asking.is_none() {
                    asking.set(Some(ask(shared)));
                }
            }
            () = async { asking.as_mut().as_pin_mut().expect("it is asked").await },
                if asking.is_some() => asking.set(None),
        }
    }
}

/// Asks the server for its status, if there is a connection.
async fn ask(shared: &RemoteShared) {
    let LinkState::Up(mut client) = shared.connection.borrow().clone() else { return };
    match client.identify(request(&shared.options, IdentifyRequest::default())).await {
        Ok(reply) => {
            let status = reply.into_inner().status.and_then(|status| status.try_into().ok());
            status.map_or_else(|| shared.answered(), |status| shared.see(status));
        }
        Err(status) => shared.failed(status.message()),
    }
}
