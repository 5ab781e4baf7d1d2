//! Durable commands by cqrs-es over postgres-es: `bench-peers URL WRITERS SECONDS` prints how many
//! commands a second were answered.
//!
//! As its documentation has it: one pool of `default_postgress_pool`, the event store without
//! snapshots, the tables of its `init.sql`. Each run has accounts of its own, so that it loads
//! short streams.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use postgres_es::{PostgresCqrs, default_postgress_pool, postgres_cqrs};
use serde::{Deserialize, Serialize};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ACCOUNTS: u64 = 1_000;
const NOTE: &str = "Invoice 2024-1187, hosting and support, thank you for your order; this is due within fourteen days of it";
const TABLE: &str = "CREATE TABLE IF NOT EXISTS events (
    aggregate_type text NOT NULL,
    aggregate_id text NOT NULL,
    sequence bigint CHECK (sequence >= 0) NOT NULL,
    event_type text NOT NULL,
    event_version text NOT NULL,
    payload json NOT NULL,
    metadata json NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence))";

#[derive(Debug, Default, Serialize, Deserialize)]
struct PeerAccount {
    balance_cents: i64,
    bookings: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PeerBooking {
    customer: u64,
    amount_cents: i64,
    currency: String,
    reference: String,
    counterparty: String,
    note: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PeerEvent {
    Booked(PeerBooking),
}

#[derive(Debug, thiserror::Error)]
#[error("the account holds {0} cents, which is not enough")]
struct PeerRefusal(i64);

impl DomainEvent for PeerEvent {
    fn event_type(&self) -> String {
        "Booked".to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Aggregate for PeerAccount {
    const TYPE: &'static str = "account";
    type Command = PeerBooking;
    type Event = PeerEvent;
    type Error = PeerRefusal;
    type Services = ();

    async fn handle(
        &mut self,
        command: PeerBooking,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), PeerRefusal> {
        if self.balance_cents + command.amount_cents < 0 {
            return Err(PeerRefusal(self.balance_cents));
        }
        sink.write(PeerEvent::Booked(command), self).await;
        Ok(())
    }

    fn apply(&mut self, PeerEvent::Booked(booking): PeerEvent) {
        self.balance_cents += booking.amount_cents;
        self.bookings += 1;
    }
}

fn main() -> ExitCode {
    match start() {
        Ok(rate) => {
            println!("{rate}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Outcome<f64> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, writers, seconds] = &arguments[..] else {
        return Err("usage: bench-peers URL WRITERS SECONDS".into());
    };
    let span = Duration::try_from_secs_f64(seconds.parse()?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(rate(url, writers.parse()?, span))
}

async fn rate(url: &str, writers: usize, span: Duration) -> Outcome<f64> {
    let pool = default_postgress_pool(url).await;
    sqlx::query(TABLE).execute(&pool).await?;
    let cqrs: Arc<PostgresCqrs<PeerAccount>> = Arc::new(postgres_cqrs(pool, Vec::new(), ()));
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    let started = Instant::now();
    let write = |writer: usize| {
        let cqrs = Arc::clone(&cqrs);
        async move {
            let own: Vec<u64> = (writer as u64..ACCOUNTS).step_by(writers).collect();
            let mut count = 0_u64;
            while started.elapsed() < span {
                let account = own[count as usize % own.len()];
                let command = book(1_000 + account, count);
                cqrs.execute(&format!("{run}-{account}"), command).await?;
                count += 1;
            }
            Outcome::Ok(count)
        }
    };
    let tasks: Vec<_> = (0..writers).map(|writer| tokio::spawn(write(writer))).collect();
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

fn book(customer: u64, serial: u64) -> PeerBooking {
    PeerBooking {
        customer,
        amount_cents: 10_000 + (serial % 90_000) as i64,
        currency: "EUR".to_owned(),
        reference: format!("{serial:032x}"),
        counterparty: "DE89370400440532013000".to_owned(),
        note: NOTE.to_owned(),
    }
}
