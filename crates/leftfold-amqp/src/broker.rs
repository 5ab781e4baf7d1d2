//! A broker, by its URL, and connections to it.

use std::fmt;
use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use tokio::time::timeout;

use crate::error::AmqpError;
use crate::url::{self, AmqpUrlError};

/// Time that a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// A broker. Cheap to clone; it connects when a bus or a queue is used.
///
/// Each bus and each queue has a connection of its own: a broker that is short of memory stops
/// reading from connections that publish, and others go on.
#[derive(Clone)]
pub struct Amqp {
    uri: AMQPUri,
    name: String,
    declares: bool,
    certificates: Option<String>,
}

impl Amqp {
    /// A broker by its URL: `amqp://USER:PASSWORD@HOST:PORT/VIRTUAL_HOST`, or `amqps://` with the
    /// feature `tls`. Without a virtual host it is `/`, without a user `guest`. Nothing is
    /// connected.
    ///
    /// ```
    /// use leftfold_amqp::{Amqp, AmqpUrlError};
    ///
    /// let broker = Amqp::at("amqp://shop:secret@broker.example/orders")?;
    /// assert!(!format!("{broker:?}").contains("secret"));
    /// assert_eq!(Amqp::at("amqp://b/").unwrap_err(), AmqpUrlError::EmptyVirtualHost);
    /// # Ok::<(), AmqpUrlError>(())
    /// ```
    ///
    /// # Errors
    /// [`AmqpUrlError`], which never repeats the URL.
    pub fn at(url: &str) -> Result<Self, AmqpUrlError> {
        let uri = url::parse(url)?;
        Ok(Self { uri, name: "leftfold".to_owned(), declares: true, certificates: None })
    }

    /// Names the connections, for the broker's list of them: best after the application.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Declares nothing: all queues are there, or other people make them. Without this, a queue
    /// that is missing is declared, durable and without arguments, when it is published to or
    /// received from; one that is there is taken as it is. Exchanges are never declared.
    #[must_use]
    pub fn declaring_nothing(self) -> Self {
        Self { declares: false, ..self }
    }

    /// Trusts the authorities of these certificates too, in PEM: for a broker whose certificate is
    /// not signed by one of those that Mozilla trusts.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn trusting(self, certificates_pem: impl Into<String>) -> Self {
        Self { certificates: Some(certificates_pem.into()), ..self }
    }

    pub(crate) fn declares(&self) -> bool {
        self.declares
    }

    /// Returns host and port.
    pub(crate) fn address(&self) -> String {
        url::address(&self.uri)
    }

    pub(crate) async fn connect(&self) -> Result<Connection, AmqpError> {
        let properties =
            ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.certificates.clone() };
        let connecting = async {
            let runtime = lapin::runtime::default_runtime()?;
            Connection::connect_uri_with_config(self.uri.clone(), properties, tls, runtime).await
        };
        match timeout(CONNECT_WITHIN, connecting).await {
            Ok(connected) => connected.map_err(|error| self.not_connected(error)),
            Err(_) => Err(AmqpError::Late { address: self.address(), within: CONNECT_WITHIN }),
        }
    }

    fn not_connected(&self, error: lapin::Error) -> AmqpError {
        let (address, user) = (self.address(), self.uri.authority.userinfo.username.clone());
        match AmqpError::code(&error) {
            Some(403) => AmqpError::LoginRefused { address, user },
            Some(530) => {
                AmqpError::NoVirtualHost { address, user, virtual_host: self.uri.vhost.clone() }
            }
            _ => AmqpError::Unreachable { address, source: error },
        }
    }
}

impl fmt::Debug for Amqp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Amqp")
            .field("address", &self.address())
            .field("virtual_host", &self.uri.vhost)
            .field("user", &self.uri.authority.userinfo.username)
            .field("name", &self.name)
            .field("declares", &self.declares)
            .finish_non_exhaustive()
    }
}
