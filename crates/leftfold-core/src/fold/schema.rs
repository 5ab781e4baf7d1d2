//! The schema of an event enum: its types in the store, and how they are written and read.

mod claims;
mod owners;

use std::any::TypeId;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::codec;
use super::declaration::stored_type;
use super::error::EventError;
use super::event::{Event, Unknown};
use super::owner::EnumDeclaration;
use super::upcast::{StoredShape, Upcasters};
use crate::json::{self, JsonReadError, Output};
use crate::panic::caught;
use crate::store::limits::ITEM_TERMS_MAX;
use crate::store::{EventType, Invalid, NewEvent, Query, RecordedEvent};
pub(super) use claims::Claims;
pub(crate) use claims::Purpose;
use claims::View;
use owners::OwnerFinder;

/// Schema of an event enum: its types in the store and how they are read.
#[derive(Clone, Debug)]
pub struct Schema {
    name: &'static str,
    owned: Arc<EnumDeclaration>,
    variants: Arc<HashMap<&'static str, Variant>>,
    /// The variant of each type that is read as it is stored.
    by_type: Arc<HashMap<EventType, (&'static str, u32)>>,
    upcasters: Arc<Upcasters>,
    /// The types to ask the store for: today's, and those that upcasters lead from.
    wanted: Arc<[EventType]>,
    /// Error of the upcasters; `None` if they are good. Events that they leave unread are an error
    /// on read, and the schema is not taken into use.
    fault: Option<EventError>,
    /// Types that are read without knowing their owner; `None` if every owner is known.
    view: Option<Arc<View>>,
    /// Declarations of others for the same types, in the store that the enum is used with; `None`
    /// if it is used without a store.
    claims: Option<Arc<Claims>>,
}

#[derive(Debug)]
struct Variant {
    event_type: EventType,
    schema_version: u32,
    owner: VariantOwner,
    /// True if the other releases know that it is written.
    is_written: AtomicBool,
}

/// Owner of a type: the enum that says how it is written.
#[derive(Debug)]
enum VariantOwner {
    Itself,
    Other(Arc<EnumDeclaration>),
    Unknown,
}

/// Form that a recorded event has today.
enum TodaysForm {
    /// As it is stored, the data of this variant.
    AsStored(&'static str),
    /// The results of upcasters.
    Upcast(Vec<(EventType, Vec<u8>)>),
    /// Of a type that the enum does not know.
    Unknown,
}

impl Schema {
    /// The schema of an event enum, made once per type and kept.
    pub fn of<E: Event>() -> Result<Arc<Self>, EventError> {
        type Known = Mutex<HashMap<TypeId, Result<Arc<Schema>, EventError>>>;
        static KNOWN: OnceLock<Known> = OnceLock::new();
        let known =
            || KNOWN.get_or_init(Known::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = known().get(&TypeId::of::<E>()) {
            return schema.clone();
        }
        // Code of users runs without the lock.
        let schema = Self::new::<E>(None).map(Arc::new);
        // The owners of a view may become known.
        if schema.as_ref().is_ok_and(|schema| schema.view.is_some()) {
            return schema;
        }
        known().entry(TypeId::of::<E>()).or_insert(schema).clone()
    }

    fn new<E: Event>(claims: Option<&Arc<Claims>>) -> Result<Self, EventError> {
        let (owned, named) =
            (EnumDeclaration::of::<E>()?, EventError::caught::<E, _>("owners", E::owners)?);
        let finder = OwnerFinder {
            own: &owned,
            is_named: named.names(owned.rust),
            named: named.owned()?,
            claims,
        };
        let (mut variants, mut by_type): (HashMap<_, Variant>, HashMap<_, _>) =
            (HashMap::new(), HashMap::new());
        for variant in codec::variants::<E>()? {
            let event_type = stored_type::<E>(variant)?;
            let owner = finder.owner(&event_type)?;
            let schema_version = match &owner {
                VariantOwner::Other(owner) => {
                    owner.types.get(&event_type).map_or(1, |owned| owned.schema_version)
                }
                VariantOwner::Itself | VariantOwner::Unknown => {
                    owned.upcasters.current_version(&event_type)
                }
            };
            if let Some((other, _)) = by_type.insert(event_type.clone(), (*variant, schema_version))
            {
                let name = |variant: &str| format!("{}::{variant}", owned.name);
                let what = "two variants cannot be stored under one type";
                return Err(EventError::claimed(&event_type, &name(variant), &name(other), what));
            }
            variants.insert(
                *variant,
                Variant { event_type, schema_version, owner, is_written: AtomicBool::new(false) },
            );
        }
        let upcasters = finder.upcasters(&variants)?;
        let today: BTreeSet<EventType> = by_type.keys().cloned().collect();
        let wanted: Arc<[EventType]> = upcasters.widen(today)?.into_iter().collect();
        Invalid::if_over(
            "the types of an event enum, older ones included",
            wanted.len(),
            ITEM_TERMS_MAX,
        )?;
        let fault = upcasters
            .fault(E::NAMESPACE, |event_type| finder.today(&by_type, &variants, event_type));
        let fault = fault.map(|(event_type, schema_version, what)| EventError::Upcasters {
            name: owned.name,
            event_type,
            schema_version,
            what,
        });
        let unknown =
            variants.values().filter(|variant| matches!(variant.owner, VariantOwner::Unknown));
        let types: Vec<_> =
            unknown.map(|variant| (variant.event_type.clone(), variant.schema_version)).collect();
        let view = (!types.is_empty()).then(|| Arc::new(View::new::<E>(types, claims)));
        let (claims, upcasters) = (claims.cloned(), Arc::new(upcasters));
        let (variants, by_type) = (Arc::new(variants), Arc::new(by_type));
        Ok(Self {
            name: owned.name,
            owned,
            variants,
            by_type,
            upcasters,
            wanted,
            fault,
            view,
            claims,
        })
    }

    /// Makes the same schema for another reader, which has read nothing of the types whose owner is
    /// not known.
    fn for_another(&self) -> Self {
        Self { view: self.view.as_ref().map(|view| Arc::new(view.for_another())), ..self.clone() }
    }

    /// Returns the types to ask the store for: today's, and every older one that upcasters turn
    /// into one of them.
    #[must_use]
    pub fn wanted(&self) -> &[EventType] {
        &self.wanted
    }

    /// Returns a query for the events that this enum reads, in all streams.
    #[must_use]
    pub fn query(&self) -> Query {
        Query::types(self.wanted.iter().cloned())
    }

    /// Returns a query for this enum: of its types if an item names none, and of the older names
    /// too of those that it names.
    pub(crate) fn widened(&self, query: Query) -> Query {
        let query = query.of_types(&self.wanted);
        if self.upcasters.is_none() {
            return query;
        }
        query.and_types(|named| {
            let meant = self
                .wanted
                .iter()
                .filter(|event_type| named.matches(event_type))
                .cloned()
                .collect();
            self.upcasters.widen(meant).unwrap_or_default()
        })
    }

    /// Returns the name of a type with its older names.
    pub(crate) fn names_of(&self, event_type: &EventType) -> Vec<EventType> {
        let named = BTreeSet::from([event_type.clone()]);
        self.upcasters.widen(named.clone()).unwrap_or(named).into_iter().collect()
    }

    /// Today's schema version of a type that is read as it is stored.
    pub(crate) fn current_version(&self, event_type: &EventType) -> Option<u32> {
        self.by_type.get(event_type).map(|(_, version)| *version)
    }

    /// The types that the enum owns itself.
    fn own_types(&self) -> Vec<EventType> {
        let own =
            self.variants.values().filter(|variant| matches!(variant.owner, VariantOwner::Itself));
        own.map(|variant| variant.event_type.clone()).collect()
    }

    /// The types that no enum declares which owns them and records: none that is named in
    /// `owners()`, none that is in use.
    pub(super) fn undeclared(&self) -> impl Iterator<Item = &EventType> {
        self.by_type.keys().filter(|event_type| !self.is_declared(event_type))
    }

    /// Tells whether the type is declared by an enum that owns it and records, or is an older name.
    pub(super) fn is_declared(&self, event_type: &EventType) -> bool {
        let is_own = self.by_type.contains_key(event_type);
        let has_it = |variant: &Variant| {
            matches!(
                &variant.owner,
                VariantOwner::Other(owner) if owner.types.contains_key(event_type)
            )
        };
        event_type.is_system()
            || (is_own && self.owned.owns_all)
            || (!is_own && self.wanted.contains(event_type))
            || self.variants.values().any(has_it)
            || self.claims().is_some_and(|claims| claims.is_written(event_type))
    }

    pub(super) fn claims(&self) -> Option<&Arc<Claims>> {
        self.claims.as_ref()
    }

    fn view(&self) -> Option<&Arc<View>> {
        self.view.as_ref()
    }

    fn has_no_other_owner(&self) -> bool {
        !self.variants.values().any(|variant| matches!(variant.owner, VariantOwner::Other(_)))
    }

    fn rust(&self) -> TypeId {
        self.owned.rust
    }

    /// Returns the schema that took this one's place, because the owner of a type came into use
    /// since; `None` while this one is right. An error if events were read otherwise than the owner
    /// says.
    pub(crate) fn renewed(&self) -> Result<Option<Arc<Self>>, EventError> {
        let Some(view) = &self.view else { return Ok(None) };
        let now = view.now().clone();
        let Some(schema) = now.transpose()? else { return Ok(None) };
        Ok(Some(schema.renewed()?.unwrap_or(schema)))
    }

    /// Tells whether the owner of a type came into use since.
    pub(crate) fn is_stale(&self) -> bool {
        self.view.as_ref().is_some_and(|view| view.is_stale())
    }

    /// Waits until the owner of a type comes into use; forever if all are known. Safe to cancel.
    pub(crate) async fn until_stale(&self) {
        match &self.view {
            Some(view) => view.until_stale().await,
            None => std::future::pending().await,
        }
    }

    /// The types that this schema asks the store for, and a former one did not.
    pub(crate) fn wanted_beside(&self, former: &Self) -> Vec<EventType> {
        self.wanted.iter().filter(|wanted| !former.wanted.contains(wanted)).cloned().collect()
    }

    pub(super) fn read_before_its_owner(&self, event_type: &EventType) -> EventError {
        let owner = self.variants.values().find_map(|variant| match &variant.owner {
            VariantOwner::Other(owner) if variant.event_type == *event_type => Some(owner.name),
            _ => None,
        });
        let what = "its events were read in another shape before their owner was known: rebuild what was made of them, \
                    and name the owner in owners()";
        EventError::claimed(event_type, self.name, owner.unwrap_or("its owner"), what)
    }

    /// Refuses upcasters that leave events unread.
    pub(super) fn no_fault(&self) -> Result<(), EventError> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// Encodes the event as the store takes it, with its own tags, in no stream.
    pub fn encode<E: Event>(&self, event: &E) -> Result<NewEvent, EventError> {
        if let Some(renewed) = self.renewed()? {
            return renewed.encode(event);
        }
        let is_record = E::NAMESPACE.starts_with('$');
        let output = if is_record { Output::writing_record() } else { Output::writing() };
        let (variant, data) = codec::encode(event, output)?;
        let known = self.variants.get(variant).ok_or(EventError::NotAnEnum { name: self.name })?;
        let tags = match &known.owner {
            VariantOwner::Itself => {
                let panics = |detail| EventError::Tags {
                    name: self.name,
                    event_type: known.event_type.clone(),
                    detail,
                };
                let tags = caught(|| event.tags()).map_err(panics)?;
                if let Some(claims) = &self.claims {
                    if claims.is_shared() || !known.is_written.swap(true, Ordering::Relaxed) {
                        claims.writes(&self.owned, &known.event_type)?;
                    }
                    claims.agree_on_tags(&self.owned, &known.event_type, &data, &tags)?;
                }
                tags
            }
            VariantOwner::Other(owner) => owner.tags(&known.event_type, &data, self.name)?,
            VariantOwner::Unknown => {
                return Err(EventError::NoOwner {
                    name: self.name,
                    event_type: known.event_type.clone(),
                });
            }
        };
        let named = EventError::caught::<E, _>("key_ids", || event.key_ids())?;
        let mut new = NewEvent::new(known.event_type.clone(), Bytes::from(data));
        (new.schema_version, new.tags, new.key_ids) =
            (known.schema_version, tags, json::keys_in(&new.data));
        new.name_keys(named);
        Ok(new)
    }

    /// Decodes a recorded event into the events, in today's shape, that it stands for: usually one;
    /// none if its type does not concern the fold; several if an upcaster splits it.
    pub fn decode<E: Event>(
        &self,
        recorded: &RecordedEvent,
        unknown: Unknown,
    ) -> Result<Vec<E>, EventError> {
        let mut events = Vec::with_capacity(1);
        self.decode_each(recorded, unknown, |event| events.push(event))?;
        Ok(events)
    }

    /// Decodes as [`Schema::decode`] does, without a vector.
    pub fn decode_each<E: Event>(
        &self,
        recorded: &RecordedEvent,
        unknown: Unknown,
        mut each: impl FnMut(E),
    ) -> Result<(), EventError> {
        let Some(view) = &self.view else {
            return self.read_each(recorded, unknown, |_, event| each(event));
        };
        let now = view.now();
        match &*now {
            None => self.read_each(recorded, unknown, |event_type, event| {
                view.was_read(event_type);
                each(event);
            }),
            Some(renewed) => {
                let renewed = renewed.clone()?;
                drop(now);
                renewed.decode_each(recorded, unknown, each)
            }
        }
    }

    fn read_each<E: Event>(
        &self,
        recorded: &RecordedEvent,
        unknown: Unknown,
        mut each: impl FnMut(&EventType, E),
    ) -> Result<(), EventError> {
        match self.today(recorded)? {
            TodaysForm::AsStored(variant) => {
                each(&recorded.event_type, self.parse(variant, &recorded.data, recorded)?)
            }
            TodaysForm::Upcast(results) => {
                for (event_type, data) in results {
                    // What a split makes beside what this enum reads is for other readers.
                    if let Some((variant, _)) = self.by_type.get(&event_type) {
                        each(&event_type, self.parse(variant, &data, recorded)?);
                    }
                }
            }
            TodaysForm::Unknown if unknown == Unknown::Ignore => {}
            TodaysForm::Unknown => {
                let (position, event_type) = (recorded.position.0, recorded.event_type.clone());
                return Err(EventError::UnknownType { position, event_type });
            }
        }
        Ok(())
    }

    /// Decodes the data of an event as today's shape of one type: as the struct that a variant
    /// carries.
    pub(crate) fn payload<T: DeserializeOwned>(
        &self,
        recorded: &RecordedEvent,
        as_type: &EventType,
    ) -> Result<T, EventError> {
        if let Some(renewed) = self.renewed()? {
            return renewed.payload(recorded, as_type);
        }
        let parsed = match self.today(recorded)? {
            TodaysForm::AsStored(_) if recorded.event_type == *as_type => {
                json::decode(&recorded.data)
            }
            TodaysForm::Upcast(results) => {
                match results.into_iter().find(|(event_type, _)| event_type == as_type) {
                    Some((_, data)) => json::decode(&data),
                    None => {
                        return Err(
                            self.not_upcast(recorded, format!("no upcaster leads on to {as_type}"))
                        );
                    }
                }
            }
            TodaysForm::AsStored(_) | TodaysForm::Unknown => {
                let (position, event_type) = (recorded.position.0, recorded.event_type.clone());
                return Err(EventError::UnknownType { position, event_type });
            }
        };
        parsed.map_err(|error| EventError::unread::<T>(recorded, error))
    }

    /// Returns the form that a recorded event has today. A type or schema version that the enum, or
    /// its upcasters, know and do not cover is an error to every reader.
    fn today(&self, recorded: &RecordedEvent) -> Result<TodaysForm, EventError> {
        let (event_type, schema_version) = (&recorded.event_type, recorded.schema_version);
        let known = self.by_type.get(event_type);
        if let Some((variant, current)) = known
            && *current == schema_version
        {
            return Ok(TodaysForm::AsStored(variant));
        }
        let stored = StoredShape { event_type: event_type.clone(), schema_version };
        if self.upcasters.start_at(&stored) {
            let results = self.upcasters.upcast(&stored, &recorded.data, recorded.position.0)?;
            return Ok(TodaysForm::Upcast(self.arrived(recorded, results)?));
        }
        match (known, &*self.upcasters.versions_from(event_type)) {
            (Some((_, current)), _) => Err(EventError::SchemaVersion {
                position: recorded.position.0,
                event_type: event_type.clone(),
                stored: schema_version,
                current: *current,
            }),
            (None, []) => Ok(TodaysForm::Unknown),
            (None, versions) => {
                let detail = format!(
                    "none leads from version {schema_version}, they lead from {versions:?}"
                );
                Err(self.not_upcast(recorded, detail))
            }
        }
    }

    /// Makes the event of a type from the data of the struct that its variant carries.
    pub(crate) fn event_of<E: Event>(
        &self,
        event_type: &EventType,
        data: &[u8],
    ) -> Result<E, EventError> {
        let name = self.name;
        let unknown =
            || EventError::Encode { name, detail: format!("it has no variant for {event_type}") };
        let (variant, _) = self.by_type.get(event_type).ok_or_else(unknown)?;
        codec::decode(variant, data).map_err(|error| match error {
            JsonReadError::Panicked(detail) => {
                EventError::Panicked { name, place: "Deserialize", detail }
            }
            JsonReadError::Json(error) => {
                EventError::Encode { name, detail: format!("{event_type}: {error}") }
            }
        })
    }

    /// Returns the results of upcasters, if each of them is of today's shape or meant for other
    /// readers.
    fn arrived(
        &self,
        recorded: &RecordedEvent,
        results: Vec<(StoredShape, Vec<u8>)>,
    ) -> Result<Vec<(EventType, Vec<u8>)>, EventError> {
        let arrived = |(stored, data): (StoredShape, Vec<u8>)| {
            let StoredShape { event_type, schema_version } = stored;
            match self.by_type.get(&event_type) {
                Some((_, current)) if *current != schema_version => {
                    let what = format!(
                        "it becomes {event_type} version {schema_version}, none leads on to today's {current}"
                    );
                    Err(self.not_upcast(recorded, what))
                }
                None if self.fault.is_some() => Err(self
                    .not_upcast(recorded, format!("it becomes {event_type}, which is no variant"))),
                _ => Ok((event_type, data)),
            }
        };
        results.into_iter().map(arrived).collect()
    }

    fn not_upcast(&self, recorded: &RecordedEvent, detail: String) -> EventError {
        EventError::Upcast {
            position: recorded.position.0,
            event_type: recorded.event_type.clone(),
            detail,
        }
    }

    fn parse<E: Event>(
        &self,
        variant: &str,
        data: &[u8],
        recorded: &RecordedEvent,
    ) -> Result<E, EventError> {
        codec::decode(variant, data).map_err(|error| EventError::unread::<E>(recorded, error))
    }
}

#[cfg(test)]
mod tests;
