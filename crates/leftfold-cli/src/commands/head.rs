//! `leftfold head`: the end of a store, and signing it; and comparing it with one that was signed.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use leftfold::operations::{
    HistoryCheck, SignedHead, SignedHeadError, SigningKey, VerifyingKey, sign_head, verify_against,
};
use leftfold::store::{Position, Store};
use serde_json::json;

use crate::access::StoreArgument;
use crate::commands::read::end_of;
use crate::failure::CliFailure;
use crate::progress::{Interrupt, Measure, ProgressLine};
use crate::screen::{Screen, Tint, count};

/// Shows the end of a store, and signs it
///
/// A signed head is one line of JSON: keep it elsewhere, and "verify --against" finds a history
/// that was rewritten since.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  leftfold head --new-key signing.key
  leftfold head ./data --sign signing.key > head.json
  leftfold verify ./data --against head.json --key signing.key.pub")]
pub(crate) struct HeadArguments {
    #[command(flatten)]
    store: Option<StoreArgument>,
    /// Signs the end with the key in this file, and prints the signed head
    #[arg(long, value_name = "KEY", requires = "url")]
    sign: Option<PathBuf>,
    /// Draws a key: the secret goes into this file, and the public half into PATH.pub
    #[arg(long, value_name = "PATH", conflicts_with_all = ["sign", "url"])]
    new_key: Option<PathBuf>,
}

pub(crate) async fn run(arguments: &HeadArguments, screen: &mut Screen) -> Result<(), CliFailure> {
    if let Some(path) = &arguments.new_key {
        return new_key(path, screen);
    }
    let Some(store) = &arguments.store else {
        return Err(CliFailure::Usage("name a store, or draw a key with --new-key".to_owned()));
    };
    let store = store.open_to_read().await?;
    match &arguments.sign {
        Some(path) => {
            let key: SigningKey = key_in(path)?;
            screen.line(sign_head(&store, &key).await?.to_string())?;
        }
        None => show(&store, screen).await?,
    }
    screen.flush()
}

async fn show(store: &Store, screen: &mut Screen) -> Result<(), CliFailure> {
    // What was acknowledged before is known by a page; the status may be older than that.
    end_of(store).await?;
    let (identity, head) = (store.identity(), store.head());
    if screen.is_json() {
        return screen.object(&json!({
            "store": identity.store.to_string(),
            "epoch": identity.epoch.number,
            "position": head.position.0,
            "chain": head.chain.to_string(),
            "recordedAt": head.recorded_at.to_string(),
        }));
    }
    screen.facts(&[
        ("store", identity.store.to_string()),
        ("epoch", identity.epoch.number.to_string()),
        ("position", count(head.position.0)),
        ("recorded", screen.time(head.recorded_at)),
        ("chain", head.chain.to_string()),
    ])
}

/// Compares a store with a head that was signed; by the bytes of its history, too, if what the
/// store says of its hashes is not to be believed.
pub(crate) async fn against(
    store: &Store,
    (signed, key): (&Path, &Path),
    is_elsewhere: bool,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let public: VerifyingKey = key_in(key)?;
    let signed: SignedHead = text_of(signed)?.parse().map_err(CliFailure::of)?;
    match verify_against(store, &signed, &public).await {
        Ok(()) => {}
        Err(SignedHeadError::Read(error)) => return Err(error.into()),
        Err(error) => return Err(CliFailure::Fault(error.to_string())),
    }
    if is_elsewhere {
        confirm(store, &signed).await?;
    }
    if screen.is_json() {
        return screen.object(&json!({ "against": signed.position.0, "same": true }));
    }
    let said = format!(
        "the history up to {} is the one that was signed at {}",
        count(signed.position.0),
        screen.time(signed.signed_at)
    );
    screen.line(screen.tint(Tint::Green, &said))
}

/// Computes the hashes up to the position that was signed.
async fn confirm(store: &Store, signed: &SignedHead) -> Result<(), CliFailure> {
    let interrupt = Interrupt::listen();
    let mut check = HistoryCheck::of(store);
    let mut progress = ProgressLine::of("verifying", Measure::Things("events"), signed.position.0);
    while let Some(ends) = check.next().await? {
        if let Some(end) = ends.iter().find(|end| end.position >= signed.position) {
            let position = signed.position;
            return match end.hash == signed.hash || position == Position::START {
                true => Ok(()),
                false => {
                    Err(CliFailure::Fault(SignedHeadError::Rewritten { position }.to_string()))
                }
            };
        }
        interrupt.check(None)?;
        progress.at(check.position().0);
    }
    let (signed, actual) = (signed.position, check.position());
    if signed == Position::START {
        return Ok(());
    }
    Err(CliFailure::Fault(SignedHeadError::Shortened { signed, actual }.to_string()))
}

fn new_key(path: &Path, screen: &mut Screen) -> Result<(), CliFailure> {
    let key = SigningKey::generate().map_err(CliFailure::of)?;
    let public = PathBuf::from(format!("{}.pub", path.display()));
    create(path, &key.secret_text(), true)?;
    create(&public, &key.verifying_key().to_string(), false)?;
    if screen.is_json() {
        return screen.object(&json!({ "secret": path, "public": public }));
    }
    screen.line(format!("secret key in {}, for the signer alone", path.display()))?;
    screen.line(format!("public key in {}", public.display()))
}

/// Writes a file that must not be there.
fn create(path: &Path, text: &str, secret: bool) -> Result<(), CliFailure> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if secret {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let _ = secret;
    let written = options.open(path).and_then(|mut file| writeln!(file, "{text}"));
    written.map_err(|error| CliFailure::Failed(format!("{}: {error}", path.display())))
}

fn key_in<K: std::str::FromStr<Err = SignedHeadError>>(path: &Path) -> Result<K, CliFailure> {
    text_of(path)?
        .parse()
        .map_err(|error| CliFailure::Failed(format!("{}: {error}", path.display())))
}

fn text_of(path: &Path) -> Result<String, CliFailure> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| CliFailure::Failed(format!("{}: {error}", path.display())))?;
    Ok(text.trim().to_owned())
}
