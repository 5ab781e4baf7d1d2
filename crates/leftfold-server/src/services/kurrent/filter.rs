//! Filters of all events: by the names of streams or types, as prefixes or as a regular expression.

use leftfold::store::{Query, QueryItem, RecordedEvent, StreamMatch, TypeMatch};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use tonic::Status;

use super::names;
use super::records::shown_at;
use super::wire::streams::read_req::FilterOptions;
use super::wire::streams::read_req::filter_options::{Expression, Filter, Window};

/// Bytes of a regular expression.
const REGEX_BYTES_MAX: usize = 16 << 10;
/// Bytes of a compiled regular expression, with its assertions.
const COMPILED_BYTES_MAX: usize = 4 << 20;
/// Assertions at the start of a regular expression.
const ASSERTIONS_MAX: usize = 8;
/// Prefixes of one filter.
const PREFIXES_MAX: usize = 1_000;
/// Events that are looked at between two checkpoints if the client does not say.
const WINDOW: u32 = 32;

/// A filter of all events.
#[derive(Debug)]
pub(super) struct EventFilter {
    field: FilteredField,
    pattern: NamePattern,
    /// Events that are looked at, at most about, between two checkpoints.
    pub(super) checkpoint_every: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FilteredField {
    Stream,
    Type,
}

#[derive(Debug)]
enum NamePattern {
    Prefixes(Vec<String>),
    Regex(NameRegex),
}

/// A filter as it is kept with the settings of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredFilter {
    is_of_streams: bool,
    #[serde(default)]
    regex: String,
    #[serde(default)]
    prefixes: Vec<String>,
}

impl EventFilter {
    /// Reads the filter of a request for keeping it.
    pub(super) fn to_store(options: FilterOptions) -> Result<StoredFilter, Status> {
        Self::of(options.clone(), false)?;
        let (is_of_streams, Expression { regex, prefix: prefixes }) = match options.filter {
            Some(Filter::StreamIdentifier(expression)) => (true, expression),
            Some(Filter::EventType(expression)) => (false, expression),
            None => (false, Expression::default()),
        };
        Ok(StoredFilter { is_of_streams, regex, prefixes })
    }

    /// Makes a filter that was kept.
    pub(super) fn stored(stored: StoredFilter) -> Result<Self, Status> {
        let StoredFilter { is_of_streams, regex, prefixes } = stored;
        let field = if is_of_streams { FilteredField::Stream } else { FilteredField::Type };
        let pattern = NamePattern::of(Expression { regex, prefix: prefixes })?;
        Ok(Self { field, pattern, checkpoint_every: WINDOW.into() })
    }

    /// Reads the filter of a request; that of a subscription says how often checkpoints are wanted.
    pub(super) fn of(options: FilterOptions, subscribes: bool) -> Result<Self, Status> {
        let multiplier = u64::from(options.checkpoint_interval_multiplier);
        if subscribes && multiplier == 0 {
            return Err(Status::invalid_argument("checkpointIntervalMultiplier must not be 0"));
        }
        let window = match options.window {
            Some(Window::Max(0)) => {
                return Err(Status::invalid_argument("the window of a filter must not be 0"));
            }
            Some(Window::Max(window)) => window,
            Some(Window::Count(_)) => WINDOW,
            None => return Err(Status::invalid_argument("a filter has a window")),
        };
        let (field, expression) = match options.filter {
            Some(Filter::StreamIdentifier(expression)) => (FilteredField::Stream, expression),
            Some(Filter::EventType(expression)) => (FilteredField::Type, expression),
            None => return Err(Status::invalid_argument("a filter is of streams or of types")),
        };
        let pattern = NamePattern::of(expression)?;
        Ok(Self { field, pattern, checkpoint_every: multiplier.max(1) * u64::from(window) })
    }

    /// Tells whether an event passes.
    pub(super) fn passes(&self, event: &RecordedEvent) -> bool {
        let name = match self.field {
            FilteredField::Stream => shown_at(event).0,
            FilteredField::Type => names::shown(&event.event_type),
        };
        match &self.pattern {
            NamePattern::Prefixes(prefixes) => {
                prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
            }
            NamePattern::Regex(regex) => regex.is_match(name),
        }
    }

    /// A query for every event that can pass, and as few others as the index can tell apart.
    pub(super) fn query(&self) -> Query {
        match (&self.pattern, self.field) {
            // An escaped name begins with more than its prefix, never with less.
            (NamePattern::Prefixes(prefixes), FilteredField::Type) => {
                let types = prefixes.iter().map(|prefix| TypeMatch::Prefix(stored_prefix(prefix)));
                Query::from(QueryItem { types: types.collect(), ..QueryItem::default() })
            }
            _ => Query::all(),
        }
    }
}

impl EventFilter {
    /// A query for which a caller needs the right.
    pub(super) fn wished(&self) -> Query {
        match (&self.pattern, self.field) {
            (NamePattern::Prefixes(prefixes), FilteredField::Stream) => {
                let item = |prefix: &String| QueryItem {
                    streams: Some(StreamMatch::Prefix(stored_prefix(prefix))),
                    ..QueryItem::default()
                };
                prefixes.iter().map(item).collect()
            }
            _ => self.query(),
        }
    }
}

/// The start of every name that the store keeps for names with the prefix.
fn stored_prefix(prefix: &str) -> String {
    names::stored(prefix).into_owned()
}

impl NamePattern {
    fn of(expression: Expression) -> Result<Self, Status> {
        if !expression.regex.is_empty() {
            return NameRegex::of(&expression.regex).map(Self::Regex);
        }
        let prefixes = expression.prefix;
        match prefixes.len() {
            0 => Err(Status::invalid_argument("a filter has a regular expression or prefixes")),
            1..=PREFIXES_MAX => Ok(Self::Prefixes(prefixes)),
            _ => {
                let text = format!("a filter has at most {PREFIXES_MAX} prefixes");
                Err(Status::invalid_argument(text))
            }
        }
    }
}

/// A regular expression that takes time linear in the name, whatever a client wrote.
///
/// Such an engine has no assertions about what follows. Their clients write them in one place, to
/// leave names out: `^(?!\$|test-)`. So those at the beginning are taken off, and judged alone.
#[derive(Debug)]
struct NameRegex {
    /// Each with its wish: what follows the start of the name matches, or does not.
    assertions: Vec<(bool, Regex)>,
    rest: Option<Regex>,
}

impl NameRegex {
    fn of(text: &str) -> Result<Self, Status> {
        if text.len() > REGEX_BYTES_MAX {
            let text = format!("a regular expression has {REGEX_BYTES_MAX} bytes at most");
            return Err(Status::invalid_argument(text));
        }
        let Some(mut rest) = text.strip_prefix('^').filter(|rest| asserts(rest).is_some()) else {
            let rest = Some(compile(text, COMPILED_BYTES_MAX)?);
            return Ok(Self { assertions: Vec::new(), rest });
        };
        let mut found = Vec::new();
        while let Some(wish) = asserts(rest) {
            let Some(length) = group_length(rest) else {
                return Err(Status::invalid_argument("a group of the expression has no end"));
            };
            if found.len() == ASSERTIONS_MAX {
                let text = format!("an expression has at most {ASSERTIONS_MAX} assertions");
                return Err(Status::invalid_argument(text));
            }
            let (group, behind) = rest.split_at(length);
            found.push((wish, &group["(?!".len()..length - 1]));
            rest = behind;
        }
        let bytes_max = COMPILED_BYTES_MAX / (found.len() + 1);
        let compile = |text: &str| compile(&format!("^(?:{text})"), bytes_max);
        let assertions = found.into_iter().map(|(wish, inner)| Ok((wish, compile(inner)?)));
        let assertions = assertions.collect::<Result<_, Status>>()?;
        let rest = if rest.is_empty() { None } else { Some(compile(rest)?) };
        Ok(Self { assertions, rest })
    }

    fn is_match(&self, name: &str) -> bool {
        self.assertions.iter().all(|(wish, regex)| regex.is_match(name) == *wish)
            && self.rest.as_ref().is_none_or(|rest| rest.is_match(name))
    }
}

/// Returns the wish of the assertion that the text begins with.
fn asserts(text: &str) -> Option<bool> {
    if text.starts_with("(?!") {
        Some(false)
    } else if text.starts_with("(?=") {
        Some(true)
    } else {
        None
    }
}

/// Returns the bytes of the group that the text begins with.
fn group_length(text: &str) -> Option<usize> {
    let (mut depth, mut in_class, mut is_escaped) = (0_usize, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ']' => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            '(' => depth += 1,
            ')' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn compile(text: &str, bytes_max: usize) -> Result<Regex, Status> {
    RegexBuilder::new(text).size_limit(bytes_max).build().map_err(|error| {
        let text = format!("the regular expression cannot be used here: {error}");
        Status::invalid_argument(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(regex: &str, name: &str) -> bool {
        NameRegex::of(regex).unwrap().is_match(name)
    }

    #[test]
    fn what_clients_write_to_leave_names_out_is_understood() {
        assert!(matches(r"^[^\$].*", "order-1") && !matches(r"^[^\$].*", "$$order-1"));
        let excluding = r"^(?!(\$.+$|PersistentConfig\d+$))";
        assert!(matches(excluding, "OrderPlaced") && matches(excluding, "PersistentConfigX"));
        assert!(!matches(excluding, "$metadata") && !matches(excluding, "PersistentConfig1"));
        let both = r"^(?!a[)(]b\))(?=[a-c])\w+$";
        assert!(matches(both, "cab") && !matches(both, "dab") && !matches(both, "c b"));
        assert!(!matches(both, "a)b)"));
    }

    #[test]
    fn an_expression_that_could_take_for_ever_or_is_none_is_refused() {
        for bad in ["(", "^(?!a", r"(a)\1", "a(?=b)", "(a{1000}){1000}{1000}"] {
            assert!(NameRegex::of(bad).is_err(), "{bad}");
        }
        assert!(NameRegex::of(&"a".repeat(REGEX_BYTES_MAX + 1)).is_err());
        let asserting =
            |count: usize, inner: &str| format!("^{}", format!("(?!{inner})").repeat(count));
        assert!(NameRegex::of(&asserting(ASSERTIONS_MAX, "test-")).is_ok());
        assert!(NameRegex::of(&asserting(ASSERTIONS_MAX + 1, "test-")).is_err());
        // What one may take, several may not take each.
        let large = r"\w{60}";
        assert!(NameRegex::of(large).is_ok());
        assert!(NameRegex::of(&asserting(ASSERTIONS_MAX, large)).is_err());
    }
}
