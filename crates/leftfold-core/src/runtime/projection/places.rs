//! The places of a version's rows in its target, and its role among the versions that run.

use super::{ProjectionError, Target};

/// Number that is added to a version's number if its rows are in the other place, since they were
/// rebuilt.
pub const BESIDE: u32 = 1 << 31;

/// Role of a version in its projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct Role {
    /// True if no higher version runs here: only then does it take another one's place.
    pub(in crate::runtime) newest: bool,
    /// True if it is to be rebuilt, whatever there is of it.
    pub(in crate::runtime) rebuild: bool,
}

/// Tells whether a place has rows of a version.
pub(super) fn is_of(place: u32, version: u32) -> bool {
    place & !BESIDE == version
}

/// The place with the rows of a version: the one that serves, or the only one.
pub(super) async fn place_of(
    target: &impl Target,
    name: &str,
    version: u32,
) -> Result<Option<u32>, ProjectionError> {
    if let Some(serving) = target.serving(name).await?.filter(|place| is_of(*place, version)) {
        return Ok(Some(serving));
    }
    Ok(target.versions(name).await?.into_iter().find(|place| is_of(*place, version)))
}
