//! Stores that a server keeps, over real sockets.

mod conformance;
mod support;
