//! Access of a station to the server: the credential that it must show, and the security profile
//! that it is held to.
//!
//! A credential that an operator sets counts at once. One that the station is asked to take counts
//! beside the old one, until it is known which of them the station has: the station says so by its
//! answer, or shows it when it connects. The profile rises by itself when the station has first
//! connected in a better way; only an operator lowers it.

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::credential::{
    AccessCommand, CredentialOffered, CredentialSet, CredentialSettled, SecurityProfile,
    SecurityProfileChanged, ShownCredential, StationCredential,
};
use super::{Station, StationEvent, StationRefusal};
use crate::domain::operation::{OperationAnswered, OperationRequested, OperationResult};
use crate::domain::request::{RequestId, StationAnswer};

/// Access of a station.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StationAccess {
    /// Profile below which it is refused.
    pub(crate) profile: SecurityProfile,
    /// Credential; `None` if it has none.
    pub(crate) credential: Option<StationCredential>,
    /// Credential that it was asked to take; `None` if that is settled.
    pub(crate) offered: Option<OpenOffer>,
}

/// Credential that a station was asked to take, and of which it is not known yet if it has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenOffer {
    /// The offer.
    pub(crate) offer: CredentialOffered,
    /// True if the station has answered that it does not take it.
    pub(crate) is_refused: bool,
}

impl StationAccess {
    /// Takes in an event about the access.
    pub(super) fn apply(&mut self, event: &StationEvent) {
        match event {
            StationEvent::CredentialSet(set) => self.credential_set(set),
            StationEvent::CredentialOffered(offer) => {
                self.offered = Some(OpenOffer { offer: offer.clone(), is_refused: false });
            }
            StationEvent::CredentialSettled(settled) => {
                self.settle(&settled.request, settled.is_taken);
            }
            StationEvent::SecurityProfileChanged(changed) => self.profile = changed.profile,
            _ => {}
        }
    }

    /// Takes in that an operator has set the credential: the station must show it from now on.
    fn credential_set(&mut self, set: &CredentialSet) {
        (self.credential, self.offered) = (Some(set.credential.clone()), None);
        self.profile = self.profile.max(SecurityProfile::Credential);
    }

    /// Takes in what the station answered. One that has to restart first has both until it connects
    /// with the new one; one that refused, until it connects with either.
    pub(super) fn answered(&mut self, answered: &OperationAnswered) {
        match &answered.answer {
            StationAnswer::Accepted => {
                if !matches!(answered.result, Some(OperationResult::RestartRequired {})) {
                    self.settle(&answered.request, true);
                }
            }
            StationAnswer::NotDone { .. } => self.settle(&answered.request, false),
            StationAnswer::Rejected { .. } => {
                if let Some(open) = &mut self.offered
                    && open.offer.request == answered.request
                {
                    open.is_refused = true;
                }
            }
        }
    }

    fn settle(&mut self, request: &RequestId, is_taken: bool) {
        if let Some(open) = self.offered.take_if(|open| open.offer.request == *request)
            && is_taken
        {
            self.credential = Some(open.offer.credential);
        }
    }

    /// Decides what follows of a connection.
    fn decide_connected(
        &self,
        profile: SecurityProfile,
        shown: ShownCredential,
        at: Timestamp,
    ) -> Vec<StationEvent> {
        let mut events = Vec::new();
        if let Some(open) = &self.offered
            && self.tells(shown)
        {
            let (request, is_taken) =
                (open.offer.request.clone(), shown == ShownCredential::Offered);
            let settled = CredentialSettled { request, is_taken, at };
            events.push(StationEvent::CredentialSettled(settled));
        }
        if profile > self.profile {
            let changed = SecurityProfileChanged { profile, by: None };
            events.push(StationEvent::SecurityProfileChanged(changed));
        }
        events
    }

    /// Tells whether a connection changes anything.
    pub(crate) fn is_news(&self, profile: SecurityProfile, shown: ShownCredential) -> bool {
        profile > self.profile || self.tells(shown)
    }

    /// Tells whether it is known by what a station shows which credential it has. The old one says
    /// so only if the station has refused the new one: otherwise it may take that later.
    fn tells(&self, shown: ShownCredential) -> bool {
        self.offered.as_ref().is_some_and(|open| match shown {
            ShownCredential::Nothing => false,
            ShownCredential::Present => open.is_refused,
            ShownCredential::Offered => true,
        })
    }
}

impl Station {
    /// Decides that the station is asked to take a new credential, by an operation that carries it.
    pub(super) fn decide_offer(
        &self,
        asked: &OperationRequested,
        credential: &StationCredential,
    ) -> Result<Vec<StationEvent>, StationRefusal> {
        let is_refused = |open: &OpenOffer| open.is_refused;
        if self.access.offered.as_ref().is_some_and(|open| !is_refused(open)) && !asked.forced {
            return Err(StationRefusal::CredentialInDoubt);
        }
        let intent = self.decide_operation(asked)?;
        let (request, by) = (asked.request.clone(), asked.by.clone());
        let offer = CredentialOffered { request, credential: credential.clone(), by };
        // The intent comes last: its position names the effect.
        let mut events = vec![StationEvent::CredentialOffered(offer)];
        events.extend(intent);
        Ok(events)
    }

    /// Decides about the access of the station. Nothing of it is refused.
    pub(super) fn decide_access(&self, command: &AccessCommand) -> Vec<StationEvent> {
        let access = &self.access;
        match command {
            AccessCommand::SetCredential(set)
                if access.offered.is_none()
                    && access.credential.as_ref() == Some(&set.credential) =>
            {
                Vec::new()
            }
            AccessCommand::SetCredential(set) => vec![StationEvent::CredentialSet(set.clone())],
            AccessCommand::SetProfile { profile, .. } if access.profile == *profile => Vec::new(),
            AccessCommand::SetProfile { profile, by } => {
                let changed = SecurityProfileChanged { profile: *profile, by: Some(by.clone()) };
                vec![StationEvent::SecurityProfileChanged(changed)]
            }
            AccessCommand::Connected { profile, shown, at } => {
                access.decide_connected(*profile, *shown, *at)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use leftfold::prelude::Aggregate;

    use super::*;

    fn key(hash: &str) -> StationCredential {
        StationCredential::Key { hash: hash.to_owned() }
    }

    /// A station that has the key `old`, and was asked to take `new`.
    fn asked() -> Station {
        let mut station = Station::default();
        let by = "ada".to_owned();
        station.apply(&StationEvent::CredentialSet(CredentialSet {
            credential: key("old"),
            by: by.clone(),
        }));
        let request = RequestId("r".to_owned());
        let offer = CredentialOffered { request, credential: key("new"), by };
        station.apply(&StationEvent::CredentialOffered(offer));
        station
    }

    fn answered(answer: StationAnswer, result: Option<OperationResult>) -> Station {
        let mut station = asked();
        let (request, at) = (RequestId("r".to_owned()), Timestamp::now());
        let answered = OperationAnswered { request, at, answer, result };
        station.apply(&StationEvent::OperationAnswered(Box::new(answered)));
        station
    }

    fn connect(station: &mut Station, shown: ShownCredential) {
        let (profile, at) = (SecurityProfile::Credential, Timestamp::now());
        let command = AccessCommand::Connected { profile, shown, at };
        for event in station.decide_access(&command) {
            station.apply(&event);
        }
    }

    /// The credentials that count: the present one, and the one that was offered.
    fn counting(station: &Station) -> (&str, Option<&str>) {
        let hash = |credential| match credential {
            &StationCredential::Key { ref hash } | &StationCredential::Password { ref hash } => {
                hash.as_str()
            }
        };
        let StationAccess { credential, offered, .. } = &station.access;
        let offered = offered.as_ref().map(|open| hash(&open.offer.credential));
        (hash(credential.as_ref().unwrap()), offered)
    }

    #[test]
    fn the_old_key_counts_until_the_station_has_taken_the_new_one() {
        assert_eq!(counting(&asked()), ("old", Some("new")));
        assert_eq!(counting(&answered(StationAnswer::Accepted, None)), ("new", None));
        let restart = Some(OperationResult::RestartRequired {});
        let mut restarting = answered(StationAnswer::Accepted, restart);
        connect(&mut restarting, ShownCredential::Present);
        assert_eq!(counting(&restarting), ("old", Some("new")), "it has not restarted yet");
        connect(&mut restarting, ShownCredential::Offered);
        assert_eq!(counting(&restarting), ("new", None));
        let reason = "not connected".to_owned();
        assert_eq!(counting(&answered(StationAnswer::NotDone { reason }, None)), ("old", None));
    }

    #[test]
    fn after_a_refusal_or_in_doubt_both_keys_count_until_it_is_known_which_one_the_station_has() {
        for (shown, counts) in
            [(ShownCredential::Present, "old"), (ShownCredential::Offered, "new")]
        {
            let status = "Rejected".to_owned();
            let mut refused = answered(StationAnswer::Rejected { status }, None);
            assert_eq!(counting(&refused), ("old", Some("new")));
            connect(&mut refused, shown);
            assert_eq!(counting(&refused), (counts, None));
        }
        let mut in_doubt = asked();
        connect(&mut in_doubt, ShownCredential::Present);
        assert_eq!(counting(&in_doubt), ("old", Some("new")), "it may take it later");
        connect(&mut in_doubt, ShownCredential::Offered);
        assert_eq!(counting(&in_doubt), ("new", None));
    }

    #[test]
    fn the_profile_rises_when_it_was_proved_and_never_falls_by_itself() {
        let mut station = asked();
        let at = Timestamp::now();
        let (shown, certified) = (ShownCredential::Nothing, SecurityProfile::Certificate);
        let connected = |profile| AccessCommand::Connected { profile, shown, at };
        for event in station.decide_access(&connected(certified)) {
            station.apply(&event);
        }
        assert_eq!(station.access.profile, certified);
        assert_eq!(station.decide_access(&connected(SecurityProfile::Credential)), []);
        let by = "ada".to_owned();
        let set = AccessCommand::SetProfile { profile: SecurityProfile::Open, by };
        for event in station.decide_access(&set) {
            station.apply(&event);
        }
        assert_eq!(station.access.profile, SecurityProfile::Open);
    }
}
