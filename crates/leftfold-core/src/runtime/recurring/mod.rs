//! Commands that recur: each firing takes effect once, over restarts and with several runtimes.
//!
//! `plan` says when, for some plans by a `cron` expression; `schedule` is the record of each in the
//! log; `runner` waits, and carries the commands out.

mod cron;
mod plan;
mod runner;
mod schedule;

pub use cron::{CronError, CronField};
pub use plan::Plan;
pub(super) use runner::RecurringRunner;
pub(super) use schedule::OWNER;

use crate::fold::Aggregate;
use crate::store::Timestamp;

/// Firings that were missed and are made up for at most; of more than that the oldest are passed
/// over.
pub const MADE_UP_MAX: u64 = 1_000;

/// A command that recurs, with nobody to send it.
///
/// It begins with the first moment of its plan after it was first started with a store. Each firing
/// carries a command id made of its name and of the moment when it was due, so it takes effect
/// once, however often it is tried and by however many runtimes. A firing that the aggregate
/// refuses, or that fails for a reason that does not pass, is written into the program's log and
/// recorded; the next firing comes when it is due. If the reason passes, as when a store is away,
/// the runtime waits for that.
///
/// ```
/// # use std::convert::Infallible;
/// # use leftfold_core::fold::{Aggregate, Event};
/// # use leftfold_core::runtime::{Plan, Recurring, Runtime};
/// # use leftfold_core::store::{Store, Timestamp};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// # enum TillEvent { Closed { day: String } }
/// # impl Event for TillEvent { const NAMESPACE: &'static str = "till"; }
/// # #[derive(Clone, Debug, Default, Serialize, Deserialize)]
/// # struct Till;
/// # enum TillCommand { Close { day: String } }
/// # impl Aggregate for Till {
/// #     const CATEGORY: &'static str = "till";
/// #     type Event = TillEvent;
/// #     type Command = TillCommand;
/// #     type Refusal = Infallible;
/// #     fn apply(&mut self, _: &TillEvent) {}
/// #     fn decide(&self, command: &TillCommand) -> Result<Vec<TillEvent>, Infallible> {
/// #         let TillCommand::Close { day } = command;
/// #         Ok(vec![TillEvent::Closed { day: day.clone() }])
/// #     }
/// # }
/// struct ClosesTills;
///
/// impl Recurring for ClosesTills {
///     const NAME: &'static str = "closing of tills";
///     type Target = Till;
///
///     fn plan(&self) -> Plan {
///         Plan::daily_at(22, 0)
///     }
///
///     fn due(&self, at: Timestamp) -> (String, TillCommand) {
///         ("1".to_owned(), TillCommand::Close { day: at.to_string() })
///     }
/// }
///
/// let runtime = Runtime::new(&Store::memory()).recurring(ClosesTills);
/// ```
pub trait Recurring: Send + Sync + 'static {
    /// Names it in the log, and among the consumers of a runtime; at most 440 bytes. Under another
    /// name it is another one.
    const NAME: &'static str;
    /// The aggregate that the command is for.
    type Target: Aggregate;

    /// Returns the plan of its due times. A plan that is changed counts from the next start on.
    fn plan(&self) -> Plan;

    /// Treatment of moments at which no runtime was there.
    fn missed(&self) -> Missed {
        Missed::Once
    }

    /// Returns the id of the aggregate and the command, for a moment of the plan. Pure: a firing
    /// that is tried again asks again.
    fn due(&self, at: Timestamp) -> (String, <Self::Target as Aggregate>::Command);
}

/// Treatment of firings that were missed: those that were due before the runtime was started, or
/// while the machine slept and another was due since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// The last of them is made up for, the others are passed over.
    #[default]
    Once,
    /// Each is made up for, in order: the last [`MADE_UP_MAX`].
    Each,
    /// None of them is made up for.
    Skip,
}
