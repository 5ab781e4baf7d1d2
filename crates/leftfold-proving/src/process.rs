//! A server's process, from its first line to its death.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Time that a server may take to be ready, on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// Time that a killed process may take to be gone.
const DEATH_PATIENCE: Duration = Duration::from_secs(30);
/// Lines of the output of a server that are kept.
const LAST_WORDS: usize = 100;

/// A process that said that it is ready.
pub(crate) struct ServerProcess {
    child: Child,
    /// Last lines of its output.
    words: Arc<Mutex<VecDeque<String>>>,
    /// Closed when nobody can say anything any more: the process and all its children are gone.
    silence: Mutex<Receiver<()>>,
}

impl ServerProcess {
    /// Starts the server and waits until it says a line that contains `ready`. The error has its
    /// last words.
    pub(crate) fn start(
        mut command: Command,
        ready: &'static str,
    ) -> Result<ServerProcess, String> {
        let shown = format!("{:?}", command.get_program());
        let (reader, writer) = io::pipe().map_err(|e| format!("no pipe: {e}"))?;
        let second = writer.try_clone().map_err(|e| format!("no pipe: {e}"))?;
        let child = command.stdout(Stdio::from(writer)).stderr(Stdio::from(second)).spawn();
        // It holds the writing ends, which only the server shall have.
        drop(command);
        let child = child.map_err(|e| format!("cannot start {shown}: {e}"))?;
        let (is_ready, silence) = mpsc::channel();
        let words = Arc::new(Mutex::new(VecDeque::new()));
        let listened = words.clone();
        thread::spawn(move || listen(reader, ready, &listened, &is_ready));
        let waited = silence.recv_timeout(START_PATIENCE);
        let running = ServerProcess { child, words, silence: Mutex::new(silence) };
        match waited {
            Ok(()) => Ok(running),
            Err(RecvTimeoutError::Timeout) => {
                Err(running.fail(&format!("{shown} is not ready after {START_PATIENCE:?}")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(running.fail(&format!("{shown} ended"))),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops the process and all its children where they are.
    pub(crate) fn freeze(&self) {
        signal("STOP", &self.stopped_with_children());
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) {
        signal("CONT", &self.with_children());
    }

    /// Stops the process, and returns it with its children.
    fn stopped_with_children(&self) -> Vec<u32> {
        // A stopped one makes no more children.
        signal("STOP", &[self.child.id()]);
        self.with_children()
    }

    fn with_children(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut next = 0;
        while next < all.len() {
            all.extend(children(all[next]));
            next += 1;
        }
        all
    }

    /// Kills the process and all its children at once, and returns when all are gone.
    pub(crate) fn kill(mut self) {
        let own = self.child.id();
        let all = self.stopped_with_children();
        signal("KILL", &all);
        let _ = self.child.kill();
        let _ = self.child.wait();
        let silence = self.silence.get_mut().unwrap_or_else(PoisonError::into_inner);
        let gone = loop {
            match silence.recv_timeout(DEATH_PATIENCE) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        // A test that panics already says what matters more.
        assert!(gone || thread::panicking(), "children of the process {own} outlive their SIGKILL");
    }

    fn fail(self, why: &str) -> String {
        let words = self.words.clone();
        self.kill();
        let words = words.lock().unwrap_or_else(PoisonError::into_inner);
        format!(
            "{why}; it said:\n{}",
            words.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
        )
    }
}

/// Reads to the end, so that the server is never held up by what it says.
fn listen(reader: PipeReader, ready: &str, words: &Mutex<VecDeque<String>>, is_ready: &Sender<()>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if text.contains(ready) {
            // Nobody listens any more where the wait was given up.
            let _ = is_ready.send(());
        }
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() == LAST_WORDS {
            words.pop_front();
        }
        words.push_back(text);
        line.clear();
    }
}

fn signal(name: &str, processes: &[u32]) {
    let mut kill = Command::new("sh");
    kill.args(["-c", r#"kill -s "$0" -- "$@""#, name]).args(processes.iter().map(u32::to_string));
    // Those that are gone already are as they should be.
    let _ = kill.stderr(Stdio::null()).status();
}

/// Returns the children of a process; empty if there is no `/proc`.
fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.filter(|&process| parent_of(process) == Some(parent)).collect()
}

/// Reads the parent from `pid (name) state parent …`; the name may contain anything.
fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}
