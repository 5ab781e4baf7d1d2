//! The composite schedule against a judge that looks at each second by itself.

use proptest::prelude::*;

use super::*;
use crate::domain::operation::profile::ProfileFault;
use crate::domain::operation::{ChargingSchedule, Natural, SchedulePeriod, Tenths};

/// Beginning of what is asked for: some Monday.
const FROM: i64 = 1_767_571_200;

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

fn natural(number: i64) -> Natural {
    Natural::new(number).unwrap()
}

/// Beginnings around the time that is asked for, so that schedules begin before it, in it and after
/// it.
fn near() -> impl Strategy<Value = i64> {
    prop_oneof![FROM - 200_000..FROM + 1_000, FROM - 600..FROM + 600]
}

fn schedule() -> impl Strategy<Value = ChargingSchedule> {
    let periods = proptest::collection::btree_map(1..400i64, 0..400i64, 0..5);
    (
        proptest::option::of(1..900i64),
        proptest::option::of(near()),
        any::<bool>(),
        periods,
        0..400i64,
        proptest::option::of(1..4i64),
    )
        .prop_map(|(duration, start, amperes, periods, first, phases)| ChargingSchedule {
            duration_s: duration.map(natural),
            start: start.map(at),
            unit: if amperes { RateUnit::Amperes } else { RateUnit::Watts },
            periods: std::iter::once((0, first))
                .chain(periods)
                .map(|(start, limit)| SchedulePeriod {
                    start_s: natural(start),
                    limit: Tenths::new(limit * 1_000).unwrap(),
                    phases: phases.map(natural),
                })
                .collect(),
            rate_min: None,
        })
}

fn profile() -> impl Strategy<Value = InstalledProfile> {
    let purpose = prop_oneof![
        Just(ProfilePurpose::StationMax),
        Just(ProfilePurpose::TransactionDefault),
        Just(ProfilePurpose::Transaction)
    ];
    let kind = prop_oneof![
        Just((ProfileKind::Absolute, None)),
        Just((ProfileKind::Relative, None)),
        Just((ProfileKind::Recurring, Some(Recurrence::Daily))),
        Just((ProfileKind::Recurring, Some(Recurrence::Weekly))),
    ];
    let validity = (proptest::option::of(near()), proptest::option::of(near()));
    (0..3u32, 0..4i64, purpose, kind, validity, schedule(), proptest::option::of(6..8i64)).prop_map(
        |(connector_id, level, purpose, (kind, recurrence), (from, to), mut schedule, own)| {
            let is_of_transaction = purpose == ProfilePurpose::Transaction;
            if kind == ProfileKind::Relative {
                schedule.start = None;
            }
            let profile = ChargingProfile {
                id: natural(1),
                transaction_id: own.filter(|_| is_of_transaction),
                stack_level: natural(level),
                purpose,
                kind,
                recurrence,
                valid_from: from.map(at),
                valid_to: to.map(at),
                schedule,
            };
            InstalledProfile { connector_id, profile, accepted_at: at(FROM) }
        },
    )
}

/// The limit at one second, by the words of the specification.
fn judge(query: &CompositeQuery, installed: &[InstalledProfile], second: i64) -> Option<i64> {
    let mut best: [Option<((u32, u32), i64)>; 3] = [None; 3];
    for InstalledProfile { connector_id, profile, .. } in installed {
        let place = match profile.purpose {
            ProfilePurpose::StationMax => 0,
            _ if query.connector_id == 0 => continue,
            ProfilePurpose::TransactionDefault => {
                if *connector_id != 0 && *connector_id != query.connector_id {
                    continue;
                }
                1
            }
            ProfilePurpose::Transaction => {
                let Some((running, _)) = query.transaction else { continue };
                let is_other = profile.transaction_id.is_some_and(|id| id != running);
                if *connector_id != query.connector_id || is_other {
                    continue;
                }
                2
            }
        };
        if profile.valid_from.is_some_and(|from| at(second) < from)
            || profile.valid_to.is_some_and(|to| at(second) >= to)
        {
            continue;
        }
        let plugged = query.transaction.map_or(query.from, |(_, start)| start);
        let begin = match profile.kind {
            ProfileKind::Relative => plugged,
            _ => profile.schedule.start.unwrap_or(plugged),
        };
        let mut since = second - begin.as_micros() / 1_000_000;
        if since < 0 {
            continue;
        }
        let interval = match profile.recurrence {
            Some(Recurrence::Daily) => 86_400,
            Some(Recurrence::Weekly) => 604_800,
            None => i64::MAX,
        };
        while since >= interval {
            since -= interval;
        }
        if profile.schedule.duration_s.is_some_and(|duration| since >= duration.get().into()) {
            continue;
        }
        let mut limit = 0;
        let mut factor = 1;
        for period in &profile.schedule.periods {
            if i64::from(period.start_s.get()) <= since {
                limit = period.limit.tenths();
                factor = 230 * period.phases.map_or(3, |phases| i64::from(phases.get()));
            }
        }
        let limit = match (profile.schedule.unit, query.unit) {
            (RateUnit::Amperes, RateUnit::Watts) => limit * factor,
            (RateUnit::Watts, RateUnit::Amperes) => limit / factor,
            _ => limit,
        };
        let rank = (profile.stack_level.get(), (*connector_id).min(1));
        // The later one of two equals, as no two of a rank are at one place.
        if best[place].is_none_or(|(other, _)| rank >= other) {
            best[place] = Some((rank, limit));
        }
    }
    let [cap, default, own] = best.map(|found| found.map(|(_, limit)| limit));
    own.or(default).into_iter().chain(cap).min()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_composite_schedule_says_at_each_second_what_the_profiles_say(
        installed in proptest::collection::vec(profile(), 0..6),
        connector_id in 0..3u32,
        amperes in any::<bool>(),
        start in proptest::option::of(FROM - 700..FROM),
    ) {
        let query = CompositeQuery {
            connector_id,
            from: at(FROM),
            duration_s: 1_200,
            unit: if amperes { RateUnit::Amperes } else { RateUnit::Watts },
            transaction: start.map(|start| (6, at(start))),
        };
        let parts = query.compute(&installed);
        prop_assert_eq!(parts[0].start_s, 0);
        let is_change = |two: &[CompositePart]| {
            two[0].start_s < two[1].start_s && two[0].limit != two[1].limit
        };
        let all_change = parts.windows(2).all(is_change);
        prop_assert!(all_change);
        for second in 0..1_200u32 {
            let part = parts.iter().rfind(|part| part.start_s <= second).unwrap();
            prop_assert_eq!(part.limit, judge(&query, &installed, FROM + i64::from(second)));
        }
    }
}

#[test]
fn a_profile_that_no_station_can_make_sense_of_is_told_with_its_fault() {
    let period = |start: i64| SchedulePeriod {
        start_s: natural(start),
        limit: Tenths::new(160).unwrap(),
        phases: None,
    };
    let good = ChargingProfile {
        id: natural(1),
        transaction_id: None,
        stack_level: natural(0),
        purpose: ProfilePurpose::TransactionDefault,
        kind: ProfileKind::Absolute,
        recurrence: None,
        valid_from: None,
        valid_to: None,
        schedule: ChargingSchedule {
            duration_s: None,
            start: Some(at(FROM)),
            unit: RateUnit::Amperes,
            periods: vec![period(0), period(60)],
            rate_min: None,
        },
    };
    assert_eq!(good.check(), Ok(()));
    let fault = |change: fn(&mut ChargingProfile)| {
        let mut profile = good.clone();
        change(&mut profile);
        profile.check().unwrap_err()
    };
    assert_eq!(fault(|it| it.schedule.periods.clear()), ProfileFault::Periods { periods: 0 });
    assert_eq!(fault(|it| it.schedule.periods.reverse()), ProfileFault::Order);
    assert_eq!(fault(|it| it.kind = ProfileKind::Relative), ProfileFault::StartOfRelative);
    assert_eq!(fault(|it| it.kind = ProfileKind::Recurring), ProfileFault::Recurrence);
    assert_eq!(fault(|it| it.transaction_id = Some(7)), ProfileFault::TransactionOfOther);
    let recurring = |it: &mut ChargingProfile| {
        (it.kind, it.recurrence) = (ProfileKind::Recurring, Some(Recurrence::Daily));
        it.schedule.start = None;
    };
    assert_eq!(fault(recurring), ProfileFault::NoStart);
    let over = |it: &mut ChargingProfile| (it.valid_from, it.valid_to) = (Some(at(2)), Some(at(1)));
    assert_eq!(fault(over), ProfileFault::Validity);
}
