//! What every endpoint needs, be it for stations, programs or browsers.
//!
//! - `guard`: who may call
//! - `problem`: errors as problem documents

mod guard;
mod problem;

pub(crate) use guard::{ApiCaller, admit, guard, refuse_foreign_host};
pub(crate) use problem::Problem;
pub(crate) use problem::execute_failed;
