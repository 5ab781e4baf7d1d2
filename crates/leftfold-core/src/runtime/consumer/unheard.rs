//! Consumers that ask for types that nobody knows: they say so when they start, and in their status
//! until it has passed.
//!
//! It is no error: a new program starts on an empty store. But a name that is read otherwise than
//! it is written looks the same, and would be waited for in silence.

use std::sync::Arc;

use crate::fold::{Aggregate, Event, EventError, Purpose, UnheardTypes};
use crate::runtime::{Effect, Host, Starting};
use crate::store::{EventType, Store};

/// Finds the types that a consumer asks for, of which nobody declares that they are recorded.
pub(in crate::runtime) type Asks = fn(&Store) -> Result<UnheardTypes, EventError>;

/// Those of a consumer that reads an enum.
pub(in crate::runtime) fn of_enum<E: Event>(store: &Store) -> Result<UnheardTypes, EventError> {
    let schema = store.schema::<E>(Purpose::Reading)?;
    Ok(UnheardTypes::of(&schema))
}

/// Those of an effect.
pub(in crate::runtime) fn of_effect<E: Effect>(store: &Store) -> Result<UnheardTypes, EventError> {
    let schema = store.schema::<<E::Target as Aggregate>::Event>(Purpose::Writing)?;
    Ok(UnheardTypes::of(&schema).only(&EventType::new(E::INTENT)?))
}

/// Starts a consumer that says, before anything else, for which types that nobody knows it asks.
pub(in crate::runtime) fn announced(
    name: &'static str,
    asks: Asks,
    starting: Starting,
) -> Starting {
    Box::new(move |host, stop| {
        Box::pin(async move {
            host.announce(name, asks).await;
            starting(host, stop).await
        })
    })
}

/// The types, as the end of a sentence about something that is waited for.
pub(in crate::runtime) fn though(unheard: &[EventType]) -> String {
    match unheard {
        [] => String::new(),
        [one] => format!(", though nothing was ever recorded of {one}"),
        [first, more @ ..] => {
            format!(", though nothing was ever recorded of {first} and {} other types", more.len())
        }
    }
}

impl Host {
    async fn announce(&self, name: &'static str, asks: Asks) {
        // Whoever cannot read its types says why when it starts.
        let Ok(unheard) = asks(&self.store) else { return };
        let unheard = Arc::new(unheard);
        self.board.asks_for(name, unheard.clone());
        unheard.announce(&self.store, name).await;
    }

    /// Finds out, for a consumer that begins with reading, which of the types that nobody knew were
    /// recorded by others since.
    pub(in crate::runtime) async fn look_for_types(&self, name: &'static str) {
        if let Some(unheard) = self.board.unheard(name) {
            // A store that cannot be read now says nothing of them.
            let _ = unheard.look(&self.store).await;
        }
    }
}
