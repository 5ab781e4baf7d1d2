//! Three processes write to one store, and are killed, stopped and thawed in turn; three handles
//! write to one, and the history checker judges their answers.
//!
//! `LEFTFOLD_SEED` repeats the choice of moments.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use leftfold_core::store::{
    Append, CommandId, CommandRecord, Condition, Digest, EventType, Expected, NewEvent, Position,
    Query, Store, StreamName, Tags,
};
use leftfold_postgres::{PostgresStore, PostgresStoreOptions};
use leftfold_proving::PostgresServer;
use leftfold_testing::history::AppendHistory;
use leftfold_testing::{extent, seed};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ledger::{Ledger, accept};
use crate::support::{place, rows};

const URL: &str = "LEFTFOLD_WRITER_URL";
const NAME: &str = "LEFTFOLD_WRITER_NAME";
/// The number of the first request of each task.
const FIRST: &str = "LEFTFOLD_WRITER_FIRST";
const PROCESSES: usize = 3;
const TASKS: usize = 4;
/// Longest time that a process which stands still may keep the others from writing.
const TRANSACTION_WITHIN: Duration = Duration::from_millis(500);
/// Time after which a test that waits has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// The process that is killed: the test below starts it. It appends until then, and says what was
/// accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer() {
    let Ok(url) = env::var(URL) else { return };
    let (name, first) = (env::var(NAME).unwrap(), env::var(FIRST).unwrap());
    let options = PostgresStoreOptions {
        transaction_within: TRANSACTION_WITHIN,
        ..PostgresStoreOptions::at(&url).unwrap()
    };
    let store = Store::new(PostgresStore::open_with(options).await.unwrap());
    // Ends the line that the harness began.
    println!();
    let mut tasks = JoinSet::new();
    for (task, first) in first.split(' ').enumerate() {
        let (store, writer) = (store.clone(), format!("{name}{task}"));
        let mut number: u64 = first.parse().unwrap();
        tasks.spawn(async move {
            loop {
                let position = accept(&store, &writer, number, |_| {}).await;
                let line = format!("accepted {writer} {number} {position}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                number += 1;
            }
        });
    }
    tasks.join_next().await.unwrap().unwrap();
}

/// Line of a writing process, or its end.
type Said = (usize, Option<String>);

struct Writers {
    url: String,
    running: Vec<Child>,
    said: UnboundedReceiver<Said>,
    say: UnboundedSender<Said>,
    ledger: Ledger,
}

impl Writers {
    fn start(url: &str) -> Self {
        let (say, said) = unbounded_channel();
        let mut writers =
            Self { url: url.to_owned(), running: Vec::new(), said, say, ledger: Ledger::default() };
        for process in 0..PROCESSES {
            let child = writers.spawn(process);
            writers.running.push(child);
        }
        writers
    }

    fn names(process: usize) -> impl Iterator<Item = String> {
        (0..TASKS).map(move |task| format!("{process}{task}"))
    }

    /// Starts a process behind what was accepted of it: so it repeats what is not known to be.
    fn spawn(&self, process: usize) -> Child {
        let first: Vec<_> = Self::names(process)
            .map(|name| (self.ledger.accepted(&name) + 1).to_string())
            .collect();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "processes::writer", "--nocapture", "--test-threads=1"])
            .envs([(URL, &*self.url), (NAME, &process.to_string()), (FIRST, &first.join(" "))])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let say = self.say.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = say.send((process, Some(line)));
            }
            let _ = say.send((process, None));
        });
        child
    }

    fn accepted(&self, process: usize) -> u64 {
        Self::names(process).map(|name| self.ledger.accepted(&name)).sum()
    }

    /// Takes the next line; returns the process if it was its end.
    async fn hear(&mut self) -> Option<usize> {
        let said = timeout(PATIENCE, self.said.recv()).await;
        let (process, line) = said.expect("a process says something").unwrap();
        let Some(line) = line else { return Some(process) };
        let words: Vec<_> = line.split(' ').collect();
        if let ["accepted", writer, number, position] = words[..] {
            let position = Position(position.parse().unwrap());
            self.ledger.note(writer, number.parse().unwrap(), position);
        }
        None
    }

    /// Waits until each of the processes was accepted so many requests more.
    async fn go_on(&mut self, processes: &[usize], more: u64) {
        let aims: Vec<_> =
            processes.iter().map(|&process| (process, self.accepted(process) + more)).collect();
        while aims.iter().any(|&(process, aim)| self.accepted(process) < aim) {
            assert_eq!(self.hear().await, None, "a process ended by itself");
        }
    }

    async fn kill(&mut self, process: usize) {
        self.running[process].kill().unwrap();
        // What stands in the pipe when the process dies was said before: it counts.
        while self.hear().await != Some(process) {}
        self.running[process].wait().unwrap();
    }

    fn signal(&self, process: usize, signal: &str) {
        let id = self.running[process].id().to_string();
        let sent = Command::new("sh").args(["-c", r#"kill -s "$0" -- "$1""#, signal, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Stops a process in the middle of a transaction: it has the lock that every writer needs.
    async fn stop_with_lock(&self, process: usize, sessions: &tokio_postgres::Client) {
        let id = self.running[process].id();
        let ask = "SELECT bool_or(state = 'active'), bool_or(state = 'idle in transaction')
            FROM pg_stat_activity WHERE application_name LIKE $1";
        let name = format!("leftfold of %:{id}");
        loop {
            self.signal(process, "STOP");
            let (mut active, mut in_transaction) = (true, false);
            while active && !in_transaction {
                let row = sessions.query_one(ask, &[&name]).await.unwrap();
                active = row.get::<_, Option<bool>>(0).unwrap_or(false);
                in_transaction = row.get::<_, Option<bool>>(1).unwrap_or(false);
            }
            if in_transaction {
                return;
            }
            self.signal(process, "CONT");
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Follows the store from its beginning, and returns the number of events when `through` was seen.
/// A position that is not the next one is a gap that a reader saw.
async fn follow(store: Store, mut through: tokio::sync::watch::Receiver<Option<Position>>) -> u64 {
    let mut subscription = store.subscribe(Query::everything(), Position::START);
    let mut last = Position::START;
    loop {
        if through.borrow_and_update().is_some_and(|through| through <= last) {
            return last.0;
        }
        tokio::select! {
            event = subscription.event() => {
                let event = event.unwrap();
                assert_eq!(event.position, last.next(), "a reader saw a gap");
                last = event.position;
            }
            changed = through.changed() => changed.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_are_killed_and_stopped_in_turn_and_nothing_is_lost_doubled_or_held_up() {
    let (_, url) = place("processes");
    let backend = PostgresStore::open(&url).await.unwrap();
    let (end, through) = tokio::sync::watch::channel(None);
    let follower = tokio::spawn(follow(Store::new(backend.clone()), through));
    let sessions = rows(&PostgresServer::shared().url()).await;
    let mut random = fastrand::Rng::with_seed(seed());
    let mut writers = Writers::start(&url);
    writers.go_on(&[0, 1, 2], 10).await;
    let rounds = extent(2, 60);
    for round in 0..rounds {
        for process in 0..PROCESSES {
            let others: Vec<_> = (0..PROCESSES).filter(|&other| other != process).collect();
            writers.go_on(&others, random.u64(..60)).await;
            writers.kill(process).await;
            writers.go_on(&others, 10).await;
            writers.running[process] = writers.spawn(process);
            writers.go_on(&[process], random.u64(1..20)).await;
            writers.stop_with_lock(process, &sessions).await;
            // The server ends the transaction of the one that stands still.
            writers.go_on(&others, 20).await;
            writers.signal(process, "CONT");
            writers.go_on(&[0, 1, 2], 10).await;
        }
        if round % 10 == 9 {
            writers.ledger.check(&backend).await;
        }
    }
    for process in 0..PROCESSES {
        writers.kill(process).await;
    }
    let events = writers.ledger.check(&backend).await;
    end.send(Some(events.last().unwrap().position)).unwrap();
    let followed = timeout(PATIENCE, follower).await.expect("the reader sees the end").unwrap();
    assert_eq!(followed, events.len() as u64);
    let times = rounds * PROCESSES as u64;
    let accepted = writers.ledger.all();
    eprintln!("{times} kills and {times} stops: all {accepted} accepted requests are there once");
}

/// The history checker sees what each of three handles was told, and replays every condition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_hold_between_three_that_write_side_by_side() {
    let (_, url) = place("history");
    let mut stores = Vec::new();
    for _ in 0..PROCESSES {
        stores.push(Store::new(PostgresStore::open(&url).await.unwrap()));
    }
    let history = Arc::new(AppendHistory::of(&stores[0]));
    let seed = seed();
    let mut tasks = JoinSet::new();
    for task in 0..(PROCESSES as u64 * 3) {
        let store = stores[task as usize % PROCESSES].clone();
        let (history, mut random) = (Arc::clone(&history), fastrand::Rng::with_seed(seed + task));
        tasks.spawn(async move {
            for number in 0..extent(30, 1_000) {
                let append = contended(&store, task, number, &mut random).await;
                let outcome = history.append(&store, append).await;
                assert!(outcome.is_ok(), "{outcome:?}");
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(history.verify(&stores[1]).await.unwrap(), Ok(()));
}

/// An append to one of few streams, with a condition that holds or fails by what others do.
async fn contended(store: &Store, task: u64, number: u64, random: &mut fastrand::Rng) -> Append {
    let seen = store.head().position;
    let stream = StreamName::of("history", &random.u8(..3).to_string()).unwrap();
    let version = store.version(stream.clone()).await.unwrap();
    let tag = format!("tag:{}", random.u8(..3));
    let event = NewEvent::new(EventType::new("test.Happened").unwrap(), format!("{task}:{number}"));
    let event = event.in_stream(stream.clone()).tagged(Tags::none().with(&*tag));
    let condition = match random.u8(..3) {
        0 => Condition::none(),
        1 => Condition::stream(stream, Expected::Exact(version)),
        _ => Condition::none().and_none_matching(Query::tag(tag), seen),
    };
    let command = (random.u8(..4) == 0).then(|| {
        let key = random.u8(..50).to_string();
        let digest = Digest::of(key.as_bytes());
        CommandRecord { id: CommandId::new("history", &key), digest, answer: key.into() }
    });
    Append { command, ..Append::of(vec![event]).when(condition) }
}
