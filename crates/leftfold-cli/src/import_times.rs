//! The times of events that are imported: those at which they were recorded first, as far as the
//! store can take them over.
//!
//! Time is a store's own, and never runs backwards. A log in a directory of this machine is opened
//! with a clock that shows the time of each event before it is recorded; so a log that is new has
//! the times of the source. It is closed at the time of its last event, so that an import that was
//! interrupted goes on behind that. Whatever is recorded at another time says its own in its
//! metadata.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use leftfold::log::{Existing, Log, LogClock, LogOpenError, MachineClock, Options};
use leftfold::store::limits::METADATA_BYTES_MAX;
use leftfold::store::{Backend, NewEvent, Store, Timestamp};

/// Member of the metadata of an event that has the moment at which it was recorded first.
pub(crate) const CREATED: &str = "$created";
/// Time by which a recorded time may be off without being told in the metadata: what was recorded
/// at one moment is recorded at several.
const OFF_MAX: Duration = Duration::from_millis(1);
/// The clock shows the time of the machine.
const MACHINE: i64 = i64::MIN;

/// The clock of a log that events are imported into.
#[derive(Debug)]
struct ImportClock {
    machine: MachineClock,
    /// Microseconds since 1970, or [`MACHINE`].
    shown: AtomicI64,
}

impl LogClock for ImportClock {
    fn wall(&self) -> Timestamp {
        match self.shown.load(Ordering::Acquire) {
            MACHINE => self.machine.wall(),
            micros => Timestamp::from_micros(micros).min(self.machine.wall()),
        }
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }

    fn slept(&self) -> Duration {
        self.machine.slept()
    }

    fn program_made(&self) -> Option<Timestamp> {
        self.machine.program_made()
    }
}

/// The times of a store that is imported into.
pub(crate) struct ImportTimes {
    /// `None` if the store has a clock that nobody sets.
    log: Option<(Log, Arc<ImportClock>)>,
}

impl ImportTimes {
    /// Times of a store elsewhere.
    pub(crate) fn of_store() -> Self {
        Self { log: None }
    }

    /// Opens the log in a directory, or makes one.
    pub(crate) fn open(path: &Path) -> Result<(Store, Self), LogOpenError> {
        let (machine, shown) = (MachineClock::default(), AtomicI64::new(MACHINE));
        let clock = Arc::new(ImportClock { machine, shown });
        let open = Existing::OrCreate;
        let options =
            Options { open, clock: Arc::<ImportClock>::clone(&clock), ..Options::default() };
        let (log, _) = Log::open(path, options)?;
        Ok((Store::new(log.clone()), Self { log: Some((log, clock)) }))
    }

    /// Tells whether the clock must be set for what is recorded next: everything before must have
    /// been answered then.
    pub(crate) fn must_be_set(&self, moment: Option<Timestamp>) -> bool {
        let shown = |clock: &ImportClock| clock.shown.load(Ordering::Acquire);
        self.log.as_ref().is_some_and(|(_, clock)| shown(clock) != shown_at(moment))
    }

    /// Lets the store record next at a moment, if it can, and has events say theirs that are
    /// recorded at another one. Everything before has been answered if the clock must be set.
    pub(crate) fn record_at(&self, moment: Option<Timestamp>, events: &mut [TimedEvent<'_>]) {
        let mut recorded = Timestamp::MIN;
        if let Some((log, clock)) = &self.log {
            clock.shown.store(shown_at(moment), Ordering::Release);
            log.follow_clock();
            let last = log.status().borrow().head.recorded_at;
            recorded = clock.wall().max(last.plus(Duration::from_micros(1)));
        }
        for (event, created) in events {
            let is_off = |created: &Timestamp| {
                recorded.since(*created) > OFF_MAX || created.since(recorded) > OFF_MAX
            };
            if let Some(created) = created.filter(is_off) {
                say_created(event, created);
            }
        }
    }
}

/// Returns what the clock shows for a moment; without one it shows the time of the machine.
fn shown_at(moment: Option<Timestamp>) -> i64 {
    moment.map_or(MACHINE, Timestamp::as_micros)
}

/// An event, and the moment at which it was recorded first.
pub(crate) type TimedEvent<'a> = (&'a mut NewEvent, Option<Timestamp>);

/// Adds the moment to the metadata of an event, which stay as they are otherwise. Metadata that are
/// no JSON object have no place for it, nor have those at their limit.
fn say_created(event: &mut NewEvent, created: Timestamp) {
    let before = event.metadata.user.trim_ascii_end();
    let members: serde_json::Map<String, serde_json::Value> = match before {
        b"" => serde_json::Map::new(),
        text => match serde_json::from_slice(text) {
            Ok(members) => members,
            Err(_) => return,
        },
    };
    if members.contains_key(CREATED) {
        return;
    }
    let begun = match (members.is_empty(), before.split_last()) {
        (false, Some((_, begun))) => [begun, b","].concat(),
        _ => b"{".to_vec(),
    };
    let said = [&begun[..], format!("\"{CREATED}\":\"{created}\"}}").as_bytes()].concat();
    if said.len() <= METADATA_BYTES_MAX {
        event.metadata.user = said.into();
    }
}

#[cfg(test)]
mod tests {
    use leftfold::store::EventType;

    use super::*;

    #[test]
    fn only_what_has_a_moment_of_its_own_waits_for_what_is_before() {
        let directory = tempfile::tempdir().unwrap();
        let (_store, times) = ImportTimes::open(directory.path()).unwrap();
        let moment = |second: i64| Some(Timestamp::from_micros(second * 1_000_000));
        // UmaDB tells no times, so nothing sets the clock.
        assert!(!times.must_be_set(None) && times.must_be_set(moment(1)));
        times.record_at(moment(1), &mut []);
        assert!(!times.must_be_set(moment(1)));
        assert!(times.must_be_set(moment(2)) && times.must_be_set(None));
        assert!(!ImportTimes::of_store().must_be_set(moment(1)));
    }

    #[test]
    fn metadata_say_when_an_event_was_recorded_first_if_they_have_a_place_for_it() {
        let moment: Timestamp = "2019-05-06T07:08:09.5Z".parse().unwrap();
        let said = |metadata: &'static str| {
            let mut event = NewEvent::new(EventType::new("shop.Sold").unwrap(), "{}");
            event.metadata.user = metadata.into();
            ImportTimes::of_store().record_at(None, &mut [(&mut event, Some(moment))]);
            String::from_utf8(event.metadata.user.to_vec()).unwrap()
        };
        let created = r#""$created":"2019-05-06T07:08:09.5Z"}"#;
        assert_eq!(said(""), format!("{{{created}"));
        assert_eq!(said("{ }"), format!("{{{created}"));
        assert_eq!(said("{\"a\": 1 }\n"), format!("{{\"a\": 1 ,{created}"));
        for other in ["[1]", "text", "{\"$created\":1}"] {
            assert_eq!(said(other), other);
        }
    }
}
