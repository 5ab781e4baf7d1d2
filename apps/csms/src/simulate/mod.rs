//! Simulated charge points: they speak OCPP 1.6J to a real server over real WebSockets, with the
//! habits and the faults of real ones, and know the truth that the server's books are held against.
//!
//! A run has three parts. The stations are state machines without I/O:
//!
//! - `habits`: habits of firmware, as named flags
//! - `truth`: sessions as they really were
//! - `clock`, `outlet`: a station's clock, and its connectors with their meters
//! - `reports`, `outbox`: what it reports, and what waits to be sent, or sent again
//! - `charge_point`: the state machine; `answers` has its answers to what the server asks
//!
//! A fleet of them is driven, and counted:
//!
//! - `line`: the WebSocket of a station
//! - `figures`: what is counted on the way
//! - `fleet`: a task for each station, with faults of its line
//!
//! In the end the server is asked what it knows:
//!
//! - `books`: the server's transactions, by its API
//! - `comparison`: the books against the truth
//! - `report`: what was seen, as text and as JSON
//!
//! Frames of real stations are replayed from files instead:
//!
//! - `script`: such a file
//! - `replay`: a station that plays it, and what is compared in the end
//!
//! - `options`: the flags of `csms simulate`

mod answers;
mod books;
mod charge_point;
mod clock;
mod comparison;
mod figures;
mod fleet;
mod habits;
mod line;
mod options;
mod outbox;
mod outlet;
mod replay;
mod report;
mod reports;
mod script;
mod truth;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

pub use books::BooksError;
pub use options::{SimulateInvocation, SimulateOptions, SimulateOptionsError, simulate_help};
pub use replay::ReplayReport;
pub use report::SimulationReport;
pub use script::FrameScriptError;

use books::Books;
use charge_point::{ChargePoint, StationPlan};
use comparison::{Disagreement, compare};
use fleet::{FleetContext, Pace, StationFleet};
use habits::Habit;
use line::Dialer;
use replay::replay;
use script::read_scripts;

/// Time that the stations have in the end to tell of everything.
const CLOSE_WITHIN: Duration = Duration::from_secs(120);
/// Time that the server's read models have to show everything.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// Time in which the server is to answer a call: of the model, and of real time at least.
const ANSWER_MS: u64 = 30_000;
const ANSWER_REAL_MS_MIN: u64 = 4_000;
/// Time of a session with the pause after it, in ms of the model; a little more than the longest.
const CYCLE_MS: u64 = 450_000;
/// Interval at which the progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Result of `csms simulate`.
#[derive(Debug)]
pub enum SimulationOutcome {
    /// Stations lived by themselves.
    Lived(Box<SimulationReport>),
    /// Stations replayed frames.
    Replayed(ReplayReport),
}

impl SimulationOutcome {
    /// Tells whether the server's books are right.
    #[must_use]
    pub fn agrees(&self) -> bool {
        match self {
            Self::Lived(report) => report.agrees(),
            Self::Replayed(report) => report.agrees(),
        }
    }

    /// Returns the report as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        match self {
            Self::Lived(report) => report.to_json(),
            Self::Replayed(report) => report.to_json(),
        }
    }
}

impl std::fmt::Display for SimulationOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lived(report) => report.fmt(f),
            Self::Replayed(report) => report.fmt(f),
        }
    }
}

/// Error of `csms simulate`.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The server's books cannot be read.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// A file with frames cannot be read.
    #[error(transparent)]
    Script(#[from] FrameScriptError),
}

/// Does what the options say: replays files, or lets stations live.
pub async fn simulate(
    options: &SimulateOptions,
    stop: impl Future<Output = ()>,
) -> Result<SimulationOutcome, SimulateError> {
    if options.replay.is_empty() {
        return Ok(SimulationOutcome::Lived(Box::new(live(options, stop).await?)));
    }
    let mut scripts = Vec::new();
    for path in &options.replay {
        scripts.extend(read_scripts(path)?);
    }
    let mut books = Books::new(options.authority.clone(), options.api_token.clone());
    let prefix = format!("{}{:x}-", options.prefix, options.seed);
    if options.api_token.is_some() {
        for script in &scripts {
            books.register(&format!("{prefix}{}", script.name)).await?;
        }
    }
    let (dialer, halt) = (options.dialer(), options.halt_before);
    Ok(SimulationOutcome::Replayed(replay(scripts, &dialer, &mut books, &prefix, halt).await?))
}

/// Runs a simulation to its end, or until it is stopped, and compares. The stations end their
/// sessions before.
pub(crate) async fn live(
    options: &SimulateOptions,
    stop: impl Future<Output = ()>,
) -> Result<SimulationReport, BooksError> {
    let mut books = Books::new(options.authority.clone(), options.api_token.clone());
    let points = stations(options);
    let before = prepare(options, &mut books, &points).await?;
    let begun = Instant::now();
    let dialer =
        Dialer { authority: options.authority.clone(), password: options.station_password.clone() };
    let pace = Pace { begun, speed: options.speed };
    let fleet = StationFleet::start(FleetContext::new(pace, dialer, options.faults), points);
    let context = fleet.context.clone();
    let storm_s = work(options, &fleet, stop).await;
    tracing::info!("the sessions end, and the stations tell of what they have kept");
    let points = fleet.close(CLOSE_WITHIN).await;
    let took = begun.elapsed();
    let disagreements = settle(&mut books, &points, &before).await?;
    Ok(SimulationReport {
        seed: options.seed,
        habits: options.habits.to_string(),
        speed: options.speed,
        storm_s,
        disagreements,
        ..SimulationReport::new(&points, &context.figures, took)
    })
}

impl SimulateOptions {
    fn dialer(&self) -> Dialer {
        let (authority, password) = (self.authority.clone(), self.station_password.clone());
        Dialer { authority, password }
    }
}

fn stations(options: &SimulateOptions) -> Vec<ChargePoint> {
    let mut rng = Rng::with_seed(options.seed);
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let real_ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let by_sessions = options.sessions.map(|sessions| u64::from(sessions) * CYCLE_MS);
    let by_duration =
        options.duration.map(|duration| (real_ms(duration) as f64 * options.speed) as u64);
    // The clocks begin as much earlier as they run ahead, so that they end now.
    let lasts_ms = by_sessions.into_iter().chain(by_duration).min().unwrap_or_default();
    let ahead_ms = (lasts_ms as f64 * (1.0 - 1.0 / options.speed).max(0.0)) as i64;
    let timeout_ms = ANSWER_MS.max((ANSWER_REAL_MS_MIN as f64 * options.speed) as u64);
    let station = |number: usize| {
        let habits = options.habits.of_station(number, &mut rng);
        let space = if habits.has(Habit::EncodedIdentity) { " /ä" } else { "" };
        ChargePoint::new(StationPlan {
            identity: format!("{}{:05}{space}", options.prefix, number + 1).into(),
            seed: rng.u64(..),
            habits,
            sessions_max: options.sessions,
            has_faults: options.faults,
            base_ms: now_ms - ahead_ms,
            timeout_ms,
        })
    };
    (0..options.stations).map(station).collect()
}

/// Transactions that the server has of the stations already, by station.
type Before = HashMap<Arc<str>, HashSet<i64>>;

async fn prepare(
    options: &SimulateOptions,
    books: &mut Books,
    points: &[ChargePoint],
) -> Result<Before, BooksError> {
    let mut before = Before::new();
    let has_none = books.is_empty().await?;
    for point in points {
        let identity = &point.plan().identity;
        if options.api_token.is_some() {
            books.register(identity).await?;
        }
        if !has_none {
            let known = books.of_station(identity).await?;
            before.insert(identity.clone(), known.iter().map(|booked| booked.id).collect());
        }
    }
    Ok(before)
}

/// Lets the stations work until the run is over. Returns the time that a storm took, in s.
async fn work(
    options: &SimulateOptions,
    fleet: &StationFleet,
    stop: impl Future<Output = ()>,
) -> Option<f64> {
    let mut stop = pin!(stop);
    let mut done = pin!(fleet.wait_done());
    let begun = tokio::time::Instant::now();
    // Without an end nobody waits for it.
    let end = options.duration.map(|duration| begun + duration);
    let storm_at = options.duration.map_or(Duration::from_secs(30), |duration| duration / 2);
    let mut storm = pin!(async {
        if !options.storm {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(begun + storm_at).await;
        ride_out_storm(fleet, options.stations).await
    });
    let mut storm_s = None;
    let mut progress = tokio::time::interval_at(begun + PROGRESS_EVERY, PROGRESS_EVERY);
    loop {
        tokio::select! {
            () = &mut stop => return storm_s,
            () = &mut done => return storm_s,
            () = async { match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            } } => return storm_s,
            took = &mut storm, if storm_s.is_none() => storm_s = Some(took),
            _ = progress.tick() => {
                let figures = &fleet.context.figures;
                tracing::info!(
                    online = figures.online.read(),
                    frames = figures.frames_sent.read(),
                    p99_ms = figures.latency_ms(0.99),
                    "simulating"
                );
            }
        }
    }
}

/// Cuts all connections, and waits until so many were made anew.
async fn ride_out_storm(fleet: &StationFleet, stations: usize) -> f64 {
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    let (figures, begun) = (&fleet.context.figures, Instant::now());
    let before = figures.connected.read();
    fleet.storm();
    while figures.connected.read() < before + stations as u64 {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    (begun.elapsed().as_secs_f64() * 100.0).round() / 100.0
}

/// Compares all stations, again until they agree, nothing changes any more, or the time is over:
/// read models are a moment behind.
async fn settle(
    books: &mut Books,
    points: &[ChargePoint],
    before: &Before,
) -> Result<Vec<Disagreement>, BooksError> {
    const AGAIN_AFTER: Duration = Duration::from_millis(250);
    const UNCHANGED_MAX: u32 = 4;
    let deadline = Instant::now() + SETTLE_WITHIN;
    let (mut last, mut unchanged) = (Vec::new(), 0);
    let mut open: Vec<&ChargePoint> = points.iter().collect();
    loop {
        let mut disagreements = Vec::new();
        let mut disagreeing = Vec::new();
        for point in open {
            let identity = &point.plan().identity;
            let mut booked = books.of_station(identity).await?;
            if let Some(before) = before.get(identity) {
                booked.retain(|booked| !before.contains(&booked.id));
            }
            let found = compare(identity, point.plan().habits, point.ledger(), &booked);
            if !found.is_empty() {
                disagreeing.push(point);
                disagreements.extend(found);
            }
        }
        unchanged = if disagreements == last { unchanged + 1 } else { 0 };
        let is_settled = unchanged >= UNCHANGED_MAX || Instant::now() > deadline;
        if disagreements.is_empty() || is_settled {
            return Ok(disagreements);
        }
        (open, last) = (disagreeing, disagreements);
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}
