//! Rust source with comments and literals blanked out.
//!
//! The rules ask simple questions (which words, where a brace closes), for which knowing what is
//! code is enough. A parser such as `syn` would know more, but every test run would wait for it to
//! compile first.

use std::iter;
use std::ops::Range;

/// Blanks comments, strings and characters with spaces. Offsets and line breaks stay as they are.
pub(super) fn mask(text: &str) -> String {
    let mut masked = text.as_bytes().to_vec();
    for range in opaque(text) {
        masked[range].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    }
    String::from_utf8(masked).expect("whole characters were replaced by spaces")
}

/// The places of strings and characters.
pub(super) fn literals(text: &str) -> Vec<Range<usize>> {
    opaque(text).filter(|range| text.as_bytes()[range.start] != b'/').collect()
}

/// The places of comments and literals.
fn opaque(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let bytes = text.as_bytes();
    let mut at = 0;
    iter::from_fn(move || {
        while at < bytes.len() {
            let start = at;
            match opaque_end(bytes, start) {
                Some(end) => {
                    at = end;
                    return Some(start..end);
                }
                None => at += 1,
            }
        }
        None
    })
}

/// Tells whether the byte can be part of an identifier.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Returns the offsets of `word` in `code`, except those where an identifier goes on at an end of
/// it (if the word begins or ends as an identifier).
pub(super) fn find_words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    let first = word.as_bytes().first().copied().is_some_and(is_word);
    let last = word.as_bytes().last().copied().is_some_and(is_word);
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let end = at + word.len();
        let goes_on_before = first && at > 0 && is_word(bytes[at - 1]);
        let goes_on_after = last && end < bytes.len() && is_word(bytes[end]);
        !goes_on_before && !goes_on_after
    })
}

/// The identifier at this offset, spaces before it skipped; empty if there is none.
pub(super) fn identifier_at(code: &str, at: usize) -> &str {
    let rest = code[at..].trim_start();
    let end = rest.bytes().position(|b| !is_word(b)).unwrap_or(rest.len());
    &rest[..end]
}

/// The offset behind the brace that closes the one at `open`; the end of the text if it is never
/// closed.
pub(super) fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The offset where an item's body opens, or None if it ends before that: with a semicolon, or with
/// what it is part of.
pub(super) fn body_of(code: &str, item: usize) -> Option<usize> {
    let mut nesting = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(item) {
        match byte {
            b'(' | b'[' => nesting += 1,
            b')' | b']' => nesting = nesting.saturating_sub(1),
            b'{' if nesting == 0 => return Some(at),
            b';' | b'}' if nesting == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The end of the comment or literal that begins here, if one does.
fn opaque_end(s: &[u8], at: usize) -> Option<usize> {
    let inside_word = at > 0 && is_word(s[at - 1]);
    match s[at] {
        b'/' if s.get(at + 1) == Some(&b'/') => Some(find(s, at, b'\n').unwrap_or(s.len())),
        b'/' if s.get(at + 1) == Some(&b'*') => Some(block_comment_end(s, at)),
        b'"' => Some(string_end(s, at + 1)),
        b'\'' => character_end(s, at + 1),
        b'r' | b'b' | b'c' if !inside_word => prefixed_end(s, at),
        _ => None,
    }
}

/// Block comments nest.
fn block_comment_end(s: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at + 1 < s.len() {
        match &s[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" if depth == 1 => return at + 2,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    s.len()
}

fn string_end(s: &[u8], content: usize) -> usize {
    let mut at = content;
    while at < s.len() {
        match s[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    s.len()
}

/// Returns the end of a character literal; `None` if the quote begins a lifetime or a label.
fn character_end(s: &[u8], content: usize) -> Option<usize> {
    if s.get(content) == Some(&b'\\') {
        return find(s, content + 2, b'\'').map(|quote| quote + 1);
    }
    let width = match s.get(content)? {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    let closed = s.get(content + width) == Some(&b'\'') && s[content] != b'\'';
    closed.then_some(content + width + 1)
}

/// Byte, C and raw strings and byte characters: what follows `b`, `c`, `r`, `br` and `cr`.
fn prefixed_end(s: &[u8], at: usize) -> Option<usize> {
    let raw = if s[at] == b'r' { at } else { at + 1 };
    if s.get(raw) == Some(&b'r') {
        let hashes = s[raw + 1..].iter().take_while(|b| **b == b'#').count();
        let quote = raw + 1 + hashes;
        return (s.get(quote) == Some(&b'"')).then(|| raw_string_end(s, quote + 1, hashes));
    }
    match s.get(raw)? {
        b'"' => Some(string_end(s, raw + 1)),
        b'\'' if s[at] == b'b' => character_end(s, raw + 1),
        _ => None,
    }
}

fn raw_string_end(s: &[u8], content: usize, hashes: usize) -> usize {
    let closes = |quote: usize| {
        let behind = &s[quote + 1..];
        s[quote] == b'"' && behind.len() >= hashes && behind[..hashes].iter().all(|b| *b == b'#')
    };
    (content..s.len()).find(|at| closes(*at)).map_or(s.len(), |quote| quote + 1 + hashes)
}

fn find(s: &[u8], from: usize, byte: u8) -> Option<usize> {
    (from..s.len()).find(|at| s[*at] == byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_is_kept() {
        for (source, code) in [
            ("a // b {\nc", "a       \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"a("b \" {", c)"#, "a(        , c)"),
            (r##"r#"a " {"# b"##, "           b"),
            ("br\"a\\\" b", "       b"),
            ("b'{' c\"{\" 'x' '\\'' '\\u{7f}' 'ä' d", "                                 d"),
            ("fn a<'b>(c: &'b str) { 'd: loop {} }", "fn a<'b>(c: &'b str) { 'd: loop {} }"),
            ("r#type bar\"\"", "r#type bar  "),
            ("\"open", "     "),
            ("'\\", "'\\"),
        ] {
            let masked = mask(source);
            assert_eq!(masked.len(), source.len(), "{source}");
            assert_eq!(masked.trim_end(), code.trim_end(), "{source}");
        }
    }

    #[test]
    fn words_are_found_whole() {
        let at: Vec<usize> = find_words("get get_ a.get(", "get").collect();
        assert_eq!(at, [0, 11]);
        assert_eq!(find_words("mytodo!( todo!(", "todo!(").collect::<Vec<_>>(), [9]);
    }

    #[test]
    fn a_body_opens_behind_the_signature() {
        let code = "fn a(b: [u8; 4]) -> [u8; 4] { c({ d }) } e";
        let open = body_of(code, 0).unwrap();
        assert_eq!(&code[open..closing_brace(code, open)], "{ c({ d }) }");
        assert_eq!(body_of("fn a(b: [u8; 4]); { }", 0), None);
    }
}
