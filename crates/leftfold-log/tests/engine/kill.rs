//! A real process that is killed while it appends: everything that it was told is durable is there.
//!
//! `LEFTFOLD_KILLS` says how often, `LEFTFOLD_SEED` repeats the choice of moments.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use leftfold_core::store::{
    Append, Backend, CommandId, CommandRecord, Condition, Digest, Expected, NewEvent, Outcome,
    Position, Query, Read, Store, Version,
};
use leftfold_log::{Log, LogFollower, Options, verify};
use leftfold_testing::extent;

use crate::support::{event_type, number, seed, stream, tell, wait, wait_within};

const FOLDER: &str = "LEFTFOLD_KILL_FOLDER";
const WRITERS: usize = 8;

fn options() -> Options {
    Options { segment_bytes: 256 << 10, memory_bytes: 1 << 20, ..Options::default() }
}

/// The process that is killed: the test below starts it. It appends until then, and says what it
/// was answered.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (log, _) = Log::open(PathBuf::from(folder), options()).unwrap();
    let mut threads = Vec::new();
    for writer in 0..WRITERS {
        let log = log.clone();
        threads.push(std::thread::spawn(move || append_for_ever(&log, writer)));
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn append_for_ever(log: &Log, writer: usize) {
    let name = stream(&format!("writer-{writer}"));
    let store = Store::new(log.clone());
    let mut version = wait(store.version(name.clone())).unwrap();
    loop {
        let next = version.next();
        let event = NewEvent::new(
            event_type("test.Happened"),
            format!("{writer}:{next}:{}", "x".repeat(200)),
        );
        let mut append = Append::of(vec![event.in_stream(name.clone())]);
        append.condition = Condition::stream(name.clone(), Expected::Exact(version));
        let id = CommandId::new(&name, &next.to_string());
        append.command = Some(CommandRecord {
            id,
            digest: Digest([1; 16]),
            answer: next.0.to_le_bytes().to_vec().into(),
        });
        let Outcome::Appended(appended) = wait(log.append(append)).unwrap() else {
            panic!("the stream is this writer's own")
        };
        version = next;
        let line = format!("acknowledged {} {writer} {version}\n", appended.first);
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

#[test]
fn everything_acknowledged_before_a_kill_is_there_after_it() {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kill-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    let mut random = fastrand::Rng::with_seed(seed());
    let mut acknowledged: HashMap<u64, (usize, u64)> = HashMap::new();
    let kills = number("LEFTFOLD_KILLS", extent(20, 200));
    for kill in 0..kills {
        run_and_kill(&folder, random.usize(1..400), &mut acknowledged);
        let (log, recovery) = Log::open(&folder, options()).unwrap();
        assert!(!recovery.closed_cleanly);
        check(&log, &acknowledged);
        drop(log);
        if kill % 5 == 0 {
            let verified = verify(&folder, &mut |_| Continue(())).unwrap();
            assert!(verified.is_sound(), "{verified:?}");
        }
    }
    tell(&format!(
        "{kills} kills: all {} events that were acknowledged are there",
        acknowledged.len()
    ));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_follower_in_another_process_sees_nothing_that_is_gone_after_a_kill() {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("follow-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    let mut random = fastrand::Rng::with_seed(seed());
    let mut acknowledged = HashMap::new();
    run_and_kill(&folder, 1, &mut acknowledged);
    // It is the same one through all kills and openings.
    let (follower, _) = LogFollower::open(&folder, options()).unwrap();
    let (seen, mut beyond_last) = (Store::new(follower.clone()), Position::START);
    let kills = number("LEFTFOLD_KILLS", extent(6, 100));
    for _ in 0..kills {
        run_and_kill(&folder, random.usize(1..400), &mut acknowledged);
        let head = follower.status().borrow().head.position;
        let shown = wait(seen.read(Read::matching(Query::all(), Position(1))).all()).unwrap();
        assert!(shown.len() as u64 >= head.0);
        beyond_last = beyond_last.max(head);
        let (log, _) = Log::open(&folder, options()).unwrap();
        let kept = Store::new(log.clone());
        let kept = wait(kept.read(Read::matching(Query::all(), Position(1))).all()).unwrap();
        assert_eq!(&kept[..shown.len()], &shown[..], "what was shown is there, and the same");
        // The opening made the rest durable, and the follower is told.
        let mut status = follower.status();
        let through = Position(kept.len() as u64);
        let told = status.wait_for(|status| status.head.position >= through);
        wait_within(told).unwrap();
        wait(log.close()).unwrap();
    }
    assert!(beyond_last > Position(10), "it followed while the other process wrote");
    assert_eq!(follower.ended(), None);
    tell(&format!("{kills} kills beside a follower, which saw {beyond_last} events before them"));
    drop((seen, follower));
    fs::remove_dir_all(&folder).unwrap();
}

fn run_and_kill(folder: &Path, after: usize, acknowledged: &mut HashMap<u64, (usize, u64)>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = 0;
    // What stands in the pipe when the process dies was said before: it counts.
    while let Some(Ok(line)) = lines.next() {
        let mut words = line.split(' ');
        if words.next() == Some("acknowledged") {
            let mut next = || words.next().unwrap().parse::<u64>().unwrap();
            let (position, writer, version) = (next(), next() as usize, next());
            assert_eq!(
                acknowledged.insert(position, (writer, version)),
                None,
                "a position is given once"
            );
            seen += 1;
        }
        if seen == after {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= after, "the process ended by itself");
}

fn check(log: &Log, acknowledged: &HashMap<u64, (usize, u64)>) {
    let store = Store::new(log.clone());
    let all = wait(store.read(Read::matching(Query::all(), Position(1))).all()).unwrap();
    for (position, (writer, version)) in acknowledged {
        let event = &all[*position as usize - 1];
        assert_eq!((event.position, event.version()), (Position(*position), Version(*version)));
        assert!(event.data.starts_with(format!("{writer}:{version}:").as_bytes()));
        let id = CommandId::new(&stream(&format!("writer-{writer}")), &version.to_string());
        let answered =
            wait(log.answered(id)).unwrap().expect("a command's record is there with its events");
        assert_eq!((answered.first, answered.events), (Position(*position), 1));
    }
    for (index, event) in (1..).zip(&all) {
        assert_eq!(event.position, Position(index));
    }
    for writer in 0..WRITERS {
        let name = stream(&format!("writer-{writer}"));
        let versions =
            all.iter().filter(|event| event.stream.as_ref().is_some_and(|at| at.name == name));
        assert!(
            versions.zip(1..).all(|(event, version)| event.version() == Version(version)),
            "versions have no gap"
        );
    }
}
