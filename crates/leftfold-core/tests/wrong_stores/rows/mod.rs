//! Which store breaks which rule.

mod append;
mod command;
mod event;
mod lease;
mod place;
mod read;

use crate::right::Wrong;

/// A rule, and a store that breaks it.
pub(crate) struct Row {
    pub(crate) rule: &'static str,
    /// Fault of the store.
    pub(crate) fault: &'static str,
    pub(crate) wrong: fn() -> Wrong,
    /// The other rules that it cannot but break.
    pub(crate) also: &'static [&'static str],
}

impl Row {
    /// It breaks these as well, because.
    const fn breaks_too(mut self, also: &'static [&'static str], because: &'static str) -> Self {
        assert!(!because.is_empty(), "there is a reason");
        self.also = also;
        self
    }
}

const fn row(rule: &'static str, fault: &'static str, wrong: fn() -> Wrong) -> Row {
    Row { rule, fault, wrong, also: &[] }
}

pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    let all = [
        append::POSITIONS,
        append::CALLERS,
        append::CONDITIONS,
        command::COMMANDS,
        command::CHECKPOINTS,
        event::ENVELOPES,
        event::LIMITS,
        event::PLACES,
        lease::TENURES,
        lease::FENCES,
        place::HASHES,
        place::APPENDS,
        place::ENDS,
        read::PAGES,
        read::MOVING,
        read::QUERIES,
    ];
    all.into_iter().flatten()
}
