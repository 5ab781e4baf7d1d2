//! Steps under a heading, with their duration, up to the first that fails.

use std::process::Command;
use std::time::Instant;

use crate::Outcome;

/// Runs one step under its heading. A failure names the step.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    println!("==> {name}");
    let started = Instant::now();
    let outcome = work();
    let seconds = started.elapsed().as_secs_f64();
    match outcome {
        Ok(value) => {
            println!("<== {name}: ok in {seconds:.1} s\n");
            Ok(value)
        }
        Err(reason) => {
            println!("<== {name}: failed after {seconds:.1} s\n");
            Err(format!("the step \"{name}\" failed: {reason}"))
        }
    }
}

/// Runs a program to its end, its output shown as it comes. Anything but success is an error.
pub(crate) fn execute(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|e| format!("cannot start `{}`: {e}", shown(command)))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("`{}` ended with {status}", shown(command))),
    }
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
    let arguments = command.get_args().map(|a| a.to_string_lossy().into_owned());
    [name].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_names_itself_and_the_command() {
        let outcome = step("lights", || execute(Command::new("sh").args(["-c", "exit 3"])));
        assert_eq!(
            outcome,
            Err("the step \"lights\" failed: `sh -c exit 3` ended with exit status: 3".into())
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let outcome = execute(&mut Command::new("no-such-program"));
        assert!(outcome.unwrap_err().starts_with("cannot start `no-such-program`"));
    }
}
