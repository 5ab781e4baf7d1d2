//! The way of a command: load, decide, append under a condition, and again if others were faster.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::field;

use super::aggregate::Aggregate;
use super::aggregates::Aggregates;
use super::answered::{decode_all, encode_refusal, events_of, foreign_answer};
use super::cache::{FoldSlot, KeptFold};
use super::command::{
    ATTEMPTS_MAX, Alongside, AlongsideError, Answer, ExecuteError, Executed, Origin, RefusalCodec,
    RequestAnswer, RequestTarget, STALE_EVENTS_MAX,
};
use super::error::EventError;
use super::metadata::request_methods;
use crate::panic::caught;
use crate::span;
use crate::store::limits::ID_BYTES_MAX;
use crate::store::{
    Answered, Append, Appended, Authority, Condition, Expected, Invalid, Outcome, Position, Read,
    ReadError, RecordedEvent, StreamName, Version,
};

impl<A: Aggregate> Aggregates<A> {
    /// Carries out one command. Commands on one aggregate queue within the process; if another
    /// writer is faster, the command is decided again on the fresh state.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::fold::ExecuteError;
    /// use leftfold_core::store::{Store, Version};
    /// use wallet::{Overdrawn, Wallet, WalletCommand};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wallets = Store::memory().aggregate::<Wallet>();
    /// let done = wallets.execute("ada", WalletCommand::Deposit { cents: 500 }).await?;
    /// assert_eq!(done.version, Version(1));
    ///
    /// let refused = wallets.execute("ada", WalletCommand::Withdraw { cents: 501 }).await;
    /// assert_eq!(refused, Err(ExecuteError::Refused(Overdrawn { cents: 500 })));
    /// # Ok(()) }
    /// ```
    pub async fn execute(
        &self,
        id: &str,
        command: A::Command,
    ) -> Result<Executed<A::Event>, ExecuteError<A::Refusal>> {
        self.command(id, command).execute().await
    }

    /// A command with an id, a cause, an expected version; to be executed.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::store::{Store, Version};
    /// use wallet::{Wallet, WalletCommand};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wallets = Store::memory().aggregate::<Wallet>();
    /// let done = wallets
    ///     .command("ada", WalletCommand::Deposit { cents: 500 })
    ///     .id("POST /deposits by ada", "f3a9")
    ///     .request(br#"{"cents":500}"#)
    ///     .expecting(Version::ABSENT)
    ///     .header("user-agent", "till 12")
    ///     .execute()
    ///     .await?;
    /// assert_eq!(done.events.len(), 1);
    /// # Ok(()) }
    /// ```
    pub fn command(&self, id: &str, command: A::Command) -> Command<A> {
        self.commands(id, vec![command])
    }

    /// Several commands as one atomic append: each is decided on the state that those before it
    /// lead to. One refusal refuses them all.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::store::{Store, Version};
    /// use wallet::{Wallet, WalletCommand};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wallets = Store::memory().aggregate::<Wallet>();
    /// let deposit = |cents| WalletCommand::Deposit { cents };
    /// let withdraw = |cents| WalletCommand::Withdraw { cents };
    ///
    /// // The withdrawal is decided on a balance of 500.
    /// wallets.commands("ada", vec![deposit(500), withdraw(200)]).execute().await?;
    /// assert_eq!(wallets.load("ada").await?.state.cents, 300);
    ///
    /// // The second is refused, so the first is not recorded either.
    /// assert!(wallets.commands("ada", vec![deposit(1), withdraw(900)]).execute().await.is_err());
    /// assert_eq!(wallets.load("ada").await?.version, Version(2));
    /// # Ok(()) }
    /// ```
    pub fn commands(&self, id: &str, commands: Vec<A::Command>) -> Command<A> {
        Command {
            aggregates: self.clone(),
            id: id.to_owned(),
            commands,
            expecting: None,
            origin: Origin::default(),
            remember: None,
        }
    }
}

/// One or several commands on one aggregate, to be executed.
#[must_use = "a command does nothing until it is executed"]
pub struct Command<A: Aggregate> {
    aggregates: Aggregates<A>,
    id: String,
    commands: Vec<A::Command>,
    expecting: Option<Version>,
    origin: Origin,
    remember: Option<RefusalCodec<A::Refusal>>,
}

impl<A: Aggregate> Command<A> {
    request_methods!();

    /// The same, with the origin that another builder collected.
    pub(crate) fn of_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// States the version that the caller saw: if there were events since, nothing is done and they
    /// come with the error. With [`Version::ABSENT`] the aggregate must be new.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::fold::ExecuteError;
    /// use leftfold_core::store::{Mismatch, Store, Version};
    /// use wallet::{Wallet, WalletCommand};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wallets = Store::memory().aggregate::<Wallet>();
    /// wallets.execute("ada", WalletCommand::Deposit { cents: 500 }).await?;
    ///
    /// // A page that was loaded before the deposit.
    /// let stale = wallets.command("ada", WalletCommand::Withdraw { cents: 1 });
    /// let error = stale.expecting(Version::ABSENT).execute().await.unwrap_err();
    /// assert_eq!(error.mismatch(), Some(Mismatch::AlreadyThere));
    /// let ExecuteError::Stale { since, .. } = error else { unreachable!("it is a conflict") };
    /// assert_eq!(&*since[0].event_type, "wallet.Deposited");
    /// # Ok(()) }
    /// ```
    pub fn expecting(mut self, version: Version) -> Self {
        self.expecting = Some(version);
        self
    }

    /// Keeps a refusal too, and gives it again to a repetition. Without this a refused request may
    /// be tried again.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::fold::ExecuteError;
    /// use leftfold_core::store::Store;
    /// use wallet::{Overdrawn, Wallet, WalletCommand};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wallets = Store::memory().aggregate::<Wallet>();
    /// let send = || {
    ///     let command = wallets.command("ada", WalletCommand::Withdraw { cents: 500 });
    ///     command.id("withdrawals", "7").request(b"500").remembering_refusal().execute()
    /// };
    /// assert_eq!(send().await, Err(ExecuteError::Refused(Overdrawn { cents: 0 })));
    ///
    /// // The answer stays what it was, though the wallet has enough by now.
    /// wallets.execute("ada", WalletCommand::Deposit { cents: 900 }).await?;
    /// assert_eq!(send().await, Err(ExecuteError::Refused(Overdrawn { cents: 0 })));
    /// # Ok(()) }
    /// ```
    pub fn remembering_refusal(mut self) -> Self
    where
        A::Refusal: Serialize + DeserializeOwned,
    {
        self.remember = Some(RefusalCodec::as_json());
        self
    }

    /// Adds parts that go into the same append.
    pub(crate) fn alongside(self, alongside: Alongside) -> CommandAlongside<A> {
        CommandAlongside { command: self, alongside }
    }
}

/// A command, and what goes into the same append.
#[must_use = "a command does nothing until it is executed"]
pub(crate) struct CommandAlongside<A: Aggregate> {
    command: Command<A>,
    alongside: Alongside,
}

impl<A: Aggregate> CommandAlongside<A> {
    /// Carries both out, as [`Command::execute`] does.
    pub(crate) async fn execute(
        mut self,
    ) -> Result<Executed<A::Event>, AlongsideError<A::Refusal>> {
        self.command.carry_out(&self.alongside).await
    }
}

type ExecuteResult<A> =
    Result<Executed<<A as Aggregate>::Event>, ExecuteError<<A as Aggregate>::Refusal>>;

impl<A: Aggregate> Command<A> {
    /// Carries the command out.
    ///
    /// The id is looked at first, then the expected version, then the domain decides. A conflict
    /// loads only what is new and decides again, at most [`ATTEMPTS_MAX`] times. Safe to cancel:
    /// the command then took effect wholly or not at all, and one with an id can be repeated to
    /// learn which.
    pub async fn execute(mut self) -> ExecuteResult<A> {
        self.carry_out(&Alongside::default()).await.map_err(|error| match error {
            AlongsideError::Command(error) => error,
            // Nothing went alongside, so nothing of it was overtaken; if it were, others were
            // faster.
            AlongsideError::Overtaken => ExecuteError::Contended { attempts: 1 },
        })
    }

    /// Carries it out, within a span.
    async fn carry_out(
        &mut self,
        alongside: &Alongside,
    ) -> Result<Executed<A::Event>, AlongsideError<A::Refusal>> {
        let span = tracing::info_span!(
            "leftfold.command",
            category = A::CATEGORY,
            commands = self.commands.len(),
            events = field::Empty,
            version = field::Empty,
            position = field::Empty,
            outcome = field::Empty,
            trace_id = field::Empty,
            parent_id = field::Empty,
        );
        self.origin.goes_on_in(&span);
        span::within(span, self.go_through(alongside), |span, done| match done {
            Ok(executed) => executed.say(span),
            Err(AlongsideError::Overtaken) => _ = span.record("outcome", "overtaken"),
            Err(AlongsideError::Command(error)) => error.say(span),
        })
        .await
    }

    async fn go_through(
        &self,
        alongside: &Alongside,
    ) -> Result<Executed<A::Event>, AlongsideError<A::Refusal>> {
        self.origin.check()?;
        Invalid::if_over("an aggregate's id", self.id.len(), ID_BYTES_MAX)?;
        let slot = self.aggregates.slot(&self.id)?;
        // Commands to one aggregate queue here; an earlier sending may have gone in meanwhile.
        let mut place = slot.fold.lock().await;
        if let Some(answered) = self.origin.answered(&self.aggregates.shared.store).await? {
            return Ok(self.answer_again(&slot, answered).await?);
        }
        self.aggregates.shared.folds.count(place.is_some());
        // Where nothing is kept the fold is as fresh as can be.
        let mut confirmed = place.is_none();
        if place.is_none() {
            self.aggregates.fresh(&self.id, &slot.stream, &mut place).await?;
        }
        for _ in 0..ATTEMPTS_MAX {
            let attempted = match &mut *place {
                Some(kept) => self.attempt(&slot, kept, alongside).await?,
                None => ExecuteAttempt::Conflict,
            };
            match attempted {
                ExecuteAttempt::Done(done) => return Ok(done),
                ExecuteAttempt::Repeated(answered) => {
                    return Ok(self.answer_again(&slot, answered).await?);
                }
                ExecuteAttempt::Overtaken => return Err(AlongsideError::Overtaken),
                // A "no" (or "nothing to do") from a fold that was kept may be out of date where
                // others write; not so one that the store took.
                ExecuteAttempt::Concluded(conclusion) if confirmed || conclusion.is_durable() => {
                    // The events that it is refused for may be its own: its first sending came in
                    // between.
                    if !conclusion.is_durable()
                        && let Some(answered) =
                            self.origin.answered(&self.aggregates.shared.store).await?
                    {
                        return Ok(self.answer_again(&slot, answered).await?);
                    }
                    return Ok(self.conclude(&slot, conclusion).await?);
                }
                // Decided again, on what the store has now.
                ExecuteAttempt::Concluded(_) | ExecuteAttempt::Conflict => {
                    self.aggregates.fresh(&self.id, &slot.stream, &mut place).await?;
                    confirmed = true;
                }
            }
        }
        Err(ExecuteError::Contended { attempts: ATTEMPTS_MAX }.into())
    }

    /// Decides once, and appends what follows.
    async fn attempt(
        &self,
        slot: &FoldSlot<A>,
        kept: &mut KeptFold<A>,
        alongside: &Alongside,
    ) -> Result<ExecuteAttempt<A>, ExecuteError<A::Refusal>> {
        let version = kept.folded.version;
        if let Some(expected) = self.expecting
            && expected != version
        {
            return Ok(ExecuteAttempt::Concluded(EndWithoutEvents::Stale {
                expected,
                actual: version,
            }));
        }
        // A refusal that is to be remembered is recorded as the answer, with no event.
        let (DecidedEvents { events, state }, said, refused) =
            match self.decide(&kept.folded.state)? {
                Decisions::Events(ahead) => {
                    let after = Version(version.0 + ahead.events.len() as u64);
                    (ahead, RequestAnswer::Accepted(after), None)
                }
                Decisions::Refused(refusal) => match (&self.remember, self.origin.id()) {
                    (Some(remember), Some(_)) => (
                        DecidedEvents::nothing(),
                        RequestAnswer::Refused(encode_refusal(remember, &refusal)?),
                        Some(refusal),
                    ),
                    _ => return Ok(ExecuteAttempt::Concluded(EndWithoutEvents::Refused(refusal))),
                },
            };
        // Nothing is to be recorded.
        if events.is_empty() && self.origin.id().is_none() && alongside.is_empty() {
            let (version, position) = (version, kept.folded.position);
            return Ok(ExecuteAttempt::Concluded(EndWithoutEvents::Nothing { version, position }));
        }
        let append = self.append(slot, version, &events, said, alongside)?;
        let outcome = self.aggregates.shared.store.append(append).await?;
        Ok(match (outcome, refused) {
            // What the command itself expects is looked at first; then it is as it was.
            (Outcome::Conflict(conflict), _) if alongside.is_about(&conflict, &slot.stream) => {
                ExecuteAttempt::Overtaken
            }
            (Outcome::Conflict(_), _) => ExecuteAttempt::Conflict,
            (Outcome::Repeated(answered), _) => ExecuteAttempt::Repeated(answered),
            (Outcome::Appended(_), Some(refusal)) => {
                ExecuteAttempt::Concluded(EndWithoutEvents::RefusedDurably(refusal))
            }
            (Outcome::Appended(appended), None) => ExecuteAttempt::Done(self.take(
                slot,
                kept,
                DecidedEvents { events, state },
                &appended,
            )),
        })
    }

    fn append(
        &self,
        slot: &FoldSlot<A>,
        version: Version,
        events: &[A::Event],
        said: RequestAnswer,
        alongside: &Alongside,
    ) -> Result<Append, ExecuteError<A::Refusal>> {
        let mut condition = Condition::stream(slot.stream.clone(), Expected::Exact(version));
        condition.streams.extend(alongside.expected.iter().cloned());
        condition.none_matching.extend(alongside.none_matching.clone());
        let mut new = self.aggregates.encode(&slot.stream, events, &self.origin)?;
        A::authority().check(&new, None)?;
        // What goes alongside is the runtime's.
        let authority = if alongside.is_empty() { A::authority() } else { Authority::RUNTIME };
        new.extend(alongside.events.iter().cloned());
        let command = self.origin.record(&RequestTarget::stream(&slot.stream), said);
        let (checkpoint, fence) = (alongside.checkpoint.clone(), alongside.fence.clone());
        Ok(Append { events: new, condition, command, checkpoint, fence, authority })
    }

    /// Decides each command on the state that those before it lead to, and takes the events into a
    /// state of their own: one at which `apply` panics must not become durable.
    fn decide(&self, state: &A) -> Result<Decisions<A>, EventError> {
        let mut ahead = DecidedEvents::nothing();
        for command in &self.commands {
            let state_now = ahead.state.as_ref().unwrap_or(state);
            let events = match EventError::caught::<A, _>("decide", || state_now.decide(command))? {
                Ok(events) => events,
                Err(refusal) => return Ok(Decisions::Refused(refusal)),
            };
            if let Some(last) = events.len().checked_sub(1) {
                let mut at = 0;
                let applied = caught(|| {
                    let mut state = ahead.state.take().unwrap_or_else(|| state.clone());
                    for (index, event) in events.iter().enumerate() {
                        at = index;
                        state.apply(event);
                    }
                    state
                });
                ahead.state =
                    Some(applied.map_err(|panic| self.cannot_take(&events[at.min(last)], panic))?);
            }
            ahead.events.extend(events);
        }
        Ok(Decisions::Events(ahead))
    }

    fn cannot_take(&self, event: &A::Event, detail: String) -> EventError {
        let event_type = self
            .aggregates
            .schema()
            .and_then(|schema| schema.encode(event))
            .map(|new| new.event_type);
        let name = std::any::type_name::<A>();
        event_type
            .map_or_else(|error| error, |event_type| EventError::Apply { name, event_type, detail })
    }

    /// Takes durable events into the fold that is kept.
    fn take(
        &self,
        slot: &FoldSlot<A>,
        kept: &mut KeptFold<A>,
        ahead: DecidedEvents<A>,
        appended: &Appended,
    ) -> Executed<A::Event> {
        let (before, events) = (kept.folded.version, ahead.events);
        if let Some(state) = ahead.state {
            kept.folded.state = state;
            kept.folded.version = Version(before.0 + events.len() as u64);
            kept.folded.position = Position(appended.first.0 + events.len() as u64 - 1);
            kept.unsaved_since = kept.unsaved_since.or(Some(appended.recorded_at));
        }
        self.aggregates.weigh(&self.id, before, &kept.folded);
        self.aggregates.keep_snapshot(&slot.stream, kept);
        Executed {
            events,
            version: kept.folded.version,
            position: kept.folded.position,
            answer: Answer::First,
        }
    }

    /// Ends without events, on a state that is known to be fresh.
    async fn conclude(
        &self,
        slot: &FoldSlot<A>,
        conclusion: EndWithoutEvents<A>,
    ) -> ExecuteResult<A> {
        match conclusion {
            EndWithoutEvents::Refused(refusal) | EndWithoutEvents::RefusedDurably(refusal) => {
                Err(ExecuteError::Refused(refusal))
            }
            EndWithoutEvents::Nothing { version, position } => {
                Ok(Executed { events: Vec::new(), version, position, answer: Answer::First })
            }
            EndWithoutEvents::Stale { expected, actual } => {
                let read =
                    Read::stream(slot.stream.clone(), expected.next()).page_of(STALE_EVENTS_MAX);
                let since = self.aggregates.shared.store.page(read).await?.events;
                Err(ExecuteError::Stale { expected, actual, since })
            }
        }
    }

    /// Answers as the first time.
    async fn answer_again(&self, slot: &FoldSlot<A>, answered: Answered) -> ExecuteResult<A> {
        match self.origin.said(&answered, &RequestTarget::stream(&slot.stream))? {
            Some(RequestAnswer::Refused(refusal)) => {
                Err(RefusalCodec::again(self.remember.as_ref(), answered.record.id, &refusal))
            }
            Some(RequestAnswer::Accepted(version)) => {
                let schema = self.aggregates.schema()?;
                let recorded = events_of(&self.aggregates.shared.store, &answered).await?;
                let own = || recorded.iter().filter(|event| in_stream(event, &slot.stream));
                let events = decode_all(&schema, own(), A::UNKNOWN)?;
                let position = match own().last() {
                    Some(last) => last.position,
                    None => self.position_of(slot, version).await?,
                };
                Ok(Executed { events, version, position, answer: Answer::Again })
            }
            None => Err(foreign_answer(&answered)),
        }
    }

    /// Returns the position of the event that gave the aggregate a version: a command without
    /// events rested on it.
    async fn position_of(
        &self,
        slot: &FoldSlot<A>,
        version: Version,
    ) -> Result<Position, ReadError> {
        if version == Version::ABSENT {
            return Ok(Position::START);
        }
        let page = self
            .aggregates
            .shared
            .store
            .page(Read::stream(slot.stream.clone(), version).page_of(1))
            .await?;
        Ok(page.events.first().map_or(Position::START, |event| event.position))
    }
}

/// Decided events, and the state that they lead to.
struct DecidedEvents<A: Aggregate> {
    events: Vec<A::Event>,
    /// State with the events; `None` if there are no events.
    state: Option<A>,
}

impl<A: Aggregate> DecidedEvents<A> {
    const fn nothing() -> Self {
        Self { events: Vec::new(), state: None }
    }
}

/// Decisions of the aggregate on all commands of a request.
enum Decisions<A: Aggregate> {
    Events(DecidedEvents<A>),
    /// One command was refused, and none takes effect.
    Refused(A::Refusal),
}

/// Result of one attempt.
enum ExecuteAttempt<A: Aggregate> {
    Done(Executed<A::Event>),
    Concluded(EndWithoutEvents<A>),
    Repeated(Answered),
    Conflict,
    Overtaken,
}

/// An end without events: to be trusted only from a fresh state.
enum EndWithoutEvents<A: Aggregate> {
    Refused(A::Refusal),
    /// Refused, and the store took the refusal under the condition that the state was fresh.
    RefusedDurably(A::Refusal),
    Nothing {
        version: Version,
        position: Position,
    },
    Stale {
        expected: Version,
        actual: Version,
    },
}

impl<A: Aggregate> EndWithoutEvents<A> {
    fn is_durable(&self) -> bool {
        matches!(self, Self::RefusedDurably(_))
    }
}

fn in_stream(event: &RecordedEvent, stream: &StreamName) -> bool {
    event.stream.as_ref().is_some_and(|at| at.name == *stream)
}

#[cfg(test)]
mod tests;
