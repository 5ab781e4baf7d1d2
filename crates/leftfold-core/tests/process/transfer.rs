//! A transfer between two purses as a process: what most tests of processes stand on.
#![allow(unreachable_pub, reason = "a module of one test binary")]

use std::time::Duration;

use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PurseEvent {
    Filled { amount: u64 },
    TransferAsked { transfer: String, to: String, amount: u64 },
    Withdrawn { transfer: String, amount: u64 },
    Deposited { transfer: String, amount: u64 },
    PaidBack { transfer: String, amount: u64 },
    TransferEnded { transfer: String, failed: Option<String> },
    Closed,
}

impl Event for PurseEvent {
    const NAMESPACE: &'static str = "purse";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Move {
    Fill { amount: u64 },
    AskTransfer { transfer: String, to: String, amount: u64 },
    Withdraw { transfer: String, amount: u64 },
    Deposit { transfer: String, amount: u64 },
    PayBack { transfer: String, amount: u64 },
    EndTransfer { transfer: String, failed: Option<String> },
    Close,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PurseRefusal {
    #[error("{amount} wanted, {there} there")]
    TooLittle { amount: u64, there: u64 },
    #[error("the purse is closed")]
    Closed,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Purse {
    pub amount: u64,
    pub closed: bool,
    pub ended: Vec<(String, Option<String>)>,
}

impl Aggregate for Purse {
    const CATEGORY: &'static str = "purse";
    type Event = PurseEvent;
    type Command = Move;
    type Refusal = PurseRefusal;

    fn apply(&mut self, event: &PurseEvent) {
        match event {
            PurseEvent::Filled { amount }
            | PurseEvent::Deposited { amount, .. }
            | PurseEvent::PaidBack { amount, .. } => {
                self.amount += amount;
            }
            PurseEvent::Withdrawn { amount, .. } => self.amount -= amount,
            PurseEvent::TransferAsked { .. } => {}
            PurseEvent::TransferEnded { transfer, failed } => {
                self.ended.push((transfer.clone(), failed.clone()))
            }
            PurseEvent::Closed => self.closed = true,
        }
    }

    fn decide(&self, command: &Move) -> Result<Vec<PurseEvent>, PurseRefusal> {
        Ok(vec![match command.clone() {
            Move::Fill { amount } => PurseEvent::Filled { amount },
            Move::AskTransfer { transfer, to, amount } => {
                PurseEvent::TransferAsked { transfer, to, amount }
            }
            Move::Withdraw { amount, .. } if amount > self.amount => {
                return Err(PurseRefusal::TooLittle { amount, there: self.amount });
            }
            Move::Withdraw { transfer, amount } => PurseEvent::Withdrawn { transfer, amount },
            Move::Deposit { .. } if self.closed => return Err(PurseRefusal::Closed),
            Move::Deposit { transfer, amount } => PurseEvent::Deposited { transfer, amount },
            Move::PayBack { transfer, amount } => PurseEvent::PaidBack { transfer, amount },
            Move::EndTransfer { transfer, failed } => {
                PurseEvent::TransferEnded { transfer, failed }
            }
            Move::Close => PurseEvent::Closed,
        }])
    }
}

/// Takes from one purse and gives to another, or gives back.
#[derive(Debug, Default)]
pub struct Transfer {
    from: String,
    to: String,
    amount: u64,
}

impl Process for Transfer {
    const NAME: &'static str = "transfer";
    type Event = PurseEvent;

    fn targets() -> Targets {
        Targets::of::<Purse>()
    }

    fn correlate(event: &Recorded<PurseEvent>) -> Correlation {
        match &event.event {
            PurseEvent::TransferAsked { transfer, .. } => Correlation::starts(transfer),
            PurseEvent::Withdrawn { transfer, .. }
            | PurseEvent::Deposited { transfer, .. }
            | PurseEvent::PaidBack { transfer, .. } => Correlation::continues(transfer),
            PurseEvent::TransferEnded { transfer, .. } => Correlation::ends(transfer),
            PurseEvent::Filled { .. } | PurseEvent::Closed => Correlation::ignores(),
        }
    }

    fn apply(&mut self, trigger: &Trigger<PurseEvent>, context: &Context) {
        if let Trigger::Event(PurseEvent::TransferAsked { to, amount, .. }) = trigger {
            (self.from, self.to, self.amount) = (context.stream_id.clone(), to.clone(), *amount);
        }
    }

    fn react(&self, trigger: &Trigger<PurseEvent>, context: &Context) -> Reaction {
        let (transfer, amount) = (context.key.clone(), self.amount);
        let end =
            |failed: Option<String>| Move::EndTransfer { transfer: context.key.clone(), failed };
        match trigger {
            Trigger::Event(PurseEvent::TransferAsked { .. }) => Reaction::none()
                .command::<Purse>(&self.from, Move::Withdraw { transfer, amount })
                .timer("slow", Duration::from_secs(60)),
            Trigger::Event(PurseEvent::Withdrawn { .. }) => {
                Reaction::none().command::<Purse>(&self.to, Move::Deposit { transfer, amount })
            }
            Trigger::Event(PurseEvent::Deposited { .. }) => {
                Reaction::none().command::<Purse>(&self.from, end(None))
            }
            Trigger::Event(PurseEvent::PaidBack { .. }) => {
                Reaction::none().command::<Purse>(&self.from, end(Some("paid back".to_owned())))
            }
            Trigger::Refused(refused) => match refused.command::<Purse>() {
                Some(Move::Deposit { .. }) => Reaction::none()
                    .command::<Purse>(&self.from, Move::PayBack { transfer, amount }),
                _ => Reaction::none()
                    .command::<Purse>(&self.from, end(Some(refused.reason().to_owned()))),
            },
            Trigger::TimerFired { .. } | Trigger::Event(_) => Reaction::none(),
        }
    }
}
