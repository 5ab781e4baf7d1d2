//! A cash machine: a withdrawal that is asked for again is not another withdrawal.

use leftfold_core::fold::{Aggregate, Event};
use leftfold_testing::explorer::{Client, Explorer, Schedules};
use serde::{Deserialize, Serialize};

use crate::{MANY, is_found};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum AccountEvent {
    Opened { balance: u64 },
    Withdrawn { amount: u64 },
}

impl Event for AccountEvent {
    const NAMESPACE: &'static str = "account";
}

#[derive(Clone, Debug)]
struct Withdraw {
    amount: u64,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("only {balance} is there")]
struct TooLittle {
    balance: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Account {
    balance: u64,
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Event = AccountEvent;
    type Command = Withdraw;
    type Refusal = TooLittle;

    fn apply(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Opened { balance } => self.balance = *balance,
            // No withdrawal was decided that takes what is not there.
            AccountEvent::Withdrawn { amount } => {
                self.balance = self.balance.checked_sub(*amount).expect("it is there")
            }
        }
    }

    fn decide(&self, &Withdraw { amount }: &Withdraw) -> Result<Vec<AccountEvent>, TooLittle> {
        if amount > self.balance {
            return Err(TooLittle { balance: self.balance });
        }
        Ok(vec![AccountEvent::Withdrawn { amount }])
    }
}

fn explorer(withdraw: fn(Client<'_>) -> Client<'_>) -> Explorer {
    Explorer::new()
        .seed(7)
        .applications(2)
        .aggregate::<Account>()
        .start(|clients| {
            clients.given::<Account>("1", [AccountEvent::Opened { balance: 100 }]);
            withdraw(clients.client("anna"));
            withdraw(clients.client("ben"));
        })
        .always("nobody withdraws twice", |world| {
            world.states::<Account>().all(|account| account.balance >= 60)
        })
        .finally("both have withdrawn", |world| {
            world.states::<Account>().all(|account| account.balance == 60)
        })
}

#[test]
fn a_withdrawal_with_a_command_id_happens_once_whatever_is_lost() {
    explorer(|client| client.command::<Account>("1", Withdraw { amount: 20 })).run(MANY);
}

#[test]
fn a_withdrawal_that_is_repeated_without_a_command_id_is_found() {
    let careless =
        explorer(|client| client.command_without_id::<Account>("1", Withdraw { amount: 20 }));
    let failure = careless.explore(Schedules(200)).unwrap_err();
    is_found(&failure, "nobody withdraws twice", 8);
}

#[test]
fn withdrawals_that_overwrite_each_other_are_found() {
    let race = || {
        let explorer =
            Explorer::new().seed(7).applications(2).aggregate::<Account>().start(|clients| {
                clients.given::<Account>("1", [AccountEvent::Opened { balance: 100 }]);
                clients.client("anna").command::<Account>("1", Withdraw { amount: 60 });
                clients.client("ben").command::<Account>("1", Withdraw { amount: 60 });
            });
        explorer.finally("one has withdrawn", |world| {
            world.states::<Account>().all(|account| account.balance == 40)
        })
    };
    race().run(MANY);
    let failure = race()
        .spoiling(|append| append.condition.streams.clear())
        .explore(Schedules(200))
        .unwrap_err();
    // The second withdrawal takes what is not there.
    is_found(&failure, "every event can be folded", 6);
}
