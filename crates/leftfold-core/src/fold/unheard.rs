//! Types that a reader asks for and that nobody knows. Usually their names are then read
//! differently from how they are written, and nothing else would ever say so: there is no event
//! that could fail.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::schema::{Claims, Schema};
use crate::store::{EventType, Position, Query, Read, ReadError, Store, TypeMatch};

/// Types that a reader asks for, of which the store holds no event, and that no enum declares that
/// owns them: neither one that the reader names in `owners()`, nor one that records in this store.
#[derive(Debug, Default)]
pub(crate) struct UnheardTypes {
    claims: Option<Arc<Claims>>,
    asked: Mutex<Vec<UnheardType>>,
}

/// The decisions that were made with a store.
#[derive(Debug, Default)]
struct AnnouncedDecisions(RwLock<HashSet<&'static str>>);

#[derive(Clone, Debug)]
struct UnheardType {
    event_type: EventType,
    /// It, and its older names.
    names: Vec<EventType>,
    /// True if the store was searched, and held no event of the type.
    is_looked_for: bool,
}

impl UnheardTypes {
    /// Collects those of an enum as far as is known without looking into the store: nobody declares
    /// them.
    pub(crate) fn of(schema: &Schema) -> Self {
        Self::among(schema, schema.undeclared().cloned())
    }

    /// Collects those that a query for an enum names.
    fn of_query(schema: &Schema, query: &Query) -> Self {
        let exact = |named: &TypeMatch| match named {
            TypeMatch::Exact(event_type) => Some(event_type.clone()),
            TypeMatch::Prefix(_) => None,
        };
        let named: BTreeSet<EventType> =
            query.items().iter().flat_map(|item| &item.types).filter_map(exact).collect();
        Self::among(schema, named.into_iter().filter(|event_type| !schema.is_declared(event_type)))
    }

    /// Types that nobody declares, still to be looked for.
    fn among(schema: &Schema, undeclared: impl Iterator<Item = EventType>) -> Self {
        let asked = undeclared.map(|event_type| UnheardType {
            names: schema.names_of(&event_type),
            event_type,
            is_looked_for: false,
        });
        Self { claims: schema.claims().cloned(), asked: Mutex::new(asked.collect()) }
    }

    /// The same, with only one of the types.
    pub(crate) fn only(self, event_type: &EventType) -> Self {
        self.asked().retain(|asked| asked.event_type == *event_type);
        self
    }

    /// Looks for them, and names those that nobody knows in a warning. An error of the store is
    /// passed over: the next read from it returns it.
    pub(crate) async fn announce(&self, store: &Store, reader: &'static str) {
        let found = self.look(store).await;
        let unheard = self.now();
        if found.is_ok() && !unheard.is_empty() {
            let types: Vec<&str> = unheard.iter().map(|unheard| &**unheard).collect();
            tracing::warn!(
                reader,
                ?types,
                "types are asked for that were never recorded, and that no enum in use declares: fix their names, \
                 name their owner in owners(), or take it into use before, by Store::aggregate"
            );
        }
    }

    /// Looks for events of the types that are unheard so far. Safe to cancel: what was found stays.
    pub(crate) async fn look(&self, store: &Store) -> Result<(), ReadError> {
        self.forget_declared();
        let all: Vec<UnheardType> = self.asked().clone();
        for UnheardType { event_type, names, .. } in all {
            let read = Read::matching(Query::types(names), Position(1)).page_of(1);
            let is_recorded = store.read(read).next().await?.is_some();
            let mut asked = self.asked();
            if is_recorded {
                asked.retain(|asked| asked.event_type != event_type);
            } else if let Some(asked) =
                asked.iter_mut().find(|asked| asked.event_type == event_type)
            {
                asked.is_looked_for = true;
            }
        }
        Ok(())
    }

    /// Notes that events of these types are recorded.
    pub(crate) fn are_recorded<'e>(&self, mut types: impl Iterator<Item = &'e EventType>) {
        let mut asked = self.asked();
        while !asked.is_empty()
            && let Some(event_type) = types.next()
        {
            asked.retain(|asked| !asked.names.contains(event_type));
        }
    }

    /// Returns the types that nobody knows now, of those that were looked for.
    pub(crate) fn now(&self) -> Vec<EventType> {
        self.forget_declared();
        self.asked()
            .iter()
            .filter(|asked| asked.is_looked_for)
            .map(|asked| asked.event_type.clone())
            .collect()
    }

    /// Announces the types of a decision, when it is first made with a store.
    pub(super) async fn announce_once<D>(store: &Store, schema: &Schema, query: &Query) {
        let (decision, announced) =
            (std::any::type_name::<D>(), store.attached(AnnouncedDecisions::default));
        // All decisions but the first of its type only read here, and so do not wait for one
        // another.
        if announced.0.read().unwrap_or_else(PoisonError::into_inner).contains(decision) {
            return;
        }
        let is_new = announced.0.write().unwrap_or_else(PoisonError::into_inner).insert(decision);
        if is_new {
            Self::of_query(schema, query).announce(store, decision).await;
        }
    }

    fn forget_declared(&self) {
        if let Some(claims) = &self.claims {
            self.asked().retain(|asked| !claims.is_written(&asked.event_type));
        }
    }

    fn asked(&self) -> MutexGuard<'_, Vec<UnheardType>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
