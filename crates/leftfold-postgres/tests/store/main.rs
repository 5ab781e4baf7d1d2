//! The store in PostgreSQL.

mod chain;
mod conformance;
mod support;
