//! The agreement of every enum in use with a store, that names a type, with the type's owner.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};

use tokio::sync::Notify;

use super::Schema;
use crate::fold::error::EventError;
use crate::fold::event::Event;
use crate::fold::owner::EnumDeclaration;
use crate::store::{EventType, Store, Tags};

/// Purpose for which a store is asked for the schema of an enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Reading,
    Writing,
}

/// Declarations of the enums in use with one store for the types that they own.
#[derive(Debug, Default)]
pub(in crate::fold) struct Claims {
    by_type: Mutex<HashMap<EventType, Vec<Claim>>>,
    /// Views that are in use, and do not know an owner.
    views: Mutex<Vec<Weak<View>>>,
    /// True if any type is written by more than one enum.
    is_shared: AtomicBool,
}

#[derive(Clone, Debug)]
struct Claim {
    owned: Arc<EnumDeclaration>,
    writes: bool,
    /// True if the enum has written an event of the type.
    has_written: bool,
}

/// Types that are read without knowing their owner.
pub(super) struct View {
    types: Vec<AssumedType>,
    /// True if the owner of one of the types came into use since.
    is_stale: AtomicBool,
    /// Notifies the tasks that wait for that.
    turns_stale: Notify,
    /// Schema that was made again, or the error that none could be; `None` while the former one is
    /// right. A reader by the former one holds this for reading, so that what it has read is known
    /// when the schema is made again.
    renewed: RwLock<Option<Result<Arc<Schema>, EventError>>>,
    claims: Weak<Claims>,
    make: fn(Option<&Arc<Claims>>) -> Result<Schema, EventError>,
}

/// A type that is read as of this schema version until its owner says otherwise.
#[derive(Debug)]
struct AssumedType {
    event_type: EventType,
    schema_version: u32,
    was_read: AtomicBool,
}

impl View {
    pub(super) fn new<E: Event>(
        types: Vec<(EventType, u32)>,
        claims: Option<&Arc<Claims>>,
    ) -> Self {
        let believed = |(event_type, schema_version)| AssumedType {
            event_type,
            schema_version,
            was_read: AtomicBool::new(false),
        };
        Self {
            types: types.into_iter().map(believed).collect(),
            is_stale: AtomicBool::new(false),
            turns_stale: Notify::new(),
            renewed: RwLock::new(None),
            claims: claims.map(Arc::downgrade).unwrap_or_default(),
            make: Schema::new::<E>,
        }
    }

    /// The same for another reader, which has read nothing.
    pub(super) fn for_another(&self) -> Self {
        let unread = |believed: &AssumedType| AssumedType {
            event_type: believed.event_type.clone(),
            schema_version: believed.schema_version,
            was_read: AtomicBool::new(false),
        };
        Self {
            types: self.types.iter().map(unread).collect(),
            is_stale: AtomicBool::new(false),
            turns_stale: Notify::new(),
            renewed: RwLock::new(None),
            claims: self.claims.clone(),
            make: self.make,
        }
    }

    pub(super) fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Acquire)
    }

    /// Waits until the owner of one of its types comes into use. Safe to cancel.
    pub(super) async fn until_stale(&self) {
        while !self.is_stale() {
            let told = self.turns_stale.notified();
            // It may have been told before.
            if !self.is_stale() {
                told.await;
            }
        }
    }

    /// Returns the schema that took the place of the view's, or `None` while that one is right; it
    /// stays so while the guard is held.
    pub(super) fn now(&self) -> RwLockReadGuard<'_, Option<Result<Arc<Schema>, EventError>>> {
        if self.is_stale() && self.renewed.read().unwrap_or_else(PoisonError::into_inner).is_none()
        {
            // Code of users runs without the lock.
            let made = match self.claims.upgrade() {
                Some(claims) => claims.watched(|| (self.make)(Some(&claims))),
                None => (self.make)(None).map(Arc::new),
            };
            let mut renewed = self.renewed.write().unwrap_or_else(PoisonError::into_inner);
            if renewed.is_none() {
                *renewed = Some(made.and_then(|schema| self.reads_alike(&schema).map(|()| schema)));
            }
        }
        self.renewed.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an event of a type was read.
    pub(super) fn was_read(&self, event_type: &EventType) {
        if let Some(believed) =
            self.types.iter().find(|believed| believed.event_type == *event_type)
        {
            believed.was_read.store(true, Ordering::Relaxed);
        }
    }

    /// Refuses a schema that reads a type differently if events of it were read already.
    fn reads_alike(&self, schema: &Schema) -> Result<(), EventError> {
        let read_otherwise = |believed: &&AssumedType| {
            believed.was_read.load(Ordering::Relaxed)
                && schema.current_version(&believed.event_type) != Some(believed.schema_version)
        };
        match self.types.iter().find(read_otherwise) {
            Some(AssumedType { event_type, .. }) => Err(schema.read_before_its_owner(event_type)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("types", &self.types)
            .field("is_stale", &self.is_stale)
            .finish_non_exhaustive()
    }
}

impl Claims {
    /// Returns the enum that writes a type, other than `beside`; `None` if there is none.
    pub(super) fn writer(
        &self,
        event_type: &EventType,
        beside: TypeId,
    ) -> Option<Arc<EnumDeclaration>> {
        let by_type = self.by_type.lock().unwrap_or_else(PoisonError::into_inner);
        let writers = by_type
            .get(event_type)?
            .iter()
            .filter(|claim| claim.writes && claim.owned.rust != beside);
        // Of several releases the last.
        let latest = writers.max_by_key(|claim| {
            claim.owned.types.get(event_type).map(|owned| owned.schema_version)
        });
        latest.map(|claim| claim.owned.clone())
    }

    /// Tells whether an enum that records in the store owns a type.
    pub(in crate::fold) fn is_written(&self, event_type: &EventType) -> bool {
        let by_type = self.by_type.lock().unwrap_or_else(PoisonError::into_inner);
        by_type.get(event_type).is_some_and(|claims| claims.iter().any(|claim| claim.writes))
    }

    /// Takes an enum into use with the store, for the types that it owns itself. An enum that
    /// writes a type must agree with every other enum that owns it; enums that only read are not
    /// compared with each other.
    fn take(
        &self,
        owned: &Arc<EnumDeclaration>,
        types: &[EventType],
        purpose: Purpose,
    ) -> Result<(), EventError> {
        let writes = purpose == Purpose::Writing;
        let mut by_type = self.by_type.lock().unwrap_or_else(PoisonError::into_inner);
        for event_type in types {
            for other in by_type.get(event_type).into_iter().flatten() {
                let is_release = || {
                    owned.follows(&other.owned, event_type)
                        || other.owned.follows(owned, event_type)
                };
                if other.owned.rust != owned.rust
                    && (writes || other.writes)
                    && !is_release()
                    && let Some(what) = owned.difference(&other.owned, event_type)
                {
                    return Err(EventError::claimed(
                        event_type,
                        owned.name,
                        other.owned.name,
                        what,
                    ));
                }
            }
        }
        for event_type in types {
            let claims = by_type.entry(event_type.clone()).or_default();
            match claims.iter_mut().find(|claim| claim.owned.rust == owned.rust) {
                Some(known) => known.writes |= writes,
                None => claims.push(Claim { owned: owned.clone(), writes, has_written: false }),
            }
            if claims.iter().filter(|claim| claim.writes).count() > 1 {
                self.is_shared.store(true, Ordering::Release);
            }
        }
        drop(by_type);
        if writes {
            self.tell_views(types);
        }
        Ok(())
    }

    fn tell_views(&self, types: &[EventType]) {
        for view in self
            .views
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter_map(Weak::upgrade)
        {
            if view.types.iter().any(|believed| types.contains(&believed.event_type)) {
                view.is_stale.store(true, Ordering::Release);
                view.turns_stale.notify_waiters();
            }
        }
    }

    /// Makes a schema that is right now, and that is told of the owners that come into use later.
    fn watched(
        &self,
        make: impl Fn() -> Result<Schema, EventError>,
    ) -> Result<Arc<Schema>, EventError> {
        loop {
            let schema = Arc::new(make()?);
            schema.no_fault()?;
            let Some(view) = schema.view() else { return Ok(schema) };
            self.watch(view);
            // An owner may have come into use before the view was known.
            let is_owned =
                |believed: &AssumedType| self.writer(&believed.event_type, schema.rust()).is_some();
            if !view.types.iter().any(is_owned) {
                return Ok(schema);
            }
        }
    }

    /// Makes a schema for another reader; `None` if the owner of a type came into use since it was
    /// made.
    fn for_another(&self, schema: Arc<Schema>) -> Option<Arc<Schema>> {
        if schema.view().is_none() {
            return Some(schema);
        }
        let another = Arc::new(schema.for_another());
        another.view().into_iter().for_each(|view| self.watch(view));
        // A view that is known too late for an owner comes after the other one, which knows of
        // it.
        (!schema.is_stale()).then_some(another)
    }

    fn watch(&self, view: &Arc<View>) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.retain(|view| view.strong_count() > 0);
        views.push(Arc::downgrade(view));
    }

    pub(super) fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Acquire)
    }

    /// Notes that an enum writes an event of a type. An enum is refused if a later release of it
    /// has written events of the type.
    pub(super) fn writes(
        &self,
        owned: &EnumDeclaration,
        event_type: &EventType,
    ) -> Result<(), EventError> {
        let mut by_type = self.by_type.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(claims) = by_type.get_mut(event_type) else { return Ok(()) };
        if let Some(later) =
            claims.iter().find(|claim| claim.has_written && claim.owned.follows(owned, event_type))
        {
            let what =
                "the other is a later release of it, and has written since: write with that one";
            return Err(EventError::claimed(event_type, owned.name, later.owned.name, what));
        }
        claims
            .iter_mut()
            .filter(|claim| claim.owned.rust == owned.rust)
            .for_each(|claim| claim.has_written = true);
        Ok(())
    }

    /// Refuses an event to which another writer of its type would give other tags. Tags depend on
    /// values, so each event is compared.
    pub(super) fn agree_on_tags(
        &self,
        owned: &EnumDeclaration,
        event_type: &EventType,
        data: &[u8],
        tags: &Tags,
    ) -> Result<(), EventError> {
        if !self.is_shared() {
            return Ok(());
        }
        let writers: Vec<Arc<EnumDeclaration>> = {
            let by_type = self.by_type.lock().unwrap_or_else(PoisonError::into_inner);
            let claims = by_type.get(event_type).into_iter().flatten();
            claims
                .filter(|claim| {
                    claim.writes
                        && claim.owned.rust != owned.rust
                        && owned.difference(&claim.owned, event_type).is_none()
                })
                .map(|claim| claim.owned.clone())
                .collect()
        };
        for other in writers {
            let theirs = other.tags(event_type, data, owned.name)?;
            if theirs.len() != tags.len() || !theirs.iter().all(|tag| tags.contains(tag)) {
                return Err(EventError::claimed(
                    event_type,
                    owned.name,
                    other.name,
                    "they give it other tags",
                ));
            }
        }
        Ok(())
    }
}

/// The enums in use with one store.
#[derive(Debug, Default)]
struct EnumsInUse {
    claims: Arc<Claims>,
    schemas: Mutex<HashMap<(TypeId, bool), Arc<Schema>>>,
}

impl Store {
    /// Returns the schema of an enum that is used with this store. It is refused if it says
    /// something else of a type than another enum that is used with the store, or if its upcasters
    /// leave events unread.
    pub(crate) fn schema<E: Event>(&self, purpose: Purpose) -> Result<Arc<Schema>, EventError> {
        let in_use = self.attached(EnumsInUse::default);
        let key = (TypeId::of::<E>(), purpose == Purpose::Writing);
        let known =
            in_use.schemas.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(schema) = known.and_then(|schema| in_use.claims.for_another(schema)) {
            return Ok(schema);
        }
        let schema = in_use.claims.watched(|| Schema::new::<E>(Some(&in_use.claims)))?;
        in_use.claims.take(&EnumDeclaration::of::<E>()?, &schema.own_types(), purpose)?;
        let mut schemas = in_use.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        // A later release may be the owner of views now.
        schemas.retain(|(rust, _), schema| *rust == key.0 || schema.has_no_other_owner());
        schemas.insert(key, schema.clone());
        drop(schemas);
        Ok(in_use.claims.for_another(schema.clone()).unwrap_or(schema))
    }
}
