//! `leftfold dump` and `leftfold import`: a store as lines of JSON, and back.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use leftfold::operations::{Dump, DumpError, DumpReport, Import, ImportReport, LINE_BYTES_MAX};
use leftfold::store::Store;
use serde_json::json;

use crate::access::StoreArgument;
use crate::commands::foreign::{self, ForeignSource};
use crate::commands::table::{self, TableArguments};
use crate::failure::CliFailure;
use crate::input::InputLines;
use crate::progress::{Interrupt, Measure, ProgressLine};
use crate::screen::{Screen, Tint, counted};

/// Writes a store as lines of JSON
///
/// Every append with its events, ids, times, metadata and tags, every answer to a command and every
/// checkpoint; "import" makes a store of them. The store may be written meanwhile. A file is there
/// when it is complete, and not before.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold dump ./data shop.jsonl
  leftfold dump leftfold://host/shop | gzip > shop.jsonl.gz")]
pub(crate) struct DumpArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// File to write, which is not there yet; - is standard output
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

/// Makes a store of lines of JSON, or of another server's events
///
/// Of a dump, with positions, versions, ids and answers to commands as they were, into a store that
/// is new and that nobody else writes; or, with --csv or --query, an event of each row of a table,
/// with its columns as data, into any store; or of the events of a server of KurrentDB or UmaDB. If
/// it is interrupted the same call goes on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold import ./new shop.jsonl
  gunzip < shop.jsonl.gz | leftfold import 'postgres://shop@db/shop?schema=events'
  leftfold import ./new 'kurrentdb://reader:secret@db.example:2113'
  leftfold import ./new umadb://127.0.0.1:50051
  leftfold import ./new orders.csv --csv --type 'shop.{kind}' --stream 'order-{id}' --typed
  leftfold import ./new old.db --query 'select * from orders order by id' --type shop.Ordered")]
pub(crate) struct ImportArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// File of a dump, or of a table; - is a dump on standard input. Or a server, as
    /// kurrentdb://HOST:2113, esdb://HOST:2113 or umadb://HOST:50051
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Takes streams of KurrentDB that have lost their first events, too: their events are numbered
    /// anew, and the metadata of streams is left out
    #[arg(long, conflicts_with_all = ["csv", "query"])]
    renumber: bool,
    #[command(flatten)]
    table: TableArguments,
}

pub(crate) async fn dump(arguments: &DumpArguments, screen: &mut Screen) -> Result<(), CliFailure> {
    let store = arguments.store.open_to_read().await?;
    let interrupt = Interrupt::listen();
    if arguments.file == Path::new("-") {
        // The lines are the output, so nothing else may be in it.
        let mut out = BufWriter::new(io::stdout().lock());
        write_dump(&store, &mut out, &interrupt).await?;
        return Ok(());
    }
    let path = &arguments.file;
    if path.exists() {
        let hint = "give another name, or remove it";
        return Err(CliFailure::Failed(format!("{} is there already; {hint}", path.display())));
    }
    // A name that no other call has: two of them may be told the same name at once.
    let mut unfinished = path.clone().into_os_string();
    unfinished.push(format!(".{}.unfinished", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let said = |place: &Path, error| CliFailure::Failed(format!("{}: {error}", place.display()));
    let file = File::create_new(&unfinished).map_err(|error| said(&unfinished, error))?;
    let mut out = BufWriter::new(file);
    let named = match write_dump(&store, &mut out, &interrupt).await {
        Ok(report) => {
            let synced = out.get_ref().sync_all();
            let named = synced.and_then(|()| give_name(&unfinished, path));
            named.map(|()| report).map_err(|error| said(path, error))
        }
        Err(error) => Err(error),
    };
    if named.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    print_dump(&named?, path, screen)
}

/// Gives a file its name for good, unless a file has that meanwhile.
fn give_name(unfinished: &Path, name: &Path) -> io::Result<()> {
    match std::fs::hard_link(unfinished, name) {
        Ok(()) => std::fs::remove_file(unfinished)?,
        // A file system without links.
        Err(_) if !name.try_exists()? => std::fs::rename(unfinished, name)?,
        Err(error) => return Err(error),
    }
    #[cfg(unix)]
    {
        let directory = name.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

async fn write_dump(
    store: &Store,
    out: &mut impl Write,
    interrupt: &Interrupt,
) -> Result<DumpReport, CliFailure> {
    let mut dump = Dump::of(store).await.map_err(CliFailure::of)?;
    let through = dump.report().through;
    let mut progress = ProgressLine::of("dumping", Measure::Things("events"), through.0);
    loop {
        interrupt.check(None)?;
        let line = match dump.next_line().await {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(DumpError::Read(error)) => return Err(error.into()),
            Err(error) => return Err(CliFailure::of(error)),
        };
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
        progress.at(dump.position().0);
    }
    out.flush()?;
    Ok(dump.report())
}

fn print_dump(report: &DumpReport, path: &Path, screen: &mut Screen) -> Result<(), CliFailure> {
    if screen.is_json() {
        return screen.object(&json!({
            "file": path,
            "through": report.through.0,
            "appends": report.appends,
            "events": report.events,
        }));
    }
    let (events, appends) = (counted(report.events, "event"), counted(report.appends, "append"));
    let said = format!("{events} in {appends} dumped to {}", path.display());
    screen.line(screen.tint(Tint::Green, &said))
}

pub(crate) async fn import(
    arguments: &ImportArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    if arguments.table.is_meant() {
        let store = arguments.store.open_or_create().await?;
        let imported = table::import(&store, &arguments.table, &arguments.file, screen).await;
        let closed = store.close().await;
        imported?;
        return Ok(closed?);
    }
    if let Some(source) = arguments.file.to_str().and_then(ForeignSource::of) {
        let source = source?;
        let (store, times) = arguments.store.open_to_import().await?;
        let imported = foreign::import((&store, &times), &source, arguments.renumber, screen).await;
        // At the time of the last event, or the rest of an interrupted import came too late.
        let closed = store.close().await;
        imported?;
        return Ok(closed?);
    }
    let mut input = InputLines::open(&arguments.file)?;
    let store = arguments.store.open_or_create().await?;
    let imported = import_lines(&store, &mut input).await;
    let closed = store.close().await;
    let report = imported?;
    closed?;
    print_import(&report, screen)
}

async fn import_lines(store: &Store, input: &mut InputLines) -> Result<ImportReport, CliFailure> {
    const HINT: &str = "the same call goes on";
    let interrupt = Interrupt::listen();
    let mut progress = ProgressLine::of("importing", Measure::Bytes, input.bytes);
    let mut import = Import::into(store);
    let (mut line, mut done) = (Vec::new(), 0);
    loop {
        interrupt.check(Some(HINT))?;
        let read = input.next(&mut line, LINE_BYTES_MAX)?;
        if read == 0 {
            return import.finish().await.map_err(CliFailure::of);
        }
        import.line(&line).await.map_err(CliFailure::of)?;
        done += read;
        progress.at(done);
    }
}

fn print_import(report: &ImportReport, screen: &mut Screen) -> Result<(), CliFailure> {
    if screen.is_json() {
        return screen.object(&json!({
            "source": report.source.to_string(),
            "appends": report.appends,
            "events": report.events,
            "repeated": report.repeated,
            "consumers": report.consumers,
        }));
    }
    let before = match report.repeated {
        0 => String::new(),
        repeated => format!(" ({} of them before)", counted(repeated, "append")),
    };
    let (events, appends) = (counted(report.events, "event"), counted(report.appends, "append"));
    let consumers = counted(report.consumers, "consumer");
    let said = format!("{events} in {appends} imported{before}, {consumers}");
    screen.line(screen.tint(Tint::Green, &said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_meanwhile_is_not_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let (unfinished, name) =
            (directory.path().join("a.1.unfinished"), directory.path().join("a"));
        std::fs::write(&unfinished, "mine").unwrap();
        std::fs::write(&name, "another's").unwrap();
        let refused = give_name(&unfinished, &name).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "another's");
        std::fs::remove_file(&name).unwrap();
        give_name(&unfinished, &name).unwrap();
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "mine");
        assert!(!unfinished.exists());
    }
}
