//! JSON as text: looked at without being parsed into values.

use super::loss::PathStep;
use super::mark::{Mark, ValueKind};

/// Returns the depth of arrays and objects within each other.
pub(crate) fn depth(json: &[u8]) -> u32 {
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

/// Returns the error of a text within the JSON that is no text, `None` if there is none: a
/// surrogate that is alone passes as JSON until somebody reads it.
pub(super) fn unreadable_text(json: &[u8]) -> Option<serde_json::Error> {
    let mut unreadable = None;
    tokens(json, |at, byte| {
        if byte == b'"' && unreadable.is_none() {
            let text = &json[at..string_end(json, at)];
            if text.contains(&b'\\') {
                unreadable = serde_json::from_slice::<String>(text).err();
            }
        }
    });
    unreadable
}

/// Tells whether two texts are the same JSON: the order of an object's members does not count.
/// Numbers are the same if they are written in the same way.
pub(crate) fn is_same_text(one: &[u8], other: &[u8]) -> bool {
    one == other
        || matches!((mark(one, true), mark(other, true)), (Some(one), Some(other)) if one == other)
}

/// The same with the elements of each array, and the letters of each text, in any order.
pub(super) fn is_same_loosely(one: &[u8], other: &[u8]) -> bool {
    matches!((mark(one, false), mark(other, false)), (Some(one), Some(other)) if one == other)
}

/// Returns the mark of a text; `None` if it is no JSON.
fn mark(json: &[u8], order_counts: bool) -> Option<Mark> {
    // The arrays and objects around a place, each with the mark of the key that its value stands
    // for, and if the order in it counts.
    let mut open: Vec<(Mark, Option<Mark>, bool)> =
        vec![(Mark::bits(ValueKind::Unit, 0), None, false)];
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        let start = at;
        at += 1;
        let value = match byte {
            b'{' => {
                open.push((Mark::bits(ValueKind::Map, 0), None, false));
                continue;
            }
            b'[' => {
                open.push((Mark::bits(ValueKind::Seq, 0), None, order_counts));
                continue;
            }
            b'}' | b']' => open.pop()?.0.and(Mark::bits(ValueKind::Unit, 0)),
            b',' | b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'"' => {
                at = string_end(json, start);
                let mut text: Vec<u8> =
                    serde_json::from_slice::<String>(&json[start..at]).ok()?.into();
                let behind =
                    at + json[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                if json.get(behind) == Some(&b':') {
                    open.last_mut()?.1 = Some(Mark::text(ValueKind::Str, &text));
                    at = behind + 1;
                    continue;
                }
                if !order_counts {
                    text.sort_unstable();
                }
                Mark::text(ValueKind::Str, &text)
            }
            _ => {
                let len = json[start..].iter().take_while(|byte| !is_end(**byte)).count();
                at = start + len.max(1);
                Mark::text(ValueKind::Verbatim, &json[start..at])
            }
        };
        let (members, key, in_order) = open.last_mut()?;
        let member = key.take().map_or(value, |key| key.and(value));
        *members = if *in_order { members.and(member) } else { members.beside(member) };
    }
    match open.as_slice() {
        [(mark, None, _)] => Some(*mark),
        _ => None,
    }
}

/// Tells whether a number, or one of the three words, ends before this byte.
fn is_end(byte: u8) -> bool {
    matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace()
}

/// Returns the way to a place.
pub(super) fn steps_to(json: &[u8], place: usize) -> Vec<PathStep> {
    let mut steps: Vec<PathStep> = Vec::new();
    let mut text = 0..0;
    tokens(&json[..place.min(json.len())], |at, byte| match byte {
        b'[' => steps.push(PathStep::Index(0)),
        b'{' => steps.push(PathStep::Name(String::new())),
        b']' | b'}' => drop(steps.pop()),
        b',' => {
            if let Some(PathStep::Index(index)) = steps.last_mut() {
                *index += 1;
            }
        }
        b'"' => text = at..string_end(json, at),
        b':' => {
            if let Some(PathStep::Name(name)) = steps.last_mut() {
                *name = String::from_utf8_lossy(json[text.clone()].trim_ascii())
                    .trim_matches('"')
                    .to_owned();
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

/// Returns the place behind the text whose first quote is at `start`.
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
