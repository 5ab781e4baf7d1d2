//! Commands on one aggregate, with all that a caller says beside them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::aggregate::{Aggregate, Aggregates};
use super::command::{Alongside, Identified, Origin, Remember};
use super::execute::CommandAlongside;
use super::metadata::origin_methods;
use crate::store::{CommandId, Version};

/// One or several commands on one aggregate, to be executed.
#[must_use = "a command does nothing until it is executed"]
pub struct Command<A: Aggregate> {
    pub(super) aggregates: Aggregates<A>,
    pub(super) id: String,
    pub(super) commands: Vec<A::Command>,
    pub(super) expecting: Option<Version>,
    pub(super) origin: Origin,
    pub(super) remember: Option<Remember<A::Refusal>>,
}

impl<A: Aggregate> Command<A> {
    /// Names the request, so that it takes effect at most once: a repetition is answered as the
    /// first time. The call that follows says how another request under the same id is found out.
    pub fn id(self, scope: &str, key: &str) -> Identified<Self> {
        self.with_id(CommandId::new(scope, key))
    }

    /// The same with an id that is there already.
    pub fn with_id(self, id: CommandId) -> Identified<Self> {
        Identified::new(self, id, |command| &mut command.origin)
    }

    origin_methods!();

    /// The same, with the origin that another builder collected.
    pub(crate) fn of_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// States the version that the caller saw: if there were events since, nothing is done and they
    /// come with the error. With [`Version::ABSENT`] the aggregate must be new.
    pub fn expecting(mut self, version: Version) -> Self {
        self.expecting = Some(version);
        self
    }

    /// Keeps a refusal too, and gives it again to a repetition. Without this a refused request may
    /// be tried again.
    pub fn remembering_refusal(mut self) -> Self
    where
        A::Refusal: Serialize + DeserializeOwned,
    {
        self.remember = Some(Remember::as_json());
        self
    }

    /// Adds parts that go into the same append.
    pub(crate) fn alongside(self, alongside: Alongside) -> CommandAlongside<A> {
        CommandAlongside { command: self, alongside }
    }
}
