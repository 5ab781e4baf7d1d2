//! A mail to each customer: an effect that cannot be taken back.

use std::time::Duration;

use leftfold_core::fold::{Aggregate, Event};
use leftfold_core::runtime::{Attempt, Conclusion, Effect, Performed, Policy};
use leftfold_testing::explorer::{Explorer, Schedules};
use serde::{Deserialize, Serialize};

use crate::{MANY, is_found};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum CustomerEvent {
    Asked(Mail),
    Sent,
    Failed { reason: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mail {
    text: String,
}

impl Event for CustomerEvent {
    const NAMESPACE: &'static str = "customer";
}

#[derive(Clone, Debug)]
enum Tell {
    Ask(Mail),
    Sent,
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("never")]
struct Never;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Customer {
    asked: u64,
    told: u64,
}

impl Aggregate for Customer {
    const CATEGORY: &'static str = "customer";
    type Event = CustomerEvent;
    type Command = Tell;
    type Refusal = Never;

    fn apply(&mut self, event: &CustomerEvent) {
        match event {
            CustomerEvent::Asked(_) => self.asked += 1,
            CustomerEvent::Sent | CustomerEvent::Failed { .. } => self.told += 1,
        }
    }

    fn decide(&self, command: &Tell) -> Result<Vec<CustomerEvent>, Never> {
        Ok(vec![match command.clone() {
            Tell::Ask(mail) => CustomerEvent::Asked(mail),
            Tell::Sent => CustomerEvent::Sent,
            Tell::Failed(reason) => CustomerEvent::Failed { reason },
        }])
    }
}

struct SendMail {
    policy: Policy,
}

impl Effect for SendMail {
    const NAME: &'static str = "mail";
    const INTENT: &'static str = "customer.Asked";
    type Intent = Mail;
    type Outcome = u16;
    type Target = Customer;

    fn policy(&self) -> Policy {
        self.policy
    }

    async fn perform(&self, _: &Attempt<Mail>) -> Performed<u16> {
        unreachable!("no mail leaves an explorer")
    }

    fn report(
        &self,
        attempt: &Attempt<Mail>,
        conclusion: &Conclusion<u16>,
    ) -> Option<(String, Tell)> {
        let told = match conclusion {
            Conclusion::Done(_) => Tell::Sent,
            Conclusion::NotDone { reason } => Tell::Failed(reason.clone()),
        };
        Some((attempt.event.stream.as_ref()?.name.id().to_owned(), told))
    }
}

// ANCHOR: explorer
fn explorer(policy: Policy, mails: &[&str]) -> Explorer {
    let outcomes = [
        Performed::Done(250),
        Performed::NotDone { reason: "mailbox full".to_owned() },
        Performed::InDoubt { reason: "the line broke".to_owned() },
    ];
    Explorer::new()
        .seed(7)
        .applications(2)
        .aggregate::<Customer>()
        .effect(SendMail { policy: policy.deadline(Duration::from_secs(10)) }, outcomes)
        .start(|clients| {
            for text in mails {
                clients
                    .client("anna")
                    .command::<Customer>("1", Tell::Ask(Mail { text: (*text).to_owned() }));
            }
        })
        .always("no mail is sent twice", |world| {
            world.performed::<SendMail>().iter().all(|mail| mail.times <= 1)
        })
        .finally("what came of every mail is known", |world| {
            world.states::<Customer>().all(|customer| customer.asked == customer.told)
        })
        .finally("a mail is told to be sent if it was", |world| {
            let sent = world.performed::<SendMail>().iter().filter(|mail| mail.times == 1).count();
            let told = world
                .events_of::<CustomerEvent>()
                .into_iter()
                .filter(|event| *event == CustomerEvent::Sent)
                .count();
            if sent == told { Ok(()) } else { Err(format!("{sent} were sent, {told} told")) }
        })
}
// ANCHOR_END: explorer

#[test]
fn a_mail_that_may_not_be_repeated_is_sent_at_most_once_whatever_happens() {
    explorer(Policy::once(), &["welcome", "good bye"]).run(MANY);
}

/// Each application says that it has every customer: as when a machine has called two.
#[test]
fn a_mail_that_every_application_may_send_without_the_lease_is_sent_at_most_once() {
    let policy = Policy::once().attempts(2).only_here(Duration::MAX);
    explorer(policy, &["welcome", "good bye"]).run(MANY);
}

#[test]
fn attempts_that_certainly_did_not_take_place_may_be_repeated() {
    explorer(Policy::once().attempts(3), &["welcome", "good bye"]).run(MANY);
}

#[test]
fn a_mail_that_is_repeated_blindly_is_found() {
    let failure = explorer(Policy::repeatable(), &["welcome"]).explore(Schedules(200)).unwrap_err();
    is_found(&failure, "no mail is sent twice", 13);
}
