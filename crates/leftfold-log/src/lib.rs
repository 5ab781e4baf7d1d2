//! The embedded log of Leftfold.

pub mod disk;
// What the engine does not call yet is called by it once the two are joined.
#[allow(dead_code)]
mod index;
