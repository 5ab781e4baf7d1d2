//! What every endpoint needs, be it for stations, programs or browsers.
//!
//! - `guard`: who may call
//! - `problem`: errors as problem documents

mod guard;
mod problem;

pub(crate) use guard::{admit, admit_station, guard};
pub(crate) use problem::{Problem, execute_failed};
