//! The report of a run: what was seen, and whether server and stations agree.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::charge_point::ChargePoint;
use super::comparison::Disagreement;
use super::figures::Figures;
use super::truth::SessionFate;

/// Disagreements that the text lists; the JSON has all.
const LISTED_MAX: usize = 50;

/// Report of a simulation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SimulationReport {
    pub(crate) seed: u64,
    pub(crate) stations: usize,
    pub(crate) habits: String,
    pub(crate) speed: f64,
    pub(crate) seconds: f64,
    pub(crate) sessions: u64,
    /// Sessions that their stations forgot with their power.
    pub(crate) forgotten: u64,
    pub(crate) energy_wh: i64,
    pub(crate) connections: u64,
    pub(crate) failed_connections: u64,
    pub(crate) cuts: u64,
    pub(crate) lost_replies: u64,
    pub(crate) half_open: u64,
    pub(crate) reboots: u64,
    pub(crate) frames_sent: u64,
    pub(crate) frames_received: u64,
    pub(crate) resent: u64,
    /// Calls that the server refused by a CALLERROR.
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    pub(crate) unsolicited: u64,
    pub(crate) latency_p50_ms: Option<f64>,
    pub(crate) latency_p99_ms: Option<f64>,
    /// Time until all stations were connected again after a storm.
    pub(crate) storm_s: Option<f64>,
    pub(crate) disagreements: Vec<Disagreement>,
}

impl SimulationReport {
    /// Adds up the figures of a run.
    pub(crate) fn new(points: &[ChargePoint], figures: &Figures, took: Duration) -> Self {
        let truths = || points.iter().flat_map(ChargePoint::ledger);
        let sum = |figure: fn(&ChargePoint) -> u64| points.iter().map(figure).sum::<u64>();
        let count = |end| truths().filter(|truth| truth.end == end).count() as u64;
        Self {
            seed: 0,
            stations: points.len(),
            habits: String::new(),
            speed: 1.0,
            seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
            sessions: truths().count() as u64,
            forgotten: count(SessionFate::Forgotten),
            energy_wh: truths().map(|truth| truth.energy_wh).sum(),
            connections: figures.connected.read(),
            failed_connections: figures.not_connected.read(),
            cuts: figures.cuts.read(),
            lost_replies: figures.lost_replies.read(),
            half_open: figures.half_open.read(),
            reboots: sum(|point| point.counts().reboots),
            frames_sent: figures.frames_sent.read(),
            frames_received: figures.frames_received.read(),
            resent: sum(ChargePoint::resent),
            refused: sum(|point| point.counts().refused),
            unanswered: sum(|point| point.counts().unanswered),
            unsolicited: sum(|point| point.counts().unsolicited),
            latency_p50_ms: figures.latency_ms(0.5),
            latency_p99_ms: figures.latency_ms(0.99),
            storm_s: None,
            disagreements: Vec::new(),
        }
    }

    /// Tells whether server and stations agree on every transaction and every Wh.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.disagreements.is_empty()
    }

    /// Returns the report as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Plain numbers and texts cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl fmt::Display for SimulationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        writeln!(
            f,
            "{} stations, {} s at speed {}, habits {}, seed {}\n\
             sessions      {}, {} of them forgotten by their stations; {}.{:03} kWh\n\
             connections   {}; {} failed, {} cut, {} cut with a reply, {} half-open; {} reboots\n\
             frames        {} sent, {} received; {} sent again, {} unanswered, {} refused\n\
             latency       p50 {}, p99 {}",
            self.stations,
            self.seconds,
            self.speed,
            self.habits,
            self.seed,
            self.sessions,
            self.forgotten,
            self.energy_wh / 1_000,
            self.energy_wh % 1_000,
            self.connections,
            self.failed_connections,
            self.cuts,
            self.lost_replies,
            self.half_open,
            self.reboots,
            self.frames_sent,
            self.frames_received,
            self.resent,
            self.unanswered,
            self.refused,
            ms(self.latency_p50_ms),
            ms(self.latency_p99_ms),
        )?;
        if let Some(storm_s) = self.storm_s {
            writeln!(f, "storm         all connected again after {storm_s} s")?;
        }
        if self.agrees() {
            return writeln!(f, "agreement     on every transaction and every watt-hour");
        }
        writeln!(f, "DISAGREEMENT  on {} points:", self.disagreements.len())?;
        for disagreement in self.disagreements.iter().take(LISTED_MAX) {
            writeln!(f, "  {disagreement}")?;
        }
        match self.disagreements.len().saturating_sub(LISTED_MAX) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more; --json has all"),
        }
    }
}
