//! The dashboard: rendered on the server; its first page is live.
//!
//! Pure functions from a [`View`]: [`page`] is the document, [`live`] the part of it that changes.
//! The page listens to server-sent events at `/live`; each event named `view` carries a new
//! [`live`] as its data, each line of it as a `data:` line. Style and script are assets of their
//! own, so that the page needs no inline code.

mod consumers;
mod markup;
mod pages;
mod render;
#[cfg(test)]
mod tests;
mod view;

pub use pages::{energy_page, transactions_page};
pub use render::{live, page};
pub use view::{
    Admission, Connection, ConnectorView, ConsumerKind, ConsumerState, ConsumerView, Counts,
    EffectView, EnergyDay, EnergyView, LapsedView, OpenState, ParkedView, StationView, Tone,
    TransactionLine, TransactionView, TransactionsView, View,
};

/// The style sheet, served at `/dashboard.css`.
pub const STYLE: &str = include_str!("style.css");
/// The script, served at `/dashboard.js`.
pub const SCRIPT: &str = include_str!("live.js");
/// Content security policy of the page: it may load and run nothing but its own assets.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
