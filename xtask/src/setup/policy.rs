//! Debian's word on which services a package may start, taken over for the time of an installation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::Outcome;

/// Program that Debian's packages ask before they start a service.
const ASKED: &str = "/usr/sbin/policy-rc.d";
/// Program that forbids every start: 101 means that it is forbidden.
const NOTHING_STARTS: &str = "#!/bin/sh\nexit 101\n";

/// While this lives, no package starts a service. Then the machine's own policy is back.
pub(super) struct ServiceStartBan {
    asked: PathBuf,
    /// Path to which the machine's own policy is moved meanwhile.
    aside: PathBuf,
}

impl ServiceStartBan {
    pub(super) fn nothing_starts() -> Outcome<ServiceStartBan> {
        Self::nothing_starts_by(Path::new(ASKED))
    }

    fn nothing_starts_by(asked: &Path) -> Outcome<ServiceStartBan> {
        let policy =
            ServiceStartBan { asked: asked.to_owned(), aside: asked.with_extension("d.set-aside") };
        let failed =
            |e| format!("cannot keep packages from starting services by {}: {e}", asked.display());
        // What a run that was killed had set aside is the machine's own; what stands there now was
        // that run's.
        if asked.exists() && !policy.aside.exists() {
            fs::rename(asked, &policy.aside).map_err(failed)?;
        }
        fs::write(asked, NOTHING_STARTS).map_err(failed)?;
        fs::set_permissions(asked, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        Ok(policy)
    }
}

impl Drop for ServiceStartBan {
    fn drop(&mut self) {
        let restored = match self.aside.exists() {
            true => fs::rename(&self.aside, &self.asked),
            false => fs::remove_file(&self.asked),
        };
        if let Err(e) = restored {
            eprintln!(
                "cannot restore {}: {e}; packages may not start services until it is removed",
                self.asked.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;
    use std::process;

    #[test]
    fn where_there_was_no_policy_there_is_none_again() {
        let folder = Folder::new("none");
        let asked = folder.0.join("policy-rc.d");
        let policy = ServiceStartBan::nothing_starts_by(&asked).unwrap();
        assert_eq!(process::Command::new(&asked).status().unwrap().code(), Some(101));
        drop(policy);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
    }

    #[test]
    fn the_machines_own_policy_is_back_also_after_a_run_that_was_killed() {
        let folder = Folder::new("own");
        let asked = folder.0.join("policy-rc.d");
        fs::write(&asked, "its own").unwrap();
        std::mem::forget(ServiceStartBan::nothing_starts_by(&asked).unwrap());
        drop(ServiceStartBan::nothing_starts_by(&asked).unwrap());
        assert_eq!(fs::read_to_string(&asked).unwrap(), "its own");
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }

    /// A folder of this test process, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = env::temp_dir().join(format!("xtask-policy-{name}-{}", process::id()));
            fs::create_dir(&folder).unwrap();
            Folder(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
