//! What is stored, and what is projected: payments into accounts, whose rows show any event that
//! was lost or doubled.

use std::collections::BTreeMap;
use std::future::Future;

use leftfold::fold::{Event, Recorded};
use leftfold::runtime::projection::{Projection, ProjectionError, Rows, Target};
use leftfold::store::{
    Append, EventType, NewEvent, Outcome, Position, Query, Read, Store, StreamName,
};
use serde::{Deserialize, Serialize};

/// Payments of one append.
const TOGETHER: u64 = 1_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum AccountEvent {
    Paid { amount: i64 },
}

impl Event for AccountEvent {
    const NAMESPACE: &'static str = "account";
}

/// Row of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) sum: i64,
    pub(crate) payments: i64,
}

pub(crate) type Balances = BTreeMap<String, Balance>;

/// A target, with rows for accounts.
pub(crate) trait Database: Target {
    fn set_up(rows: &mut Rows<Self>) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Adds to the row of an account. Doing it twice shows; a negative amount is refused by the
    /// database.
    fn add(
        rows: &mut Rows<Self>,
        account: &str,
        amount: i64,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Returns what readers see; nothing if no version serves.
    fn balances(&self, name: &str) -> impl Future<Output = Balances> + Send;
}

/// The projection: in a version of its own, and with as many lanes as the target can.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Payments<const VERSION: u32 = 1>;

impl<T: Database, const VERSION: u32> Projection<T> for Payments<VERSION> {
    const NAME: &'static str = "payments";
    const VERSION: u32 = VERSION;
    const LANES: usize = 4;
    type Event = AccountEvent;

    async fn set_up(&self, rows: &mut Rows<T>) -> Result<(), ProjectionError> {
        T::set_up(rows).await
    }

    async fn apply(
        &self,
        rows: &mut Rows<T>,
        event: &Recorded<AccountEvent>,
    ) -> Result<(), ProjectionError> {
        let AccountEvent::Paid { amount } = event.event;
        T::add(rows, &account_of(event.envelope.stream.as_ref().map(|at| &at.name)), amount).await
    }
}

fn account_of(stream: Option<&StreamName>) -> String {
    stream
        .and_then(|name| name.as_str().split_once('-'))
        .map_or("?", |(_, account)| account)
        .to_owned()
}

/// Appends payments, of amounts and into accounts that follow from a seed.
pub(crate) async fn pay(store: &Store, payments: u64, random: &mut fastrand::Rng) {
    for first in (0..payments).step_by(TOGETHER as usize) {
        let together = (first..payments.min(first + TOGETHER))
            .map(|_| payment(random.u32(..500), random.i64(1..1_000)));
        append(store, together.collect()).await;
    }
}

/// Appends one payment.
pub(crate) async fn pay_one(store: &Store, account: u32, amount: i64) -> Position {
    append(store, vec![payment(account, amount)]).await
}

async fn append(store: &Store, events: Vec<NewEvent>) -> Position {
    let Outcome::Appended(appended) = store.append(Append::of(events)).await.unwrap() else {
        panic!("nothing is conditional")
    };
    appended.last()
}

fn payment(account: u32, amount: i64) -> NewEvent {
    let event =
        NewEvent::new(EventType::new("account.Paid").unwrap(), format!("{{\"amount\":{amount}}}"));
    event.in_stream(StreamName::new(format!("account-{account}")).unwrap())
}

/// Returns the rows as they must be: the fold of the log, without what cannot be applied.
pub(crate) async fn fold(store: &Store) -> Balances {
    let mut balances = Balances::new();
    for event in store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap() {
        let Amount { amount } = serde_json::from_slice(&event.data).unwrap();
        if amount >= 0 {
            let balance =
                balances.entry(account_of(event.stream.as_ref().map(|at| &at.name))).or_default();
            balance.sum += amount;
            balance.payments += 1;
        }
    }
    balances
}

#[derive(Deserialize)]
struct Amount {
    amount: i64,
}
