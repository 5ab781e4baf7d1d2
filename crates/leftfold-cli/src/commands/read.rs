//! `leftfold read` and `leftfold tail`: events, those that are there and those that come.

use clap::Args;
use leftfold::store::{Position, Read, RecordedEvent, Signal, Store};

use crate::access::StoreArgument;
use crate::event_json::JsonEvent;
use crate::failure::CliFailure;
use crate::screen::{Screen, Tint, count, printable};
use crate::selection::{Selection, SelectionArguments};

/// Width of a line if no terminal says how wide it is.
const COLUMNS_USUAL: usize = 160;
/// Columns that data has at least, however long the names before it are.
const DATA_COLUMNS_MIN: usize = 24;

/// Prints events
///
/// The oldest first, and all of them, unless it is told otherwise. Nothing is created, and a
/// program that writes the store is not disturbed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold read ./data --limit 10 --backwards
  leftfold read leftfold://host --stream cart-7 --json
  leftfold read ./data --where \"type = shop.* and time >= 2026-02-01\"")]
pub(crate) struct ReadArguments {
    #[command(flatten)]
    store: StoreArgument,
    #[command(flatten)]
    events: SelectionArguments,
    #[command(flatten)]
    view: ViewArguments,
    /// Prints at most so many events
    #[arg(short = 'n', long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// The newest first
    #[arg(short, long)]
    backwards: bool,
}

/// Prints events as they are recorded
///
/// The last ones that are there, and then each one that comes, until it is interrupted.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold tail ./data
  leftfold tail leftfold://host --type 'shop.*' -n 0 --json")]
pub(crate) struct TailArguments {
    #[command(flatten)]
    store: StoreArgument,
    #[command(flatten)]
    events: SelectionArguments,
    #[command(flatten)]
    view: ViewArguments,
    /// Begins with so many events that are there
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 10)]
    last: u32,
}

/// Extent to which an event is shown to a person.
#[derive(Clone, Copy, Debug, Args)]
struct ViewArguments {
    /// Shows the whole data, with tags, metadata and ids, on lines of their own
    #[arg(long)]
    full: bool,
}

pub(crate) async fn read(arguments: &ReadArguments, screen: &mut Screen) -> Result<(), CliFailure> {
    let store = arguments.store.open_to_read().await?;
    let selection = arguments.events.resolve(&store).await?;
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let mut view = EventPrinter::new(arguments.view);
    // Forwards up to the end that is there now: a store that grows meanwhile is no endless read.
    let through = selection.through.min(end_of(&store).await?);
    let from = if arguments.backwards { through } else { selection.from };
    let mut read = Read::matching(selection.query, from);
    read.page_events = u32::try_from(limit).unwrap_or(u32::MAX).min(Read::PAGE_EVENTS);
    if arguments.backwards {
        read = read.backwards();
    }
    if through == Position::START || limit == 0 {
        return Ok(());
    }
    let mut events = store.read(read);
    let mut shown = 0;
    while shown < limit
        && let Some(event) = events.next().await?
    {
        if event.position > through || event.position < selection.from {
            break;
        }
        view.print(&event, screen)?;
        shown += 1;
    }
    screen.flush()
}

pub(crate) async fn tail(arguments: &TailArguments, screen: &mut Screen) -> Result<(), CliFailure> {
    let store = arguments.store.open_to_read().await?;
    let Selection { query, from, through } = arguments.events.resolve(&store).await?;
    let mut view = EventPrinter::new(arguments.view);
    let end = end_of(&store).await?;
    let mut last = Vec::new();
    if end > Position::START {
        let newest = Read::matching(query.clone(), end.min(through)).backwards();
        let mut newest = store.read(newest.page_of(arguments.last));
        while last.len() < arguments.last as usize
            && let Some(event) = newest.next().await?
        {
            if event.position < from {
                break;
            }
            last.push(event);
        }
    }
    for event in last.iter().rev() {
        view.print(event, screen)?;
    }
    screen.flush()?;
    if through <= end {
        // Nothing that comes is meant.
        return Ok(());
    }
    let mut subscription = store.subscribe(query, end);
    // Whoever reads a pipe gets a live event at once, and those of the past in large pieces.
    let mut is_live = false;
    loop {
        match subscription.next().await? {
            Signal::Event(event) if event.position > through => return screen.flush(),
            Signal::Event(event) if event.position >= from => view.print(&event, screen)?,
            Signal::CaughtUp(_) => is_live = true,
            Signal::FellBehind(_) => is_live = false,
            Signal::Event(_) | Signal::Progress(_) => {}
        }
        if is_live {
            screen.flush()?;
        }
    }
}

/// The durable end, as it is now: that of a status may be older than what was acknowledged.
pub(crate) async fn end_of(store: &Store) -> Result<Position, CliFailure> {
    let nothing = Read::matching(leftfold::store::Query::nothing(), Position::END).page_of(0);
    Ok(store.page(nothing).await?.head.position)
}

/// Writes events for people, or as JSON.
struct EventPrinter {
    options: ViewArguments,
    /// Widths of the columns, which only grow.
    wide: [usize; 3],
    columns: usize,
}

impl EventPrinter {
    fn new(options: ViewArguments) -> Self {
        let columns = terminal_size::terminal_size().map(|(width, _)| width.0 as usize);
        Self { options, wide: [6, 16, 12], columns: columns.unwrap_or(COLUMNS_USUAL) }
    }

    fn print(&mut self, event: &RecordedEvent, screen: &mut Screen) -> Result<(), CliFailure> {
        if screen.is_json() {
            return screen.line(serde_json::to_string(&JsonEvent::of(event))?);
        }
        let stream = event.stream.as_ref().map_or("-".to_owned(), |at| {
            format!("{}@{}", printable(&at.name), count(at.version.0))
        });
        let (position, kind) = (count(event.position.0), printable(&event.event_type));
        for (wide, text) in self.wide.iter_mut().zip([&position, &kind, &stream]) {
            *wide = (*wide).max(text.chars().count());
        }
        let [p, k, s] = self.wide;
        let time = screen.time(event.recorded_at);
        let before = p + time.chars().count() + k + s + 8;
        let data = match self.options.full {
            true => String::new(),
            false => shortened(&event.data, self.columns.saturating_sub(before)),
        };
        let line = format!(
            "{}  {}  {}  {}  {data}",
            screen.tint(Tint::Bold, &format!("{position:>p$}")),
            screen.tint(Tint::Dim, &time),
            screen.tint(Tint::Cyan, &format!("{kind:k$}")),
            screen.tint(Tint::Green, &format!("{stream:s$}")),
        );
        screen.line(line.trim_end())?;
        if self.options.full { print_rest(event, screen) } else { Ok(()) }
    }
}

/// Writes everything of an event that its line does not say.
fn print_rest(event: &RecordedEvent, screen: &mut Screen) -> Result<(), CliFailure> {
    let mut facts = vec![("    id", event.id.to_string())];
    let mut fact = |name, text: String| {
        if !text.is_empty() {
            facts.push((name, text));
        }
    };
    let tags: Vec<String> = event.tags.iter().map(|tag| printable(tag)).collect();
    fact("    tags", tags.join("  "));
    let label = |label: &Option<leftfold::store::Label>| {
        label.as_ref().map(|text| printable(text)).unwrap_or_default()
    };
    fact("    correlation", label(&event.metadata.correlation));
    fact("    causation", label(&event.metadata.causation));
    let trace = event.metadata.trace.as_ref().map(ToString::to_string);
    fact("    trace", trace.unwrap_or_default());
    fact("    metadata", shortened(&event.metadata.user, usize::MAX));
    if event.schema_version != 1 {
        fact("    schema", event.schema_version.to_string());
    }
    fact("    data", shortened(&event.data, usize::MAX));
    screen.facts(&facts)
}

/// Data as text of so many columns at most; of bytes that are none their number.
fn shortened(data: &[u8], columns: usize) -> String {
    let Ok(text) = std::str::from_utf8(data) else {
        return format!("({} bytes)", count(data.len() as u64));
    };
    let columns = columns.max(DATA_COLUMNS_MIN);
    let text = printable(text);
    match text.char_indices().nth(columns) {
        None => text,
        Some(_) => text.chars().take(columns - 1).chain(['…']).collect(),
    }
}
