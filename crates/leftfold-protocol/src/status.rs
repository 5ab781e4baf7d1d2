//! The identity of a store, its durable end and its state.

use std::time::Instant;

use bytes::Bytes;
use leftfold_core::store::{
    Epoch, Hash, Head, Identity, Position, State, Status, StoreId, Timestamp,
};

use crate::malformed::{Malformed, exactly, some, uuid, uuid_bytes};
use crate::wire;

impl From<Identity> for wire::Identity {
    fn from(identity: Identity) -> Self {
        Self {
            store: uuid_bytes(identity.store.0),
            epoch: uuid_bytes(identity.epoch.id),
            epoch_number: identity.epoch.number,
            epoch_began_after: identity.epoch.began_after.0,
        }
    }
}

impl TryFrom<wire::Identity> for Identity {
    type Error = Malformed;

    fn try_from(identity: wire::Identity) -> Result<Self, Malformed> {
        Ok(Self {
            store: StoreId(uuid("store", &identity.store)?),
            epoch: Epoch {
                id: uuid("epoch", &identity.epoch)?,
                number: identity.epoch_number,
                began_after: Position(identity.epoch_began_after),
            },
        })
    }
}

impl From<Head> for wire::Head {
    fn from(head: Head) -> Self {
        Self {
            position: head.position.0,
            chain: Bytes::copy_from_slice(&head.chain.0),
            recorded_at: head.recorded_at.as_micros(),
        }
    }
}

impl TryFrom<wire::Head> for Head {
    type Error = Malformed;

    fn try_from(head: wire::Head) -> Result<Self, Malformed> {
        Ok(Self {
            position: Position(head.position),
            chain: Hash(exactly("chain", &head.chain)?),
            recorded_at: Timestamp::from_micros(head.recorded_at),
        })
    }
}

/// A store that is closed has no status to send: the server ends the call.
impl From<&Status> for wire::Status {
    fn from(status: &Status) -> Self {
        let (read_only, away) = match &status.state {
            State::Open => (None, None),
            State::ReadOnly { detail } => (Some(detail.clone()), None),
            State::Away { detail, .. } => (None, Some(detail.clone())),
            State::Closed => (Some("the store is closed".to_owned()), None),
        };
        Self { head: Some(status.head.into()), read_only, away }
    }
}

impl TryFrom<wire::Status> for Status {
    type Error = Malformed;

    fn try_from(status: wire::Status) -> Result<Self, Malformed> {
        let head = some("head", status.head)?.try_into()?;
        let state = match (status.away, status.read_only) {
            (None, None) => State::Open,
            (None, Some(detail)) => State::ReadOnly { detail },
            // Since it was heard of: the clocks of both sides are not compared.
            (Some(detail), _) => State::Away { since: Instant::now(), detail },
        };
        Ok(Self { head, state })
    }
}
