//! Deadlines that survive restarts: processes with durable timers.
//!
//! Silence is not among them: a message of a station writes nothing, so that is watched by light
//! countdowns in memory.

use leftfold::fold::Recorded;
use leftfold::prelude::{
    Context, Correlation, Event, Owners, Process, Reaction, Targets, Timestamp, Trigger,
};
use serde::{Deserialize, Serialize};

use crate::domain::request::{Answered, RequestId, StationAnswer};
use crate::domain::station::{Station, StationCommand, StationEvent};

/// The names of the processes.
pub const PROCESSES: [&str; 2] = [RemoteStartDeadline::NAME, ReservationExpiry::NAME];

/// The time of a remote start: if the station accepted it and no transaction started by then, that
/// is recorded. Nothing is sent again. An instance is a request.
#[derive(Debug, Default)]
pub struct RemoteStartDeadline {
    station: String,
    until: Option<Timestamp>,
    is_accepted: bool,
    is_over: bool,
}

/// Events that [`RemoteStartDeadline`] reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RemoteStartFact {
    /// A remote start was requested.
    #[serde(rename = "station.RemoteStartRequested")]
    Requested {
        /// The station.
        station: String,
        /// Name of the request.
        request: RequestId,
        /// End of its time.
        until: Timestamp,
    },
    /// The station answered, or it is known that the station will not answer.
    #[serde(rename = "station.RemoteStartAnswered")]
    Answered(Answered),
    /// A transaction started.
    #[serde(rename = "station.TransactionStarted")]
    Started {
        /// The remote start that led to it.
        #[serde(default)]
        remote_start: Option<RequestId>,
    },
}

impl Event for RemoteStartFact {
    const NAMESPACE: &'static str = "remote_start_fact";

    fn owners() -> Owners {
        Owners::of::<StationEvent>()
    }
}

impl Process for RemoteStartDeadline {
    const NAME: &'static str = "remote_start_deadline";
    type Event = RemoteStartFact;

    fn targets() -> Targets {
        Targets::of::<Station>()
    }

    fn correlate(event: &Recorded<RemoteStartFact>) -> Correlation {
        match &event.event {
            RemoteStartFact::Requested { request, .. } => Correlation::starts(&request.0),
            RemoteStartFact::Answered(Answered { request, answer: StationAnswer::Accepted }) => {
                Correlation::continues(&request.0)
            }
            RemoteStartFact::Answered(Answered { request, .. })
            | RemoteStartFact::Started { remote_start: Some(request) } => {
                Correlation::ends(&request.0)
            }
            RemoteStartFact::Started { remote_start: None } => Correlation::ignores(),
        }
    }

    fn apply(&mut self, trigger: &Trigger<RemoteStartFact>, _: &Context) {
        match trigger {
            Trigger::Event(RemoteStartFact::Requested { station, until, .. }) => {
                (self.station, self.until) = (station.clone(), Some(*until));
            }
            Trigger::Event(RemoteStartFact::Answered(answered)) => {
                self.is_accepted = answered.answer == StationAnswer::Accepted;
            }
            Trigger::TimerFired { .. } => self.is_over = true,
            Trigger::Event(RemoteStartFact::Started { .. }) | Trigger::Refused(_) => {}
        }
    }

    // ANCHOR: react
    fn react(&self, trigger: &Trigger<RemoteStartFact>, context: &Context) -> Reaction {
        match (trigger, self.until) {
            (Trigger::Event(RemoteStartFact::Requested { until, .. }), _) => {
                Reaction::none().timer("start", *until)
            }
            // Where it was in doubt until after its time, the answer is the last thing to wait for.
            (
                Trigger::Event(RemoteStartFact::Answered(_)) | Trigger::TimerFired { .. },
                Some(at),
            ) if self.is_accepted && self.is_over => {
                let request = RequestId(context.key.clone());
                Reaction::none()
                    .command::<Station>(
                        &self.station,
                        StationCommand::LapseRemoteStart { request, at },
                    )
                    .end()
            }
            _ => Reaction::none(),
        }
    }
    // ANCHOR_END: react
}

/// The time of a reservation: if it was not used by then, it ends. The station ends it by itself.
/// An instance is a reservation of a station.
#[derive(Debug, Default)]
pub struct ReservationExpiry {
    reservation: Option<(String, i64)>,
}

/// Events that [`ReservationExpiry`] reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReservationFact {
    /// A reservation was requested.
    #[serde(rename = "station.ReservationRequested")]
    Requested {
        /// The station.
        station: String,
        /// Id of the reservation, unique at the station.
        reservation_id: i64,
        /// Moment when it ends if it was not used.
        expiry_date: Timestamp,
    },
    /// A transaction started.
    #[serde(rename = "station.TransactionStarted")]
    Started {
        /// The reservation that it used.
        #[serde(default)]
        reservation_id: Option<i64>,
    },
}

impl Event for ReservationFact {
    const NAMESPACE: &'static str = "reservation_fact";

    fn owners() -> Owners {
        Owners::of::<StationEvent>()
    }
}

impl Process for ReservationExpiry {
    const NAME: &'static str = "reservation_expiry";
    type Event = ReservationFact;

    fn targets() -> Targets {
        Targets::of::<Station>()
    }

    fn correlate(event: &Recorded<ReservationFact>) -> Correlation {
        let key = |id: i64| format!("{}/{id}", event.stream_id());
        match event.event {
            ReservationFact::Requested { reservation_id, .. } => {
                Correlation::starts(key(reservation_id))
            }
            ReservationFact::Started { reservation_id: Some(id) } => Correlation::ends(key(id)),
            ReservationFact::Started { reservation_id: None } => Correlation::ignores(),
        }
    }

    fn apply(&mut self, trigger: &Trigger<ReservationFact>, _: &Context) {
        if let Trigger::Event(ReservationFact::Requested { station, reservation_id, .. }) = trigger
        {
            self.reservation = Some((station.clone(), *reservation_id));
        }
    }

    fn react(&self, trigger: &Trigger<ReservationFact>, context: &Context) -> Reaction {
        match (trigger, &self.reservation) {
            (Trigger::Event(ReservationFact::Requested { expiry_date, .. }), _) => {
                Reaction::none().timer("expiry", *expiry_date)
            }
            (Trigger::TimerFired { .. }, Some((station, reservation_id))) => {
                let command = StationCommand::ExpireReservation {
                    reservation_id: *reservation_id,
                    at: context.at,
                };
                Reaction::none().command::<Station>(station, command).end()
            }
            _ => Reaction::none(),
        }
    }
}
