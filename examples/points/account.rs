//! The smallest version: a bank account. Deposits and withdrawals are commands of one account. A
//! transfer is one decision over two accounts and one append: while both are in one store, there is
//! no moment in which money is on its way.

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum AccountEvent {
    Deposited { account: String, cents: u64 },
    Withdrawn { account: String, cents: u64 },
}

impl Event for AccountEvent {
    const NAMESPACE: &'static str = "account";

    fn tags(&self) -> Tags {
        let (AccountEvent::Deposited { account, .. } | AccountEvent::Withdrawn { account, .. }) =
            self;
        Tags::none().with(tag(account))
    }
}

fn tag(account: &str) -> String {
    format!("account:{account}")
}

#[derive(Clone, Debug)]
pub(crate) enum Banking {
    Deposit { account: String, cents: u64 },
    Withdraw { account: String, cents: u64 },
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{wanted} cents wanted, {there} there")]
pub(crate) struct TooLittle {
    pub(crate) wanted: u64,
    pub(crate) there: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) cents: u64,
}

impl Account {
    fn must_have(&self, wanted: u64) -> Result<(), TooLittle> {
        if wanted > self.cents { Err(TooLittle { wanted, there: self.cents }) } else { Ok(()) }
    }
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Event = AccountEvent;
    type Command = Banking;
    type Refusal = TooLittle;

    fn apply(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Deposited { cents, .. } => self.cents += cents,
            AccountEvent::Withdrawn { cents, .. } => self.cents -= cents,
        }
    }

    fn decide(&self, command: &Banking) -> Result<Vec<AccountEvent>, TooLittle> {
        Ok(vec![match command.clone() {
            Banking::Deposit { account, cents } => AccountEvent::Deposited { account, cents },
            Banking::Withdraw { account, cents } => {
                self.must_have(cents)?;
                AccountEvent::Withdrawn { account, cents }
            }
        }])
    }
}

// ANCHOR: transfer
/// From one account to another, in one append.
pub(crate) struct Transfer {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) cents: u64,
}

impl Decision for Transfer {
    type Event = AccountEvent;
    type State = Account;
    type Refusal = TooLittle;

    /// Only who pays is asked: a deposit that races with it is no conflict.
    fn query(&self) -> Query {
        Query::tag(tag(&self.from))
    }

    fn apply(&self, payer: &mut Account, event: &AccountEvent) {
        payer.apply(event);
    }

    fn decide(&self, payer: &Account) -> Result<Decided<AccountEvent>, TooLittle> {
        payer.must_have(self.cents)?;
        let Transfer { from, to, cents } = self;
        let withdrawn = AccountEvent::Withdrawn { account: from.clone(), cents: *cents };
        let deposited = AccountEvent::Deposited { account: to.clone(), cents: *cents };
        Ok(Decided::of::<Account>(from, withdrawn).and(format!("account-{to}"), deposited))
    }
}
// ANCHOR_END: transfer

pub(crate) fn transfer(from: &str, to: &str, cents: u64) -> Transfer {
    Transfer { from: from.into(), to: to.into(), cents }
}

pub(crate) fn deposit(account: &str, cents: u64) -> Banking {
    Banking::Deposit { account: account.into(), cents }
}

pub(crate) fn withdraw(account: &str, cents: u64) -> Banking {
    Banking::Withdraw { account: account.into(), cents }
}
