//! The owners of an enum's types: itself, enums that it names, or those that claimed a type.

use std::collections::HashMap;
use std::sync::Arc;

use super::claims::Claims;
use super::{Variant, VariantOwner};
use crate::fold::error::EventError;
use crate::fold::owner::EnumDeclaration;
use crate::fold::upcast::Upcasters;
use crate::store::EventType;

/// Finds the owners of an enum's types.
pub(super) struct OwnerFinder<'a> {
    pub(super) own: &'a EnumDeclaration,
    /// True if the enum says that it owns all that it names.
    pub(super) is_named: bool,
    pub(super) named: Vec<Arc<EnumDeclaration>>,
    pub(super) claims: Option<&'a Arc<Claims>>,
}

impl OwnerFinder<'_> {
    pub(super) fn owner(&self, event_type: &EventType) -> Result<VariantOwner, EventError> {
        let own = self.own.types.get(event_type);
        // Names of the runtime are not the model's to judge: the store refuses them to anyone who
        // has no right to them.
        if self.is_named || event_type.is_system() || own.is_some_and(|own| own.is_certain) {
            return Ok(VariantOwner::Itself);
        }
        let has_it = |owned: &&Arc<EnumDeclaration>| owned.types.contains_key(event_type);
        if let Some(named) = self.named.iter().find(has_it) {
            return Ok(VariantOwner::Other(named.clone()));
        }
        if own.is_none() && !self.named.is_empty() {
            return Err(EventError::NotOwned {
                name: self.own.name,
                event_type: event_type.clone(),
            });
        }
        let other = self.claims.and_then(|claims| claims.writer(event_type, self.own.rust));
        Ok(match (other, own) {
            (Some(other), _) => VariantOwner::Other(other),
            (None, Some(_)) => VariantOwner::Itself,
            (None, None) => VariantOwner::Unknown,
        })
    }

    /// Returns the enum's own upcasters, with the owners' in place of those that lead to types of
    /// theirs.
    pub(super) fn upcasters(
        &self,
        variants: &HashMap<&str, Variant>,
    ) -> Result<Upcasters, EventError> {
        let mut upcasters = self.own.upcasters.clone();
        for Variant { event_type, owner, .. } in variants.values() {
            let VariantOwner::Other(owner) = owner else { continue };
            let (own, theirs) =
                (self.own.upcasters.leading_to(event_type), owner.upcasters.leading_to(event_type));
            // It may know older shapes beside; where those lead to is compared with the owner's
            // shape of today.
            if own.contradicts(&theirs) {
                let what = "a view has the upcasters of the enum that owns the type, and may have no others from the same shape";
                return Err(EventError::claimed(event_type, self.own.name, owner.name, what));
            }
            upcasters = upcasters.replaced_by(&theirs);
        }
        Ok(upcasters)
    }

    /// Returns today's schema version of a type that the enum, or an owner of its types, has.
    pub(super) fn today(
        &self,
        by_type: &HashMap<EventType, (&str, u32)>,
        variants: &HashMap<&str, Variant>,
        event_type: &str,
    ) -> Option<u32> {
        let event_type = EventType::new(event_type.to_owned()).ok()?;
        let own = by_type.get(&event_type).map(|(_, version)| *version);
        own.or_else(|| {
            let others = variants.values().filter_map(|variant| match &variant.owner {
                VariantOwner::Other(owner) => {
                    owner.types.get(&event_type).map(|owned| owned.schema_version)
                }
                VariantOwner::Itself | VariantOwner::Unknown => None,
            });
            others.max()
        })
    }
}
