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
