//! Records of groups of consumers, which a server keeps in its stores, in a copy of the store.
//!
//! A server writes them and reads them; here it is only known which of their members are positions.

use serde_json::{Map, Value};

use super::positions::{Owner, Positions, RewriteError, no_label};
use crate::store::{NewEvent, Position, RecordedEvent};

/// Records of groups in a copy of the store.
pub(super) const OWNER: Owner = Owner { category: "$group", rewrite, label: no_label };

/// Rewrites `start` and `through`, the ends of what was handled, and `position`, an event; it
/// becomes 0 if the event was dropped.
fn rewrite(
    record: &RecordedEvent,
    positions: &dyn Positions,
) -> Result<Option<NewEvent>, RewriteError> {
    let mut members: Map<String, Value> = serde_json::from_slice(&record.data)
        .map_err(|error| RewriteError::Detail(error.to_string()))?;
    for (name, value) in &mut members {
        let Some(position) = value.as_u64().map(Position) else { continue };
        let rewritten = match name.as_str() {
            "start" | "through" => positions.through(position),
            "position" => positions.event(position).unwrap_or_default(),
            _ => continue,
        };
        *value = rewritten.0.into();
    }
    let data = serde_json::to_vec(&members);
    let data = data.map_err(|error| RewriteError::Detail(error.to_string()))?;
    Ok(Some(NewEvent { data: data.into(), ..record.to_new() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{EventId, EventType, Timestamp};

    /// Every position is 100 more, and that of the event 7 was dropped.
    struct Shifted;

    impl Positions for Shifted {
        fn event(&self, position: Position) -> Option<Position> {
            (position != Position(7)).then_some(Position(position.0 + 100))
        }

        fn through(&self, position: Position) -> Position {
            Position(position.0 + 100)
        }
    }

    #[test]
    fn the_positions_of_a_group_are_those_of_the_copy() {
        let rewritten = |data: &'static str| {
            let new = NewEvent::new(EventType::new("$group.Any").unwrap(), data);
            let id = EventId(uuid::Uuid::nil());
            let record = RecordedEvent::of(new, Position(1), Timestamp::MIN, None, id);
            let data = rewrite(&record, &Shifted).map(|new| new.unwrap().data);
            data.map(|data| serde_json::from_slice::<Value>(&data).unwrap())
        };
        let settings = serde_json::json!({ "start": 105, "settings": { "position": 7 } });
        assert_eq!(rewritten(r#"{"start":5,"settings":{"position":7}}"#).unwrap(), settings);
        assert_eq!(rewritten(r#"{"through":9}"#).unwrap()["through"], 109);
        assert_eq!(rewritten(r#"{"position":7,"retries":2}"#).unwrap()["position"], 0);
        assert_eq!(rewritten(r#"{"position":8,"retries":2}"#).unwrap()["position"], 108);
        assert!(rewritten("no JSON").is_err());
    }
}
