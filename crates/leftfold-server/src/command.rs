//! The program: opens the stores, serves them, and stops when it is told to.

use leftfold::OpenError;

use crate::args::{Arguments, USAGE};
use crate::options::ServerOptions;
use crate::server::{ServeError, Server};
use crate::tls::{ServerTls, TlsError};
use crate::users::{Users, UsersError};

/// Error that ends the program.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A store cannot be opened.
    #[error("cannot open the store {name:?}: {error}")]
    Open {
        /// Name of the store.
        name: String,
        /// Reason.
        #[source]
        error: Box<OpenError>,
    },
    /// The files that encrypt connections cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file of users cannot be used, or a user not be made.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// No password came.
    #[error("no password can be read from standard input: {detail}")]
    Password {
        /// Message of the system.
        detail: String,
    },
    /// The server cannot begin, or a store did not close cleanly.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The system gives no signals.
    #[error("cannot wait for the signal to stop: {detail}")]
    Signals {
        /// Message of the system.
        detail: String,
    },
}

/// Does what the arguments ask for. A server is ready when it has written a line with its addresses
/// to standard output; it runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`CommandError`] if a store cannot be opened, or the server not begin.
pub async fn run(arguments: Arguments) -> Result<(), CommandError> {
    match arguments {
        Arguments::Help => print!("{USAGE}"),
        Arguments::Version => println!("leftfold {}", env!("CARGO_PKG_VERSION")),
        Arguments::User { name, role } => {
            let mut password = String::new();
            let read = std::io::stdin().read_line(&mut password);
            read.map_err(|error| CommandError::Password { detail: error.to_string() })?;
            println!("{}", Users::line(&name, &role, password.trim_end_matches(['\r', '\n']))?);
        }
        Arguments::Serve { stores, listen, tls, users, insecure } => {
            let signals = stop_signal()?;
            let tls = tls.map(|files| ServerTls::of(&files)).transpose()?;
            let users = users.map(|path| Users::of_file(&path)).transpose()?;
            let mut opened = Vec::new();
            for (name, url) in stores {
                match leftfold::open(&url).await {
                    Ok(store) => opened.push((name, store)),
                    Err(error) => {
                        return Err(CommandError::Open { name, error: Box::new(error) });
                    }
                }
            }
            let options =
                ServerOptions { listen, tls, users, insecure, ..ServerOptions::default() };
            let server = Server::bind(options, opened).await?;
            for address in server.addresses() {
                println!("leftfold listens on {address}");
            }
            server.run(signals).await?;
        }
    }
    Ok(())
}

/// Is ready when the program is told to stop.
#[cfg(unix)]
fn stop_signal() -> Result<impl Future<Output = ()>, CommandError> {
    use tokio::signal::unix::{SignalKind, signal};
    let cannot = |error: std::io::Error| CommandError::Signals { detail: error.to_string() };
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stops: what was taken is answered");
    })
}

#[cfg(not(unix))]
fn stop_signal() -> Result<impl Future<Output = ()>, CommandError> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
