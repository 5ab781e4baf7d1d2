//! The alerts that the book recommends, compared with what a runtime says in each of its states.

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::RunningRuntime;
use leftfold_core::runtime::process::{Context, Correlation, Reaction, Targets, Trigger};
use leftfold_core::runtime::projection::{
    Bus, Message, Outbox, Outgoing, Projection, ProjectionError,
};
use leftfold_core::store::Position;

use crate::projection_stage::{Code, Note, Shelf, Tally, add, add_many, reach, time_goes_by};
use crate::runtime_stage::{
    Command, Door, DoorEvent, Fault, Opener, Process, SECOND, Stage, in_doubt, until,
};

const BOOK: &str = include_str!("../../../../book/src/operating.md");

/// A rule of the book: for how many seconds the expression must be true.
#[derive(Debug)]
struct Rule {
    name: String,
    terms: Vec<(String, String, f64)>,
    seconds: u64,
}

/// The rules in the book, of whose language this understands what they use.
fn rules() -> Vec<Rule> {
    let yaml = BOOK.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let mut rules: Vec<Rule> = Vec::new();
    for line in yaml.lines().map(str::trim) {
        match line.trim_start_matches("- ").split_once(": ") {
            Some(("alert", name)) => {
                rules.push(Rule { name: name.to_owned(), terms: Vec::new(), seconds: 0 })
            }
            Some(("expr", expression)) => {
                rules.last_mut().unwrap().terms = expression.split(" or ").map(term).collect()
            }
            Some(("for", time)) => {
                rules.last_mut().unwrap().seconds =
                    time.strip_suffix('m').unwrap().parse::<u64>().unwrap() * 60
            }
            _ => {}
        }
    }
    rules
}

fn term(text: &str) -> (String, String, f64) {
    let [metric, operator, value] = text.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{text}")
    };
    (metric.to_owned(), operator.to_owned(), value.parse().unwrap())
}

impl Rule {
    fn is_true(&self, metrics: &str) -> bool {
        let sample = |line: &str, metric: &str| {
            let rest = line.strip_prefix(metric)?;
            let value = match rest.strip_prefix('{') {
                Some(labels) => labels.rsplit_once("} ")?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.parse::<f64>().ok()
        };
        self.terms.iter().any(|(metric, operator, value)| {
            assert!(metrics.contains(&format!("# TYPE {metric} ")), "{metric} is no metric");
            metrics.lines().filter_map(|line| sample(line, metric)).any(|found| {
                match operator.as_str() {
                    ">" => found > *value,
                    "==" => (found - value).abs() < f64::EPSILON,
                    other => panic!("{other}"),
                }
            })
        })
    }
}

/// The alerts that fire if the runtime is as it is now for ten minutes, but for what passes by
/// itself.
async fn fire(process: &Process, running: &RunningRuntime) -> Vec<String> {
    let rules = rules();
    let mut true_for = vec![0_u64; rules.len()];
    for _ in 0..60 {
        let metrics = running.metrics();
        for (rule, true_for) in rules.iter().zip(&mut true_for) {
            *true_for = if rule.is_true(&metrics) { *true_for + 10 } else { 0 };
        }
        process.clock.advance(10 * SECOND);
        crate::runtime_stage::quiet().await;
    }
    let fires =
        |(rule, true_for): (&Rule, &u64)| (*true_for > rule.seconds).then(|| rule.name.clone());
    rules.iter().zip(&true_for).filter_map(fires).collect()
}

const NONE: [&str; 0] = [];
const PERSON: [&str; 1] = ["LeftfoldNeedsPerson"];
const STANDS_STILL: [&str; 1] = ["LeftfoldStandsStill"];

async fn start(process: &Process, code: &Code, shelf: &Shelf) -> RunningRuntime {
    process.runtime().project(Tally::<1, 1>(code.clone()), shelf.clone()).start().await.unwrap()
}

#[tokio::test]
async fn nothing_fires_while_all_is_well_or_passes_by_itself() {
    let process = Stage::new().process();
    add_many(&process.store, 100).await;
    let shelf = Shelf::<1>::new();
    let running = start(&process, &Code::default(), &shelf).await;
    reach(&process, &running, Position(100)).await;
    assert_eq!(fire(&process, &running).await, NONE);
    // The database is away for a moment, and then the store.
    shelf.cut(true);
    add(&process.store, "a", "x", "fine").await;
    until("it is noticed", async || {
        running.metrics().contains("leftfold_consumer_up{consumer=\"tally\"} 0")
    })
    .await;
    shelf.cut(false);
    assert_eq!(fire(&process, &running).await, NONE);
    process.faults.set(Fault::Unreadable);
    add(&process.store, "a", "x", "fine").await;
    until("it is noticed", async || {
        running.metrics().contains("leftfold_consumer_up{consumer=\"tally\"} 0")
    })
    .await;
    process.faults.set(Fault::None);
    assert_eq!(fire(&process, &running).await, NONE);
    running.stop().await.unwrap();
    // A rebuild is behind for long.
    let running =
        process.runtime().project(Waits, shelf.clone()).rebuild("tally").start().await.unwrap();
    assert!(running.status()[0].lag() > 0);
    assert!(!running.status()[0].stalled);
    drop(running);
}

/// Is not through with its first event.
struct Waits;

impl Projection<Shelf> for Waits {
    const NAME: &'static str = "tally";
    type Event = Note;

    async fn apply(
        &self,
        _: &mut crate::projection_stage::Shelved,
        _: &Recorded<Note>,
    ) -> Result<(), ProjectionError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_does_not_come_back_is_told_after_five_minutes() {
    let process = Stage::new().process();
    let shelf = Shelf::<1>::new();
    let running = start(&process, &Code::default(), &shelf).await;
    shelf.cut(true);
    add(&process.store, "a", "x", "fine").await;
    until("it is noticed", async || running.status()[0].stalled).await;
    assert_eq!(fire(&process, &running).await, STANDS_STILL);
}

#[tokio::test]
async fn a_store_that_takes_no_appends_is_told_at_once() {
    let process = Stage::new().process();
    let running = start(&process, &Code::default(), &Shelf::<1>::new()).await;
    assert!(!fire(&process, &running).await.contains(&"LeftfoldStoreDown".to_owned()));
    process.store.close().await.unwrap();
    assert!(fire(&process, &running).await.contains(&"LeftfoldStoreDown".to_owned()));
}

#[tokio::test]
async fn what_is_parked_is_told_at_once_and_until_a_person_has_done_something() {
    let process = Stage::new().process();
    let failing = add(&process.store, "a", "x", "poison").await;
    let code = Code::refusing("poison", u32::MAX);
    let running = start(&process, &code, &Shelf::<1>::new()).await;
    reach(&process, &running, failing).await;
    assert!(running.metrics().contains("leftfold_parked{consumer=\"tally\"} 1\n"));
    assert!(running.status()[0].needs_person && !running.status()[0].stalled);
    assert_eq!(fire(&process, &running).await, PERSON);
    running.projections().skip("tally", failing, "ann").await.unwrap();
    assert_eq!(fire(&process, &running).await, NONE);
}

#[tokio::test]
async fn an_effect_in_doubt_is_told_at_once() {
    let process = Stage::new().process();
    let opener = Opener::doing(|_| async { in_doubt("nobody knows") });
    let running = process.opens(&opener).await;
    process.ask("a", 1).await;
    until("it is in doubt", async || {
        process.clock.advance(SECOND);
        running.status()[0].in_doubt == 1
    })
    .await;
    assert!(running.metrics().contains("leftfold_effects_in_doubt{consumer=\"open\"} 1\n"));
    assert_eq!(fire(&process, &running).await, PERSON);
}

#[derive(Clone, Default)]
struct Broker;

impl Bus for Broker {
    async fn publish(&mut self, _: Vec<Message>) -> Result<(), ProjectionError> {
        Ok(())
    }
}

struct Mail;

impl Projection<Outbox<Broker>> for Mail {
    const NAME: &'static str = "mail";
    type Event = Note;

    async fn apply(
        &self,
        outgoing: &mut Outgoing,
        event: &Recorded<Note>,
    ) -> Result<(), ProjectionError> {
        let Note::Added { key, what } = &event.event;
        outgoing.send("letters", key.clone(), what.clone());
        Ok(())
    }
}

/// A healthy standby looked like one that was dead.
#[tokio::test]
async fn a_standby_is_up_and_says_what_it_is() {
    let stage = Stage::new();
    let (one, two) = (stage.process(), stage.process());
    let first = one.runtime().project(Mail, Outbox::new(&one.store, Broker)).start().await.unwrap();
    let last = add(&one.store, "a", "x", "fine").await;
    first.projections().wait_until("mail", last, 10 * SECOND).await.unwrap();
    let second =
        two.runtime().project(Mail, Outbox::new(&two.store, Broker)).start().await.unwrap();
    until("it stands by", async || second.status()[0].standby).await;
    let metrics = second.metrics();
    for line in [
        "leftfold_consumer_standby{consumer=\"mail\"} 1\n",
        "leftfold_consumer_up{consumer=\"mail\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert!(second.status()[0].waits_for.starts_with("its turn: the lease, held by "));
    assert_eq!(fire(&two, &second).await, NONE);
    // It follows where the other one stands, and takes over when that one is gone.
    let last = add(&one.store, "a", "x", "fine").await;
    second.projections().wait_until("mail", last, 10 * SECOND).await.unwrap();
    first.stop().await.unwrap();
    tokio::select! {
        () = until("it works", async || !second.status()[0].standby) => {}
        () = time_goes_by(&two.clock) => {}
    }
    let last = add(&two.store, "a", "x", "fine").await;
    second.projections().wait_until("mail", last, 10 * SECOND).await.unwrap();
}

/// Has the door exploded for every opening that is asked for.
#[derive(Debug, Default)]
struct Breaker;

impl leftfold_core::runtime::process::Process for Breaker {
    const NAME: &'static str = "breaker";
    type Event = DoorEvent;

    fn targets() -> Targets {
        Targets::of::<Door>()
    }

    fn correlate(event: &Recorded<DoorEvent>) -> Correlation {
        match event.event {
            DoorEvent::OpeningAsked(_) => Correlation::starts("all"),
            _ => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<DoorEvent>, _: &Context) {}

    fn react(&self, _: &Trigger<DoorEvent>, _: &Context) -> Reaction {
        Reaction::none().command::<Door>("back", Command::Explode)
    }
}

#[tokio::test]
async fn a_command_that_is_stuck_is_told_at_once_and_until_a_person_has_done_something() {
    let process = Stage::new().process();
    let running = process.runtime().process::<Breaker>().start().await.unwrap();
    process.ask("front", 1).await;
    until("it is stuck", async || running.status()[0].stuck == 1).await;
    assert!(running.metrics().contains("leftfold_commands_stuck{consumer=\"breaker\"} 1\n"));
    assert_eq!(fire(&process, &running).await, PERSON);
    let stuck = running.processes().parked("breaker").await.unwrap().remove(0);
    running.processes().skip("breaker", &stuck.whose, stuck.position, "ann").await.unwrap();
    assert_eq!(fire(&process, &running).await, NONE);
}

/// Anyone who served status over HTTP had to share the runtime that `main` stops.
#[tokio::test]
async fn clones_of_a_handle_say_how_it_goes_while_the_owner_stops_the_runtime() {
    let process = Stage::new().process();
    add_many(&process.store, 10).await;
    let running = start(&process, &Code::default(), &Shelf::<1>::new()).await;
    let handle = running.handle();
    let server = tokio::spawn({
        let (handle, store) = (handle.clone(), process.store.clone());
        async move {
            handle
                .projections()
                .wait_until("tally", store.head().position, 60 * SECOND)
                .await
                .unwrap();
            handle.metrics()
        }
    });
    assert!(server.await.unwrap().contains("leftfold_consumer_up{consumer=\"tally\"} 1"));
    assert_eq!(handle.status(), running.status());
    running.stop().await.unwrap();
    assert_eq!(handle.status()[0].through, Position(10), "it says how each one stood at the end");
}
