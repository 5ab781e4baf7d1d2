//! Customers. An e-mail address belongs to one of them, which is decided when they sign up.

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CustomerEvent {
    SignedUp { customer: String, name: String, email: String },
    Blocked { why: String },
}

impl Event for CustomerEvent {
    const NAMESPACE: &'static str = "customer";

    fn tags(&self) -> Tags {
        match self {
            Self::SignedUp { email, .. } => Tags::none().with(email_tag(email)),
            Self::Blocked { .. } => Tags::none(),
        }
    }
}

/// Addresses that differ in capital letters only are one.
fn email_tag(email: &str) -> String {
    format!("email:{}", email.to_lowercase())
}

// ANCHOR: sign-up
/// Somebody wants to become a customer.
#[derive(Clone, Debug)]
pub(crate) struct SignUp {
    pub(crate) customer: String,
    pub(crate) name: String,
    pub(crate) email: String,
}

impl Decision for SignUp {
    type Event = CustomerEvent;
    /// `true` if the address is taken.
    type State = bool;
    type Refusal = Refusal;

    fn query(&self) -> Query {
        Query::tag(email_tag(&self.email))
    }

    fn apply(&self, taken: &mut bool, event: &CustomerEvent) {
        *taken |= matches!(event, CustomerEvent::SignedUp { .. });
    }

    fn decide(&self, taken: &bool) -> Result<Decided<CustomerEvent>, Refusal> {
        if *taken {
            return Err(Refusal::EmailTaken);
        }
        let Self { customer, name, email } = self.clone();
        let signed_up = CustomerEvent::SignedUp { customer, name, email };
        Ok(Decided::of::<Customer>(&self.customer, signed_up))
    }
}
// ANCHOR_END: sign-up

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Customer {
    signed_up: bool,
    blocked: bool,
}

/// Blocks a customer who does not pay: no further orders.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Block {
    pub(crate) why: String,
}

impl Aggregate for Customer {
    const CATEGORY: &'static str = "customer";
    type Event = CustomerEvent;
    type Command = Block;
    type Refusal = Refusal;

    fn apply(&mut self, event: &CustomerEvent) {
        match event {
            CustomerEvent::SignedUp { .. } => self.signed_up = true,
            CustomerEvent::Blocked { .. } => self.blocked = true,
        }
    }

    fn decide(&self, Block { why }: &Block) -> Result<Vec<CustomerEvent>, Refusal> {
        match self {
            Self { signed_up: false, .. } => Err(Refusal::NoCustomer),
            Self { blocked: true, .. } => Ok(vec![]),
            _ => Ok(vec![CustomerEvent::Blocked { why: why.clone() }]),
        }
    }
}
