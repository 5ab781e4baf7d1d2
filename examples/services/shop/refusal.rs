//! Every "no" of the shop, with what it means to a caller.

use leftfold::store::Kind;
use serde::{Deserialize, Serialize};

// ANCHOR: refusal
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no such customer")]
    NoCustomer,
    #[error("the e-mail address belongs to a customer already")]
    EmailTaken,
    #[error("the customer is blocked: {why}")]
    Blocked { why: String },
    #[error("there is no such product")]
    NoProduct,
    #[error("the product is listed already, with another name or price")]
    Listed,
    #[error("{left} pieces are left")]
    SoldOut { left: u64 },
    #[error("there is no such order")]
    NoOrder,
    #[error("a payment of the order is under way")]
    PaymentUnderWay,
    #[error("the order is {state}")]
    Over { state: String },
}

impl Refusal {
    /// Returns what kind of failure it is to a caller, and a word for programs.
    pub(crate) fn meaning(&self) -> (Kind, &'static str) {
        match self {
            Self::NoCustomer => (Kind::NotFound, "no-customer"),
            Self::NoProduct => (Kind::NotFound, "no-product"),
            Self::NoOrder => (Kind::NotFound, "no-order"),
            Self::EmailTaken => (Kind::Conflict, "email-taken"),
            Self::Listed => (Kind::Conflict, "listed"),
            Self::SoldOut { .. } => (Kind::Conflict, "sold-out"),
            Self::PaymentUnderWay => (Kind::Conflict, "payment-under-way"),
            Self::Over { .. } => (Kind::Conflict, "over"),
            Self::Blocked { .. } => (Kind::Refused, "blocked"),
        }
    }
}
// ANCHOR_END: refusal
