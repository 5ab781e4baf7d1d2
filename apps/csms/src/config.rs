//! Configuration by flags, or by environment variables of the same names. Flags win. What is for
//! the way in of stations stands in `stations`, the usage in `help`.

mod help;
mod stations;

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use help::HELP;
pub(crate) use stations::StationSettings;
#[cfg(test)]
pub(crate) use stations::station_settings_of;

use crate::confidential::{Confidential, StorePlace, shown};
use crate::domain::id_tag::Strangers;
use crate::ocpp::v16::RegistrationStatus;
use crate::people::SessionTimes;
use crate::read::ReadModelPlace;

/// Configuration of the server. Its `Debug` shows neither the token nor a URL with a password.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on, for stations and people alike.
    pub(crate) listen: SocketAddr,
    /// Place of the events: a folder, or the URL of a store.
    pub store: StorePlace,
    /// Place of the read models.
    pub(crate) read_models: ReadModelPlace,
    /// True if the read models are rebuilt at the start.
    pub(crate) rebuild_read_models: bool,
    /// Place of the keys of personal data: a folder, or the URL of a database.
    pub(crate) keys: Confidential,
    /// Times after which a login ends.
    pub(crate) sessions: SessionTimes,
    /// Time that a station may take to answer.
    pub(crate) call_timeout: Duration,
    /// Silence after which a station counts as offline.
    pub(crate) offline_after: Duration,
    /// Time that a driver has to plug in after a remote start; the connector is kept for this time
    /// and `call_timeout`.
    pub(crate) start_within: Duration,
    /// Interval at which stations are to send heartbeats.
    pub(crate) heartbeat_interval: Duration,
    /// True if heartbeats are recorded.
    pub(crate) keep_heartbeats: bool,
    /// True if unknown stations and tags are served.
    pub open: bool,
    /// Token of an admin that needs no user; `None` if people and programs have their own.
    pub(crate) api_token: Option<Confidential>,
    /// Ports, keys and limits for stations.
    pub(crate) way_in: StationSettings,
    /// Status that stations are told when they start, if nobody decided on theirs.
    pub(crate) registration: RegistrationStatus,
    /// True if the configuration of a station is read after its start.
    pub(crate) reads_configuration: bool,
    /// Vendors whose own messages are taken from stations.
    pub(crate) vendors: Vec<String>,
    /// File with the identities of stations to register, one a line; `None` if there is no file.
    pub(crate) stations: Option<PathBuf>,
}

/// Request of the command line.
#[derive(Debug)]
pub enum Invocation {
    /// Serve, with this configuration.
    Serve(Box<Config>),
    /// Print the usage.
    Help,
}

/// Error of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag is unknown, or lacks its value.
    #[error("{0}; see csms --help")]
    Arguments(lexopt::Error),
    /// A value cannot be read, or is out of its range.
    #[error("{name} is {text:?}, which is no {expected}")]
    Value {
        /// The flag or variable.
        name: String,
        /// Value that was given, unless it may hold a password.
        text: String,
        /// Description of the expected value.
        expected: &'static str,
    },
    /// A variable of the environment is no text.
    #[error("the variable {variable} is not UTF-8; set it to a text, or unset it")]
    NotText {
        /// The variable.
        variable: String,
    },
    /// The place of the events names no store.
    #[error("the store {store} cannot be opened: {error}")]
    Store {
        /// Place that was given.
        store: StorePlace,
        /// Fault of it.
        error: Box<leftfold::OpenError>,
    },
    /// The address can be reached from outside, and open mode is only for trying out.
    #[error(
        "{listen} can be reached from outside: open mode is only for loopback addresses; \
         listen on 127.0.0.1, or leave --open out, and add users and stations"
    )]
    OpenToAll {
        /// Address that was to be listened on.
        listen: SocketAddr,
    },
    /// A setting needs another one.
    #[error("--{name} needs --{needed}")]
    Needs {
        /// Flag that was given.
        name: &'static str,
        /// Flags that are missing.
        needed: &'static str,
    },
    /// A file of the configuration cannot be read.
    #[error("{} cannot be read: {detail}", .path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Message of the system.
        detail: String,
    },
    /// The secret for the keys of stations is too easily guessed.
    #[error("the key pepper has {bytes} bytes; use at least 16, such as `openssl rand -hex 32`")]
    WeakPepper {
        /// Its length.
        bytes: usize,
    },
    /// The token is too easily guessed.
    #[error("the API token has {bytes} bytes; use at least {TOKEN_BYTES_MIN}")]
    WeakToken {
        /// Its length.
        bytes: usize,
    },
}

/// The shortest token.
const TOKEN_BYTES_MIN: usize = 16;

/// The flags that take a value.
const VALUES: [&str; 33] = [
    "signing-cert",
    "signing-key",
    "organisation",
    "station-cert-days",
    "stations-listen",
    "tls-listen",
    "mtls-listen",
    "tls-cert",
    "tls-key",
    "station-ca",
    "key-pepper",
    "key-pepper-file",
    "trusted-proxies",
    "proxy-name-header",
    "connections-max",
    "connections-of-prefix-max",
    "messages-per-second",
    "handshake-within",
    "body-within",
    "read-models",
    "listen",
    "store",
    "keys",
    "session-idle",
    "session-most",
    "api-token",
    "stations",
    "vendors",
    "registration",
    "call-timeout",
    "offline-after",
    "start-within",
    "heartbeat-interval",
];
/// The flags that take no value.
const SWITCHES: [&str; 6] = [
    "open",
    "closed",
    "keep-heartbeats",
    "lax-subprotocol",
    "rebuild-read-models",
    "no-read-configuration",
];

impl Config {
    /// Reads flags and environment. The program's own name is not among the flags.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Invocation, ConfigError> {
        let mut given = GivenSettings::default();
        let in_environment = |name: &str| {
            let variable = variable(name);
            let given = environment(&variable).map(OsString::into_string).transpose();
            given.map_err(|_| ConfigError::NotText { variable })
        };
        for name in VALUES {
            if let Some(text) = in_environment(name)? {
                given.values.push((name, text));
            }
        }
        for name in SWITCHES {
            if in_environment(name)?.is_some_and(|text| !matches!(&*text, "" | "0" | "false")) {
                given.switches.push(name);
            }
        }
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(refused)? {
            let lexopt::Arg::Long(long) = argument else {
                return match argument {
                    lexopt::Arg::Short('h') => Ok(Invocation::Help),
                    other => Err(refused(other.unexpected())),
                };
            };
            if long == "help" {
                return Ok(Invocation::Help);
            }
            if let Some(name) = VALUES.into_iter().find(|name| *name == long) {
                given.values.push((name, text_of(name, parser.value().map_err(refused)?)?));
            } else if let Some(name) = SWITCHES.into_iter().find(|name| *name == long) {
                given.switches.push(name);
            } else {
                return Err(refused(argument.unexpected()));
            }
        }
        given.config().map(|config| Invocation::Serve(Box::new(config)))
    }

    /// Tells whether several servers may use the store at the same time.
    #[must_use]
    pub(crate) fn shares_store(&self) -> bool {
        is_postgres(self.store.as_str())
    }

    /// Returns the policy for stations and tags that nobody has registered.
    #[must_use]
    pub(crate) fn strangers(&self) -> Strangers {
        if self.open { Strangers::Welcome } else { Strangers::Refused }
    }
}

#[derive(Default)]
struct GivenSettings {
    /// Later ones win.
    values: Vec<(&'static str, String)>,
    switches: Vec<&'static str>,
}

impl GivenSettings {
    fn config(&self) -> Result<Config, ConfigError> {
        let listen = self.value("listen").unwrap_or("127.0.0.1:8180");
        let listen: SocketAddr = listen
            .parse()
            .map_err(|_| invalid("listen", listen, "address such as 127.0.0.1:8180"))?;
        let api_token = self.value("api-token");
        let said = self.switches.iter().rev().find(|switch| matches!(**switch, "open" | "closed"));
        let open = match said {
            Some(switch) => *switch == "open",
            None => listen.ip().is_loopback() && api_token.is_none(),
        };
        let way_in = stations::stations(self)?;
        let outside = |address: &SocketAddr| !address.ip().is_loopback();
        let found = std::iter::once(listen).chain(way_in.addresses()).find(outside);
        if open && let Some(listen) = found {
            return Err(ConfigError::OpenToAll { listen });
        }
        if let Some(token) = api_token.filter(|token| token.len() < TOKEN_BYTES_MIN) {
            return Err(ConfigError::WeakToken { bytes: token.len() });
        }
        let store = StorePlace::new(self.value("store").unwrap_or("./csms-data"));
        Ok(Config {
            listen,
            read_models: match self.value("read-models") {
                Some(text) => place(text)?,
                None => beside(&store)?,
            },
            keys: match self.value("keys") {
                Some(text) => Confidential::new(text),
                None => keys_beside(&store)?,
            },
            sessions: SessionTimes {
                idle: self.duration("session-idle", 8 * 60 * 60)?,
                most: self.duration("session-most", 24 * 60 * 60)?,
            },
            store,
            rebuild_read_models: self.switches.contains(&"rebuild-read-models"),
            call_timeout: self.duration("call-timeout", 30)?,
            offline_after: self.duration("offline-after", 120)?,
            start_within: self.duration("start-within", 60)?,
            heartbeat_interval: self.duration("heartbeat-interval", 60)?,
            way_in,
            keep_heartbeats: self.switches.contains(&"keep-heartbeats"),
            open,
            api_token: api_token.map(Confidential::new),
            stations: self.value("stations").map(PathBuf::from),
            vendors: names(self.value("vendors")),
            registration: registration(self.value("registration"))?,
            reads_configuration: !self.switches.contains(&"no-read-configuration"),
        })
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(given, _)| *given == name).map(|(_, text)| text.as_str())
    }

    fn duration(&self, name: &'static str, default_s: u64) -> Result<Duration, ConfigError> {
        let Some(text) = self.value(name) else { return Ok(Duration::from_secs(default_s)) };
        let read = duration(text).filter(|duration| (MILLISECOND..=DAY).contains(duration));
        read.ok_or_else(|| invalid(name, text, "time from 1ms to 24h, such as 30s"))
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads `500ms`, `30s`, `2m`, `1h`; a number alone is seconds, also `0.5`.
#[must_use]
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit_s = match &text[end..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * unit_s).ok()
}

/// A folder, or the URL of a database.
fn registration(text: Option<&str>) -> Result<RegistrationStatus, ConfigError> {
    match text {
        None | Some("accepted") => Ok(RegistrationStatus::Accepted),
        Some("pending") => Ok(RegistrationStatus::Pending),
        Some("rejected") => Ok(RegistrationStatus::Rejected),
        Some(text) => {
            Err(invalid("registration", text, "status such as accepted, pending or rejected"))
        }
    }
}

/// Reads names between commas.
fn names(text: Option<&str>) -> Vec<String> {
    let names = text.unwrap_or_default().split(',').map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn place(text: &str) -> Result<ReadModelPlace, ConfigError> {
    match text.split_once("://") {
        None if !text.is_empty() => Ok(ReadModelPlace::Directory(text.into())),
        Some(("postgres" | "postgresql", _)) => {
            Ok(ReadModelPlace::Postgres(Confidential::new(text)))
        }
        _ => Err(invalid("read-models", text, "folder, nor postgres://user@host/database")),
    }
}

/// Returns the default place of the read models: in the folder of the events, in their database, or
/// in a temporary folder of this process if the events are kept in memory.
fn beside(store: &StorePlace) -> Result<ReadModelPlace, ConfigError> {
    if is_postgres(store.as_str()) {
        return Ok(ReadModelPlace::StoreDatabase(Confidential::new(store.as_str())));
    }
    let directory = leftfold::directory_of(store.as_str())
        .map_err(|error| ConfigError::Store { store: store.clone(), error: Box::new(error) })?;
    Ok(ReadModelPlace::Directory(match directory {
        Some(directory) => directory.join("read-models"),
        None => std::env::temp_dir().join(format!("csms-read-models-{}", std::process::id())),
    }))
}

/// Returns the default place of the keys of personal data: a folder beside that of the events, and
/// not in it, so that no copy of the one has the other; a schema of their own in the database of
/// the events; or a temporary folder of this process if the events are kept in memory.
fn keys_beside(store: &StorePlace) -> Result<Confidential, ConfigError> {
    if is_postgres(store.as_str()) {
        let (place, options) = store.as_str().split_once('?').unwrap_or((store.as_str(), ""));
        let is_of_store =
            |option: &&str| ["schema=", "payload="].iter().any(|name| option.starts_with(name));
        let others: Vec<&str> = options.split('&').filter(|option| !is_of_store(option)).collect();
        return Ok(Confidential::new(format!("{place}?{}", others.join("&"))));
    }
    let directory = leftfold::directory_of(store.as_str())
        .map_err(|error| ConfigError::Store { store: store.clone(), error: Box::new(error) })?;
    let keys = match directory {
        Some(directory) => {
            let name = directory.file_name().map_or("store".into(), OsStr::to_string_lossy);
            directory.with_file_name(format!("{name}-keys"))
        }
        None => std::env::temp_dir().join(format!("csms-keys-{}", std::process::id())),
    };
    Ok(Confidential::new(keys.to_string_lossy()))
}

/// Tells whether the events are kept in PostgreSQL.
fn is_postgres(store: &str) -> bool {
    let scheme = store.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("postgres" | "postgresql"))
}

fn variable(name: &str) -> String {
    format!("CSMS_{}", name.replace('-', "_").to_uppercase())
}

fn invalid(name: &str, text: &str, expected: &'static str) -> ConfigError {
    ConfigError::Value { name: name.to_owned(), text: shown(text).to_owned(), expected }
}

/// Returns the text of a flag's value.
fn text_of(name: &str, value: OsString) -> Result<String, ConfigError> {
    // One that is no text is not repeated: it may be a token.
    let unreadable = |_| invalid(name, "[hidden]", "text in UTF-8");
    value.into_string().map_err(unreadable)
}

/// Returns the error of arguments that cannot be read, without a value that may hold a password.
fn refused(error: lexopt::Error) -> ConfigError {
    let shown = |value: OsString| OsString::from(shown(&value.to_string_lossy()));
    ConfigError::Arguments(match error {
        lexopt::Error::UnexpectedArgument(value) => lexopt::Error::UnexpectedArgument(shown(value)),
        lexopt::Error::UnexpectedValue { option, value } => {
            lexopt::Error::UnexpectedValue { option, value: shown(value) }
        }
        error => error,
    })
}

#[cfg(test)]
mod tests;
