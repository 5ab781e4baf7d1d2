//! One connection: a task that owns the socket and drives the [`Session`].

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use leftfold_callers::RateBucket;
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::report::answer;
use super::silence::{come_online, connect};
use crate::app::Csms;
use crate::config::Config;
use crate::connections::{OutgoingCall, RegisteredConnection, SignOfLife};
use crate::domain::request::RequestId;
use crate::ocpp::frame::MessageId;
use crate::ocpp::session::{
    CallKey, CallOutcome, Limits, Received, Reply, Session, SessionOutput, SettledCall,
    StationCall, Transmission,
};

/// Silences, each of which makes a station offline, after which its connection is ended: the other
/// end of it is gone.
const CUT_AFTER_SILENCES: u32 = 3;
/// Time that writing one message may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Work for the station, done one job after the other, so that its messages keep their order.
enum StationJob {
    /// To record that it is connected here.
    Connect,
    ComeOnline,
    Answer(StationCall),
}

/// Result of a job.
enum JobEnd {
    Done,
    /// It could not be recorded that the station is connected here.
    NotConnected,
    Answered(CallKey, Reply),
}

type Working = Pin<Box<dyn Future<Output = JobEnd> + Send>>;

struct Connection {
    csms: Arc<Csms>,
    station: Arc<str>,
    socket: WebSocket,
    session: Session,
    place: RegisteredConnection,
    /// True if the first sign of life on this connection is recorded, or about to be.
    is_heard: bool,
    /// Callers that await the answers to our calls.
    waiting: HashMap<MessageId, oneshot::Sender<CallOutcome>>,
    jobs: VecDeque<StationJob>,
    working: Option<Working>,
    pings: Interval,
    /// Messages of the station by the second.
    rate: RateBucket,
    /// Moment before which nothing more is read.
    read_from: tokio::time::Instant,
    /// Moment of the last sign of life; that of the connection before the first.
    heard_at: Instant,
    /// True if the station has answered a ping.
    answers_pings: bool,
}

/// Cause of the end of a connection.
enum End {
    /// The station left, or the socket broke.
    Gone,
    /// We end it, and say why.
    Close(u16, &'static str),
}

/// Serves a connection until it ends.
pub(super) async fn serve(csms: Arc<Csms>, station: Arc<str>, socket: WebSocket) {
    let place = csms.registry.enter(&station);
    tracing::info!(station = &*station, "connected");
    let every = csms.config.offline_after / 3;
    let mut pings = interval_at(tokio::time::Instant::now() + every, every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let connection = Connection {
        session: Session::new(Limits::default()),
        csms: csms.clone(),
        station: station.clone(),
        socket,
        place,
        is_heard: false,
        waiting: HashMap::new(),
        jobs: VecDeque::new(),
        working: None,
        pings,
        rate: RateBucket::default(),
        read_from: tokio::time::Instant::now(),
        heard_at: Instant::now(),
        answers_pings: false,
    };
    connection.run().await;
    tracing::info!(station = &*station, "disconnected");
}

impl Connection {
    async fn run(mut self) {
        let end = loop {
            if let Err(end) = self.write().await {
                break end;
            }
            self.start_working();
            if let Err(end) = self.next().await {
                break end;
            }
        };
        self.csms.registry.leave(&self.station, self.place.generation);
        self.place.calls.close();
        while let Some(outgoing) = self.place.calls.recv().await {
            // Whoever called may be gone.
            let _ = outgoing.answer.send(CallOutcome::ConnectionLost(Transmission::NeverWritten));
        }
        for SettledCall { id, outcome } in self.session.close() {
            settle(&mut self.waiting, &id, outcome);
        }
        if let End::Close(code, reason) = end {
            let frame = CloseFrame { code, reason: reason.into() };
            let _ = timeout(WRITE_TIMEOUT, self.socket.send(Message::Close(Some(frame)))).await;
        }
    }

    /// Writes all output of the session, and settles the calls that timed out.
    async fn write(&mut self) -> Result<(), End> {
        while let Some(output) = self.session.poll(Instant::now()) {
            match output {
                SessionOutput::Settled(SettledCall { id, outcome }) => {
                    settle(&mut self.waiting, &id, outcome)
                }
                SessionOutput::Send(text) => self.send(Message::text(text)).await?,
            }
        }
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(WRITE_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    fn start_working(&mut self) {
        if self.working.is_some() {
            return;
        }
        let Some(job) = self.jobs.pop_front() else { return };
        let (csms, station) = (self.csms.clone(), self.station.clone());
        let generation = self.place.generation;
        self.working = Some(Box::pin(async move {
            match job {
                StationJob::Connect => match connect(&csms, &station, generation).await {
                    true => JobEnd::Done,
                    false => JobEnd::NotConnected,
                },
                StationJob::ComeOnline => {
                    come_online(&csms, &station).await;
                    JobEnd::Done
                }
                StationJob::Answer(call) => {
                    JobEnd::Answered(call.key, answer(&csms, &station, &call).await)
                }
            }
        }));
    }

    /// Waits for the next thing to happen, and takes it in.
    async fn next(&mut self) -> Result<(), End> {
        let deadline = self.session.next_deadline().map(tokio::time::Instant::from_std);
        let work = async {
            match &mut self.working {
                Some(working) => working.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = work => {
                self.working = None;
                match done {
                    JobEnd::Done => {}
                    // The next sign of life tries again.
                    JobEnd::NotConnected => self.is_heard = false,
                    JobEnd::Answered(key, reply) => {
                        // The session knows the call, since it handed it out and answers it here
                        // only.
                        let _ = self.session.reply(key, reply, Instant::now());
                    }
                }
                Ok(())
            }
            call = self.place.calls.recv() => match call {
                Some(outgoing) => {
                    self.call(outgoing);
                    Ok(())
                }
                None if self.csms.registry.is_shut() => {
                    Err(End::Close(close_code::AGAIN, "the server cannot reach its store"))
                }
                None => Err(End::Close(close_code::NORMAL, "replaced by a newer connection")),
            },
            message = read_from(self.read_from, &mut self.socket),
                if !self.session.is_saturated() => match message {
                Some(Ok(message)) => self.take(message),
                Some(Err(error)) => {
                    tracing::info!(station = &*self.station, %error, "the connection broke");
                    Err(End::Gone)
                }
                None => Err(End::Gone),
            },
            () = sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)),
                if deadline.is_some() => Ok(()),
            _ = self.pings.tick() => self.ping().await,
            () = self.csms.stopping() => Err(End::Close(close_code::AWAY, "the server is going down")),
        }
    }

    /// Sends a ping, or ends a connection on which nothing was heard for too long.
    async fn ping(&mut self) -> Result<(), End> {
        if self.heard_at.elapsed() > self.silent_for() * CUT_AFTER_SILENCES {
            return Err(End::Close(close_code::POLICY, "nothing was heard for too long"));
        }
        self.send(Message::Ping(bytes::Bytes::new())).await
    }

    /// Returns the time for which the station may be silent. One that answers no ping is heard of
    /// no sooner than it sends its next heartbeat.
    fn silent_for(&self) -> Duration {
        let Config { offline_after, heartbeat_interval, .. } = self.csms.config;
        match self.answers_pings {
            true => offline_after,
            false => offline_after.max(2 * heartbeat_interval),
        }
    }

    fn call(&mut self, OutgoingCall { call, deadline, answer }: OutgoingCall) {
        let id = call.id.clone();
        match self.session.call(call, deadline) {
            Ok(()) => drop(self.waiting.insert(id, answer)),
            Err(rejected) => {
                tracing::warn!(station = &*self.station, %rejected, "a call was not sent");
                let _ = answer.send(CallOutcome::ConnectionLost(Transmission::NeverWritten));
            }
        }
    }

    fn take(&mut self, message: Message) -> Result<(), End> {
        self.heard_at = Instant::now();
        let (rate, now) =
            (self.csms.config.way_in.messages_per_second, tokio::time::Instant::now());
        // Nothing is read while the turn of the last message is still to come.
        self.read_from = now + self.rate.take(1, Some(rate as u64), now).unwrap_or_default();
        self.answers_pings |= matches!(message, Message::Pong(_));
        let sign = self.csms.liveness.heard(&self.station, self.silent_for());
        if !std::mem::replace(&mut self.is_heard, true) {
            // A ping now tells soon whether the station answers any.
            self.pings.reset_immediately();
            self.jobs.push_back(StationJob::Connect);
        } else if sign == SignOfLife::First {
            self.jobs.push_back(StationJob::ComeOnline);
        }
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(End::Gone),
            Message::Binary(_) => {
                return Err(End::Close(close_code::UNSUPPORTED, "send text, as in OCPP-J"));
            }
        };
        match self.session.received(&text, Instant::now()) {
            Received::Call(call) => self.jobs.push_back(StationJob::Answer(call)),
            Received::Settled(SettledCall { id, outcome }) => {
                settle(&mut self.waiting, &id, outcome)
            }
            Received::Late { id, outcome } => self.answered_late(&id, outcome),
            Received::Repeated { id } | Received::InProgress { id } => {
                tracing::debug!(station = &*self.station, %id, "a message came again");
            }
            Received::Unsolicited { id } => {
                tracing::debug!(station = &*self.station, %id, "an answer to nothing")
            }
            Received::Malformed(error) => {
                tracing::warn!(station = &*self.station, %error, "no frame of OCPP-J")
            }
            Received::Overrun => {
                return Err(End::Close(
                    close_code::POLICY,
                    "await the answer before the next call",
                ));
            }
        }
        Ok(())
    }

    /// An answer that came too late for its call may still resolve a doubt.
    fn answered_late(&self, id: &MessageId, outcome: CallOutcome) {
        self.csms.registry.answered_late(RequestId(id.as_str().to_owned()), outcome);
        self.csms.look_again();
    }
}

/// Receives a message, but not before a moment.
async fn read_from(
    moment: tokio::time::Instant,
    socket: &mut WebSocket,
) -> Option<Result<Message, axum::Error>> {
    sleep_until(moment).await;
    socket.recv().await
}

fn settle(
    waiting: &mut HashMap<MessageId, oneshot::Sender<CallOutcome>>,
    id: &MessageId,
    outcome: CallOutcome,
) {
    if let Some(answer) = waiting.remove(id) {
        // Whoever called may be gone.
        let _ = answer.send(outcome);
    }
}
