//! Millions of cards report what happens to them, and rules over the last minutes, hours or day of
//! each raise alerts; what a card did is known to its own rules alone, and after a crash every
//! alert is there, once. The pattern is a projection with windows as rows: an event, what it does
//! to the windows of its card, the alerts that follow and the checkpoint are one transaction, so
//! memory holds one card at a time and nothing is ever judged twice. Leave it where a rule waits
//! for something that does not happen: silence is no event, and needs a process with a timer.

mod alerts;
mod measure;
mod rules;

use std::error::Error;
use std::time::Duration;

use alerts::Alerts;
use leftfold::fold::Schema;
use leftfold::prelude::*;
use leftfold::sqlite::Sqlite;
use leftfold::store::Append;
use serde::{Deserialize, Serialize};

/// Event of a card, with the moment at which it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CardEvent {
    LoginFailed { at: Timestamp },
    Paid { at: Timestamp, cents: u32, country: String },
}

impl Event for CardEvent {
    const NAMESPACE: &'static str = "card";
}

/// Records what happened to cards: facts, on which nothing is decided.
pub(crate) async fn tell(
    store: &Store,
    events: &[(String, CardEvent)],
) -> Result<Position, Box<dyn Error>> {
    let schema = Schema::of::<CardEvent>()?;
    let mut new = Vec::with_capacity(events.len());
    for (card, event) in events {
        new.push(schema.encode(event)?.in_stream(StreamName::of("card", card)?));
    }
    store.append(Append::of(new)).await?;
    Ok(store.head().position)
}

/// Minutes after a day in the past.
fn minute(minutes: u64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000).plus(Duration::from_secs(60 * minutes))
}

fn failed(card: &str, minutes: u64) -> (String, CardEvent) {
    (card.to_owned(), CardEvent::LoginFailed { at: minute(minutes) })
}

fn paid(card: &str, minutes: u64, euros: u32, country: &str) -> (String, CardEvent) {
    (
        card.to_owned(),
        CardEvent::Paid { at: minute(minutes), cents: euros * 100, country: country.to_owned() },
    )
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, cards] = arguments.as_slice()
        && word == "measure"
    {
        return measure::measure(cards.parse()?).await;
    }
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let rows = Sqlite::at(format!("{}-rows", place.path()));
    let reader = rows.reader::<Alerts>();
    let running = Runtime::new(&store).project(Alerts, rows).start().await?;
    if let Some(load) = place.load() {
        work(&store, u64::from(load)).await?;
    } else {
        let story = [
            (
                "five logins of Ada fail within ten minutes, and a sixth",
                (0..6).map(|n| failed("ada", 2 * n)).collect(),
            ),
            ("five of Bea fail within an hour", (0..5).map(|n| failed("bea", 12 * n)).collect()),
            (
                "Cy pays 600 and, 23 hours later, 500",
                vec![paid("cy", 0, 600, "FR"), paid("cy", 1_380, 500, "FR")],
            ),
            (
                "Dee pays 600 and, 25 hours later, 500",
                vec![paid("dee", 0, 600, "FR"), paid("dee", 1_500, 500, "FR")],
            ),
            (
                "of Dee it is heard that she paid 500 in between, in Rome",
                vec![paid("dee", 1_470, 500, "IT")],
            ),
        ];
        let mut told = Position::START;
        for (what, events) in story {
            println!("{what}:");
            let head = tell(&store, &events).await?;
            running.projections().wait_until(Alerts::NAME, head, Duration::from_secs(10)).await?;
            for alert in alerts::after(&reader, told)? {
                println!("    alert for {}: {}", alert.card, alert.rule);
            }
            told = head;
        }
    }
    let head = store.head().position;
    running.projections().wait_until(Alerts::NAME, head, Duration::from_secs(60)).await?;
    running.projections().verify(Alerts::NAME).await?;
    println!("up to {head} each event was judged once");
    running.stop().await?;
    store.close().await?;
    Ok(())
}

/// Cards that share the load.
const CARDS: u64 = 40;
/// Events that are recorded together.
const TOGETHER: u64 = 25;

/// Much of the same, which can be killed and started again: it goes on where the log ends.
async fn work(store: &Store, events: u64) -> Result<(), Box<dyn Error>> {
    while store.head().position.0 < events {
        let first = store.head().position.0;
        let some: Vec<_> = (first..first + TOGETHER).map(drawn).collect();
        println!("recorded up to {}", tell(store, &some).await?);
    }
    Ok(())
}

/// The event at a place in the load: always the same there, a little late or much.
fn drawn(place: u64) -> (String, CardEvent) {
    let mut draw = fastrand::Rng::with_seed(place);
    let card = draw.u64(0..CARDS).to_string();
    let late = if draw.u8(..) < 10 { draw.u64(0..3_000) } else { draw.u64(0..20) };
    let minutes = (4_000 + place).saturating_sub(late);
    if draw.bool() {
        return failed(&card, minutes);
    }
    paid(&card, minutes, draw.u32(1..400), ["FR", "IT", "FR", "FR"][draw.usize(..4)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alerts::{Alert, entry};
    use leftfold::fold::Schema;
    use leftfold::runtime::RunningRuntime;
    use leftfold::runtime::projection::NotReached;
    use leftfold::sqlite::Reader;
    use leftfold::store::Read;
    use rules::{Entry, LATE_MAX, broken};
    use std::collections::HashMap;
    use std::path::PathBuf;
    use tempfile::TempDir;

    const LOAD: u32 = 4_000;

    async fn run(store: &Store, place: impl Into<PathBuf>) -> (RunningRuntime, Reader) {
        let rows = Sqlite::at(place.into());
        let reader = rows.reader::<Alerts>();
        let running = Runtime::new(store).project(Alerts, rows).start().await.unwrap();
        let head = store.head().position;
        match running.projections().wait_until(Alerts::NAME, head, Duration::from_secs(120)).await {
            Ok(_) | Err(NotReached::Parked { .. }) => {}
            Err(late) => panic!("{late}"),
        }
        (running, reader)
    }

    /// The rules that alert for events of one card, the same on every store.
    async fn alerted(events: &[(String, CardEvent)]) -> Vec<(u64, String)> {
        let mut answers = Vec::new();
        for store in examples::stores().await {
            let place = TempDir::new().unwrap();
            tell(&store, events).await.unwrap();
            let (running, reader) = run(&store, place.path()).await;
            running.stop().await.unwrap();
            let alerts = alerts::after(&reader, Position::START).unwrap();
            answers.push(
                alerts.into_iter().map(|alert| (alert.position.0, alert.rule)).collect::<Vec<_>>(),
            );
        }
        assert!(answers.windows(2).all(|two| two[0] == two[1]), "{answers:?}");
        answers.swap_remove(0)
    }

    #[tokio::test]
    async fn a_window_slides_and_a_rule_alerts_once_in_a_window() {
        let logins = "five failed logins in ten minutes".to_owned();
        let fast: Vec<_> = (0..7).map(|n| failed("a", n)).collect();
        assert_eq!(alerted(&fast).await, [(5, logins.clone())]);
        let slow: Vec<_> = (0..7).map(|n| failed("a", 3 * n)).collect();
        assert_eq!(alerted(&slow).await, []);
        let twice = [0, 1, 2, 3, 4, 60, 61, 62, 63, 64].map(|n| failed("a", n));
        assert_eq!(alerted(&twice).await, [(5, logins.clone()), (10, logins)]);
    }

    #[tokio::test]
    async fn what_is_heard_of_late_is_judged_in_its_own_time() {
        let (spent, countries) =
            ("more than 1000.00 in a day".to_owned(), "two countries in an hour".to_owned());
        let late = [paid("a", 0, 600, "FR"), paid("a", 1_400, 10, "FR"), paid("a", 30, 500, "IT")];
        assert_eq!(alerted(&late).await, [(3, spent), (3, countries)]);
        let too_late =
            [paid("a", 0, 600, "FR"), paid("a", 3_000, 10, "FR"), paid("a", 1_100, 500, "IT")];
        assert_eq!(alerted(&too_late).await, []);
    }

    #[tokio::test]
    async fn no_card_is_judged_by_what_another_did() {
        let all: Vec<_> = (0..9).map(|n| failed(if n % 2 == 0 { "a" } else { "b" }, n)).collect();
        assert_eq!(alerted(&all).await.len(), 1);
        let four: Vec<_> = (0..8).map(|n| failed(if n % 2 == 0 { "a" } else { "b" }, n)).collect();
        assert_eq!(alerted(&four).await, []);
    }

    #[tokio::test]
    async fn a_card_that_does_too_much_is_parked_and_the_others_go_on() {
        for store in examples::stores().await {
            let place = TempDir::new().unwrap();
            let mad: Vec<_> = (0..=alerts::ENTRIES_MAX).map(|_| paid("mad", 0, 0, "FR")).collect();
            tell(&store, &mad).await.unwrap();
            let others: Vec<_> =
                (0..5).map(|n| failed("a", n)).chain([paid("mad", 1, 2_000, "FR")]).collect();
            tell(&store, &others).await.unwrap();
            let (running, reader) = run(&store, place.path()).await;
            let alerts = alerts::after(&reader, Position::START).unwrap();
            assert_eq!(alerts.iter().map(|alert| alert.card.as_str()).collect::<Vec<_>>(), ["a"]);
            let parked = running.projections().parked(Alerts::NAME).unwrap();
            assert_eq!(
                parked.iter().map(|parked| parked.key.as_str()).collect::<Vec<_>>(),
                ["card-mad"; 2]
            );
            running.stop().await.unwrap();
        }
    }

    /// Returns the alerts as they must be: every event judged against everything of its card before
    /// it, nothing forgotten.
    async fn expected(store: &Store) -> (Vec<Alert>, u64) {
        let schema = Schema::of::<CardEvent>().unwrap();
        let mut cards: HashMap<String, Vec<Entry>> = HashMap::new();
        let (mut alerts, mut raised_at, mut too_late) = (Vec::new(), Vec::new(), 0);
        for envelope in store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap() {
            let event = schema.decode::<CardEvent>(&envelope, Unknown::Refuse).unwrap().remove(0);
            let event = Recorded { event, envelope };
            let (card, new) = (event.stream_id().to_owned(), entry(&event));
            let known = cards.entry(card.clone()).or_default();
            if known.iter().any(|known| new.at <= known.at.minus(LATE_MAX)) {
                too_late += 1;
                continue;
            }
            let is_silent = |rule: &rules::Rule| {
                let (from, to) = rule.silence(new.at);
                let raised = |(of, name, at): &(String, &str, Timestamp)| {
                    *of == card && *name == rule.name && *at > from && *at < to
                };
                raised_at.iter().any(raised)
            };
            let mut names: Vec<&str> =
                broken(known, &new).filter(|rule| !is_silent(rule)).map(|rule| rule.name).collect();
            names.sort_unstable();
            for name in names {
                raised_at.push((card.clone(), name, new.at));
                alerts.push(Alert {
                    position: new.position,
                    card: card.clone(),
                    rule: name.to_owned(),
                });
            }
            known.push(new);
        }
        (alerts, too_late)
    }

    /// However many cards there are: what is known of them is in rows, and one card has so many
    /// rows at most.
    #[test]
    fn the_rules_keep_nothing_in_memory() {
        assert_eq!(size_of::<Alerts>(), 0);
    }

    // ANCHOR: killed
    #[tokio::test(flavor = "multi_thread")]
    async fn every_alert_is_there_once_wherever_the_program_is_killed() {
        let place = examples::killed("rules", LOAD);
        let store = leftfold::open(place.path()).await.unwrap();
        assert!(store.head().position.0 >= u64::from(LOAD));
        let (running, reader) = run(&store, format!("{}-rows", place.path())).await;
        let (alerts, too_late) = expected(&store).await;
        assert!(
            alerts.len() > 50 && too_late > 10,
            "{} alerts, {too_late} too late: the load shows nothing",
            alerts.len()
        );
        assert_eq!(alerts::after(&reader, Position::START).unwrap(), alerts);
        let (entries, late) = alerts::counts(&reader).unwrap();
        assert_eq!(late, too_late);
        assert!(entries < u64::from(LOAD), "windows forget: {entries}");
        running.projections().verify(Alerts::NAME).await.unwrap();
        running.stop().await.unwrap();
        store.close().await.unwrap();
    }
    // ANCHOR_END: killed
}
