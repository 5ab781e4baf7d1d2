//! Bounds on callers: how many connections and calls, how fast, and how much is written of those
//! that were refused.

// `rates` has what users and stores take a second; the rest is shared with other servers.

mod rates;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use leftfold_callers::{Crowd, Guesses, Refusals};

use crate::metrics::ServerCounts;
pub(crate) use rates::{CallPlace, RateUse, TooFast};
pub use rates::{StoreLimits, UserLimits};

/// Everything that bounds the callers of a server.
pub(crate) struct Guard {
    pub(crate) crowd: Crowd,
    pub(crate) guesses: Guesses,
    pub(crate) refusals: Refusals,
    pub(crate) counts: Arc<ServerCounts>,
    user_limits: UserLimits,
    /// By user: a file of users has a bounded number of them.
    users: Mutex<HashMap<Arc<str>, Arc<RateUse>>>,
}

impl Guard {
    pub(crate) fn new(
        connections_of_prefix_max: usize,
        user_limits: UserLimits,
        counts: &Arc<ServerCounts>,
    ) -> Arc<Self> {
        Arc::new(Self {
            crowd: Crowd::new(connections_of_prefix_max),
            guesses: Guesses::default(),
            refusals: Refusals::default(),
            counts: Arc::clone(counts),
            user_limits,
            users: Mutex::default(),
        })
    }

    /// Returns the limits of a user who has some of its own.
    pub(crate) fn limits_of(&self, own: UserLimits) -> UserLimits {
        own.or(self.user_limits)
    }

    /// Returns what a user has taken of its limits.
    pub(crate) fn use_of(&self, user: &Arc<str>) -> Arc<RateUse> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(users.entry(Arc::clone(user)).or_default())
    }
}
