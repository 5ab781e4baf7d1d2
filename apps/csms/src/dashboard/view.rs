//! What the dashboard shows, as plain values.

use leftfold::prelude::Timestamp;

/// Everything on the page, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The moment.
    pub as_of: Timestamp,
    /// Where charge points connect to, without the identity: `ws://127.0.0.1:8180/ocpp/`.
    pub connect_url: String,
    /// Where the JSON API is: `http://127.0.0.1:8180/api`.
    pub api_url: String,
    /// Who may connect.
    pub admission: Admission,
    /// How many there are, shown or not.
    pub counts: Counts,
    /// The stations, in the order of their identities; not all of them where there are too many.
    pub stations: Vec<StationView>,
    /// The transactions that run, the newest first; not all of them where there are too many.
    pub transactions: Vec<TransactionView>,
    /// The effects that are not concluded, those in doubt first.
    pub effects: Vec<EffectView>,
    /// Remote starts that were accepted and that nobody followed, the newest first.
    pub lapsed: Vec<LapsedView>,
    /// What follows the log, and how far behind it is.
    pub consumers: Vec<ConsumerView>,
    /// What waits for a person there; not all of it where there is too much.
    pub parked: Vec<ParkedView>,
    /// How much waits, shown or not.
    pub parked_total: usize,
    /// Why a part of the page cannot be shown, where it cannot.
    pub missing: Option<String>,
}

/// A remote start in vain.
#[derive(Clone, Debug, PartialEq)]
pub struct LapsedView {
    /// The station.
    pub station: String,
    /// The connector, where one was named.
    pub connector: Option<u32>,
    /// For whom.
    pub id_tag: String,
    /// When its time was over.
    pub at: Timestamp,
}

/// Something that follows the log.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerView {
    /// What it is called; with its version where two of one run.
    pub name: String,
    /// What it is.
    pub kind: ConsumerKind,
    /// Where it stands.
    pub position: u64,
    /// How many events of the log it has before it.
    pub behind: u64,
    /// How many it takes a second.
    pub per_second: u64,
    /// How long it takes to the end, in seconds, where it moves.
    pub seconds_left: Option<u64>,
    /// What it waits for.
    pub waits_for: String,
    /// How it is.
    pub state: ConsumerState,
}

/// What follows the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerKind {
    /// A read model.
    ReadModel,
    /// A process.
    Process,
    /// An effect.
    Effect,
}

/// How a consumer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerState {
    /// It has taken up everything.
    UpToDate,
    /// It is on its way.
    CatchingUp,
    /// It is built, and readers do not see it yet.
    Building,
    /// It does not move.
    Stuck,
    /// Something of it waits for a person.
    Waits,
    /// Another process does its work.
    Standby,
}

/// Something that waits for a person.
#[derive(Clone, Debug, PartialEq)]
pub struct ParkedView {
    /// Who has parked it.
    pub consumer: String,
    /// Where the routes to answer are: `/api/read-models/transactions`.
    pub route: String,
    /// The event.
    pub position: u64,
    /// What waits with it: a key, or an instance.
    pub key: String,
    /// What went wrong; none where it waits behind another one.
    pub error: Option<String>,
    /// What the route takes to try it again, as JSON.
    pub retry: String,
    /// What the route takes to let it go, as JSON.
    pub skip: String,
}

/// The page of transactions.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionsView {
    /// The moment.
    pub as_of: Timestamp,
    /// What the reader wants to see, as it stands in the form.
    pub station: String,
    /// The same.
    pub id_tag: String,
    /// Whether only those that run, or only those that do not, are shown.
    pub open: Option<bool>,
    /// The transactions, or why they cannot be read.
    pub rows: Result<Vec<TransactionLine>, String>,
    /// Where older ones are.
    pub older: Option<String>,
}

/// A transaction in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionLine {
    /// What all transactions have.
    pub transaction: TransactionView,
    /// How it stands.
    pub state: &'static str,
    /// What kind of state that is.
    pub tone: Tone,
    /// When it stopped.
    pub stopped_at: Option<Timestamp>,
}

/// The daily report.
#[derive(Clone, Debug, PartialEq)]
pub struct EnergyView {
    /// The first day, as it stands in the form.
    pub from: String,
    /// The last day.
    pub to: String,
    /// The station, where only one is wanted.
    pub station: String,
    /// The days with what was charged, the newest first, or why they cannot be read.
    pub days: Result<Vec<EnergyDay>, String>,
    /// Whether there is more than is shown.
    pub is_cut: bool,
}

/// A day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnergyDay {
    /// Which, as a date.
    pub date: String,
    /// What was charged at each station: its identity, Wh, and how many transactions.
    pub stations: Vec<(String, i64, i64)>,
}

/// How many there are.
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

/// Who may connect.
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
    /// Vendor and model, where it has said them.
    pub model: Option<String>,
    /// Its firmware, where it has said it.
    pub firmware: Option<String>,
    /// Whether it can be reached.
    pub connection: Connection,
    /// Its connectors by number; 0 is the station itself.
    pub connectors: Vec<ConnectorView>,
}

/// Whether a station can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It can, since then.
    Online(Timestamp),
    /// It cannot, since then.
    Offline(Timestamp),
    /// Nothing was heard of it since the server started.
    Unknown,
}

/// One connector.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectorView {
    /// Its number; 0 is the station itself.
    pub number: u32,
    /// Its status in OCPP's word.
    pub status: String,
    /// What kind of status that is.
    pub tone: Tone,
    /// What is wrong, where something is.
    pub error: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// What it is kept for, where it is: a remote start that was asked for.
    pub held_for: Option<String>,
}

/// What kind of status it is: never told by colour alone.
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
    /// The connector, where it is known.
    pub connector: Option<u32>,
    /// Who charges.
    pub id_tag: String,
    /// Since when.
    pub started_at: Timestamp,
    /// Energy so far in watt-hours, where the meter says it.
    pub energy_wh: Option<i64>,
    /// The moment of the last meter value.
    pub last_meter_at: Option<Timestamp>,
}

/// An effect that is not concluded.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectView {
    /// Its id.
    pub id: u64,
    /// What it is, in words: `Remote start`.
    pub name: String,
    /// The station.
    pub station: String,
    /// What it is about: connector and tag, or a transaction.
    pub about: String,
    /// How it stands.
    pub state: OpenState,
    /// When it was asked for.
    pub requested_at: Timestamp,
}

/// How an open effect stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenState {
    /// It is being carried out, or waits to be.
    InFlight,
    /// It is tried again.
    Waiting(String),
    /// Whether it took place is not known.
    InDoubt(String),
}
