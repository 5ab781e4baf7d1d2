//! The whole system: the real server, driven by a charge point that nobody here wrote and by its API.

mod input;
mod reconnect;
mod remote_start;
mod server;
mod session;
mod station;
