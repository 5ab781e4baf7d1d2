//! The instance or the stream for which a trigger is parked.

/// Owner of parked triggers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// An instance of the process, by its key.
    Instance(String),
    /// A stream, by its name, with an event that cannot be read; empty for events in no stream.
    Stream(String),
}
