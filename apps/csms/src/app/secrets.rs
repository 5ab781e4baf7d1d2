//! Secret parts of requests to stations, in memory until the requests have been sent: they are in
//! no event. A request whose secret is gone, since the server was restarted, is not done.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::confidential::Confidential;
use crate::domain::request::RequestId;

/// Secrets that are kept at most; beyond that the oldest is forgotten.
const SECRETS_MAX: usize = 4_096;

/// Secret parts of requests that have not ended.
#[derive(Debug, Default)]
pub(crate) struct RequestSecrets(Mutex<KeptSecrets>);

#[derive(Debug, Default)]
struct KeptSecrets {
    by_request: HashMap<RequestId, Confidential>,
    /// The requests, the oldest first; some may be forgotten already.
    order: VecDeque<RequestId>,
}

impl RequestSecrets {
    /// Keeps the secret of a request.
    pub(crate) fn keep(&self, request: RequestId, secret: String) {
        let mut kept = self.kept();
        kept.by_request.insert(request.clone(), Confidential::new(secret));
        kept.order.push_back(request);
        if kept.order.len() > SECRETS_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.by_request.remove(&oldest);
        }
    }

    /// Tells whether the secret of a request is here.
    #[must_use]
    pub(crate) fn has(&self, request: &RequestId) -> bool {
        self.kept().by_request.contains_key(request)
    }

    /// Returns the secret of a request; `None` if it is gone.
    #[must_use]
    pub(crate) fn find(&self, request: &RequestId) -> Option<Confidential> {
        self.kept().by_request.get(request).cloned()
    }

    /// Forgets the secret of a request that has ended.
    pub(crate) fn forget(&self, request: &RequestId) {
        self.kept().by_request.remove(request);
    }

    fn kept(&self) -> MutexGuard<'_, KeptSecrets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
