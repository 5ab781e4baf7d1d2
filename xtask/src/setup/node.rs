//! Node, and the packages of the clients that the tests call the server with, in a folder of our
//! own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Apt;
use super::{execute_aside, find_program, given, succeeds, target};
use crate::{Outcome, root};

/// Variable that tells the tests the program.
pub(super) const NODE_VARIABLE: &str = "LEFTFOLD_NODE";
/// Variable that tells the tests the folder with the packages.
pub(super) const CLIENTS_VARIABLE: &str = "LEFTFOLD_NODE_CLIENTS";
/// Folder with the list of the packages, pinned.
const PINNED: &str = "crates/leftfold-server/tests/kurrent/node";
const FILES: [&str; 2] = ["package.json", "package-lock.json"];
/// The oldest Node that the pinned packages run on.
const PROBE_VERSION: &str = "process.exit(+(parseInt(process.versions.node) < 18))";

/// Node, and the folder that has the packages in `node_modules`.
pub(super) struct NodeClients {
    pub(super) node: PathBuf,
    pub(super) clients: PathBuf,
}

/// Finds or installs both.
pub(super) fn prepare(apt: &mut Apt) -> Outcome<NodeClients> {
    let node = prepare_node(apt)?;
    let clients = match given(CLIENTS_VARIABLE) {
        Some(clients) => clients,
        None => install(apt, &target().join("node"))?,
    };
    Ok(NodeClients { node, clients })
}

fn prepare_node(apt: &mut Apt) -> Outcome<PathBuf> {
    let found = given(NODE_VARIABLE).or_else(|| find_program(&["node", "nodejs"]));
    if let Some(node) = found {
        return match succeeds(Command::new(&node).args(["-e", PROBE_VERSION])) {
            true => Ok(node),
            false => Err(format!(
                "{} is older than Node 18, or does not run; set {NODE_VARIABLE} to a newer one",
                node.display()
            )),
        };
    }
    apt.install("nodejs").map_err(|e| format!("the tests need Node; {e}"))?;
    find_program(&["node", "nodejs"])
        .ok_or_else(|| format!("the package nodejs brought no node; set {NODE_VARIABLE} to one"))
}

/// Installs the packages, unless those that are pinned now are there.
fn install(apt: &mut Apt, folder: &Path) -> Outcome<PathBuf> {
    // The stamp is the pinned files themselves, written last: it is there only after a complete
    // installation.
    let stamp = folder.join("installed-packages.txt");
    let pinned = FILES.map(|file| read(&root().join(PINNED).join(file)));
    let wanted = pinned.into_iter().collect::<Outcome<String>>()?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder.to_owned());
    }
    if find_program(&["npm"]).is_none() {
        apt.install("npm").map_err(|e| format!("the tests need npm; {e}"))?;
    }
    fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    for file in FILES {
        fs::copy(root().join(PINNED).join(file), folder.join(file))
            .map_err(|e| format!("cannot copy {file} to {}: {e}", folder.display()))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder);
    execute_aside(&mut npm).map_err(|e| {
        format!(
            "cannot install the Node packages of {PINNED}: {e}; this needs the network (or a \
             registry that npm is configured for) once; without one, set {CLIENTS_VARIABLE} to a \
             folder that has them in node_modules"
        )
    })?;
    fs::write(&stamp, wanted).map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
    Ok(folder.to_owned())
}

fn read(file: &Path) -> Outcome<String> {
    fs::read_to_string(file)
        .map_err(|e| format!("cannot read {}: {e}; restore it from the repository", file.display()))
}
