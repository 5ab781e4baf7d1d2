//! Arguments of the program.

use std::net::SocketAddr;
use std::path::PathBuf;

use leftfold_protocol::{DEFAULT_STORE, PORT};
use lexopt::prelude::{Long, Short, Value, ValueExt};

use crate::stores::is_store_name;
use crate::tls::TlsFiles;

/// Help of the program.
pub const USAGE: &str = "\
Serves stores of Leftfold to other programs.

leftfold serve --store STORE [--store NAME=STORE]... [--listen ADDRESS]... [OPTIONS]

STORE is what leftfold::open takes: a directory, file:PATH, postgres:URL or memory:. The one
without a name has the name default.

  -s, --store STORE       serves this store
  -l, --listen ADDRESS    listens on this address and port [127.0.0.1:2113]
      --tls-cert PATH     encrypts connections, by the certificate in this file of PEM
      --tls-key PATH      with its private key
      --tls-clients PATH  demands that clients have a certificate of one of these authorities
      --users PATH        lets only the users in this file call, with their passwords
      --insecure          listens on addresses that other machines reach, though everybody may
                          write
  -h, --help              prints this text
  -V, --version           prints the version

leftfold user NAME ROLE

Reads a password from standard input, and prints the line of the user for the file of users. ROLE
is read, append or runtime, which a program with processes, effects or projections needs.

  leftfold serve --store ./leftfold-data
  leftfold serve --store orders=./orders --store stock=postgres://shop@db/shop
";

/// Request to the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// Print the help.
    Help,
    /// Print the version.
    Version,
    /// Serve stores.
    Serve {
        /// Names and URLs of the stores.
        stores: Vec<(String, String)>,
        /// Addresses to listen on.
        listen: Vec<SocketAddr>,
        /// Files by which connections are encrypted; `None` if they are not.
        tls: Option<TlsFiles>,
        /// File of users; `None` if nobody has to say who they are.
        users: Option<PathBuf>,
        /// Addresses that other machines reach are wanted.
        insecure: bool,
    },
    /// Print the line of a user.
    User {
        /// Name of the user.
        name: String,
        /// Role of the user.
        role: String,
    },
}

/// Error of arguments that the program does not understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// The command is missing, or there is no such one.
    #[error("{given:?} is no command, use serve or user; --help says more")]
    Command {
        /// Text that was given; empty if there was none.
        given: String,
    },
    /// The text is no address with a port.
    #[error("{given:?} is no address to listen on, write it as 127.0.0.1:2113 or [::1]:2113")]
    Address {
        /// Text that was given.
        given: String,
    },
    /// Some of the files that encrypt are missing.
    #[error("--tls-cert and --tls-key are given together, and --tls-clients with them")]
    Tls,
    /// No store was named.
    #[error("name a store to serve: --store ./leftfold-data")]
    NoStore,
    /// Anything else: an unknown option, a value that is missing.
    #[error("{detail}; --help says more")]
    Other {
        /// Message of the parser.
        detail: String,
    },
}

impl From<lexopt::Error> for ArgsError {
    fn from(error: lexopt::Error) -> Self {
        Self::Other { detail: error.to_string() }
    }
}

impl Arguments {
    /// Reads the arguments of the program, without its name.
    ///
    /// ```
    /// use leftfold_server::Arguments;
    ///
    /// let given = ["serve", "--store", "./data", "--store", "stock=memory:"];
    /// let Ok(Arguments::Serve { stores, listen, .. }) = Arguments::parse(given) else { panic!() };
    /// assert_eq!(stores[0], ("default".to_owned(), "./data".to_owned()));
    /// assert_eq!(stores[1], ("stock".to_owned(), "memory:".to_owned()));
    /// assert_eq!(listen[0].port(), 2113);
    /// ```
    ///
    /// # Errors
    /// [`ArgsError`] for anything that [`USAGE`] does not say.
    pub fn parse<T: Into<std::ffi::OsString>>(
        given: impl IntoIterator<Item = T>,
    ) -> Result<Self, ArgsError> {
        let mut parser = lexopt::Parser::from_args(given);
        let (mut stores, mut listen, mut insecure, mut serves) = (vec![], vec![], false, false);
        let (mut certificates, mut key, mut clients, mut users) = (None, None, None, None);
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => return Ok(Self::Help),
                Short('V') | Long("version") => return Ok(Self::Version),
                Value(command) if !serves && command == "serve" => serves = true,
                Value(command) if !serves && command == "user" => {
                    let (name, role) = (parser.value()?.string()?, parser.value()?.string()?);
                    return Ok(Self::User { name, role });
                }
                Value(other) => {
                    let given = other.to_string_lossy().into_owned();
                    return Err(ArgsError::Command { given });
                }
                Short('s') | Long("store") => stores.push(named(parser.value()?.string()?)),
                Short('l') | Long("listen") => listen.push(address(parser.value()?.string()?)?),
                Long("tls-cert") => certificates = Some(PathBuf::from(parser.value()?)),
                Long("tls-key") => key = Some(PathBuf::from(parser.value()?)),
                Long("tls-clients") => clients = Some(PathBuf::from(parser.value()?)),
                Long("users") => users = Some(PathBuf::from(parser.value()?)),
                Long("insecure") => insecure = true,
                other => return Err(other.unexpected().into()),
            }
        }
        if !serves {
            return Err(ArgsError::Command { given: String::new() });
        }
        if stores.is_empty() {
            return Err(ArgsError::NoStore);
        }
        if listen.is_empty() {
            listen.push(SocketAddr::from(([127, 0, 0, 1], PORT)));
        }
        let tls = match (certificates, key, clients) {
            (Some(certificates), Some(key), clients) => {
                Some(TlsFiles { certificates, key, clients })
            }
            (None, None, None) => None,
            _ => return Err(ArgsError::Tls),
        };
        Ok(Self::Serve { stores, listen, tls, users, insecure })
    }
}

/// Splits `NAME=STORE`; a text that does not begin with a name and `=` is a store alone.
fn named(text: String) -> (String, String) {
    match text.split_once('=') {
        Some((name, store)) if is_store_name(name) => (name.to_owned(), store.to_owned()),
        _ => (DEFAULT_STORE.to_owned(), text),
    }
}

fn address(given: String) -> Result<SocketAddr, ArgsError> {
    given.parse().map_err(|_| ArgsError::Address { given })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_mean_nothing_are_refused_with_what_to_write() {
        let refused = |given: &[&str]| Arguments::parse(given.iter().copied()).unwrap_err();
        assert_eq!(refused(&[]), ArgsError::Command { given: String::new() });
        assert_eq!(refused(&["sing"]), ArgsError::Command { given: "sing".to_owned() });
        assert_eq!(refused(&["serve"]), ArgsError::NoStore);
        let listen = ["serve", "--store", "d", "--listen", "here"];
        assert_eq!(refused(&listen), ArgsError::Address { given: "here".to_owned() });
        assert_eq!(refused(&["serve", "--store", "d", "--tls-cert", "c.pem"]), ArgsError::Tls);
        assert!(matches!(refused(&["serve", "--stores", "d"]), ArgsError::Other { .. }));
        assert!(matches!(refused(&["serve", "--store"]), ArgsError::Other { .. }));
    }

    #[test]
    fn a_store_has_the_name_before_the_sign_or_the_usual_one() {
        let of = |text: &str| named(text.to_owned());
        let pair = |name: &str, store: &str| (name.to_owned(), store.to_owned());
        assert_eq!(of("orders=postgres://db/x?a=b"), pair("orders", "postgres://db/x?a=b"));
        assert_eq!(of("./a=b"), pair("default", "./a=b"));
        assert_eq!(of("file:x?clock-behind=go-on"), pair("default", "file:x?clock-behind=go-on"));
    }
}
