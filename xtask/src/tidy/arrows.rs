//! The arrows between the rooms of the house: which crate may import which.
//!
//! Front doors import `leftfold`, `leftfold` imports backends, backends import the core, and the
//! core imports no other room. The testing kit imports the core; `leftfold` offers it, and tests of
//! the core and of backends take it. The bench additionally imports what it measures, layer by
//! layer. The server and the backend that speaks to it share their messages, which know the words
//! of the core. The server and applications share what bounds those who call, which knows no other
//! room. Tests of any room may look below it, but they too never import a front door, nor
//! one backend another. The program `leftfold` additionally imports the server, and so do the
//! examples that speak to other services: one has it inside.

use super::RuleViolation;
use super::manifest::{CargoManifest, Dependency, DependencyTable, manifests};
use super::source::SourceFile;

/// A kind of room; the law is stated between kinds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Room {
    Core,
    /// A store, read models, or a broker: one way of keeping or carrying what the core works with.
    Backend,
    /// The messages between a server and the backend that speaks to it.
    Protocol,
    /// Bounds and proofs that servers share about those who call them.
    Callers,
    /// The crate that users name: `leftfold`.
    Door,
    /// A part that any application can mount.
    Mountable,
    /// The testing kit: for users' tests, and for those of the core and of backends.
    Kit,
    /// Real servers for tests.
    Proving,
    /// An application.
    Front,
    /// The server, as a library.
    Server,
    /// The program `leftfold`: a command line with the server inside.
    Program,
    /// The small programs, and what all of them share.
    Examples,
    /// The small programs that speak to other services.
    Services,
    Bench,
    /// A program of tests around the client of another store, in a workspace of its own.
    Foreign,
    Xtask,
}

const BACKENDS: [&str; 9] = [
    "leftfold-amqp",
    "leftfold-log",
    "leftfold-sqlite",
    "leftfold-postgres",
    "leftfold-redis",
    "leftfold-nats",
    "leftfold-jetstream",
    "leftfold-dynamodb",
    "leftfold-remote",
];

/// Returns the room of a crate, by its name and by the folder of its manifest.
fn room(package: &str, folder: &str) -> Option<Room> {
    let top = folder.split('/').next().unwrap_or(folder);
    match (top, package) {
        ("examples", "examples") => Some(Room::Examples),
        ("examples", _) => Some(Room::Services),
        ("apps", _) => Some(Room::Front),
        ("crates", "leftfold-server") => Some(Room::Server),
        ("crates", "leftfold-cli") => Some(Room::Program),
        ("bench", _) => Some(Room::Bench),
        ("xtask", _) => Some(Room::Xtask),
        ("crates", "leftfold") => Some(Room::Door),
        ("crates", "leftfold-core") => Some(Room::Core),
        ("crates", "leftfold-testing") => Some(Room::Kit),
        ("crates", "leftfold-console") => Some(Room::Mountable),
        ("crates", "leftfold-proving") => Some(Room::Proving),
        ("crates", "leftfold-protocol") => Some(Room::Protocol),
        ("crates", "leftfold-callers") => Some(Room::Callers),
        ("crates", "kurrent-calls") => Some(Room::Foreign),
        ("crates", backend) if BACKENDS.contains(&backend) => Some(Room::Backend),
        _ => None,
    }
}

/// The law. A new arrow needs a reason in ARCHITECTURE.md.
fn may_import(from: Room, to: Room) -> bool {
    match from {
        Room::Core | Room::Proving | Room::Callers | Room::Foreign | Room::Xtask => false,
        Room::Protocol | Room::Kit => to == Room::Core,
        Room::Backend => matches!(to, Room::Core | Room::Protocol),
        Room::Door => matches!(to, Room::Core | Room::Backend | Room::Kit),
        Room::Mountable => to == Room::Door,
        Room::Front | Room::Server => {
            matches!(to, Room::Door | Room::Mountable | Room::Protocol | Room::Callers)
        }
        Room::Program => matches!(to, Room::Door | Room::Protocol | Room::Server),
        Room::Services => matches!(to, Room::Door | Room::Mountable | Room::Server),
        Room::Examples => matches!(to, Room::Door | Room::Mountable),
        Room::Bench => matches!(
            to,
            Room::Door | Room::Backend | Room::Core | Room::Proving | Room::Front | Room::Server
        ),
    }
}

/// Tells whether tests may import a room: besides the imports that the law allows, every room
/// further down for those at the front, and real servers for all rooms that speak to them.
fn tests_may_import(from: Room, to: Room) -> bool {
    let below = matches!(to, Room::Core | Room::Backend);
    let is_front = matches!(from, Room::Front | Room::Server | Room::Services);
    let at_the_front = is_front || matches!(from, Room::Program | Room::Examples | Room::Mountable);
    let shares_with_examples = is_front && to == Room::Examples;
    let takes_the_kit =
        to == Room::Kit && matches!(from, Room::Core | Room::Backend | Room::Protocol);
    let speaks_to_servers = at_the_front || matches!(from, Room::Backend | Room::Door);
    may_import(from, to)
        || takes_the_kit
        || shares_with_examples
        || (at_the_front && below)
        || (speaks_to_servers && to == Room::Proving)
}

pub(super) fn check(files: &[SourceFile]) -> Vec<RuleViolation> {
    let manifests = manifests(files);
    manifests.iter().flat_map(|manifest| check_manifest(manifest, &manifests)).collect()
}

fn check_manifest(manifest: &CargoManifest<'_>, all: &[CargoManifest<'_>]) -> Vec<RuleViolation> {
    let Some(package) = &manifest.package else {
        return Vec::new();
    };
    let Some(from) = room_of(manifest) else {
        let message = format!(
            "the crate {package} has no place in the workspace; \
             add it to xtask/src/tidy/arrows.rs and to ARCHITECTURE.md"
        );
        return vec![manifest.file.violation(0, message)];
    };
    let imports = manifest.dependencies.iter();
    imports.filter_map(|import| check_import(manifest, from, import, all)).collect()
}

fn check_import(
    manifest: &CargoManifest<'_>,
    from: Room,
    import: &Dependency,
    all: &[CargoManifest<'_>],
) -> Option<RuleViolation> {
    let target = all.iter().find(|m| m.package.as_ref() == Some(&import.package))?;
    let to = room_of(target)?;
    let allowed = match import.table {
        DependencyTable::Shipped => may_import(from, to),
        // Tests turn the features of their own crate on.
        DependencyTable::Dev if Some(&import.package) == manifest.package.as_ref() => true,
        DependencyTable::Dev => tests_may_import(from, to),
        // What the workspace offers is no import.
        DependencyTable::Workspace => true,
    };
    (!allowed).then(|| RuleViolation {
        path: manifest.file.path.clone(),
        line: import.line,
        message: format!(
            "{} ({from:?}) must not import {} ({to:?}); the arrows are law, see ARCHITECTURE.md",
            manifest.package.as_deref().unwrap_or_default(),
            import.package,
        ),
    })
}

fn room_of(manifest: &CargoManifest<'_>) -> Option<Room> {
    let folder = manifest.file.path.trim_end_matches("Cargo.toml");
    room(manifest.package.as_deref()?, folder)
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    /// One crate of each kind, and a second backend.
    const HOUSE: [(&str, &str); 16] = [
        ("crates/leftfold-core", "leftfold-core"),
        ("crates/leftfold-testing", "leftfold-testing"),
        ("crates/leftfold-log", "leftfold-log"),
        ("crates/leftfold-sqlite", "leftfold-sqlite"),
        ("crates/leftfold-protocol", "leftfold-protocol"),
        ("crates/leftfold-callers", "leftfold-callers"),
        ("crates/leftfold", "leftfold"),
        ("crates/leftfold-console", "leftfold-console"),
        ("crates/leftfold-proving", "leftfold-proving"),
        ("apps/csms", "csms"),
        ("crates/leftfold-server", "leftfold-server"),
        ("crates/leftfold-cli", "leftfold-cli"),
        ("examples", "examples"),
        ("examples/services", "examples-services"),
        ("bench", "bench"),
        ("xtask", "xtask"),
    ];

    #[test]
    fn exactly_the_arrows_of_the_law_are_allowed() {
        let allowed = arrows_allowed_in("dependencies");
        let expected = [
            "leftfold-testing -> leftfold-core",
            "leftfold-log -> leftfold-core",
            "leftfold-log -> leftfold-protocol",
            "leftfold-sqlite -> leftfold-core",
            "leftfold-sqlite -> leftfold-protocol",
            "leftfold-protocol -> leftfold-core",
            "leftfold -> leftfold-core",
            "leftfold -> leftfold-testing",
            "leftfold -> leftfold-log",
            "leftfold -> leftfold-sqlite",
            "leftfold-console -> leftfold",
            "csms -> leftfold-protocol",
            "csms -> leftfold-callers",
            "csms -> leftfold",
            "csms -> leftfold-console",
            "leftfold-server -> leftfold-protocol",
            "leftfold-server -> leftfold-callers",
            "leftfold-server -> leftfold",
            "leftfold-server -> leftfold-console",
            "leftfold-cli -> leftfold-protocol",
            "leftfold-cli -> leftfold",
            "leftfold-cli -> leftfold-server",
            "examples -> leftfold",
            "examples -> leftfold-console",
            "examples-services -> leftfold",
            "examples-services -> leftfold-console",
            "examples-services -> leftfold-server",
            "bench -> leftfold-core",
            "bench -> leftfold-log",
            "bench -> leftfold-sqlite",
            "bench -> leftfold",
            "bench -> leftfold-proving",
            "bench -> csms",
            "bench -> leftfold-server",
        ];
        assert_eq!(allowed, expected);
    }

    #[test]
    fn tests_look_further_down_but_never_to_the_front_nor_to_another_backend() {
        let allowed = arrows_allowed_in("dev-dependencies");
        assert!(allowed.contains(&"csms -> leftfold-log".to_owned()));
        let to_the_front: Vec<_> = allowed.iter().filter(|a| a.ends_with("-> csms")).collect();
        assert_eq!(to_the_front, ["bench -> csms"], "the bench measures a front door");
        let of_core: Vec<_> =
            allowed.iter().filter(|a| a.starts_with("leftfold-core ->")).collect();
        assert_eq!(of_core, ["leftfold-core -> leftfold-testing"]);
        assert!(!allowed.contains(&"leftfold-log -> leftfold-sqlite".to_owned()));
        assert!(allowed.contains(&"leftfold-sqlite -> leftfold-proving".to_owned()));
        assert!(!allowed.iter().any(|a| a.starts_with("leftfold-proving ->")));
    }

    #[test]
    fn a_crate_imports_itself_for_its_tests_only() {
        let importing = |section: &str| {
            let itself = "leftfold-log = { path = \".\", features = [\"personal\"] }";
            let text = manifest("leftfold-log", &format!("[{section}]\n{itself}\n"));
            check(&tree(&[("crates/leftfold-log/Cargo.toml", &text)])).len()
        };
        assert_eq!((importing("dev-dependencies"), importing("dependencies")), (0, 1));
    }

    #[test]
    fn a_renamed_import_and_its_line_are_found() {
        let found = check(&tree(&[
            ("crates/leftfold-core/Cargo.toml", "[package]\nname = \"leftfold-core\"\n"),
            (
                "apps/csms/Cargo.toml",
                "[package]\nname = \"csms\"\n[dependencies]\nc = { package = \"leftfold-core\" }\n",
            ),
        ]));
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string().find("apps/csms/Cargo.toml:4: csms (Front) must not"),
            Some(0)
        );
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        let found =
            check(&tree(&[("crates/extra/Cargo.toml", "[package]\nname = \"leftfold-extra\"\n")]));
        assert!(found[0].message.starts_with("the crate leftfold-extra has no place"), "{found:?}");
    }

    /// Tries every arrow, one at a time.
    fn arrows_allowed_in(section: &str) -> Vec<String> {
        let pairs = HOUSE.iter().flat_map(|from| HOUSE.iter().map(move |to| (from, to)));
        let different = pairs.filter(|((_, from), (_, to))| from != to);
        let allowed = different.filter(|(from, to)| {
            let importing = manifest(from.1, &format!("[{section}]\n{}.workspace = true\n", to.1));
            let imported = manifest(to.1, "");
            let paths = [format!("{}/Cargo.toml", from.0), format!("{}/Cargo.toml", to.0)];
            check(&tree(&[(&paths[0], &importing), (&paths[1], &imported)])).is_empty()
        });
        allowed.map(|((_, from), (_, to))| format!("{from} -> {to}")).collect()
    }

    fn manifest(package: &str, rest: &str) -> String {
        format!("[package]\nname = \"{package}\"\n{rest}")
    }
}
