//! Files that are read again while the server runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

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

    /// Looks at files again and again, on a thread that may be blocked, until the server stops.
    pub async fn follow(
        &self,
        reload: impl Fn() + Send + Sync + 'static,
        stopping: impl Future<Output = ()>,
    ) {
        let reload = Arc::new(reload);
        let mut stopping = std::pin::pin!(stopping);
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.0.notified() => {}
                () = stopping.as_mut() => return,
            }
            let reload = Arc::clone(&reload);
            // One that panics is tried again.
            let _ = tokio::task::spawn_blocking(move || reload()).await;
        }
    }
}
