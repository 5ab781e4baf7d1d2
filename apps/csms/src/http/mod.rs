//! What every endpoint needs, be it for stations, programs or browsers.
//!
//! - `listener`: the sockets, their limits and their encryption
//! - `timed_body`: bodies that come in time
//! - `peer`: the other end of a connection
//! - `guard`: who calls; `access`: who may call which route
//! - `cookies`: how a browser keeps a session
//! - `problem`: errors as problem documents; `people_problem` those of users and tokens

mod access;
mod cookies;
mod guard;
mod listener;
mod peer;
mod people_problem;
mod problem;
mod timed_body;

pub(crate) use cookies::{SetCookies, browser_mark, ended_session, is_path_of_ours, kept_session};
pub(crate) use guard::{ApiCaller, CallerProof, guard, identify, refuse_foreign_host};
pub(crate) use listener::{Entrance, serve};
pub(crate) use peer::{ConnectionPeer, ConnectionProof};
pub(crate) use problem::Problem;
pub(crate) use problem::execute_failed;
