//! The end of a reservation that nobody used.

use leftfold::fold::Recorded;
use leftfold::prelude::{
    Context, Correlation, Event, Owners, Process, Reaction, Targets, Timestamp, Trigger,
};
use serde::{Deserialize, Serialize};

use crate::domain::station::{Station, StationCommand, StationEvent};

/// The time of a reservation: if it was not used by then, it ends. The station ends it by itself.
/// An instance is a reservation of a station.
#[derive(Debug, Default)]
pub(super) struct ReservationExpiry {
    reservation: Option<(String, i64)>,
}

/// Events that [`ReservationExpiry`] reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum ReservationFact {
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
