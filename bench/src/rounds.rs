//! Rounds: a figure and its reference, measured in turn.

use std::time::{Duration, Instant};

use crate::Outcome;

/// Work that one task does over and over.
pub(crate) trait RepeatedWork: Send + 'static {
    /// Does it once, and waits until it is done.
    fn once(&mut self) -> impl Future<Output = Outcome> + Send;
}

/// A figure, and the reference that it is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) measured: f64,
    pub(crate) reference: f64,
}

/// Measures how often a second all workers together, each a task of its own, do their work.
pub(crate) async fn rate<W: RepeatedWork>(workers: Vec<W>, span: Duration) -> Outcome<f64> {
    let started = Instant::now();
    let repeat = |mut worker: W| async move {
        let mut count = 0_u64;
        while started.elapsed() < span {
            worker.once().await?;
            count += 1;
        }
        Outcome::Ok(count)
    };
    let tasks: Vec<_> = workers.into_iter().map(|worker| tokio::spawn(repeat(worker))).collect();
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Measures the reference and the candidate in turn, after a short unmeasured run of both. What the
/// candidate still does in the background when its turn is over weighs on the reference; rounds of
/// seconds keep that small.
pub(crate) async fn alternating(
    rounds: u32,
    span: Duration,
    reference: impl AsyncFn(Duration) -> Outcome<f64>,
    candidate: impl AsyncFn(Duration) -> Outcome<f64>,
) -> Outcome<Vec<Round>> {
    reference(span / 10).await?;
    candidate(span / 10).await?;
    let mut measured = Vec::new();
    for _ in 0..rounds {
        let reference = reference(span).await?;
        measured.push(Round { measured: candidate(span).await?, reference });
    }
    Ok(measured)
}

/// Measures again and again, after one unmeasured time, and compares it with an absolute figure.
pub(crate) async fn against(
    target: f64,
    rounds: u32,
    candidate: impl AsyncFn() -> Outcome<f64>,
) -> Outcome<Vec<Round>> {
    candidate().await?;
    let mut measured = Vec::new();
    for _ in 0..rounds {
        measured.push(Round { measured: candidate().await?, reference: target });
    }
    Ok(measured)
}
