//! The composite schedule: what the profiles of a station come to together at each second (OCPP 1.6
//! section 3.13.3). A pure computation.
//!
//! At each moment, of the profiles of a purpose that hold then, the one with the highest rank
//! counts; of two of the same rank, the one of the connector goes before the one of the station. A
//! limit for the transaction goes before the one for all transactions, and the limit of the station
//! caps what remains.

use leftfold::prelude::Timestamp;

use super::charging::InstalledProfile;
use super::profile::{
    ChargingProfile, ProfileKind, ProfilePurpose, RateUnit, Recurrence, ReportedSchedule,
};

/// The longest time that is computed, in seconds: a week.
pub(crate) const COMPOSITE_S_MAX: u32 = 7 * 86_400;
/// Voltage of a phase, to compare watts with amperes.
const VOLTS: i64 = 230;
/// Phases of a limit that names none.
const PHASES: i64 = 3;

/// Question for a composite schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CompositeQuery {
    /// Connector; 0 is the station.
    pub(crate) connector_id: u32,
    /// Moment of the beginning.
    pub(crate) from: Timestamp,
    /// Length in seconds, at most [`COMPOSITE_S_MAX`].
    pub(crate) duration_s: u32,
    /// Unit of the limits.
    pub(crate) unit: RateUnit,
    /// Transaction on the connector, by the station's id, with the moment of its start; `None` if
    /// none runs: then schedules that begin with one begin now.
    pub(crate) transaction: Option<(i64, Timestamp)>,
}

/// Part of a composite schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompositePart {
    /// Beginning, in seconds from the schedule's.
    pub(crate) start_s: u32,
    /// Limit in tenths of the unit; `None` if nothing limits.
    pub(crate) limit: Option<i64>,
}

impl CompositeQuery {
    /// Computes the schedule: parts in order, the first at 0, no two neighbours alike.
    #[must_use]
    pub(crate) fn compute(&self, profiles: &[InstalledProfile]) -> Vec<CompositePart> {
        let (from, duration_s) = (seconds(self.from), self.duration_s.min(COMPOSITE_S_MAX));
        let until = from + i64::from(duration_s);
        let profiles: Vec<_> = profiles.iter().filter(|profile| self.concerns(profile)).collect();
        let mut changes: Vec<i64> = profiles
            .iter()
            .flat_map(|installed| self.changes(&installed.profile, from, until))
            .filter(|moment| (from..until).contains(moment))
            .chain([from])
            .collect();
        changes.sort_unstable();
        changes.dedup();
        let mut parts: Vec<CompositePart> = Vec::new();
        for moment in changes {
            let limit = self.limit_at(&profiles, moment);
            if parts.last().is_none_or(|part| part.limit != limit) {
                // The moment is within the duration, which is 32 bits.
                let start_s = u32::try_from(moment - from).unwrap_or(u32::MAX);
                parts.push(CompositePart { start_s, limit });
            }
        }
        parts
    }

    /// Tells whether a station's own schedule sets another limit at the beginning of a part of
    /// either one.
    #[must_use]
    pub(crate) fn differs(&self, profiles: &[InstalledProfile], told: &ReportedSchedule) -> bool {
        let unit = match told.unit.as_str() {
            "W" => RateUnit::Watts,
            _ => RateUnit::Amperes,
        };
        let duration_s = told.duration_s.unwrap_or(self.duration_s);
        let computed = Self { unit, duration_s, ..*self }.compute(profiles);
        let limit_told = |second: u32| {
            told.periods.iter().rfind(|(start, _)| *start <= second).map(|(_, limit)| *limit)
        };
        let limit_computed = |second: u32| {
            computed.iter().rfind(|part| part.start_s <= second).and_then(|part| part.limit)
        };
        let starts = told.periods.iter().map(|(start, _)| *start);
        let mut seconds = starts.chain(computed.iter().map(|part| part.start_s));
        seconds.any(|second| {
            second < duration_s
                && limit_computed(second).is_some_and(|limit| limit_told(second) != Some(limit))
        })
    }

    /// Tells whether a profile can have a say.
    fn concerns(&self, installed: &InstalledProfile) -> bool {
        let profile = &installed.profile;
        let is_on_it = installed.connector_id == self.connector_id;
        match profile.purpose {
            ProfilePurpose::StationMax => true,
            ProfilePurpose::TransactionDefault => {
                self.connector_id > 0 && (is_on_it || installed.connector_id == 0)
            }
            ProfilePurpose::Transaction => {
                let running = self.transaction.map(|(id, _)| id);
                let is_of_it = profile.transaction_id.is_none_or(|id| Some(id) == running);
                self.connector_id > 0 && is_on_it && is_of_it && running.is_some()
            }
        }
    }

    /// Returns the moments at which a profile may change what it says, in seconds.
    fn changes(&self, profile: &ChargingProfile, from: i64, until: i64) -> Vec<i64> {
        let mut changes: Vec<i64> =
            [profile.valid_from, profile.valid_to].into_iter().flatten().map(seconds).collect();
        let (begin, interval) = self.beginning(profile);
        let duration = profile.schedule.duration_s.map(|duration| duration.get());
        let offsets = profile.schedule.periods.iter().map(|period| period.start_s.get());
        let offsets: Vec<i64> = offsets.chain(duration).chain([0]).map(i64::from).collect();
        let mut round = match interval {
            Some(interval) => begin + (from - begin).max(0) / interval * interval,
            None => begin,
        };
        loop {
            changes.extend(offsets.iter().map(|offset| round + offset));
            match interval {
                Some(interval) if round + interval < until => round += interval,
                _ => return changes,
            }
        }
    }

    /// Returns the beginning of a profile's schedule in seconds, and the interval at which it
    /// begins anew.
    fn beginning(&self, profile: &ChargingProfile) -> (i64, Option<i64>) {
        let with_transaction = self.transaction.map_or(self.from, |(_, start)| start);
        let begin = match profile.kind {
            ProfileKind::Relative => with_transaction,
            ProfileKind::Absolute | ProfileKind::Recurring => {
                profile.schedule.start.unwrap_or(with_transaction)
            }
        };
        let interval = match (profile.kind, profile.recurrence) {
            (ProfileKind::Recurring, Some(Recurrence::Weekly)) => Some(7 * 86_400),
            (ProfileKind::Recurring, _) => Some(86_400),
            _ => None,
        };
        (seconds(begin), interval)
    }

    /// Returns the limit at a moment.
    fn limit_at(&self, profiles: &[&InstalledProfile], moment: i64) -> Option<i64> {
        let highest = |purpose: ProfilePurpose| {
            profiles
                .iter()
                .filter(|installed| installed.profile.purpose == purpose)
                .filter_map(|installed| {
                    let rank = (installed.profile.stack_level, installed.connector_id > 0);
                    Some((rank, self.says(&installed.profile, moment)?))
                })
                .max_by_key(|(rank, _)| *rank)
                .map(|(_, limit)| limit)
        };
        let own = highest(ProfilePurpose::Transaction)
            .or_else(|| highest(ProfilePurpose::TransactionDefault));
        let cap = highest(ProfilePurpose::StationMax);
        match (own, cap) {
            (Some(own), Some(cap)) => Some(own.min(cap)),
            (own, cap) => own.or(cap),
        }
    }

    /// Returns the limit that a profile sets at a moment, in tenths of the unit that is asked for;
    /// `None` if it does not hold then.
    fn says(&self, profile: &ChargingProfile, moment: i64) -> Option<i64> {
        let is_valid = profile.valid_from.is_none_or(|from| moment >= seconds(from))
            && profile.valid_to.is_none_or(|to| moment < seconds(to));
        let (begin, interval) = self.beginning(profile);
        let since = moment - begin;
        if !is_valid || since < 0 {
            return None;
        }
        let offset = interval.map_or(since, |interval| since % interval);
        let schedule = &profile.schedule;
        if schedule.duration_s.is_some_and(|duration| offset >= i64::from(duration)) {
            return None;
        }
        let begun = |period: &&super::profile::SchedulePeriod| i64::from(period.start_s) <= offset;
        let period = schedule.periods.iter().rfind(begun)?;
        let (limit, phases) =
            (period.limit.tenths(), period.phases.map_or(PHASES, |it| i64::from(it).max(1)));
        Some(match (schedule.unit, self.unit) {
            (RateUnit::Amperes, RateUnit::Watts) => limit * VOLTS * phases,
            (RateUnit::Watts, RateUnit::Amperes) => limit / (VOLTS * phases),
            _ => limit,
        })
    }
}

/// Returns the second that a moment is in.
fn seconds(moment: Timestamp) -> i64 {
    moment.as_micros().div_euclid(1_000_000)
}

#[cfg(test)]
mod tests;
