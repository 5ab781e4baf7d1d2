//! Declarations of an enum for the types that it owns: made from its code, once for each enum.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::codec;
use super::error::EventError;
use super::event::Event;
use super::owner::{EnumDeclaration, OwnedType, Owners};
use crate::panic::caught;
use crate::store::EventType;

impl Owners {
    /// Names this enum. An enum that names itself owns all types that it names, of any namespace.
    #[must_use]
    pub fn of<E: Event>() -> Self {
        Self::unnamed().and::<E>()
    }

    /// Names another enum too.
    #[must_use]
    pub fn and<E: Event>(mut self) -> Self {
        self.known.push((TypeId::of::<E>(), EnumDeclaration::of::<E>));
        self
    }
}

type Program = Mutex<HashMap<TypeId, Result<Arc<EnumDeclaration>, EventError>>>;

/// Returns the declarations of the enums of this program, each made once.
fn program() -> MutexGuard<'static, HashMap<TypeId, Result<Arc<EnumDeclaration>, EventError>>> {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(Program::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl EnumDeclaration {
    pub(super) fn of<E: Event>() -> Result<Arc<Self>, EventError> {
        let rust = TypeId::of::<E>();
        if let Some(known) = program().get(&rust) {
            return known.clone();
        }
        // Code of users runs without the lock.
        let made = Self::new::<E>().map(Arc::new);
        program().entry(rust).or_insert(made).clone()
    }

    fn new<E: Event>() -> Result<Self, EventError> {
        let rust = TypeId::of::<E>();
        let upcasters = EventError::caught::<E, _>("upcasters", E::upcasters)?;
        let owns_all = EventError::caught::<E, _>("owners", E::owners)?.names(rust);
        let mut types = HashMap::new();
        for variant in codec::variants::<E>()? {
            let event_type = stored_type::<E>(variant)?;
            let is_certain = owns_all || !variant.contains('.');
            if is_certain || in_namespace::<E>(&event_type) {
                let schema_version = upcasters.current_version(&event_type);
                types.insert(event_type, OwnedType { variant, schema_version, is_certain });
            }
        }
        let tags = |variant: &str, data: &[u8]| {
            let event: E = codec::decode(variant, data).map_err(|error| error.to_string())?;
            caught(|| event.tags()).map_err(|panic| format!("its tags() panics: {panic}"))
        };
        Ok(Self { rust, name: std::any::type_name::<E>(), types, upcasters, owns_all, tags })
    }
}

/// Returns the name that a variant is stored under.
pub(super) fn stored_type<E: Event>(variant: &str) -> Result<EventType, EventError> {
    let full = if variant.contains('.') {
        variant.to_owned()
    } else {
        format!("{}.{variant}", E::NAMESPACE)
    };
    Ok(EventType::new(full)?)
}

fn in_namespace<E: Event>(event_type: &EventType) -> bool {
    event_type.strip_prefix(E::NAMESPACE).is_some_and(|rest| rest.starts_with('.'))
}
