//! The sessions of a server, by store and by the id that the client drew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use leftfold::store::{Backend, Metrics};
use tokio::sync::mpsc;

use super::kept::{AllKeptBytes, KeptBytes};
use super::session::{AppendCall, AppendSession, AppendSessionEnd};

use crate::stopping::Stopping;
use crate::stores::ServedStore;

/// Sessions that are kept at once; a call beyond them has a session that no other one goes on with.
const SESSIONS_MAX: usize = 16_384;
/// Sessions of one user of several.
const SESSIONS_OF_USER_MAX: usize = SESSIONS_MAX / 4;

/// Key of a session: its store, its user, and the id that the client drew.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct SessionKey(Arc<str>, Arc<str>, [u8; 16]);

impl SessionKey {
    pub(super) fn of(store: &ServedStore, user: &Arc<str>, id: [u8; 16]) -> Self {
        Self(Arc::clone(&store.name), Arc::clone(user), id)
    }
}

/// All sessions that a call may go on with.
pub(in crate::services) struct Sessions {
    open: Mutex<OpenSessions>,
    stopping: Stopping,
}

#[derive(Default)]
struct OpenSessions {
    calls: HashMap<SessionKey, mpsc::UnboundedSender<AppendCall>>,
    /// By user, for each who has a session.
    of_user: HashMap<Arc<str>, UserSessions>,
    kept: Arc<AllKeptBytes>,
}

struct UserSessions {
    count: usize,
    kept: Arc<KeptBytes>,
}

impl OpenSessions {
    /// Adds a session, unless there is no room for one of its user.
    fn add(
        &mut self,
        key: &SessionKey,
        calls: mpsc::UnboundedSender<AppendCall>,
    ) -> Option<Arc<KeptBytes>> {
        let is_known = self.calls.contains_key(key);
        let of_user = self.of_user.get(&key.1).map_or(0, |user| user.count);
        // If nobody says who they are, they are not several users.
        let most = if key.1.is_empty() { SESSIONS_MAX } else { SESSIONS_OF_USER_MAX };
        if !is_known && (self.calls.len() >= SESSIONS_MAX || of_user >= most) {
            return None;
        }
        let kept = &self.kept;
        let begun = || UserSessions { count: 0, kept: KeptBytes::of_user(kept) };
        let user = self.of_user.entry(Arc::clone(&key.1)).or_insert_with(begun);
        user.count += usize::from(!is_known);
        self.calls.insert(key.clone(), calls);
        Some(Arc::clone(&user.kept))
    }

    fn remove(&mut self, key: &SessionKey) {
        if self.calls.remove(key).is_none() {
            return;
        }
        if let Some(user) = self.of_user.get_mut(&key.1) {
            user.count -= 1;
            if user.count == 0 {
                self.of_user.remove(&key.1);
            }
        }
    }
}

impl Sessions {
    pub(in crate::services) fn new(stopping: Stopping) -> Arc<Self> {
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
        let call = match key.as_ref().and_then(|key| open.calls.get(key)) {
            Some(calls) => match calls.send(call) {
                Ok(()) => return,
                // Its task has ended, as by a panic.
                Err(unsent) => unsent.0,
            },
            None => call,
        };
        let (calls, receiver) = mpsc::unbounded_channel();
        // The receiver is in this function.
        let _ = calls.send(call);
        let added = key.and_then(|key| open.add(&key, calls).map(|kept| (key, kept)));
        drop(open);
        let (key, kept) = added.unzip();
        let stopping = self.stopping.clone();
        let session = AppendSession::new(Arc::clone(backend), receiver, stopping, kept);
        tokio::spawn(Arc::clone(self).carry(key, session));
    }

    /// Adds how many sessions there are, and what they keep.
    pub(in crate::services) fn measure(&self, metrics: &mut Metrics) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let text = "Sessions of appends that a client may go on with.";
        metrics.gauge("leftfold_server_sessions", text, &[], open.calls.len());
        let text = "Bytes of answers that sessions keep for clients that come back.";
        metrics.gauge("leftfold_server_session_bytes", text, &[], open.kept.bytes());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_takes_all_its_sessions_leaves_those_of_others() {
        let mut open = OpenSessions::default();
        let key = |user: &str, number: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_le_bytes());
            SessionKey("default".into(), user.into(), id)
        };
        let mut add = |key: &SessionKey| open.add(key, mpsc::unbounded_channel().0).is_some();
        let taken = (0..SESSIONS_MAX).filter(|number| add(&key("eve", *number))).count();
        assert_eq!(taken, SESSIONS_OF_USER_MAX);
        assert!(add(&key("ada", 0)) && add(&key("eve", 0)));
        open.remove(&key("eve", 0));
        open.remove(&key("eve", 0));
        assert!(open.add(&key("eve", SESSIONS_MAX), mpsc::unbounded_channel().0).is_some());
        assert!(open.add(&key("eve", 0), mpsc::unbounded_channel().0).is_none());
        open.remove(&key("ada", 0));
        assert_eq!(open.of_user.len(), 1);
    }
}
