//! The decision to correct the energy of a transaction. The station's fold forgets transactions
//! that are over, so it rests on the events about the transaction itself.

use leftfold::fold::{Decided, Decision};
use leftfold::store::{Query, StreamName};

use super::StationEvent;
use crate::domain::energy::EnergyCorrected;
use crate::domain::meter::transaction_tag;

/// Correction of the energy of a transaction that is over.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CorrectEnergy {
    /// Stream of the station.
    pub(crate) stream: StreamName,
    /// True if another transaction has taken the place of this one: it is over, though its stop was
    /// lost.
    pub(crate) is_superseded: bool,
    /// The correction.
    pub(crate) corrected: EnergyCorrected,
    /// The corrected energy, in Wh, that this one takes the place of; `None` if the caller knows of
    /// no correction.
    pub(crate) replaces_wh: Option<i64>,
}

impl CorrectEnergy {
    /// Energy that can be said at most, in Wh: 100 MWh.
    pub(crate) const ENERGY_WH_MAX: i64 = 100_000_000;
    /// The longest reason, in characters.
    pub(crate) const REASON_CHARS_MAX: usize = 500;
}

/// Refusal of a [`CorrectEnergy`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum CorrectionRefusal {
    /// The station never told of such a transaction.
    #[error("there is no transaction {transaction_id} at this station; list them to find its id")]
    UnknownTransaction {
        /// Transaction that was named.
        transaction_id: i64,
    },
    /// The transaction is not over.
    #[error("transaction {transaction_id} is running; correct its energy when it is over")]
    StillRunning {
        /// Transaction that was named.
        transaction_id: i64,
    },
    /// The energy was corrected before.
    #[error(
        "the energy was corrected to {} Wh by {}; send that as replacesWh to correct it again",
        .before.energy_wh, .before.by
    )]
    AlreadyCorrected {
        /// Correction that stands.
        before: EnergyCorrected,
    },
    /// No correction stands that could be replaced, or another one.
    #[error("no correction to {replaces_wh} Wh stands; read the transaction again")]
    NothingReplaced {
        /// Energy that was to be replaced.
        replaces_wh: i64,
    },
}

impl CorrectionRefusal {
    /// Returns a word for programs.
    #[must_use]
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::UnknownTransaction { .. } => "unknown-transaction",
            Self::StillRunning { .. } => "transaction-running",
            Self::AlreadyCorrected { .. } => "energy-already-corrected",
            Self::NothingReplaced { .. } => "correction-not-replaced",
        }
    }
}

/// The parts of a transaction that a correction depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CorrectedTransaction {
    is_known: bool,
    is_over: bool,
    before: Option<EnergyCorrected>,
}

impl Decision for CorrectEnergy {
    type Event = StationEvent;
    type State = CorrectedTransaction;
    type Refusal = CorrectionRefusal;

    fn query(&self) -> Query {
        let tag = transaction_tag(self.corrected.transaction_id.value());
        Query::stream(self.stream.clone()).and_tag(tag)
    }

    fn apply(&self, state: &mut CorrectedTransaction, event: &StationEvent) {
        match event {
            StationEvent::TransactionStarted(_) | StationEvent::TransactionAdopted(_) => {
                state.is_known = true
            }
            StationEvent::TransactionEnded(_)
            | StationEvent::TransactionStopped(_)
            | StationEvent::UnmatchedStopReported(_) => state.is_over = true,
            StationEvent::EnergyCorrected(corrected) => state.before = Some(corrected.clone()),
            _ => {}
        }
    }

    fn decide(
        &self,
        state: &CorrectedTransaction,
    ) -> Result<Decided<StationEvent>, CorrectionRefusal> {
        let transaction_id = self.corrected.transaction_id.value();
        if !state.is_known {
            return Err(CorrectionRefusal::UnknownTransaction { transaction_id });
        }
        if !state.is_over && !self.is_superseded {
            return Err(CorrectionRefusal::StillRunning { transaction_id });
        }
        match (&state.before, self.replaces_wh) {
            (None, None) => {}
            (Some(before), Some(wh)) if before.energy_wh == wh => {}
            (Some(before), None) => {
                return Err(CorrectionRefusal::AlreadyCorrected { before: before.clone() });
            }
            (_, Some(replaces_wh)) => {
                return Err(CorrectionRefusal::NothingReplaced { replaces_wh });
            }
        }
        let event = StationEvent::EnergyCorrected(self.corrected.clone());
        Ok(Decided::event(self.stream.to_string(), event))
    }
}
