//! All kinds of records that the runtime writes, each with its owner, and their way into a copy of
//! the store.

use super::positions::{Owner, Positions, RewriteError, as_it_is, no_label};
use crate::store::{Invalid, Label, NewEvent, RecordedEvent};

/// Owners of all records that are carried over. A record without an owner is refused: nobody knows
/// which positions it speaks of.
const OWNERS: [&Owner; 11] = [
    &super::effect::LEDGER_OWNER,
    &super::effect::MARK_OWNER,
    &super::process::OWNER,
    &super::process::OWNER_OF_UNREAD,
    &super::projection::OUTBOX_OWNER,
    &super::inbox::OWNER,
    &super::operator::OWNER,
    &super::recurring::OWNER,
    &super::scheduled::OWNER,
    &super::groups::OWNER,
    &OWNER_OF_KEYS,
];

/// Owner of the records about the keys of personal data: no positions.
const OWNER_OF_KEYS: Owner = Owner { category: "$personal", rewrite: as_it_is, label: no_label };

/// Returns a record of the runtime as it speaks of the copy; `None` if it goes with an event that
/// was dropped.
pub(crate) fn rewritten(
    record: &RecordedEvent,
    positions: &dyn Positions,
) -> Result<Option<NewEvent>, RewriteError> {
    let stream = record
        .stream
        .as_ref()
        .map(|at| at.name.category())
        .filter(|category| category.starts_with('$'));
    let category = stream.or(record.event_type.split('.').next()).unwrap_or_default();
    match owner_of(category) {
        Some(owner) => (owner.rewrite)(record, positions),
        None => Err(RewriteError::NoOwner { category: category.to_owned() }),
    }
}

/// Rewrites the labels in the metadata of any event that speak of the runtime's records.
pub(crate) fn rewrite_labels(
    event: &mut NewEvent,
    positions: &dyn Positions,
) -> Result<(), Invalid> {
    for label in
        [&mut event.metadata.causation, &mut event.metadata.correlation].into_iter().flatten()
    {
        if let Some(new) = rewritten_label(label, positions) {
            *label = Label::new(new)?;
        }
    }
    Ok(())
}

/// Returns the new form of a label that speaks of one of the runtime's records; `None` if it speaks
/// of none.
pub(super) fn rewritten_label(label: &Label, positions: &dyn Positions) -> Option<String> {
    OWNERS.into_iter().find_map(|owner| (owner.label)(label, positions))
}

fn owner_of(category: &str) -> Option<&'static Owner> {
    OWNERS.into_iter().find(|owner| owner.owns(category))
}

impl Owner {
    fn owns(&self, category: &str) -> bool {
        category
            .strip_prefix(self.category)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Names that begin with `$` and are no categories of streams that go over: a tag, the copy's
    /// own, serde_json's, the leases of runtimes and of projections, of which nothing is recorded,
    /// and the checkpoint of an import, which is in another store.
    const OTHERS: [&str; 6] =
        ["$due", "$copy", "$serde_json", "$runtime", "$projection", "$import"];

    /// Collects the names with a `$` in the sources below a directory, each up to the first
    /// character that is not of its category.
    fn named(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                named(&path, found);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            for (at, _) in code.match_indices("\"$") {
                let name = code[at + 1..]
                    .split(|c: char| !(c.is_alphanumeric() || c == '$' || c == '_'))
                    .next()
                    .unwrap();
                if name.len() > 1 {
                    found.insert(name.to_owned());
                }
            }
        }
    }

    /// A new kind of records went over in a copy as it was, with positions of the old store in it.
    #[test]
    fn every_category_that_the_library_names_has_an_owner() {
        let mut found = BTreeSet::new();
        named(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert!(
            found.contains("$effect") && found.contains("$inbox") && found.contains("$outbox"),
            "{found:?}"
        );
        let unowned: Vec<_> = found
            .iter()
            .filter(|name| owner_of(name).is_none() && !OTHERS.contains(&name.as_str()))
            .collect();
        assert!(
            unowned.is_empty(),
            "nobody rewrites {unowned:?} in a copy: name an Owner in OWNERS"
        );
        assert!(
            OWNERS.into_iter().all(|owner| found.contains(owner.category)),
            "an owner of what is not written"
        );
    }
}
