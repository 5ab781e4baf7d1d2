//! Owners of types.
//!
//! An enum owns the types of its own namespace. An enum that names a type of another namespace has
//! a view of it: the owner says how old events of it are read, which schema version is written and
//! by which tags it is found. The owner is the enum that the view names; if it names none, the enum
//! that writes the type in this store.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::error::EventError;
use super::upcast::Upcasters;
use crate::store::{EventType, Tags};

type FindDeclaration = fn() -> Result<Arc<EnumDeclaration>, EventError>;

/// The enums that own the types that another one only has a view of: see
/// [`Event::owners`](super::Event::owners).
#[derive(Clone, Default)]
pub struct Owners {
    pub(super) known: Vec<(TypeId, FindDeclaration)>,
}

impl Owners {
    /// Names no owner.
    #[must_use]
    pub const fn unnamed() -> Self {
        Self { known: Vec::new() }
    }

    pub(super) fn names(&self, rust: TypeId) -> bool {
        self.known.iter().any(|(known, _)| *known == rust)
    }

    pub(super) fn owned(&self) -> Result<Vec<Arc<EnumDeclaration>>, EventError> {
        self.known.iter().map(|(_, owned)| owned()).collect()
    }
}

impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owners").field("named", &self.known.len()).finish()
    }
}

/// Declarations of an enum for the types that it owns.
pub(super) struct EnumDeclaration {
    pub(super) rust: TypeId,
    pub(super) name: &'static str,
    pub(super) types: HashMap<EventType, OwnedType>,
    pub(super) upcasters: Upcasters,
    /// True if the enum says that it owns all types that it names.
    pub(super) owns_all: bool,
    pub(super) tags: fn(&str, &[u8]) -> Result<Tags, String>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct OwnedType {
    pub(super) variant: &'static str,
    pub(super) schema_version: u32,
    /// True if only the enum itself can own the type. A variant named with a dot may be a view,
    /// even in the enum's own namespace.
    pub(super) is_certain: bool,
}

impl EnumDeclaration {
    /// Returns the tags of an event, from its data as an enum wrote it: those that the owner gives
    /// to the event that it reads.
    pub(super) fn tags(
        &self,
        event_type: &EventType,
        data: &[u8],
        writer: &'static str,
    ) -> Result<Tags, EventError> {
        let variant = self.types.get(event_type).map_or("", |owned| owned.variant);
        (self.tags)(variant, data).map_err(|why| EventError::Encode {
            name: writer,
            detail: format!(
                "{} owns {event_type} and does not read it: {why}; record it with that enum",
                self.name
            ),
        })
    }

    /// Tells whether it is a later release of the other: the same steps lead to the type, and more
    /// of them, on from the other's schema version to its own.
    pub(super) fn follows(&self, other: &Self, event_type: &EventType) -> bool {
        let (later, earlier) =
            (self.upcasters.leading_to(event_type), other.upcasters.leading_to(event_type));
        let version = |owned: &Self| owned.types.get(event_type).map(|owned| owned.schema_version);
        let leads_on = version(other)
            .is_some_and(|version| later.versions_from(event_type).contains(&version));
        leads_on && version(other) < version(self) && later.has_all(&earlier)
    }

    /// Tells how the two differ in what they say of a type; `None` if they agree.
    pub(super) fn difference(&self, other: &Self, event_type: &EventType) -> Option<&'static str> {
        let version = |owned: &Self| owned.types.get(event_type).map(|owned| owned.schema_version);
        if version(self) != version(other) {
            Some("they have other schema versions")
        } else if !self
            .upcasters
            .leading_to(event_type)
            .is_like(&other.upcasters.leading_to(event_type))
        {
            Some("they have other upcasters")
        } else {
            None
        }
    }
}

impl fmt::Debug for EnumDeclaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnumDeclaration")
            .field("name", &self.name)
            .field("types", &self.types)
            .finish_non_exhaustive()
    }
}
