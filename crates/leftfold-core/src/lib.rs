//! The model and the runtime of Leftfold: state is a left fold of events.
//!
//! - [`store`]: the words, the contract that every backend fulfils, and the [`Store`](store::Store)
//!   handle.
//! - [`fold`]: events, aggregates, decisions, snapshots, upcasters.
//!
//! - [`runtime`]: what runs behind the log: effects, processes, inboxes, projections.
//! - [`copy`]: copying a store into a new one through a function.
//! - [`operations`]: a store as lines of JSON, and back.
#![cfg_attr(
    feature = "personal",
    doc = "- [`personal`]: personal data, sealed with the key of its subject, and forgetting it."
)]
//!
//! This crate knows no backend but the one in memory.

// Beside these, `json` carries the values of users exactly, `panic` makes errors of panics in their
// code, `span` has the spans of tracing, `percent` decodes the URLs of backends, and `drive` is the
// interface for the testing kit.
// `personal` is there by its feature.

pub mod copy;
#[doc(hidden)]
pub mod drive;
pub mod fold;
mod json;
pub mod operations;
mod panic;
#[doc(hidden)]
pub mod percent;
#[cfg(feature = "personal")]
pub mod personal;
pub mod runtime;
pub mod span;
pub mod store;
