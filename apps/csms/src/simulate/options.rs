//! The flags of `csms simulate`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;

use super::habits::{Habits, UnknownHabit, habits_help};
use crate::confidential::Confidential;
use crate::config::duration;

/// Stations of one run at most: each has a connection, and a process so many open files.
const STATIONS_MAX: usize = 60_000;
/// The fastest that the time of the model may pass.
const SPEED_MAX: f64 = 10_000.0;

/// Options of a simulation.
#[derive(Clone, Debug)]
pub struct SimulateOptions {
    /// Number of stations.
    pub(crate) stations: usize,
    /// Begin of the identities; a number follows it.
    pub(crate) prefix: String,
    /// Host and port of the server.
    pub(crate) authority: Arc<str>,
    /// Token for the API.
    pub(crate) api_token: Option<Confidential>,
    /// Password of all stations.
    pub(crate) station_password: Option<Confidential>,
    /// Seed of all that the stations do by themselves.
    pub(crate) seed: u64,
    /// Time for which sessions begin; `None` for as long as nobody stops it.
    pub(crate) duration: Option<Duration>,
    /// Sessions of each connector; `None` for any number.
    pub(crate) sessions: Option<u32>,
    /// Habits, of which each station has some.
    pub(crate) habits: Habits,
    /// Speed of the model's time.
    pub(crate) speed: f64,
    /// True if all connections are cut once, in the middle.
    pub(crate) storm: bool,
    /// True if stations reboot and lines fail.
    pub(crate) faults: bool,
    /// Files or folders with frames to replay; without them stations live by themselves.
    pub(crate) replay: Vec<PathBuf>,
    /// Number of the frame before which a replay waits for a line of standard input.
    pub(crate) halt_before: Option<usize>,
    /// True if the report is JSON.
    pub json: bool,
}

/// Request to the simulator.
#[derive(Debug)]
pub enum SimulateInvocation {
    /// Simulate.
    Run(Box<SimulateOptions>),
    /// Print the usage.
    Help,
}

/// Error of the flags of a simulation.
#[derive(Debug, thiserror::Error)]
pub enum SimulateOptionsError {
    /// A flag is unknown, or lacks its value.
    #[error("{0}; see csms simulate --help")]
    Arguments(#[from] lexopt::Error),
    /// A value cannot be read, or is out of its range.
    #[error("--{name} is {text:?}, which is no {expected}")]
    Value {
        /// The flag.
        name: &'static str,
        /// Value that was given.
        text: String,
        /// Description of the expected value.
        expected: &'static str,
    },
    /// A habit is unknown.
    #[error(transparent)]
    Habit(#[from] SimulatedHabitError),
    /// The model's time passes faster than the clock, without an end.
    #[error("--speed other than 1 needs an end; add --sessions or --duration")]
    EndlessSpeed,
}

/// Error of a habit's name.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SimulatedHabitError(#[from] UnknownHabit);

/// Returns the usage of `csms simulate`.
#[must_use]
pub fn simulate_help() -> String {
    format!("{HELP}\nhabits:\n{}", habits_help())
}

const HELP: &str = "csms simulate: charge points that behave as real ones do, against a server

usage: csms simulate [flags]

They charge, lose their power and their connection, and send again what was not answered. In the
end what the server tells of each transaction is compared with what really flowed. The exit code is
0 if they agree, 1 if not. Ctrl-C ends the sessions that run, and compares.

  --stations 20     how many charge points [20]
  --url URL         where the server is [http://127.0.0.1:8180]
  --api-token TEXT  for a server that wants one [better given as CSMS_API_TOKEN]; the stations are
                    registered with it
  --password TEXT   the stations authenticate by it (security profile 1)
                    [better given as CSMS_STATION_PASSWORD; without one: profile 0]
  --prefix TEXT     how identities begin; a number follows [SIM-]
  --seed NUMBER     repeats what the stations of another run did by themselves [random, and printed]
  --sessions N      ends when each connector had so many sessions
  --duration 60s    ends after this time [without both: with ctrl-c]
  --habits LIST     habits of real stations, of which each station has one or more: all, none, or
                    names with commas between them [none]
  --speed 1         how fast the time of the stations passes, up to 10000; their clocks begin in the
                    past, so that they end now
  --storm           cuts all connections at once in the middle, and measures the reconnection
  --no-faults       no power failures, outages, cut connections and lost replies
  --replay PATH     replays the frames of this file, or of the .jsonl files of this folder, instead
  --halt-before N   before frame N a replay waits for a line, so that the server can be killed
  --json            the report as JSON
";

impl SimulateOptions {
    /// Returns what a first look needs: so many stations that charge until they are stopped.
    #[must_use]
    pub(crate) fn new(authority: Arc<str>, stations: usize, seed: u64) -> Self {
        Self {
            stations,
            prefix: "SIM-".to_owned(),
            authority,
            api_token: None,
            station_password: None,
            seed,
            duration: None,
            sessions: None,
            habits: Habits::default(),
            speed: 1.0,
            storm: false,
            faults: true,
            replay: Vec::new(),
            halt_before: None,
            json: false,
        }
    }

    /// Reads the arguments that follow `simulate`, and the environment.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<SimulateInvocation, SimulateOptionsError> {
        let secret = |name: &str| {
            let text = variable(name)?.into_string().ok()?;
            (!text.is_empty()).then(|| Confidential::new(text))
        };
        let mut options = Self::new("127.0.0.1:8180".into(), 20, fastrand::u64(..1 << 32));
        options.api_token = secret("CSMS_API_TOKEN");
        options.station_password = secret("CSMS_STATION_PASSWORD");
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                    return Ok(SimulateInvocation::Help);
                }
                lexopt::Arg::Long("storm") => options.storm = true,
                lexopt::Arg::Long("no-faults") => options.faults = false,
                lexopt::Arg::Long("json") => options.json = true,
                lexopt::Arg::Long(name) => {
                    let Some(name) = VALUES.into_iter().find(|known| *known == name) else {
                        return Err(argument.unexpected().into());
                    };
                    let text =
                        parser.value()?.into_string().map_err(lexopt::Error::NonUnicodeValue)?;
                    options.set(name, text)?;
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if options.speed != 1.0 && options.duration.is_none() && options.sessions.is_none() {
            return Err(SimulateOptionsError::EndlessSpeed);
        }
        Ok(SimulateInvocation::Run(Box::new(options)))
    }

    fn set(&mut self, name: &'static str, text: String) -> Result<(), SimulateOptionsError> {
        let value = |expected| SimulateOptionsError::Value { name, text: text.clone(), expected };
        match name {
            "stations" => {
                let number = text.parse().ok().filter(|number| (1..=STATIONS_MAX).contains(number));
                self.stations = number.ok_or_else(|| value("number from 1 to 60000"))?;
            }
            "url" => {
                self.authority =
                    authority(&text).ok_or_else(|| value("URL such as http://127.0.0.1:8180"))?;
            }
            "api-token" => self.api_token = Some(Confidential::new(text)),
            "password" => self.station_password = Some(Confidential::new(text)),
            "prefix" => self.prefix = text,
            "seed" => self.seed = text.parse().map_err(|_| value("number"))?,
            "sessions" => {
                let number = text.parse().ok().filter(|number| *number > 0);
                self.sessions = Some(number.ok_or_else(|| value("number from 1"))?);
            }
            "duration" => {
                let time = duration(&text).filter(|time| !time.is_zero());
                self.duration = Some(time.ok_or_else(|| value("time such as 60s"))?);
            }
            "replay" => self.replay.push(PathBuf::from(text)),
            "halt-before" => {
                let number = text.parse().ok().filter(|number| *number > 0);
                self.halt_before = Some(number.ok_or_else(|| value("number from 1"))?);
            }
            "habits" => self.habits = text.parse().map_err(SimulatedHabitError)?,
            _ => {
                let speed = text.parse().ok().filter(|speed| (0.1..=SPEED_MAX).contains(speed));
                self.speed = speed.ok_or_else(|| value("number from 0.1 to 10000"))?;
            }
        }
        Ok(())
    }
}

/// Flags with a value.
const VALUES: [&str; 12] = [
    "stations",
    "url",
    "api-token",
    "password",
    "prefix",
    "seed",
    "sessions",
    "duration",
    "habits",
    "replay",
    "halt-before",
    "speed",
];

/// Returns host and port of a URL.
fn authority(url: &str) -> Option<Arc<str>> {
    let uri: Uri = url.parse().ok()?;
    if !matches!(uri.scheme_str(), Some("http" | "ws")) {
        return None;
    }
    let authority = uri.authority()?;
    let port = authority.port_u16().unwrap_or(80);
    Some(format!("{}:{port}", authority.host()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<SimulateOptions, String> {
        let arguments = arguments.iter().map(OsString::from);
        match SimulateOptions::read(arguments, |_| None).map_err(|error| error.to_string())? {
            SimulateInvocation::Run(options) => Ok(*options),
            SimulateInvocation::Help => Err("help".to_owned()),
        }
    }

    #[test]
    fn flags_are_read_and_each_stands_in_the_help() {
        let options =
            read(&["--url", "ws://host/", "--habits", "never-pong", "--seed", "7"]).unwrap();
        assert_eq!((&*options.authority, options.seed), ("host:80", 7));
        assert_eq!(options.habits.to_string(), "never-pong");
        for name in VALUES {
            assert!(HELP.contains(&format!("--{name}")), "{name}");
        }
        assert_eq!(read(&["--help"]).unwrap_err(), "help");
    }

    #[test]
    fn values_that_cannot_be_are_told_with_what_is_expected() {
        for (arguments, said) in [
            (&["--stations", "0"][..], "1 to 60000"),
            (&["--url", "tcp://host"], "http://"),
            (&["--habits", "odd"], "never-pong"),
            (&["--speed", "100"], "--sessions"),
            (&["--frobnicate", "1"], "--help"),
        ] {
            let error = read(arguments).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
