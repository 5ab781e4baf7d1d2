//! Progress of projections that are being built: a line each on a terminal.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::handle::{ProjectionStatus, Projections};
use crate::runtime::{Clock, stopped};

const BETWEEN_LINES: Duration = Duration::from_millis(200);
const BAR_WIDTH: u64 = 24;

/// Draws until everything that was behind has caught up, or the runtime stops.
pub(in crate::runtime) async fn show(
    projections: Projections,
    clock: Arc<dyn Clock>,
    mut stop: watch::Receiver<bool>,
    mut terminal: impl Write + Send,
) {
    let mut lines = 0;
    loop {
        let all = projections.list();
        let behind: Vec<&ProjectionStatus> =
            all.iter().filter(|status| is_behind(status)).collect();
        // A terminal that is gone shows nothing.
        if draw(&mut terminal, &behind, lines).is_err() || behind.is_empty() {
            return;
        }
        lines = behind.len();
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = clock.sleep_until(clock.now().plus(BETWEEN_LINES)) => {}
        }
    }
}

fn is_behind(status: &ProjectionStatus) -> bool {
    status.consumer.lag() > 0 && status.consumer.goes_on()
}

/// Draws in place of the lines that were drawn before.
fn draw(terminal: &mut impl Write, behind: &[&ProjectionStatus], lines: usize) -> io::Result<()> {
    if lines > 0 {
        // Up to the first of them, and everything from there is erased.
        write!(terminal, "\x1b[{lines}A\r\x1b[J")?;
    }
    for status in behind {
        writeln!(terminal, "{}", line(status))?;
    }
    terminal.flush()
}

fn line(status: &ProjectionStatus) -> String {
    let consumer = &status.consumer;
    let (through, head) = (consumer.through.0, consumer.head.0.max(1));
    let done = through.saturating_mul(BAR_WIDTH) / head;
    let bar: String = (0..BAR_WIDTH).map(|at| if at < done { '#' } else { '-' }).collect();
    let percent = through.saturating_mul(100) / head;
    let mut line = format!(
        "{} v{} [{bar}] {percent:>3} % {through} of {head} events",
        status.name, status.version
    );
    // Writing to a text does not fail.
    let _ = match consumer.time_left() {
        _ if consumer.stalled => {
            write!(line, ", waits for {}", consumer.waits_for.replace(char::is_control, " "))
        }
        Some(left) => write!(line, ", {}/s, {} left", consumer.per_second, spoken(left)),
        None => Ok(()),
    };
    line
}

fn spoken(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}
