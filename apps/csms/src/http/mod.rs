//! What every endpoint needs, be it for stations, programs or browsers.
//!
//! - `guard`: who may call
//! - `problem`: errors as problem documents

mod guard;
mod problem;

pub(crate) use guard::admit_station;
pub(crate) use guard::{ApiCaller, admit, guard};
pub(crate) use problem::Problem;
pub(crate) use problem::execute_failed;
