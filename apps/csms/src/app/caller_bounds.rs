//! Bounds on those who call, whoever they are: stations, programs and people.

use std::sync::Arc;

use leftfold_callers::{Crowd, Guesses, PasswordPool};
use tokio::sync::Semaphore;

use crate::config::StationSettings;

/// Bounds on callers.
#[derive(Debug)]
pub(crate) struct CallerBounds {
    /// Permits for connections that are open at once.
    pub(crate) room: Arc<Semaphore>,
    /// Connections by address prefix.
    pub(crate) crowd: Crowd,
    /// Wrong passwords by address prefix.
    pub(crate) guesses: Guesses,
    /// Comparisons of passwords that people chose, of people and of stations.
    pub(crate) passwords: PasswordPool,
}

impl CallerBounds {
    /// Creates the bounds that the operator has set.
    pub(super) fn new(settings: &StationSettings, passwords: &PasswordPool) -> Self {
        Self {
            room: Arc::new(Semaphore::new(settings.connections_max)),
            crowd: Crowd::new(settings.connections_of_prefix_max),
            guesses: Guesses::default(),
            passwords: passwords.clone(),
        }
    }
}
