//! What all consumers share: each rule of their lives exists once, here.
//!
//! In the order of a consumer's life: it starts within a time (`stop`) or is refused
//! (`start_error`). It works while it holds its `lease`; another runner of the same work stands
//! by. It finds out which of the types that it reads are `unheard`. Users' code runs
//! `contained`: a panic is an error of its own work. After a failure it waits (`backoff`),
//! longer from one to the next; what fails again and again is parked for a person (`parking`).
//! What people are to read about a failure has a limit (`reason`). Its `status` says what it
//! has read and what it waits for. When the runtime stops, it ends within a time (`stop`).

pub(super) mod backoff;
pub(super) mod contained;
pub(super) mod lease;
mod parking;
mod reason;
mod start_error;
pub(super) mod status;
pub(super) mod stop;
pub(super) mod unheard;

pub(super) use contained::{contained, message};
pub use lease::{WORK_LEASE, WORK_LEASE_MIN};
pub use parking::{AskError, PARKED_MAX};
pub(super) use reason::{shortened, shortened_to};
pub use start_error::StartError;
pub(crate) use start_error::StartFault;
pub use status::ConsumerStatus;
pub use stop::{START_WITHIN, STOP_WITHIN, StopError};
