//! Places at which a debug build ends at once, as by a power failure, if `CSMS_ABORT_AT` says so:
//! for tests of gaps that are too short to be hit from outside. A release build has none.

/// A place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultPoint {
    /// A request is recorded, and nothing has been attempted. Effects are not carried out, so that
    /// this is certain.
    BeforeAttempt,
    /// An outcome is recorded, and the caller who waits for it has not been told.
    AfterOutcome,
}

impl FaultPoint {
    /// Tells whether the process ends here.
    pub(crate) fn is_set(self) -> bool {
        let name = match self {
            Self::BeforeAttempt => "before-attempt",
            Self::AfterOutcome => "after-outcome",
        };
        cfg!(debug_assertions) && std::env::var_os("CSMS_ABORT_AT").is_some_and(|at| at == name)
    }

    /// Ends the process, if it is to end here.
    pub(crate) fn strike(self) {
        if self.is_set() {
            std::process::abort();
        }
    }
}
