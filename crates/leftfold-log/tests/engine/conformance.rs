//! The log keeps every rule of a backend.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leftfold_core::store::Store;
use leftfold_log::disk::Real;
use leftfold_log::{Log, Options};
use leftfold_testing::conformance::{Factory, Faults, Reopens, conformance};

use crate::support::faulty::{Plan, Planned};
use crate::support::hooked::Hooked;

struct Logs;

/// A directory that is removed at the end, and what is to fail in it.
struct Folder(PathBuf, Arc<Plan>);

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
        Folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), Arc::default())
    }

    async fn open(&self, place: &Folder) -> Store {
        // Small, so that segments and parts of the index are many, and it is busy soon.
        let options = Options {
            segment_bytes: 64 << 10,
            memory_bytes: 1 << 20,
            queue_bytes: 8 << 20,
            ..Options::default()
        };
        let disk = Hooked(Real::create(&place.0).unwrap(), Arc::clone(&place.1));
        Store::new(Log::open_on(Arc::new(disk), options).unwrap().0)
    }

    fn faults(&self, place: &Folder) -> Option<Box<dyn Faults>> {
        Some(Box::new(Planned(Arc::clone(&place.1))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_every_rule_of_a_backend() {
    conformance(&Logs).await;
}
