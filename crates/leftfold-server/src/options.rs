//! Addresses and limits of a server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use leftfold_callers::ServerTls;

use crate::guard::{StoreLimits, UserLimits};
use crate::serve_error::ServeError;
use crate::stores::{Tenants, is_store_name};
use crate::users::Users;

/// Addresses and limits of a server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Addresses to listen on; port 0 takes any that is free.
    pub listen: Vec<SocketAddr>,
    /// Encryption of all connections; `None` if they are not encrypted.
    pub tls: Option<ServerTls>,
    /// Users, one of whom each call must be of; `None` if nobody has to say who they are.
    pub users: Option<Users>,
    /// Listens on addresses that other machines reach, though connections are not encrypted, or
    /// clients need neither a certificate nor a password.
    pub insecure: bool,
    /// Connections that are open at once; more wait in the queue of the system.
    pub connections_max: usize,
    /// Connections of one address prefix (24 bits of IPv4, 48 of IPv6) that are open at once; more
    /// are closed.
    pub connections_of_prefix_max: usize,
    /// Limits of each user; those in the file of users go before.
    pub user_limits: UserLimits,
    /// Limits of each store, for all its callers together.
    pub store_limits: StoreLimits,
    /// Limits of the stores of these names, instead.
    pub store_limits_of: BTreeMap<String, StoreLimits>,
    /// Stores that are opened when a call names them; `None` if there are none but those that the
    /// server is started with.
    pub tenants: Option<Tenants>,
    /// Calls of one connection that are open at once.
    pub calls_max: u32,
    /// Time within which a connection must begin its first call.
    pub first_call_within: Duration,
    /// Time between two signs of life that are asked of a client, and for which each is waited for.
    pub alive_every: Duration,
    /// Time that clients have to take their last answers when the server stops.
    pub stop_within: Duration,
}

impl ServerOptions {
    /// The usual limits, on one address.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { listen: vec![address], ..Self::default() }
    }

    /// Tells whether a server may begin with these options and stores of these names.
    ///
    /// # Errors
    /// [`ServeError`] as [`Server::bind`](crate::Server::bind), but none of an address that cannot
    /// be listened on.
    pub fn check<'a>(&self, stores: impl IntoIterator<Item = &'a str>) -> Result<(), ServeError> {
        let mut names = BTreeSet::new();
        for name in stores {
            if !is_store_name(name) || !names.insert(name) {
                return Err(ServeError::StoreName { name: name.to_owned() });
            }
        }
        if names.is_empty() && self.tenants.is_none() {
            return Err(ServeError::NoStore);
        }
        if self.listen.is_empty() {
            return Err(ServeError::NoAddress);
        }
        let knows = |tls: &ServerTls| tls.knows_clients() || self.users.is_some();
        let is_safe = self.insecure || self.tls.as_ref().is_some_and(knows);
        match self.listen.iter().find(|address| !address.ip().is_loopback()) {
            Some(&address) if !is_safe => Err(ServeError::Insecure { address }),
            _ => Ok(()),
        }
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            tls: None,
            users: None,
            insecure: false,
            connections_max: 20_000,
            connections_of_prefix_max: 16_000,
            user_limits: UserLimits { calls_at_once: Some(8_192), ..UserLimits::default() },
            store_limits: StoreLimits::default(),
            store_limits_of: BTreeMap::new(),
            tenants: None,
            calls_max: 1_024,
            first_call_within: Duration::from_secs(10),
            alive_every: Duration::from_secs(20),
            stop_within: Duration::from_secs(10),
        }
    }
}
