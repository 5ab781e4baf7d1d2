//! Deadlines that survive restarts: processes with durable timers.
//!
//! - `remote_start_deadline`: a remote start that was accepted, and no transaction started
//! - `reservation_expiry`: a reservation that nobody used
//!
//! Silence is not among them: a message of a station writes nothing, so that is watched by light
//! countdowns in memory.

mod remote_start_deadline;
mod reservation_expiry;

use leftfold::prelude::{Process, Runtime};

use remote_start_deadline::RemoteStartDeadline;
use reservation_expiry::ReservationExpiry;

/// The names of the processes.
pub(crate) const PROCESSES: [&str; 2] = [RemoteStartDeadline::NAME, ReservationExpiry::NAME];

/// Has a runtime keep the deadlines.
pub(crate) fn register(runtime: Runtime) -> Runtime {
    runtime.process::<RemoteStartDeadline>().process::<ReservationExpiry>()
}
