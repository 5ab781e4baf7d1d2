//! Stores that a server keeps, over real sockets.

mod conformance;
mod cut;
mod support;
