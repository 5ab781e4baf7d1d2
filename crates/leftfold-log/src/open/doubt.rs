//! Doubts about the machine's clock, before a log records what it says: recorded time never goes
//! back.

use std::fmt;
use std::time::Duration;

use leftfold_core::store::Timestamp;

use crate::clock::{CLOCK_JUMP_MAX, LogClock};
use crate::format::{NO_TIME, SegmentHeader};
use crate::options::{ClockDoubtful, Options};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest time without a record that is believed: a clock that says that more has passed is
/// doubted.
pub const PAUSE_MAX: Duration = DAY.saturating_mul(366);
/// Same limit for a log whose segments show that it was written regularly, if none of them took
/// longer to fill.
pub const REGULAR_PAUSE_MAX: Duration = DAY.saturating_mul(30);
/// Longest time after the program was made that a clock may show if the log has no record to
/// compare it with: 20 years.
pub const PROGRAM_AGE_MAX: Duration = DAY.saturating_mul(20 * 365);

/// Segments that show whether a log was written regularly.
const STRETCHES_MIN: usize = 8;

/// Reason to doubt the machine's clock when a log is opened to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockDoubt {
    /// Time of the clock.
    pub now: Timestamp,
    /// Moment that is known from another source.
    pub known: Timestamp,
    /// Source of the known moment.
    pub witness: ClockWitness,
}

/// Source of a moment that a clock is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockWitness {
    /// The last record of the log.
    LastRecord,
    /// The time of the file of the last segment, as the file system has it.
    SegmentFile,
    /// The time of the program's own file, or of the first release of this crate.
    Program,
}

impl fmt::Display for ClockDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let witness = match self.witness {
            ClockWitness::LastRecord => "the last record of the log",
            ClockWitness::SegmentFile => "the last change of the log's last file",
            ClockWitness::Program => "the making of the program",
        };
        let (relation, apart) = if self.now > self.known {
            ("after", self.now.since(self.known))
        } else {
            ("before", self.known.since(self.now))
        };
        let days = apart.as_secs() / DAY.as_secs();
        write!(
            f,
            "the clock says {}, which is {days} days {relation} {witness}, {}",
            self.now, self.known
        )
    }
}

/// Recorded and file times of a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogTimes<'a> {
    /// The headers of its segments, if there are any.
    pub(crate) headers: &'a [SegmentHeader],
    /// The recorded time of the last group, as it is stored.
    pub(crate) last: i64,
    /// Moment at which the file of the last segment was changed; `None` if it is not known.
    pub(crate) changed: Option<Timestamp>,
}

impl LogTimes<'_> {
    /// A log that is to be begun.
    pub(crate) const NONE: Self = Self { headers: &[], last: NO_TIME, changed: None };

    /// Returns the longest time without a record that is believed: the longest time that a segment
    /// took to fill, if there are enough segments to tell. A pause within a segment is no longer
    /// than that.
    fn pause_max(&self) -> Duration {
        let ends: Vec<i64> = self
            .headers
            .iter()
            .skip(1)
            .map(|header| header.recorded_at)
            .chain([self.last])
            .collect();
        if ends.len() <= STRETCHES_MIN {
            return PAUSE_MAX;
        }
        let stretches = ends
            .windows(2)
            .map(|pair| Timestamp::from_micros(pair[1]).since(Timestamp::from_micros(pair[0])));
        stretches.max().unwrap_or_default().clamp(REGULAR_PAUSE_MAX, PAUSE_MAX)
    }
}

/// Returns a reason to doubt the clock, if there is one. A clock that is behind the last record is
/// another case ([`ClockBehind`](crate::ClockBehind)).
pub(crate) fn of(clock: &dyn LogClock, history: LogTimes<'_>) -> Option<ClockDoubt> {
    let now = clock.wall();
    let doubt = |known, witness| Some(ClockDoubt { now, known, witness });
    let program = clock.program_made();
    match program {
        Some(made) if made.since(now) > CLOCK_JUMP_MAX => {
            return doubt(made, ClockWitness::Program);
        }
        Some(made) if history.last == NO_TIME && now.since(made) > PROGRAM_AGE_MAX => {
            return doubt(made, ClockWitness::Program);
        }
        _ => {}
    }
    if history.last == NO_TIME {
        return None;
    }
    let recorded = Timestamp::from_micros(history.last);
    let (known, witness) = match history.changed {
        Some(changed) if changed.since(recorded) > DAY => (changed, ClockWitness::SegmentFile),
        _ => (recorded, ClockWitness::LastRecord),
    };
    let is_behind = witness == ClockWitness::SegmentFile && known.since(now) > CLOCK_JUMP_MAX;
    if is_behind || now.since(known) > history.pause_max() { doubt(known, witness) } else { None }
}

/// Warns of a doubt, or is the error that was asked for.
pub(crate) fn judge(
    options: &Options,
    history: LogTimes<'_>,
) -> Result<Option<ClockDoubt>, ClockDoubt> {
    let doubt = of(&*options.clock, history);
    match (doubt, options.clock_doubtful) {
        (Some(doubt), ClockDoubtful::Refuse) => Err(doubt),
        (doubt, _) => Ok(doubt),
    }
}

#[cfg(test)]
mod tests {
    use leftfold_core::store::{Epoch, Hash, Position, StoreId};

    use super::*;
    use crate::format::Binding;

    #[derive(Debug)]
    struct Says {
        now: Timestamp,
        made: Option<Timestamp>,
    }

    impl LogClock for Says {
        fn wall(&self) -> Timestamp {
            self.now
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }

        fn program_made(&self) -> Option<Timestamp> {
            self.made
        }
    }

    fn day(number: i64) -> Timestamp {
        Timestamp::from_micros(number * 86_400_000_000)
    }

    /// Segments that were filled on these days, and a last record.
    fn segments(ends: &[i64]) -> Vec<SegmentHeader> {
        let header = |recorded_at| SegmentHeader {
            store: StoreId::random(),
            epoch: Epoch::first(),
            length_before: 0,
            number: 1,
            first: Position(1),
            hash: Hash::EMPTY,
            recorded_at,
            binding: Binding::Address,
        };
        [NO_TIME]
            .into_iter()
            .chain(ends.iter().map(|end| day(*end).as_micros()))
            .map(header)
            .collect()
    }

    fn witness(now: i64, made: Option<i64>, history: LogTimes<'_>) -> Option<ClockWitness> {
        of(&Says { now: day(now), made: made.map(day) }, history).map(|doubt| doubt.witness)
    }

    #[test]
    fn a_clock_is_held_against_what_is_known() {
        use ClockWitness::{LastRecord, Program, SegmentFile};
        let log = |last: i64, changed: Option<i64>| LogTimes {
            headers: &[],
            last: day(last).as_micros(),
            changed: changed.map(day),
        };
        let cases = [
            (20_000, None, LogTimes::NONE, None),
            (20_000, Some(19_000), LogTimes::NONE, None),
            (0, Some(20_000), LogTimes::NONE, Some(Program)),
            (19_998, Some(20_000), log(19_000, None), Some(Program)),
            (20_000 + 7_400, Some(20_000), LogTimes::NONE, Some(Program)),
            (20_000 + 7_400, Some(20_000), log(27_399, None), None),
            (20_366, None, log(20_000, None), None),
            (20_367, None, log(20_000, None), Some(LastRecord)),
            (20_367, None, log(20_000, Some(20_300)), None),
            (20_700, None, log(20_000, Some(20_300)), Some(SegmentFile)),
            (20_100, None, log(20_000, Some(20_300)), Some(SegmentFile)),
            (19_999, None, log(20_000, Some(20_000)), None),
        ];
        for (now, made, history, expected) in cases {
            assert_eq!(
                witness(now, made, history),
                expected,
                "day {now}, made {made:?}, {history:?}"
            );
        }
    }

    #[test]
    fn a_log_that_was_written_regularly_is_missed_sooner() {
        let days = |step: i64| (0..10).map(|n| 20_000 + n * step).collect::<Vec<_>>();
        for (ends, pause, is_doubted) in [
            (days(5), 31, true),
            (days(5), 29, false),
            (days(100), 99, false),
            (days(100), 101, true),
            (days(5)[..8].to_vec(), 300, false),
        ] {
            let (headers, end) = (segments(&ends[..ends.len() - 1]), ends[ends.len() - 1]);
            let history = LogTimes { headers: &headers, last: day(end).as_micros(), changed: None };
            assert_eq!(
                witness(end + pause, None, history).is_some(),
                is_doubted,
                "{ends:?} and {pause} days"
            );
        }
    }

    #[test]
    fn a_doubt_says_both_moments_and_how_far_they_are_apart() {
        let doubt =
            ClockDoubt { now: day(20_400), known: day(20_000), witness: ClockWitness::LastRecord };
        let text = "the clock says 2025-11-08T00:00:00Z, which is 400 days after the last record of the log, 2024-10-04T00:00:00Z";
        assert_eq!(doubt.to_string(), text);
        assert!(
            ClockDoubt { now: day(1), ..doubt }
                .to_string()
                .contains("19999 days before the last record")
        );
    }
}
