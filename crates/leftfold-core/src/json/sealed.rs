//! Sealed personal data as it stands in JSON, so that the keys of an event are found without
//! knowing its type.

use crate::store::Label;

/// The beginning of every text that is sealed: after it come the key's id and a dot.
pub(crate) const SEALED: &str = "personal1.";
/// Hexadecimal digits of a key's id.
pub(crate) const KEY_DIGITS: usize = 32;

/// The ids of the keys that texts in the JSON are sealed with, each once, in the order of their
/// first use.
///
/// A text of somebody's own that looks like a sealed one adds an id that nobody has; that does no
/// harm.
pub(crate) fn keys_in(json: &[u8]) -> Vec<Label> {
    let mut keys = Vec::new();
    let Ok(text) = std::str::from_utf8(json) else { return keys };
    // Dots are rare in JSON, and found fast.
    for (dot, _) in text.match_indices('.') {
        let Some(before) = json[..=dot].strip_suffix(SEALED.as_bytes()) else { continue };
        // A text begins there: it is quoted, and the quote itself is not part of a text.
        if !before.ends_with(b"\"") || before.ends_with(b"\\\"") {
            continue;
        }
        let end = dot + 1 + KEY_DIGITS;
        let Some(digits) = text.get(dot + 1..end) else { continue };
        if json.get(end) == Some(&b'.')
            && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            && let Ok(key) = Label::new(digits.to_owned())
            && !keys.contains(&key)
        {
            keys.push(key);
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_at_the_beginning_of_texts_only_and_each_once() {
        let [one, two] = ["0123456789abcdef0123456789abcdef", "ffffffffffffffffffffffffffffffff"];
        let json = format!(
            r#"{{"a":"personal1.{one}.x","b":["personal1.{two}.y","personal1.{one}.z"],"c":"see personal1.{two}","d":"\"personal1.{two}."}}"#
        );
        assert_eq!(
            keys_in(json.as_bytes()).iter().map(Label::as_str).collect::<Vec<_>>(),
            [one, two]
        );
        let none = [
            r#""personal1.""#,
            r#""personal1.0123""#,
            r#""personal1.0123456789abcdef0123456789abcdeg.x""#,
            "personal1.",
        ];
        none.iter().for_each(|json| assert_eq!(keys_in(json.as_bytes()), [], "{json}"));
    }
}
