//! The scene on which one consumer of one application runs.

use std::sync::Arc;

use leftfold_core::drive::{Driver, HandClock};
use leftfold_core::store::Store;
use tokio::sync::watch;

use super::models::{Models, SentMessages};
use super::outside::Outside;
use super::store::SharedSimulation;

/// Environment of a consumer.
pub(super) struct Scene {
    pub(super) store: Store,
    pub(super) clock: Arc<HandClock>,
    pub(super) shared: Arc<SharedSimulation>,
    pub(super) outside: Outside,
    pub(super) stop: watch::Receiver<bool>,
    /// True if no other application shares the store.
    pub(super) is_alone: bool,
    /// Number of the application.
    pub(super) application: usize,
    pub(super) models: Models,
    pub(super) sent: SentMessages,
}

impl Scene {
    /// The program whose consumers it starts. A lease does not outlive the only program that has
    /// the log open.
    pub(super) fn driver(&self) -> Driver {
        Driver {
            store: self.store.clone(),
            clock: self.clock.clone(),
            stop: self.stop.clone(),
            leased: !self.is_alone,
        }
    }
}
