//! JSON as text: looked at without being parsed into values.

use super::loss::Step;
use super::mark::{Kind, Mark};

/// How many arrays and objects are within each other.
pub(super) fn depth(json: &[u8]) -> u32 {
    let (mut depth, mut deepest) = (0_u32, 0);
    tokens(json, |_, byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    });
    deepest
}

/// Whether two texts are the same JSON: the order of an object's members does not count, nor that of an array's elements,
/// for sets and hash maps are written in any order. Numbers and texts are the same if they are written so.
pub(crate) fn is_same_text(one: &[u8], other: &[u8]) -> bool {
    one == other || matches!((mark(one), mark(other)), (Some(one), Some(other)) if one == other)
}

/// The mark of a text; none if it is no JSON.
fn mark(json: &[u8]) -> Option<Mark> {
    // The arrays and objects around a place, each with the mark of the key that its value stands for.
    let mut open: Vec<(Mark, Option<Mark>)> = vec![(Mark::bits(Kind::Unit, 0), None)];
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        let start = at;
        at += 1;
        let value = match byte {
            b'{' => {
                open.push((Mark::bits(Kind::Map, 0), None));
                continue;
            }
            b'[' => {
                open.push((Mark::bits(Kind::Seq, 0), None));
                continue;
            }
            b'}' | b']' => open.pop()?.0.and(Mark::bits(Kind::Unit, 0)),
            b',' | b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'"' => {
                at = string_end(json, start);
                let text = Mark::text(Kind::Str, &json[start..at]);
                if json.get(at) == Some(&b':') {
                    open.last_mut()?.1 = Some(text);
                    at += 1;
                    continue;
                }
                text
            }
            _ => {
                let len = json[start..].iter().take_while(|byte| !matches!(byte, b',' | b'}' | b']' | b' ')).count();
                at = start + len.max(1);
                Mark::text(Kind::Verbatim, &json[start..at])
            }
        };
        let (members, key) = open.last_mut()?;
        *members = members.beside(key.take().map_or(value, |key| key.and(value)));
    }
    match open.as_slice() {
        [(mark, None)] => Some(*mark),
        _ => None,
    }
}

/// The way to what stands at a place.
pub(super) fn steps_to(json: &[u8], place: usize) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut text = 0..0;
    tokens(&json[..place.min(json.len())], |at, byte| match byte {
        b'[' => steps.push(Step::Index(0)),
        b'{' => steps.push(Step::Name(String::new())),
        b']' | b'}' => drop(steps.pop()),
        b',' => {
            if let Some(Step::Index(index)) = steps.last_mut() {
                *index += 1;
            }
        }
        b'"' => text = at..string_end(json, at),
        b':' => {
            if let Some(Step::Name(name)) = steps.last_mut() {
                *name = String::from_utf8_lossy(json[text.clone()].trim_ascii()).trim_matches('"').to_owned();
            }
        }
        _ => {}
    });
    steps
}

/// Each byte outside of texts; of a text its first quote.
pub(super) fn tokens(json: &[u8], mut each: impl FnMut(usize, u8)) {
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        each(at, *byte);
        at = if *byte == b'"' { string_end(json, at) } else { at + 1 };
    }
}

/// Behind the text whose first quote is at a place.
pub(super) fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    json.len()
}
