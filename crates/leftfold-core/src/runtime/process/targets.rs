//! Whom a process commands, and how a command that was recorded is carried out.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::reaction::IssuedCommand;
use super::record::StoredCommand;
use crate::fold::{Aggregate, Alongside, AlongsideError, Cause, EventError, ExecuteError, Purpose};
use crate::json;
use crate::runtime::consumer::{contained, shortened};
use crate::runtime::json::Json;
use crate::store::{AppendError, CommandId, Fence, Invalid, Label, Metadata, Position, Store};

/// The kinds of aggregates that a process commands.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    kinds: BTreeMap<&'static str, TargetKind>,
}

/// Functions for the commands for one kind of aggregate.
#[derive(Clone, Copy, Debug)]
struct TargetKind {
    carry: CommandFn,
    check: fn(&IssuedCommand) -> Result<(), String>,
    take_into_use: fn(&Store) -> Result<(), EventError>,
}

/// A command that was recorded, on its way to its aggregate.
pub(super) struct CommandOrder {
    pub(super) store: Store,
    pub(super) id: String,
    /// As it is recorded.
    pub(super) command: Json,
    pub(super) command_id: CommandId,
    pub(super) cause: Cause,
    /// User metadata of its events.
    user: Bytes,
    /// The lease of the process.
    pub(super) fence: Option<(Label, Fence)>,
}

impl CommandOrder {
    /// A command of the reaction at a position.
    pub(super) fn new(
        process: &str,
        reaction: Position,
        (command, command_id): (&StoredCommand, CommandId),
        metadata: &Metadata,
        (store, fence): (&Store, Option<&(Label, Fence)>),
    ) -> Result<Self, Invalid> {
        let causation = Label::new(format!("$process:{process}@{reaction}"))?;
        let correlation = metadata.correlation.as_ref().unwrap_or(&causation).clone();
        Ok(Self {
            store: store.clone(),
            id: command.id.clone(),
            command: command.command.clone(),
            command_id,
            cause: Cause { causation, correlation, trace: metadata.trace.clone() },
            user: metadata.user.clone(),
            fence: fence.cloned(),
        })
    }
}

/// Result of carrying out a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CommandResult {
    /// It took effect, now or earlier.
    Done,
    /// Its aggregate refused it, and it never will take effect.
    Refused { refusal: Json, reason: String },
    /// The process went to another runner: nothing was done, and nothing more is to be.
    Fenced,
    /// The store could not be used: it is to be tried again.
    Failed(String),
    /// It cannot be, for a reason that does not pass by itself: a person is to look at it.
    Stuck(String),
}

type CommandFn = fn(CommandOrder) -> Pin<Box<dyn Future<Output = CommandResult> + Send>>;

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
        let kind = TargetKind {
            carry: |order| Box::pin(carry::<A>(order)),
            check: check::<A>,
            take_into_use: take_into_use::<A>,
        };
        self.kinds.insert(A::CATEGORY, kind);
        self
    }

    /// Takes the events of all of them into use with a store.
    pub(in crate::runtime) fn take_into_use(&self, store: &Store) -> Result<(), EventError> {
        self.kinds.values().try_for_each(|kind| (kind.take_into_use)(store))
    }

    /// Checks that a command is one that its aggregate takes, before it is recorded.
    pub(super) fn check(&self, asked: &IssuedCommand) -> Result<(), String> {
        let StoredCommand { to, id, .. } = &asked.stored;
        let kind = self.kinds.get(to.as_str());
        let kind = kind
            .ok_or_else(|| format!("{to} is not a target of the process, name it in targets()"))?;
        (kind.check)(asked)
            .map_err(|why| format!("the command for {to}-{id} cannot be written: {why}"))
    }

    /// Carries a command out, once for its id however often it is called.
    pub(super) async fn carry(&self, category: &str, order: CommandOrder) -> CommandResult {
        match self.kinds.get(category) {
            // What the aggregate's code panics with is a failure of this command, and of no other.
            Some(kind) => match contained((kind.carry)(order)).await {
                Ok(carried) => carried,
                Err(panic) => CommandResult::Stuck(format!("it panicked: {panic}")),
            },
            None => CommandResult::Stuck(format!(
                "{category} is no longer a target of the process, name it in targets()"
            )),
        }
    }
}

/// Views of its events read them as it does from then on.
pub(in crate::runtime) fn take_into_use<A: Aggregate>(store: &Store) -> Result<(), EventError> {
    store.schema::<A::Event>(Purpose::Writing).map(drop)
}

fn check<A: Aggregate>(asked: &IssuedCommand) -> Result<(), String>
where
    A::Command: Serialize + DeserializeOwned,
{
    if let Some(command) = asked.issued.downcast_ref::<A::Command>() {
        return json::encode(command).map(drop).map_err(|lost| lost.with_name());
    }
    // It was issued as the command of another type of the same category: what can be compared is
    // what it was written as.
    let command = &asked.stored.command;
    let read: A::Command = command.read().map_err(|error| error.to_string())?;
    let again = Json::of_unread(&read).map_err(|error| error.to_string())?;
    command
        .is_of(&read)
        .then_some(())
        .ok_or_else(|| format!("it would be {}", shortened(again.text().to_owned())))
}

async fn carry<A: Aggregate>(order: CommandOrder) -> CommandResult
where
    A::Command: Serialize + DeserializeOwned,
    A::Refusal: Serialize + DeserializeOwned,
{
    let command: A::Command = match order.command.read() {
        Ok(command) => command,
        Err(error) => {
            return CommandResult::Stuck(format!(
                "a recorded command for {} does not parse: {error}",
                A::CATEGORY
            ));
        }
    };
    let command = order.store.aggregate::<A>().command(&order.id, command);
    let command = command
        .with_id(order.command_id)
        .request(order.command.text().as_bytes())
        .caused_by(order.cause)
        .metadata(order.user);
    let alongside = Alongside { fence: order.fence, ..Alongside::default() };
    match command.remembering_refusal().alongside(alongside).execute().await {
        Ok(_) => CommandResult::Done,
        // A fence stands alongside, and no condition.
        Err(AlongsideError::Overtaken) => CommandResult::Failed("others were faster".to_owned()),
        Err(AlongsideError::Command(error)) => judge::<A>(error),
    }
}

fn judge<A: Aggregate>(error: ExecuteError<A::Refusal>) -> CommandResult
where
    A::Refusal: Serialize + DeserializeOwned,
{
    let reason = error.to_string();
    match error {
        ExecuteError::Refused(refusal) => match Json::of(&refusal) {
            Ok(json) => CommandResult::Refused { refusal: json, reason: refusal.to_string() },
            Err(error) => {
                CommandResult::Stuck(format!("it was refused, and that cannot be written: {error}"))
            }
        },
        ExecuteError::Append(AppendError::Fenced { .. }) => CommandResult::Fenced,
        // Others write, or the store fails: that passes.
        ExecuteError::Contended { .. } => CommandResult::Failed(reason),
        error if error.is_of_the_store() => CommandResult::Failed(reason),
        // The command is what it is, and so is what its aggregate is folded from.
        _ => CommandResult::Stuck(reason),
    }
}
