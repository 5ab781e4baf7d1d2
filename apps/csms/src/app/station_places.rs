//! Places for work of which there is one piece at a time for each station, whatever it sends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Stations that have a place, or rest, at most; beyond that nothing is begun.
const PLACES_MAX: usize = 262_144;

/// Places of stations. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct StationPlaces(Arc<Mutex<HashMap<String, PlaceState>>>);

/// Place of a station.
#[derive(Clone, Copy, Debug, PartialEq)]
enum PlaceState {
    Taken,
    /// It is free from this moment on.
    RestsUntil(Instant),
}

/// Place that a station has until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct StationPlace {
    places: StationPlaces,
    /// The station.
    pub(crate) station: String,
    rest: Option<Duration>,
}

impl StationPlaces {
    /// Takes the place of a station; `None` if it is taken or rests.
    pub(crate) fn take(&self, station: &str) -> Option<StationPlace> {
        let now = Instant::now();
        let is_held = |state: &PlaceState| match state {
            PlaceState::Taken => true,
            PlaceState::RestsUntil(until) => now < *until,
        };
        let mut held = self.held();
        if held.get(station).is_some_and(is_held) {
            return None;
        }
        if held.len() >= PLACES_MAX {
            held.retain(|_, state| is_held(state));
        }
        if held.len() >= PLACES_MAX {
            return None;
        }
        held.insert(station.to_owned(), PlaceState::Taken);
        Some(StationPlace { places: self.clone(), station: station.to_owned(), rest: None })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, PlaceState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StationPlace {
    /// Has the place rest for a time after it was given back.
    pub(crate) fn rest_for(&mut self, time: Duration) {
        self.rest = Some(time);
    }
}

impl Drop for StationPlace {
    fn drop(&mut self) {
        let mut held = self.places.held();
        match self.rest {
            Some(time) => {
                held.insert(self.station.clone(), PlaceState::RestsUntil(Instant::now() + time));
            }
            None => {
                held.remove(&self.station);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_has_one_place_and_none_while_it_rests() {
        let places = StationPlaces::default();
        let mut place = places.take("CP-1").unwrap();
        assert!(places.take("CP-1").is_none() && places.take("CP-2").is_some());
        place.rest_for(Duration::ZERO);
        drop(place);
        drop(places.take("CP-1").expect("it has rested"));
        let mut place = places.take("CP-1").expect("it does not rest unless it is told to");
        place.rest_for(Duration::from_secs(3600));
        drop(place);
        assert!(places.take("CP-1").is_none());
    }
}
