//! The service of users: it tells anyone who listens what happens to them, and tells it again when
//! it is asked.

use std::time::Duration;

use leftfold::prelude::*;
use leftfold::runtime::RunningRuntime;
use leftfold::runtime::StartError;
use leftfold::runtime::projection::{Bus, Outbox, Outgoing};
use serde::{Deserialize, Serialize};

/// Queue for questions about users.
pub(crate) const ASKED: &str = "users.asked";
/// Queue for the answers about users.
pub(crate) const TOLD: &str = "users.told";

/// Public details of a user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Details {
    pub(crate) name: String,
    pub(crate) city: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum UserEvent {
    Registered {
        details: Details,
    },
    Changed {
        details: Details,
    },
    /// Somebody asked.
    Told {
        details: Details,
    },
}

impl Event for UserEvent {
    const NAMESPACE: &'static str = "user";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum UserCommand {
    Register { details: Details },
    Change { details: Details },
    Tell,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum UserRefusal {
    #[error("the user is registered already")]
    Registered,
    #[error("there is no such user")]
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct User {
    details: Option<Details>,
}

impl Aggregate for User {
    const CATEGORY: &'static str = "user";
    type Event = UserEvent;
    type Command = UserCommand;
    type Refusal = UserRefusal;

    fn apply(&mut self, event: &UserEvent) {
        let (UserEvent::Registered { details }
        | UserEvent::Changed { details }
        | UserEvent::Told { details }) = event;
        self.details = Some(details.clone());
    }

    fn decide(&self, command: &UserCommand) -> Result<Vec<UserEvent>, UserRefusal> {
        match (command.clone(), self.details.clone()) {
            (UserCommand::Register { .. }, Some(_)) => Err(UserRefusal::Registered),
            (UserCommand::Register { details }, None) => {
                Ok(vec![UserEvent::Registered { details }])
            }
            (UserCommand::Change { .. } | UserCommand::Tell, None) => Err(UserRefusal::Unknown),
            (UserCommand::Change { details }, Some(_)) => Ok(vec![UserEvent::Changed { details }]),
            (UserCommand::Tell, Some(details)) => Ok(vec![UserEvent::Told { details }]),
        }
    }
}

/// Message of this service about a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UserTold {
    pub(crate) user: String,
    /// Of what is told later, greater.
    pub(crate) version: u64,
    pub(crate) details: Details,
}

/// Question to this service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UserAsked {
    pub(crate) user: String,
}

/// The outbox: every event of a user goes out, with all that is to be known.
struct Feed;

impl<B: Bus> Projection<Outbox<B>> for Feed {
    const NAME: &'static str = "user_feed";
    type Event = UserEvent;

    async fn apply(
        &self,
        out: &mut Outgoing,
        event: &Recorded<UserEvent>,
    ) -> Result<(), ProjectionError> {
        let (UserEvent::Registered { details }
        | UserEvent::Changed { details }
        | UserEvent::Told { details }) = &event.event;
        let user = event.stream_id().to_owned();
        let told =
            UserTold { user: user.clone(), version: event.version().0, details: details.clone() };
        out.send(TOLD, user, serde_json::to_vec(&told)?);
        Ok(())
    }
}

/// The inbox: who asks is told, by an event.
pub(crate) struct Questions;

impl Inbox for Questions {
    const NAME: &'static str = "questions";
    type Message = UserAsked;

    fn targets() -> Targets {
        Targets::of::<User>()
    }

    fn hold() -> Duration {
        Duration::ZERO
    }

    fn deliver(asked: &UserAsked, _: &Delivery) -> Reaction {
        Reaction::none().command::<User>(&asked.user, UserCommand::Tell)
    }
}

/// Runs the service.
pub(crate) async fn start<B: Bus>(store: &Store, bus: B) -> Result<RunningRuntime, StartError> {
    Runtime::new(store).project(Feed, Outbox::new(store, bus)).inbox::<Questions>().start().await
}
