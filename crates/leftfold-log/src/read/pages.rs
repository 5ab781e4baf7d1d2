//! Pages.

use leftfold_core::store::{
    Direction, Head, Page, Position, Query, Read, ReadError, RecordedEvent, StreamName, Version,
    What,
};

use crate::index::unreadable;
use crate::read::candidates::{Candidates, Span};
use crate::read::fetch::ReaderDemand;
use crate::shared::SharedLog;

/// Events that are looked at for one page: it ends there, however few of them match.
const LOOKED_AT_MAX: usize = 65_536;
const BATCH_MAX: usize = 8_192;
/// Room that is made for the events of a page before it is known how many match.
const RESERVED_MAX: usize = 4_096;

/// Bytes that are read ahead of a page backwards, whose events come last in each read: those of the
/// page, within these.
const AHEAD_BYTES_MIN: usize = 64 << 10;
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// Reads one page.
pub(crate) fn page(shared: &SharedLog, read: &Read) -> Result<Page, ReadError> {
    let head = shared.head();
    match &read.what {
        What::Stream { stream, from } => stream_page(shared, read, head, stream, *from),
        What::Matching { query, from } => {
            query.validate()?;
            let from = match read.direction {
                Direction::Forwards => (*from).max(Position(1)),
                Direction::Backwards => (*from).min(head.position),
            };
            let span = Span {
                index: &shared.index,
                from,
                direction: read.direction,
                through: head.position,
            };
            let candidates = Candidates::of_query(span, query)?;
            let mut page = PageBuilder::new(read, head, Some(query));
            page.fill(shared, span, candidates)?;
            Ok(page.end(None))
        }
    }
}

fn stream_page(
    shared: &SharedLog,
    read: &Read,
    head: Head,
    stream: &StreamName,
    from: Version,
) -> Result<Page, ReadError> {
    let version = shared.index.stream_version(stream, head.position).map_err(unreadable)?;
    let from = match read.direction {
        Direction::Forwards => from.max(Version(1)),
        Direction::Backwards => from.min(version),
    };
    let mut page = PageBuilder::new(read, head, None);
    if from > Version::ABSENT
        && from <= version
        && let Some(from) = shared.index.position_of(stream, from).map_err(unreadable)?
    {
        let span =
            Span { index: &shared.index, from, direction: read.direction, through: head.position };
        page.fill(shared, span, Candidates::of_stream(span, stream)?)?;
    }
    Ok(page.end(Some(version)))
}

/// A page that is being filled.
struct PageBuilder<'a> {
    read: &'a Read,
    head: Head,
    query: Option<&'a Query>,
    events: Vec<RecordedEvent>,
    bytes: usize,
    looked_at: usize,
    next: Option<What>,
    through: Option<Position>,
}

impl<'a> PageBuilder<'a> {
    fn new(read: &'a Read, head: Head, query: Option<&'a Query>) -> Self {
        Self {
            read,
            head,
            query,
            events: Vec::new(),
            bytes: 0,
            looked_at: 0,
            next: None,
            through: None,
        }
    }

    fn fill(
        &mut self,
        shared: &SharedLog,
        span: Span<'_>,
        mut candidates: Candidates,
    ) -> Result<(), ReadError> {
        let mut batch = Vec::new();
        // The first batch is about what the page may hold; later ones grow, for few of the
        // candidates match.
        let first = self.read.page_events.clamp(1, BATCH_MAX as u32 - 1) as usize + 1;
        let mut count =
            if matches!(span.direction, Direction::Backwards) { first.min(512) } else { first };
        loop {
            candidates.take(span, count, &mut batch)?;
            if batch.is_empty() {
                return Ok(());
            }
            if self.events.is_empty() {
                self.events
                    .reserve(batch.len().min(self.read.page_events as usize).min(RESERVED_MAX));
            }
            self.looked_at += batch.len();
            let taken = match span.direction {
                Direction::Forwards => {
                    shared.segments.fetch(&batch, &mut |event, bytes| self.take(event, bytes))?
                }
                Direction::Backwards => {
                    // The batch is left in increasing order.
                    batch.reverse();
                    let ahead =
                        (self.read.page_bytes as usize).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX);
                    shared.segments.fetch_backwards(&batch, ahead, &mut |event, bytes| {
                        self.take(event, bytes)
                    })?
                }
            };
            if taken == ReaderDemand::Enough {
                return Ok(());
            }
            if self.looked_at >= LOOKED_AT_MAX && self.query.is_some() {
                let at = if span.direction == Direction::Forwards {
                    batch.last()
                } else {
                    batch.first()
                };
                at.into_iter().for_each(|at| self.stop_at(*at));
                return Ok(());
            }
            count = (count * 2).min(BATCH_MAX);
        }
    }

    fn take(&mut self, event: RecordedEvent, bytes: usize) -> ReaderDemand {
        if self.query.is_some_and(|query| !query.matches(&event)) {
            return ReaderDemand::More;
        }
        let bytes_max = self.read.page_bytes as usize;
        let full = self.events.len() >= self.read.page_events as usize
            || (!self.events.is_empty() && self.bytes.saturating_add(bytes) > bytes_max);
        if full {
            self.through = Some(match self.read.direction {
                Direction::Forwards => Position(event.position.0 - 1),
                Direction::Backwards => event.position.next(),
            });
            self.next = Some(self.read.what.starting_at(&event));
            return ReaderDemand::Enough;
        }
        self.bytes += bytes;
        let at = event.position;
        self.events.push(event);
        // Close to its bound the page ends with what was read together: one more event could be one
        // more read.
        let rest = if self.read.direction == Direction::Forwards {
            self.head.position.0 - at.0
        } else {
            at.0 - 1
        };
        if self.query.is_some()
            && self.bytes >= bytes_max / 8 * 7
            && self.bytes > 64 << 10
            && rest > 0
        {
            self.stop_at(at);
            return ReaderDemand::Enough;
        }
        ReaderDemand::More
    }

    /// The page ends after a position.
    fn stop_at(&mut self, at: Position) {
        let What::Matching { query, .. } = &self.read.what else { return };
        let from = match self.read.direction {
            Direction::Forwards if at >= self.head.position => return,
            Direction::Backwards if at <= Position(1) => return,
            Direction::Forwards => at.next(),
            Direction::Backwards => Position(at.0 - 1),
        };
        self.through = Some(at);
        self.next = Some(What::Matching { query: query.clone(), from });
    }

    fn end(self, stream_version: Option<Version>) -> Page {
        let all = match self.read.direction {
            Direction::Forwards => self.head.position,
            Direction::Backwards => Position::START,
        };
        Page {
            events: self.events,
            next: self.next,
            through: self.through.unwrap_or(all),
            head: self.head,
            stream_version,
        }
    }
}

/// The last position recorded at or before a moment.
pub(crate) fn position_at(
    shared: &SharedLog,
    moment: leftfold_core::store::Timestamp,
) -> Result<Position, ReadError> {
    let head = shared.head();
    if moment >= head.recorded_at {
        return Ok(head.position);
    }
    // Everything at or before `low` is early enough; everything after `high` is not.
    let (mut low, mut high) = (0, head.position.0);
    while low < high {
        let middle = high - (high - low) / 2;
        if shared.segments.event_at(Position(middle))?.recorded_at <= moment {
            low = middle
        } else {
            high = middle - 1
        }
    }
    Ok(Position(low))
}
