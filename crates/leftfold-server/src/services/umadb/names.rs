//! Texts that the store may not take as names, and the names that it takes for them.

use leftfold::store::limits::{LABEL_BYTES_MAX, TAG_BYTES_MAX, TYPE_BYTES_MAX};

/// First character of a name that stands for another text.
const ESCAPE: char = '\\';
/// Beginning of a name that stands for a text that is too long.
const DIGEST: &str = "\\#";

/// The names of one kind that the store takes.
pub(super) struct NameRule {
    bytes_max: usize,
    /// True if names that begin with `$` are the runtime's.
    is_dollar_reserved: bool,
}

/// Types of events.
pub(super) const TYPE: NameRule = NameRule { bytes_max: TYPE_BYTES_MAX, is_dollar_reserved: true };
/// Tags.
pub(super) const TAG: NameRule = NameRule { bytes_max: TAG_BYTES_MAX, is_dollar_reserved: false };
/// Sources of trackings, which are consumers.
pub(super) const SOURCE: NameRule =
    NameRule { bytes_max: LABEL_BYTES_MAX, is_dollar_reserved: true };

impl NameRule {
    /// Returns the name for a text, a different one for each.
    pub(super) fn name_of(&self, text: String) -> String {
        let is_escaped = self.is_escaped(&text);
        if text.len() + usize::from(is_escaped) > self.bytes_max {
            return format!("{DIGEST}{}", blake3::hash(text.as_bytes()).to_hex());
        }
        if is_escaped { format!("{ESCAPE}{text}") } else { text }
    }

    /// Returns the text of a name. That of one that was too long is elsewhere.
    pub(super) fn text_of<'a>(&self, name: &'a str) -> &'a str {
        match name.strip_prefix(ESCAPE) {
            Some(text) if self.is_escaped(text) => text,
            _ => name,
        }
    }

    /// Tells whether the text cannot be told from its name.
    pub(super) fn is_too_long(&self, text: &str) -> bool {
        text.len() + usize::from(self.is_escaped(text)) > self.bytes_max
    }

    fn is_escaped(&self, text: &str) -> bool {
        text.is_empty()
            || text.starts_with(ESCAPE)
            || (self.is_dollar_reserved && text.starts_with('$'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_a_name_of_its_own_that_the_store_takes_and_comes_back() {
        let long = |first: &str, bytes| format!("{first}{}", "x".repeat(bytes - first.len()));
        let texts = [
            String::new(),
            "OrderPlaced".to_owned(),
            "#".to_owned(),
            "\\".to_owned(),
            "\\\\".to_owned(),
            "\\#".to_owned(),
            "\\$".to_owned(),
            "$".to_owned(),
            "$timer.Set".to_owned(),
            long("x", 255),
            long("$", 254),
            long("\\", 254),
        ];
        for rule in [&TYPE, &TAG, &SOURCE] {
            let names: Vec<_> = texts.iter().map(|text| rule.name_of(text.clone())).collect();
            for (name, text) in names.iter().zip(&texts) {
                assert_eq!(rule.text_of(name), text);
                assert!(!name.is_empty() && name.len() <= rule.bytes_max);
                assert!(!rule.is_dollar_reserved || !name.starts_with('$'));
                assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
            }
        }
        assert_eq!(TYPE.name_of("OrderPlaced".to_owned()), "OrderPlaced");
        assert_eq!(TAG.name_of("$order:7".to_owned()), "$order:7");
    }

    #[test]
    fn a_text_that_is_too_long_has_a_name_that_no_other_text_has() {
        let text = "x".repeat(TYPE_BYTES_MAX + 1);
        let name = TYPE.name_of(text.clone());
        assert!(TYPE.is_too_long(&text) && name.len() <= TYPE_BYTES_MAX);
        assert_ne!(TYPE.name_of(name.clone()), name);
        assert_ne!(TYPE.name_of(format!("{text}x")), name);
        assert!(TYPE.is_too_long(&"$".repeat(TYPE_BYTES_MAX)));
    }
}
