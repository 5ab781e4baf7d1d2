//! The program `leftfold`: serves stores, and works on them from a terminal.

// `args` are the arguments; each of the `commands` has a file. `access` opens the store that is
// named, `pipeline` appends to it, `selection` finds out which events are meant, and `event_json`
// writes them for programs. `input` reads lines, `import_times` has the times of what is imported,
// and `bucket` backups in object storage. `config` has the settings of a server. `screen` is
// standard output, `progress` what is told meanwhile on standard error, and `failure` how a command
// ends.

mod access;
mod args;
mod bucket;
mod commands;
mod config;
mod event_json;
mod failure;
mod import_times;
mod input;
mod pipeline;
mod progress;
mod screen;
mod selection;
mod spans;

use std::process::ExitCode;

use clap::FromArgMatches;
use tracing::level_filters::LevelFilter;

use crate::args::{Arguments, CliCommand};
use crate::commands::{
    append, backup, consumers, doctor, dump, head, list, open_work, operate, read, serve, shell,
    sql, transform, users, users_file, verify,
};
use crate::failure::CliFailure;
use crate::screen::Screen;

#[tokio::main]
async fn main() -> ExitCode {
    let given = args::described().get_matches();
    let arguments = Arguments::from_arg_matches(&given).unwrap_or_else(|error| error.exit());
    // Of a server everything is told; of a command what a person should know.
    let is_server = matches!(arguments.command, CliCommand::Serve(_));
    let level = if is_server { LevelFilter::INFO } else { LevelFilter::ERROR };
    let collector = match &arguments.command {
        CliCommand::Serve(options) => options.otlp_endpoint(),
        _ => None,
    };
    let spans = match spans::begin(level, collector) {
        Ok(spans) => spans,
        Err(error) => {
            eprintln!("leftfold: {error}");
            return error.exit_code();
        }
    };
    let mut screen = Screen::new(arguments.screen);
    let ended = run(arguments.command, &mut screen).await;
    spans.end().await;
    // What was printed before a failure is seen before its message.
    match ended.and(screen.flush()) {
        Ok(()) | Err(CliFailure::OutputClosed) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leftfold: {error}");
            error.exit_code()
        }
    }
}

async fn run(command: CliCommand, screen: &mut Screen) -> Result<(), CliFailure> {
    match command {
        CliCommand::Serve(options) => serve::run(options).await,
        CliCommand::Config(arguments) => commands::config::run(&arguments, screen),
        CliCommand::Read(arguments) => read::read(&arguments, screen).await,
        CliCommand::Tail(arguments) => read::tail(&arguments, screen).await,
        CliCommand::Streams(arguments) => list::streams(&arguments, screen).await,
        CliCommand::Types(arguments) => list::types(&arguments, screen).await,
        CliCommand::Stats(arguments) => list::stats(&arguments, screen).await,
        CliCommand::Head(arguments) => head::run(&arguments, screen).await,
        CliCommand::Verify(arguments) => verify::run(&arguments, screen).await,
        CliCommand::Append(arguments) => append::run(&arguments, screen).await,
        CliCommand::Dump(arguments) => dump::dump(&arguments, screen).await,
        CliCommand::Import(arguments) => dump::import(&arguments, screen).await,
        CliCommand::Backup(arguments) => backup::run(&arguments, screen).await,
        CliCommand::Restore(arguments) => backup::restore(&arguments, screen).await,
        CliCommand::Archive(arguments) => backup::archive(&arguments, screen).await,
        CliCommand::Sql(arguments) => sql::run(&arguments, screen).await,
        CliCommand::Transform(arguments) => transform::run(&arguments, screen).await,
        CliCommand::Consumers(arguments) => consumers::run(&arguments, screen).await,
        CliCommand::Groups(arguments) => commands::groups::run(&arguments, screen).await,
        CliCommand::Effects(arguments) => open_work::effects(&arguments, screen).await,
        CliCommand::Parked(arguments) => open_work::parked(&arguments, screen).await,
        CliCommand::Retry(arguments) => operate::retry(&arguments, screen).await,
        CliCommand::Skip(arguments) => operate::skip(&arguments, screen).await,
        CliCommand::Resolve(arguments) => operate::resolve(&arguments, screen).await,
        CliCommand::Cancel(arguments) => operate::cancel(&arguments, screen).await,
        CliCommand::Requests(arguments) => operate::requests(&arguments, screen).await,
        CliCommand::Withdraw(arguments) => operate::withdraw(&arguments, screen).await,
        CliCommand::Doctor(arguments) => doctor::run(&arguments, screen).await,
        CliCommand::Completions(arguments) => {
            shell::completions(&arguments, args::described(), screen)
        }
        CliCommand::Man(arguments) => shell::man(&arguments, args::described(), screen),
        CliCommand::Users(arguments) => users_file::run(&arguments, screen),
        CliCommand::User(user) => users::run(&user, screen),
    }
}
