//! Stations at work: each is one task that drives its state machine over a connection, with faults
//! of the line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::charge_point::{ChargePoint, StationOutput};
use super::figures::Figures;
use super::line::{Dialer, StationLine};

/// Handshakes that are under way at once.
const HANDSHAKES_MAX: usize = 512;
/// Time before a station tries again to connect, in ms of real time.
const RECONNECT_MS: std::ops::Range<u64> = 100..600;
/// Of 1,000 calls, so many meet a fault of the line.
const CUTS_PER_1000: u32 = 10;
const LOST_REPLIES_PER_1000: u32 = 30;
const HALF_OPEN_PER_1000: u32 = 2;
/// The longest that a station sleeps, so that no clock of ours overflows.
const SLEEP_MAX: Duration = Duration::from_secs(60 * 60);

/// Pace of the model: how fast its time passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) begun: Instant,
    /// Milliseconds of the model in one of real time.
    pub(crate) speed: f64,
}

impl Pace {
    /// Returns the moment of the model, in ms.
    pub(crate) fn now_ms(self) -> u64 {
        (self.begun.elapsed().as_secs_f64() * self.speed * 1e3) as u64
    }

    /// Returns the time of the model that a real time is, in ms.
    pub(crate) fn model_ms(self, real_ms: u64) -> u64 {
        (real_ms as f64 * self.speed) as u64
    }

    fn instant(self, model_ms: u64) -> tokio::time::Instant {
        let real_s = model_ms as f64 / 1e3 / self.speed;
        let far = self.begun.elapsed() + SLEEP_MAX;
        let after = Duration::try_from_secs_f64(real_s).unwrap_or(far).min(far);
        (self.begun + after).into()
    }
}

/// Phase of a run. The number of storms so far comes with it: each cuts all connections at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FleetPhase {
    Working {
        storms: u32,
    },
    /// Sessions end, and what is kept is told.
    Closing,
    /// Everything ends as it stands.
    Over,
}

/// Things that all stations of a run share.
#[derive(Debug)]
pub(crate) struct FleetContext {
    pub(crate) pace: Pace,
    pub(crate) dialer: Dialer,
    pub(crate) has_faults: bool,
    pub(crate) figures: Figures,
    handshakes: Semaphore,
    /// Stations that have told of all their sessions.
    done: watch::Sender<usize>,
}

impl FleetContext {
    pub(crate) fn new(pace: Pace, dialer: Dialer, has_faults: bool) -> Self {
        Self {
            pace,
            dialer,
            has_faults,
            figures: Figures::default(),
            handshakes: Semaphore::new(HANDSHAKES_MAX),
            done: watch::Sender::new(0),
        }
    }
}

/// Stations that are at work.
pub(crate) struct StationFleet {
    pub(crate) context: Arc<FleetContext>,
    phase: watch::Sender<FleetPhase>,
    stations: JoinSet<ChargePoint>,
}

impl StationFleet {
    /// Sets stations to work.
    pub(crate) fn start(context: FleetContext, stations: Vec<ChargePoint>) -> Self {
        let (context, phase) =
            (Arc::new(context), watch::Sender::new(FleetPhase::Working { storms: 0 }));
        let mut tasks = JoinSet::new();
        for point in stations {
            let fault_rng = Rng::with_seed(point.plan().seed ^ 0x5EED);
            let working = WorkingStation {
                context: context.clone(),
                phase: phase.subscribe(),
                point,
                connection: None,
                fault_rng,
                is_counted: false,
                storms: 0,
            };
            tasks.spawn(working.run());
        }
        Self { context, phase, stations: tasks }
    }

    /// Cuts all connections at once; the stations connect again as fast as they can.
    pub(crate) fn storm(&self) {
        self.phase.send_modify(|phase| {
            if let FleetPhase::Working { storms } = phase {
                *storms += 1;
            }
        });
    }

    /// Waits until all stations have told of all their sessions.
    pub(crate) async fn wait_done(&self) {
        let all = self.stations.len();
        // The sender is ours, so it never closes.
        let _ = self.context.done.subscribe().wait_for(|done| *done >= all).await;
    }

    /// Ends all sessions, waits until everything is told or the time is over, and returns the
    /// stations.
    pub(crate) async fn close(mut self, within: Duration) -> Vec<ChargePoint> {
        self.phase.send_replace(FleetPhase::Closing);
        let deadline = tokio::time::Instant::now() + within;
        let mut points = Vec::with_capacity(self.stations.len());
        loop {
            match tokio::time::timeout_at(deadline, self.stations.join_next()).await {
                Ok(Some(Ok(point))) => points.push(point),
                Ok(Some(Err(_))) => {}
                Ok(None) => return points,
                Err(_) => break,
            }
        }
        self.phase.send_replace(FleetPhase::Over);
        while let Some(joined) = self.stations.join_next().await {
            points.extend(joined.ok());
        }
        points
    }
}

struct WorkingStation {
    context: Arc<FleetContext>,
    phase: watch::Receiver<FleetPhase>,
    point: ChargePoint,
    connection: Option<StationConnection>,
    fault_rng: Rng,
    is_counted: bool,
    storms: u32,
}

struct StationConnection {
    line: StationLine,
    fault: Option<LineFault>,
    /// Moment at which the call was sent whose answer is awaited.
    asked: Instant,
}

/// Fault that a line has from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineFault {
    /// The next frame is lost, and the connection with it.
    LosesReply,
    /// Nothing arrives any more, though it stays open.
    HalfOpen,
}

impl WorkingStation {
    async fn run(mut self) -> ChargePoint {
        loop {
            let now_ms = self.context.pace.now_ms();
            let phase = *self.phase.borrow_and_update();
            match phase {
                FleetPhase::Working { storms } if storms > self.storms => {
                    self.storms = storms;
                    self.lose(now_ms, 0);
                }
                FleetPhase::Working { .. } => {}
                FleetPhase::Closing => self.point.close(now_ms),
                FleetPhase::Over => return self.end(),
            }
            self.point.advance(now_ms);
            if self.point.is_done() {
                self.count_done();
                if phase == FleetPhase::Closing {
                    return self.end();
                }
            }
            if self.connection.is_none() && self.point.may_connect(now_ms) {
                self.connect().await;
            } else if self.send(now_ms).await {
                self.wait().await;
            }
        }
    }

    fn end(mut self) -> ChargePoint {
        let now_ms = self.context.pace.now_ms();
        self.lose(now_ms, 0);
        self.point
    }

    fn count_done(&mut self) {
        if !std::mem::replace(&mut self.is_counted, true) {
            self.context.done.send_modify(|done| *done += 1);
        }
    }

    async fn connect(&mut self) {
        let context = self.context.clone();
        let plan = self.point.plan().clone();
        let turn = context.handshakes.acquire().await;
        let connected = context.dialer.connect(&plan.identity, plan.habits).await;
        drop(turn);
        let now_ms = context.pace.now_ms();
        match connected {
            Ok(line) => {
                context.figures.connected.add();
                context.figures.online.add();
                let asked = Instant::now();
                self.connection = Some(StationConnection { line, fault: None, asked });
                self.point.connected(now_ms);
            }
            Err(error) => {
                context.figures.not_connected.add();
                tracing::debug!(station = &*plan.identity, %error, "no connection");
                let retry_ms = self.retry_ms();
                self.point.disconnected(now_ms, retry_ms);
            }
        }
    }

    fn retry_ms(&mut self) -> u64 {
        self.context.pace.model_ms(self.fault_rng.u64(RECONNECT_MS))
    }

    fn lose(&mut self, now_ms: u64, retry_ms: u64) {
        if self.connection.take().is_some() {
            self.context.figures.online.take_one();
            self.point.disconnected(now_ms, retry_ms);
        }
    }

    /// Sends all that is to be sent; false if the connection ended over it.
    async fn send(&mut self, now_ms: u64) -> bool {
        while let Some(output) = self.point.poll(now_ms) {
            let StationOutput::Send(text) = output else {
                self.lose(now_ms, 0);
                return false;
            };
            let is_call = text.starts_with("[2,");
            if is_call && self.context.has_faults && !self.point.is_closing() {
                self.draw_fault();
                if self.fault_rng.u32(..1_000) < CUTS_PER_1000 {
                    self.context.figures.cuts.add();
                    let retry_ms = self.retry_ms();
                    self.lose(now_ms, retry_ms);
                    return false;
                }
            }
            let Some(connection) = &mut self.connection else { return false };
            connection.asked = Instant::now();
            if connection.line.send(text).await.is_err() {
                let retry_ms = self.retry_ms();
                self.lose(now_ms, retry_ms);
                return false;
            }
            self.context.figures.frames_sent.add();
        }
        true
    }

    fn draw_fault(&mut self) {
        let drawn = self.fault_rng.u32(..1_000);
        let Some(connection) = &mut self.connection else { return };
        if connection.fault.is_some() {
            return;
        }
        if drawn < LOST_REPLIES_PER_1000 {
            connection.fault = Some(LineFault::LosesReply);
        } else if drawn < LOST_REPLIES_PER_1000 + HALF_OPEN_PER_1000 {
            self.context.figures.half_open.add();
            connection.fault = Some(LineFault::HalfOpen);
        }
    }

    /// Waits for a frame, for the time at which the station does something, or for a new phase.
    async fn wait(&mut self) {
        let now_ms = self.context.pace.now_ms();
        let due = self.context.pace.instant(self.point.due_ms(now_ms));
        let frame = async {
            match &mut self.connection {
                Some(StationConnection { line, .. }) => line.receive().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            frame = frame => self.take(frame),
            () = tokio::time::sleep_until(due) => {}
            _ = self.phase.changed() => {}
        }
    }

    fn take(&mut self, frame: Option<String>) {
        let now_ms = self.context.pace.now_ms();
        let retry_ms = self.retry_ms();
        let Some(connection) = &self.connection else { return };
        let (fault, asked) = (connection.fault, connection.asked);
        match (frame, fault) {
            (None, _) => self.lose(now_ms, retry_ms),
            (Some(_), Some(LineFault::HalfOpen)) => {}
            (Some(_), Some(LineFault::LosesReply)) => {
                self.context.figures.lost_replies.add();
                self.lose(now_ms, retry_ms);
            }
            (Some(text), None) => {
                self.context.figures.frames_received.add();
                if self.point.received(&text, now_ms) {
                    self.context.figures.answered_in(asked.elapsed());
                }
            }
        }
    }
}
