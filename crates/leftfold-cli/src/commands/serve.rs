//! `leftfold serve`: opens stores, serves them, and stops when it is told to.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use leftfold_server::{Reloader, Server};

use crate::config::{
    ConfigFile, NamedStore, ServeSettings, SettingValue, listen_address, of_environment,
};
use crate::failure::CliFailure;

/// Serves stores to other programs
///
/// Opens the stores, and serves them until SIGTERM or SIGINT. It is ready when it has written a
/// line with each address that it listens on to standard output; systemd is told so too. Each
/// setting may also stand in the environment (--tls-cert is LEFTFOLD_TLS_CERT), or in a file; what
/// stands here goes before, and the environment before the file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold serve --store ./leftfold-data
  leftfold serve --store orders=./orders --store stock=postgres://shop@db/shop
  leftfold serve --config leftfold.toml")]
pub(crate) struct ServeArguments {
    /// Reads settings from this file of TOML; `leftfold config check` looks at it
    #[arg(short, long, value_name = "PATH", env = "LEFTFOLD_CONFIG")]
    config: Option<PathBuf>,
    /// Serves this store: a directory, file:PATH, postgres:URL or memory:. The one without a name
    /// has the name default
    #[arg(short, long = "store", value_name = "[NAME=]STORE")]
    stores: Vec<NamedStore>,
    /// Opens stores when they are named: the directories below this one, or a URL with {name}
    #[arg(long, value_name = "DIRECTORY|URL")]
    tenants: Option<String>,
    /// Listens on this address and port [127.0.0.1:2113]
    #[arg(short, long, value_name = "ADDRESS", value_parser = listen_address)]
    listen: Vec<SocketAddr>,
    /// Encrypts connections, by the certificate in this file of PEM
    #[arg(long, value_name = "PATH")]
    tls_cert: Option<PathBuf>,
    /// With its private key
    #[arg(long, value_name = "PATH")]
    tls_key: Option<PathBuf>,
    /// Demands that clients have a certificate of one of these authorities
    #[arg(long, value_name = "PATH")]
    tls_clients: Option<PathBuf>,
    /// Lets only the users in this file call, with their passwords or tokens
    #[arg(long, value_name = "PATH")]
    users: Option<PathBuf>,
    /// Listens on addresses that other machines reach, though everybody may write
    #[arg(long)]
    insecure: bool,
    /// Sends spans of calls and appends to this collector of OpenTelemetry, by OTLP over gRPC
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// Sets anything that the file may have, as in limits.user.calls_per_second=100
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ServeArguments {
    /// Returns the collector that spans are sent to.
    pub(crate) fn otlp_endpoint(&self) -> Option<&str> {
        self.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty())
    }

    /// Returns the settings of all sources.
    fn settings(self) -> Result<ServeSettings, CliFailure> {
        let mut own = ServeSettings::default();
        for text in &self.set {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            let set = own.set(key, SettingValue::Words(value));
            set.map_err(|reason| CliFailure::Usage(format!("--set {key}: {reason}")))?;
        }
        own.stores.extend(self.stores);
        own.listen.extend(self.listen);
        own.tenants = self.tenants.or(own.tenants);
        own.tls_cert = self.tls_cert.or(own.tls_cert);
        own.tls_key = self.tls_key.or(own.tls_key);
        own.tls_clients = self.tls_clients.or(own.tls_clients);
        own.users = self.users.or(own.users);
        own.insecure = self.insecure.then_some(true).or(own.insecure);
        let environment = of_environment(|name| std::env::var(name).ok());
        let settings = own.or(environment.map_err(CliFailure::Usage)?);
        let Some(path) = self.config else { return Ok(settings) };
        let file = ConfigFile::read(&path).map_err(CliFailure::Failed)?;
        if !file.faults.is_empty() {
            return Err(CliFailure::Usage(file.to_string()));
        }
        Ok(settings.or(file.settings))
    }
}

pub(crate) async fn run(arguments: ServeArguments) -> Result<(), CliFailure> {
    let signals = stop_signal()?;
    let settings = arguments.settings()?;
    if settings.stores.is_empty() && settings.tenants.is_none() {
        let text = "name a store to serve: --store ./leftfold-data";
        return Err(CliFailure::Usage(text.to_owned()));
    }
    let options = settings.options();
    let options =
        options.map_err(|(key, reason)| CliFailure::Failed(format!("{key}: {reason}")))?;
    let mut opened = Vec::new();
    for NamedStore { name, url } in settings.stores {
        let store = leftfold::open(&url).await.map_err(|error| {
            CliFailure::Failed(format!("cannot open the store {name:?}: {error}"))
        })?;
        opened.push((name, store));
    }
    let server = Server::bind(options, opened).await.map_err(CliFailure::of)?;
    for address in server.addresses() {
        println!("leftfold listens on {address}");
    }
    look_on_hangup(server.reloader())?;
    tell_systemd("READY=1");
    let stopped = async {
        signals.await;
        tell_systemd("STOPPING=1");
    };
    server.run(stopped).await.map_err(CliFailure::of)
}

/// Tells the system that starts services how far this one is, if it asks for that.
#[cfg(target_os = "linux")]
fn tell_systemd(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as Address, UnixDatagram};
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let address = match path.strip_prefix('@') {
        Some(name) => Address::from_abstract_name(name),
        None => Address::from_pathname(&path),
    };
    let told = address.and_then(|address| {
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
    });
    if let Err(error) = told {
        tracing::warn!(%error, "systemd cannot be told that the server is {state}");
    }
}

#[cfg(not(target_os = "linux"))]
fn tell_systemd(_state: &str) {}

/// Looks at the files of users and certificates at once when SIGHUP comes.
#[cfg(unix)]
fn look_on_hangup(reloader: Reloader) -> Result<(), CliFailure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangups = signal(SignalKind::hangup()).map_err(no_signals)?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            reloader.look_now();
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn look_on_hangup(_reloader: Reloader) -> Result<(), CliFailure> {
    Ok(())
}

fn no_signals(error: std::io::Error) -> CliFailure {
    CliFailure::Failed(format!("cannot wait for the signal to stop: {error}"))
}

/// Is ready when the program is told to stop.
#[cfg(unix)]
fn stop_signal() -> Result<impl Future<Output = ()>, CliFailure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stops: what was taken is answered");
    })
}

#[cfg(not(unix))]
fn stop_signal() -> Result<impl Future<Output = ()>, CliFailure> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
