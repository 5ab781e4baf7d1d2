//! `leftfold user`: the entry of a user, for the file of users.

use std::io::{self, IsTerminal, Read, Write};

use clap::Args;
use leftfold_server::Users;

use crate::failure::CliFailure;
use crate::screen::Screen;

/// Makes the entry of a user for the file of users
///
/// Reads the password from standard input, and prints the entry: add it to the file. With --token
/// it draws a token instead, which standard error shows this once.
#[derive(Debug, Args)]
pub(crate) struct UserArguments {
    /// Name of the user
    name: String,
    /// read, append, runtime, which a program with processes, effects or projections needs, or
    /// admin
    role: String,
    /// Draws a token, which stands for name and password
    #[arg(long)]
    token: bool,
}

impl UserArguments {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

pub(crate) fn run(user: &UserArguments, screen: &mut Screen) -> Result<(), CliFailure> {
    make(user, |entry| {
        screen.line(entry.trim_end())?;
        screen.flush()
    })
}

/// Makes the entry of a user, with a password from standard input or a token. Standard error shows
/// the token when the entry is kept, so none is known that stands for nobody.
pub(crate) fn make(
    user: &UserArguments,
    keep: impl FnOnce(&str) -> Result<(), CliFailure>,
) -> Result<(), CliFailure> {
    if user.token {
        let made = Users::with_token(&user.name, &user.role)?;
        keep(&made.entry)?;
        return writeln!(io::stderr(), "{}", made.token).map_err(CliFailure::of);
    }
    let password = password()?;
    keep(&Users::entry(&user.name, &user.role, &password)?)
}

/// Reads a line of standard input, which a terminal does not show.
fn password() -> Result<String, CliFailure> {
    let said =
        |error| CliFailure::Failed(format!("no password can be read from standard input: {error}"));
    let is_typed = io::stdin().is_terminal();
    #[cfg(unix)]
    let _silence = silence::Silence::begin().map_err(said)?;
    if is_typed {
        write!(io::stderr(), "Password: ").map_err(said)?;
    }
    let mut line = Vec::new();
    for byte in io::stdin().lock().bytes() {
        match byte.map_err(said)? {
            CONTROL_C if is_typed => return Err(CliFailure::Interrupted(None)),
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    let line = String::from_utf8(line).map_err(|error| said(io::Error::other(error)))?;
    Ok(line.trim_end_matches('\r').to_owned())
}

/// Byte of the key of an interruption, from a terminal that makes no signal of it.
const CONTROL_C: u8 = 3;

#[cfg(unix)]
mod silence {
    use std::io::{self, IsTerminal};

    use rustix::termios::{
        LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
    };

    /// Silence of the terminal of standard input: it shows nothing that is typed until the value is
    /// dropped. An interruption ends the line meanwhile, and not the program, after which the
    /// terminal would be silent for good.
    pub(super) struct Silence(Option<Termios>);

    impl Silence {
        pub(super) fn begin() -> io::Result<Self> {
            let terminal = io::stdin();
            if !terminal.is_terminal() {
                return Ok(Self(None));
            }
            let before = tcgetattr(&terminal)?;
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
            silent.local_modes.insert(LocalModes::ECHONL);
            silent.special_codes[SpecialCodeIndex::VEOL] = super::CONTROL_C;
            tcsetattr(&terminal, OptionalActions::Now, &silent)?;
            Ok(Self(Some(before)))
        }
    }

    impl Drop for Silence {
        fn drop(&mut self) {
            if let Some(before) = &self.0 {
                let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
            }
        }
    }
}
