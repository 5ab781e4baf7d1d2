//! The store in PostgreSQL.

mod chain;
mod conformance;
mod ledger;
mod processes;
mod support;
