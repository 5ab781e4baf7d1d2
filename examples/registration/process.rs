//! The process: forward step by step; where one is refused, or the deadline passes, backward over
//! what was made.

use std::time::Duration;

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::parts::{
    AccountCommand, Application, Customer, CustomerCommand, Login, LoginCommand, Register,
    Registration, SecurityAccount,
};

/// A security account is approved within this time, or there is none.
pub(crate) const APPROVAL_WITHIN: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// Events of four aggregates that the process reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Step {
    #[serde(rename = "registration.Started")]
    Started(Application),
    #[serde(rename = "customer.Created")]
    CustomerCreated { registration: String },
    #[serde(rename = "security_account.Applied")]
    AccountApplied,
    #[serde(rename = "security_account.Approved")]
    AccountApproved,
    #[serde(rename = "login.Created")]
    LoginCreated { registration: String },
    #[serde(rename = "security_account.Closed")]
    AccountClosed,
    #[serde(rename = "customer.Removed")]
    CustomerRemoved { registration: String },
    #[serde(rename = "registration.Completed")]
    Completed,
    #[serde(rename = "registration.Failed")]
    Failed,
}

impl Event for Step {
    const NAMESPACE: &'static str = "registering";
}

#[derive(Debug, Default)]
pub(crate) struct Registering {
    application: Option<Application>,
    customer: bool,
    account: bool,
    /// Reason why everything is to be taken back.
    failing: Option<String>,
}

// ANCHOR: process
impl Process for Registering {
    const NAME: &'static str = "registering";
    type Event = Step;

    fn targets() -> Targets {
        Targets::of::<Registration>().and::<Customer>().and::<SecurityAccount>().and::<Login>()
    }

    fn correlate(event: &Recorded<Step>) -> Correlation {
        match &event.event {
            Step::Started(_) => Correlation::starts(event.stream_id()),
            Step::CustomerCreated { registration }
            | Step::CustomerRemoved { registration }
            | Step::LoginCreated { registration } => Correlation::continues(registration),
            // A security account is named as its registration is.
            Step::AccountApplied | Step::AccountApproved | Step::AccountClosed => {
                Correlation::continues(event.stream_id())
            }
            Step::Completed | Step::Failed => Correlation::ends(event.stream_id()),
        }
    }

    fn apply(&mut self, trigger: &Trigger<Step>, _: &Context) {
        match trigger {
            Trigger::Event(Step::Started(application)) => {
                self.application = Some(application.clone())
            }
            Trigger::Event(Step::CustomerCreated { .. }) => self.customer = true,
            Trigger::Event(Step::AccountApplied) => self.account = true,
            Trigger::Event(Step::AccountClosed) => self.account = false,
            Trigger::Event(Step::CustomerRemoved { .. }) => self.customer = false,
            Trigger::Event(_) => {}
            Trigger::Refused(refused) => self.failing = Some(refused.reason().to_owned()),
            Trigger::TimerFired { .. } => {
                self.failing = Some("nobody approved the security account in time".to_owned())
            }
        }
    }

    fn react(&self, trigger: &Trigger<Step>, context: &Context) -> Reaction {
        let (registration, reaction) = (context.key.clone(), Reaction::none());
        let Some(Application { tax_id, name, login }) = self.application.clone() else {
            return reaction;
        };
        if let Some(reason) = &self.failing {
            return self.take_back(trigger, registration, tax_id, reason);
        }
        match trigger {
            Trigger::Event(Step::Started(_)) => {
                reaction.command::<Customer>(tax_id, CustomerCommand::Create { registration, name })
            }
            Trigger::Event(Step::CustomerCreated { .. }) => {
                reaction.command::<SecurityAccount>(registration, AccountCommand::Apply { tax_id })
            }
            Trigger::Event(Step::AccountApplied) => reaction.timer("approval", APPROVAL_WITHIN),
            Trigger::Event(Step::AccountApproved) => reaction
                .cancel("approval")
                .command::<Login>(login, LoginCommand::Create { registration }),
            Trigger::Event(Step::LoginCreated { .. }) => {
                reaction.command::<Registration>(registration, Register::Complete)
            }
            _ => reaction,
        }
    }
}

impl Registering {
    /// The last thing that was made is taken back first; when nothing is left, the registration
    /// hears why.
    fn take_back(
        &self,
        trigger: &Trigger<Step>,
        registration: String,
        tax_id: String,
        reason: &str,
    ) -> Reaction {
        // It was approved a moment too late: what closes it is under way.
        if matches!(trigger, Trigger::Event(Step::AccountApproved | Step::Failed)) {
            return Reaction::none();
        }
        if self.account {
            Reaction::none().command::<SecurityAccount>(registration, AccountCommand::Close)
        } else if self.customer {
            Reaction::none().command::<Customer>(tax_id, CustomerCommand::Remove { registration })
        } else {
            Reaction::none()
                .command::<Registration>(registration, Register::Fail { reason: reason.to_owned() })
        }
    }
}
// ANCHOR_END: process
