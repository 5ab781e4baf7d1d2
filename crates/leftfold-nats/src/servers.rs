//! Servers of a URL, and the connections to them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError};
use percent_encoding::percent_decode_str;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;

use crate::NatsError;

/// Time that one server may take to let a connection in.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Time that the server may take to confirm a message, and to answer a question.
pub(crate) const CONFIRM_WITHIN: Duration = Duration::from_secs(5);
/// A server that does not answer two of these is given up.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Servers of one URL.
const SERVERS_MAX: usize = 100;

/// Servers of one URL, any of which will do, with what they want to know of who comes.
#[derive(Clone)]
pub(crate) struct Servers {
    addresses: Vec<ServerAddr>,
    credentials: Credentials,
    name: String,
    options: ConnectOptions,
}

#[derive(Clone, PartialEq, Eq)]
enum Credentials {
    None,
    Token(String),
    Password { user: String, password: String },
}

impl Servers {
    /// Parses a URL, or several with commas between them.
    pub(crate) fn parse(urls: &str) -> Result<Self, NatsError> {
        let mut servers: Option<(Vec<ServerAddr>, Credentials)> = None;
        for url in urls.split(',') {
            let (address, own) = server(url.trim()).ok_or(NatsError::Url)?;
            match &mut servers {
                None => servers = Some((vec![address], own)),
                Some((all, _)) if all.len() == SERVERS_MAX => return Err(NatsError::Url),
                Some((all, credentials)) if *credentials == own => all.push(address),
                Some(_) => return Err(NatsError::Credentials),
            }
        }
        let (addresses, credentials) = servers.ok_or(NatsError::Url)?;
        let name = "leftfold".to_owned();
        Ok(Self { addresses, credentials, name, options: ConnectOptions::new() })
    }

    pub(crate) fn set_name(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    pub(crate) fn set_options(&mut self, options: ConnectOptions) {
        self.options = options;
    }

    /// Connects to one of them.
    pub(crate) async fn connect(&self) -> Result<NatsConnection, NatsError> {
        let (lost, is_lost) = watch::channel(false);
        let complaint = Arc::new(Mutex::new(None));
        let connected = self.options_with(lost, complaint.clone()).connect(&self.addresses[..]);
        let client = connected.await.map_err(|error| match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                NatsError::Unauthorized { servers: self.to_string() }
            }
            _ => NatsError::Unreachable { servers: self.to_string(), detail: error.to_string() },
        })?;
        let jetstream = ContextBuilder::new().timeout(CONFIRM_WITHIN).build(client.clone());
        Ok(NatsConnection { client, jetstream, lost: is_lost, complaint })
    }

    fn options_with(
        &self,
        lost: watch::Sender<bool>,
        complaint: Arc<Mutex<Option<String>>>,
    ) -> ConnectOptions {
        let options = match self.credentials.clone() {
            Credentials::None => self.options.clone(),
            Credentials::Token(token) => self.options.clone().token(token),
            Credentials::Password { user, password } => {
                self.options.clone().user_and_password(user, password)
            }
        };
        let options = match self.addresses.iter().any(ServerAddr::tls_required) {
            true => options.tls_client_config(encrypted()),
            false => options,
        };
        let lost = Arc::new(lost);
        options
            .name(&self.name)
            .connection_timeout(CONNECT_WITHIN)
            .request_timeout(Some(CONFIRM_WITHIN))
            .ping_interval(PING_EVERY)
            // A connection that ended is not mended: who has it makes another one, and knows then
            // what was not answered.
            .max_reconnects(self.addresses.len())
            .event_callback(move |event| {
                match event {
                    Event::Disconnected | Event::Closed => _ = lost.send_replace(true),
                    Event::ServerError(ServerError::Other(said)) => {
                        *complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
                    }
                    _ => {}
                }
                std::future::ready(())
            })
    }
}

/// Returns the address of a server without its credentials, and the credentials.
fn server(url: &str) -> Option<(ServerAddr, Credentials)> {
    let mut url = url.parse::<ServerAddr>().ok()?.into_inner();
    let is_known = matches!(url.scheme(), "nats" | "tls");
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
    if !is_known || !is_bare || url.fragment().is_some() || url.host().is_none() {
        return None;
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(Into::into);
    let credentials = match (url.username(), url.password()) {
        ("", None) => Credentials::None,
        ("", Some(_)) => return None,
        (token, None) => Credentials::Token(decoded(token)?),
        (user, Some(password)) => {
            Credentials::Password { user: decoded(user)?, password: decoded(password)? }
        }
    };
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some((ServerAddr::from_url(url).ok()?, credentials))
}

/// Encrypted connections by rustls with ring, which is named: if another crate of a program brings
/// another one, rustls would not know which to take. Trusted is what the system trusts.
fn encrypted() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

impl fmt::Display for Servers {
    /// Hosts and ports, without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, address) in self.addresses.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{}:{}", address.host(), address.port())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Servers({self})")
    }
}

/// A connection that is not mended when it ends.
#[derive(Clone, Debug)]
pub(crate) struct NatsConnection {
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
    lost: watch::Receiver<bool>,
    /// The last complaint of the server.
    complaint: Arc<Mutex<Option<String>>>,
}

impl NatsConnection {
    pub(crate) fn is_lost(&self) -> bool {
        *self.lost.borrow() || self.lost.has_changed().is_err()
    }

    /// Waits until the connection ends. Cancel safe.
    pub(crate) async fn lost(&self) {
        // If nobody can tell any more, it has ended, too.
        let _ = self.lost.clone().wait_for(|is_lost| *is_lost).await;
    }

    pub(crate) fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_servers_and_what_is_secret_in_it_is_never_shown() {
        let servers = Servers::parse("nats://ada:p%40ss@a:1, nats://ada:p%40ss@b").unwrap();
        assert_eq!(servers.to_string(), "a:1, b:4222");
        assert_eq!(format!("{servers:?}"), "Servers(a:1, b:4222)");
        let secret = Credentials::Password { user: "ada".into(), password: "p@ss".into() };
        assert!(servers.credentials == secret, "the percent sign is decoded");
        let token = Servers::parse("tls://t0ken@a").unwrap();
        assert!(token.credentials == Credentials::Token("t0ken".into()));
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_its_secrets() {
        for url in [
            "",
            "amqp://a",
            "ws://a",
            "nats://",
            "nats://:secret@a",
            "nats://a/path",
            "nats://a?b",
            "nats://u:secret@a:port",
        ] {
            let error = Servers::parse(url).unwrap_err();
            assert_eq!(error, NatsError::Url, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let different = Servers::parse("nats://ada:secret@a,nats://bob:secret@b");
        assert_eq!(different.unwrap_err(), NatsError::Credentials);
    }
}
