//! Names as texts of PostgreSQL, which cannot have the character U+0000.

use std::borrow::Cow;

/// Begins an escape: U+001A, "substitute".
const ESCAPE: char = '\u{1a}';

/// Returns the text as it is stored: U+0000 becomes the escape and `0`, the escape itself the
/// escape and `1`. Each character stands for itself, so a prefix of a text is one of what is
/// stored.
pub(crate) fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut stored = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => stored.extend([ESCAPE, '0']),
            ESCAPE => stored.extend([ESCAPE, '1']),
            other => stored.push(other),
        }
    }
    Cow::Owned(stored)
}

/// Tells whether the text stands as it was.
pub(crate) fn is_plain(stored: &str) -> bool {
    !stored.contains(ESCAPE)
}

/// Returns the text that was stored so.
pub(crate) fn original(stored: String) -> String {
    if is_plain(&stored) {
        return stored;
    }
    let mut text = String::with_capacity(stored.len());
    let mut characters = stored.chars();
    while let Some(character) = characters.next() {
        match character {
            ESCAPE => match characters.next() {
                Some('0') => text.push('\0'),
                Some('1') => text.push(ESCAPE),
                // Nobody writes it so; it is shown as it stands.
                other => text.extend([Some(ESCAPE), other].into_iter().flatten()),
            },
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_its_prefixes_stay_prefixes() {
        for text in ["", "order-1", "a\0b", "\u{1a}", "\u{1a}0", "\0\0\u{1a}1", "ü\u{10ffff}"] {
            let as_stored = stored(text).into_owned();
            assert!(!as_stored.contains('\0'), "{text:?}");
            assert_eq!(original(as_stored.clone()), text);
            for (end, _) in text.char_indices() {
                assert!(as_stored.starts_with(&*stored(&text[..end])), "{text:?} up to {end}");
            }
        }
    }
}
