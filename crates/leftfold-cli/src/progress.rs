//! Progress of long work, on standard error, and interrupting it.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::failure::CliFailure;
use crate::screen::{bytes, count};

/// Time between two pictures of the line.
const SHOWN_EVERY: Duration = Duration::from_millis(100);
/// Work that is shorter shows no line.
const SHOWN_AFTER: Duration = Duration::from_millis(300);
/// Time in which work that was interrupted ends by itself.
const ENDED_WITHIN: Duration = Duration::from_millis(500);
const BAR_COLUMNS: u64 = 24;

/// Unit of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Bytes.
    Bytes,
    /// Anything that is counted, with its name.
    Things(&'static str),
}

/// A line on a terminal that tells how far some work is.
pub(crate) struct ProgressLine {
    doing: &'static str,
    measure: Measure,
    all: u64,
    began: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl ProgressLine {
    /// Begins the line of some work; `all` is 0 if nobody knows how much it is.
    pub(crate) fn of(doing: &'static str, measure: Measure, all: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { doing, measure, all, began: Instant::now(), shown: None, terminal }
    }

    /// Tells how much is done.
    pub(crate) fn at(&mut self, done: u64) {
        if !self.terminal || self.began.elapsed() < SHOWN_AFTER {
            return;
        }
        if self.shown.is_some_and(|shown| shown.elapsed() < SHOWN_EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let line = line(self.doing, self.measure, done, self.all, self.began.elapsed());
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
    }

    /// Tells how much there is to do, which is known only now.
    pub(crate) fn of_all(&mut self, all: u64) {
        self.all = all;
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(doing: &str, measure: Measure, done: u64, all: u64, elapsed: Duration) -> String {
    let amount = |number: u64| match measure {
        Measure::Bytes => bytes(number),
        Measure::Things(_) => count(number),
    };
    let noun = match measure {
        Measure::Bytes => String::new(),
        Measure::Things(name) => format!(" {name}"),
    };
    let rate = u64::try_from(u128::from(done) * 1_000 / elapsed.as_millis().max(1)).unwrap_or(0);
    let rate = format!("{}/s", amount(rate));
    if all == 0 {
        return format!("{doing}  {}{noun}  {rate}", amount(done));
    }
    let done = done.min(all);
    let filled = usize::try_from(u128::from(done) * u128::from(BAR_COLUMNS) / u128::from(all));
    let filled = filled.unwrap_or(0);
    let bar = "━".repeat(filled) + &"·".repeat(BAR_COLUMNS as usize - filled);
    let percent = u128::from(done) * 100 / u128::from(all);
    let left = elapsed.as_secs_f64() * (all - done) as f64 / done.max(1) as f64;
    let left = if done == 0 { String::new() } else { format!("  {} left", short(left)) };
    format!(
        "{doing}  {bar} {percent:>3} %  {} of {}{noun}  {rate}{left}",
        amount(done),
        amount(all)
    )
}

fn short(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60 + 1),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// Switch that SIGINT or SIGTERM turns: long work looks at it, and ends where it can go on later.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Takes the signals from now on.
    pub(crate) fn listen() -> Self {
        Self::listen_within(ENDED_WITHIN)
    }

    /// The same, for work that needs up to this time to put in order what others see of it.
    pub(crate) fn listen_within(ended_within: Duration) -> Self {
        let (switch, turned) = watch::channel(false);
        tokio::spawn(async move {
            let Some(mut signals) = Signals::take() else { return };
            if signals.next().await {
                switch.send_replace(true);
                // Work that waits for its input, or is told twice, is ended as a crash would: all
                // of it may be.
                let _ = tokio::time::timeout(ended_within, signals.next()).await;
                let _ = writeln!(std::io::stderr(), "leftfold: interrupted");
                std::process::exit(130);
            }
        });
        Self(turned)
    }

    pub(crate) fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is turned.
    pub(crate) async fn turned(&self) {
        if self.0.clone().wait_for(|is_on| *is_on).await.is_err() {
            // Nobody takes signals.
            std::future::pending::<()>().await;
        }
    }

    /// The answer to work that asks if it is to go on.
    pub(crate) fn flow(&self) -> ControlFlow<()> {
        if self.is_on() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Fails if it was turned, with what to do then.
    pub(crate) fn check(&self, hint: Option<&'static str>) -> Result<(), CliFailure> {
        if self.is_on() { Err(CliFailure::Interrupted(hint)) } else { Ok(()) }
    }
}

/// Signals that ask a program to end.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn take() -> Option<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt()).ok()?;
        Some(Self { interrupt, terminate: signal(SignalKind::terminate()).ok()? })
    }

    /// Waits for the next one; false if none can come any more.
    async fn next(&mut self) -> bool {
        tokio::select! {
            told = self.interrupt.recv() => told.is_some(),
            told = self.terminate.recv() => told.is_some(),
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn take() -> Option<Self> {
        Some(Self)
    }

    async fn next(&mut self) -> bool {
        tokio::signal::ctrl_c().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_the_work_is_and_how_long_it_takes() {
        let things = Measure::Things("events");
        let half = line("reading", things, 5_000, 10_000, Duration::from_secs(10));
        let bar = "━".repeat(12) + &"·".repeat(12);
        assert_eq!(half, format!("reading  {bar}  50 %  5,000 of 10,000 events  500/s  10 s left"));
        let open = line("reading", Measure::Bytes, 2_048, 0, Duration::from_secs(2));
        assert_eq!(open, "reading  2.0 KiB  1.0 KiB/s");
    }
}
