//! Records of those who were refused: bounded in all, so that a stranger does not fill the disk.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::AddressPrefix;

/// Time between two tellings.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Prefixes and users of whom is told one by one; the others are counted together.
const PARTIES_MAX: usize = 256;

/// One of whom refusals are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum RefusedParty {
    /// Callers of whom nobody knows who they are.
    Prefix(AddressPrefix),
    User(Arc<str>),
}

impl fmt::Display for RefusedParty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => write!(f, "{prefix}"),
            Self::User(name) => write!(f, "the user {name}"),
        }
    }
}

/// Counts of refused callers since the last telling.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<RefusalCounts>);

#[derive(Debug, Default)]
struct RefusalCounts {
    of: HashMap<RefusedParty, u64>,
    /// Of all who had no room.
    others: u64,
}

impl Refusals {
    /// Counts a caller of whom nobody knows who it is.
    pub fn count_stranger(&self, prefix: AddressPrefix) {
        self.count(RefusedParty::Prefix(prefix));
    }

    /// Records a user who may not do something: the first time in a minute with the reason.
    pub fn record_user(&self, user: &Arc<str>, store: &str, reason: &dyn fmt::Display) {
        if self.count(RefusedParty::User(Arc::clone(user))) == 1 {
            tracing::warn!(%user, store, %reason, "a user was refused");
        }
    }

    /// Counts once more, and returns the count; 0 if it is counted with others.
    fn count(&self, party: RefusedParty) -> u64 {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.of.len() >= PARTIES_MAX && !counts.of.contains_key(&party) {
            counts.others += 1;
            return 0;
        }
        let count = counts.of.entry(party).or_default();
        *count += 1;
        *count
    }

    /// Tells the counts once a minute, and a last time when the server stops.
    pub async fn tell(&self, stopping: impl Future<Output = ()>) {
        let mut stopping = std::pin::pin!(stopping);
        let mut is_last = false;
        while !is_last {
            is_last = tokio::time::timeout(TOLD_EVERY, stopping.as_mut()).await.is_ok();
            for (who, count) in self.lines() {
                tracing::warn!(%who, count, "calls were refused");
            }
        }
    }

    /// Returns what is told, and begins to count anew.
    fn lines(&self) -> Vec<(String, u64)> {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        // One refusal of a user was told with its reason.
        let is_new = |(party, count): &(RefusedParty, u64)| {
            *count > 1 || matches!(party, RefusedParty::Prefix(_))
        };
        let of = counts.of.into_iter().filter(is_new).map(|(who, count)| (who.to_string(), count));
        let others = (counts.others > 0).then(|| ("others".to_owned(), counts.others));
        of.chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn the_refused_of_a_minute_are_one_line_a_prefix_and_bounded_in_all() {
        let refusals = Refusals::default();
        for number in 0..100_000_u32 {
            let address = IpAddr::V4(Ipv4Addr::from((number % 10_000) << 8));
            refusals.count_stranger(AddressPrefix::of(address));
        }
        let lines = refusals.lines();
        assert_eq!(lines.len(), PARTIES_MAX + 1);
        assert_eq!(lines.iter().map(|(_, count)| count).sum::<u64>(), 100_000);
        assert_eq!(refusals.lines(), []);
    }
}
