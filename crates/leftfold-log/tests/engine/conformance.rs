//! The log keeps every rule of a backend.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leftfold_core::store::{Store, Timestamp};
use leftfold_log::disk::Real;
use leftfold_log::{Log, LogClock, MachineClock, Options};
use leftfold_testing::conformance::{Factory, Faults, PassingTime, Reopens, conformance};

use crate::support::faulty::{Plan, Planned};
use crate::support::hooked::Hooked;

struct Logs;

/// A directory that is removed at the end, what is to fail in it, and its clocks.
struct Folder(PathBuf, Arc<Plan>, Arc<AheadClock>);

/// The machine's clocks, ahead by microseconds that a rule says.
#[derive(Debug, Default)]
struct AheadClock(MachineClock, AtomicU64);

impl AheadClock {
    fn ahead(&self) -> Duration {
        Duration::from_micros(self.1.load(Ordering::SeqCst))
    }
}

impl LogClock for AheadClock {
    fn wall(&self) -> Timestamp {
        self.0.wall().plus(self.ahead())
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic() + self.ahead()
    }

    fn slept(&self) -> Duration {
        self.0.slept()
    }

    fn program_made(&self) -> Option<Timestamp> {
        self.0.program_made()
    }
}

struct Passing(Arc<AheadClock>);

impl PassingTime for Passing {
    fn pass(&self, during: Duration) {
        let micros = u64::try_from(during.as_micros()).expect("hours are few microseconds");
        self.0.1.fetch_add(micros, Ordering::SeqCst);
    }
}

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
        Folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), Arc::default(), Arc::default())
    }

    async fn open(&self, place: &Folder) -> Store {
        // Small, so that segments and parts of the index are many, and it is busy soon.
        let options = Options {
            segment_bytes: 64 << 10,
            memory_bytes: 1 << 20,
            queue_bytes: 8 << 20,
            clock: Arc::clone(&place.2) as _,
            ..Options::default()
        };
        let disk = Hooked(Real::create(&place.0).unwrap(), Arc::clone(&place.1));
        Store::new(Log::open_on(Arc::new(disk), options).unwrap().0)
    }

    fn faults(&self, place: &Folder) -> Option<Box<dyn Faults>> {
        Some(Box::new(Planned(Arc::clone(&place.1))))
    }

    fn time(&self, place: &Folder) -> Option<Box<dyn PassingTime>> {
        Some(Box::new(Passing(Arc::clone(&place.2))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_every_rule_of_a_backend() {
    conformance(&Logs).await;
}
