//! Every dependency on a foreign crate has its reason in ARCHITECTURE.md.

use std::collections::BTreeMap;

use super::RuleViolation;
use super::manifest::manifests;
use super::source::SourceFile;

/// Document that has the reasons.
pub(super) const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// Without the document nothing is checked; `tidy` says so.
pub(super) fn check(files: &[SourceFile]) -> Vec<RuleViolation> {
    let Some(document) = files.iter().find(|f| f.path == ARCHITECTURE) else {
        return Vec::new();
    };
    let manifests = manifests(files);
    // The first place where each is asked for; an inherited entry stands in the workspace's table
    // too.
    let mut foreign: BTreeMap<&str, (&SourceFile, usize)> = BTreeMap::new();
    for manifest in &manifests {
        let entries = manifest.dependencies.iter().filter(|d| !d.local && !d.inherited);
        for entry in entries {
            foreign.entry(&entry.package).or_insert((manifest.file, entry.line));
        }
    }
    let unexplained = foreign.into_iter().filter(|(name, _)| !mentions(&document.text, name));
    let violations = unexplained.map(|(name, (file, line))| {
        let message =
            format!("the dependency {name} is not in {ARCHITECTURE}; give its reason there");
        RuleViolation { path: file.path.clone(), line, message }
    });
    violations.collect()
}

/// Tells whether the text has the name by itself: `tokio-util` does not mention `tokio`.
fn mentions(text: &str, name: &str) -> bool {
    let mut words = text.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'));
    words.any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    const ROOT: (&str, &str) = (
        "Cargo.toml",
        "[workspace.dependencies]\nown = { path = \"own\" }\ntokio = \"1\"\ntokio-util = \"0.7\"\n",
    );
    const MEMBER: (&str, &str) = (
        "own/Cargo.toml",
        "[package]\nname = \"own\"\n[dependencies]\ntokio.workspace = true\nserde = \"1\"\n",
    );

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let found = check(&tree(&[ROOT, MEMBER, (ARCHITECTURE, "- `tokio-util`: timers")]));
        let places: Vec<_> = found.iter().map(|v| (v.path.as_str(), v.line)).collect();
        assert_eq!(places, [("own/Cargo.toml", 5), ("Cargo.toml", 3)]);
        assert!(found[1].message.starts_with("the dependency tokio is not in ARCHITECTURE.md"));
    }

    #[test]
    fn reasons_satisfy_and_without_the_document_nothing_is_asked() {
        assert_eq!(
            check(&tree(&[ROOT, MEMBER, (ARCHITECTURE, "serde, tokio and `tokio-util`.")])),
            []
        );
        assert_eq!(check(&tree(&[ROOT, MEMBER])), []);
    }
}
