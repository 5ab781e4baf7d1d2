//! A handle on a runtime: what everybody may ask, while one owner stops it.

use std::io::{IsTerminal, Write};

use tokio::sync::watch;

use super::consumer::status::ConsumerStatus;
use super::effect::Effects;
use super::process::Processes;
use super::projection::{Projections, progress};
use super::sharing::{self, MemberStatus};
use crate::store::LeaseError;

/// Handle on a runtime, for status, metrics and the doors of effects, processes and projections.
/// Cloning is cheap: a web server keeps clones, and `main` keeps the
/// [`RunningRuntime`](super::RunningRuntime), which alone can stop it.
///
/// It keeps nothing running. After the runtime was stopped or dropped it says how each consumer
/// stood at the end.
#[derive(Clone, Debug)]
pub struct RuntimeHandle {
    pub(super) effects: Effects,
    pub(super) processes: Processes,
    pub(super) projections: Projections,
    pub(super) stop: watch::Receiver<bool>,
}

impl RuntimeHandle {
    /// The effects.
    #[must_use]
    pub fn effects(&self) -> Effects {
        self.effects.clone()
    }

    /// The processes.
    #[must_use]
    pub fn processes(&self) -> Processes {
        self.processes.clone()
    }

    /// The projections.
    #[must_use]
    pub fn projections(&self) -> Projections {
        self.projections.clone()
    }

    /// Returns the state of every consumer, and what it waits for.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod balances {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/balances.rs"));
    /// # }
    /// use balances::Balances;
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::runtime::projection::Memory;
    /// use leftfold_core::store::Store;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let runtime = Runtime::new(&store).project(Balances, Memory::new()).start().await?;
    /// // A web server keeps the handle, and answers a health check by it.
    /// let handle = runtime.handle();
    /// let troubled: Vec<_> =
    ///     handle.status().into_iter().filter(|consumer| consumer.needs_person).collect();
    /// assert!(troubled.is_empty(), "somebody must look at {troubled:?}");
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn status(&self) -> Vec<ConsumerStatus> {
        self.effects.board.statuses(&self.effects.store)
    }

    /// Returns the runtimes on the store, whichever processes they are in, each with the work that
    /// it does for all of them: how far that is, and what it waits for, as of the last renewal of
    /// its lease. A work that no runtime has is in none of them.
    ///
    /// # Errors
    /// Those of [`Store::leases`](crate::store::Store::leases).
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # use wallet::Wallet;
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::store::Store;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let east = Runtime::new(&store).named("east").scheduled::<Wallet>().start().await?;
    /// let west = Runtime::new(&store).named("west").scheduled::<Wallet>().start().await?;
    /// for member in west.members().await? {
    ///     for work in member.works {
    ///         println!("{} does {} to {}", member.name, work.consumer, work.through);
    ///     }
    /// }
    /// east.stop().await?;
    /// west.stop().await?;
    /// # Ok(()) }
    /// ```
    pub async fn members(&self) -> Result<Vec<MemberStatus>, LeaseError> {
        Ok(sharing::members(&self.effects.store.leases().await?))
    }

    /// Returns the [status](Self::status) as figures, in the text format of Prometheus (version
    /// 0.0.4), together with those of the store and of other runtimes behind it: it is
    /// [`Store::metrics`](crate::store::Store::metrics). After the runtime was stopped its figures
    /// are no part of that.
    ///
    /// ```
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::store::Store;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = Runtime::new(&Store::memory()).start().await?;
    /// assert!(runtime.metrics().lines().any(|line| line == "leftfold_store_up 1"));
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn metrics(&self) -> String {
        self.effects.store.metrics()
    }

    /// Shows on standard error, if that is a terminal, the progress of projections that are being
    /// built: a line each, until they have caught up.
    pub fn show_progress(&self) {
        if std::io::stderr().is_terminal() {
            self.show_progress_on(std::io::stderr());
        }
    }

    /// Shows the same on any terminal.
    pub fn show_progress_on(&self, terminal: impl Write + Send + 'static) {
        let clock = self.effects.board.clock();
        tokio::spawn(progress::show(self.projections(), clock, self.stop.clone(), terminal));
    }
}
