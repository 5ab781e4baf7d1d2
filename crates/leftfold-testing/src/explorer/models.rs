//! Results of the projections and outboxes of a run.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leftfold_core::runtime::projection::Message;
use leftfold_core::store::RecordedEvent;

/// Projections and outboxes of each application, as the end of a run is judged by them. Clones
/// share them.
#[derive(Clone, Default)]
pub(super) struct Models(Arc<Mutex<AllModels>>);

/// Projections and outboxes by their name and application.
pub(super) type AllModels = BTreeMap<(&'static str, usize), Box<dyn ModelProjection>>;

/// Messages sent by all applications together: of each outbox, in the order of arrival.
#[derive(Clone, Default)]
pub(super) struct SentMessages(Arc<Mutex<BTreeMap<&'static str, Vec<Message>>>>);

/// A projection of one application.
pub(super) trait ModelProjection: Send {
    /// Checks that its result is the one that the events ask for.
    fn judge(&self, events: &[RecordedEvent], sent: &SentMessages) -> Result<(), String>;

    /// Its rows; `None` if it has none.
    fn rows(&self) -> Option<Box<dyn Any>>;
}

impl Models {
    pub(super) fn all(&self) -> MutexGuard<'_, AllModels> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn judge(
        &self,
        events: &[RecordedEvent],
        sent: &SentMessages,
    ) -> Result<(), (String, String)> {
        for ((name, application), follows) in &*self.all() {
            follows.judge(events, sent).map_err(|why| {
                (
                    format!("{name} is what the events say"),
                    format!("application {}: {why}", application + 1),
                )
            })?;
        }
        Ok(())
    }

    /// The rows of a projection in each application.
    pub(super) fn rows<S: 'static>(&self, name: &str) -> Vec<S> {
        let all = self.all();
        let of_name = all.iter().filter(|((of, _), _)| *of == name);
        of_name.filter_map(|(_, follows)| Some(*follows.rows()?.downcast::<S>().ok()?)).collect()
    }
}

impl SentMessages {
    pub(super) fn all(&self) -> MutexGuard<'_, BTreeMap<&'static str, Vec<Message>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the messages sent by an outbox, without those that receivers leave out because they
    /// know the id.
    pub(super) fn of(&self, name: &str) -> Vec<Message> {
        let mut known = HashSet::new();
        let all = self.all();
        all.get(name)
            .into_iter()
            .flatten()
            .filter(|message| known.insert(message.id))
            .cloned()
            .collect()
    }
}
