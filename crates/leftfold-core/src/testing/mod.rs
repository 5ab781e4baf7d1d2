//! What users and backend writers test with.

mod clock;
pub mod conformance;
mod decided;
pub mod explorer;
mod given;
pub mod history;
pub mod key_store;
pub mod target;

pub use clock::HandClock;
pub use decided::{GivenEvents, WhenDecided, given_events};
pub use explorer::{Explorer, Schedules};
pub use given::{Given, When, given};

/// The append, made by the right of the runtime: it may write names that begin with `$`. For tests of a backend, which has
/// to keep such names apart; what an application wrote that way would be taken for the runtime's own memory.
#[must_use]
pub fn by_runtime(append: crate::store::Append) -> crate::store::Append {
    append.by(crate::store::Authority::RUNTIME)
}

/// The id of one of the runtime's own requests, as it is stored. For tests of what is recorded under it;
/// [`CommandId::new`](crate::store::CommandId::new) never gives such an id.
///
/// # Panics
/// If the scope is not one of the runtime's.
#[must_use]
pub fn command_id_of_runtime(scope: &str, key: &str) -> crate::store::CommandId {
    crate::store::CommandId::of_runtime(scope, key)
}

/// The seed of a random test: `LEFTFOLD_SEED` if it is set, or else a new one. It is printed, so
/// that a failure can be replayed.
///
/// # Panics
/// If `LEFTFOLD_SEED` is set to something that is not a number.
#[must_use]
pub fn seed() -> u64 {
    let seed = match std::env::var("LEFTFOLD_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("LEFTFOLD_SEED is {text:?}, set it to a number")),
        Err(_) => fastrand::u64(..),
    };
    eprintln!("replay with LEFTFOLD_SEED={seed}");
    seed
}

/// Returns the extent of a random test: `long` if `LEFTFOLD_LONG=1` is set, as
/// `cargo xtask test --long` does, and `plain` otherwise.
#[must_use]
pub fn extent(plain: u64, long: u64) -> u64 {
    if std::env::var_os("LEFTFOLD_LONG").is_some_and(|set| set == "1") { long } else { plain }
}
