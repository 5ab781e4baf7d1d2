//! Contents of the dashboard as plain values.

use leftfold::prelude::Timestamp;

/// Everything on the page, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LiveView {
    /// Moment of the view.
    pub(crate) as_of: Timestamp,
    /// URL that charge points connect to, without the identity: `ws://127.0.0.1:8180/ocpp/`.
    pub(crate) connect_url: String,
    /// URL of the JSON API: `http://127.0.0.1:8180/api`.
    pub(crate) api_url: String,
    /// Stations and id tags that are accepted.
    pub(crate) admission: Admission,
    /// Totals, including items that are not shown.
    pub(crate) counts: Counts,
    /// The stations, in the order of their identities; only the first of them if there are too
    /// many.
    pub(crate) stations: Vec<StationView>,
    /// The transactions that run, the newest first; only the newest if there are too many.
    pub(crate) transactions: Vec<TransactionView>,
    /// The effects that are not concluded; the page shows those in doubt first.
    pub(crate) effects: Vec<EffectView>,
    /// Remote starts that were accepted and led to no transaction, the newest first.
    pub(crate) lapsed: Vec<LapsedView>,
    /// Consumers of the log, with their progress.
    pub(crate) consumers: Vec<ConsumerView>,
    /// The servers that share the store; empty if no other server can.
    pub(crate) servers: Vec<ServerView>,
    /// Parked items that wait for a person; only the first of them if there are too many.
    pub(crate) parked: Vec<ParkedView>,
    /// Number of all parked items, including those that are not shown.
    pub(crate) parked_total: usize,
    /// Error of reading a part of the page; `None` if all of it can be shown.
    pub(crate) missing: Option<String>,
}

/// A remote start in vain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LapsedView {
    /// The station.
    pub(crate) station: String,
    /// Connector; `None` if the request named none.
    pub(crate) connector: Option<u32>,
    /// Id tag that was to charge.
    pub(crate) id_tag: String,
    /// Moment when its time was over.
    pub(crate) at: Timestamp,
}

/// Consumer of the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConsumerView {
    /// Name; with the version if two versions of it run.
    pub(crate) name: String,
    /// Kind of the consumer.
    pub(crate) kind: ConsumerKind,
    /// Position that it has reached in the log.
    pub(crate) position: u64,
    /// Events of the log that it has not gone past.
    pub(crate) behind: u64,
    /// Events that it goes past in a second.
    pub(crate) per_second: u64,
    /// Seconds to the end of the log at its present speed; `None` if it is behind and does not
    /// move.
    pub(crate) seconds_left: Option<u64>,
    /// Description of the thing that it waits for.
    pub(crate) waits_for: String,
    /// State of the consumer.
    pub(crate) state: ConsumerState,
}

/// One of the servers that share the store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServerView {
    /// Its name.
    pub(crate) name: String,
    /// True if it was told to stop.
    pub(crate) stops: bool,
    /// Work that it does for all of them, each with what it waits for.
    pub(crate) works: Vec<(String, String)>,
}

/// Kind of a consumer of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConsumerKind {
    /// A read model.
    ReadModel,
    /// A process.
    Process,
    /// An effect.
    Effect,
}

/// State of a consumer of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConsumerState {
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
pub(crate) struct ParkedView {
    /// Name of the read model or process that parked it.
    pub(crate) consumer: String,
    /// Path that the routes to answer begin with: `/api/read-models/transactions`.
    pub(crate) route: String,
    /// Position of the event.
    pub(crate) position: u64,
    /// Key, instance or stream that waits with it.
    pub(crate) key: String,
    /// Error that parked it; `None` if it waits behind another parked event.
    pub(crate) error: Option<String>,
    /// Body of the request that tries it again, as JSON.
    pub(crate) retry: String,
    /// Body of the request that skips it, as JSON.
    pub(crate) skip: String,
}

/// The page of transactions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TransactionsView {
    /// Moment of the view.
    pub(crate) as_of: Timestamp,
    /// Station to list, as it stands in the form; empty for all.
    pub(crate) station: String,
    /// Id tag to list, as it stands in the form; empty for all.
    pub(crate) id_tag: String,
    /// True for running transactions only, false for the others only; `None` for all.
    pub(crate) open: Option<bool>,
    /// The transactions, or the error of reading them.
    pub(crate) rows: Result<Vec<TransactionLine>, String>,
    /// URL of the page with older ones; `None` if there are none.
    pub(crate) older: Option<String>,
}

/// A transaction in a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TransactionLine {
    /// Data that every list of transactions shows.
    pub(crate) transaction: TransactionView,
    /// State in one word.
    pub(crate) state: &'static str,
    /// Tone of the state.
    pub(crate) tone: Tone,
    /// Moment of the stop; `None` if no stop was reported.
    pub(crate) stopped_at: Option<Timestamp>,
}

/// The daily report.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EnergyView {
    /// The first day, as it stands in the form.
    pub(crate) from: String,
    /// The last day.
    pub(crate) to: String,
    /// The station, as it stands in the form; empty for all.
    pub(crate) station: String,
    /// The days with the energy charged, the newest first, or the error of reading them.
    pub(crate) days: Result<Vec<EnergyDay>, String>,
    /// True if there are more rows than are shown.
    pub(crate) is_cut: bool,
}

/// A day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnergyDay {
    /// Date, such as `2026-05-04`, in UTC.
    pub(crate) date: String,
    /// Identity, energy in Wh and number of transactions of each station.
    pub(crate) stations: Vec<(String, i64, i64)>,
}

/// Totals on the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Stations.
    pub(crate) stations: usize,
    /// Stations that are online.
    pub(crate) online: usize,
    /// Transactions that run.
    pub(crate) running: usize,
    /// Connectors, and stations as a whole, that are faulted.
    pub(crate) faulted: usize,
}

/// Stations and id tags that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Any station and any id tag: on this machine only.
    Open,
    /// Registered stations and known id tags.
    Registered,
}

/// One station.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StationView {
    /// Its identity, as in its URL.
    pub(crate) identity: String,
    /// Vendor and model; `None` if the station has not sent them.
    pub(crate) model: Option<String>,
    /// Version of the firmware; `None` if the station has not sent it.
    pub(crate) firmware: Option<String>,
    /// Connection of the station.
    pub(crate) connection: ConnectionView,
    /// Its connectors by number; 0 is the station itself.
    pub(crate) connectors: Vec<ConnectorView>,
}

/// Connection of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionView {
    /// Online, since this moment.
    Online(Timestamp),
    /// Offline, since this moment.
    Offline(Timestamp),
    /// Never heard of since it became known.
    Unknown,
}

/// One connector.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConnectorView {
    /// Its number; 0 is the station itself.
    pub(crate) number: u32,
    /// Its status in OCPP's word.
    pub(crate) status: String,
    /// Tone of the status.
    pub(crate) tone: Tone,
    /// Error code; `None` if there is no error.
    pub(crate) error: Option<String>,
    /// Moment since which the status holds; `None` if no status was reported.
    pub(crate) since: Option<Timestamp>,
    /// Text about the remote start or the reservation that it is kept for; `None` if it is not
    /// kept.
    pub(crate) held_for: Option<String>,
}

/// Kind of a status; never told by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
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
pub(crate) struct TransactionView {
    /// Its id.
    pub(crate) id: i64,
    /// The station.
    pub(crate) station: String,
    /// Connector; `None` if it is not known.
    pub(crate) connector: Option<u32>,
    /// Id tag that started it.
    pub(crate) id_tag: String,
    /// Moment of the start.
    pub(crate) started_at: Timestamp,
    /// Energy so far in watt-hours; `None` if the meter does not tell it.
    pub(crate) energy_wh: Option<i64>,
    /// Moment of the last meter value; `None` if there was none.
    pub(crate) last_meter_at: Option<Timestamp>,
}

/// An effect that is not concluded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EffectView {
    /// Its id.
    pub(crate) id: u64,
    /// Name of the effect.
    pub(crate) name: String,
    /// Identity of the station.
    pub(crate) station: String,
    /// Details of the request: connector and tag, or a transaction.
    pub(crate) about: String,
    /// State of the effect.
    pub(crate) state: OpenState,
    /// Moment when it was requested.
    pub(crate) requested_at: Timestamp,
}

/// State of an open effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OpenState {
    /// It is being carried out, or waits to be.
    InFlight,
    /// It is tried again, because of this reason.
    Waiting(String),
    /// It is unknown if it took place, for this reason.
    InDoubt(String),
}

/// The page that asks for name and password.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoginPage {
    /// Name that was tried.
    pub(crate) name: String,
    /// Reason why nobody is logged in yet, for people; `None` at first.
    pub(crate) fault: Option<String>,
    /// Path to go on to.
    pub(crate) next: String,
}

/// The page of the caller's own account.
#[derive(Clone, Debug)]
pub(crate) struct AccountPage {
    /// Moment that it is of.
    pub(crate) as_of: Timestamp,
    /// Id of the user; `None` if the caller is none.
    pub(crate) user: Option<String>,
    /// Name of the caller.
    pub(crate) name: String,
    /// Role of the caller.
    pub(crate) role: &'static str,
    /// True if the caller may say who may call.
    pub(crate) may_manage: bool,
    /// Begin and last use of the open sessions.
    pub(crate) sessions: Vec<(Timestamp, Timestamp)>,
}

/// The page of users and tokens.
#[derive(Clone, Debug)]
pub(crate) struct PeoplePage {
    /// Roles that there are.
    pub(crate) roles: Vec<&'static str>,
    /// The users.
    pub(crate) users: Vec<UserLine>,
    /// The tokens.
    pub(crate) tokens: Vec<TokenLine>,
}

/// A user.
#[derive(Clone, Debug)]
pub(crate) struct UserLine {
    /// Id of the user.
    pub(crate) id: String,
    /// Name; `None` if it was forgotten.
    pub(crate) name: Option<String>,
    /// Role of the user.
    pub(crate) role: &'static str,
    /// State of the user, in a word.
    pub(crate) state: &'static str,
    /// True if it is the one who looks at the page.
    pub(crate) is_own: bool,
}

/// A token.
#[derive(Clone, Debug)]
pub(crate) struct TokenLine {
    /// Id of the token.
    pub(crate) id: String,
    /// Name of the program.
    pub(crate) name: String,
    /// Role of the program.
    pub(crate) role: &'static str,
    /// State of the token, in a word.
    pub(crate) state: &'static str,
    /// Moment when it expires.
    pub(crate) expires_at: Timestamp,
}
