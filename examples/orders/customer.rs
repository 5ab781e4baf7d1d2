//! A customer has a postal address, changes it, and is told what happened to the orders under way.

use std::collections::{BTreeMap, BTreeSet};

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

/// Letter about the orders after a change: those that follow it, and those that do not, each with
/// the reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Letter {
    pub(crate) followed: BTreeSet<String>,
    pub(crate) kept: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CustomerEvent {
    AddressChanged { postal: String, change: u32 },
    Told { change: u32, letter: Letter },
}

impl Event for CustomerEvent {
    const NAMESPACE: &'static str = "customer";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CustomerCommand {
    ChangeAddress { postal: String },
    Tell { change: u32, letter: Letter },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("a customer refuses nothing")]
pub(crate) struct Never;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Customer {
    pub(crate) postal: String,
    pub(crate) change: u32,
    /// The last change that was told: one behind the last means that a cascade is under way, or was
    /// cut off.
    pub(crate) told: u32,
}

impl Aggregate for Customer {
    const CATEGORY: &'static str = "customer";
    type Event = CustomerEvent;
    type Command = CustomerCommand;
    type Refusal = Never;

    fn apply(&mut self, event: &CustomerEvent) {
        match event {
            CustomerEvent::AddressChanged { postal, change } => {
                (self.postal, self.change) = (postal.clone(), *change)
            }
            CustomerEvent::Told { change, .. } => self.told = *change,
        }
    }

    fn decide(&self, command: &CustomerCommand) -> Result<Vec<CustomerEvent>, Never> {
        Ok(match command.clone() {
            CustomerCommand::ChangeAddress { postal } if postal == self.postal => Vec::new(),
            CustomerCommand::ChangeAddress { postal } => {
                vec![CustomerEvent::AddressChanged { postal, change: self.change + 1 }]
            }
            CustomerCommand::Tell { change, letter } => {
                vec![CustomerEvent::Told { change, letter }]
            }
        })
    }
}
