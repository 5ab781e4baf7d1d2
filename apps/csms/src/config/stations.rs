//! Settings for the way in of stations: ports, certificates, keys, proxies and limits.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{ConfigError, GivenSettings, invalid};
use crate::confidential::Confidential;

/// Connections that are open at once, unless the operator says otherwise.
const CONNECTIONS_MAX: usize = 20_000;
/// Connections of one address prefix that are open at once: as many, less some for others.
const CONNECTIONS_OF_PREFIX_MAX: usize = 16_000;
/// Messages of a station in a second: many times what a station has to say.
const MESSAGES_PER_SECOND: usize = 200;
/// Seconds that a caller may take for the handshakes of TLS and HTTP.
const HANDSHAKE_S: u64 = 10;
/// Days for which a station's certificate is valid, unless the operator says otherwise.
const CERTIFICATE_DAYS: usize = 365;
/// Days for which it is valid at most.
const DAYS_MAX: usize = 3_650;
/// Seconds that the body of a request may take to come.
const BODY_S: u64 = 30;
/// Header in which a proxy hands the name in a station's certificate over.
const NAME_HEADER: &str = "x-ssl-client-cn";
/// The shortest pepper.
const PEPPER_BYTES_MIN: usize = 16;
/// The largest number of any of these settings.
const NUMBER_MAX: usize = 1_000_000;

/// Settings for the way in of stations.
#[derive(Clone, Debug)]
pub(crate) struct StationSettings {
    /// Address for stations alone, without encryption.
    pub(crate) listen: Option<SocketAddr>,
    /// Address for stations on encrypted connections, which show a credential.
    pub(crate) tls_listen: Option<SocketAddr>,
    /// Address for stations on encrypted connections, which show a certificate.
    pub(crate) mtls_listen: Option<SocketAddr>,
    /// Certificate of the server and its key, as files of PEM; `None` if there is neither.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// Authorities of the certificates of stations, as a file of PEM.
    pub(crate) authorities: Option<PathBuf>,
    /// Certificate of the authority that signs for stations and its key, as files of PEM; `None` if
    /// there is neither.
    pub(crate) authority: Option<(PathBuf, PathBuf)>,
    /// Organisation that a station's request for a certificate must name; `None` for any.
    pub(crate) organisation: Option<String>,
    /// Days for which a station's certificate is valid.
    pub(crate) certificate_days: usize,
    /// Secret by which the keys of stations are hashed.
    pub(crate) pepper: Option<Confidential>,
    /// Proxies that are believed.
    pub(crate) proxies: Vec<AddressRange>,
    /// Header in which they hand the name in a station's certificate over, in lower case.
    pub(crate) name_header: String,
    /// True if stations may spell the subprotocol in any case, or leave it out.
    pub(crate) lax_subprotocol: bool,
    /// Connections that are open at once; more wait in the queue of the system.
    pub(crate) connections_max: usize,
    /// Connections of one address prefix that are open at once; more are closed.
    pub(crate) connections_of_prefix_max: usize,
    /// Messages of a station in a second; more wait.
    pub(crate) messages_per_second: usize,
    /// Time that a caller may take for each handshake, of TLS and of HTTP.
    pub(crate) handshake_within: Duration,
    /// Time that the body of a request may take to come.
    pub(crate) body_within: Duration,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressRange {
    first: IpAddr,
    bits: u8,
}

impl AddressRange {
    /// Reads an address, or one with the number of bits that count: `10.0.0.0/8`.
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().ok()?;
        let all = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        (bits <= all).then_some(Self { first, bits })
    }

    /// Tells whether an address is one of them.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let cut = |bits: u128, of: u32| bits.checked_shr(of - u32::from(self.bits)).unwrap_or(0);
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                cut(u32::from(first).into(), 32) == cut(u32::from(address).into(), 32)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                cut(first.into(), 128) == cut(address.into(), 128)
            }
            _ => false,
        }
    }
}

/// Reads the settings.
pub(super) fn stations(given: &GivenSettings) -> Result<StationSettings, ConfigError> {
    let path = |name| given.value(name).map(PathBuf::from);
    let settings = StationSettings {
        listen: address(given, "stations-listen")?,
        tls_listen: address(given, "tls-listen")?,
        mtls_listen: address(given, "mtls-listen")?,
        certificate: path("tls-cert").zip(path("tls-key")),
        authorities: path("station-ca"),
        authority: path("signing-cert").zip(path("signing-key")),
        organisation: given.value("organisation").map(str::to_owned),
        certificate_days: number(given, "station-cert-days", CERTIFICATE_DAYS)?.min(DAYS_MAX),
        pepper: pepper(given)?,
        proxies: proxies(given)?,
        name_header: given.value("proxy-name-header").unwrap_or(NAME_HEADER).to_ascii_lowercase(),
        lax_subprotocol: given.switches.contains(&"lax-subprotocol"),
        connections_max: number(given, "connections-max", CONNECTIONS_MAX)?,
        connections_of_prefix_max: number(
            given,
            "connections-of-prefix-max",
            CONNECTIONS_OF_PREFIX_MAX,
        )?,
        messages_per_second: number(given, "messages-per-second", MESSAGES_PER_SECOND)?,
        handshake_within: given.duration("handshake-within", HANDSHAKE_S)?,
        body_within: given.duration("body-within", BODY_S)?,
    };
    let is_encrypted = settings.tls_listen.is_some() || settings.mtls_listen.is_some();
    if is_encrypted && settings.certificate.is_none() {
        return Err(ConfigError::Needs { name: "tls-listen", needed: "tls-cert and --tls-key" });
    }
    if settings.mtls_listen.is_some() && settings.authorities.is_none() {
        return Err(ConfigError::Needs { name: "mtls-listen", needed: "station-ca" });
    }
    Ok(settings)
}

/// Returns the settings that an operator has by giving these.
#[cfg(test)]
pub(crate) fn station_settings_of(given: &[(&'static str, &str)]) -> StationSettings {
    let values = given.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    stations(&GivenSettings { values, switches: Vec::new() }).unwrap()
}

impl StationSettings {
    /// Returns the further addresses to listen on.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        [self.listen, self.tls_listen, self.mtls_listen].into_iter().flatten()
    }
}

fn address(given: &GivenSettings, name: &'static str) -> Result<Option<SocketAddr>, ConfigError> {
    let read =
        |text: &str| text.parse().map_err(|_| invalid(name, text, "address such as 0.0.0.0:8443"));
    given.value(name).map(read).transpose()
}

fn number(given: &GivenSettings, name: &'static str, default: usize) -> Result<usize, ConfigError> {
    let Some(text) = given.value(name) else { return Ok(default) };
    let read = text.parse().ok().filter(|number| (1..=NUMBER_MAX).contains(number));
    read.ok_or_else(|| invalid(name, text, "number from 1 to 1000000"))
}

/// Reads the pepper, from the setting or its file.
fn pepper(given: &GivenSettings) -> Result<Option<Confidential>, ConfigError> {
    let text = match (given.value("key-pepper"), given.value("key-pepper-file")) {
        (Some(text), _) => text.to_owned(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|error| ConfigError::File { path: path.into(), detail: error.to_string() })?,
        (None, None) => return Ok(None),
    };
    let text = text.trim();
    if text.len() < PEPPER_BYTES_MIN {
        return Err(ConfigError::WeakPepper { bytes: text.len() });
    }
    Ok(Some(Confidential::new(text)))
}

fn proxies(given: &GivenSettings) -> Result<Vec<AddressRange>, ConfigError> {
    let name = "trusted-proxies";
    let listed = given.value(name).unwrap_or_default().split(',').map(str::trim);
    let read = |text: &str| {
        let expected = "list of addresses such as 10.0.0.7,192.0.2.0/24";
        AddressRange::parse(text).ok_or_else(|| invalid(name, text, expected))
    };
    listed.filter(|text| !text.is_empty()).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_addresses_that_begin_alike() {
        let has = |range: &str, address: &str| {
            AddressRange::parse(range).unwrap().contains(address.parse().unwrap())
        };
        assert!(has("10.0.0.0/8", "10.9.8.7") && !has("10.0.0.0/8", "11.0.0.1"));
        assert!(has("192.0.2.7", "::ffff:192.0.2.7") && !has("192.0.2.7", "192.0.2.8"));
        assert!(has("2001:db8::/32", "2001:db8:1::2") && !has("2001:db8::/32", "2001:db9::"));
        assert!(has("0.0.0.0/0", "203.0.113.9") && has("::/0", "::1") && !has("::/0", "10.0.0.1"));
        for nonsense in ["", "10.0.0.0/33", "10.0.0.0/", "::/129", "here"] {
            assert_eq!(AddressRange::parse(nonsense), None, "{nonsense}");
        }
    }
}
