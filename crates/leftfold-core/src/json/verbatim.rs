//! Values that serde_json hands to a serializer, or a visitor, as they stand: raw values, and
//! numbers of any size.

use std::sync::OnceLock;

use serde_json::Value;

/// Names under which serde_json's raw values, and its numbers of any size, come to a serializer: as
/// a struct of one field of the same name, whose text is the JSON.
pub(super) const VERBATIM: [&str; 2] =
    ["$serde_json::private::RawValue", "$serde_json::private::Number"];

/// Tells whether serde_json was built with `arbitrary_precision`, which any crate of the program
/// may ask for.
pub(super) fn values_hold_any_number() -> bool {
    const BEYOND: &str = "123456789012345678901234567890";
    static HOLD: OnceLock<bool> = OnceLock::new();
    *HOLD.get_or_init(|| {
        let value = serde_json::from_str::<Value>(BEYOND);
        value.and_then(|value| serde_json::to_string(&value)).is_ok_and(|text| text == BEYOND)
    })
}
