//! The program that calls the server by the crate `kurrentdb`, in a workspace of its own: what that
//! crate needs, aws-lc among it, is in no lock file of ours.

use std::path::PathBuf;

use super::{execute_aside, given, target};
use crate::{Outcome, cargo, root};

/// Variable that tells the tests the program.
pub(super) const CALLS_VARIABLE: &str = "LEFTFOLD_KURRENT_CALLS";
/// The workspace.
const WORKSPACE: &str = "crates/leftfold-server/tests/kurrent/rust";
const PROGRAM: &str = "kurrent-calls";

/// Builds the program, unless the variable names one.
pub(super) fn prepare() -> Outcome<PathBuf> {
    if let Some(calls) = given(CALLS_VARIABLE) {
        return Ok(calls);
    }
    let target = target().join(PROGRAM);
    let mut build = cargo();
    build.current_dir(root().join(WORKSPACE)).args(["build", "--locked", "--target-dir"]);
    execute_aside(build.arg(&target)).map_err(|error| {
        format!(
            "cannot build {WORKSPACE}: {error}; this needs a C compiler and the registry of crates \
             once; without them, set {CALLS_VARIABLE} to the program that was built elsewhere"
        )
    })?;
    Ok(target.join("debug").join(PROGRAM))
}
