//! Kinds of the errors of a copy: what they mean to its caller.

use super::{CopyError, FunctionFault};
use crate::store::Kind;

impl CopyError {
    /// Returns what it means to the caller of the copy. Whatever it says, what was copied before
    /// is whole.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::SameStore { .. } | Self::TooManyConsumers { .. } => Kind::Invalid,
            Self::Foreign { .. }
            | Self::Overtaken { .. }
            | Self::OtherFunction(_)
            | Self::Switched => Kind::Conflict,
            Self::Function { fault, .. } => fault.kind(),
            Self::OtherHistory(error) => error.kind(),
            // The same call succeeds once nobody writes the old store, or the copy has come that
            // far.
            Self::StillWritten { .. } | Self::NotYet { .. } => Kind::Busy,
            Self::Unreadable { .. } | Self::NoOwner { .. } => Kind::Bug,
            Self::Record(error) => error.kind(),
            Self::Invalid(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Append(error) => error.kind(),
        }
    }
}

impl FunctionFault {
    /// Returns what it means to the caller of the copy.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Refused { .. } => Kind::Refused,
            Self::Panicked { .. } | Self::Answers { .. } | Self::System { .. } => Kind::Bug,
            Self::Invalid(error) => error.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Copy, Transformed};
    use super::*;
    use crate::store::{Append, EventType, NewEvent, Position, RecordedEvent, Store};

    async fn store_with_an_event() -> Store {
        let store = Store::memory();
        let event = NewEvent::new(EventType::new("shop.Sold").unwrap(), "{}");
        store.append(Append::of(vec![event])).await.unwrap();
        store
    }

    fn kept(event: &RecordedEvent) -> Transformed {
        event.to_new().into()
    }

    #[tokio::test]
    async fn a_fault_of_the_function_is_told_from_a_store_that_is_not_empty_and_from_later_ones() {
        let old = store_with_an_event().await;
        let panics = Copy::from(&old)
            .into(&Store::memory())
            .through(|_: &RecordedEvent| panic!("it explodes"));
        assert_eq!(panics.run_until_caught_up().await.unwrap_err().kind(), Kind::Bug);
        let written = store_with_an_event().await;
        let foreign = Copy::from(&old).into(&written).through(kept).run_until_caught_up().await;
        assert_eq!(foreign.unwrap_err().kind(), Kind::Conflict);
        assert_eq!(
            Copy::from(&old)
                .into(&old)
                .through(kept)
                .run_until_caught_up()
                .await
                .unwrap_err()
                .kind(),
            Kind::Invalid
        );
        let copy = Copy::from(&old).into(&Store::memory()).through(kept);
        let later = copy.map(Position(1)).await.unwrap_err().kind();
        assert!(later == Kind::Busy && later.may_be_tried_again());
        copy.run_until_caught_up().await.unwrap();
        copy.switch().await.unwrap();
        assert!(copy.map(Position(1)).await.is_ok());
        assert_eq!(FunctionFault::Refused { reason: "no".to_owned() }.kind(), Kind::Refused);
    }
}
