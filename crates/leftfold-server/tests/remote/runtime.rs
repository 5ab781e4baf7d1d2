//! The runtime over a store that a server keeps: two programs share the work of a process, over
//! connections that are cut.

use leftfold::prelude::*;
use leftfold::testing::seed;
use leftfold_proving::CuttingProxy;
use serde::{Deserialize, Serialize};

use crate::support::{RunningServer, open_at};

const ORDERS: usize = 40;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum OrderEvent {
    Placed { cents: u64 },
}

impl Event for OrderEvent {
    const NAMESPACE: &'static str = "order";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum InvoiceEvent {
    Issued { cents: u64 },
}

impl Event for InvoiceEvent {
    const NAMESPACE: &'static str = "invoice";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Order {
    cents: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Invoice {
    cents: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cents(u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("there is nothing to refuse")]
struct Never;

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    type Command = Cents;
    type Refusal = Never;

    fn apply(&mut self, event: &OrderEvent) {
        let OrderEvent::Placed { cents } = event;
        self.cents += cents;
    }

    fn decide(&self, command: &Cents) -> Result<Vec<OrderEvent>, Never> {
        Ok(vec![OrderEvent::Placed { cents: command.0 }])
    }
}

/// It would take every command twice: what comes once is not its doing.
impl Aggregate for Invoice {
    const CATEGORY: &'static str = "invoice";
    type Event = InvoiceEvent;
    type Command = Cents;
    type Refusal = Never;

    fn apply(&mut self, event: &InvoiceEvent) {
        let InvoiceEvent::Issued { cents } = event;
        self.cents.push(*cents);
    }

    fn decide(&self, command: &Cents) -> Result<Vec<InvoiceEvent>, Never> {
        Ok(vec![InvoiceEvent::Issued { cents: command.0 }])
    }
}

/// Issues an invoice for each order.
#[derive(Debug, Default)]
struct Billing;

impl Process for Billing {
    const NAME: &'static str = "billing";
    type Event = OrderEvent;

    fn targets() -> Targets {
        Targets::of::<Invoice>()
    }

    fn correlate(event: &Recorded<OrderEvent>) -> Correlation {
        Correlation::starts(event.stream_id())
    }

    fn apply(&mut self, _: &Trigger<OrderEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<OrderEvent>, context: &Context) -> Reaction {
        match trigger {
            Trigger::Event(OrderEvent::Placed { cents }) => {
                Reaction::none().command::<Invoice>(&context.key, Cents(*cents))
            }
            Trigger::TimerFired { .. } | Trigger::Refused(_) => Reaction::none(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_programs_carry_out_each_command_of_a_process_once() {
    let server = RunningServer::of(Store::memory()).await;
    let proxy = CuttingProxy::before(server.port);
    let (one, other) = (open_at(proxy.port()).await, open_at(proxy.port()).await);
    proxy.cut_after(12..17, seed());
    let mut runtimes = Vec::new();
    for store in [&one, &other] {
        runtimes.push(Runtime::new(store).process::<Billing>().start().await.unwrap());
    }
    let orders = one.aggregate::<Order>();
    for number in 0..ORDERS {
        let placed = orders.command(&number.to_string(), Cents(number as u64));
        placed.id("test", &number.to_string()).request(b"place").execute().await.unwrap();
        if number % 10 == 0 {
            proxy.cut();
        }
    }
    let mut issued = other.follow::<InvoiceEvent>(Position::START).unwrap();
    for _ in 0..ORDERS {
        issued.find(|_| true).await.unwrap();
    }
    for runtime in runtimes {
        runtime.stop().await.unwrap();
    }
    for number in 0..ORDERS {
        let invoice = other.aggregate::<Invoice>().load(&number.to_string()).await.unwrap();
        assert_eq!(invoice.state.cents, [number as u64], "order {number}");
    }
    assert!(proxy.cuts() > 4, "{} cuts", proxy.cuts());
}
