//! Contents of the dashboard as plain values.

use leftfold::prelude::Timestamp;

/// Everything on the page, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveView {
    /// Moment of the view.
    pub as_of: Timestamp,
    /// URL that charge points connect to, without the identity: `ws://127.0.0.1:8180/ocpp/`.
    pub connect_url: String,
    /// URL of the JSON API: `http://127.0.0.1:8180/api`.
    pub api_url: String,
    /// Stations and id tags that are accepted.
    pub admission: Admission,
    /// Totals, including items that are not shown.
    pub counts: Counts,
    /// The stations, in the order of their identities; only the first of them if there are too
    /// many.
    pub stations: Vec<StationView>,
    /// The transactions that run, the newest first; only the newest if there are too many.
    pub transactions: Vec<TransactionView>,
    /// The effects that are not concluded; the page shows those in doubt first.
    pub effects: Vec<EffectView>,
    /// Remote starts that were accepted and led to no transaction, the newest first.
    pub lapsed: Vec<LapsedView>,
    /// Consumers of the log, with their progress.
    pub consumers: Vec<ConsumerView>,
    /// Parked items that wait for a person; only the first of them if there are too many.
    pub parked: Vec<ParkedView>,
    /// Number of all parked items, including those that are not shown.
    pub parked_total: usize,
    /// Error of reading a part of the page; `None` if all of it can be shown.
    pub missing: Option<String>,
}

/// A remote start in vain.
#[derive(Clone, Debug, PartialEq)]
pub struct LapsedView {
    /// The station.
    pub station: String,
    /// Connector; `None` if the request named none.
    pub connector: Option<u32>,
    /// Id tag that was to charge.
    pub id_tag: String,
    /// Moment when its time was over.
    pub at: Timestamp,
}

/// Consumer of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerView {
    /// Name; with the version if two versions of it run.
    pub name: String,
    /// Kind of the consumer.
    pub kind: ConsumerKind,
    /// Position that it has reached in the log.
    pub position: u64,
    /// Events of the log that it has not gone past.
    pub behind: u64,
    /// Events that it goes past in a second.
    pub per_second: u64,
    /// Seconds to the end of the log at its present speed; `None` if it is behind and does not
    /// move.
    pub seconds_left: Option<u64>,
    /// Description of the thing that it waits for.
    pub waits_for: String,
    /// State of the consumer.
    pub state: ConsumerState,
}

/// Kind of a consumer of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerKind {
    /// A read model.
    ReadModel,
    /// A process.
    Process,
    /// An effect.
    Effect,
}

/// State of a consumer of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerState {
    /// It has gone past all events.
    UpToDate,
    /// It is behind, and moves.
    CatchingUp,
    /// It is being built, and readers do not see it yet.
    Building,
    /// It does not move.
    Stuck,
    /// A part of it waits for a person.
    Waits,
    /// Another process does its work.
    Standby,
}

/// Parked event that waits for a person.
#[derive(Clone, Debug, PartialEq)]
pub struct ParkedView {
    /// Name of the read model or process that parked it.
    pub consumer: String,
    /// Path that the routes to answer begin with: `/api/read-models/transactions`.
    pub route: String,
    /// Position of the event.
    pub position: u64,
    /// Key, instance or stream that waits with it.
    pub key: String,
    /// Error that parked it; `None` if it waits behind another parked event.
    pub error: Option<String>,
    /// Body of the request that tries it again, as JSON.
    pub retry: String,
    /// Body of the request that skips it, as JSON.
    pub skip: String,
}

/// The page of transactions.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionsView {
    /// Moment of the view.
    pub as_of: Timestamp,
    /// Station to list, as it stands in the form; empty for all.
    pub station: String,
    /// Id tag to list, as it stands in the form; empty for all.
    pub id_tag: String,
    /// True for running transactions only, false for the others only; `None` for all.
    pub open: Option<bool>,
    /// The transactions, or the error of reading them.
    pub rows: Result<Vec<TransactionLine>, String>,
    /// URL of the page with older ones; `None` if there are none.
    pub older: Option<String>,
}

/// A transaction in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionLine {
    /// Data that every list of transactions shows.
    pub transaction: TransactionView,
    /// State in one word.
    pub state: &'static str,
    /// Tone of the state.
    pub tone: Tone,
    /// Moment of the stop; `None` if no stop was reported.
    pub stopped_at: Option<Timestamp>,
}

/// The daily report.
#[derive(Clone, Debug, PartialEq)]
pub struct EnergyView {
    /// The first day, as it stands in the form.
    pub from: String,
    /// The last day.
    pub to: String,
    /// The station, as it stands in the form; empty for all.
    pub station: String,
    /// The days with the energy charged, the newest first, or the error of reading them.
    pub days: Result<Vec<EnergyDay>, String>,
    /// True if there are more rows than are shown.
    pub is_cut: bool,
}

/// A day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnergyDay {
    /// Date, such as `2026-05-04`, in UTC.
    pub date: String,
    /// Identity, energy in Wh and number of transactions of each station.
    pub stations: Vec<(String, i64, i64)>,
}

/// Totals on the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stations.
    pub stations: usize,
    /// Stations that are online.
    pub online: usize,
    /// Transactions that run.
    pub running: usize,
    /// Connectors, and stations as a whole, that are faulted.
    pub faulted: usize,
}

/// Stations and id tags that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Any station and any id tag: on this machine only.
    Open,
    /// Registered stations and known id tags.
    Registered,
}

/// One station.
#[derive(Clone, Debug, PartialEq)]
pub struct StationView {
    /// Its identity, as in its URL.
    pub identity: String,
    /// Vendor and model; `None` if the station has not sent them.
    pub model: Option<String>,
    /// Version of the firmware; `None` if the station has not sent it.
    pub firmware: Option<String>,
    /// Connection of the station.
    pub connection: ConnectionView,
    /// Its connectors by number; 0 is the station itself.
    pub connectors: Vec<ConnectorView>,
}

/// Connection of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionView {
    /// Online, since this moment.
    Online(Timestamp),
    /// Offline, since this moment.
    Offline(Timestamp),
    /// Never heard of since it became known.
    Unknown,
}

/// One connector.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectorView {
    /// Its number; 0 is the station itself.
    pub number: u32,
    /// Its status in OCPP's word.
    pub status: String,
    /// Tone of the status.
    pub tone: Tone,
    /// Error code; `None` if there is no error.
    pub error: Option<String>,
    /// Moment since which the status holds; `None` if no status was reported.
    pub since: Option<Timestamp>,
    /// Text about the remote start or the reservation that it is kept for; `None` if it is not
    /// kept.
    pub held_for: Option<String>,
}

/// Kind of a status; never told by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Ready.
    Ready,
    /// In use.
    Busy,
    /// Between the two, or held.
    Waiting,
    /// Broken.
    Wrong,
    /// Out of use, or nothing is known.
    Quiet,
}

/// A transaction that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionView {
    /// Its id.
    pub id: i64,
    /// The station.
    pub station: String,
    /// Connector; `None` if it is not known.
    pub connector: Option<u32>,
    /// Id tag that started it.
    pub id_tag: String,
    /// Moment of the start.
    pub started_at: Timestamp,
    /// Energy so far in watt-hours; `None` if the meter does not tell it.
    pub energy_wh: Option<i64>,
    /// Moment of the last meter value; `None` if there was none.
    pub last_meter_at: Option<Timestamp>,
}

/// An effect that is not concluded.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectView {
    /// Its id.
    pub id: u64,
    /// Name of the effect.
    pub name: String,
    /// Identity of the station.
    pub station: String,
    /// Details of the request: connector and tag, or a transaction.
    pub about: String,
    /// State of the effect.
    pub state: OpenState,
    /// Moment when it was requested.
    pub requested_at: Timestamp,
}

/// State of an open effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenState {
    /// It is being carried out, or waits to be.
    InFlight,
    /// It is tried again, because of this reason.
    Waiting(String),
    /// It is unknown if it took place, for this reason.
    InDoubt(String),
}
