//! What the tests are told with: a real server, real charge points, the API and a browser.
//!
//! - [`server`]: the binary `csms` on a free port of the loopback interface and a store of its own.
//! - [`station`]: a charge point, python/station.py, driven step by step.
//! - [`raw`]: a station on a bare socket, which answers no ping.
//! - [`proxy`]: what stands between a server and its database.
//! - [`api`]: the JSON API; what it answers with is spelt in [`views`], and only there.
//! - [`people`]: users who log in.
//! - [`certificates`]: authorities, and certificates of servers and stations, as files.
//! - [`browser`]: the dashboard as headless Chromium sees it; [`tab`] is one to click through.

pub(crate) mod api;
pub(crate) mod browser;
pub(crate) mod certificates;
pub(crate) mod deadline;
pub(crate) mod folder;
pub(crate) mod http;
pub(crate) mod people;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod server;
pub(crate) mod station;
pub(crate) mod tab;
pub(crate) mod views;

pub(crate) use api::Api;
pub(crate) use server::Server;
pub(crate) use station::{Policy, Station};
pub(crate) use views::State;
