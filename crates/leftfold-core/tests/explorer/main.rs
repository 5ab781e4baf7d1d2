//! The explorer finds what is planted, and finds nothing where nothing is wrong.

mod bookings;
mod cascade;
mod cash;
mod mails;
mod points;
mod reminders;
mod views;

use leftfold_testing::explorer::{Failure, Schedules};

/// Schedules that a system without a fault has to survive. Without optimization they take a minute.
const MANY: Schedules = Schedules(if cfg!(debug_assertions) { 1_000 } else { 10_000 });

/// Asserts what was found, with its story if anything of it is not as it should be.
pub fn is_found(failure: &Failure, name: &str, lines_max: usize) {
    eprintln!("{failure}\n");
    assert_eq!(failure.name, name, "{failure}");
    assert!(
        failure.story.len() <= lines_max,
        "the story has {} lines:\n{failure}",
        failure.story.len()
    );
}
