//! The servers that tests start for themselves: programs of Debian packages, found or installed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::apt::Apt;
use super::{find_program, given};
use crate::Outcome;

/// One server, and the places of its programs.
pub(super) struct TestServer {
    name: &'static str,
    /// Variable that tells the tests its place.
    pub(super) variable: &'static str,
    package: &'static str,
    /// Programs that must be there; the variable names the folder of all, or the only one.
    programs: &'static [&'static str],
    /// Folders in which it may be, the best first; `*` is any version, of which the newest is
    /// taken.
    folders: &'static [&'static str],
    content: VariableContent,
}

/// Content of the variable: the folder of the programs, or the program.
enum VariableContent {
    Folder,
    Program,
}

pub(super) const POSTGRES: TestServer = TestServer {
    name: "PostgreSQL",
    variable: "LEFTFOLD_POSTGRES",
    package: "postgresql",
    programs: &["postgres", "initdb", "psql", "pg_basebackup", "pg_dump"],
    folders: &["/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin"],
    content: VariableContent::Folder,
};

pub(super) const PGBOUNCER: TestServer = TestServer {
    name: "PgBouncer",
    variable: "LEFTFOLD_PGBOUNCER",
    package: "pgbouncer",
    programs: &["pgbouncer"],
    folders: &["/usr/sbin/pgbouncer"],
    content: VariableContent::Program,
};

pub(super) const REDIS: TestServer = TestServer {
    name: "Redis",
    variable: "LEFTFOLD_REDIS",
    package: "redis-server",
    programs: &["redis-server"],
    folders: &[],
    content: VariableContent::Program,
};

/// Debian's programs on the search path are wrappers that want to be root; the folder has the real
/// ones.
pub(super) const RABBITMQ: TestServer = TestServer {
    name: "RabbitMQ",
    variable: "LEFTFOLD_RABBITMQ",
    package: "rabbitmq-server",
    programs: &["rabbitmq-server", "rabbitmqctl"],
    folders: &["/usr/lib/rabbitmq/bin", "/opt/homebrew/opt/rabbitmq/sbin"],
    content: VariableContent::Folder,
};

/// A Python package for the tests brings a newer one than Debian has, where there is a wheel.
pub(super) const NATS: TestServer = TestServer {
    name: "NATS",
    variable: "LEFTFOLD_NATS",
    package: "nats-server",
    programs: &["nats-server"],
    folders: &[],
    content: VariableContent::Program,
};

impl TestServer {
    /// The program given, or the one beside the tests' Python, or as [`prepare`](Self::prepare)
    /// finds it.
    pub(super) fn prepare_beside(&self, python: &Path, apt: &mut Apt) -> Outcome<PathBuf> {
        let beside = python.with_file_name(self.programs[0]);
        match given(self.variable) {
            None if self.is_at(&beside) => Ok(beside),
            _ => self.prepare(apt),
        }
    }

    /// The place given, or a known one, or that of the package, freshly installed.
    pub(super) fn prepare(&self, apt: &mut Apt) -> Outcome<PathBuf> {
        let (name, variable) = (self.name, self.variable);
        if let Some(place) = given(variable) {
            return match self.is_at(&place) {
                true => Ok(place),
                false => Err(format!(
                    "{} is no {name}; set {variable} to {}, or unset it",
                    place.display(),
                    self.wanted()
                )),
            };
        }
        if let Some(place) = self.find() {
            return Ok(place);
        }
        apt.install(self.package).map_err(|e| {
            format!("the tests need {name}; {e}, or set {variable} to {}", self.wanted())
        })?;
        self.find().ok_or_else(|| {
            format!(
                "the package {} brought no {name} where it is looked for; set {variable} to {}",
                self.package,
                self.wanted()
            )
        })
    }

    fn find(&self) -> Option<PathBuf> {
        let known = self.folders.iter().filter_map(|pattern| self.newest(pattern));
        let on_path = || {
            let program = find_program(&[self.programs[0]])?;
            match self.content {
                VariableContent::Folder => program.parent().map(Path::to_owned),
                VariableContent::Program => Some(program),
            }
        };
        known.chain(std::iter::once_with(on_path).flatten()).find(|place| self.is_at(place))
    }

    fn newest(&self, pattern: &str) -> Option<PathBuf> {
        let Some((before, after)) = pattern.split_once('*') else {
            return Some(pattern.into());
        };
        let before = Path::new(before);
        // `/a/b@*` lists `/a` for what begins with `b@`; `/a/*` lists `/a/`.
        let whole = before.as_os_str().as_encoded_bytes().ends_with(b"/");
        let (folder, start) = match whole {
            true => (before, OsStr::new("")),
            false => (before.parent()?, before.file_name()?),
        };
        let names = fs::read_dir(folder)
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let version = |name: &str| name.strip_prefix(start.to_str()?)?.parse::<f64>().ok();
        let mut versions: Vec<(f64, String)> =
            names.filter_map(|name| Some((version(&name)?, name))).collect();
        versions.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut places =
            versions.iter().map(|(_, name)| folder.join(name).join(after.trim_start_matches('/')));
        places.find(|place| self.is_at(place))
    }

    /// Tells whether the programs of the server are at a place. They are not started: RabbitMQ
    /// takes seconds to say its version.
    fn is_at(&self, place: &Path) -> bool {
        match self.content {
            VariableContent::Folder => {
                self.programs.iter().all(|program| place.join(program).is_file())
            }
            VariableContent::Program => place.is_file(),
        }
    }

    fn wanted(&self) -> String {
        match self.content {
            VariableContent::Folder => format!("the folder of its {}", self.programs.join(", ")),
            VariableContent::Program => format!("its {}", self.programs.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;
    use std::process;

    #[test]
    fn of_several_versions_the_newest_that_is_complete_is_taken() {
        let folder = env::temp_dir().join(format!("xtask-servers-{}", process::id()));
        for (version, programs) in
            [("9.6", &["a", "b"][..]), ("15", &["a", "b"]), ("16", &["a"]), ("main", &["a", "b"])]
        {
            let bin = folder.join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            programs.iter().for_each(|program| fs::write(bin.join(program), "").unwrap());
        }
        let server = TestServer { programs: &["a", "b"], ..POSTGRES };
        let found = server.newest(&format!("{}/*/bin", folder.display()));
        let none = server.newest(&format!("{}/x@*/bin", folder.display()));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, Some(folder.join("15/bin")));
        assert_eq!(none, None);
    }
}
