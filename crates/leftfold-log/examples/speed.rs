//! How fast the engine is, beside a bare program that does nothing but gather, write and sync.
//!
//! `cargo run --release -p leftfold-log --example speed -- <directory>`

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use leftfold_core::store::{
    Append, Backend, Condition, EventType, Expected, NewEvent, Outcome, Position, Query, Read, Store, StreamName, Tags, Version,
};
use leftfold_log::{Log, Options};
use tokio::sync::oneshot;

const SECONDS: f64 = 2.0;

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "target/speed".to_owned()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for tasks in [1, 16, 256] {
        for round in 0..2 {
            let bare = runtime.block_on(bare(&folder, tasks));
            let plain = runtime.block_on(appends(&folder, tasks, 1, false));
            let conditional = runtime.block_on(appends(&folder, tasks, 1, true));
            println!(
                "{tasks:>4} tasks round {round}: bare {bare:>8.0}/s  log {plain:>8.0}/s ({:.0}%)  conditional {conditional:>8.0}/s ({:.0}%)",
                plain / bare * 100.0,
                conditional / bare * 100.0
            );
        }
    }
    for tasks in [1, 4, 16] {
        let events = runtime.block_on(appends(&folder, tasks, 100, false));
        println!("{tasks:>4} tasks, batches of 100: {events:>8.0} events/s");
    }
    runtime.block_on(million(&folder));
    let _ = fs::remove_dir_all(&folder);
}

fn event(stream: &StreamName, tag: &str) -> NewEvent {
    NewEvent::new(EventType::new("account.Deposited").unwrap(), vec![b'x'; 256])
        .in_stream(stream.clone())
        .tagged(Tags::none().with(tag.to_owned()))
}

fn fresh(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
}

/// The ceiling: tasks that hand 300 bytes to one thread, which writes to a preallocated file and syncs once a group.
async fn bare(folder: &Path, tasks: usize) -> f64 {
    fresh(folder);
    let file = fs::File::create(folder.join("bare")).unwrap();
    let zeros = vec![0; 1 << 20];
    for chunk in 0..256 {
        file.write_all_at(&zeros, chunk << 20).unwrap();
    }
    file.sync_all().unwrap();
    let (sender, receiver) = mpsc::channel::<(Vec<u8>, oneshot::Sender<()>)>();
    let writer = std::thread::spawn(move || {
        let mut offset = 0;
        while let Ok(first) = receiver.recv() {
            let (mut buffer, mut answers) = (first.0, vec![first.1]);
            while let Ok((bytes, answer)) = receiver.try_recv() {
                buffer.extend_from_slice(&bytes);
                answers.push(answer);
            }
            file.write_all_at(&buffer, offset).unwrap();
            offset = (offset + buffer.len() as u64) % (250 << 20);
            file.sync_data().unwrap();
            answers.into_iter().for_each(|answer| drop(answer.send(())));
        }
    });
    let end = Instant::now() + Duration::from_secs_f64(SECONDS);
    let mut running = Vec::new();
    for _ in 0..tasks {
        let sender = sender.clone();
        running.push(tokio::spawn(async move {
            let mut count = 0_u64;
            while Instant::now() < end {
                let (answer, answered) = oneshot::channel();
                sender.send((vec![7; 300], answer)).unwrap();
                answered.await.unwrap();
                count += 1;
            }
            count
        }));
    }
    drop(sender);
    let mut total = 0;
    for task in running {
        total += task.await.unwrap();
    }
    writer.join().unwrap();
    total as f64 / SECONDS
}

async fn appends(folder: &Path, tasks: usize, batch: usize, conditional: bool) -> f64 {
    fresh(folder);
    let (log, _) = Log::open(folder, Options::default()).unwrap();
    let end = Instant::now() + Duration::from_secs_f64(SECONDS);
    let mut running = Vec::new();
    for task in 0..tasks {
        let log = log.clone();
        running.push(tokio::spawn(async move {
            let stream = StreamName::new(format!("account-{task}")).unwrap();
            let mut version = Version(0);
            let mut count = 0_u64;
            while Instant::now() < end {
                let mut append = Append::of((0..batch).map(|_| event(&stream, "owner:1")).collect());
                if conditional {
                    append.condition = Condition::stream(stream.clone(), Expected::Exact(version));
                }
                let Outcome::Appended(appended) = log.append(append).await.unwrap() else { panic!("a conflict") };
                version = appended.versions.last().copied().unwrap();
                count += batch as u64;
            }
            count
        }));
    }
    let mut total = 0;
    for task in running {
        total += task.await.unwrap();
    }
    log.close().await.unwrap();
    total as f64 / SECONDS
}

/// A million events in a thousand streams, appended singly by 256 tasks: its size, its opening, and reading it.
async fn million(folder: &Path) {
    fresh(folder);
    let (log, _) = Log::open(folder, Options::default()).unwrap();
    let log = Arc::new(log);
    let started = Instant::now();
    let mut running = Vec::new();
    for task in 0..250_usize {
        let log = Arc::clone(&log);
        running.push(tokio::spawn(async move {
            for n in 0..4_000 {
                let stream = StreamName::new(format!("account-{}", task * 4 + n % 4)).unwrap();
                let append = Append::of(vec![event(&stream, &format!("owner:{}", task % 100))]);
                log.append(append).await.unwrap();
            }
        }));
    }
    for task in running {
        task.await.unwrap();
    }
    println!("1,000,000 events singly by 250 tasks: {:.0}/s", 1e6 / started.elapsed().as_secs_f64());
    let started = Instant::now();
    log.close().await.unwrap();
    drop(log);
    println!("closed in {:?}", started.elapsed());
    let mut kinds = std::collections::BTreeMap::<String, u64>::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = name.rsplit('.').next().unwrap().to_owned();
        *kinds.entry(kind).or_default() += entry.metadata().unwrap().len();
    }
    let total: u64 = kinds.values().sum();
    println!("{:.1} bytes an event: {kinds:?}", total as f64 / 1e6);
    for _ in 0..3 {
        let started = Instant::now();
        let (log, recovery) = Log::open(folder, Options::default()).unwrap();
        println!("opened in {:?}, {} replayed", started.elapsed(), recovery.replayed);
        drop(log);
    }
    let (log, _) = Log::open(folder, Options::default()).unwrap();
    let store = Store::new(log);
    for _ in 0..3 {
        let started = Instant::now();
        let mut events = store.read(Read::matching(Query::everything(), Position(1)));
        let mut count = 0_u64;
        while let Some(page) = events.page().await.unwrap() {
            count += page.len() as u64;
        }
        println!("read all: {:.0} events/s", count as f64 / started.elapsed().as_secs_f64());
    }
    for number in [1, 500, 999] {
        let stream = StreamName::new(format!("account-{number}")).unwrap();
        for _ in 0..3 {
            let started = Instant::now();
            let all = store.read(Read::stream(stream.clone(), Version(1))).all().await.unwrap();
            println!("stream of {} events: {:?}", all.len(), started.elapsed());
        }
    }
    let query = Query::tag("owner:7");
    let started = Instant::now();
    let all = store.read(Read::matching(query, Position(1))).all().await.unwrap();
    println!("tag of {} events: {:?}", all.len(), started.elapsed());
}
