//! `leftfold completions` and `leftfold man`: what a shell and a reader of manuals need.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::failure::CliFailure;
use crate::screen::Screen;

/// Prints the completions for a shell
///
/// The first line of what is printed, or the manual of the shell, says where it belongs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold completions bash > ~/.local/share/bash-completion/completions/leftfold
  leftfold completions fish > ~/.config/fish/completions/leftfold.fish")]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the manual page of the program, or of a command
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold man | man -l -
  leftfold man read > leftfold-read.1")]
pub(crate) struct ManArguments {
    /// The command
    command: Option<String>,
}

pub(crate) fn completions(
    arguments: &CompletionsArguments,
    mut program: Command,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "leftfold", &mut text);
    screen.line(String::from_utf8_lossy(&text).trim_end())
}

pub(crate) fn man(
    arguments: &ManArguments,
    program: Command,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let page = match &arguments.command {
        None => program,
        Some(name) => {
            let mut program = program;
            program.build();
            let found = program.find_subcommand(name).cloned();
            let command = found.ok_or_else(|| {
                CliFailure::Usage(format!("{name:?} is no command; leftfold --help lists them"))
            })?;
            // A page has the name by which it is looked up.
            let page_name: &'static str = Box::leak(format!("leftfold-{name}").into_boxed_str());
            command.name(page_name).disable_help_flag(true)
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    screen.line(String::from_utf8_lossy(&text).trim_end())
}
