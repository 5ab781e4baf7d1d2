//! Charging a card, at a bank that fails, hangs, and loses answers. Nothing is charged twice: an
//! attempt whose answer is not known is looked up by its key, and only what the bank does not know
//! is tried again, under the same key.

use std::time::Duration;

use axum::http::Method;
use leftfold::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::{Reply, SendError, send};
use crate::order::{Order, OrderCommand};

/// Charge to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) order: String,
    pub(crate) cents: u64,
    pub(crate) card: String,
}

/// Answer of the bank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    Charged { receipt: String },
    Declined { why: String },
}

pub(crate) struct Payment {
    /// Host and port.
    pub(crate) bank: String,
    /// Longest time that the bank may take to answer.
    pub(crate) within: Duration,
}

// ANCHOR: effect
impl Effect for Payment {
    const NAME: &'static str = "payment";
    const INTENT: &'static str = "order.PaymentRequested";
    type Intent = Charge;
    type Outcome = Verdict;
    type Target = Order;

    fn policy(&self) -> Policy {
        let pauses = (Duration::from_millis(200), Duration::from_secs(30));
        Policy::once().attempts(5).deadline(self.within).backoff(pauses.0, pauses.1)
    }

    async fn perform(&self, attempt: &Attempt<Charge>) -> Performed<Verdict> {
        let key = attempt.idempotency_key().to_string();
        let Charge { order, cents, card } = &attempt.intent;
        let body = json!({ "order": order, "cents": cents, "card": card }).to_string();
        match send(&self.bank, Method::POST, "/charges", &[("idempotency-key", &key)], body).await {
            Ok(reply) => verdict(&reply),
            Err(SendError::NotSent(reason)) => Performed::NotDone { reason },
            Err(SendError::NoReply(reason)) => Performed::InDoubt { reason },
        }
    }

    async fn resolve(&self, attempt: &Attempt<Charge>) -> Performed<Verdict> {
        let path = format!("/charges/{}", attempt.idempotency_key());
        match send(&self.bank, Method::GET, &path, &[], String::new()).await {
            Ok(reply) if reply.status == 404 => {
                Performed::NotDone { reason: "the bank knows of no such charge".to_owned() }
            }
            Ok(reply) => verdict(&reply),
            Err(SendError::NotSent(reason) | SendError::NoReply(reason)) => {
                Performed::InDoubt { reason }
            }
        }
    }

    fn report(
        &self,
        attempt: &Attempt<Charge>,
        conclusion: &Conclusion<Verdict>,
    ) -> Option<(String, OrderCommand)> {
        let command = match conclusion.clone() {
            Conclusion::Done(Verdict::Charged { receipt }) => OrderCommand::TakePayment { receipt },
            Conclusion::Done(Verdict::Declined { why }) => OrderCommand::FailPayment { why },
            Conclusion::NotDone { reason } => OrderCommand::FailPayment { why: reason },
        };
        Some((attempt.intent.order.clone(), command))
    }
}

/// Only what the bank says in so many words is believed.
fn verdict(reply: &Reply) -> Performed<Verdict> {
    let text = |name: &str| Some(reply.json()?[name].as_str()?.to_owned());
    match reply.status {
        200 => text("receipt").map(|receipt| Verdict::Charged { receipt }),
        402 => text("why").map(|why| Verdict::Declined { why }),
        _ => None,
    }
    .map_or_else(
        || Performed::InDoubt { reason: format!("the bank answered {}", reply.status) },
        Performed::Done,
    )
}
// ANCHOR_END: effect
