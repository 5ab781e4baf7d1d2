//! A model station with random habits: the days of a transaction add up to its energy in whatever
//! order it is told, and the energy is never negative and never more than a connector delivers.

use leftfold::prelude::Timestamp;
use proptest::prelude::*;

use super::reading::{NamedUnit, Quantity};
use super::thinning::thinned_to;
use super::*;

const START_MICROS: i64 = 1_777_888_800_000_000;

fn second(second: i64) -> Timestamp {
    Timestamp::from_micros(START_MICROS + second * 1_000_000)
}

fn reading(at: i64, arrival: i64, amount: i64, channel: MeterChannel) -> MeterReading {
    let since = None;
    MeterReading { at: second(at), is_by_station: true, arrival, channel, amount, since }
}

fn channel(quantity: Quantity, unit: NamedUnit, phase: u8) -> MeterChannel {
    MeterChannel { quantity, is_at_outlet: true, phase, is_by_clock: false, unit }
}

/// Evidence of any kind.
fn nonsense() -> impl Strategy<Value = Evidence> {
    let wh = || prop_oneof![0_i64..100_000, any::<i64>(), Just(-1), 5_000_000_i64..5_100_000];
    let mwh = prop_oneof![0_i64..50_000_000, 0_i64..1_000_000_000_000_000, Just(0)];
    let readings = proptest::collection::vec((0_i64..172_800, mwh, 0_i64..144), 0..40);
    let end = proptest::option::of((0_i64..172_800, proptest::option::of(wh())));
    (proptest::option::of(wh()), readings, end, any::<bool>()).prop_map(
        |(start_wh, readings, end, is_end_reported)| {
            let mark = |at, wh| MeterMark { at: second(at), is_by_station: true, meter_wh: wh };
            let readings = readings.into_iter().enumerate().filter_map(|(arrival, it)| {
                let (at, amount, code) = it;
                let channel = MeterChannel::of_code(code)?;
                let amount = match channel.quantity {
                    Quantity::Power => amount % 1_000_000_001,
                    _ => amount,
                };
                Some(reading(at, arrival as i64, amount, channel))
            });
            Evidence {
                start: mark(0, start_wh),
                end: end.map(|(at, wh)| mark(at, wh.filter(|_| is_end_reported))),
                is_end_reported,
                readings: readings.collect(),
            }
        },
    )
}

/// Habits of a model station, all of which leave its energy to be known.
#[derive(Clone, Debug)]
struct Habits {
    /// Rise in Wh from one reading to the next, and at last to the stop.
    rises: Vec<i64>,
    lifetime_wh: i64,
    does_session_readings: bool,
    does_kilowatt_hours: bool,
    does_phases: bool,
    loses_stop: Option<i64>,
    glitch: Option<(usize, i64)>,
    seed: u64,
}

fn habits() -> impl Strategy<Value = Habits> {
    let glitch = prop_oneof![Just(0_i64), Just(900_000_000_000_i64), Just(77_000_000_000_i64)];
    (
        proptest::collection::vec(200_i64..2_000, 6..40),
        2_000_000_i64..9_000_000,
        any::<[bool; 3]>(),
        proptest::option::of(prop_oneof![Just(0_i64), Just(-1_i64), Just(17_i64)]),
        proptest::option::of((1_usize..4, glitch)),
        any::<u64>(),
    )
        .prop_map(|(rises, lifetime_wh, does, loses_stop, glitch, seed)| Habits {
            rises,
            lifetime_wh,
            does_session_readings: does[0],
            does_kilowatt_hours: does[1],
            does_phases: does[2],
            loses_stop,
            glitch,
            seed,
        })
}

impl Habits {
    /// Returns what the station tells, and the energy in truth as far as it is to be seen.
    fn tell(&self) -> (Evidence, i64) {
        let mut charged = 0;
        let mut readings = Vec::new();
        let base = if self.does_session_readings { 0 } else { self.lifetime_wh };
        let unit = if self.does_kilowatt_hours { NamedUnit::Kilo } else { NamedUnit::Missing };
        let last = self.rises.len() - 1;
        for (number, rise) in self.rises[..last].iter().enumerate() {
            charged += rise;
            let mut register = (base + charged) * 1_000;
            if let Some((_, wrong)) = self.glitch.filter(|(at, _)| *at == number) {
                register = wrong;
            }
            let phases: Vec<(u8, i64)> = match self.does_phases {
                true => {
                    vec![(1, register / 3), (2, register / 3), (3, register - register / 3 * 2)]
                }
                false => vec![(0, register)],
            };
            let at = (number as i64 + 1) * 300;
            let arrival = readings.len() as i64;
            readings.extend(phases.into_iter().map(|(phase, amount)| {
                reading(at, arrival, amount, channel(Quantity::Register, unit, phase))
            }));
        }
        let seen = charged;
        charged += self.rises[last];
        let (stop, truth) = match self.loses_stop {
            Some(wrong) => (wrong, seen),
            None => (self.lifetime_wh + charged, charged),
        };
        let mark = |at: usize, wh| MeterMark {
            at: second(at as i64 * 300),
            is_by_station: true,
            meter_wh: Some(wh),
        };
        let (start, end) = (mark(0, self.lifetime_wh), Some(mark(last + 1, stop)));
        (Evidence { start, end, is_end_reported: true, readings }, truth)
    }
}

proptest! {
    #[test]
    fn the_energy_of_a_station_with_habits_is_the_true_one(habits in habits()) {
        let (mut evidence, truth) = habits.tell();
        let in_order = evidence.energy();
        prop_assert_eq!(in_order.energy_wh, Some(truth), "{:?}", in_order);
        prop_assert_eq!(in_order.curve.days().values().sum::<i64>(), truth);
        // Stations tell of a transaction late, twice and in any order.
        let mut random = fastrand::Rng::with_seed(habits.seed);
        random.shuffle(&mut evidence.readings);
        for (arrival, reading) in evidence.readings.iter_mut().enumerate() {
            reading.arrival = arrival as i64;
        }
        let twice = evidence.readings[..3].to_vec();
        evidence.readings.extend(twice);
        prop_assert_eq!(evidence.energy(), in_order);
    }

    #[test]
    fn whatever_a_station_tells_the_energy_is_possible_and_its_days_add_up(evidence in nonsense()) {
        let computed = evidence.energy();
        let days = computed.curve.days();
        prop_assert!(days.values().all(|wh| *wh >= 0), "{:?}", days);
        if let Some(wh) = computed.energy_wh {
            prop_assert_eq!(days.values().sum::<i64>(), wh);
            prop_assert!(wh >= 0);
        } else {
            prop_assert!(days.is_empty() && computed.source == EnergySource::Nothing);
        }
        let is_over = evidence.end.is_some();
        prop_assert_eq!(
            computed.flags.contains(&EnergyFlag::Unknown),
            is_over && computed.energy_wh.is_none()
        );
        let is_by_moment = !computed.flags.contains(&EnergyFlag::OrderOfArrival);
        let moments: Vec<Timestamp> = computed.curve.points().map(|(at, _)| at).collect();
        if let (true, Some(first), Some(last)) = (is_by_moment, moments.first(), moments.last())
            && evidence.end.is_none_or(|end| end.at > second(0))
        {
            let seconds = (last.as_micros() - first.as_micros()) / 1_000_000;
            let possible = POWER_W_MAX * seconds / 3_600 + SLACK_MWH / 1_000 + 1;
            let wh = computed.energy_wh.unwrap_or_default();
            prop_assert!(wh <= possible, "{} Wh in {} s: {:?}", wh, seconds, computed);
        }
    }

    #[test]
    fn evidence_that_is_too_much_loses_half_of_it_and_no_energy(long in long()) {
        let mut evidence = long.evidence();
        let (before, all) = (evidence.energy(), evidence.readings.clone());
        evidence.readings = thinned_to(evidence.readings, all.len() / 2);
        // Beside what is told apart by time, the ends of days stay.
        prop_assert!(evidence.readings.len() <= all.len() / 2 + 10 * long.phases.len());
        let after = evidence.energy();
        match long.quantity {
            // The power between two readings is a guess; this one is even.
            Quantity::Power => {
                let (before, after) = (before.energy_wh.unwrap(), after.energy_wh.unwrap());
                prop_assert!((before - after).abs() <= before / 50 + 1, "{before} and {after}");
            }
            _ => {
                prop_assert_eq!(after.energy_wh, before.energy_wh);
                prop_assert_eq!(after.curve.days(), before.curve.days());
            }
        }
        // Stations tell all of it again with the stop, and what is thinned can be thinned again.
        evidence.readings.extend(all);
        let again = Evidence { readings: thinned(evidence.readings), ..evidence };
        let at_last = thinned_to(again.readings.clone(), again.readings.len() / 3);
        let at_last = Evidence { readings: at_last, ..again.clone() }.energy();
        for computed in [again.energy(), at_last] {
            if long.quantity != Quantity::Power {
                prop_assert_eq!(computed.energy_wh, before.energy_wh);
                prop_assert_eq!(computed.curve.days(), before.curve.days());
            }
        }
    }
}

/// A long transaction of one quantity: what flows from one reading to the next, in Wh.
#[derive(Clone, Debug)]
struct LongCharge {
    quantity: Quantity,
    flows: Vec<i64>,
    phases: Vec<u8>,
    apart_seconds: i64,
    /// Moment at which only the first phase is read.
    torn: usize,
}

fn long() -> impl Strategy<Value = LongCharge> {
    let quantity =
        prop_oneof![Just(Quantity::Register), Just(Quantity::Interval), Just(Quantity::Power),];
    let phases = prop_oneof![Just(vec![0]), Just(vec![1, 2, 3]), Just(vec![1, 2])];
    let flows = proptest::collection::vec(0_i64..1_000, 101..300);
    (quantity, flows, phases, 10_i64..1_000, 0_usize..100).prop_map(
        |(quantity, flows, phases, apart_seconds, torn)| {
            let apart_seconds = apart_seconds.max(flows.iter().max().map_or(0, |wh| wh / 50));
            LongCharge { quantity, flows, phases, apart_seconds, torn }
        },
    )
}

impl LongCharge {
    fn evidence(&self) -> Evidence {
        let mut register = 0;
        let mut readings = Vec::new();
        for (number, flow) in self.flows.iter().enumerate() {
            register += flow * 1_000;
            let amount = match self.quantity {
                Quantity::Register => register,
                Quantity::Interval => flow * 1_000,
                Quantity::Power => 7_000_000 + number as i64 * 10_000,
            };
            let seen = if number == self.torn { 1 } else { self.phases.len() };
            for phase in &self.phases[..seen] {
                let channel = channel(self.quantity, NamedUnit::One, *phase);
                let at = (number as i64 + 1) * self.apart_seconds;
                readings.push(reading(at, readings.len() as i64, amount, channel));
            }
        }
        let start = MeterMark { at: second(0), is_by_station: true, meter_wh: None };
        Evidence { start, end: None, is_end_reported: false, readings }
    }
}
