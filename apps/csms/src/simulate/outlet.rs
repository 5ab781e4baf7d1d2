//! One connector of a station, as physics has it: a meter, and the session that fills it.

use super::habits::{Habit, Habits};

/// Reading of a meter at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegisterReading {
    /// Moment by the station's clock, in ms since 1970.
    pub(crate) at_ms: i64,
    /// Register as the station shows it, in Wh.
    pub(crate) shown_wh: i64,
    /// Power that flows, in W.
    pub(crate) power_w: u32,
    /// Occasion.
    pub(crate) occasion: Occasion,
}

/// Occasion of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    Periodic,
    End,
    /// The register is about to be reset.
    Interruption,
}

/// A connector with its meter.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    /// Number of the connector, from 1.
    pub(crate) connector_id: u32,
    /// Session that charges.
    pub(crate) session: Option<OutletSession>,
    /// Moment of the next event here, in ms of the model.
    pub(crate) next_ms: u64,
    /// Sessions that were begun here.
    pub(crate) sessions: u32,
    /// Sessions that follow at once, of a station that starts and stops within a second.
    pub(crate) quick_left: u8,
    /// Status that was last reported, or would have been.
    pub(crate) status: &'static str,
    /// Tag that a remote start brings.
    pub(crate) remote_tag: Option<String>,
    /// Energy of the meter's whole life, in mWh.
    lifetime_mwh: u64,
    /// Lifetime at which the register showed 0, in Wh.
    zero_wh: i64,
}

/// A session that runs on a connector.
#[derive(Clone, Debug)]
pub(crate) struct OutletSession {
    /// Place of its truth in the ledger of the station.
    pub(crate) ledger: usize,
    /// Power, in W.
    pub(crate) power_w: u32,
    /// Moment of its end, in ms of the model.
    pub(crate) stops_ms: u64,
    /// Readings that were told so far.
    pub(crate) samples: u32,
    /// Lifetime of the meter at its start, in Wh.
    pub(crate) begun_wh: i64,
    /// Moment up to which energy was counted, in ms of the model.
    counted_ms: u64,
}

impl Outlet {
    pub(crate) fn new(connector_id: u32, lifetime_wh: u32, next_ms: u64) -> Self {
        Self {
            connector_id,
            session: None,
            next_ms,
            sessions: 0,
            quick_left: 0,
            status: "Available",
            remote_tag: None,
            lifetime_mwh: u64::from(lifetime_wh) * 1_000,
            zero_wh: 0,
        }
    }

    /// Begins a session.
    pub(crate) fn begin(&mut self, ledger: usize, power_w: u32, now_ms: u64, stops_ms: u64) {
        // A session begins with a whole Wh, so that what flows is what the register shows.
        self.lifetime_mwh = self.lifetime_mwh.next_multiple_of(1_000);
        self.sessions += 1;
        self.session = Some(OutletSession {
            ledger,
            power_w,
            stops_ms,
            samples: 0,
            begun_wh: self.lifetime_wh(),
            counted_ms: now_ms,
        });
    }

    /// Counts the energy up to now; returns that of the session, in Wh.
    pub(crate) fn count(&mut self, now_ms: u64) -> i64 {
        let Some(session) = &mut self.session else { return 0 };
        let passed_ms = now_ms.saturating_sub(session.counted_ms);
        session.counted_ms = now_ms;
        self.lifetime_mwh += u64::from(session.power_w) * passed_ms / 3_600;
        let begun_wh = session.begun_wh;
        self.lifetime_wh() - begun_wh
    }

    /// Sets the register to 0 if a session has come to that, by habit.
    pub(crate) fn reset_by_habit(&mut self, habits: Habits) {
        let samples = self.session.as_ref().map_or(0, |session| session.samples);
        if habits.has(Habit::RegisterReset) && samples == RESET_AT_SAMPLE {
            self.zero_wh = self.lifetime_wh();
        }
    }

    /// Returns the register as meter values show it, in Wh.
    pub(crate) fn shown_wh(&self) -> i64 {
        self.lifetime_wh() - self.zero_wh
    }

    /// Returns `meterStart`, as the station has it.
    pub(crate) fn meter_start(&self, habits: Habits) -> i64 {
        if habits.has(Habit::SessionMeter) || habits.has(Habit::Clock1970) {
            0
        } else {
            self.shown_wh()
        }
    }

    /// Returns `meterStop`, as the station has it.
    pub(crate) fn meter_stop(&self, habits: Habits) -> i64 {
        if habits.has(Habit::StopZeroMeter) {
            0
        } else if habits.has(Habit::StopNegativeMeter) {
            -1
        } else if habits.has(Habit::SessionMeter) || habits.has(Habit::Clock1970) {
            self.session.as_ref().map_or(0, |session| self.lifetime_wh() - session.begun_wh)
        } else {
            self.shown_wh()
        }
    }

    /// Returns a reading of the meter at this moment of the station's clock.
    pub(crate) fn reading(
        &self,
        at_ms: i64,
        occasion: Occasion,
        habits: Habits,
    ) -> RegisterReading {
        let session = self.session.as_ref();
        let resets = habits.has(Habit::RegisterReset)
            && session.is_some_and(|session| session.samples + 1 == RESET_AT_SAMPLE);
        let occasion = if resets { Occasion::Interruption } else { occasion };
        let mut shown_wh = self.shown_wh();
        if habits.has(Habit::RegisterJump)
            && occasion == Occasion::Periodic
            && session.is_some_and(|session| session.samples == JUMP_AT_SAMPLE)
        {
            shown_wh += JUMP_WH;
        }
        let power_w = match occasion {
            Occasion::End => 0,
            _ => session.map_or(0, |session| session.power_w),
        };
        RegisterReading { at_ms, shown_wh, power_w, occasion }
    }

    fn lifetime_wh(&self) -> i64 {
        i64::try_from(self.lifetime_mwh / 1_000).unwrap_or(i64::MAX)
    }
}

/// Error of a reading of a register that jumps.
const JUMP_WH: i64 = 5_000_000_000;
/// Readings of a session before the one that jumps.
const JUMP_AT_SAMPLE: u32 = 2;
/// Readings of a session after which the register is reset.
const RESET_AT_SAMPLE: u32 = 2;
