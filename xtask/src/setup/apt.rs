//! Installing Debian packages, if this runs as root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::policy::ServiceStartBan;
use super::{execute_aside, find_program};
use crate::Outcome;

/// apt-get, its package lists refreshed at most once.
pub(super) struct Apt {
    usable: bool,
    refreshed: bool,
}

impl Apt {
    pub(super) fn new() -> Apt {
        Apt { usable: is_root() && find_program(&["apt-get"]).is_some(), refreshed: false }
    }

    /// Installs a package, or says who can.
    pub(super) fn install(&mut self, package: &str) -> Outcome {
        let by_hand =
            format!("install it with `sudo apt-get install {package}` or your system's equivalent");
        if !self.usable {
            return Err(by_hand);
        }
        self.install_as_root(package)
            .map_err(|e| format!("{e}; if there is no network, connect once, or {by_hand}"))
    }

    fn install_as_root(&mut self, package: &str) -> Outcome {
        if !self.refreshed {
            execute_aside(apt_get().args(["-qq", "update"]))?;
            self.refreshed = true;
        }
        // Tests start servers of their own; a package must not start one for the whole machine.
        let _no_services = ServiceStartBan::nothing_starts()?;
        execute_aside(apt_get().args(["-qq", "install", "-y", "--no-install-recommends", package]))
    }
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    // Another installation under way is waited for, not failed upon.
    command.args(["-o", "DPkg::Lock::Timeout=300"]);
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
