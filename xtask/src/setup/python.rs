//! A Python with the packages of the tests' clients, in a virtual environment of our own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Apt;
use super::target;
use super::{PYTHON_VARIABLE, execute_aside, find_program, succeeds};
use crate::{Outcome, root};

/// Each says for itself which clients it is for.
const REQUIREMENTS: [&str; 4] = [
    "apps/csms/tests/requirements.txt",
    "crates/leftfold-server/tests/requirements.txt",
    "examples/requirements.txt",
    "crates/leftfold-proving/requirements.txt",
];
/// Tells whether a Python has the packages.
const PROBE: &str =
    "import ocpp, websockets, grpc, grpc_reflection, kurrentdbclient, umadb, moto.server";
/// The oldest Python that the pinned packages run on.
const PROBE_VERSION: &str = "import sys; sys.exit(sys.version_info < (3, 10))";

/// The Python given, if it has the packages, or the one of our virtual environment, made and filled
/// if needed.
pub(super) fn prepare(apt: &mut Apt, given: Option<PathBuf>) -> Outcome<PathBuf> {
    let venv = target().join("venv");
    let own = venv.join("bin/python");
    match given {
        Some(python) if python != own => accept(python),
        _ => prepare_own(apt, &venv, own),
    }
}

fn accept(python: PathBuf) -> Outcome<PathBuf> {
    match runs(&python, PROBE) {
        true => Ok(python),
        false => {
            let wanted = REQUIREMENTS.join(", ");
            Err(format!(
                "`{} -c \"{PROBE}\"` fails; install {wanted} there, or unset {PYTHON_VARIABLE}",
                python.display()
            ))
        }
    }
}

fn prepare_own(apt: &mut Apt, venv: &Path, python: PathBuf) -> Outcome<PathBuf> {
    let wanted = REQUIREMENTS.iter().map(|file| pinned(file)).collect::<Outcome<String>>()?;
    // The stamp is the pinned files themselves, written last: it is there only after a complete
    // installation.
    let stamp = venv.join("installed-requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && runs(&python, PROBE)
    {
        return Ok(python);
    }
    create(apt, venv)?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
    pip.args(REQUIREMENTS.iter().flat_map(|file| ["-r", file])).current_dir(root());
    execute_aside(&mut pip).map_err(|e| {
        format!(
            "cannot install the Python packages of {}: {e}; this needs the network \
             (or a package index that pip is configured for) once; without one, set \
             {PYTHON_VARIABLE} to a Python that has them",
            REQUIREMENTS.join(", ")
        )
    })?;
    fs::write(&stamp, wanted).map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
    Ok(python)
}

fn pinned(file: &str) -> Outcome<String> {
    fs::read_to_string(root().join(file))
        .map_err(|e| format!("cannot read {file}: {e}; restore it from the repository"))
}

/// Makes an empty virtual environment. Debian keeps the means for that in a package of its own.
fn create(apt: &mut Apt, venv: &Path) -> Outcome {
    if let Some(python) = find_program(&["python3"]) {
        if !runs(&python, PROBE_VERSION) {
            return Err(format!(
                "{} is older than Python 3.10, or does not run; put a newer python3 first on the path",
                python.display()
            ));
        }
        // Half an environment is left behind where the package is missing; `--clear` does away with
        // it.
        if runs(&python, "import ensurepip, venv") && create_with(&python, venv).is_ok() {
            return Ok(());
        }
    }
    apt.install("python3-venv").map_err(|e| format!("the tests need Python's venv; {e}"))?;
    let installed =
        find_program(&["python3"]).filter(|python| runs(python, "import ensurepip, venv"));
    create_with(&installed.unwrap_or_else(|| "/usr/bin/python3".into()), venv)
}

fn create_with(python: &Path, venv: &Path) -> Outcome {
    execute_aside(Command::new(python).args(["-m", "venv", "--clear"]).arg(venv))
}

fn runs(python: &Path, program: &str) -> bool {
    succeeds(Command::new(python).args(["-c", program]))
}
