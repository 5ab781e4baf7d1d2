//! Help, manual pages, completions and the page of the book say the same.

use std::collections::BTreeSet;

use crate::support::{Ran, ran};

const PAGE: &str = include_str!("../../../../book/src/command-line.md");

/// The commands that the help of the program lists.
fn commands() -> Vec<String> {
    let help = ran(&["--help"]).well();
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    list.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

fn long_options(help: &str) -> BTreeSet<String> {
    let names = help.lines().filter_map(|line| {
        let option = line.trim_start().split(", ").last()?.split([' ', '=']).next()?;
        line.trim_start().starts_with('-').then(|| option.to_owned())
    });
    names.filter(|name| name.starts_with("--")).collect()
}

#[test]
fn the_book_has_every_command_and_every_option() {
    let commands = commands();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        assert!(PAGE.contains(&format!("`leftfold {command}")), "the book has no {command}");
        let help = ran(&[&command, "--help"]).well();
        assert!(help.contains("Usage: leftfold"), "{help}");
        for option in long_options(&help) {
            let is_there = ["--help", "--version"].contains(&&*option);
            let found =
                PAGE.contains(&format!("{option}`")) || PAGE.contains(&format!("{option} "));
            assert!(is_there || found, "the book does not tell of {command} {option}");
        }
        let manual = ran(&["man", &command]).well();
        assert!(manual.contains(&format!("leftfold\\-{command}")), "{manual}");
    }
}

#[test]
fn exit_codes_stand_in_the_help_the_manual_and_the_book() {
    let (help, manual) = (ran(&["--help"]).well(), ran(&["man"]).well());
    let codes = help.split("Exit codes:\n").nth(1).unwrap();
    assert_eq!(codes.lines().count(), 7);
    for line in codes.lines() {
        let code = line.split_whitespace().next().unwrap();
        assert!(manual.contains(code) && PAGE.contains(&format!("| {code} |")), "{code}");
    }
}

#[test]
fn wrong_arguments_end_with_2_and_say_what_is_right() {
    for (arguments, said) in [
        (&["reed"][..], "read"),
        (&["read"], "STORE"),
        (&["read", "x", "--limt", "1"], "--limit"),
        (&["read", "memory:"], "another"),
        (&["append", "x", "--data", "{}"], "--type"),
        (&["append", "x", "--type", "a.A", "--data", "no"], "JSON"),
        (&["append", "x", "--type", "a.A", "--data", "{}", "--expect", "1"], "--stream"),
        (&["man", "nothing"], "--help"),
    ] {
        let Ran { code, said: error, .. } = ran(arguments);
        assert!(code == 2 && error.contains(said), "{arguments:?}: {code} {error}");
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(ran(&["completions", shell]).well().contains("verify"), "{shell}");
    }
}
