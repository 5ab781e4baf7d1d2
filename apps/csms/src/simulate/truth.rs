//! The truth of a simulation: sessions as they really were, whatever was told of them.

/// One session of charging as it really was.
#[derive(Clone, Debug)]
pub(crate) struct SessionTruth {
    /// Connector of the session.
    pub(crate) connector_id: u32,
    /// Energy that has flowed, in Wh.
    pub(crate) energy_wh: i64,
    /// Energy by the last report that was answered, in Wh.
    pub(crate) told_wh: i64,
    /// Energy by the last report that was sent, in Wh.
    pub(crate) sent_wh: i64,
    /// Energy that had flowed before anything could be told of to this server, in Wh.
    pub(crate) untold_before_wh: i64,
    /// Transaction id that the station knows; `None` until the start is answered.
    pub(crate) transaction_id: Option<i64>,
    /// True once the start, or another report of the session, has been sent.
    pub(crate) was_sent: bool,
    /// End of the session.
    pub(crate) end: SessionFate,
}

/// End of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionFate {
    /// It goes on.
    Running,
    /// It ended, and its stop is told of sooner or later.
    Stopped,
    /// The station lost its power and forgot the session: its stop is never told.
    Forgotten,
}

/// Energy of a session that a server can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KnowableEnergy {
    /// The truth, in Wh.
    Exact(i64),
    /// The truth was never told: the best evidence has as much, in Wh.
    Evidence { wh_min: i64, wh_max: i64 },
}

impl SessionTruth {
    /// Returns the energy that a server can know of the session.
    pub(crate) fn knowable(&self) -> KnowableEnergy {
        match self.end {
            SessionFate::Forgotten => {
                KnowableEnergy::Evidence { wh_min: self.told_wh, wh_max: self.sent_wh }
            }
            _ if self.untold_before_wh > 0 => {
                let wh = self.energy_wh - self.untold_before_wh;
                KnowableEnergy::Evidence { wh_min: wh, wh_max: wh }
            }
            _ => KnowableEnergy::Exact(self.energy_wh),
        }
    }
}
