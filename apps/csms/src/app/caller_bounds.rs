//! Bounds on those who call, whoever they are: stations, programs and people.

use std::sync::Arc;

use leftfold_callers::{AddressPrefix, Crowd, Guesses, NotLetIn, PasswordPool};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::config::StationSettings;
use crate::domain::station::ShownCredential;

/// Bounds on callers.
#[derive(Debug)]
pub(crate) struct CallerBounds {
    /// Permits for connections that are open at once.
    pub(crate) room: Arc<Semaphore>,
    /// Connections by address prefix.
    pub(crate) crowd: Crowd,
    /// Wrong passwords of stations by address prefix.
    guesses: Guesses,
    /// The same by the hash of the identity: an address may be one of many that somebody has.
    guesses_of_station: Guesses<[u8; 32]>,
    /// Comparisons of passwords that people chose, of people and of stations.
    pub(crate) passwords: PasswordPool,
}

impl CallerBounds {
    /// Creates the bounds that the operator has set.
    pub(super) fn new(settings: &StationSettings, passwords: &PasswordPool) -> Self {
        Self {
            room: Arc::new(Semaphore::new(settings.connections_max)),
            crowd: Crowd::new(settings.connections_of_prefix_max),
            guesses: Guesses::default(),
            guesses_of_station: Guesses::default(),
            passwords: passwords.clone(),
        }
    }

    /// Compares a password with those that a station may show, by their hashes; returns which it
    /// is. Who said many wrong ones waits, and who wants to be a station of which many wrong ones
    /// were said; a password that was found right before does not.
    ///
    /// # Errors
    /// [`NotLetIn`] if the password is wrong, or was not compared.
    pub(crate) async fn password_of(
        &self,
        station: &str,
        known: &[(&str, ShownCredential)],
        password: &[u8],
        prefix: AddressPrefix,
    ) -> Result<ShownCredential, NotLetIn> {
        let named = known.iter().map(|(hash, shown)| {
            (format!("station {shown:?} {station}"), Arc::<str>::from(*hash), *shown)
        });
        let named: Vec<_> = named.collect();
        for (name, hash, shown) in &named {
            if self.passwords.remembers(name, hash, password) {
                return Ok(*shown);
            }
        }
        if named.is_empty() {
            return Err(NotLetIn::Wrong);
        }
        let about = *blake3::hash(station.as_bytes()).as_bytes();
        let turn = self.guesses_of_station.turn(about, Instant::now()).ok_or(NotLetIn::Busy)?;
        sleep_until(turn.not_before).await;
        for (name, hash, shown) in named {
            let (hash, guesses) = (Some(hash), &self.guesses);
            match self.passwords.compare(&name, hash, password, prefix, guesses).await {
                Ok(()) => return Ok(shown),
                Err(NotLetIn::Wrong) => {}
                Err(NotLetIn::Busy) => return Err(NotLetIn::Busy),
            }
        }
        turn.end_wrong(Instant::now());
        Err(NotLetIn::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::station_settings_of;

    #[tokio::test]
    async fn wrong_passwords_of_a_station_count_from_wherever_they_come() {
        let pool = PasswordPool::new().unwrap();
        let bounds = CallerBounds::new(&station_settings_of(&[]), &pool);
        let hash = pool.hash(b"right").await.unwrap();
        let shown = ShownCredential::Present;
        let said = async |station: &str, password: &[u8], network: u8| {
            let prefix = AddressPrefix::of(std::net::IpAddr::from([192, 0, network, 1]));
            bounds.password_of(station, &[(&hash, shown)], password, prefix).await
        };
        assert_eq!(said("CP-1", b"right", 0).await, Ok(shown));
        for network in 1..9 {
            assert_eq!(said("CP-1", b"wrong", network).await, Err(NotLetIn::Wrong));
        }
        let is_compared_at_once = |station: &str| {
            let about = *blake3::hash(station.as_bytes()).as_bytes();
            let now = Instant::now();
            let turn = |_| bounds.guesses_of_station.turn(about, now).unwrap().not_before == now;
            [1, 2].map(turn)
        };
        assert_eq!(is_compared_at_once("CP-1"), [true, false], "one a second");
        assert_eq!(is_compared_at_once("CP-2"), [true, true]);
        let begun = Instant::now();
        assert_eq!(said("CP-1", b"right", 9).await, Ok(shown), "the station itself does not wait");
        assert!(begun.elapsed().as_millis() < 500, "{:?}", begun.elapsed());
    }
}
