//! Measures what was asked for: which function each benchmark is.

use crate::benchmark::Benchmark;
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row};
use crate::{
    Outcome, batches, commands, conditions, encode, follow, open, postgres, projections, reads,
    serve,
};

/// Measures what was asked for, one after the other, up to the first that fails.
pub(crate) async fn measure_into(run: &mut BenchRun, rows: &mut Vec<Row>) -> Outcome {
    for benchmark in run.settings.benchmarks.clone() {
        eprintln!("{}: {}", benchmark.name(), benchmark.about());
        rows.extend(measure(run, benchmark).await?);
    }
    Ok(())
}

async fn measure(run: &mut BenchRun, benchmark: Benchmark) -> Outcome<Vec<Row>> {
    Ok(match benchmark {
        Benchmark::Commands1 => {
            vec![commands::commands(run, 1, RatioTarget::RatioAtLeast(0.75)).await?]
        }
        Benchmark::Commands16 => vec![commands::commands(run, 16, RatioTarget::None).await?],
        Benchmark::Commands256 => {
            vec![commands::commands(run, 256, RatioTarget::RatioAtLeast(0.4)).await?]
        }
        Benchmark::Batches => batches::batches(run).await?,
        Benchmark::Encode => vec![encode::checked(run).await?],
        Benchmark::ConditionsSmall1 => vec![conditions::in_small_store(run, 1).await?],
        Benchmark::ConditionsSmall16 => vec![conditions::in_small_store(run, 16).await?],
        Benchmark::Disk => run.large()?.rows(),
        Benchmark::Open => open::after_close(run)?,
        Benchmark::ReadAll => vec![reads::everything(run).await?],
        Benchmark::ReadFold => vec![reads::folded(run).await?],
        Benchmark::ReadStream => reads::one_stream(run).await?,
        Benchmark::ProjectionsSqlite => projections::into_sqlite(run).await?,
        Benchmark::ProjectionsMemory => projections::into_memory(run).await?,
        Benchmark::ConditionsLarge1 => vec![conditions::in_large_store(run, 1).await?],
        Benchmark::ConditionsLarge16 => vec![conditions::in_large_store(run, 16).await?],
        Benchmark::Killed => vec![open::after_kill(run)?],
        Benchmark::Follow => follow::delivery(run).await?,
        Benchmark::PostgresCommands16 => {
            vec![postgres::commands::commands(run, 16, RatioTarget::RatioAtLeast(1.5)).await?]
        }
        Benchmark::PostgresCommands256 => {
            vec![postgres::commands::commands(run, 256, RatioTarget::RatioAtLeast(4.0)).await?]
        }
        Benchmark::PostgresExact => vec![postgres::commands::exact(run).await?],
        Benchmark::PostgresBatches => vec![postgres::batches::batches(run).await?],
        Benchmark::PostgresDelivery => postgres::delivery::delivery(run).await?,
        Benchmark::PostgresProjections => vec![postgres::projections::projections(run).await?],
        Benchmark::PostgresReads => postgres::history::one_stream(run).await?,
        Benchmark::PostgresConditions => postgres::history::conditions(run).await?,
        Benchmark::PostgresSlope => postgres::history::slope(run).await?,
        Benchmark::ServeAppends => serve::appends(run).await?,
        Benchmark::ServeDelivery => serve::delivery(run).await?,
        Benchmark::ServeCost => serve::cost::cost(run).await?,
        Benchmark::ServeUmaDbAppends => serve::umadb::appends(run).await?,
        Benchmark::ServeUmaDbReads => serve::umadb::reads(run).await?,
    })
}
