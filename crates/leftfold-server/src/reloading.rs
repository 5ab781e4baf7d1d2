//! Files that are read again while the server runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::options::ServerOptions;
use crate::stopping::Stopping;

/// Time between two looks at the files: each is read, and compared by its digest.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The wish that a server looks at its files at once. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Reloader(Arc<Notify>);

impl Reloader {
    /// Lets the server read its files again if they have changed, without waiting for its next
    /// look, which comes within a second.
    pub fn look_now(&self) {
        self.0.notify_one();
    }
}

/// Reads the files of the options again whenever they change, until the server stops.
pub(crate) async fn follow_files(
    options: ServerOptions,
    reloader: Reloader,
    mut stopping: Stopping,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = reloader.0.notified() => {}
            () = stopping.wanted() => return,
        }
        let options = options.clone();
        // One that panics is tried again.
        let _ = tokio::task::spawn_blocking(move || reload(&options)).await;
    }
}

fn reload(options: &ServerOptions) {
    if let Some(users) = &options.users
        && let Err(error) = users.reload()
    {
        tracing::warn!(%error, "the users stay as they were");
    }
    if let Some(tls) = &options.tls
        && let Err(error) = tls.reload()
    {
        tracing::warn!(%error, "the certificates stay as they were");
    }
}
