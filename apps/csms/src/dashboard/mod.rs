//! The dashboard: rendered on the server; its first page is live.
//!
//! Pure functions from a [`LiveView`]: [`page`] is the document, [`live`] the part of it that
//! changes. The page listens to server-sent events at `/live`; each event named `view` carries a
//! new [`live`] as its data, each line of it as a `data:` line. Style and script are assets of
//! their own, so that the page needs no inline code.
//!
//! - `view`: what the pages show, as plain values; `web` fills them
//! - `live`: the first page; `consumers`: its sections about what follows the log, and on which of
//!   several servers
//! - `pages`: the other pages, all transactions and the daily report
//! - `people`: the login, one's own account, users and tokens
//! - `parts`: what the pages share; `markup`: HTML that nothing from outside can break out of

mod consumers;
mod live;
mod markup;
mod pages;
mod parts;
mod people;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use live::{live, page};
pub(crate) use pages::{energy_page, transactions_page};
pub(crate) use people::{account_page, login_page, people_page};
pub(crate) use view::{
    AccountPage, Admission, ConnectionView, ConnectorView, ConsumerKind, ConsumerState,
    ConsumerView, Counts, EffectView, EnergyDay, EnergyView, LapsedView, LiveView, LoginPage,
    OpenState, ParkedView, PeoplePage, ServerView, StationView, TokenLine, Tone, TransactionLine,
    TransactionView, TransactionsView, UserLine,
};

/// The style sheet, served at `/dashboard.css`.
pub(crate) const STYLE: &str = include_str!("style.css");
/// The script, served at `/dashboard.js`.
pub(crate) const SCRIPT: &str = include_str!("live.js");
/// The script of the pages about people, served at `/people.js`.
pub(crate) const PEOPLE_SCRIPT: &str = include_str!("people.js");
/// Content security policy of the page: it may load and run nothing but its own assets.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
