//! What users and backend writers test with.

mod given;

pub use given::{Given, When, given};
