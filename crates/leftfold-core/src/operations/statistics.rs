//! Figures of a store's history.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::store::{AppendsFrom, Position, ReadError, RecordedEvent, Store, Version};

/// Categories, and types, that are counted by name; what comes beyond is counted together.
pub const COUNTED_NAMES_MAX: usize = 10_000;
/// Bytes of appends that are read at once.
const PAGE_BYTES: u32 = 2 << 20;

/// Figures of a store's history up to a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// Position up to which was counted.
    pub through: Position,
    /// Appends.
    pub appends: u64,
    /// Answers to commands that are kept.
    pub commands: u64,
    /// Moves of consumers.
    pub checkpoints: u64,
    /// All events, and the streams that they belong to.
    pub all: EventFigures,
    /// Those of each category; events in no stream are under the empty name.
    pub categories: BTreeMap<String, EventFigures>,
    /// Those of each type, by how many streams they began.
    pub types: BTreeMap<String, EventFigures>,
    /// Those of categories beyond [`COUNTED_NAMES_MAX`].
    pub other_categories: EventFigures,
    /// Those of types beyond that.
    pub other_types: EventFigures,
}

/// Figures of some events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFigures {
    /// Their number.
    pub events: u64,
    /// Streams whose first event is among them.
    pub streams: u64,
    /// Bytes of their data and of users' metadata.
    pub bytes: u64,
}

impl EventFigures {
    fn add(&mut self, event: &RecordedEvent) {
        self.events += 1;
        self.streams += u64::from(event.version() == Version(1));
        self.bytes += (event.data.len() + event.metadata.user.len()) as u64;
    }
}

/// Counts what a store holds, up to the durable end that it has now. It reads all of it, in bounded
/// memory; the store may be written meanwhile. `progress` is told the position that was reached,
/// and may end it: then the figures go up to there.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use leftfold_core::operations::statistics;
/// use leftfold_core::store::{Append, EventType, NewEvent, Store, StreamName};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::memory();
/// for id in ["1", "2", "1"] {
///     let sold = NewEvent::new(EventType::new("shop.Sold")?, "{}");
///     store.append(Append::of(vec![sold.in_stream(StreamName::of("shop", id)?)])).await?;
/// }
/// let figures = statistics(&store, &mut |_| ControlFlow::Continue(())).await?;
/// let shop = figures.categories["shop"];
/// assert_eq!((shop.events, shop.streams, shop.bytes), (3, 2, 6));
/// # Ok(()) }
/// ```
pub async fn statistics(
    store: &Store,
    progress: &mut (dyn FnMut(Position) -> ControlFlow<()> + Send),
) -> Result<StoreStatistics, ReadError> {
    let mut figures = StoreStatistics::default();
    let mut from = AppendsFrom::After(Position::START);
    let mut end = None;
    loop {
        let page = store.appends(from, PAGE_BYTES).await?;
        let end = *end.get_or_insert(page.head.position);
        if page.appends.is_empty() {
            return Ok(figures);
        }
        for append in page.appends {
            if append.last() > end {
                return Ok(figures);
            }
            figures.appends += 1;
            figures.commands += u64::from(append.command.is_some());
            figures.checkpoints += u64::from(append.checkpoint.is_some());
            append.events.iter().for_each(|event| figures.add(event));
            figures.through = append.last();
        }
        from = page.next;
        if progress(figures.through).is_break() {
            return Ok(figures);
        }
    }
}

impl StoreStatistics {
    fn add(&mut self, event: &RecordedEvent) {
        self.all.add(event);
        let category = event.stream.as_ref().map_or("", |at| at.name.category());
        named(&mut self.categories, &mut self.other_categories, category).add(event);
        named(&mut self.types, &mut self.other_types, &event.event_type).add(event);
    }
}

/// Returns the figures of a name, or of the rest if there are as many names as are counted.
fn named<'a>(
    names: &'a mut BTreeMap<String, EventFigures>,
    rest: &'a mut EventFigures,
    name: &str,
) -> &'a mut EventFigures {
    if !names.contains_key(name) {
        if names.len() >= COUNTED_NAMES_MAX {
            return rest;
        }
        names.insert(name.to_owned(), EventFigures::default());
    }
    names.get_mut(name).unwrap_or(rest)
}
