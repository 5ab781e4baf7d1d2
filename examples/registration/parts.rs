//! The four aggregates that a registration is about. What one step makes, one command takes back;
//! taking back what is not there is nothing to do, and never refused.

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

/// Request of an applicant, and its result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Registration {
    started: bool,
    pub(crate) outcome: Option<Result<(), String>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Application {
    pub(crate) tax_id: String,
    pub(crate) name: String,
    pub(crate) login: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum RegistrationEvent {
    Started(Application),
    Completed,
    Failed { reason: String },
}

impl Event for RegistrationEvent {
    const NAMESPACE: &'static str = "registration";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Register {
    Start(Application),
    Complete,
    Fail { reason: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum No {
    #[error("it was started before")]
    Started,
    #[error("the person is a customer already")]
    Customer,
    #[error("the security account is not waiting for approval")]
    NotWaiting,
    #[error("the login name is taken")]
    LoginTaken,
}

impl Aggregate for Registration {
    const CATEGORY: &'static str = "registration";
    type Event = RegistrationEvent;
    type Command = Register;
    type Refusal = No;

    fn apply(&mut self, event: &RegistrationEvent) {
        match event {
            RegistrationEvent::Started(_) => self.started = true,
            RegistrationEvent::Completed => self.outcome = Some(Ok(())),
            RegistrationEvent::Failed { reason } => self.outcome = Some(Err(reason.clone())),
        }
    }

    fn decide(&self, command: &Register) -> Result<Vec<RegistrationEvent>, No> {
        match command.clone() {
            Register::Start(_) if self.started => Err(No::Started),
            Register::Start(application) => Ok(vec![RegistrationEvent::Started(application)]),
            Register::Complete => Ok(vec![RegistrationEvent::Completed]),
            Register::Fail { reason } => Ok(vec![RegistrationEvent::Failed { reason }]),
        }
    }
}

/// By tax id: nobody is a customer twice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Customer {
    pub(crate) name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CustomerEvent {
    Created { registration: String, name: String },
    Removed { registration: String },
}

impl Event for CustomerEvent {
    const NAMESPACE: &'static str = "customer";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CustomerCommand {
    Create { registration: String, name: String },
    Remove { registration: String },
}

impl Aggregate for Customer {
    const CATEGORY: &'static str = "customer";
    type Event = CustomerEvent;
    type Command = CustomerCommand;
    type Refusal = No;

    fn apply(&mut self, event: &CustomerEvent) {
        match event {
            CustomerEvent::Created { name, .. } => self.name = Some(name.clone()),
            CustomerEvent::Removed { .. } => self.name = None,
        }
    }

    fn decide(&self, command: &CustomerCommand) -> Result<Vec<CustomerEvent>, No> {
        match (command.clone(), &self.name) {
            (CustomerCommand::Create { .. }, Some(_)) => Err(No::Customer),
            (CustomerCommand::Create { registration, name }, None) => {
                Ok(vec![CustomerEvent::Created { registration, name }])
            }
            (CustomerCommand::Remove { registration }, Some(_)) => {
                Ok(vec![CustomerEvent::Removed { registration }])
            }
            (CustomerCommand::Remove { .. }, None) => Ok(Vec::new()),
        }
    }
}

/// One for each registration, approved by a person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum SecurityAccount {
    #[default]
    None,
    Applied,
    Open,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum AccountEvent {
    Applied { tax_id: String },
    Approved,
    Closed,
}

impl Event for AccountEvent {
    const NAMESPACE: &'static str = "security_account";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum AccountCommand {
    Apply { tax_id: String },
    Approve,
    Close,
}

impl Aggregate for SecurityAccount {
    const CATEGORY: &'static str = "security_account";
    type Event = AccountEvent;
    type Command = AccountCommand;
    type Refusal = No;

    fn apply(&mut self, event: &AccountEvent) {
        *self = match event {
            AccountEvent::Applied { .. } => SecurityAccount::Applied,
            AccountEvent::Approved => SecurityAccount::Open,
            AccountEvent::Closed => SecurityAccount::Closed,
        }
    }

    fn decide(&self, command: &AccountCommand) -> Result<Vec<AccountEvent>, No> {
        match (command.clone(), self) {
            (AccountCommand::Apply { tax_id }, SecurityAccount::None) => {
                Ok(vec![AccountEvent::Applied { tax_id }])
            }
            (AccountCommand::Approve, SecurityAccount::Applied) => Ok(vec![AccountEvent::Approved]),
            (AccountCommand::Approve, _) => Err(No::NotWaiting),
            (AccountCommand::Close, SecurityAccount::Applied | SecurityAccount::Open) => {
                Ok(vec![AccountEvent::Closed])
            }
            (AccountCommand::Apply { .. } | AccountCommand::Close, _) => Ok(Vec::new()),
        }
    }
}

/// By login name, which belongs to one registration forever.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) registration: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum LoginEvent {
    Created { registration: String },
}

impl Event for LoginEvent {
    const NAMESPACE: &'static str = "login";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum LoginCommand {
    Create { registration: String },
}

impl Aggregate for Login {
    const CATEGORY: &'static str = "login";
    type Event = LoginEvent;
    type Command = LoginCommand;
    type Refusal = No;

    fn apply(&mut self, LoginEvent::Created { registration }: &LoginEvent) {
        self.registration = Some(registration.clone());
    }

    fn decide(
        &self,
        LoginCommand::Create { registration }: &LoginCommand,
    ) -> Result<Vec<LoginEvent>, No> {
        match self.registration {
            Some(_) => Err(No::LoginTaken),
            None => Ok(vec![LoginEvent::Created { registration: registration.clone() }]),
        }
    }
}
