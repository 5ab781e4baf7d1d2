//! What every endpoint over HTTP needs: who may call, and how an error is told.

mod guard;
mod problem;

pub(crate) use guard::{admit, admit_station, guard};
pub(crate) use problem::{Problem, execute_failed};
