//! `leftfold config`: looks at the file of settings of a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::ConfigFile;
use crate::failure::CliFailure;
use crate::screen::Screen;

/// Looks at the settings of a server
#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Names each fault of a file of settings with its line
    ///
    /// The files of users and certificates that it names are looked at too; stores are not opened.
    /// It ends with 3 if there is a fault.
    Check {
        /// The file, of TOML
        path: PathBuf,
    },
}

pub(crate) fn run(arguments: &ConfigArguments, screen: &mut Screen) -> Result<(), CliFailure> {
    let ConfigCommand::Check { path } = &arguments.command;
    let faults = ConfigFile::read(path).map_err(CliFailure::Failed)?.check();
    for fault in &faults {
        screen.line(fault.at(path))?;
    }
    match faults.len() {
        0 => Ok(()),
        1 => Err(CliFailure::Fault("the settings have a fault".to_owned())),
        count => Err(CliFailure::Fault(format!("the settings have {count} faults"))),
    }
}
