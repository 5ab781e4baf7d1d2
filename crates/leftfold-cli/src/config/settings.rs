//! All settings of a server, each by a key of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use leftfold_protocol::{DEFAULT_STORE, PORT};
use leftfold_server::{
    ServerOptions, ServerTls, StoreLimits, Tenants, TlsFiles, UserLimits, Users, is_store_name,
};

/// Keys of all settings, but those that have the name of a store in them.
pub(super) const KEYS: [&str; 20] = [
    "stores",
    "listen",
    "users",
    "insecure",
    "tls.cert",
    "tls.key",
    "tls.clients",
    "tenants.at",
    "tenants.open_max",
    "tenants.close_after_seconds",
    "limits.connections",
    "limits.connections_of_prefix",
    "limits.calls_of_connection",
    "limits.first_call_within_seconds",
    "limits.stop_within_seconds",
    "limits.user.calls_at_once",
    "limits.user.calls_per_second",
    "limits.user.bytes_per_second",
    "limits.store.calls_per_second",
    "limits.store.bytes_per_second",
];

/// Value of a setting, as its source writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SettingValue<'a> {
    Text(&'a str),
    Number(u64),
    Truth(bool),
    Texts(&'a [&'a str]),
    /// Of a source that has texts only: a list has spaces between its parts.
    Words(&'a str),
}

/// A store and the name by which it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedStore {
    pub(crate) name: String,
    pub(crate) url: String,
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

/// Settings, as far as a source has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ServeSettings {
    pub(crate) stores: Vec<NamedStore>,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) users: Option<PathBuf>,
    pub(crate) insecure: Option<bool>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) tls_clients: Option<PathBuf>,
    pub(crate) tenants: Option<String>,
    open_max: Option<usize>,
    close_after: Option<u64>,
    connections: Option<usize>,
    connections_of_prefix: Option<usize>,
    calls_of_connection: Option<u32>,
    first_call_within: Option<u64>,
    stop_within: Option<u64>,
    pub(super) user_limits: UserLimits,
    store_limits: StoreLimits,
    store_limits_of: Vec<(String, StoreLimits)>,
}

impl ServeSettings {
    /// Sets one by its key.
    ///
    /// # Errors
    /// The reason why it cannot be, without the value, which may be a secret.
    pub(crate) fn set(&mut self, key: &str, value: SettingValue<'_>) -> Result<(), String> {
        match key {
            "stores" => {
                for text in value.texts()? {
                    let Ok(store) = text.parse();
                    self.stores.push(store);
                }
            }
            "listen" => {
                for text in value.texts()? {
                    self.listen.push(listen_address(text)?);
                }
            }
            "users" => self.users = Some(value.text()?.into()),
            "insecure" => self.insecure = Some(value.truth()?),
            "tls.cert" => self.tls_cert = Some(value.text()?.into()),
            "tls.key" => self.tls_key = Some(value.text()?.into()),
            "tls.clients" => self.tls_clients = Some(value.text()?.into()),
            "tenants.at" => self.tenants = Some(value.text()?.to_owned()),
            "tenants.open_max" => self.open_max = Some(value.number()?),
            "tenants.close_after_seconds" => self.close_after = Some(value.number()?),
            "limits.connections" => self.connections = Some(value.number()?),
            "limits.connections_of_prefix" => self.connections_of_prefix = Some(value.number()?),
            "limits.calls_of_connection" => self.calls_of_connection = Some(value.number()?),
            "limits.first_call_within_seconds" => self.first_call_within = Some(value.number()?),
            "limits.stop_within_seconds" => self.stop_within = Some(value.number()?),
            _ => return self.set_limit(key, value),
        }
        Ok(())
    }

    fn set_limit(&mut self, key: &str, value: SettingValue<'_>) -> Result<(), String> {
        if let Some(limit) = key.strip_prefix("limits.user.") {
            let limits = &mut self.user_limits;
            match limit {
                "calls_at_once" => limits.calls_at_once = Some(value.number()?),
                "calls_per_second" => limits.calls_per_second = Some(value.number()?),
                "bytes_per_second" => limits.bytes_per_second = Some(value.number()?),
                _ => return Err(UNKNOWN.to_owned()),
            }
            return Ok(());
        }
        if let Some(limit) = key.strip_prefix("limits.store.") {
            return set_store_limit(&mut self.store_limits, limit, value);
        }
        // The name of a store may have dots in it.
        if let Some((name, limit)) =
            key.strip_prefix("limits.stores.").and_then(|key| key.rsplit_once('.'))
        {
            let named = named_store(name)?;
            let at = self.store_limits_of.iter().position(|(other, _)| *other == named);
            let at = at.unwrap_or_else(|| {
                self.store_limits_of.push((named, StoreLimits::default()));
                self.store_limits_of.len() - 1
            });
            return set_store_limit(&mut self.store_limits_of[at].1, limit, value);
        }
        if let Some(name) = key.strip_prefix("stores.") {
            let (name, url) = (named_store(name)?, value.text()?.to_owned());
            self.stores.push(NamedStore { name, url });
            return Ok(());
        }
        Err(UNKNOWN.to_owned())
    }

    /// These settings, and the others for what they do not have.
    pub(crate) fn or(mut self, others: Self) -> Self {
        if self.stores.is_empty() {
            self.stores = others.stores;
        }
        if self.listen.is_empty() {
            self.listen = others.listen;
        }
        let (own, other) = (self.user_limits, others.user_limits);
        self.user_limits = UserLimits {
            calls_at_once: own.calls_at_once.or(other.calls_at_once),
            calls_per_second: own.calls_per_second.or(other.calls_per_second),
            bytes_per_second: own.bytes_per_second.or(other.bytes_per_second),
        };
        let (own, other) = (self.store_limits, others.store_limits);
        self.store_limits = StoreLimits {
            calls_per_second: own.calls_per_second.or(other.calls_per_second),
            bytes_per_second: own.bytes_per_second.or(other.bytes_per_second),
        };
        self.store_limits_of.extend(others.store_limits_of);
        Self {
            users: self.users.or(others.users),
            insecure: self.insecure.or(others.insecure),
            tls_cert: self.tls_cert.or(others.tls_cert),
            tls_key: self.tls_key.or(others.tls_key),
            tls_clients: self.tls_clients.or(others.tls_clients),
            tenants: self.tenants.or(others.tenants),
            open_max: self.open_max.or(others.open_max),
            close_after: self.close_after.or(others.close_after),
            connections: self.connections.or(others.connections),
            connections_of_prefix: self.connections_of_prefix.or(others.connections_of_prefix),
            calls_of_connection: self.calls_of_connection.or(others.calls_of_connection),
            first_call_within: self.first_call_within.or(others.first_call_within),
            stop_within: self.stop_within.or(others.stop_within),
            ..self
        }
    }

    /// Makes the options of a server, for which the files of users and certificates are read.
    ///
    /// # Errors
    /// The key of a setting that cannot be used, and the reason.
    pub(crate) fn options(&self) -> Result<ServerOptions, (&'static str, String)> {
        let usual = ServerOptions::default();
        let mut listen = self.listen.clone();
        if listen.is_empty() {
            listen.push(SocketAddr::from(([127, 0, 0, 1], PORT)));
        }
        let tls = match (&self.tls_cert, &self.tls_key, &self.tls_clients) {
            (Some(certificates), Some(key), clients) => {
                let (certificates, key) = (certificates.clone(), key.clone());
                let files = TlsFiles { certificates, key, clients: clients.clone() };
                Some(ServerTls::of(&files).map_err(|error| ("tls.cert", error.to_string()))?)
            }
            (None, None, None) => None,
            (Some(_), None, _) => return Err(("tls.cert", TLS.to_owned())),
            (None, Some(_), _) => return Err(("tls.key", TLS.to_owned())),
            (None, None, Some(_)) => return Err(("tls.clients", TLS.to_owned())),
        };
        let users = self.users.as_ref().map(|path| Users::of_file(path)).transpose();
        let users = users.map_err(|error| ("users", error.to_string()))?;
        let seconds = |own: Option<u64>, usual| own.map_or(usual, Duration::from_secs);
        let user_limits = UserLimits {
            calls_at_once: self.user_limits.calls_at_once.or(usual.user_limits.calls_at_once),
            ..self.user_limits
        };
        Ok(ServerOptions {
            listen,
            tls,
            users,
            insecure: self.insecure.unwrap_or(usual.insecure),
            connections_max: self.connections.unwrap_or(usual.connections_max),
            connections_of_prefix_max: self
                .connections_of_prefix
                .unwrap_or(usual.connections_of_prefix_max),
            calls_max: self.calls_of_connection.unwrap_or(usual.calls_max),
            first_call_within: seconds(self.first_call_within, usual.first_call_within),
            stop_within: seconds(self.stop_within, usual.stop_within),
            user_limits,
            store_limits: self.store_limits,
            store_limits_of: self.store_limits_of.iter().rev().cloned().collect(),
            tenants: self.tenants()?,
            ..usual
        })
    }

    fn tenants(&self) -> Result<Option<Tenants>, (&'static str, String)> {
        let Some(at) = &self.tenants else { return Ok(None) };
        let mut tenants = if at.contains("{name}") {
            Tenants::at_urls(at).map_err(|error| ("tenants.at", error.to_string()))?
        } else {
            Tenants::in_directory(at)
        };
        tenants.open_max = self.open_max.unwrap_or(tenants.open_max).max(1);
        tenants.close_after = self.close_after.map_or(tenants.close_after, Duration::from_secs);
        Ok(Some(tenants))
    }
}

const UNKNOWN: &str = "there is no such setting; the book's page on serving has them all";
const TLS: &str = "cert and key are given together, and clients with them";

fn set_store_limit(
    limits: &mut StoreLimits,
    limit: &str,
    value: SettingValue<'_>,
) -> Result<(), String> {
    match limit {
        "calls_per_second" => limits.calls_per_second = Some(value.number()?),
        "bytes_per_second" => limits.bytes_per_second = Some(value.number()?),
        _ => return Err(UNKNOWN.to_owned()),
    }
    Ok(())
}

fn named_store(name: &str) -> Result<String, String> {
    if is_store_name(name) {
        return Ok(name.to_owned());
    }
    Err("a store has a name of letters, digits, '.', '_' and '-'".to_owned())
}

/// Reads an address to listen on.
pub(crate) fn listen_address(given: &str) -> Result<SocketAddr, &'static str> {
    given.parse().map_err(|_| "write the address as 127.0.0.1:2113 or [::1]:2113")
}

impl<'a> SettingValue<'a> {
    fn text(self) -> Result<&'a str, String> {
        match self {
            Self::Text(text) | Self::Words(text) if !text.is_empty() => Ok(text),
            _ => Err("write a text that is not empty".to_owned()),
        }
    }

    fn texts(self) -> Result<Vec<&'a str>, String> {
        match self {
            Self::Text(text) => Ok(vec![text]),
            Self::Words(text) => Ok(text.split_whitespace().collect()),
            Self::Texts(texts) => Ok(texts.to_vec()),
            _ => Err("write a list of texts".to_owned()),
        }
    }

    fn truth(self) -> Result<bool, String> {
        match self {
            Self::Truth(truth) => Ok(truth),
            Self::Words("true") => Ok(true),
            Self::Words("false") => Ok(false),
            _ => Err("write true or false".to_owned()),
        }
    }

    fn number<T: TryFrom<u64>>(self) -> Result<T, String> {
        let number = match self {
            Self::Number(number) => Some(number),
            Self::Words(text) => text.parse().ok(),
            _ => None,
        };
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| "write a whole number that is not negative".to_owned())
    }
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

    #[test]
    fn the_first_source_that_has_a_setting_counts() {
        let of = |settings: &[(&str, &str)]| {
            let mut all = ServeSettings::default();
            for (key, text) in settings {
                all.set(key, SettingValue::Words(text)).unwrap();
            }
            all
        };
        let arguments = of(&[("listen", "127.0.0.1:1"), ("limits.user.calls_per_second", "1")]);
        let file = of(&[
            ("listen", "127.0.0.1:2"),
            ("limits.user.calls_per_second", "2"),
            ("limits.user.bytes_per_second", "3"),
            ("limits.stores.a.b.calls_per_second", "4"),
            ("limits.connections", "5"),
        ]);
        let options = arguments.or(file).options().unwrap();
        assert_eq!(options.listen, ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!(options.user_limits.calls_per_second, Some(1));
        assert_eq!(options.user_limits.bytes_per_second, Some(3));
        assert_eq!(options.store_limits_of["a.b"].calls_per_second, Some(4));
        assert_eq!(options.connections_max, 5);
    }

    #[test]
    fn every_key_is_a_setting() {
        for key in KEYS {
            let values = [SettingValue::Words("1"), SettingValue::Words("true")];
            let set = |value| ServeSettings::default().set(key, value);
            let is_set = values.into_iter().any(|value| set(value).is_ok());
            assert!(is_set || key == "listen", "{key}");
        }
    }
}
