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
    CredentialOffered, CredentialSet, CredentialSettled, SecurityProfile, SecurityProfileChanged,
    ShownCredential, StationCredential,
};
use super::{Station, StationEvent};

/// Access of a station.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StationAccess {
    /// Profile below which it is refused.
    pub(crate) profile: SecurityProfile,
    /// Credential; `None` if it has none.
    pub(crate) credential: Option<StationCredential>,
    /// Credential that it was asked to take; `None` if that is settled.
    pub(crate) offered: Option<CredentialOffered>,
}

/// Command about the access of a station.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum AccessCommand {
    /// Set its credential.
    SetCredential(CredentialSet),
    /// Record that it is asked to take a new credential.
    OfferCredential(CredentialOffered),
    /// Set its profile.
    SetProfile {
        /// Profile from now on.
        profile: SecurityProfile,
        /// Caller who sets it.
        by: String,
    },
    /// The station has connected.
    Connected {
        /// Profile by which it did.
        profile: SecurityProfile,
        /// Credential that it showed.
        shown: ShownCredential,
        /// Moment of the connection.
        at: Timestamp,
    },
}

impl StationAccess {
    /// Returns the profile below which the station is refused: one that has a credential must show
    /// it.
    pub(crate) fn least_profile(&self) -> SecurityProfile {
        match self.credential {
            Some(_) => self.profile.max(SecurityProfile::Credential),
            None => self.profile,
        }
    }

    /// Takes in an event about the access.
    pub(super) fn apply(&mut self, event: &StationEvent) {
        match event {
            StationEvent::CredentialSet(set) => self.credential_set(set),
            StationEvent::CredentialOffered(offered) => self.offered = Some(offered.clone()),
            StationEvent::CredentialSettled(settled) => self.credential_settled(settled),
            StationEvent::SecurityProfileChanged(changed) => self.profile = changed.profile,
            _ => {}
        }
    }

    /// Takes in that an operator has set the credential.
    fn credential_set(&mut self, set: &CredentialSet) {
        (self.credential, self.offered) = (Some(set.credential.clone()), None);
    }

    /// Takes in which credential the station has.
    fn credential_settled(&mut self, settled: &CredentialSettled) {
        let offered = self.offered.take_if(|offered| offered.request == settled.request);
        if let Some(offered) = offered
            && settled.is_taken
        {
            self.credential = Some(offered.credential);
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
        if let Some(offered) = &self.offered
            && shown == ShownCredential::Offered
        {
            let (request, is_taken) = (offered.request.clone(), true);
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
        profile > self.profile || (shown == ShownCredential::Offered && self.offered.is_some())
    }
}

impl Station {
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
            AccessCommand::OfferCredential(offered) => {
                vec![StationEvent::CredentialOffered(offered.clone())]
            }
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
