//! Whom a process commands, and how a command that was recorded is carried out.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fold::{Aggregate, Alongside, AlongsideError, Cause, ExecuteError};
use crate::runtime::contained;
use crate::runtime::json::Json;
use crate::store::{AppendError, CommandId, Fence, Label, Store};

/// The kinds of aggregates that a process commands.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    carriers: BTreeMap<&'static str, Carry>,
}

/// A command that was recorded, on its way to its aggregate.
pub(super) struct Order {
    pub(super) store: Store,
    pub(super) id: String,
    /// As it is recorded.
    pub(super) command: Json,
    pub(super) command_id: CommandId,
    pub(super) cause: Cause,
    /// The lease of the process.
    pub(super) fence: Option<(Label, Fence)>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Carried {
    /// It took effect, now or earlier.
    Done,
    /// It did not, and never will.
    Refused { refusal: Option<Json>, reason: String },
    /// The process went to another runner: nothing was done, and nothing more is to be.
    Fenced,
    /// The store could not be used: it is to be tried again.
    Failed(String),
    /// The command, or the aggregate that it is for, is of no use: it is tried a few times, in case that is mended.
    Unable(String),
}

type Carry = fn(Order) -> Pin<Box<dyn Future<Output = Carried> + Send>>;

impl Targets {
    /// None: the process only sets timers and asks for effects.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One kind of aggregate. Its commands are recorded, and its refusals remembered, as JSON.
    #[must_use]
    pub fn of<A: Aggregate>() -> Self
    where
        A::Command: Serialize + DeserializeOwned,
        A::Refusal: Serialize + DeserializeOwned,
    {
        Self::none().and::<A>()
    }

    /// And another kind.
    #[must_use]
    pub fn and<A: Aggregate>(mut self) -> Self
    where
        A::Command: Serialize + DeserializeOwned,
        A::Refusal: Serialize + DeserializeOwned,
    {
        self.carriers.insert(A::CATEGORY, |order| Box::pin(carry::<A>(order)));
        self
    }

    pub(super) fn know(&self, category: &str) -> bool {
        self.carriers.contains_key(category)
    }

    /// Carries a command out, once for its id however often it is called.
    pub(super) async fn carry(&self, category: &str, order: Order) -> Carried {
        match self.carriers.get(category) {
            // What the aggregate's code panics with is a failure of this command: it may be mended.
            Some(carry) => match contained(carry(order)).await {
                Ok(carried) => carried,
                Err(panic) => Carried::Unable(format!("it panicked: {panic}")),
            },
            None => Carried::Unable(format!("{category} is no target of the process any more, name it in targets()")),
        }
    }
}

async fn carry<A: Aggregate>(order: Order) -> Carried
where
    A::Command: Serialize + DeserializeOwned,
    A::Refusal: Serialize + DeserializeOwned,
{
    let command: A::Command = match order.command.read() {
        Ok(command) => command,
        Err(error) => return Carried::Unable(format!("a recorded command for {} does not parse: {error}", A::CATEGORY)),
    };
    let command = order.store.aggregate::<A>().command(&order.id, command);
    let command = command.with_id(order.command_id).request(order.command.text().as_bytes()).caused_by(order.cause);
    let alongside = Alongside { fence: order.fence, ..Alongside::default() };
    match command.remembering_refusal().alongside(alongside).execute().await {
        Ok(_) => Carried::Done,
        // A fence stands alongside, and no condition.
        Err(AlongsideError::Overtaken) => Carried::Failed("others were faster".to_owned()),
        Err(AlongsideError::Command(error)) => judge::<A>(error),
    }
}

fn judge<A: Aggregate>(error: ExecuteError<A::Refusal>) -> Carried
where
    A::Refusal: Serialize,
{
    let reason = error.to_string();
    match error {
        ExecuteError::Refused(refusal) => Carried::Refused { refusal: Json::of(&refusal).ok(), reason: refusal.to_string() },
        ExecuteError::Append(AppendError::Fenced { .. }) => Carried::Fenced,
        // Under another name or size it might be possible, but this command is what it is.
        ExecuteError::Invalid(_) | ExecuteError::Append(AppendError::Invalid(_)) => Carried::Refused { refusal: None, reason },
        ExecuteError::Event(_) => Carried::Unable(reason),
        _ => Carried::Failed(reason),
    }
}
