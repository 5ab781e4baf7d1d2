//! Clocks of stations: many are wrong until the station has heard from us, and some for ever.

use std::time::Duration;

use leftfold::prelude::Timestamp;

/// The earliest moment that a station's clock can show, in microseconds: 2020-01-01T00:00:00Z. A
/// clock that lost its battery begins at the epoch, or at the year in which its firmware was built.
const EARLIEST_MICROS: i64 = 1_577_836_800_000_000;
/// Time that a station's clock may be ahead of ours; a wrong time zone is half a day.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// Returns the moment that a station's clock showed, as far as it can be believed: at most the
/// moment of arrival, since nothing is reported before it happens. `None` if the station gave no
/// moment, or one that cannot be: then only the order of arrival tells anything.
#[must_use]
pub(crate) fn believed(shown: Option<Timestamp>, received_at: Timestamp) -> Option<Timestamp> {
    let shown = shown?;
    let is_plausible = shown.as_micros() >= EARLIEST_MICROS && shown <= received_at.plus(AHEAD_MAX);
    is_plausible.then(|| shown.min(received_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_believed_if_it_shows_a_moment_that_can_be() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let received = at("2026-05-04T12:00:00Z");
        for (shown, expected) in [
            ("2026-05-04T11:00:00Z", Some("2026-05-04T11:00:00Z")),
            ("2026-05-04T12:30:00Z", Some("2026-05-04T12:00:00Z")),
            ("2026-05-05T12:00:01Z", None),
            ("1970-01-01T00:00:15Z", None),
            ("2019-12-31T23:59:59Z", None),
            ("2020-01-01T00:00:00Z", Some("2020-01-01T00:00:00Z")),
        ] {
            assert_eq!(believed(Some(at(shown)), received), expected.map(at), "{shown}");
        }
        assert_eq!(believed(None, received), None);
    }
}
