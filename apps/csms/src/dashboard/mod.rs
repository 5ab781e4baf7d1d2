//! The dashboard: one page, rendered on the server, live.
//!
//! Pure functions from a [`View`]: [`page`] is the document, [`live`] the part of it that changes. The page listens to
//! server-sent events at `/live`; each event named `view` carries a new [`live`] as its data, each line of it as a
//! `data:` line. Style and script are assets of their own, so that the page needs no inline code.

mod markup;
mod render;
#[cfg(test)]
mod tests;
mod view;

pub use render::{live, page};
pub use view::{Admission, Connection, ConnectorView, Counts, EffectView, OpenState, StationView, Tone, TransactionView, View};

/// The style sheet, served at `/dashboard.css`.
pub const STYLE: &str = include_str!("style.css");
/// The script, served at `/dashboard.js`.
pub const SCRIPT: &str = include_str!("live.js");
/// What the page may load and run: nothing but its own.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
