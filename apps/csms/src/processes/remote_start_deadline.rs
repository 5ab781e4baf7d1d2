//! The end of the time of a remote start.

use leftfold::fold::Recorded;
use leftfold::prelude::{
    Context, Correlation, Event, Owners, Process, Reaction, Targets, Timestamp, Trigger,
};
use serde::{Deserialize, Serialize};

use crate::domain::request::{RequestAnswered, RequestId, StationAnswer};
use crate::domain::station::{Station, StationCommand, StationEvent};

/// The time of a remote start: if the station accepted it and no transaction started by then, that
/// is recorded. Nothing is sent again. An instance is a request.
#[derive(Debug, Default)]
pub(super) struct RemoteStartDeadline {
    station: String,
    until: Option<Timestamp>,
    is_accepted: bool,
    is_over: bool,
}

/// Events that [`RemoteStartDeadline`] reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum RemoteStartFact {
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
    Answered(RequestAnswered),
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
            RemoteStartFact::Answered(RequestAnswered {
                request,
                answer: StationAnswer::Accepted,
            }) => Correlation::continues(&request.0),
            RemoteStartFact::Answered(RequestAnswered { request, .. })
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
