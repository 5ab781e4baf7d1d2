//! The sessions of a server, by store and by the id that the client drew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use leftfold::store::Backend;
use tokio::sync::mpsc;

use super::session::{AppendCall, AppendSession, AppendSessionEnd};

use crate::stopping::Stopping;
use crate::stores::ServedStore;

/// Sessions that are kept at once; a call beyond them has a session that no other one goes on with.
const SESSIONS_MAX: usize = 16_384;

/// Key of a session: its store, its user, and the id that the client drew.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct SessionKey(Arc<str>, Arc<str>, [u8; 16]);

impl SessionKey {
    pub(super) fn of(store: &ServedStore, user: &Arc<str>, id: [u8; 16]) -> Self {
        Self(Arc::clone(&store.name), Arc::clone(user), id)
    }
}

type OpenSessions = HashMap<SessionKey, mpsc::UnboundedSender<AppendCall>>;

/// All sessions that a call may go on with.
pub(super) struct Sessions {
    open: Mutex<OpenSessions>,
    stopping: Stopping,
}

impl Sessions {
    pub(super) fn new(stopping: Stopping) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), stopping })
    }

    /// Gives a call to its session, which is begun if it is not known. A call without an id has one
    /// of its own.
    pub(super) fn give(
        self: &Arc<Self>,
        key: Option<SessionKey>,
        backend: &Arc<dyn Backend>,
        call: AppendCall,
    ) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let call = match key.as_ref().and_then(|key| open.get(key)) {
            Some(calls) => match calls.send(call) {
                Ok(()) => return,
                // Its task has ended, as by a panic.
                Err(unsent) => unsent.0,
            },
            None => call,
        };
        let key = key.filter(|key| open.len() < SESSIONS_MAX || open.contains_key(key));
        let (calls, receiver) = mpsc::unbounded_channel();
        // The receiver is in this function.
        let _ = calls.send(call);
        let stopping = self.stopping.clone();
        let session = AppendSession::new(Arc::clone(backend), receiver, stopping, key.is_some());
        if let Some(key) = &key {
            open.insert(key.clone(), calls);
        }
        drop(open);
        tokio::spawn(Arc::clone(self).carry(key, session));
    }

    async fn carry(self: Arc<Self>, key: Option<SessionKey>, mut session: AppendSession) {
        loop {
            let end = session.carry().await;
            let Some(key) = &key else { return };
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            // A call may have come just now: under the lock no other one comes.
            if end == AppendSessionEnd::Idle && session.has_calls() {
                continue;
            }
            open.remove(key);
            return;
        }
    }
}
