//! Clocks of stations: many are wrong until the station has heard from us, and some for ever.
//!
//! One pair of bounds decides for all of csms. The order of events needs a place only, so a moment
//! that is ahead of ours counts there as that of its arrival ([`believed`]). Energy is bounded by
//! the time between two moments, so it needs them as they were shown ([`believed_as_shown`]).

use std::time::Duration;

use leftfold::prelude::Timestamp;

/// The earliest moment that a station's clock can show, in microseconds: 2020-01-01T00:00:00Z. A
/// clock that was never set begins at the epoch, or at a year of its chip or of its firmware, such
/// as 2000, 2010 and 2015; and no report waits in a queue for longer than there has been csms.
const EARLIEST_MICROS: i64 = 1_577_836_800_000_000;
/// Time that a station's clock may be ahead of ours; a wrong time zone is half a day.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);
/// Time that a clock which is set right may be ahead of ours: it drifts until the next heartbeat.
const DRIFT_MAX: Duration = Duration::from_secs(10 * 60);

/// Returns the moment that a station's clock showed, as far as it can be believed: at most the
/// moment of arrival, since nothing is reported before it happens. `None` if the station gave no
/// moment, or one that cannot be: then only the order of arrival tells anything.
#[must_use]
pub(crate) fn believed(shown: Option<Timestamp>, received_at: Timestamp) -> Option<Timestamp> {
    let shown = shown?;
    let is_plausible = shown.as_micros() >= EARLIEST_MICROS && shown <= received_at.plus(AHEAD_MAX);
    is_plausible.then(|| shown.min(received_at))
}

/// Returns the moment that a station's clock showed, if it is [`believed`] and no further ahead of
/// ours than a clock drifts. The time between two such moments is that between what happened then.
#[must_use]
pub(crate) fn believed_as_shown(
    shown: Option<Timestamp>,
    received_at: Timestamp,
) -> Option<Timestamp> {
    believed(shown, received_at)?;
    shown.filter(|at| *at <= received_at.plus(DRIFT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_believed_if_it_shows_a_moment_that_can_be() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let received = at("2026-05-04T12:00:00Z");
        let (by_arrival, cannot_be) = (Some("2026-05-04T12:00:00Z"), None);
        for (shown, expected, as_shown) in [
            ("2026-05-04T11:00:00Z", Some("2026-05-04T11:00:00Z"), true),
            ("2026-05-04T12:10:00Z", by_arrival, true),
            ("2026-05-04T12:30:00Z", by_arrival, false),
            ("2026-05-05T12:00:00Z", by_arrival, false),
            ("2026-05-05T12:00:01Z", cannot_be, false),
            ("1970-01-01T00:00:15Z", cannot_be, false),
            ("2015-01-01T00:00:00Z", cannot_be, false),
            ("2019-12-31T23:59:59Z", cannot_be, false),
            ("2020-01-01T00:00:00Z", Some("2020-01-01T00:00:00Z"), true),
        ] {
            let shown = at(shown);
            assert_eq!(believed(Some(shown), received), expected.map(at), "{shown}");
            let expected = as_shown.then_some(shown);
            assert_eq!(believed_as_shown(Some(shown), received), expected, "{shown}");
        }
        assert_eq!((believed(None, received), believed_as_shown(None, received)), (None, None));
    }
}
