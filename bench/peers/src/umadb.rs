//! The client of UmaDB, as it is published, against a server at a URL: how often a second it does
//! something. `bench` runs this program against UmaDB and against a server of Leftfold.
//!
//! `bench-umadb URL JOB NUMBER SECONDS`; the number is that of clients, each with a connection of
//! its own, or for `fill` that of events.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use umadb_client::AsyncUmaDbClient;
use umadb_dcb::{DcbAppendCondition, DcbEvent, DcbEventStoreAsync, DcbQuery, DcbQueryItem};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Events of an append of many.
const BATCH_EVENTS: usize = 100;
/// Events with the rare tag, in a store that was filled.
const RARE_EVENTS: usize = 1_000;
/// Accounts that the events are about; each is that of one client of 1, 16 or 256.
const ACCOUNTS: usize = 10_240;
/// Data of an event, with its number at the end.
const NOTE: &str = "a booking of an account, in the order in which the bank has received it: ";

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
    let [url, job, number, seconds] = &arguments[..] else {
        return Err("usage: bench-umadb URL JOB NUMBER SECONDS".into());
    };
    let span = Duration::try_from_secs_f64(seconds.parse()?)?;
    let number = number.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match Job::named(job) {
            Some(job) => rate(url, job, number, span).await,
            None if job == "fill" => fill(url, number).await,
            None => Err(format!("there is no job {job}").into()),
        }
    })
}

/// Something that each client does over and over.
#[derive(Clone, Copy)]
enum Job {
    /// Appends one event.
    Append,
    /// Appends one event, if there is none about its account that it does not know.
    Condition,
    /// Appends a hundred events.
    Batch,
    /// Reads every event.
    All,
    /// Reads the events with the rare tag.
    Rare,
    /// Reads the events of a type that none has.
    Nothing,
}

impl Job {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "append" => Self::Append,
            "condition" => Self::Condition,
            "batch" => Self::Batch,
            "all" => Self::All,
            "rare" => Self::Rare,
            "nothing" => Self::Nothing,
            _ => return None,
        })
    }

    /// Does it once, and returns the number of appends, events or reads that it was.
    async fn once(self, client: &AsyncUmaDbClient, number: usize, known: &mut u64) -> Outcome<u64> {
        match self {
            Self::Append => client.append(vec![event(number)], None, None).await.map(|_| 1),
            Self::Condition => {
                let query = tagged(&account(number));
                let after = (*known > 0).then_some(*known);
                let condition = DcbAppendCondition { fail_if_events_match: query, after };
                *known = client.append(vec![event(number)], Some(condition), None).await?;
                Ok(1)
            }
            Self::Batch => {
                let events = (number..number + BATCH_EVENTS).map(event).collect();
                client.append(events, None, None).await.map(|_| BATCH_EVENTS as u64)
            }
            Self::All => count(client, None).await,
            Self::Rare => match count(client, Some(tagged("rare"))).await? {
                found if found == RARE_EVENTS as u64 => Ok(1),
                found => return Err(format!("{found} events have the rare tag").into()),
            },
            Self::Nothing => {
                let query = DcbQuery::new().item(DcbQueryItem::new().types(["Nothing"]));
                match count(client, Some(query)).await? {
                    0 => Ok(1),
                    found => return Err(format!("{found} events have no type").into()),
                }
            }
        }
        .map_err(Into::into)
    }
}

async fn rate(url: &str, job: Job, clients: usize, span: Duration) -> Outcome<f64> {
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(connect(url).await?);
    }
    // Every account is one client's, so no condition is in the way of another.
    let known = Arc::new(connected[0].head().await?.unwrap_or(0));
    let started = Instant::now();
    let work = |(client, own): (AsyncUmaDbClient, usize)| {
        let known = Arc::clone(&known);
        async move {
            let (mut count, mut number, mut known) = (0, own, *known);
            while started.elapsed() < span {
                count += job.once(&client, number, &mut known).await?;
                number += clients;
            }
            Outcome::Ok(count)
        }
    };
    let with_numbers = connected.into_iter().zip(0..);
    let tasks: Vec<_> = with_numbers.map(|client| tokio::spawn(work(client))).collect();
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Appends events until there is this number; some have the rare tag, evenly spread.
async fn fill(url: &str, events: usize) -> Outcome<f64> {
    let client = connect(url).await?;
    let started = Instant::now();
    let every = (events / RARE_EVENTS).max(1);
    let numbers: Vec<usize> = (0..events).collect();
    for numbers in numbers.chunks(10 * BATCH_EVENTS) {
        let events = numbers.iter().map(|&number| {
            let mut event = event(number);
            if number % every == 0 && number / every < RARE_EVENTS {
                event.tags.push("rare".to_owned());
            }
            event
        });
        client.append(events.collect(), None, None).await?;
    }
    Ok(events as f64 / started.elapsed().as_secs_f64())
}

async fn connect(url: &str) -> Outcome<AsyncUmaDbClient> {
    Ok(AsyncUmaDbClient::connect(url.to_owned(), None, None, None).await?)
}

async fn count(
    client: &AsyncUmaDbClient,
    query: Option<DcbQuery>,
) -> Result<u64, umadb_dcb::DcbError> {
    let mut answer = client.read(query, None, false, None).await?;
    let mut count = 0;
    loop {
        let batch = answer.next_batch().await?;
        if batch.is_empty() {
            return Ok(count);
        }
        count += batch.len() as u64;
    }
}

fn account(number: usize) -> String {
    format!("account:{}", number % ACCOUNTS)
}

fn tagged(tag: &str) -> DcbQuery {
    DcbQuery::new().item(DcbQueryItem::new().tags([tag]))
}

fn event(number: usize) -> DcbEvent {
    DcbEvent {
        event_type: "bank.Booked".to_owned(),
        tags: vec![account(number)],
        data: format!("{NOTE}{number}").into_bytes(),
        uuid: None,
        metadata: Vec::new(),
    }
}
