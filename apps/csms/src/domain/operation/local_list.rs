//! The local list of a station: the tags that it knows by itself, with their version. What it holds
//! is known from the updates that the station has accepted, as long as its version agrees.

use std::collections::BTreeMap;

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::request::{ListExtent, ListTerms, OperationAnswered, OperationResult, StationOperation};
use crate::domain::request::StationAnswer;

/// Entries of a local list at most.
pub(crate) const LOCAL_LIST_MAX: usize = 2_000;

/// Local list of a station.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LocalList {
    /// Version that the station has, by its own word or by an update that it accepted; 0 if the
    /// list is empty, -1 if the station has no lists; `None` if it is not known.
    pub(crate) version: Option<i64>,
    /// Moment when the version became known.
    pub(crate) version_at: Option<Timestamp>,
    /// Version that the entries belong to; `None` if they are not known.
    pub(crate) entries_version: Option<i64>,
    /// Entries by tag, if they are known.
    pub(crate) entries: BTreeMap<String, ListTerms>,
    /// Last update that was answered.
    pub(crate) update: Option<AnsweredUpdate>,
}

/// Update of a local list that was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AnsweredUpdate {
    /// Version that it was to lead to.
    pub(crate) version: i64,
    /// Extent of its entries.
    pub(crate) extent: ListExtent,
    /// Moment of the answer.
    pub(crate) at: Timestamp,
    /// Answer of the station.
    pub(crate) answer: StationAnswer,
}

impl LocalList {
    /// Tells whether the entries are those that the station has.
    #[must_use]
    pub(crate) fn is_known(&self) -> bool {
        self.version.is_some() && self.version == self.entries_version
    }

    /// Takes in the answer to a question for the version, or to an update.
    pub(super) fn answered(&mut self, operation: &StationOperation, answered: &OperationAnswered) {
        match (operation, &answered.result) {
            (_, Some(OperationResult::LocalListVersion { version })) => {
                self.is_at(*version, answered.at);
                if *version <= 0 {
                    self.entries.clear();
                    self.entries_version = Some(*version);
                }
            }
            (StationOperation::UpdateLocalList { version, extent, .. }, _) => {
                let (version, extent) = (i64::from(*version), *extent);
                let (at, answer) = (answered.at, answered.answer.clone());
                self.update = Some(AnsweredUpdate { version, extent, at, answer });
                match &answered.answer {
                    StationAnswer::Accepted => self.accept(operation, version, answered.at),
                    StationAnswer::Rejected { status } if status == "VersionMismatch" => {
                        // The station has another list than was thought.
                        (self.version, self.entries_version) = (None, None);
                        self.entries.clear();
                    }
                    StationAnswer::Rejected { status } if status == "NotSupported" => {
                        self.is_at(-1, answered.at);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn is_at(&mut self, version: i64, at: Timestamp) {
        (self.version, self.version_at) = (Some(version), Some(at));
    }

    fn accept(&mut self, operation: &StationOperation, version: i64, at: Timestamp) {
        let StationOperation::UpdateLocalList { extent, entries, .. } = operation else { return };
        let is_complete = *extent == ListExtent::Full || self.is_known();
        if *extent == ListExtent::Full {
            self.entries.clear();
        }
        for entry in entries {
            // The specification compares tags without regard to case.
            let tag = entry.id_tag.as_str();
            self.entries.retain(|known, _| !known.eq_ignore_ascii_case(tag));
            if let Some(terms) = &entry.terms {
                self.entries.insert(tag.to_owned(), terms.clone());
            }
        }
        self.is_at(version, at);
        let is_known = is_complete && self.entries.len() <= LOCAL_LIST_MAX;
        self.entries_version = is_known.then_some(version);
        if !is_known {
            self.entries.clear();
        }
    }

    /// Tells whether the station has said since a moment that it has this version.
    pub(super) fn reports_since(&self, version: i64, since: Timestamp) -> bool {
        self.version == Some(version) && self.version_at.is_some_and(|at| at > since)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::request::RequestId;

    /// A station that keeps a list as the specification says, to compare with.
    #[derive(Default)]
    struct ListAtStation {
        version: i64,
        entries: BTreeMap<String, String>,
    }

    impl ListAtStation {
        fn take(&mut self, extent: ListExtent, version: i64, tags: &[(u8, bool)]) -> StationAnswer {
            if extent == ListExtent::Differential && version <= self.version {
                return StationAnswer::Rejected { status: "VersionMismatch".to_owned() };
            }
            if extent == ListExtent::Full {
                self.entries.clear();
            }
            for (tag, is_kept) in tags {
                self.entries.remove(&tag_of(*tag).to_lowercase());
                if *is_kept {
                    self.entries.insert(tag_of(*tag).to_lowercase(), tag_of(*tag));
                }
            }
            self.version = version;
            StationAnswer::Accepted
        }
    }

    /// Tags of which some differ in case only.
    fn tag_of(tag: u8) -> String {
        let name = format!("tag{}", tag / 2);
        if tag.is_multiple_of(2) { name } else { name.to_uppercase() }
    }

    fn tags() -> impl Strategy<Value = Vec<(u8, bool)>> {
        proptest::collection::vec((0..6u8, any::<bool>()), 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        /// Also if answers are lost, or somebody else sends lists: what is said to be known is so.
        #[test]
        fn what_is_known_of_a_list_is_what_the_station_has(
            steps in proptest::collection::vec(
                (0..4u8, any::<bool>(), 1..9i64, tags()),
                0..20,
            ),
        ) {
            let (mut list, mut station) = (LocalList::default(), ListAtStation::default());
            for (step, (kind, is_full, version, tags)) in steps.iter().enumerate() {
                let at = Timestamp::from_micros(step as i64);
                let request = RequestId("r".to_owned());
                if *kind == 0 {
                    let result = OperationResult::LocalListVersion { version: station.version };
                    let (answer, result) = (StationAnswer::Accepted, Some(result));
                    let answered = OperationAnswered { request, at, answer, result };
                    list.answered(&StationOperation::ReadLocalListVersion {}, &answered);
                } else {
                    let extent = if *is_full { ListExtent::Full } else { ListExtent::Differential };
                    let tags: Vec<_> =
                        tags.iter().map(|(tag, kept)| (*tag, *kept || *is_full)).collect();
                    let answer = station.take(extent, *version, &tags);
                    let entries: Vec<_> = tags.iter().map(|(tag, is_kept)| json!({
                        "id_tag": tag_of(*tag),
                        "terms": is_kept.then(|| json!({"status": "Accepted"})),
                    })).collect();
                    let update = json!({"UpdateLocalList": {
                        "version": version, "extent": extent, "entries": entries,
                    }});
                    let update: StationOperation = serde_json::from_value(update).unwrap();
                    let result = None;
                    list.answered(&update, &OperationAnswered { request, at, answer, result });
                }
                if list.is_known() {
                    prop_assert_eq!(list.version, Some(station.version));
                    let known: Vec<_> = list.entries.keys().collect();
                    let mut there: Vec<_> = station.entries.values().collect();
                    there.sort();
                    prop_assert_eq!(known, there);
                }
            }
        }
    }
}
