//! The other end of a connection: its address, and what the connection proves.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap, HeaderName};
use leftfold_callers::AddressPrefix;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::StationSettings;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The other end of a connection; each request has it among its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionPeer {
    /// Its address.
    pub(crate) address: IpAddr,
    /// Proof that the connection is.
    pub(crate) proof: ConnectionProof,
}

/// Proof that a connection is of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionProof {
    /// It is not encrypted.
    Nothing,
    /// It is encrypted, and the caller knows the server.
    Encrypted,
    /// It is encrypted, and the caller has a certificate of an authority.
    Certificate {
        /// Common name in the certificate; `None` if it has not exactly one.
        name: Option<Arc<str>>,
    },
}

impl ConnectionPeer {
    /// Returns the caller of a request: the peer of its connection, or whom a proxy names that is
    /// believed.
    pub(crate) fn of(
        extensions: &Extensions,
        headers: &HeaderMap,
        settings: &StationSettings,
    ) -> Self {
        let unknown =
            Self { address: Ipv6Addr::UNSPECIFIED.into(), proof: ConnectionProof::Nothing };
        let peer = extensions.get::<Self>().cloned().unwrap_or(unknown);
        if !settings.proxies.iter().any(|proxy| proxy.contains(peer.address)) {
            return peer;
        }
        let mut names = headers.get_all(settings.name_header.as_str()).iter();
        let name = names.next().filter(|name| !name.is_empty());
        // A proxy may add a line of its own behind those that its client has sent.
        let text = |name: &HeaderName| {
            headers.get_all(name).iter().next_back().and_then(|value| value.to_str().ok())
        };
        let proof = match name {
            Some(name) => {
                let is_only = names.next().is_none();
                let name = str::from_utf8(name.as_bytes()).ok().filter(|_| is_only);
                ConnectionProof::Certificate { name: name.map(Into::into) }
            }
            None if text(&FORWARDED_PROTO).is_some_and(|it| matches!(it, "https" | "wss")) => {
                ConnectionProof::Encrypted
            }
            None => ConnectionProof::Nothing,
        };
        // The last address is the one that the proxy itself has seen.
        let last = text(&FORWARDED_FOR).and_then(|all| all.rsplit(',').next());
        let address = last.and_then(|last| last.trim().parse().ok()).unwrap_or(peer.address);
        Self { address, proof }
    }

    /// Returns the beginning of its address.
    pub(crate) fn prefix(&self) -> AddressPrefix {
        AddressPrefix::of(self.address)
    }
}

/// Returns the common name of a certificate; `None` if it has not exactly one.
pub(super) fn common_name(certificate: &[u8]) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    names.next().is_none().then(|| name.into())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::config::station_settings_of;

    #[test]
    fn the_caller_behind_a_proxy_is_whom_the_proxy_itself_has_seen() {
        let settings = station_settings_of(&[("trusted-proxies", "127.0.0.1")]);
        let caller = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
            }
            let (address, proof) = ([127, 0, 0, 1].into(), ConnectionProof::Nothing);
            let mut extensions = Extensions::new();
            extensions.insert(ConnectionPeer { address, proof });
            ConnectionPeer::of(&extensions, &headers, &settings).address.to_string()
        };
        assert_eq!(caller(&[]), "127.0.0.1");
        assert_eq!(caller(&["192.0.2.1"]), "192.0.2.1");
        assert_eq!(caller(&["203.0.113.9, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(caller(&["203.0.113.9", "192.0.2.1"]), "192.0.2.1", "a line of the client's");
        assert_eq!(caller(&["203.0.113.9", "nonsense"]), "127.0.0.1");
    }
}
