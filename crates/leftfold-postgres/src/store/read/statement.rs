//! SQL of a query: the positions of the events that match, in order, each item from an index.

use std::fmt::Write;

use bytes::BytesMut;
use leftfold_core::store::{Direction, Query, QueryItem, StreamMatch, TypeMatch};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::store::text::stored;

/// Positions that one page looks at if an item has no index, and if an item's index finds more than
/// the item means.
const SCANNED_MAX: u64 = 50_000;
const FILTERED_MAX: u64 = 100_000;

/// A query as SQL. Its first parameters are the position to begin at, the last position that is
/// looked at, and the number of positions that are wanted.
#[derive(Debug)]
pub(super) struct PositionsSql {
    /// Selects the column `position`, each position once, in the order of the direction.
    pub(super) text: String,
    /// Parameters from `$4` on.
    pub(super) terms: Vec<Term>,
    /// Number of positions that a page looks at, at most.
    pub(super) span: u64,
}

/// A parameter of a query.
#[derive(Debug)]
pub(super) enum Term {
    Text(String),
    Texts(Vec<String>),
}

/// Number of the parameters before the terms.
pub(super) const PARAMETERS: usize = 3;

impl ToSql for Term {
    fn to_sql(
        &self,
        as_type: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Text(text) => text.to_sql(as_type, out),
            Self::Texts(texts) => texts.to_sql(as_type, out),
        }
    }

    fn accepts(as_type: &Type) -> bool {
        <String as ToSql>::accepts(as_type) || <Vec<String> as ToSql>::accepts(as_type)
    }

    to_sql_checked!();
}

impl PositionsSql {
    /// The positions that match in a schema; `None` if nothing can match.
    pub(super) fn of(query: &Query, direction: Direction, schema: &str) -> Option<Self> {
        let mut builder = Builder {
            schema,
            direction,
            sql: Self { text: String::new(), terms: Vec::new(), span: u64::MAX },
        };
        let items: Vec<String> = query.items().iter().map(|item| builder.item(item)).collect();
        if items.is_empty() {
            return None;
        }
        let order = builder.order("position");
        builder.sql.text = format!(
            "SELECT DISTINCT position FROM (({})) i {order} LIMIT $3",
            items.join(") UNION ALL (")
        );
        Some(builder.sql)
    }
}

struct Builder<'s> {
    schema: &'s str,
    direction: Direction,
    sql: PositionsSql,
}

impl Builder<'_> {
    fn term(&mut self, term: Term) -> usize {
        self.sql.terms.push(term);
        PARAMETERS + self.sql.terms.len()
    }

    fn text(&mut self, text: &str) -> usize {
        self.term(Term::Text(stored(text).into_owned()))
    }

    fn texts<'t>(&mut self, texts: impl Iterator<Item = &'t str>) -> usize {
        self.term(Term::Texts(texts.map(|text| stored(text).into_owned()).collect()))
    }

    fn order(&self, column: &str) -> String {
        match self.direction {
            Direction::Forwards => format!("ORDER BY {column}"),
            Direction::Backwards => format!("ORDER BY {column} DESC"),
        }
    }

    /// The positions that are looked at.
    fn range(&self, column: &str) -> String {
        match self.direction {
            Direction::Forwards => format!("{column} >= $1 AND {column} <= $2"),
            Direction::Backwards => format!("{column} <= $1 AND {column} >= $2"),
        }
    }

    /// The positions that are looked at among the events of one value. Both are compared as a row,
    /// which only an index over both gives in order: the planner believes an event of the value to
    /// be near in the index of positions, and would read the whole history for one that is not
    /// there.
    fn range_of(&self, column: &str, value: &str) -> String {
        let (low, high) = match self.direction {
            Direction::Forwards => ("$1", "$2"),
            Direction::Backwards => ("$2", "$1"),
        };
        format!(
            "({column}, e.position) >= ({value}, {low}) AND ({column}, e.position) <= ({value}, {high})"
        )
    }

    /// The order that belongs to [`range_of`](Self::range_of).
    fn order_of(&self, column: &str) -> String {
        match self.direction {
            Direction::Forwards => format!("ORDER BY {column}, e.position"),
            Direction::Backwards => format!("ORDER BY {column} DESC, e.position DESC"),
        }
    }

    fn item(&mut self, item: &QueryItem) -> String {
        if let Some((first, others)) = item.tags.split_first() {
            return self.by_tag(item, first, others);
        }
        if let Some(StreamMatch::Exact(stream)) = &item.streams {
            return self.by_stream(item, stream);
        }
        if !item.types.is_empty() {
            return self.by_types(item);
        }
        match &item.streams {
            Some(StreamMatch::Category(category)) => self.by_category(item, category),
            _ => self.by_position(item),
        }
    }

    fn by_tag(
        &mut self,
        item: &QueryItem,
        first: &str,
        others: &[leftfold_core::store::Tag],
    ) -> String {
        let tag = self.text(first);
        let mut filter = self.filter(item, IndexedPart::Tag);
        if !others.is_empty() {
            let others = self.texts(others.iter().map(|tag| &**tag));
            let _ = write!(filter, " AND e.tags @> ${others}::text[]");
        }
        if item.tags.len() > 1 || !item.types.is_empty() || item.streams.is_some() {
            self.sql.span = self.sql.span.min(FILTERED_MAX);
        }
        let (schema, range, order) =
            (self.schema, self.range("t.position"), self.order("t.position"));
        // OFFSET 0 keeps the planner from going through the events in order and asking each for the
        // tag, which it believes to be as cheap if the tag is frequent.
        let join = if filter.is_empty() {
            String::new()
        } else {
            format!(
                "CROSS JOIN LATERAL (SELECT e.type, e.stream, e.tags FROM {schema}.events e
                WHERE e.position = t.position OFFSET 0) e"
            )
        };
        format!(
            "SELECT t.position FROM {schema}.tags t {join}
            WHERE t.tag = ${tag} AND {range}{filter} {order} LIMIT $3"
        )
    }

    fn by_stream(&mut self, item: &QueryItem, stream: &str) -> String {
        let name = self.text(stream);
        let filter = self.filter(item, IndexedPart::Stream);
        if !item.types.is_empty() {
            self.sql.span = self.sql.span.min(FILTERED_MAX);
        }
        let (schema, order) = (self.schema, self.order("e.version"));
        let (from, to) = match self.direction {
            Direction::Forwards => ("$1", "$2"),
            Direction::Backwards => ("$2", "$1"),
        };
        format!(
            "SELECT e.position FROM {schema}.events e WHERE e.stream = ${name}
                AND e.version >= {schema}.version_at(${name}, {from}::bigint)
                AND e.version < {schema}.version_at(${name}, {to}::bigint + 1)
                {filter} {order} LIMIT $3"
        )
    }

    fn by_types(&mut self, item: &QueryItem) -> String {
        let (mut exact, mut prefixes) = (Vec::new(), Vec::new());
        for one in &item.types {
            match one {
                TypeMatch::Exact(name) => exact.push(&**name),
                TypeMatch::Prefix(prefix) => prefixes.push(prefix.as_str()),
            }
        }
        let exact = self.texts(exact.into_iter());
        let mut names = format!("SELECT unnest(${exact}::text[])");
        if !prefixes.is_empty() {
            let prefixes = self.texts(prefixes.into_iter());
            let schema = self.schema;
            let _ = write!(
                names,
                " UNION SELECT {schema}.types_beginning(p) FROM unnest(${prefixes}::text[]) p"
            );
        }
        let filter = self.filter(item, IndexedPart::Types);
        if item.streams.is_some() {
            self.sql.span = self.sql.span.min(FILTERED_MAX);
        }
        let (schema, range, order) =
            (self.schema, self.range_of("e.type", "n.name"), self.order_of("e.type"));
        format!(
            "SELECT p.position FROM ({names}) n (name), LATERAL (
                SELECT e.position FROM {schema}.events e
                WHERE {range}{filter} {order} LIMIT $3) p"
        )
    }

    fn by_category(&mut self, item: &QueryItem, category: &str) -> String {
        let category = self.text(category);
        let filter = self.filter(item, IndexedPart::Stream);
        let name = "split_part(e.stream, '-', 1)";
        let range = self.range_of(name, &format!("${category}::text"));
        let (schema, order) = (self.schema, self.order_of(name));
        format!(
            "SELECT e.position FROM {schema}.events e WHERE e.stream IS NOT NULL
                AND {range}{filter} {order} LIMIT $3"
        )
    }

    /// Looks at every event of a part of the store.
    fn by_position(&mut self, item: &QueryItem) -> String {
        let filter = self.filter(item, IndexedPart::Nothing);
        self.sql.span = self.sql.span.min(SCANNED_MAX);
        let (schema, range, order) =
            (self.schema, self.range("e.position"), self.order("e.position"));
        format!("SELECT e.position FROM {schema}.events e WHERE {range}{filter} {order} LIMIT $3")
    }

    /// The parts of an item that its index does not name.
    fn filter(&mut self, item: &QueryItem, named: IndexedPart) -> String {
        let mut filter = String::new();
        if named != IndexedPart::Types && !item.types.is_empty() {
            self.filter_types(item, &mut filter);
        }
        match &item.streams {
            None => {}
            Some(_) if named == IndexedPart::Stream => {}
            Some(StreamMatch::Exact(stream)) => {
                let stream = self.text(stream);
                let _ = write!(filter, " AND e.stream = ${stream}");
            }
            Some(StreamMatch::Category(category)) => {
                let category = self.text(category);
                let _ = write!(filter, " AND split_part(e.stream, '-', 1) = ${category}");
            }
            Some(StreamMatch::Prefix(prefix)) => {
                let prefix = self.text(prefix);
                let _ = write!(filter, " AND starts_with(e.stream, ${prefix})");
            }
        }
        if !item.means_system() {
            filter.push_str(
                " AND NOT starts_with(e.type, '$') AND coalesce(NOT starts_with(e.stream, '$'), true)",
            );
        }
        filter
    }

    fn filter_types(&mut self, item: &QueryItem, filter: &mut String) {
        let prefixes: Vec<&str> = item
            .types
            .iter()
            .filter_map(|one| match one {
                TypeMatch::Prefix(prefix) => Some(prefix.as_str()),
                TypeMatch::Exact(_) => None,
            })
            .collect();
        let exact = item.types.iter().filter_map(|one| match one {
            TypeMatch::Exact(name) => Some(&**name),
            TypeMatch::Prefix(_) => None,
        });
        let exact = self.texts(exact);
        let _ = write!(filter, " AND (e.type = ANY(${exact}::text[])");
        if !prefixes.is_empty() {
            let prefixes = self.texts(prefixes.into_iter());
            let _ = write!(
                filter,
                " OR EXISTS (SELECT FROM unnest(${prefixes}::text[]) p WHERE starts_with(e.type, p))"
            );
        }
        filter.push(')');
    }
}

/// Part of an item that its index names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IndexedPart {
    Tag,
    Stream,
    Types,
    Nothing,
}
