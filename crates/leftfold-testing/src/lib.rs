//! Testing kit for users and for writers of backends.
//!
//! - [`given()`] and [`given_events`]: the decision of an aggregate, or a
//!   [`Decision`](leftfold_core::fold::Decision), without a store.
//! - [`explorer`]: processes, effects and projections through crashes, delays and doubts.
//! - [`HandClock`]: a clock that a test moves.
//! - [`RefusingStore`]: a store that takes no appends for a while.
//! - [`conformance`], [`target`]: what every backend and every target of projections owes.
#![cfg_attr(feature = "personal", doc = "- [`key_store`]: what every key store owes.")]
//! - [`history`]: what concurrent tasks saw of a store, compared with its log.

// Of the private files, `given` judges an aggregate and `decided` a decision, and `refusing` is a
// store; `key_store` is a suite like `conformance` and `target`.

pub mod conformance;
mod decided;
pub mod explorer;
mod given;
pub mod history;
#[cfg(feature = "personal")]
pub mod key_store;
mod refusing;
pub mod target;

pub use decided::{GivenEvents, WhenDecided, given_events};
pub use explorer::{Explorer, Schedules};
pub use given::{Given, When, given};
pub use leftfold_core::drive::{HandClock, by_runtime, command_id_of_runtime};
pub use refusing::{RefusingStore, Treatment};

/// The seed of a random test: `LEFTFOLD_SEED` if it is set, or else a new one. It is printed, so
/// that a failure can be replayed.
///
/// ```
/// // In a test with random input: a failure prints what replays it.
/// let mut choices = fastrand::Rng::with_seed(leftfold_testing::seed());
/// let dice = choices.u8(1..=6);
/// assert!((1..=6).contains(&dice));
/// ```
///
/// # Panics
/// If `LEFTFOLD_SEED` is set to something that is not a number.
#[must_use]
pub fn seed() -> u64 {
    let seed = match std::env::var("LEFTFOLD_SEED") {
        Ok(text) => {
            text.parse().unwrap_or_else(|_| panic!("LEFTFOLD_SEED is {text:?}, set it to a number"))
        }
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
