//! Settings of the server from all sources, and the files of `deploy`.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{PROGRAM, port};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

fn check(path: &Path) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM).args(["config", "check"]).arg(path).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_settings_of_deploy_have_no_fault_also_those_that_are_only_shown() {
    assert_eq!(check(&deploy("leftfold.toml")), (Some(0), String::new()));
    // Those that are only shown are settings too: only their files are missing.
    let directory = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(deploy("leftfold.toml")).unwrap();
    let shown = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(setting) if setting.starts_with('[') || setting.contains(" = ") => setting,
        _ => line,
    });
    let listen = "listen = [\"0.0.0.0:2113\"]";
    let shown: Vec<&str> = shown.filter(|line| *line != listen).collect();
    let path = directory.path().join("leftfold.toml");
    std::fs::write(&path, shown.join("\n")).unwrap();
    let (code, said) = check(&path);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.lines().count() == 1 && said.contains("tls.cert: "), "{said}");
}

#[test]
fn each_fault_of_a_file_is_named_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leftfold.toml");
    std::fs::write(&path, "stores.a = \"memory:\"\nlisten = \"here\"\n\nspeed = 1\n").unwrap();
    let (code, said) = check(&path);
    let places = [2, 4].map(|line| format!("{}:{line}: ", path.display()));
    let lines: Vec<&str> = said.lines().collect();
    assert!(code == Some(3) && lines.len() == 2, "{said}");
    assert!(lines.iter().zip(&places).all(|(line, place)| line.starts_with(&**place)), "{said}");
    let serves = Command::new(PROGRAM).arg("serve").arg("--config").arg(&path).output().unwrap();
    assert_eq!(serves.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&serves.stderr).contains(&places[1]));
}

/// An argument goes before the environment, and that before the file.
#[test]
fn settings_come_from_arguments_the_environment_and_a_file_and_systemd_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leftfold.toml");
    let (listens, other) = (port(), port());
    let text = format!(
        "listen = \"127.0.0.1:{other}\"\n[stores]\nfirst = \"memory:\"\nsecond = \"memory:\"\n"
    );
    std::fs::write(&path, text).unwrap();
    let place = directory.path().join("notify");
    let notified = UnixDatagram::bind(&place).unwrap();
    let mut child = Command::new(PROGRAM)
        .args(["serve", "--set", "limits.connections=7"])
        .env("LEFTFOLD_CONFIG", &path)
        .env("LEFTFOLD_LISTEN", format!("127.0.0.1:{listens}"))
        .env("NOTIFY_SOCKET", &place)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = || {
        let mut bytes = [0; 64];
        let count = notified.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    assert_eq!(told(), "READY=1");
    let answer = crate::serve::asked(listens, "/metrics?store=second");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let id = child.id().to_string();
    // The files are looked at, and it goes on.
    for signal in ["HUP", "TERM"] {
        let sent = Command::new("kill").args(["-s", signal, &id]).status().unwrap();
        assert!(sent.success());
    }
    assert_eq!(told(), "STOPPING=1");
    assert!(child.wait().unwrap().success());
}

/// Without systemd the file is only read.
#[test]
fn systemd_understands_the_unit() {
    let unit = std::fs::read_to_string(deploy("leftfold.service")).unwrap();
    for setting in ["Type=notify", "DynamicUser=yes", "NoNewPrivileges=yes", "StateDirectory="] {
        assert!(unit.lines().any(|line| line.starts_with(setting)), "{setting}");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leftfold.service");
    // The program is not installed here.
    std::fs::write(&path, unit.replace("/usr/local/bin/leftfold", PROGRAM)).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&path).output();
    let Ok(verified) = verified else { return };
    let said = String::from_utf8_lossy(&verified.stderr);
    let of_unit: Vec<&str> =
        said.lines().filter(|line| line.contains("leftfold.service")).collect();
    assert!(of_unit.is_empty(), "{said}");
}

/// The container is built from what the repository has, and starts what the program has.
#[test]
fn the_container_file_has_known_instructions_and_settings() {
    const KNOWN: [&str; 11] = [
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "USER",
        "VOLUME",
        "EXPOSE",
        "ENV",
        "STOPSIGNAL",
        "ENTRYPOINT",
        "CMD",
    ];
    let text = std::fs::read_to_string(deploy("Dockerfile")).unwrap().replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines: Vec<_> = lines.map(|line| line.split_once(' ').unwrap()).collect();
    for (instruction, _) in &lines {
        assert!(KNOWN.contains(instruction), "{instruction}");
    }
    let of = |wanted: &'static str| {
        lines.iter().filter(move |(name, _)| *name == wanted).map(|(_, rest)| *rest)
    };
    assert_eq!(of("ENTRYPOINT").next(), Some("[\"leftfold\"]"));
    assert!(of("RUN").any(|run| run.contains("-p leftfold-cli")));
    let mut command = Command::new(PROGRAM);
    for pair in of("ENV").flat_map(str::split_whitespace) {
        let (name, value) = pair.split_once('=').unwrap();
        command.env(name, value.trim_matches('"'));
    }
    // It is as far as its users: all settings are known.
    let output = command.arg("serve").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("/etc/leftfold/"), "{said}");
}
