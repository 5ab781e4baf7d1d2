//! Time that the machine slept: time that passes, and that no [`Instant`] counts.

use std::time::{Duration, Instant};

/// Gauge of the time that the machine slept since the gauge was made; zero if the system does not
/// tell it.
#[derive(Clone, Copy, Debug)]
pub struct SleepGauge {
    began: Instant,
    /// Uptime of the system when the gauge was made, its sleep included; `None` if it is not known.
    up: Option<Duration>,
}

impl Default for SleepGauge {
    fn default() -> Self {
        Self { began: Instant::now(), up: up() }
    }
}

impl SleepGauge {
    /// Returns how long the machine slept, to about a hundredth of a second.
    #[must_use]
    pub fn slept(&self) -> Duration {
        let (Some(then), Some(now)) = (self.up, up()) else { return Duration::ZERO };
        now.saturating_sub(then).saturating_sub(self.began.elapsed())
    }
}

/// Returns the uptime of the system, as Linux tells it; `None` on other systems.
fn up() -> Option<Duration> {
    parse(&std::fs::read_to_string("/proc/uptime").ok()?)
}

fn parse(uptime: &str) -> Option<Duration> {
    let (seconds, hundredths) = uptime.split_whitespace().next()?.split_once('.')?;
    let millis = hundredths.parse::<u64>().ok().filter(|_| hundredths.len() == 2)? * 10;
    Some(Duration::from_secs(seconds.parse().ok()?) + Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read_or_passed_over() {
        assert_eq!(parse("350735.47 234388.90\n"), Some(Duration::from_millis(350_735_470)));
        for other in ["", "x", "12", "1.x 3", "1.234 5", "-1.00 2"] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_machine_that_is_awake_does_not_sleep() {
        let gauge = SleepGauge::default();
        assert!(gauge.slept() < Duration::from_secs(60));
    }
}
