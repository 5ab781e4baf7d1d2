//! The store in PostgreSQL.

mod away;
mod chain;
mod clocks;
mod conformance;
mod inline;
mod leases;
mod ledger;
mod lost_answers;
mod old_snapshots;
mod opening;
mod plans;
mod pooler;
mod processes;
mod proxy;
mod reading;
mod restored;
mod roles;
mod server_faults;
mod standby;
mod support;
