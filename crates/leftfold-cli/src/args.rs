//! Arguments of the program.

use clap::{Command, CommandFactory, Parser, Subcommand};

use crate::commands::append::AppendArguments;
use crate::commands::backup::{ArchiveArguments, BackupArguments, RestoreArguments};
use crate::commands::config::ConfigArguments;
use crate::commands::consumers::ConsumersArguments;
use crate::commands::doctor::DoctorArguments;
use crate::commands::dump::{DumpArguments, ImportArguments};
use crate::commands::groups::GroupsArguments;
use crate::commands::head::HeadArguments;
use crate::commands::list::{StatsArguments, StreamsArguments, TypesArguments};
use crate::commands::open_work::{EffectsArguments, ParkedArguments};
use crate::commands::operate::{
    CancelArguments, RequestsArguments, ResolveArguments, RetryArguments, SkipArguments,
    WithdrawArguments,
};
use crate::commands::read::{ReadArguments, TailArguments};
use crate::commands::serve::ServeArguments;
use crate::commands::shell::{CompletionsArguments, ManArguments};
use crate::commands::sql::SqlArguments;
use crate::commands::transform::TransformArguments;
use crate::commands::users::UserArguments;
use crate::commands::users_file::UsersArguments;
use crate::commands::verify::VerifyArguments;
use crate::failure::exit_codes;
use crate::screen::ScreenOptions;

/// Serves event stores, and works on them from a terminal.
#[derive(Debug, Parser)]
#[command(name = "leftfold", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) screen: ScreenOptions,
    #[command(subcommand)]
    pub(crate) command: CliCommand,
}

/// Command of the program.
#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    Serve(ServeArguments),
    Read(ReadArguments),
    Tail(TailArguments),
    Streams(StreamsArguments),
    Types(TypesArguments),
    Stats(StatsArguments),
    Head(HeadArguments),
    Verify(VerifyArguments),
    Append(AppendArguments),
    Dump(DumpArguments),
    Import(ImportArguments),
    Backup(BackupArguments),
    Restore(RestoreArguments),
    Archive(ArchiveArguments),
    Sql(SqlArguments),
    Transform(TransformArguments),
    Consumers(ConsumersArguments),
    Groups(GroupsArguments),
    Effects(EffectsArguments),
    Parked(ParkedArguments),
    Retry(RetryArguments),
    Skip(SkipArguments),
    Resolve(ResolveArguments),
    Cancel(CancelArguments),
    Requests(RequestsArguments),
    Withdraw(WithdrawArguments),
    Doctor(DoctorArguments),
    User(UserArguments),
    Users(UsersArguments),
    Config(ConfigArguments),
    Completions(CompletionsArguments),
    Man(ManArguments),
}

/// The whole description of the program, with its exit codes.
pub(crate) fn described() -> Command {
    Arguments::command().after_help(exit_codes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        described().debug_assert();
    }
}
