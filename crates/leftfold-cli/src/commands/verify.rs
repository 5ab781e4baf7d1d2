//! `leftfold verify`: everything of a store is what was written.

use std::path::PathBuf;

use clap::Args;
use leftfold::log::{LogOpenError, LogVerifyError, VerifiedLog};
use leftfold::operations::HistoryCheck;
use leftfold::postgres::{PostgresStore, RowsProgress};
use leftfold::store::{Backend, ReadError, Store};
use serde_json::json;

use crate::access::StoreArgument;
use crate::commands::head;
use crate::failure::CliFailure;
use crate::progress::{Interrupt, Measure, ProgressLine};
use crate::screen::{Screen, Tint, count};

/// Verifies that a store is whole and consistent
///
/// In a directory, which a program may write meanwhile: every hash of the chain, every record, and
/// the index. In PostgreSQL: every hash of the chain, by the rows as they are, and the tables that
/// are derived. Of a store that a server keeps: every hash of the chain, by the bytes that the
/// server sends. It ends with 3 if something is damaged.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Only compares the history with this signed head; of "head --sign". Over an address every
    /// hash up to there is computed again, as what the server says of its hashes is not believed
    #[arg(long, value_name = "HEAD", requires = "key")]
    against: Option<PathBuf>,
    /// Public key of the signer
    #[arg(long, value_name = "KEY", requires = "against")]
    key: Option<PathBuf>,
}

pub(crate) async fn run(
    arguments: &VerifyArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    if let (Some(signed), Some(key)) = (&arguments.against, &arguments.key) {
        let store = arguments.store.open_to_read().await?;
        head::against(&store, (signed, key), arguments.store.is_address(), screen).await?;
        return screen.flush();
    }
    let Some(directory) = arguments.store.directory_there()? else {
        let url = &arguments.store.url;
        if let Some(store) = leftfold::open_existing_rows(url).await.map_err(CliFailure::of)? {
            return verify_rows(&store, screen).await;
        }
        return verify_bytes(&arguments.store.open_to_read().await?, screen).await;
    };
    let (interrupt, mut line) =
        (Interrupt::listen(), ProgressLine::of("verifying", Measure::Bytes, 0));
    let verified = tokio::task::spawn_blocking(move || {
        leftfold::log::verify(directory, &mut |progress| {
            line.of_all(progress.bytes);
            line.at(progress.bytes_done);
            interrupt.flow()
        })
    });
    match verified.await.map_err(CliFailure::of)? {
        Ok(verified) => report(&verified, screen),
        Err(LogVerifyError::Stopped) => Err(CliFailure::Interrupted(None)),
        Err(error @ LogVerifyError::Open(LogOpenError::Damaged { .. })) => {
            Err(CliFailure::Fault(error.to_string()))
        }
        Err(error) => Err(CliFailure::of(error)),
    }
}

fn report(verified: &VerifiedLog, screen: &mut Screen) -> Result<(), CliFailure> {
    let shown = show(verified, screen);
    // A fault is told by the exit code, too, if nobody reads what it is about.
    match fault_of(verified) {
        Some(fault) => Err(fault),
        None => {
            shown?;
            sound("sound: every hash, record and list of the index is right", screen)
        }
    }
}

/// Returns the damage that was found, with what to do.
fn fault_of(verified: &VerifiedLog) -> Option<CliFailure> {
    let said = match (&verified.damage, &verified.index_damage) {
        (Some(damage), _) => {
            let hint = "restore a backup, or a copy of the directory";
            format!("the log is damaged at {damage}; {hint}")
        }
        (None, Some(damage)) => {
            let hint = "delete the index, and opening the log rebuilds it";
            format!("the index is damaged at {damage}; {hint}")
        }
        (None, None) => return None,
    };
    Some(CliFailure::Fault(said))
}

fn show(verified: &VerifiedLog, screen: &mut Screen) -> Result<(), CliFailure> {
    let text = |damage: &Option<leftfold::log::Damage>| damage.as_ref().map(ToString::to_string);
    let (damage, index_damage) = (text(&verified.damage), text(&verified.index_damage));
    if screen.is_json() {
        screen.object(&json!({
            "sound": verified.is_sound(),
            "how": "chain",
            "store": verified.identity.store.to_string(),
            "epoch": verified.identity.epoch.number,
            "position": verified.head.position.0,
            "segments": verified.segments,
            "groups": verified.groups,
            "events": verified.events,
            "commands": verified.commands,
            "checkpoints": verified.checkpoints,
            "closedCleanly": verified.closed_cleanly,
            "damage": damage,
            "indexDamage": index_damage,
        }))?;
    } else {
        screen.facts(&[
            ("store", verified.identity.store.to_string()),
            ("epoch", verified.identity.epoch.number.to_string()),
            ("last event", count(verified.head.position.0)),
            ("segments", count(verified.segments)),
            ("groups", count(verified.groups)),
            ("events", count(verified.events)),
            ("commands", count(verified.commands)),
            ("checkpoints", count(verified.checkpoints)),
        ])?;
    }
    if !verified.is_sound() && !screen.is_json() {
        screen.line(screen.tint(Tint::Red, "damaged"))?;
    }
    screen.flush()
}

/// Recomputes the chain of a store in PostgreSQL from its rows.
async fn verify_rows(store: &PostgresStore, screen: &mut Screen) -> Result<(), CliFailure> {
    // It may be ended at any moment, as it writes nothing.
    let _interrupt = Interrupt::listen();
    let mut line = ProgressLine::of("verifying", Measure::Things("events"), 0);
    let verifying = store.verify(|progress| {
        if let RowsProgress::Events { through, end } = progress {
            line.of_all(end.0);
            line.at(through.0);
        }
    });
    let verified = verifying.await.map_err(|error| unread(&error))?;
    drop(line);
    let identity = store.identity();
    if screen.is_json() {
        screen.object(&json!({
            "sound": true,
            "how": "chain",
            "store": identity.store.to_string(),
            "epoch": identity.epoch.number,
            "appends": verified.appends,
            "events": verified.events,
            "chain": verified.chain.to_string(),
        }))?;
        return screen.flush();
    }
    screen.facts(&[
        ("store", identity.store.to_string()),
        ("appends", count(verified.appends)),
        ("events", count(verified.events)),
        ("chain", verified.chain.to_string()),
    ])?;
    sound("sound: every hash of the chain is that of the rows", screen)
}

/// Computes the chain of a store that is elsewhere of the bytes that it gives.
async fn verify_bytes(store: &Store, screen: &mut Screen) -> Result<(), CliFailure> {
    let interrupt = Interrupt::listen();
    let mut check = HistoryCheck::of(store);
    let mut progress =
        ProgressLine::of("verifying", Measure::Things("events"), store.head().position.0);
    while check.next().await?.is_some() {
        interrupt.check(None)?;
        progress.at(check.position().0);
    }
    drop(progress);
    let identity = store.identity();
    if screen.is_json() {
        screen.object(&json!({
            "sound": true,
            "how": "chain",
            "store": identity.store.to_string(),
            "epoch": identity.epoch.number,
            "position": check.position().0,
            "links": check.links(),
            "chain": check.chain().to_string(),
        }))?;
        return screen.flush();
    }
    screen.facts(&[
        ("store", identity.store.to_string()),
        ("epoch", identity.epoch.number.to_string()),
        ("last event", count(check.position().0)),
        ("links", count(check.links())),
        ("chain", check.chain().to_string()),
    ])?;
    sound("sound: every hash of the chain is that of the bytes", screen)
}

/// Returns the failure of a reading that did not come to the end: a store that cannot be reached is
/// no damaged one.
fn unread(error: &ReadError) -> CliFailure {
    match error {
        ReadError::Damaged { .. } => CliFailure::Fault(error.to_string()),
        error => CliFailure::of(error),
    }
}

fn sound(text: &str, screen: &mut Screen) -> Result<(), CliFailure> {
    if !screen.is_json() {
        screen.line(screen.tint(Tint::Green, text))?;
    }
    screen.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_cannot_be_reached_is_no_damaged_one() {
        let damaged = ReadError::Damaged { place: "row 7".to_owned(), detail: "torn".to_owned() };
        assert!(matches!(unread(&damaged), CliFailure::Fault(_)));
        let away = ReadError::Io { detail: "connection reset".to_owned() };
        for error in [away, ReadError::Closed] {
            assert!(matches!(unread(&error), CliFailure::Failed(_)));
        }
    }
}
