//! Arguments of the program.

use clap::{Parser, Subcommand};

use crate::serve::ServeArguments;
use crate::users::UserArguments;

/// Serves event stores, and works on them from a terminal.
#[derive(Debug, Parser)]
#[command(name = "leftfold", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: CliCommand,
}

/// Command of the program.
#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Serves stores to other programs
    Serve(ServeArguments),
    /// Makes the entry of a user for the file of users
    User(UserArguments),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
