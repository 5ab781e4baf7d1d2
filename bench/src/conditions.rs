//! Cost of a condition: appends under a query on a tag, against appends without a condition, in the
//! same store.

use std::time::Duration;

use leftfold_core::store::{
    Append, Condition, NewEvent, Outcome as Answer, Position, Query, Store,
};

use crate::Outcome;
use crate::load::load;
use crate::rounds::{RepeatedWork, Round, rate};
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};
use crate::workload::{self, ACCOUNTS};

/// Events that the small store holds when a round begins.
const SMALL_EVENTS: u64 = 1_000;

/// In a new store every round, and for a shorter time, so that it stays small.
pub(crate) async fn in_small_store(run: &mut BenchRun, writers: usize) -> Outcome<Row> {
    let mut rounds = Vec::new();
    for round in 0..run.settings.rounds {
        let fresh = run.fresh_store()?;
        load(&fresh.store, SMALL_EVENTS, ACCOUNTS).await?;
        rounds.push(
            one_round(&fresh.store, writers, run.settings.span / 4, SideOrder::of(round)).await?,
        );
        fresh.discard().await?;
    }
    Ok(row(rounds, writers, SMALL_EVENTS))
}

/// In the large store, which grows by what is appended meanwhile.
pub(crate) async fn in_large_store(run: &mut BenchRun, writers: usize) -> Outcome<Row> {
    let store = run.large()?.open()?;
    let mut rounds = Vec::new();
    one_round(&store, writers, run.settings.span / 10, SideOrder::of(0)).await?;
    for round in 0..run.settings.rounds {
        rounds.push(one_round(&store, writers, run.settings.span, SideOrder::of(round)).await?);
    }
    store.close().await?;
    Ok(row(rounds, writers, run.settings.events))
}

fn row(rounds: Vec<Round>, writers: usize, events: u64) -> Row {
    let name = format!("conditional append, events: {events}, writers: {writers}");
    Row {
        name,
        rounds,
        unit: RowUnit::Microseconds,
        reference: "unconditional",
        target: RatioTarget::RatioAtMost(1.3),
    }
}

/// Side that goes first: it alternates, so that neither side always finds the smaller store.
#[derive(Clone, Copy)]
enum SideOrder {
    ConditionalFirst,
    UnconditionalFirst,
}

impl SideOrder {
    fn of(round: u32) -> Self {
        if round.is_multiple_of(2) { Self::UnconditionalFirst } else { Self::ConditionalFirst }
    }
}

/// The mean time of an append in microseconds, as its writer sees it.
async fn one_round(
    store: &Store,
    writers: usize,
    span: Duration,
    order: SideOrder,
) -> Outcome<Round> {
    let micros = async |kind| -> Outcome<f64> {
        let workers = (0..writers)
            .map(|number| Appender::new(store, kind, number, writers))
            .collect::<Outcome<_>>()?;
        Ok(writers as f64 * 1e6 / rate(workers, span).await?)
    };
    let (measured, reference) = match order {
        SideOrder::ConditionalFirst => {
            (micros(AppendKind::Conditional).await?, micros(AppendKind::Unconditional).await?)
        }
        SideOrder::UnconditionalFirst => {
            let reference = micros(AppendKind::Unconditional).await?;
            (micros(AppendKind::Conditional).await?, reference)
        }
    };
    Ok(Round { measured, reference })
}

#[derive(Clone, Copy)]
enum AppendKind {
    Conditional,
    Unconditional,
}

/// Appends to its own streams, whose tags no other writer uses: so a conflict would be a false one,
/// and is an error.
struct Appender {
    store: Store,
    kind: AppendKind,
    /// One event of each of its own accounts.
    own: Vec<NewEvent>,
    next: usize,
    /// The last position that the writer knows: that of its last append.
    known: Position,
}

impl Appender {
    fn new(store: &Store, kind: AppendKind, number: usize, writers: usize) -> Outcome<Self> {
        let own = (number as u64..ACCOUNTS)
            .step_by(writers)
            .map(workload::event)
            .collect::<Outcome<_>>()?;
        Ok(Self { store: store.clone(), kind, own, next: 0, known: store.head().position })
    }
}

impl RepeatedWork for Appender {
    async fn once(&mut self) -> Outcome {
        let event = self.own[self.next].clone();
        self.next = (self.next + 1) % self.own.len();
        let condition = match self.kind {
            AppendKind::Conditional => {
                Condition::none_matching(Query::tag(event.tags.as_slice()[0].as_str()), self.known)
            }
            AppendKind::Unconditional => Condition::none(),
        };
        match self.store.append(Append::of(vec![event]).when(condition)).await? {
            Answer::Appended(appended) => self.known = appended.last(),
            other => {
                return Err(format!(
                    "an append that nothing conflicts with was answered with {other:?}"
                )
                .into());
            }
        }
        Ok(())
    }
}
