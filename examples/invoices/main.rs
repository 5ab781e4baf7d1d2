//! Invoices are initiated, issued and sent; what is recorded of them changed its shape twice, and
//! before there were events there was a table. The pattern is upcasting on read, one step for each
//! change; a row is a command that is its own id, so that the table can be brought in again and
//! again; and a copy of the whole store in today's shape, verified, while the old one serves. Leave
//! the copy where nothing but tidiness asks for it: old shapes are read as well as new ones,
//! forever.

mod table;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use leftfold::copy::{Copy, in_todays_shape};
use leftfold::prelude::*;
use leftfold::store::Read;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use table::{Row, take_over};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Money {
    cents: u64,
    currency: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum InvoiceEvent {
    Initiated { customer: String, amount: Money },
    Issued { on: String },
    Sent { on: String },
}

// ANCHOR: upcasters
impl Event for InvoiceEvent {
    const NAMESPACE: &'static str = "invoice";

    /// One step for each change, the oldest first. They are never touched again.
    fn upcasters() -> Upcasters {
        Upcasters::none().change("invoice.Initiated", 1, total_to_cents).change(
            "invoice.Initiated",
            2,
            cents_to_amount,
        )
    }
}

/// At first a total was a floating-point number of euros.
fn total_to_cents(old: Value) -> Result<Value, String> {
    let total = old["total"].as_f64().ok_or("there is no total")?;
    let cents = (total * 100.0).round();
    if !(0.0..1e15).contains(&cents) {
        return Err(format!("{total} is no total of an invoice"));
    }
    Ok(json!({ "customer": old["customer"], "cents": cents as u64 }))
}

/// Then there were other currencies than the euro.
fn cents_to_amount(old: Value) -> Result<Value, String> {
    Ok(
        json!({ "customer": old["customer"], "amount": { "cents": old["cents"], "currency": "EUR" } }),
    )
}
// ANCHOR_END: upcasters

/// Events and commands of the programs of earlier years.
mod earlier {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum First {
        Initiated { customer: String, total: f64 },
        Issued { on: String },
        Sent { on: String },
    }

    impl Event for First {
        const NAMESPACE: &'static str = "invoice";
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum Second {
        Initiated { customer: String, cents: u64 },
        Issued { on: String },
    }

    impl Event for Second {
        const NAMESPACE: &'static str = "invoice";

        fn upcasters() -> Upcasters {
            Upcasters::none().change("invoice.Initiated", 1, total_to_cents)
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Work {
    Initiate {
        customer: String,
        amount: Money,
    },
    Issue {
        on: String,
    },
    Send {
        on: String,
    },
    /// Takes over what the old table says of the invoice.
    TakeOver(Row),
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
enum InvoiceRefusal {
    #[error("there is such an invoice already")]
    Known,
    #[error("there is no such invoice")]
    Unknown,
    #[error("it was not issued")]
    NotIssued,
    #[error("it was issued already")]
    IssuedAlready,
    #[error("it was sent already")]
    SentAlready,
    #[error("the table has another {what} than the events: somebody has to look")]
    Differs { what: &'static str },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Invoice {
    initiated: Option<(String, Money)>,
    issued: Option<String>,
    sent: Option<String>,
}

impl Aggregate for Invoice {
    const CATEGORY: &'static str = "invoice";
    type Event = InvoiceEvent;
    type Command = Work;
    type Refusal = InvoiceRefusal;

    fn apply(&mut self, event: &InvoiceEvent) {
        match event.clone() {
            InvoiceEvent::Initiated { customer, amount } => {
                self.initiated = Some((customer, amount))
            }
            InvoiceEvent::Issued { on } => self.issued = Some(on),
            InvoiceEvent::Sent { on } => self.sent = Some(on),
        }
    }

    fn decide(&self, work: &Work) -> Result<Vec<InvoiceEvent>, InvoiceRefusal> {
        let event = match work.clone() {
            Work::Initiate { .. } if self.initiated.is_some() => return Err(InvoiceRefusal::Known),
            Work::Initiate { customer, amount } => InvoiceEvent::Initiated { customer, amount },
            Work::Issue { .. } | Work::Send { .. } if self.initiated.is_none() => {
                return Err(InvoiceRefusal::Unknown);
            }
            Work::Issue { .. } if self.issued.is_some() => {
                return Err(InvoiceRefusal::IssuedAlready);
            }
            Work::Issue { on } => InvoiceEvent::Issued { on },
            Work::Send { .. } if self.issued.is_none() => return Err(InvoiceRefusal::NotIssued),
            Work::Send { .. } if self.sent.is_some() => return Err(InvoiceRefusal::SentAlready),
            Work::Send { on } => InvoiceEvent::Sent { on },
            Work::TakeOver(row) => return self.take_over(row),
        };
        Ok(vec![event])
    }
}

impl Invoice {
    /// Returns what the row says and the events do not say yet: all of it at first, what is new
    /// when the row has changed, and nothing if the events know more.
    fn take_over(&self, row: Row) -> Result<Vec<InvoiceEvent>, InvoiceRefusal> {
        let mut events = Vec::new();
        match &self.initiated {
            None => {
                events.push(InvoiceEvent::Initiated { customer: row.customer, amount: row.amount })
            }
            Some((customer, _)) if *customer != row.customer => {
                return Err(InvoiceRefusal::Differs { what: "customer" });
            }
            Some((_, amount)) if *amount != row.amount => {
                return Err(InvoiceRefusal::Differs { what: "amount" });
            }
            Some(_) => {}
        }
        match (row.issued, &self.issued) {
            (Some(on), None) => events.push(InvoiceEvent::Issued { on }),
            (Some(on), Some(known)) if on != *known => {
                return Err(InvoiceRefusal::Differs { what: "date of issue" });
            }
            (None, None) if row.sent.is_some() => return Err(InvoiceRefusal::NotIssued),
            _ => {}
        }
        match (row.sent, &self.sent) {
            (Some(on), None) => events.push(InvoiceEvent::Sent { on }),
            (Some(on), Some(known)) if on != *known => {
                return Err(InvoiceRefusal::Differs { what: "date of sending" });
            }
            _ => {}
        }
        Ok(events)
    }
}

impl fmt::Display for Invoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((customer, Money { cents, currency })) = &self.initiated else {
            return f.write_str("unknown");
        };
        write!(f, "{customer}, {}.{:02} {currency}", cents / 100, cents % 100)?;
        self.issued.iter().try_for_each(|on| write!(f, ", issued on {on}"))?;
        self.sent.iter().try_for_each(|on| write!(f, ", sent on {on}"))
    }
}

const TABLE: &str = "\
number,customer,total,currency,issued,sent
2019-1,Ada,12.50,EUR,2019-03-01,2019-03-02
2019-2,Grace,80.00,GBP,2019-03-05,
2019-3,Edsger,7.3,EUR,,
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;

    println!("a table is brought in, and again when the old program has gone on with it:");
    println!("    {}", take_over(&store, TABLE).await?);
    let later = TABLE
        .replace("2019-03-05,", "2019-03-05,2019-03-09")
        .replace("7.3,", "7.30,")
        .replace("12.50", "13.50");
    println!("    {}", take_over(&store, &later).await?);

    let first =
        |customer: &str, total| earlier::First::Initiated { customer: customer.into(), total };
    let (issued, sent) = ("2020-01-02".to_owned(), "2020-01-03".to_owned());
    let history = [
        first("Alan", 0.29),
        earlier::First::Issued { on: issued },
        earlier::First::Sent { on: sent },
    ];
    let store = by_an_earlier_program(store, place.path(), "2020-1", &history).await?;
    let second = earlier::Second::Initiated { customer: "Barbara".into(), cents: 1_999 };
    let history = [second, earlier::Second::Issued { on: "2023-05-06".into() }];
    let store = by_an_earlier_program(store, place.path(), "2023-1", &history).await?;

    let invoices = store.aggregate::<Invoice>();
    let amount = Money { cents: 500, currency: "SEK".into() };
    invoices.execute("2024-1", Work::Initiate { customer: "Carol".into(), amount }).await?;
    invoices.execute("2024-1", Work::Issue { on: "2024-01-01".into() }).await?;

    println!("old shapes are read as today's:");
    for number in ["2020-1", "2023-1", "2024-1"] {
        println!("    {number}: {}", invoices.load(number).await?.state);
    }
    println!("    they are stored as versions {}", schema_versions(&store).await?);

    // ANCHOR: copying
    let new = leftfold::open(&format!("{}-today", place.path())).await?;
    let copy = Copy::from(&store).into(&new).through(in_todays_shape::<InvoiceEvent>);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let following = tokio::spawn({
        let copy = copy.clone();
        async move { copy.follow(async { _ = stopped.await }).await }
    });
    println!("while the store is copied it serves: Barbara's invoice is sent");
    invoices.execute("2023-1", Work::Send { on: "2024-01-02".into() }).await?;
    // Nobody writes the old store any more: here that is just this program. What is left is copied,
    // and the new one serves.
    _ = stop.send(());
    following.await??;
    copy.switch().await?;
    let report = copy.verify().await?;
    println!(
        "    verified: {}, {} events of {}",
        report.is_sound(),
        report.new_events,
        report.old_events
    );
    // ANCHOR_END: copying
    store.close().await?;

    println!("the new store has versions {}, and the same invoices:", schema_versions(&new).await?);
    println!("    2023-1: {}", new.aggregate::<Invoice>().load("2023-1").await?.state);
    println!("    the table, brought in once more: {}", take_over(&new, &later).await?);
    new.close().await?;
    Ok(())
}

/// Records what another program recorded before this one: two that write the same type in different
/// shapes are not used with one store at the same time.
async fn by_an_earlier_program<E: Event>(
    store: Store,
    path: &str,
    id: &str,
    events: &[E],
) -> Result<Store, Box<dyn Error>> {
    store.close().await?;
    let earlier = leftfold::open(path).await?;
    earlier.facts(Invoice::CATEGORY, id, events).record().await?;
    earlier.close().await?;
    Ok(leftfold::open(path).await?)
}

/// In which versions of the schema invoices are stored that were initiated.
async fn schema_versions(store: &Store) -> Result<String, Box<dyn Error>> {
    let mut versions = BTreeMap::<u32, usize>::new();
    let mut events =
        store.read(Read::matching(Query::category(Invoice::CATEGORY), Position::START));
    while let Some(event) = events.next().await? {
        if &*event.event_type == "invoice.Initiated" {
            *versions.entry(event.schema_version).or_default() += 1;
        }
    }
    let versions: Vec<String> =
        versions.iter().map(|(version, count)| format!("{version} ({count} times)")).collect();
    Ok(versions.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TakenOver;
    use InvoiceEvent::*;
    use leftfold::store::MemoryBackend;
    use leftfold::testing::given;
    use std::sync::Arc;

    fn euros(cents: u64) -> Money {
        Money { cents, currency: "EUR".into() }
    }

    fn initiated(customer: &str, cents: u64) -> InvoiceEvent {
        Initiated { customer: customer.into(), amount: euros(cents) }
    }

    fn row(line: &str) -> Work {
        Work::TakeOver(Row::parse(line).unwrap())
    }

    #[test]
    fn an_invoice_is_initiated_issued_and_sent_in_this_order_and_once() {
        let (issue, send) =
            (|| Work::Issue { on: "2024-01-01".into() }, || Work::Send { on: "2024-01-02".into() });
        let (issued, sent) = (Issued { on: "2024-01-01".into() }, Sent { on: "2024-01-02".into() });
        given::<Invoice>([]).when(issue()).then_refused(InvoiceRefusal::Unknown);
        let history = [initiated("Ada", 1), issued.clone(), sent.clone()];
        given::<Invoice>(history[..1].to_vec())
            .when(send())
            .then_refused(InvoiceRefusal::NotIssued);
        given::<Invoice>(history[..1].to_vec()).when(issue()).then([issued]);
        given::<Invoice>(history[..2].to_vec())
            .when(issue())
            .then_refused(InvoiceRefusal::IssuedAlready);
        given::<Invoice>(history[..2].to_vec()).when(send()).then([sent]);
        given::<Invoice>(history).when(send()).then_refused(InvoiceRefusal::SentAlready);
    }

    fn first() -> [earlier::First; 2] {
        let initiated = earlier::First::Initiated { customer: "Alan".into(), total: 0.29 };
        [initiated, earlier::First::Issued { on: "2020-01-02".into() }]
    }

    fn second() -> [earlier::Second; 1] {
        [earlier::Second::Initiated { customer: "Barbara".into(), cents: 1_999 }]
    }

    /// Stores as three generations of the program left them: one in memory, and an embedded log.
    async fn three_generations() -> [Store; 2] {
        let memory = Arc::new(MemoryBackend::new());
        let program = || Store::shared(memory.clone());
        program().facts("invoice", "1", &first()).record().await.unwrap();
        program().facts("invoice", "2", &second()).record().await.unwrap();

        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("store").to_str().unwrap().to_owned();
        let log = leftfold::open(&path).await.unwrap();
        let log = by_an_earlier_program(log, &path, "1", &first()).await.unwrap();
        let log = by_an_earlier_program(log, &path, "2", &second()).await.unwrap();
        log.attached(|| place);

        let stores = [program(), log];
        for store in &stores {
            let initiate = Work::Initiate {
                customer: "Carol".into(),
                amount: Money { cents: 5, currency: "GBP".into() },
            };
            store.aggregate::<Invoice>().execute("3", initiate).await.unwrap();
        }
        stores
    }

    async fn invoices(store: &Store) -> Vec<Invoice> {
        let mut invoices = Vec::new();
        for number in ["1", "2", "3"] {
            invoices.push(store.aggregate::<Invoice>().load(number).await.unwrap().state);
        }
        invoices
    }

    #[tokio::test]
    async fn both_old_shapes_are_read_as_todays() {
        for store in three_generations().await {
            let invoices = invoices(&store).await;
            assert_eq!(invoices[0].initiated, Some(("Alan".into(), euros(29))));
            assert_eq!(invoices[1].initiated, Some(("Barbara".into(), euros(1_999))));
            assert_eq!(
                invoices[2].initiated,
                Some(("Carol".into(), Money { cents: 5, currency: "GBP".into() }))
            );
            assert_eq!(invoices[0].issued.as_deref(), Some("2020-01-02"));
        }
    }

    #[tokio::test]
    async fn an_old_event_that_makes_no_sense_is_an_error_that_names_it() {
        let memory = Arc::new(MemoryBackend::new());
        let program = || Store::shared(memory.clone());
        let impossible = earlier::First::Initiated { customer: "Alan".into(), total: -1.0 };
        program().facts("invoice", "1", &[impossible]).record().await.unwrap();
        let error = program().aggregate::<Invoice>().load("1").await.unwrap_err().to_string();
        assert!(error.contains("position 1") && error.contains("-1 is no total"), "{error}");
    }

    // ANCHOR: copy
    #[tokio::test]
    async fn the_copy_has_todays_shape_only_and_says_the_same_while_the_old_store_serves() {
        for old in three_generations().await {
            let [_, new] = examples::stores().await;
            let copy = Copy::from(&old).into(&new).through(in_todays_shape::<InvoiceEvent>);
            copy.run_until_caught_up().await.unwrap();
            old.aggregate::<Invoice>()
                .execute("3", Work::Issue { on: "2024-01-01".into() })
                .await
                .unwrap();
            copy.switch().await.unwrap();
            assert!(copy.verify().await.unwrap().is_sound());
            assert_eq!(invoices(&new).await, invoices(&old).await);
            assert_eq!(
                schema_versions(&old).await.unwrap(),
                "1 (1 times), 2 (1 times), 3 (1 times)"
            );
            assert_eq!(schema_versions(&new).await.unwrap(), "3 (3 times)");
        }
    }
    // ANCHOR_END: copy

    #[tokio::test]
    async fn a_table_that_is_brought_in_again_doubles_nothing_wherever_it_stopped() {
        for store in examples::stores().await {
            // It stopped after the first row.
            let half: String = TABLE.lines().take(2).map(|line| format!("{line}\n")).collect();
            assert_eq!(
                take_over(&store, &half).await.unwrap(),
                TakenOver { rows: 1, events: 3, ..TakenOver::default() }
            );
            let left = BTreeMap::from([(4, "\"7.3\" is no total, write it as 12.50".to_owned())]);
            let rest = TakenOver { rows: 1, events: 2, known: 1, left: left.clone() };
            assert_eq!(take_over(&store, TABLE).await.unwrap(), rest);
            let head = store.head();
            assert_eq!(
                take_over(&store, TABLE).await.unwrap(),
                TakenOver { known: 2, left, ..TakenOver::default() }
            );
            assert_eq!(store.head(), head);
            let grace = store.aggregate::<Invoice>().load("2019-2").await.unwrap().state;
            assert_eq!(
                grace.initiated,
                Some(("Grace".into(), Money { cents: 8_000, currency: "GBP".into() }))
            );
            assert_eq!((grace.issued.as_deref(), grace.sent), (Some("2019-03-05"), None));
        }
    }

    #[tokio::test]
    async fn what_the_copy_took_over_is_not_brought_in_twice() {
        let [old, new] = examples::stores().await;
        take_over(&old, TABLE).await.unwrap();
        Copy::from(&old)
            .into(&new)
            .through(in_todays_shape::<InvoiceEvent>)
            .switch()
            .await
            .unwrap();
        let taken = take_over(&new, TABLE).await.unwrap();
        assert_eq!((taken.rows, taken.known), (0, 2));
    }

    #[test]
    fn a_row_that_changed_brings_only_what_is_new_and_one_that_contradicts_is_left_to_a_person() {
        let known = [initiated("Ada", 1_250), Issued { on: "2019-03-01".into() }];
        let sent = Sent { on: "2019-03-02".into() };
        given::<Invoice>(known.clone())
            .when(row("1,Ada,12.50,EUR,2019-03-01,2019-03-02"))
            .then([sent]);
        given::<Invoice>(known.clone()).when(row("1,Ada,12.50,EUR,,")).then_nothing();
        let differs = |what| InvoiceRefusal::Differs { what };
        given::<Invoice>(known.clone())
            .when(row("1,Ada,13.50,EUR,2019-03-01,"))
            .then_refused(differs("amount"));
        given::<Invoice>(known.clone())
            .when(row("1,Bea,12.50,EUR,2019-03-01,"))
            .then_refused(differs("customer"));
        given::<Invoice>(known)
            .when(row("1,Ada,12.50,EUR,2019-03-02,"))
            .then_refused(differs("date of issue"));
        given::<Invoice>([])
            .when(row("1,Ada,12.50,EUR,,2019-03-02"))
            .then_refused(InvoiceRefusal::NotIssued);
    }
}
