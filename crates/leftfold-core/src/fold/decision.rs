//! Decisions: a fold over the events that a query finds, across streams, that decides once and
//! keeps nothing.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::field;

use super::Event;
use super::answered::{decode_all, encode_refusal, events_of, foreign_answer};
use super::boundary::{Boundaries, DecisionTurn};
use super::command::{
    ATTEMPTS_MAX, Answer, DECISION_EVENTS_MAX, ExecuteError, Executed, Origin, RefusalCodec,
    RequestAnswer, RequestTarget,
};
use super::decided::{Decided, DecidedStream};
use super::error::EventError;
use super::event::Unknown;
use super::metadata::request_methods;
use super::schema::{Purpose, Schema};
use super::unheard::UnheardTypes;
use crate::panic::caught;
use crate::span;
use crate::store::{
    Answered, Append, Appended, Condition, Conflict, Expected, NewEvent, Outcome, Position, Query,
    Read, RecordedEvent, Store, Version,
};

/// A decision over any events, of any streams: a dynamic consistency boundary.
///
/// The events that it reads are its boundary: if another event that its query matches is recorded
/// between the reading and the append, the decision is made again. `apply` and `decide` are pure.
///
/// Over the wallets of [`Aggregate`](super::Aggregate):
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs"));
#[doc = include_str!("../../doc/transfer.rs")]
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use leftfold_core::store::Store;
/// let store = Store::memory();
/// let wallets = store.aggregate::<Wallet>();
/// wallets.execute("ada", WalletCommand::Deposit { cents: 500 }).await?;
///
/// let (from, to) = (StreamName::of("wallet", "ada")?, StreamName::of("wallet", "bob")?);
/// let transfer = Transfer { from, to, cents: 300 };
/// store.decide(&transfer).await?;
/// assert_eq!(wallets.load("bob").await?.state.cents, 300);
/// assert!(store.decide(&transfer).await.is_err());
/// # Ok(()) }
/// ```
pub trait Decision: Send + Sync {
    /// Events that it reads and records.
    type Event: Event;
    /// State that it needs, folded from the events that it reads.
    type State: Default + Send;
    /// A domain "no".
    type Refusal: std::error::Error + Clone + PartialEq + Send + Sync + 'static;
    /// Events that it may read at most: a decision has no snapshot, so a history that grows without
    /// end belongs in an aggregate, or needs a narrower query.
    const EVENTS_MAX: usize = DECISION_EVENTS_MAX;

    /// Returns the query for the events that the decision rests on. An item that names no types
    /// means those of [`Decision::Event`]. A type that nobody ever recorded or declared is named in
    /// a warning when the decision is first made with a store.
    fn query(&self) -> Query;

    /// Returns the query for the events that may not come in between: if an event that it matches
    /// is recorded between the reading and the append, the decision is made again. By default it is
    /// [`query`](Decision::query) itself.
    ///
    /// Events that the query finds and this does not are folded, and may be out of date by the time
    /// that the decision is recorded. So leave out only events that cannot make it wrong: a price
    /// list of which any recent version will do, deposits if the balance must be sufficient, a name
    /// that is shown. An event that turns a yes into a refusal belongs in here, no matter who
    /// records it: if it is left out, of two that race for the last seat both get it, and no test
    /// that runs one after the other tells. Events that this matches and the query does not have no
    /// effect but the repetition.
    fn guarded(&self) -> Query {
        self.query()
    }

    /// Takes an event into the state. If this panics at an event that was just decided on and that
    /// the query matches, that is [`EventError::Apply`], and nothing is recorded: nobody could make
    /// such a decision again.
    fn apply(&self, state: &mut Self::State, event: &Self::Event);

    /// Decides: returns events, each into a stream or none, or a refusal.
    fn decide(&self, state: &Self::State) -> Result<Decided<Self::Event>, Self::Refusal>;
}

impl Store {
    /// Decides and records what follows.
    pub async fn decide<D: Decision>(
        &self,
        decision: &D,
    ) -> Result<Executed<D::Event>, ExecuteError<D::Refusal>> {
        self.decision(decision).execute().await
    }

    /// A decision with an id and a cause; to be executed.
    pub fn decision<'a, D: Decision>(&self, decision: &'a D) -> DecisionCommand<'a, D> {
        let (store, expected, origin) = (self.clone(), Vec::new(), Origin::default());
        DecisionCommand { store, decision, expected, origin, remember: None }
    }
}

/// A decision, to be executed.
#[must_use = "a decision does nothing until it is executed"]
pub struct DecisionCommand<'a, D: Decision> {
    store: Store,
    decision: &'a D,
    /// Expectations of the caller on streams.
    expected: Vec<(DecidedStream, Expected)>,
    origin: Origin,
    remember: Option<RefusalCodec<D::Refusal>>,
}

impl<D: Decision> DecisionCommand<'_, D> {
    request_methods!();

    /// Requires a stream to be still as the caller saw it, beside what the decision itself demands:
    /// as [`Decided::expecting`], by the caller.
    pub fn expecting(mut self, stream: impl Into<String>, expected: Expected) -> Self {
        self.expected.push((DecidedStream::Stream(stream.into()), expected));
        self
    }

    /// Keeps a refusal too, and gives it again to a repetition.
    pub fn remembering_refusal(mut self) -> Self
    where
        D::Refusal: Serialize + DeserializeOwned,
    {
        self.remember = Some(RefusalCodec::as_json());
        self
    }

    /// Decides and records what follows; if others were faster, it decides again on what is new, at
    /// most [`ATTEMPTS_MAX`] times. Decisions of one process that got into each other's way queue.
    /// An expectation on a stream that fails while nothing is new is an error at once.
    pub async fn execute(mut self) -> Result<Executed<D::Event>, ExecuteError<D::Refusal>> {
        let span = tracing::info_span!(
            "leftfold.command",
            decision = std::any::type_name::<D>(),
            events = field::Empty,
            version = field::Empty,
            position = field::Empty,
            outcome = field::Empty,
            trace_id = field::Empty,
            parent_id = field::Empty
        );
        self.origin.goes_on_in(&span);
        span::within(span, self.carry_out(), |span, done| match done {
            Ok(executed) => executed.say(span),
            Err(error) => error.say(span),
        })
        .await
    }

    async fn carry_out(&self) -> Result<Executed<D::Event>, ExecuteError<D::Refusal>> {
        self.origin.check()?;
        let schema = self.store.schema::<D::Event>(Purpose::Writing)?;
        if let Some(answered) = self.origin.answered(&self.store).await? {
            return self.answer_again(&schema, answered).await;
        }
        let query = schema.widened(self.query()?);
        let guarded =
            schema.widened(EventError::caught::<D, _>("guarded", || self.decision.guarded())?);
        UnheardTypes::announce_once::<D>(&self.store, &schema, &query).await;
        let mut read = DecisionReading::of(fresh::<D>()?);
        let mut turn = DecisionTurn::of(self.store.attached(Boundaries::default), &guarded).await;
        let mut overtaken = None;
        for _ in 0..ATTEMPTS_MAX {
            self.read_on(&schema, &query, &mut read).await?;
            // Anyone who was overtaken queues, and reads what the ones before it recorded
            // meanwhile.
            if overtaken.is_some() && turn.after(read.latest()).await {
                self.read_on(&schema, &query, &mut read).await?;
            }
            // With nothing new to decide on, an expectation that failed would fail again.
            if let Some(AppendConflict::For(error)) = overtaken.take()
                && read.latest().is_empty()
            {
                return self.or_answered(&schema, error).await;
            }
            let (decided, answer) = match self.decide(&read.state) {
                Err(error @ ExecuteError::Refused(_)) => {
                    return self.or_answered(&schema, error).await;
                }
                decided => decided?,
            };
            // Nothing is to be recorded: no event, no demand that only the store can judge, no id.
            if decided.events.is_empty()
                && !self.is_demanding(&decided)
                && self.origin.id().is_none()
            {
                let (version, position) = (Version::ABSENT, read.through);
                return Ok(Executed {
                    events: Vec::new(),
                    version,
                    position,
                    answer: Answer::First,
                });
            }
            let said = match &answer {
                None => RequestAnswer::Accepted(Version::ABSENT),
                Some((bytes, _)) => RequestAnswer::Refused(bytes.clone()),
            };
            let append = self.append(&schema, &guarded, &read, &decided, said)?;
            // An event at which the decision panics must never be recorded.
            self.try_out(&query, &mut read, &decided, &append.events)?;
            read.decided_on = read.events.len();
            match (self.store.append(append).await?, answer) {
                (Outcome::Conflict(conflict), _) => {
                    overtaken = Some(AppendConflict::by(conflict, &decided))
                }
                (Outcome::Repeated(answered), _) => {
                    return self.answer_again(&schema, answered).await;
                }
                (Outcome::Appended(_), Some((_, refusal))) => {
                    return Err(ExecuteError::Refused(refusal));
                }
                (Outcome::Appended(appended), None) => return Ok(executed(decided, &appended)),
            }
        }
        Err(ExecuteError::Contended { attempts: ATTEMPTS_MAX })
    }

    /// Decides on a state. A refusal that is to be remembered is recorded as the answer to the
    /// request; any other is an error.
    fn decide(&self, state: &D::State) -> Result<DecisionRecord<D>, ExecuteError<D::Refusal>> {
        match EventError::caught::<D, _>("decide", || self.decision.decide(state))? {
            Ok(decided) => Ok((decided, None)),
            Err(refusal) => match (&self.remember, self.origin.id()) {
                (Some(remember), Some(_)) => {
                    Ok((Decided::nothing(), Some((encode_refusal(remember, &refusal)?, refusal))))
                }
                _ => Err(ExecuteError::Refused(refusal)),
            },
        }
    }

    /// Returns the answer to this request if it was carried out in the meantime, else the error:
    /// the events that it was refused for may be its own.
    async fn or_answered(
        &self,
        schema: &Schema,
        error: ExecuteError<D::Refusal>,
    ) -> Result<Executed<D::Event>, ExecuteError<D::Refusal>> {
        match self.origin.answered(&self.store).await? {
            Some(answered) => self.answer_again(schema, answered).await,
            None => Err(error),
        }
    }

    fn is_demanding(&self, decided: &Decided<D::Event>) -> bool {
        !self.expected.is_empty()
            || !decided.demands.streams.is_empty()
            || !decided.demands.none.is_empty()
    }

    fn query(&self) -> Result<Query, EventError> {
        EventError::caught::<D, _>("query", || self.decision.query())
    }

    fn target(&self) -> Result<RequestTarget, EventError> {
        Ok(RequestTarget::boundary(&self.query()?, &self.origin))
    }

    async fn read_on(
        &self,
        schema: &Schema,
        query: &Query,
        read: &mut DecisionReading<D::State>,
    ) -> Result<(), ExecuteError<D::Refusal>> {
        if std::mem::take(&mut read.is_tried) {
            read.state = fresh::<D>()?;
            self.fold(schema, &mut read.state, &read.events)?;
        }
        let mut request = Read::matching(query.clone(), read.through.next());
        loop {
            let page = self.store.page(request.clone()).await?;
            if read.events.len() + page.events.len() > D::EVENTS_MAX {
                return Err(ExecuteError::TooManyEvents { limit: D::EVENTS_MAX });
            }
            self.fold(schema, &mut read.state, &page.events)?;
            read.events.extend(page.events);
            read.through = page.through.max(read.through);
            match page.next {
                Some(next) => request.what = next,
                None => return Ok(()),
            }
        }
    }

    fn fold(
        &self,
        schema: &Schema,
        state: &mut D::State,
        events: &[RecordedEvent],
    ) -> Result<(), EventError> {
        EventError::caught::<D, _>("apply", || {
            let mut apply = |event: D::Event| self.decision.apply(state, &event);
            events
                .iter()
                .try_for_each(|event| schema.decode_each(event, Unknown::Ignore, &mut apply))
        })?
    }

    /// Takes the decided events into the state, as far as the decision would read them: a decision
    /// that panics at one could not be made again once it is recorded. If others are faster, the
    /// state is folded again.
    fn try_out(
        &self,
        query: &Query,
        read: &mut DecisionReading<D::State>,
        decided: &Decided<D::Event>,
        new: &[NewEvent],
    ) -> Result<(), EventError> {
        for ((_, event), new) in decided.events.iter().zip(new) {
            if !query.matches_parts(&new.event_type, new.stream.as_ref(), &new.tags) {
                continue;
            }
            read.is_tried = true;
            let (name, event_type) = (std::any::type_name::<D>(), &new.event_type);
            caught(|| self.decision.apply(&mut read.state, event)).map_err(|detail| {
                EventError::Apply { name, event_type: event_type.clone(), detail }
            })?;
        }
        Ok(())
    }

    fn append(
        &self,
        schema: &Schema,
        guarded: &Query,
        read: &DecisionReading<D::State>,
        decided: &Decided<D::Event>,
        said: RequestAnswer,
    ) -> Result<Append, ExecuteError<D::Refusal>> {
        let mut events = Vec::with_capacity(decided.events.len());
        for (place, event) in &decided.events {
            let mut new: NewEvent = schema.encode(event)?;
            self.origin.stamp(&mut new);
            new.stream = place.stream()?;
            events.push(new);
        }
        // The boundary is the first query, so that what is demanded is known by its number.
        let mut condition = Condition::none_matching(guarded.clone(), read.through);
        for (place, expected) in self.expected.iter().chain(&decided.demands.streams) {
            condition.streams.extend(place.stream()?.map(|stream| (stream, *expected)));
        }
        for query in &decided.demands.none {
            condition = condition.and_none_matching(schema.widened(query.clone()), Position::START);
        }
        let command = self.origin.record(&self.target()?, said);
        Ok(Append { events, condition, command, ..Append::default() })
    }

    async fn answer_again(
        &self,
        schema: &Schema,
        answered: Answered,
    ) -> Result<Executed<D::Event>, ExecuteError<D::Refusal>> {
        match self.origin.said(&answered, &self.target()?)? {
            Some(RequestAnswer::Refused(refusal)) => {
                Err(RefusalCodec::again(self.remember.as_ref(), answered.record.id, &refusal))
            }
            Some(RequestAnswer::Accepted(_)) => {
                let recorded = events_of(&self.store, &answered).await?;
                let version = recorded.last().map_or(Version::ABSENT, |event| event.version());
                let position = recorded.last().map_or(answered.first, |event| event.position);
                let events = decode_all(schema, recorded.iter(), Unknown::Ignore)?;
                Ok(Executed { events, version, position, answer: Answer::Again })
            }
            None => Err(foreign_answer(&answered)),
        }
    }
}

/// Progress of a decision's reading.
struct DecisionReading<S> {
    state: S,
    /// True if the state has events that are not recorded.
    is_tried: bool,
    through: Position,
    /// Events that were read.
    events: Vec<RecordedEvent>,
    /// Number of the events that had been read at the last decision.
    decided_on: usize,
}

impl<S> DecisionReading<S> {
    /// Begins with a state of nothing.
    fn of(state: S) -> Self {
        let (through, events) = (Position::START, Vec::new());
        Self { state, is_tried: false, through, events, decided_on: 0 }
    }

    /// Returns the events that were read since the last decision.
    fn latest(&self) -> &[RecordedEvent] {
        &self.events[self.decided_on..]
    }
}

fn fresh<D: Decision>() -> Result<D::State, EventError> {
    EventError::caught::<D::State, _>("default()", D::State::default)
}

/// Decided events, and a refusal that is to be remembered with its bytes.
type DecisionRecord<D> =
    (Decided<<D as Decision>::Event>, Option<(Bytes, <D as Decision>::Refusal)>);

/// Reason for which an append was refused.
enum AppendConflict<R> {
    /// By something that the decision guards: the decision is made again.
    InBetween,
    /// By something else. If nothing that the decision reads is new, it would decide the same
    /// again, and this is its error.
    For(ExecuteError<R>),
}

impl<R> AppendConflict<R> {
    fn by<E>(conflict: Conflict, decided: &Decided<E>) -> Self {
        match conflict {
            Conflict::Stream { stream, expected, actual } => {
                Self::For(ExecuteError::Unexpected { stream, expected, actual })
            }
            Conflict::Matching { clause, found, .. } => {
                match clause.checked_sub(1).and_then(|at| decided.demands.none.get(at)) {
                    Some(query) => Self::For(ExecuteError::Taken { query: query.clone(), found }),
                    None => Self::InBetween,
                }
            }
        }
    }
}

fn executed<E>(decided: Decided<E>, appended: &Appended) -> Executed<E> {
    let version = appended.versions.last().copied().unwrap_or(Version::ABSENT);
    let events = decided.events.into_iter().map(|(_, event)| event).collect();
    Executed { events, version, position: appended.last(), answer: Answer::First }
}
