//! Values as a person reads them: stored JSON in the shape of the Rust that it came from.

use std::time::Duration;

use serde_json::Value;

use leftfold_core::store::RecordedEvent;

/// An event without its namespace: `Withdrawn { points: 60 }`.
pub(super) fn event(event: &RecordedEvent) -> String {
    let name = event.event_type.rsplit('.').next().unwrap_or(&event.event_type);
    match serde_json::from_slice(&event.data) {
        Ok(Value::Object(fields)) if fields.is_empty() => name.to_owned(),
        Ok(value) => format!("{name} {}", fields(&value)),
        Err(_) => name.to_owned(),
    }
}

/// An externally tagged enum: `Withdraw { points: 60 }`.
pub(super) fn tagged(value: &Value) -> String {
    match value {
        Value::String(name) => name.clone(),
        Value::Object(all) if all.len() == 1 => match all.iter().next() {
            Some((name, inner)) if name.starts_with(char::is_uppercase) => {
                format!("{name} {}", fields(inner))
            }
            _ => fields(value),
        },
        _ => fields(value),
    }
}

/// The fields of a struct: `{ points: 60 }`.
pub(super) fn fields(value: &Value) -> String {
    match value {
        Value::Object(all) if all.is_empty() => "{}".to_owned(),
        Value::Object(all) => {
            let all: Vec<String> =
                all.iter().map(|(name, value)| format!("{name}: {}", fields(value))).collect();
            format!("{{ {} }}", all.join(", "))
        }
        Value::Array(all) => format!("[{}]", all.iter().map(fields).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// `5 min`, `1 h 30 s`, `1.5 s`.
pub(super) fn duration(duration: Duration) -> String {
    // Groups are microseconds apart, which nobody wants to read.
    let duration = Duration::from_millis(((duration.as_micros() + 500) / 1000) as u64);
    let seconds = duration.as_secs();
    let units = [("d", seconds / 86_400), ("h", seconds / 3_600 % 24), ("min", seconds / 60 % 60)];
    let mut parts: Vec<String> =
        units.iter().filter(|(_, n)| *n > 0).map(|(unit, n)| format!("{n} {unit}")).collect();
    let rest =
        Duration::from_secs(seconds % 60) + Duration::from_nanos(duration.subsec_nanos().into());
    if !rest.is_zero() || parts.is_empty() {
        parts.push(format!("{} s", rest.as_micros() as f64 / 1e6));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_json_reads_as_the_rust_that_it_came_from() {
        let command =
            serde_json::json!({ "Withdraw": { "task": "t1", "points": 60, "of": [1, null] } });
        assert_eq!(tagged(&command), r#"Withdraw { of: [1, null], points: 60, task: "t1" }"#);
        assert_eq!(tagged(&Value::from("Close")), "Close");
        assert_eq!(duration(Duration::from_millis(3_660_500)), "1 h 1 min 0.5 s");
        assert_eq!(duration(Duration::ZERO), "0 s");
    }
}
