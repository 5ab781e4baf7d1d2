//! Which events a command works on: flags, and conditions as text (`--where`).

use clap::Args;
use jiff::civil;
use jiff::tz::TimeZone;
use leftfold::store::{
    EventType, Position, Query, QueryItem, Store, StreamMatch, StreamName, System, Tag, Timestamp,
    TypeMatch,
};

use crate::failure::CliFailure;

/// Choice of events.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SelectionArguments {
    /// Events of this stream; with * at the end, of every stream that begins so
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Events of the streams of this category
    #[arg(long, value_name = "NAME", conflicts_with = "stream")]
    category: Option<String>,
    /// Events of this type; with * at the end, of every type that begins so. Several: any of them
    #[arg(long = "type", value_name = "NAME")]
    types: Vec<String>,
    /// Events with this tag. Several: all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Conditions on position, type, tag, stream, category and time, joined by "and":
    /// "type = shop.Sold and tag = order:7 and time >= 2026-02-01"
    #[arg(long = "where", value_name = "CONDITIONS")]
    conditions: Vec<String>,
    /// Also the runtime's own events, whose types and streams begin with $
    #[arg(long)]
    system: bool,
}

/// Events that are meant: those that match, between two positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) query: Query,
    /// First position that is looked at.
    pub(crate) from: Position,
    /// Last position that is looked at.
    pub(crate) through: Position,
}

/// A condition of `--where`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Clause {
    Type(Vec<String>),
    Tag(String),
    Stream(String),
    Category(String),
    From(Position),
    Through(Position),
    /// From the first event recorded at this moment or later.
    Since(Timestamp),
    /// To the last event recorded at this moment or before.
    Until(Timestamp),
}

impl SelectionArguments {
    /// Tells whether nothing is chosen, which stands for all events.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { stream, category, types, tags, conditions, system } = self;
        let is_named = stream.is_some() || category.is_some() || *system;
        !is_named && [types, tags, conditions].into_iter().all(Vec::is_empty)
    }

    /// Finds the events that are meant. Times become positions by the index of the store.
    pub(crate) async fn resolve(&self, store: &Store) -> Result<Selection, CliFailure> {
        let mut clauses = Vec::new();
        clauses.extend(self.stream.clone().map(Clause::Stream));
        clauses.extend(self.category.clone().map(Clause::Category));
        clauses.extend(self.tags.iter().cloned().map(Clause::Tag));
        if !self.types.is_empty() {
            clauses.push(Clause::Type(self.types.clone()));
        }
        for text in &self.conditions {
            clauses.extend(parse(text).map_err(CliFailure::Usage)?);
        }
        let mut selection = query(&clauses, self.system).map_err(CliFailure::Usage)?;
        for clause in clauses {
            let (mut from, mut through) = (Position::START, Position::END);
            match clause {
                Clause::From(position) => from = position,
                Clause::Through(position) => through = position,
                Clause::Since(moment) => {
                    let before = Timestamp::from_micros(moment.as_micros().saturating_sub(1));
                    from = store.position_at(before).await?.next();
                }
                Clause::Until(moment) => through = store.position_at(moment).await?,
                _ => {}
            }
            selection.from = selection.from.max(from);
            selection.through = selection.through.min(through);
        }
        selection.query.validate().map_err(|error| CliFailure::Usage(error.to_string()))?;
        Ok(selection)
    }
}

/// Reads the query of some conditions, which name no position and no time.
pub(crate) fn query_of(text: &str) -> Result<Query, String> {
    let clauses = parse(text)?;
    let bounds = |clause: &Clause| {
        !matches!(
            clause,
            Clause::Type(_) | Clause::Tag(_) | Clause::Stream(_) | Clause::Category(_)
        )
    };
    if clauses.iter().any(bounds) {
        return Err("a query here is of types, tags, a stream or a category".to_owned());
    }
    Ok(query(&clauses, false)?.query)
}

/// Makes the query of the conditions; positions and times are left out.
fn query(clauses: &[Clause], system: bool) -> Result<Selection, String> {
    let said = |error: leftfold::store::Invalid| error.to_string();
    let mut item = QueryItem {
        system: if system { System::Included } else { System::Excluded },
        ..QueryItem::default()
    };
    for clause in clauses {
        match clause {
            Clause::Type(names) if item.types.is_empty() => {
                for name in names {
                    item.types.push(match name.strip_suffix('*') {
                        Some(prefix) => TypeMatch::Prefix(prefix.to_owned()),
                        None => TypeMatch::Exact(EventType::new(name.clone()).map_err(said)?),
                    });
                }
            }
            Clause::Type(_) => return Err("name the types once, with commas between".to_owned()),
            Clause::Tag(tag) => item.tags.push(Tag::new(tag.clone()).map_err(said)?),
            Clause::Stream(_) | Clause::Category(_) if item.streams.is_some() => {
                return Err("name one stream or one category".to_owned());
            }
            Clause::Stream(name) => {
                item.streams = Some(match name.strip_suffix('*') {
                    Some(prefix) => StreamMatch::Prefix(prefix.to_owned()),
                    None => StreamMatch::Exact(StreamName::new(name.clone()).map_err(said)?),
                });
            }
            Clause::Category(name) => item.streams = Some(StreamMatch::Category(name.clone())),
            Clause::From(_) | Clause::Through(_) | Clause::Since(_) | Clause::Until(_) => {}
        }
    }
    Ok(Selection { query: item.into(), from: Position(1), through: Position::END })
}

/// Reads conditions: `FIELD OPERATOR VALUE`, joined by `and`.
fn parse(text: &str) -> Result<Vec<Clause>, String> {
    let words = words(text)?;
    let mut clauses = Vec::new();
    for clause in words.split(|word| !word.quoted && word.text.eq_ignore_ascii_case("and")) {
        let [field, operator, value @ ..] = clause else {
            return Err(format!("{text:?} is no condition, write \"FIELD = VALUE and …\""));
        };
        let (field, operator) = (field.text.to_lowercase(), &*operator.text);
        let value = match value {
            [value] => &*value.text,
            _ => {
                return Err(format!(
                    "{field:?} takes one value; put quotes around one with spaces"
                ));
            }
        };
        clauses.push(clause_of(&field, operator, value)?);
    }
    Ok(clauses)
}

fn clause_of(field: &str, operator: &str, value: &str) -> Result<Clause, String> {
    match (field, operator) {
        ("type", "=") => {
            Ok(Clause::Type(value.split(',').map(|name| name.trim().into()).collect()))
        }
        ("tag", "=") => Ok(Clause::Tag(value.to_owned())),
        ("stream", "=") => Ok(Clause::Stream(value.to_owned())),
        ("category", "=") => Ok(Clause::Category(value.to_owned())),
        ("position", _) => {
            let at = value.replace(',', "").parse::<u64>();
            let at = at.map_err(|_| format!("{value:?} is no position, which is a number"))?;
            match operator {
                ">=" => Ok(Clause::From(Position(at))),
                ">" => Ok(Clause::From(Position(at).next())),
                "<=" => Ok(Clause::Through(Position(at))),
                "<" => Ok(Clause::Through(Position(at.saturating_sub(1)))),
                _ => Err(format!("{field} takes >=, >, <= and <, not {operator:?}")),
            }
        }
        ("time", _) => {
            let at = moment(value, &TimeZone::system())?;
            let micros = at.as_micros();
            match operator {
                ">=" => Ok(Clause::Since(at)),
                ">" => Ok(Clause::Since(Timestamp::from_micros(micros.saturating_add(1)))),
                "<=" => Ok(Clause::Until(at)),
                "<" => Ok(Clause::Until(Timestamp::from_micros(micros.saturating_sub(1)))),
                _ => Err(format!("{field} takes >=, >, <= and <, not {operator:?}")),
            }
        }
        ("type" | "tag" | "stream" | "category", _) => {
            Err(format!("{field} takes =, not {operator:?}"))
        }
        _ => {
            let fields = "position, type, tag, stream, category and time";
            Err(format!("{field:?} is no field of an event here; there are {fields}"))
        }
    }
}

/// Reads a time: of RFC 3339, or a date with or without a time, in the zone.
pub(crate) fn moment(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp::from_micros(moment.as_microsecond()));
    }
    let local =
        text.parse::<civil::DateTime>().ok().and_then(|local| local.to_zoned(zone.clone()).ok());
    local.map(|zoned| Timestamp::from_micros(zoned.timestamp().as_microsecond())).ok_or_else(|| {
        format!("{text:?} is no time, write 2026-02-01, '2026-02-01 10:00' or 2026-02-01T10:00:00Z")
    })
}

#[derive(Debug, PartialEq, Eq)]
struct ConditionWord {
    text: String,
    quoted: bool,
}

/// Splits into words: names and values, operators, and texts in quotes.
fn words(text: &str) -> Result<Vec<ConditionWord>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, quoted, after) = match first {
            '\'' | '"' => {
                let inner = &rest[1..];
                let end =
                    inner.find(first).ok_or_else(|| format!("a quote is open in {text:?}"))?;
                (&inner[..end], true, &inner[end + 1..])
            }
            '<' | '>' | '=' => {
                let end = rest.find(|c| !"<>=".contains(c)).unwrap_or(rest.len());
                (&rest[..end], false, &rest[end..])
            }
            _ => {
                let ends = |c: char| c.is_whitespace() || "<>=".contains(c);
                let end = rest.find(ends).unwrap_or(rest.len());
                (&rest[..end], false, &rest[end..])
            }
        };
        words.push(ConditionWord { text: word.to_owned(), quoted });
        rest = after.trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_with_and_without_spaces_and_quotes() {
        let read = parse("tag='order 7 and more' AND position>1,000").unwrap();
        let tag = Clause::Tag("order 7 and more".to_owned());
        assert_eq!(read, [tag, Clause::From(Position(1_001))]);
        let clauses = parse("type = 'a.A, a.B*' and stream=cart-* and position <= 1,000").unwrap();
        let types = Clause::Type(vec!["a.A".to_owned(), "a.B*".to_owned()]);
        let through = Clause::Through(Position(1_000));
        assert_eq!(clauses, [types, Clause::Stream("cart-*".to_owned()), through]);
        let zoned = parse("time >= 2026-02-01T10:00:00Z").unwrap();
        assert_eq!(zoned, [Clause::Since("2026-02-01T10:00:00Z".parse().unwrap())]);
    }

    #[test]
    fn conditions_that_mean_nothing_say_what_to_write() {
        for (text, said) in [
            ("type", "no condition"),
            ("colour = red", "there are position"),
            ("type > a.A", "takes ="),
            ("position = 3", "takes >="),
            ("position > many", "a number"),
            ("time > soon", "2026-02-01"),
            ("tag = order 7", "quotes"),
            ("tag = 'order", "quote is open"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_date_is_one_of_the_persons_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let expected = "2026-01-31T22:00:00Z".parse().unwrap();
        assert_eq!(moment("2026-02-01", &zone), Ok(expected));
        assert_eq!(moment("2026-02-01 00:00", &zone), Ok(expected));
    }
}
