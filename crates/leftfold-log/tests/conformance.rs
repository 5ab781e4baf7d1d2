//! The log keeps every rule of a backend.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use leftfold_core::store::Store;
use leftfold_core::testing::conformance::{Factory, Reopens, conformance};
use leftfold_log::{Log, Options};

struct Logs;

/// A directory that is removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

static FOLDERS: AtomicU64 = AtomicU64::new(0);

impl Factory for Logs {
    type Place = Folder;
    const REOPENS: Reopens = Reopens::Yes;

    async fn place(&self) -> Folder {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("conformance-{}-{number}", std::process::id());
        Folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    async fn open(&self, place: &Folder) -> Store {
        // Small, so that segments and parts of the index are many.
        let options = Options { segment_bytes: 64 << 10, memory_bytes: 1 << 20, ..Options::default() };
        Store::new(Log::open(&place.0, options).unwrap().0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_every_rule_of_a_backend() {
    conformance(&Logs).await;
}
