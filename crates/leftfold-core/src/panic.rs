//! Panics of users' code, made errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Returns what the code returns, or what it panicked with. What it was given is to be thrown away
/// then.
#[inline]
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| message(&*panic))
}

/// Returns the words of a panic.
pub fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}
