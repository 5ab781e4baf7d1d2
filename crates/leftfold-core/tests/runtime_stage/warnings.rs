//! Warnings that are said while a test runs.

use std::fmt;
use std::sync::{Arc, Mutex};

/// Each test that listens runs alone: if a place of the code is met for the first time while
/// another test begins to listen, what it says may be taken for heard by nobody, for good
/// (`tracing` keeps that for each place).
pub static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The warnings of this thread.
#[derive(Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    pub fn heard(&self) -> (Self, tracing::subscriber::DefaultGuard) {
        (self.clone(), tracing::subscriber::set_default(self.clone()))
    }

    /// Those that have all of these texts.
    pub fn saying(&self, texts: &[&str]) -> Vec<String> {
        let all = self.0.lock().unwrap();
        let says = |said: &&String| texts.iter().all(|text| said.contains(text));
        all.iter().filter(says).cloned().collect()
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Said(String);
        impl tracing::field::Visit for Said {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0 += &format!("{field}={value:?} ");
            }
        }
        let mut said = Said(String::new());
        event.record(&mut said);
        self.0.lock().unwrap().push(said.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
