//! Mistakes of users: none is a panic or a wait without end, and each error says the type, the
//! place and what to write.

mod consumers;
mod model;
mod running;
#[path = "../runtime_stage/mod.rs"]
mod runtime_stage;
mod starting;
mod till;
mod unattended;

use std::fmt::Display;
use std::time::Duration;

/// Longest time, on a slow machine, of what must come at once.
const AT_ONCE: Duration = Duration::from_secs(20);

/// Returns what does not hang.
async fn at_once<T>(what: &str, comes: impl Future<Output = T>) -> T {
    tokio::time::timeout(AT_ONCE, comes).await.unwrap_or_else(|_| panic!("{what} hangs"))
}

/// The error of what fails.
fn error<T, E>(answer: Result<T, E>) -> E {
    match answer {
        Ok(_) => panic!("it is taken"),
        Err(error) => error,
    }
}

/// Checks that a text has everything that it must say.
fn says(text: impl Display, parts: &[&str]) {
    let text = text.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}
