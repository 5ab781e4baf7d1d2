//! The outside world of a run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leftfold_core::runtime::EffectId;

/// Record of everything that really took place in the outside world.
#[derive(Clone, Debug, Default)]
pub(super) struct Outside(Arc<Mutex<OutsidePast>>);

#[derive(Debug, Default)]
struct OutsidePast {
    intents: BTreeMap<(&'static str, EffectId), IntentPast>,
    /// Last event outside, in words.
    said: Option<String>,
}

/// Past of one intent.
#[derive(Debug, Default)]
struct IntentPast {
    /// The attempts that took place.
    performed: Vec<u32>,
    looks: u8,
}

impl Outside {
    /// An attempt took place.
    pub(super) fn perform(&self, name: &'static str, effect: EffectId, attempt: u32) {
        self.past().intents.entry((name, effect)).or_default().performed.push(attempt);
    }

    pub(super) fn was_performed(&self, name: &'static str, effect: EffectId, attempt: u32) -> bool {
        self.past()
            .intents
            .get(&(name, effect))
            .is_some_and(|touched| touched.performed.contains(&attempt))
    }

    /// Somebody looks what happened to it. How often that was done before.
    pub(super) fn look(&self, name: &'static str, effect: EffectId) -> u8 {
        let mut past = self.past();
        let looks = &mut past.intents.entry((name, effect)).or_default().looks;
        *looks = looks.saturating_add(1);
        *looks - 1
    }

    pub(super) fn say(&self, what: String) {
        self.past().said = Some(what);
    }

    pub(super) fn said(&self) -> Option<String> {
        self.past().said.take()
    }

    pub(super) fn times(&self, name: &'static str, effect: EffectId) -> usize {
        self.past().intents.get(&(name, effect)).map_or(0, |touched| touched.performed.len())
    }

    fn past(&self) -> MutexGuard<'_, OutsidePast> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
