//! Surroundings of a test server: a directory, a user who is not root, free ports, and a guard that
//! clears it all away.

use std::env;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Script that reads the processes to kill, a line at each change. When the test process is gone,
/// even if it was killed, the script kills them, waits until they are gone, and removes the
/// directory.
const GUARD: &str = r#"
signal= pids=
while read -r s p; do signal=$s; pids=$p; done
if [ -n "$pids" ]; then
    kill -s "$signal" -- $pids
    n=0
    while kill -0 -- $pids && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
fi
rm -rf -- "$0"
"#;

/// Directory of one server, with the guard that clears it away.
pub(crate) struct ServerDirectory {
    directory: PathBuf,
    /// User and group of `nobody` if the tests run as root, else `None`. PostgreSQL refuses to run
    /// as root.
    nobody: Option<(u32, u32)>,
    guard: Child,
    doomed: Option<ChildStdin>,
}

impl ServerDirectory {
    pub(crate) fn new(name: &str) -> ServerDirectory {
        let made = tempfile::Builder::new().prefix(&format!("leftfold-{name}-")).tempdir();
        // From here on the guard removes it.
        let directory = made.expect("there is a place for temporary files").keep();
        let root = fs::metadata(&directory).expect("it was just made").uid() == 0;
        let nobody = root.then(nobody);
        if let Some((user, group)) = nobody {
            chown(&directory, Some(user), Some(group)).expect("root may give its directory away");
        }
        let mut guard = Command::new("sh");
        // A group of its own: what interrupts the tests at the terminal must not interrupt the
        // clearing.
        guard.args(["-c", GUARD]).arg(&directory).process_group(0);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut guard = guard.spawn().expect("there is a shell");
        let doomed = guard.stdin.take();
        ServerDirectory { directory, nobody, guard, doomed }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// Writes a file that only the user of the server can read.
    pub(crate) fn write_private(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        fs::write(&path, text).expect("the directory is there");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it was just written");
        if let Some((user, group)) = self.nobody {
            chown(&path, Some(user), Some(group)).expect("root may give its file away");
        }
    }

    /// A command in the directory, as a user who is not root, with nothing of the environment but
    /// the search path.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = self.command_of_ours(program);
        if let Some((user, group)) = self.nobody {
            command.uid(user).gid(group);
        }
        command
    }

    /// The same as the user of the tests, for a program that others may not be able to start.
    pub(crate) fn command_of_ours(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).env_clear().stdin(Stdio::null()).process_group(0);
        command.env(
            "PATH",
            env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
        );
        command.env("HOME", &self.directory).env("TMPDIR", &self.directory).env("LC_ALL", "C");
        command
    }

    /// Runs a program to its end and returns what it said.
    pub(crate) fn run(&self, command: &mut Command) -> String {
        let output = command.output().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{command:?} ended with {}:\n{said}{complaint}",
            output.status
        );
        said
    }

    /// Tells the guard what to kill, by which signal, if the test process ends now; nothing if
    /// there are no processes.
    pub(crate) fn doom(&mut self, signal: &str, processes: &[u32]) {
        let processes: Vec<String> = processes.iter().map(u32::to_string).collect();
        let line = format!("{signal} {}\n", processes.join(" "));
        let guard = self.doomed.as_mut().expect("it is taken only on drop");
        guard.write_all(line.as_bytes()).expect("the guard lives as long as its input");
    }
}

impl Drop for ServerDirectory {
    /// Ends the guard. The server was killed before: the guard only has to remove the directory.
    fn drop(&mut self) {
        drop(self.doomed.take());
        let _ = self.guard.wait();
    }
}

/// The place that a variable of `cargo xtask setup` tells.
pub(crate) fn told(variable: &str) -> PathBuf {
    let place = env::var_os(variable).map(PathBuf::from);
    place.unwrap_or_else(|| {
        panic!(
            "{variable} is not set; run the tests by `cargo xtask test`, or see `cargo xtask setup`"
        )
    })
}

/// A port of the loopback interface that nobody listens on. It is from below the range out of which
/// systems take the near ends of connections, so that it is still free when a server that was
/// killed starts again.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const PORTS: u32 = 12_000;
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let start = process::id().wrapping_mul(7_919).wrapping_add(now / 1_000);
    let candidates = (0..PORTS)
        .map(|_| FIRST + start.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed)) % PORTS);
    let ports = candidates.map(|port| u16::try_from(port).expect("32,000 is the highest"));
    let mut free = ports.filter(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    free.next().expect("not all of 12,000 ports are taken")
}

fn nobody() -> (u32, u32) {
    let accounts = fs::read_to_string("/etc/passwd").expect("a system with a root has accounts");
    let account = accounts
        .lines()
        .find(|line| line.starts_with("nobody:"))
        .expect("there is an account `nobody`");
    let mut numbers = account.split(':').skip(2).map_while(|field| field.parse().ok());
    numbers
        .next()
        .zip(numbers.next())
        .expect("the third and fourth field of an account are its user and group")
}
