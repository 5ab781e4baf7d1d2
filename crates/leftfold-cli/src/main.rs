//! The program `leftfold`: serves stores, and works on them from a terminal.

// `args` are the arguments; each command has a file: `serve`, `users`.

mod args;
mod serve;
mod users;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, CliCommand};

/// Exit code of a command that was refused or has failed. Wrong arguments end with 2, by clap.
const FAILED: u8 = 1;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leftfold: {error}");
            ExitCode::from(FAILED)
        }
    }
}

async fn run(command: CliCommand) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        CliCommand::Serve(options) => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).init();
            serve::run(options).await?;
        }
        CliCommand::User(user) => users::run(&user)?,
    }
    Ok(())
}
