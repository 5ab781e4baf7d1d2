//! Positions that the runtime's own events speak of, and how they are rewritten.
//!
//! The runtime's events are ours, so their data may be read; users' data never is. JSON is rewritten in place, number by
//! number, so that everything else in it stays byte for byte what it was.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::map::{Fate, Image};
use crate::store::{Invalid, Label, NewEvent, Position, StreamName};

/// The ledger of the effect that the event at a position asks for is `$effect-POSITION`.
const EFFECT: &str = "$effect";
/// A cause that is a process: `$process:NAME@POSITION`.
const PROCESS_CAUSE: &str = "$process:";
/// Types whose data speaks of positions begin so.
const SPEAKING: &str = "$process.";
/// Fields whose number, or list of numbers, is an event's position.
const POSITION_FIELDS: [&str; 3] = ["position", "positions", "set_at"];
/// A field whose number says that everything up to there is done.
const THROUGH_FIELDS: [&str; 1] = ["carried"];
/// Types that name one event to come back to: where that was dropped, another one would be taken for it.
const NAMING: [&str; 3] = ["$process.Parked", "$process.Skipped", "$process.Unparked"];
/// Fields that hold what users wrote.
const USER_FIELDS: [&str; 4] = ["command", "refusal", "outcome", "state"];

/// What became of the positions that an event speaks of.
pub(super) type Resolved = BTreeMap<Position, Image>;

/// The positions that an event speaks of.
pub(super) fn positions(event: &NewEvent) -> Vec<Position> {
    let mut found: Vec<Position> = ledger_of(event.stream.as_ref()).into_iter().collect();
    found.extend([&event.metadata.causation, &event.metadata.correlation].into_iter().flatten().filter_map(cause_of));
    if speaks(event) {
        found.extend(spots(&event.data).into_iter().map(|spot| Position(spot.number)));
    }
    found
}

/// The event as it speaks of the new store; none where it is the ledger of an intent that was dropped.
pub(super) fn rewritten(mut event: NewEvent, resolved: &Resolved) -> Result<Option<NewEvent>, Invalid> {
    if let Some(intent) = ledger_of(event.stream.as_ref())
        && let Some(image) = resolved.get(&intent)
    {
        if image.fate == Fate::Dropped {
            return Ok(None);
        }
        event.stream = Some(StreamName::of(EFFECT, &image.position.to_string())?);
    }
    for label in [&mut event.metadata.causation, &mut event.metadata.correlation].into_iter().flatten() {
        if let Some(image) = cause_of(label).and_then(|cause| resolved.get(&cause))
            && let Some((process, _)) = label.rsplit_once('@')
        {
            *label = Label::new(format!("{process}@{}", image.position))?;
        }
    }
    if speaks(&event) {
        let names_one = NAMING.contains(&event.event_type.as_str());
        event.data = replaced(&event.data, |field, number| {
            let image = resolved.get(&Position(number))?;
            Some(match (field, image.fate) {
                (Field::Through, _) => image.through.0,
                // No event is there. The entry itself must stay: the versions behind it are part of command ids.
                (Field::Position, Fate::Dropped) if names_one => Position::START.0,
                (Field::Position, _) => image.position.0,
            })
        });
    }
    Ok(Some(event))
}

fn speaks(event: &NewEvent) -> bool {
    event.event_type.starts_with(SPEAKING)
}

fn ledger_of(stream: Option<&StreamName>) -> Option<Position> {
    let stream = stream.filter(|stream| stream.category() == EFFECT)?;
    stream.id().parse().ok().map(Position)
}

fn cause_of(label: &Label) -> Option<Position> {
    let (_, position) = label.strip_prefix(PROCESS_CAUSE)?.rsplit_once('@')?;
    position.parse().ok().map(Position)
}

/// What a number in the data means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Position,
    Through,
}

/// A number that is a position, and where it stands.
struct Spot {
    field: Field,
    number: u64,
    range: Range<usize>,
}

fn replaced(json: &Bytes, replace: impl Fn(Field, u64) -> Option<u64>) -> Bytes {
    let mut out = Vec::with_capacity(json.len() + 16);
    let mut copied = 0;
    for Spot { field, number, range } in spots(json) {
        if let Some(new) = replace(field, number) {
            out.extend_from_slice(&json[copied..range.start]);
            out.extend_from_slice(new.to_string().as_bytes());
            copied = range.end;
        }
    }
    if copied == 0 {
        return json.clone();
    }
    out.extend_from_slice(&json[copied..]);
    out.into()
}

/// The numbers of the fields that count, outside what users wrote. In anything else than JSON it finds nothing of use.
fn spots(json: &[u8]) -> Vec<Spot> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < json.len() {
        if json[at] != b'"' {
            at += 1;
            continue;
        }
        let end = string_end(json, at);
        let colon = after_space(json, end);
        if json.get(colon) != Some(&b':') {
            at = end;
            continue;
        }
        let key = json.get(at + 1..end - 1).and_then(|key| std::str::from_utf8(key).ok()).unwrap_or("");
        at = after_space(json, colon + 1);
        if USER_FIELDS.contains(&key) {
            at = value_end(json, at);
        } else if POSITION_FIELDS.contains(&key) {
            at = take_numbers(json, at, Field::Position, &mut found);
        } else if THROUGH_FIELDS.contains(&key) {
            at = take_numbers(json, at, Field::Through, &mut found);
        }
    }
    found
}

/// Takes the number at a place, or those of the list there, and tells where it stopped.
fn take_numbers(json: &[u8], mut at: usize, field: Field, found: &mut Vec<Spot>) -> usize {
    let is_list = json.get(at) == Some(&b'[');
    at += usize::from(is_list);
    loop {
        at = after_space(json, at);
        let digits = json[at.min(json.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let range = at..at + digits;
        // With a fraction or an exponent it is something else than a position.
        let whole = !matches!(json.get(range.end), Some(b'.' | b'e' | b'E'));
        let number = json.get(range.clone()).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        at = range.end;
        let Some(number) = number.filter(|_| whole) else { return at };
        found.push(Spot { field, number, range });
        at = after_space(json, at);
        if !is_list || json.get(at) != Some(&b',') {
            return at;
        }
        at += 1;
    }
}

fn after_space(json: &[u8], at: usize) -> usize {
    at + json.get(at..).map_or(0, |rest| rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count())
}

/// Behind the text whose first quote is at a place.
fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < json.len() {
        match json[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    json.len().max(start + 2)
}

/// Behind the value at a place.
fn value_end(json: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at < json.len() {
        match json[at] {
            b'"' => {
                at = string_end(json, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plus_hundred(json: &'static str) -> String {
        let out = replaced(&Bytes::from_static(json.as_bytes()), |_, number| Some(number + 100));
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn only_positions_are_rewritten_and_all_else_stays_as_it_was() {
        let json = r#"{"cause":{"Event":{"position":5,"part":1}},"carried": 7,"depth":2,"set_at":9,"x":1.50}"#;
        let new = r#"{"cause":{"Event":{"position":105,"part":1}},"carried": 107,"depth":2,"set_at":109,"x":1.50}"#;
        assert_eq!(plus_hundred(json), new);
        assert_eq!(plus_hundred(r#"{"positions":[1, 2 ,3],"n":[4]}"#), r#"{"positions":[101, 102 ,103],"n":[4]}"#);
    }

    #[test]
    fn what_users_wrote_is_left_alone() {
        for json in [
            r#"{"command":{"Move":{"position":5}},"id":"position"}"#,
            r#"{"commands":[{"to":"a","command":{"position":[1,{"x":"}"}]}}],"refusal":""position":4"}"#,
            r#"{"position":"5","set_at":null,"positions":[],"carried":1.5,"key":""set_at":7"}"#,
        ] {
            assert_eq!(plus_hundred(json), json);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_of_json_panic() {
        let mut random = fastrand::Rng::with_seed(crate::testing::seed());
        let parts = ["{", "}", "[", "]", "\"", "\\", ":", ",", "5", " ", "position", "\"set_at\"", "\"command\"", "é"];
        for _ in 0..20_000 {
            let text: String = (0..random.usize(..20)).map(|_| parts[random.usize(..parts.len())]).collect();
            drop(replaced(&Bytes::from(text), |_, number| Some(number)));
        }
    }
}
