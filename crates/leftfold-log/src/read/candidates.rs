//! Positions that may match a query: from the lists of the index if they narrow it down, else all.
//!
//! The lists give candidates, never answers: every candidate is read, and [`Query::matches`]
//! decides.

use leftfold_core::store::{
    Direction, Position, Query, QueryItem, ReadError, RecordedEvent, StreamMatch, TypeMatch,
};

use crate::index::unreadable;
use crate::index::{Index, ListError, PostingKey, Postings};
use crate::read::fetch::ReaderDemand;
use crate::shared::SharedLog;

/// Names that may begin with a prefix; with more, the prefix is not looked up by name.
const NAMES_MAX: usize = 256;
/// Tags of one item that are looked up; further ones are not used to narrow it down.
const TAGS_MAX: usize = 8;

/// The positions that may match, in one direction.
#[derive(Debug)]
pub(crate) enum Candidates {
    /// All of them.
    All(Position),
    /// Those of lists.
    Listed(CandidateNode, Position),
}

/// Lists of positions, combined.
#[derive(Debug)]
pub(crate) enum CandidateNode {
    List(List),
    /// Those of any.
    Any(Vec<CandidateNode>),
    /// Those of all.
    All(Vec<CandidateNode>),
}

/// One list, and the position that it stands at.
#[derive(Debug)]
pub(crate) struct List {
    postings: Postings,
    at: Option<Position>,
}

/// Range of positions that is looked up in an index, with a direction and an end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    pub(crate) index: &'a Index,
    pub(crate) from: Position,
    pub(crate) direction: Direction,
    /// The head that the reader reads at.
    pub(crate) through: Position,
}

impl Candidates {
    pub(crate) fn of_query(span: Span<'_>, query: &Query) -> Result<Self, ReadError> {
        let mut items = Vec::with_capacity(query.items().len());
        for item in query.items() {
            match span.item(item)? {
                Some(node) => items.push(node),
                None => return Ok(Self::All(span.from)),
            }
        }
        Ok(Self::Listed(CandidateNode::Any(items), span.from))
    }

    pub(crate) fn of_stream(span: Span<'_>, stream: &str) -> Result<Self, ReadError> {
        Ok(Self::Listed(span.list(PostingKey::Stream(stream))?, span.from))
    }

    /// Takes the next positions, at most `count`; fewer only if there are no more.
    pub(crate) fn take(
        &mut self,
        span: Span<'_>,
        count: usize,
        out: &mut Vec<Position>,
    ) -> Result<(), ReadError> {
        out.clear();
        while out.len() < count {
            let found = match self {
                Self::All(at) | Self::Listed(_, at) if outside(*at, span) => return Ok(()),
                Self::All(at) => Some(*at),
                Self::Listed(node, at) => node.seek(span.direction, *at)?,
            };
            let Some(found) = found.filter(|found| !outside(*found, span)) else {
                self.go_to(Position(if span.direction == Direction::Forwards {
                    u64::MAX
                } else {
                    0
                }));
                return Ok(());
            };
            out.push(found);
            self.go_to(beyond(span.direction, found));
        }
        Ok(())
    }

    fn go_to(&mut self, position: Position) {
        match self {
            Self::All(at) | Self::Listed(_, at) => *at = position,
        }
    }
}

fn outside(position: Position, span: Span<'_>) -> bool {
    position == Position::START || position > span.through
}

/// The position after, in a direction.
fn beyond(direction: Direction, position: Position) -> Position {
    match direction {
        Direction::Forwards => position.next(),
        Direction::Backwards => Position(position.0.saturating_sub(1)),
    }
}

/// Tells whether `a` comes before `b` in a direction.
fn before(direction: Direction, a: Position, b: Position) -> bool {
    if direction == Direction::Forwards { a < b } else { a > b }
}

impl CandidateNode {
    /// The first position at or beyond `to`. Never asked to go back.
    fn seek(&mut self, direction: Direction, to: Position) -> Result<Option<Position>, ReadError> {
        match self {
            Self::List(list) => list.seek(direction, to),
            Self::Any(nodes) => {
                let mut first: Option<Position> = None;
                for node in nodes {
                    let found = node.seek(direction, to)?;
                    if let Some(found) = found
                        && first.is_none_or(|first| before(direction, found, first))
                    {
                        first = Some(found);
                    }
                }
                Ok(first)
            }
            Self::All(nodes) => {
                let mut at = to;
                'again: loop {
                    for node in nodes.iter_mut() {
                        let Some(found) = node.seek(direction, at)? else { return Ok(None) };
                        if found != at {
                            at = found;
                            continue 'again;
                        }
                    }
                    return Ok(Some(at));
                }
            }
        }
    }
}

impl List {
    fn seek(&mut self, direction: Direction, to: Position) -> Result<Option<Position>, ReadError> {
        if let Some(at) = self.at
            && before(direction, at, to)
        {
            self.at = self.postings.next().transpose().map_err(unreadable)?;
            if self.at.is_some_and(|at| before(direction, at, to)) {
                self.postings.seek(to);
                self.at = self.postings.next().transpose().map_err(unreadable)?;
            }
        }
        Ok(self.at)
    }
}

impl Span<'_> {
    fn list(&self, key: PostingKey<'_>) -> Result<CandidateNode, ReadError> {
        let mut postings = self.index.postings(key, self.from, self.direction, self.through);
        let at = postings.next().transpose().map_err(unreadable)?;
        Ok(CandidateNode::List(List { postings, at }))
    }

    /// Returns the lists that an item lies within; `None` if there are none.
    fn item(&self, item: &QueryItem) -> Result<Option<CandidateNode>, ReadError> {
        let mut all = Vec::new();
        for tag in item.tags.iter().take(TAGS_MAX) {
            all.push(self.list(PostingKey::Tag(tag))?);
        }
        all.extend(match &item.streams {
            Some(StreamMatch::Exact(stream)) => Some(self.list(PostingKey::Stream(stream))?),
            Some(StreamMatch::Category(category)) => {
                Some(self.list(PostingKey::Category(category))?)
            }
            Some(StreamMatch::Prefix(prefix)) => {
                self.names(PostingKey::Stream(prefix))?.map(CandidateNode::Any)
            }
            None => None,
        });
        if !item.types.is_empty()
            && let Some(types) = self.types(&item.types)?
        {
            all.push(CandidateNode::Any(types));
        }
        Ok(match all.len() {
            0 => None,
            1 => all.pop(),
            _ => Some(CandidateNode::All(all)),
        })
    }

    fn types(&self, types: &[TypeMatch]) -> Result<Option<Vec<CandidateNode>>, ReadError> {
        let mut any = Vec::with_capacity(types.len());
        for one in types {
            match one {
                TypeMatch::Exact(exact) => any.push(self.list(PostingKey::Type(exact))?),
                TypeMatch::Prefix(prefix) => match self.names(PostingKey::Type(prefix))? {
                    Some(named) => any.extend(named),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(any))
    }

    /// Returns the lists of all names that begin with a prefix; `None` if the prefix is empty, or
    /// the names are too many.
    fn names(&self, prefix: PostingKey<'_>) -> Result<Option<Vec<CandidateNode>>, ReadError> {
        if matches!(prefix, PostingKey::Stream("") | PostingKey::Type("")) {
            return Ok(None);
        }
        let names = match self.index.keys_with_prefix(prefix, NAMES_MAX) {
            Ok(names) => names,
            Err(ListError::TooMany { .. }) => return Ok(None),
            Err(ListError::Index(error)) => return Err(unreadable(error)),
        };
        let key = |name| {
            if matches!(prefix, PostingKey::Stream(_)) {
                PostingKey::Stream(name)
            } else {
                PostingKey::Type(name)
            }
        };
        names.iter().map(|name| self.list(key(name))).collect::<Result<_, _>>().map(Some)
    }
}

/// Tells whether lists narrow down every item of the query without a listing of names.
pub(crate) fn is_indexed(query: &Query) -> bool {
    query.items().iter().all(|item| {
        !item.tags.is_empty()
            || matches!(item.streams, Some(StreamMatch::Exact(_) | StreamMatch::Category(_)))
            || (!item.types.is_empty()
                && item.types.iter().all(|one| matches!(one, TypeMatch::Exact(_))))
    })
}

/// The first event after a position, up to a head, that matches.
pub(crate) fn first_match(
    shared: &SharedLog,
    query: &Query,
    after: Position,
    through: Position,
) -> Result<Option<Position>, ReadError> {
    if after >= through {
        return Ok(None);
    }
    let span =
        Span { index: &shared.index, from: after.next(), direction: Direction::Forwards, through };
    let mut candidates = Candidates::of_query(span, query)?;
    let mut batch = Vec::new();
    let mut count = 1;
    loop {
        candidates.take(span, count, &mut batch)?;
        if batch.is_empty() {
            return Ok(None);
        }
        let mut found = None;
        shared.segments.fetch(&batch, &mut |event: RecordedEvent, _| {
            if query.matches(&event) {
                found = Some(event.position);
                ReaderDemand::Enough
            } else {
                ReaderDemand::More
            }
        })?;
        if found.is_some() {
            return Ok(found);
        }
        count = (count * 4).min(4096);
    }
}

/// The first position after `after` that may match, by lists in memory that tell the first position
/// of a key after another. It is at most one more than the lists allow: the caller looks at the
/// event.
pub(crate) fn next_candidate(
    query: &Query,
    after: Position,
    first_after: &dyn Fn(PostingKey<'_>, Position) -> Option<Position>,
) -> Option<Position> {
    query.items().iter().filter_map(|item| next_of_item(item, after, first_after)).min()
}

fn next_of_item(
    item: &QueryItem,
    after: Position,
    first_after: &dyn Fn(PostingKey<'_>, Position) -> Option<Position>,
) -> Option<Position> {
    // The first position that each list allows; all must agree in the end, and the furthest is a
    // bound until then.
    let mut at = after.next();
    for tag in item.tags.iter().take(TAGS_MAX) {
        at = at.max(first_after(PostingKey::Tag(tag), after)?);
    }
    match &item.streams {
        Some(StreamMatch::Exact(stream)) => {
            at = at.max(first_after(PostingKey::Stream(stream), after)?)
        }
        Some(StreamMatch::Category(category)) => {
            at = at.max(first_after(PostingKey::Category(category), after)?)
        }
        Some(StreamMatch::Prefix(_)) | None => {}
    }
    let exact = |one: &TypeMatch| match one {
        TypeMatch::Exact(exact) => Some(exact.clone()),
        TypeMatch::Prefix(_) => None,
    };
    if !item.types.is_empty() && item.types.iter().all(|one| exact(one).is_some()) {
        let first = item
            .types
            .iter()
            .filter_map(exact)
            .filter_map(|exact| first_after(PostingKey::Type(&exact), after))
            .min();
        at = at.max(first?);
    }
    Some(at)
}
