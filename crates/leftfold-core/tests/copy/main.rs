//! A store is copied into a new one through a function, and nothing is lost, doubled or fired again.

mod stage;
mod transform;
