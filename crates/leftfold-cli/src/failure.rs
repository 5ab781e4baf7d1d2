//! How a command ends: its error, and the exit code of that.

use std::io;
use std::process::ExitCode;

use leftfold::operations::HistoryError;
use leftfold::store::ReadError;

/// Error that ends a command. Messages say what to do; none has a password in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliFailure {
    /// It was refused, or has failed.
    #[error("{0}")]
    Failed(String),
    /// The arguments are read, and still mean nothing.
    #[error("{0}")]
    Usage(String),
    /// A check came to its end and found a fault, which has been printed.
    #[error("{0}")]
    Fault(String),
    /// The condition of an append did not hold; nothing was appended.
    #[error("{0}")]
    Conflict(String),
    /// It may have taken effect, and may not.
    #[error("{0}")]
    InDoubt(String),
    /// The person interrupted it.
    #[error("interrupted{}", .0.map(|hint| format!("; {hint}")).unwrap_or_default())]
    Interrupted(Option<&'static str>),
    /// Nobody reads the output any more, which is no error: `leftfold read … | head`.
    #[error("the output is closed")]
    OutputClosed,
}

/// Codes with which the program ends, for scripts, with their meaning.
const EXIT_CODES: [(u8, &str); 7] = [
    (0, "done"),
    (1, "refused or failed; the message says what to do"),
    (2, "wrong usage: an argument or a line of input is wrong"),
    (3, "a check found a fault: the store is damaged, was rewritten, or something is amiss"),
    (4, "the condition of an append did not hold, and nothing was appended"),
    (5, "in doubt: it may have taken effect, and may not"),
    (130, "interrupted (SIGINT); what says that it can go on goes on with the same call"),
];

/// The meaning of the exit codes, as the help of the program shows it.
pub(crate) fn exit_codes() -> String {
    let lines = EXIT_CODES.iter().map(|(code, means)| format!("  {code:<3}  {means}"));
    let lines: Vec<String> = lines.collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

impl CliFailure {
    /// Returns the failure of any error.
    pub(crate) fn of(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::OutputClosed => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Fault(_) => 3,
            Self::Conflict(_) => 4,
            Self::InDoubt(_) => 5,
            Self::Interrupted(_) => 130,
        })
    }
}

impl From<io::Error> for CliFailure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<HistoryError> for CliFailure {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Broken { .. }
            | HistoryError::OtherEnd { .. }
            | HistoryError::Read(ReadError::Damaged { .. }) => Self::Fault(error.to_string()),
            error => Self::of(error),
        }
    }
}

/// Failures that are the message of an error of the store, and no more.
macro_rules! failed_by {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for CliFailure {
            fn from(error: $error) -> Self {
                Self::of(error)
            }
        })*
    };
}

failed_by!(
    leftfold::store::ReadError,
    leftfold::store::LeaseError,
    leftfold::store::CloseError,
    leftfold::log::LogOpenError,
    leftfold::log::ArchiveError,
    leftfold_server::UsersError,
    serde_json::Error,
);
