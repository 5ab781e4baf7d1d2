//! Leases.

use std::time::Duration;

use leftfold_core::store::{
    Fence, HeldLease, Holder, Label, Lease, LeaseRequest, Leased, Timestamp,
};

use crate::malformed::{Malformed, some, uuid, uuid_bytes};
use crate::wire::{self, lease_reply};

impl From<LeaseRequest> for wire::LeaseRequest {
    fn from(request: LeaseRequest) -> Self {
        Self {
            work: request.work.as_str().to_owned(),
            holder: uuid_bytes(request.holder.0),
            during_micros: u64::try_from(request.during.as_micros()).unwrap_or(u64::MAX),
            note: request.note,
        }
    }
}

impl TryFrom<wire::LeaseRequest> for LeaseRequest {
    type Error = Malformed;

    fn try_from(request: wire::LeaseRequest) -> Result<Self, Malformed> {
        Ok(Self {
            work: Label::new(request.work)?,
            holder: Holder(uuid("holder", &request.holder)?),
            during: Duration::from_micros(request.during_micros),
            note: request.note,
        })
    }
}

impl From<Leased> for wire::LeaseReply {
    fn from(leased: Leased) -> Self {
        let leased = match leased {
            Leased::Held(lease) => lease_reply::Leased::Held(lease.into()),
            Leased::HeldBy { holder, until } => lease_reply::Leased::HeldBy(wire::HeldByOther {
                holder: uuid_bytes(holder.0),
                until: until.as_micros(),
            }),
        };
        Self { leased: Some(leased) }
    }
}

impl TryFrom<wire::LeaseReply> for Leased {
    type Error = Malformed;

    fn try_from(reply: wire::LeaseReply) -> Result<Self, Malformed> {
        Ok(match some("leased", reply.leased)? {
            lease_reply::Leased::Held(lease) => Self::Held(lease.try_into()?),
            lease_reply::Leased::HeldBy(other) => Self::HeldBy {
                holder: Holder(uuid("holder", &other.holder)?),
                until: Timestamp::from_micros(other.until),
            },
        })
    }
}

impl From<Lease> for wire::Lease {
    fn from(lease: Lease) -> Self {
        Self {
            work: lease.work.as_str().to_owned(),
            fence: lease.fence.0,
            until: lease.until.as_micros(),
        }
    }
}

impl TryFrom<wire::Lease> for Lease {
    type Error = Malformed;

    fn try_from(lease: wire::Lease) -> Result<Self, Malformed> {
        Ok(Self {
            work: Label::new(lease.work)?,
            fence: Fence(lease.fence),
            until: Timestamp::from_micros(lease.until),
        })
    }
}

impl From<HeldLease> for wire::HeldLease {
    fn from(lease: HeldLease) -> Self {
        Self {
            work: lease.work.as_str().to_owned(),
            holder: uuid_bytes(lease.holder.0),
            fence: lease.fence.0,
            until: lease.until.as_micros(),
            note: lease.note,
        }
    }
}

impl TryFrom<wire::HeldLease> for HeldLease {
    type Error = Malformed;

    fn try_from(lease: wire::HeldLease) -> Result<Self, Malformed> {
        Ok(Self {
            work: Label::new(lease.work)?,
            holder: Holder(uuid("holder", &lease.holder)?),
            fence: Fence(lease.fence),
            until: Timestamp::from_micros(lease.until),
            note: lease.note,
        })
    }
}
