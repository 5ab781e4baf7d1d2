//! Durable commands on aggregates, against the ceiling with as many tasks.

use leftfold_core::fold::Aggregates;

use crate::Outcome;
use crate::ceiling::EVENT_BYTES;
use crate::rounds::{RepeatedWork, alternating, rate};
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};
use crate::workload::{self, ACCOUNTS, Account};

/// Every writer has its own accounts, decides, and folds what was recorded.
pub(crate) async fn commands(
    run: &mut BenchRun,
    writers: usize,
    target: RatioTarget,
) -> Outcome<Row> {
    let ceiling = run.ceiling()?;
    let fresh = run.fresh_store()?;
    let accounts = fresh.store.aggregate::<Account>();
    let reference = async |span| ceiling.rate(writers, EVENT_BYTES, span).await;
    let candidate = async |span| {
        let writer = |number| Commander::new(&accounts, number, writers);
        rate((0..writers).map(writer).collect(), span).await
    };
    let rounds = alternating(run.settings.rounds, run.settings.span, reference, candidate).await?;
    fresh.discard().await?;
    let name = format!("commands, writers: {writers}");
    Ok(Row { name, rounds, unit: RowUnit::PerSecond, reference: "ceiling", target })
}

/// A task that gives commands, each to another of its own accounts.
pub(crate) struct Commander {
    accounts: Aggregates<Account>,
    /// Indexes and ids of the writer's own accounts.
    own: Vec<(u64, String)>,
    serial: u64,
}

impl Commander {
    pub(crate) fn new(accounts: &Aggregates<Account>, number: usize, writers: usize) -> Self {
        let own =
            (number as u64..ACCOUNTS).step_by(writers).map(|index| (index, workload::id(index)));
        Self { accounts: accounts.clone(), own: own.collect(), serial: number as u64 }
    }
}

impl RepeatedWork for Commander {
    async fn once(&mut self) -> Outcome {
        self.serial += 1;
        let (index, id) = &self.own[self.serial as usize % self.own.len()];
        self.accounts.execute(id, workload::book(*index, self.serial)).await?;
        Ok(())
    }
}
