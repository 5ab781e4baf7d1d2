//! Operations of the profile of local lists.

use serde_json::{Value, json};

use super::parts::{ConfirmationError, object, stamp};
use crate::domain::operation::{
    ListEntry, ListExtent, ListTerms, OperationResult, StationOperation,
};
use crate::ocpp::reading::{Fields, Notes, Presence};

/// Returns the payload of an operation of this profile.
pub(super) fn payload(operation: &StationOperation) -> Option<Value> {
    match operation {
        StationOperation::ReadLocalListVersion {} => Some(json!({})),
        StationOperation::UpdateLocalList { version, extent, entries } => {
            let extent = match extent {
                ListExtent::Differential => "Differential",
                ListExtent::Full => "Full",
            };
            let entries: Vec<Value> = entries.iter().map(entry).collect();
            Some(json!({
                "listVersion": version.get(),
                "updateType": extent,
                "localAuthorizationList": entries,
            }))
        }
        _ => None,
    }
}

fn entry(entry: &ListEntry) -> Value {
    object([
        ("idTag", Some(entry.id_tag.as_str().into())),
        ("idTagInfo", entry.terms.as_ref().map(terms_of_tag)),
    ])
}

/// Returns the terms of a tag.
pub(crate) fn terms_of_tag(terms: &ListTerms) -> Value {
    object([
        ("status", Some(terms.status.as_str().into())),
        ("expiryDate", terms.expiry_date.map(stamp)),
        ("parentIdTag", terms.parent_id_tag.as_ref().map(|tag| tag.as_str().into())),
    ])
}

/// Reads the version of a local list.
pub(super) fn version(
    fields: &mut Fields<'_>,
    notes: &mut Notes,
) -> Result<OperationResult, ConfirmationError> {
    let version = fields.integer("listVersion", Presence::Required, notes);
    version.map(|version| OperationResult::LocalListVersion { version }).ok_or(ConfirmationError)
}
