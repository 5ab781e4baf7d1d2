//! Versions of streams that the writer knows from earlier groups.

use std::collections::HashMap;

use leftfold_core::store::{StreamName, Version};

/// Streams of a generation at most: two are kept.
const STREAMS_MAX: usize = 10_000;

/// Versions of the streams that the latest groups asked about, as they are after one append: that
/// of no stream has changed if it is still the last one.
#[derive(Debug, Default)]
pub(super) struct KnownVersions {
    /// Number of the append.
    through: u64,
    young: HashMap<Box<str>, Version>,
    /// The generation before; what is not asked for again goes with it.
    old: HashMap<Box<str>, Version>,
}

impl KnownVersions {
    /// Number of the append after which they are known.
    pub(super) fn through(&self) -> u64 {
        self.through
    }

    pub(super) fn get(&self, stream: &StreamName) -> Option<Version> {
        let name: &str = stream;
        self.young.get(name).or_else(|| self.old.get(name)).copied()
    }

    /// Learns those of some streams after an append. Others are let go unless no append came
    /// between `since` and what is known.
    pub(super) fn learn(
        &mut self,
        (since, through): (u64, u64),
        versions: impl IntoIterator<Item = (StreamName, Version)>,
    ) {
        if self.through != since {
            (self.young, self.old) = (HashMap::new(), HashMap::new());
        }
        self.through = through;
        for (stream, version) in versions {
            match self.young.get_mut(&*stream) {
                Some(known) => *known = version,
                None => {
                    self.young.insert((*stream).into(), version);
                }
            }
        }
        if self.young.len() > STREAMS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(number: usize) -> StreamName {
        StreamName::new(format!("order-{number}")).unwrap()
    }

    #[test]
    fn versions_are_known_until_another_appends_and_the_oldest_are_let_go() {
        let mut known = KnownVersions::default();
        known.learn((0, 1), [(stream(1), Version(1)), (stream(2), Version(5))]);
        known.learn((1, 2), [(stream(1), Version(2))]);
        assert_eq!((known.through(), known.get(&stream(1))), (2, Some(Version(2))));
        assert_eq!(known.get(&stream(2)), Some(Version(5)));
        assert_eq!(known.get(&stream(3)), None);
        known.learn((3, 4), [(stream(3), Version(1))]);
        assert_eq!((known.get(&stream(1)), known.get(&stream(3))), (None, Some(Version(1))));
        let many = |from: usize| (from..=from + STREAMS_MAX).map(|at| (stream(at), Version(1)));
        known.learn((4, 5), many(10));
        assert_eq!(known.get(&stream(3)), Some(Version(1)));
        known.learn((5, 6), many(20));
        assert_eq!((known.get(&stream(3)), known.get(&stream(20))), (None, Some(Version(1))));
    }
}
