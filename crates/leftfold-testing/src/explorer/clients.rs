//! Clients of the application, and their requests.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use leftfold_core::drive;
use leftfold_core::fold::{Aggregate, Answer, Decision, Event, ExecuteError, Executed, Schema};
use leftfold_core::runtime::inbox::{Inbox, Receipt, ReceiveError};
use leftfold_core::store::{CommandId, NewEvent, Store, StreamName};

/// Events of the past, and the clients with their requests.
#[derive(Default)]
pub struct Clients {
    pub(super) given: Vec<NewEvent>,
    pub(super) clients: Vec<ClientPlan>,
}

/// One client, and its requests in order.
pub struct Client<'a>(&'a mut ClientPlan);

pub(super) struct ClientPlan {
    pub(super) name: String,
    pub(super) requests: Vec<ClientStep>,
}

/// One thing that a client does.
pub(super) enum ClientStep {
    Wait(Duration),
    Ask {
        /// In words.
        what: String,
        ask: AskFn,
    },
}

/// Asks once; the id names the request, however often it is asked.
type AskFn = Box<dyn Fn(Store, CommandId) -> AskFuture>;
pub(super) type AskFuture = Pin<Box<dyn Future<Output = ClientAnswer> + Send>>;

/// Answer to a client.
pub(super) enum ClientAnswer {
    /// Accepted, with this number of events, now or earlier.
    Accepted {
        events: usize,
        answer: Answer,
    },
    Refused(String),
    /// The store could not take it now: ask again.
    Later,
    Failed(String),
}

impl Clients {
    /// Events that an aggregate has before anything begins.
    ///
    /// # Panics
    /// If they cannot be written, or the id cannot name a stream.
    pub fn given<A: Aggregate>(&mut self, id: &str, events: impl IntoIterator<Item = A::Event>) {
        let stream =
            StreamName::of(A::CATEGORY, id).unwrap_or_else(|error| panic!("{id:?}: {error}"));
        self.given_in::<A::Event>(stream, events);
    }

    fn given_in<E: Event>(&mut self, stream: StreamName, events: impl IntoIterator<Item = E>) {
        let schema = Schema::of::<E>().unwrap_or_else(|error| panic!("{error}"));
        let encode = |event| {
            schema
                .encode(&event)
                .unwrap_or_else(|error| panic!("{error}"))
                .in_stream(stream.clone())
        };
        self.given.extend(events.into_iter().map(encode));
    }

    /// A client: its requests go one after the other, those of several clients at the same time. A
    /// client that gets no answer asks again, under the same command id.
    pub fn client(&mut self, name: &str) -> Client<'_> {
        let index =
            self.clients.iter().position(|client| client.name == name).unwrap_or_else(|| {
                self.clients.push(ClientPlan { name: name.to_owned(), requests: Vec::new() });
                self.clients.len() - 1
            });
        Client(&mut self.clients[index])
    }
}

impl Client<'_> {
    /// A command for an aggregate, with a command id: asked again after a lost answer, it takes
    /// effect once.
    pub fn command<A: Aggregate>(self, id: &str, command: A::Command) -> Self
    where
        A::Command: Clone + Debug,
    {
        self.ask::<A>(id, command, |command, id| command.with_id(id).without_request_check())
    }

    /// The same without a command id, as from a client that knows of none: asked again, it is
    /// another command.
    pub fn command_without_id<A: Aggregate>(self, id: &str, command: A::Command) -> Self
    where
        A::Command: Clone + Debug,
    {
        self.ask::<A>(id, command, |command, _| command)
    }

    /// A decision, with a command id.
    pub fn decide<D: Decision + Debug + Clone + 'static>(self, decision: D) -> Self {
        let what = format!("{decision:?}");
        let ask = move |store: Store, command_id: CommandId| -> AskFuture {
            let decision = decision.clone();
            Box::pin(async move {
                // A command id is a hash: as text it names the request as well.
                let command = store
                    .decision(&decision)
                    .id("explorer", &command_id.to_string())
                    .without_request_check();
                answered(command.execute().await)
            })
        };
        self.with(ClientStep::Ask { what, ask: Box::new(ask) })
    }

    /// A message for an inbox, under its own id: sent again after a lost answer, it is heard once.
    pub fn send<I: Inbox>(
        self,
        source: &str,
        id: &str,
        sequence: Option<u64>,
        message: I::Message,
    ) -> Self
    where
        I::Message: Clone + Debug,
    {
        let (source, id) = (source.to_owned(), id.to_owned());
        let number = sequence.map_or_else(String::new, |sequence| format!(", number {sequence}"));
        let what = format!("{message:?} as message {id}{number} of {source}");
        let ask = move |store: Store, _: CommandId| -> AskFuture {
            let (source, id, message) = (source.clone(), id.clone(), message.clone());
            Box::pin(async move {
                received(store.inbox::<I>().receive(&source, &id, sequence, message).await)
            })
        };
        self.with(ClientStep::Ask { what, ask: Box::new(ask) })
    }

    /// Waits so long before the next request.
    pub fn wait(self, duration: Duration) -> Self {
        self.with(ClientStep::Wait(duration))
    }

    fn ask<A: Aggregate>(
        self,
        id: &str,
        command: A::Command,
        named: fn(leftfold_core::fold::Command<A>, CommandId) -> leftfold_core::fold::Command<A>,
    ) -> Self
    where
        A::Command: Clone + Debug,
    {
        let id = id.to_owned();
        let what = format!("{command:?} to {}-{id}", A::CATEGORY);
        let ask = move |store: Store, command_id: CommandId| -> AskFuture {
            let command = named(store.aggregate::<A>().command(&id, command.clone()), command_id);
            Box::pin(async move { answered(command.execute().await) })
        };
        self.with(ClientStep::Ask { what, ask: Box::new(ask) })
    }

    fn with(self, request: ClientStep) -> Self {
        self.0.requests.push(request);
        self
    }
}

fn received(received: Result<Receipt, ReceiveError>) -> ClientAnswer {
    match received {
        Ok(Receipt::Duplicate) => ClientAnswer::Accepted { events: 0, answer: Answer::Again },
        Ok(_) => ClientAnswer::Accepted { events: 1, answer: Answer::First },
        Err(ReceiveError::Refused(refusal)) => ClientAnswer::Refused(refusal.to_string()),
        Err(ReceiveError::Store(error)) => answered(Err::<Executed<()>, _>(*error)),
        Err(error) => ClientAnswer::Failed(error.to_string()),
    }
}

fn answered<E, R: std::error::Error>(
    executed: Result<Executed<E>, ExecuteError<R>>,
) -> ClientAnswer {
    match executed {
        Ok(Executed { events, answer, .. }) => {
            ClientAnswer::Accepted { events: events.len(), answer }
        }
        Err(ExecuteError::Refused(refusal)) => ClientAnswer::Refused(refusal.to_string()),
        Err(error) if drive::is_of_the_store(&error) => ClientAnswer::Later,
        Err(ExecuteError::Contended { .. }) => ClientAnswer::Later,
        Err(error) => ClientAnswer::Failed(error.to_string()),
    }
}
