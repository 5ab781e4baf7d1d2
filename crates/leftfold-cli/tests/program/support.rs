//! The program as a process: one that serves, and commands that end.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_leftfold");
/// Attempts of something that another process has to have noticed.
const ATTEMPTS_MAX: usize = 400;

/// The program, which is killed with the value.
pub(crate) struct Program(Child);

impl Program {
    /// Starts the program, and returns when it listens.
    pub(crate) fn serve(store: &Path, port: u16) -> Self {
        Self::serve_with(store, port, &[])
    }

    pub(crate) fn serve_with(store: &Path, port: u16, more: &[&str]) -> Self {
        Self::serve_by(Command::new(PROGRAM), store, port, more)
    }

    /// The same, but no file can grow beyond a megabyte: what a full disk is to whoever writes.
    pub(crate) fn serve_in_little_room(store: &Path, port: u16) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", r#"trap '' XFSZ; ulimit -f 2048; exec "$0" "$@""#, PROGRAM]);
        Self::serve_by(command, store, port, &[])
    }

    pub(crate) fn serve_by(mut command: Command, store: &Path, port: u16, more: &[&str]) -> Self {
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--store"]).arg(store);
        command.args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, format!("leftfold listens on 127.0.0.1:{port}\n"));
        Self(child)
    }

    /// Starts a command, whose input and output are pipes.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }

    /// Starts a command that says nothing.
    pub(crate) fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn input(&mut self) -> ChildStdin {
        self.0.stdin.take().unwrap()
    }

    pub(crate) fn output(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().unwrap())
    }

    /// Waits until it has ended, and returns its exit code; `None` if a signal ended it.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let killed = Command::new("sh").args(["-c", r#"kill -s "$0" "$1""#, name, &id]).status();
        assert!(killed.unwrap().success());
    }

    /// Tells it to stop, and expects that it does so in good order.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        assert!(self.0.wait().unwrap().success());
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free now.
pub(crate) fn port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) said: String,
}

impl Ran {
    /// Standard output of a command that has to have ended well.
    pub(crate) fn well(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// The objects on its lines.
    pub(crate) fn objects(self) -> Vec<Value> {
        let out = self.well();
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The one object that it has written.
    pub(crate) fn object(self) -> Value {
        let mut objects = self.objects();
        assert_eq!(objects.len(), 1, "{objects:?}");
        objects.remove(0)
    }
}

pub(crate) fn ran(arguments: &[&str]) -> Ran {
    ran_with(arguments, "")
}

pub(crate) fn ran_with(arguments: &[&str], input: &str) -> Ran {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    ran_command(command, input)
}

pub(crate) fn ran_command(mut command: Command, input: &str) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A command that does not read its input closes it.
    let writes = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writes.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap_or(-1);
    Ran { code, out: text(output.stdout), said: text(output.stderr) }
}

/// Tries until a claim is right: what another process has written is seen a moment later.
pub(crate) fn until(claim: &str, mut holds: impl FnMut() -> bool) {
    assert!((0..ATTEMPTS_MAX).any(|_| holds()), "{claim}");
}

/// Lines of so many events, in seven streams.
pub(crate) fn lines(number: u64) -> String {
    let line = |at: u64| {
        let (stream, kind) = (at % 7, if at.is_multiple_of(2) { "Sold" } else { "Taken" });
        format!(
            r#"{{"type":"shop.{kind}","stream":"shop-{stream}","data":{{"n":{at}}},"tags":["t:{}"]}}"#,
            at % 3
        )
    };
    (0..number).map(|at| line(at) + "\n").collect()
}

/// A store with so many events, in a directory inside.
pub(crate) fn store_of(directory: &Path, number: u64) -> String {
    let store = directory.join("store").to_str().unwrap().to_owned();
    ran_with(&["append", &store, "--create"], &lines(number)).well();
    store
}
