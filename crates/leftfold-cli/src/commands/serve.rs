//! `leftfold serve`: opens stores, serves them, and stops when it is told to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use leftfold::OpenError;
use leftfold_protocol::{DEFAULT_STORE, PORT};
use leftfold_server::{
    ServeError, Server, ServerOptions, ServerTls, TlsError, TlsFiles, Users, UsersError,
    is_store_name,
};

/// Serves stores to other programs
///
/// Opens the stores, and serves them until SIGTERM or SIGINT. It is ready when it has written a
/// line with each address that it listens on to standard output.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold serve --store ./leftfold-data
  leftfold serve --store orders=./orders --store stock=postgres://shop@db/shop")]
pub(crate) struct ServeArguments {
    /// Serves this store: a directory, file:PATH, postgres:URL or memory:. The one without a name
    /// has the name default
    #[arg(short, long = "store", value_name = "[NAME=]STORE", required = true)]
    stores: Vec<NamedStore>,
    /// Listens on this address and port
    #[arg(
        short, long, value_name = "ADDRESS", value_parser = address,
        default_values_t = [SocketAddr::from(([127, 0, 0, 1], PORT))],
    )]
    listen: Vec<SocketAddr>,
    /// Encrypts connections, by the certificate in this file of PEM
    #[arg(long, value_name = "PATH", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// With its private key
    #[arg(long, value_name = "PATH", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Demands that clients have a certificate of one of these authorities
    #[arg(long, value_name = "PATH", requires = "tls_cert")]
    tls_clients: Option<PathBuf>,
    /// Lets only the users in this file call, with their passwords or tokens
    #[arg(long, value_name = "PATH")]
    users: Option<PathBuf>,
    /// Listens on addresses that other machines reach, though everybody may write
    #[arg(long)]
    insecure: bool,
}

/// A store and the name by which it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedStore {
    name: String,
    url: String,
}

impl FromStr for NamedStore {
    type Err = Infallible;

    /// Splits `NAME=STORE`; a text that does not begin with a name and `=` is a store alone.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (name, url) = match text.split_once('=') {
            Some((name, url)) if is_store_name(name) => (name, url),
            _ => (DEFAULT_STORE, text),
        };
        Ok(Self { name: name.to_owned(), url: url.to_owned() })
    }
}

fn address(given: &str) -> Result<SocketAddr, &'static str> {
    given.parse().map_err(|_| "write it as 127.0.0.1:2113 or [::1]:2113")
}

/// Error that ends the server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeCommandError {
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
    /// The file of users cannot be used.
    #[error(transparent)]
    Users(#[from] UsersError),
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

pub(crate) async fn run(arguments: ServeArguments) -> Result<(), ServeCommandError> {
    let signals = stop_signal()?;
    let tls = match (arguments.tls_cert, arguments.tls_key) {
        (Some(certificates), Some(key)) => {
            Some(ServerTls::of(&TlsFiles { certificates, key, clients: arguments.tls_clients })?)
        }
        _ => None,
    };
    let users = arguments.users.map(|path| Users::of_file(&path)).transpose()?;
    let mut opened = Vec::new();
    for NamedStore { name, url } in arguments.stores {
        match leftfold::open(&url).await {
            Ok(store) => opened.push((name, store)),
            Err(error) => {
                return Err(ServeCommandError::Open { name, error: Box::new(error) });
            }
        }
    }
    let (listen, insecure) = (arguments.listen, arguments.insecure);
    let options = ServerOptions { listen, tls, users, insecure, ..ServerOptions::default() };
    let server = Server::bind(options, opened).await?;
    for address in server.addresses() {
        println!("leftfold listens on {address}");
    }
    Ok(server.run(signals).await?)
}

/// Is ready when the program is told to stop.
#[cfg(unix)]
fn stop_signal() -> Result<impl Future<Output = ()>, ServeCommandError> {
    use tokio::signal::unix::{SignalKind, signal};
    let cannot = |error: std::io::Error| ServeCommandError::Signals { detail: error.to_string() };
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
fn stop_signal() -> Result<impl Future<Output = ()>, ServeCommandError> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_the_name_before_the_sign_or_the_usual_one() {
        let of = |text: &str| text.parse().unwrap();
        let pair = |name: &str, url: &str| NamedStore { name: name.into(), url: url.into() };
        assert_eq!(pair("orders", "postgres://db/x?a=b"), of("orders=postgres://db/x?a=b"));
        assert_eq!(pair("default", "./a=b"), of("./a=b"));
        assert_eq!(pair("default", "file:x?clock-behind=go-on"), of("file:x?clock-behind=go-on"));
    }
}
