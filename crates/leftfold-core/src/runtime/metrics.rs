//! What consumers do, as figures: the text format of Prometheus.

use std::fmt::{Display, Write};

use super::board::ConsumerStatus;
use super::projection::ProjectionStatus;

pub(super) fn text(consumers: &[ConsumerStatus], projections: &[ProjectionStatus]) -> String {
    let mut text = String::new();
    let mut each = |name: &str, kind: &str, help: &str, value: fn(&ConsumerStatus) -> u64| {
        family(&mut text, name, kind, help);
        for status in consumers {
            sample(&mut text, name, &[("consumer", status.name)], value(status));
        }
    };
    each("leftfold_consumer_position", "gauge", "Everything up to here was taken up.", |status| status.through.0);
    each("leftfold_consumer_head", "gauge", "Where the log ends.", |status| status.head.0);
    each("leftfold_consumer_lag_events", "gauge", "Events of the log that were not taken up.", ConsumerStatus::lag);
    each("leftfold_consumer_events_total", "counter", "Events of the log gone past since the start.", |status| status.events);
    each("leftfold_consumer_events_per_second", "gauge", "The same a second, lately.", |status| status.per_second);
    each("leftfold_consumer_under_way", "gauge", "Things under way.", |status| status.under_way as u64);
    each("leftfold_consumer_waiting", "gauge", "Things that wait, are in doubt or parked.", |status| status.waiting as u64);
    each("leftfold_consumer_up", "gauge", "0 if it does not go on.", |status| u64::from(!status.stalled));
    let standby = "1 if another runtime does its work, and this one waits to take over.";
    each("leftfold_consumer_standby", "gauge", standby, |status| u64::from(status.standby));
    let needs_person = "1 if something of it waits for a person.";
    each("leftfold_consumer_needs_person", "gauge", needs_person, |status| u64::from(status.needs_person));
    each("leftfold_parked", "gauge", "Events that are parked.", |status| status.parked as u64);
    each("leftfold_effects_in_doubt", "gauge", "Effects in doubt.", |status| status.in_doubt as u64);
    let stuck = "Commands that fail for a reason that does not pass.";
    each("leftfold_commands_stuck", "gauge", stuck, |status| status.stuck as u64);
    let unheard = "Types that it asks for, of which nothing was ever recorded, and that no enum in use declares.";
    each("leftfold_consumer_unheard_types", "gauge", unheard, |status| status.unheard_types.len() as u64);
    let seconds_left = "leftfold_consumer_seconds_left";
    family(&mut text, seconds_left, "gauge", "To the end of the log at the present speed; absent where it does not move.");
    for status in consumers {
        if let Some(left) = status.time_left() {
            sample(&mut text, seconds_left, &[("consumer", status.name)], left.as_secs());
        }
    }
    let waits_for = "leftfold_consumer_waits_for";
    family(&mut text, waits_for, "gauge", "What it waits for, as a label.");
    for status in consumers {
        sample(&mut text, waits_for, &[("consumer", status.name), ("reason", &status.waits_for)], 1);
    }
    let mut each = |name: &str, help: &str, value: fn(&ProjectionStatus) -> u64| {
        family(&mut text, name, "gauge", help);
        for status in projections {
            let version = status.version.to_string();
            sample(&mut text, name, &[("projection", status.name), ("version", &version)], value(status));
        }
    };
    each("leftfold_projection_parked", "Parked items.", |status| status.parked as u64);
    each("leftfold_projection_serves", "1 where readers see this version.", |status| u64::from(status.serves));
    text
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a text does not fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn sample(text: &mut String, name: &str, labels: &[(&str, &str)], value: impl Display) {
    text.push_str(name);
    for (index, (label, value)) in labels.iter().enumerate() {
        let _ = write!(text, "{}{label}=\"", if index == 0 { '{' } else { ',' });
        escape(text, value);
        text.push('"');
    }
    let _ = writeln!(text, "}} {value}");
}

fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_escaped() {
        let mut text = String::new();
        sample(&mut text, "m", &[("a", "say \"C:\\x\"\nand"), ("b", "ä")], 7);
        assert_eq!(text, "m{a=\"say \\\"C:\\\\x\\\"\\nand\",b=\"ä\"} 7\n");
    }
}
