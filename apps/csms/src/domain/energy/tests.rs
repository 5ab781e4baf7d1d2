//! Each habit of stations, with the energy that was charged in truth.

use leftfold::prelude::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::domain::moment;
use crate::ocpp::v16::{MeterValue, SampledValue};

/// A moment so many minutes after the start.
fn minute(minute: i64) -> Timestamp {
    Timestamp::from_micros(1_777_888_800_000_000 + minute * 60_000_000)
}

/// A transaction under way: its readings arrive one a minute.
struct Charge(Evidence);

fn charge(meter_start_wh: impl Into<Option<i64>>) -> Charge {
    let start = MeterMark::new(Some(minute(0)), minute(0), meter_start_wh.into());
    Charge(Evidence { start, end: None, is_end_reported: false, readings: Vec::new() })
}

impl Charge {
    /// Takes a message with these sampled values, as JSON.
    fn told(self, at: i64, samples: &Value) -> Self {
        self.told_by_clock(Some(minute(at)), at, samples)
    }

    fn told_by_clock(mut self, clock: Option<Timestamp>, received: i64, samples: &Value) -> Self {
        let sampled_values: Vec<SampledValue> = serde_json::from_value(samples.clone()).unwrap();
        let timestamp = clock.map(|at| jiff::Timestamp::from_microsecond(at.as_micros()).unwrap());
        assert_eq!(timestamp.map(moment), clock);
        let values = [MeterValue { timestamp, sampled_values }];
        let arrival = self.0.readings.len() as i64;
        self.0.readings.extend(readings_of(&values, minute(received), arrival));
        self
    }

    /// Takes registers in Wh, each with its minute.
    fn registers(self, readings: &[(i64, i64)]) -> Self {
        readings.iter().fold(self, |charge, (at, wh)| {
            charge.told(*at, &json!([{"value": wh.to_string(), "unit": "Wh"}]))
        })
    }

    /// Takes values of one shape, each with its minute.
    fn values(self, shape: &Value, values: &[(i64, &str)]) -> Self {
        values.iter().fold(self, |charge, (at, value)| {
            let mut sample = shape.clone();
            sample["value"] = json!(value);
            charge.told(*at, &json!([sample]))
        })
    }

    fn stopped(mut self, at: i64, meter_stop_wh: impl Into<Option<i64>>) -> Self {
        let end = MeterMark::new(Some(minute(at)), minute(at), meter_stop_wh.into());
        (self.0.end, self.0.is_end_reported) = (Some(end), true);
        self
    }

    #[track_caller]
    fn is(self, energy_wh: impl Into<Option<i64>>, flags: &[EnergyFlag]) -> Self {
        let computed = self.0.energy();
        let found: Vec<EnergyFlag> = computed.flags.iter().copied().collect();
        assert_eq!((computed.energy_wh, &*found), (energy_wh.into(), flags), "{computed:?}");
        self
    }
}

use EnergyFlag::*;

#[test]
fn evidence_that_fits_together_has_no_flag_and_the_stop_has_the_last_word() {
    charge(1_000).is(None, &[]);
    charge(1_000).stopped(60, 8_000).is(7_000, &[]);
    charge(1_000).registers(&[(10, 2_000), (20, 3_000)]).is(2_000, &[]);
    charge(1_000).registers(&[(10, 2_000), (20, 3_000)]).stopped(25, 3_400).is(2_400, &[]);
    charge(0).stopped(60, 0).is(0, &[]);
    charge(1_000).registers(&[(10, 1_000), (20, 1_000)]).stopped(30, 1_000).is(0, &[]);
}

#[test]
fn a_stop_of_0_or_minus_1_or_below_the_start_falls_to_the_last_register() {
    for stop in [0, -1, 500, i64::MIN] {
        let read = [(10, 2_000), (20, 3_000)];
        charge(1_000).registers(&read).stopped(25, stop).is(2_000, &[StopBelowStart]);
        charge(1_000).stopped(25, stop).is(None, &[StopBelowStart, Unknown]);
    }
    let read = [(10, 2_000), (20, 3_000)];
    charge(1_000).registers(&read).stopped(25, None).is(2_000, &[StopMissing]);
    charge(1_000).stopped(25, None).is(None, &[StopMissing, Unknown]);
    charge(1_000).registers(&read).stopped(25, i64::MAX).is(2_000, &[StopNotBelieved]);
    charge(1_000).registers(&read).stopped(25, 90_000_000).is(2_000, &[StopNotBelieved]);
}

#[test]
fn a_start_that_cannot_be_costs_what_came_before_the_first_reading() {
    let read = [(0, 5_000_000), (10, 5_001_000), (20, 5_002_000)];
    charge(0).registers(&read).stopped(25, 5_002_500).is(2_500, &[StartNotBelieved]);
    charge(-1).registers(&read).stopped(25, 5_002_500).is(2_500, &[StartMissing]);
    charge(None).registers(&read).is(2_000, &[StartMissing]);
    // 5 MWh within half an hour, and nothing to compare with.
    charge(0).stopped(30, 5_000_000).is(None, &[StopNotBelieved, Unknown]);
    charge(None).stopped(30, 5_000_000).is(None, &[StartMissing, StopNotBelieved, Unknown]);
}

#[test]
fn readings_that_count_the_session_fit_a_start_that_counts_all_that_there_ever_was() {
    let session = [(0, 0), (10, 1_000), (20, 2_000)];
    charge(5_000_000).registers(&session).is(2_000, &[SessionRegister]);
    let lifetime = charge(5_000_000).registers(&session).stopped(25, 5_002_500);
    lifetime.is(2_500, &[SessionRegister]);
    charge(5_000_000).registers(&session).stopped(25, 2_500).is(2_500, &[SessionRegister]);
    let zero = charge(5_000_000).registers(&session).stopped(25, 0);
    zero.is(2_000, &[StopBelowStart, SessionRegister]);
}

#[test]
fn start_and_stop_that_count_the_session_fit_readings_of_all_that_there_ever_was() {
    let read = [(5, 5_000_500), (10, 5_001_000), (20, 5_002_000)];
    let whole = charge(0).registers(&read).stopped(25, 2_500).is(2_500, &[SessionRegister]);
    assert_eq!(whole.0.energy().curve.days().values().sum::<i64>(), 2_500);
    // The stop says less than the readings rise: it counts something else.
    let less = charge(0).registers(&[(1, 5_000_100)]).registers(&read).stopped(25, 10);
    less.is(1_900, &[StartNotBelieved, StopNotBelieved]);
}

#[test]
fn registers_that_are_reset_add_up_on_both_sides() {
    let read = [(10, 1_000), (20, 2_000), (30, 500), (40, 1_500)];
    charge(0).registers(&read).stopped(45, 2_000).is(4_000, &[RegisterReset]);
    let to_zero = [(10, 6_000), (20, 7_000), (30, 0), (40, 1_000), (50, 2_000)];
    charge(5_000).registers(&to_zero).stopped(55, 2_500).is(4_500, &[RegisterReset]);
    // It fell back to what it had kept, and not to 0.
    let kept = [(10, 61_000), (20, 62_000), (30, 61_500), (40, 62_500), (50, 63_500)];
    charge(60_000).registers(&kept[..4]).is(2_500, &[ReadingsNotBelieved]);
    charge(60_000).registers(&kept).stopped(60, 64_500).is(4_500, &[ReadingsNotBelieved]);
}

#[test]
fn a_number_after_a_reset_counts_from_zero_only_as_far_as_a_connector_can_have_delivered() {
    // A register in kWh ticked within a second, and another one was read eight hours later.
    let tick = |charge: Charge| {
        let second = Timestamp::from_micros(minute(0).as_micros() + 1_000_000);
        let kilowatt_hour = json!([{"value": "500001", "unit": "kWh"}]);
        let other = [(480, 5_000_000), (490, 5_001_000), (500, 5_002_000)];
        charge.told_by_clock(Some(second), 1, &kilowatt_hour).registers(&other)
    };
    tick(charge(500_000_000)).is(3_000, &[RegisterReset]);
    // Nor does it if the start has no moment that could bound it.
    let mut blind = charge(500_000_000);
    blind.0.start.is_by_station = false;
    let rising = [(1, 500_010_000), (2, 500_020_000), (3, 500_030_000)];
    let blind = tick(blind.registers(&rising).registers(&[(4, 500_040_000)]));
    let wh = blind.0.energy().energy_wh.unwrap();
    assert!((40_000..50_000).contains(&wh), "{wh}");
}

#[test]
fn registers_that_leap_and_go_on_from_there_add_up_on_both_sides() {
    let read = [(10, 1_000), (20, 2_000), (30, 9_000_000), (40, 9_001_000), (50, 9_002_000)];
    charge(0).registers(&read).stopped(55, 9_002_500).is(4_500, &[RegisterJumped]);
}

#[test]
fn one_wrong_reading_is_left_out() {
    for wrong in [0, 3, 9_000_000, 400_000, 999_999_999_999] {
        let read = [(10, 2_000), (20, 3_000), (30, wrong), (40, 5_000), (50, 6_000)];
        let charge = charge(1_000).registers(&read).stopped(55, 6_500);
        charge.is(5_500, &[ReadingsNotBelieved]);
    }
    let zeros = [(10, 2_000), (20, 3_000), (30, 0), (31, 0), (32, 0), (40, 5_000)];
    charge(1_000).registers(&zeros).stopped(55, 6_500).is(5_500, &[ReadingsNotBelieved]);
    let last = [(10, 2_000), (20, 3_000), (30, 9_000_000)];
    charge(1_000).registers(&last).is(2_000, &[ReadingsNotBelieved]);
}

#[test]
fn kilowatt_hours_are_known_by_their_unit_however_it_is_written() {
    for unit in ["kWh", "kwh", "KWH", " kWh "] {
        let read = [(10, "2.0"), (20, "3,25")];
        let charge = charge(1_000).values(&json!({"unit": unit}), &read);
        charge.stopped(25, 3_400).is(2_400, &[]);
    }
    charge(1_000).values(&json!({"unit": "WH"}), &[(10, "2000")]).is(1_000, &[]);
    charge(1_000_000).values(&json!({"unit": "MWh"}), &[(10, "1.002")]).is(2_000, &[]);
    for unit in ["varh", "kvarh", "A", "Celsius", "Celcius", "h"] {
        let charge = charge(1_000).values(&json!({"unit": unit}), &[(10, "2000")]);
        charge.stopped(25, 2_000).is(1_000, &[]);
    }
}

#[test]
fn kilowatt_hours_without_a_unit_are_known_by_other_evidence() {
    let read = [(10, "5001.0"), (20, "5002.0")];
    let missing = charge(5_000_000).values(&json!({}), &read);
    missing
        .is(2_000, &[KilowattHoursSupposed])
        .stopped(25, 5_002_500)
        .is(2_500, &[KilowattHoursSupposed]);
    let wrong = charge(5_000_000).values(&json!({"unit": "Wh"}), &read);
    assert_eq!(wrong.stopped(25, 5_002_500).0.energy().energy_wh, Some(2_500));
    let other =
        charge(5_000_000).values(&json!({"unit": "kWh"}), &[(10, "5001000"), (20, "5002000")]);
    other.stopped(25, 5_002_500).is(2_500, &[WattHoursSupposed]);
    // Start and stop in whole kWh: the registers say it more exactly.
    let read = [(0, "5000.4"), (10, "5001.4"), (25, "5002.6")];
    let marks = charge(5_000).values(&json!({"unit": "kWh"}), &read);
    marks.stopped(25, 5_002).is(2_200, &[KilowattHoursSupposed]);
    // Nothing but power tells that 7 are 7 kWh.
    let power = json!({"measurand": "Power.Active.Import", "unit": "kW"});
    let charge = charge(5_000).values(&power, &[(5, "7.2"), (30, "7.2"), (55, "7.2")]);
    charge.stopped(60, 5_007).is(7_000, &[KilowattHoursSupposed]);
}

#[test]
fn phases_are_summed_if_there_is_no_total_and_none_of_them_is_missing() {
    let phases = |l1: i64, l2: i64, l3: i64| {
        json!([
            {"value": l1.to_string(), "phase": "L1"},
            {"value": l2.to_string(), "phase": "L2"},
            {"value": l3.to_string(), "phase": "L3-N"},
        ])
    };
    let summed = charge(600)
        .told(10, &phases(300, 400, 500))
        .told(20, &json!([{"value": "900", "phase": "L1"}]))
        .told(30, &phases(1_000, 1_100, 1_200));
    summed.is(2_700, &[PhasesSummed]).stopped(35, 3_400).is(2_800, &[PhasesSummed]);
    let mut with_total = phases(300, 400, 500).as_array().unwrap().clone();
    with_total.push(json!({"value": "1300"}));
    charge(600).told(10, &json!(with_total)).is(700, &[]);
}

#[test]
fn the_outlet_counts_and_other_quantities_do_not() {
    let both = |outlet: i64, inlet: i64| {
        json!([
            {"value": inlet.to_string(), "location": "Inlet"},
            {"value": outlet.to_string(), "location": "Outlet"},
            {"value": "77", "measurand": "SoC", "unit": "Percent"},
            {"value": "99", "measurand": "Energy.Active.Export.Register", "unit": "Wh"},
            {"value": "-5", "measurand": "Energy.Active.Export.Interval"},
            {"value": "99", "measurand": "Energy.Reactive.Import.Register", "unit": "varh"},
            {"value": "31", "measurand": "Temperature", "unit": "Celcius"},
            {"value": "OCMF|{}|{}", "format": "SignedData"},
        ])
    };
    charge(0).told(10, &both(1_000, 1_100)).told(20, &both(2_000, 2_200)).is(2_000, &[]);
    let inlet = json!({"location": "Inlet"});
    charge(0).values(&inlet, &[(10, "1000"), (20, "2000")]).is(2_000, &[]);
}

#[test]
fn unusual_numbers_are_read_or_are_nothing() {
    for (value, wh) in [("2e3", 2_000), (" 2000 ", 2_000), ("2000,0", 2_000), ("+2000", 2_000)] {
        charge(1_000).values(&json!({}), &[(10, value)]).is(wh - 1_000, &[]);
    }
    for value in
        ["", "0x10", "NaN", "inf", "-inf", "1e300", "-3", "9223372036854775808", "1,000,000", "kWh"]
    {
        let charge = charge(1_000).values(&json!({}), &[(10, value)]);
        charge.is(None, &[]).stopped(20, 1_700).is(700, &[]);
    }
}

#[test]
fn intervals_are_summed_and_power_is_integrated_if_there_is_no_register() {
    let interval = json!({"measurand": "Energy.Active.Import.Interval", "unit": "Wh"});
    let read = [(10, "1000.4"), (20, "1000.4"), (20, "1000.4"), (30, "500"), (31, "9000000")];
    charge(5).values(&interval, &read).is(2_501, &[IntervalsSummed]);
    let stopped = charge(5).values(&interval, &read).stopped(40, 0);
    stopped.is(2_501, &[StopBelowStart, IntervalsSummed]);
    let power = json!({"measurand": "Power.Active.Import", "unit": "W"});
    let read = [(10, "6000"), (20, "6000"), (30, "-40"), (40, "6000"), (50, "6000")];
    let charge = charge(5).values(&power, &read).stopped(60, -1);
    charge.is(6_000, &[StopBelowStart, PowerEstimated]);
}

#[test]
fn phases_add_up_to_no_more_power_than_a_connector_has() {
    let phases = |watts: i64| {
        json!(["L1", "L2", "L3"].map(|phase| json!({
            "value": watts.to_string(), "phase": phase,
            "measurand": "Power.Active.Import", "unit": "W",
        })))
    };
    let told = |watts| charge(5).told(0, &phases(watts)).told(55, &phases(watts));
    told(300_000).is(825_000, &[PowerEstimated]);
    told(1_000_000).stopped(60, -1).is(None, &[StopBelowStart, Unknown]);
}

#[test]
fn a_session_of_days_keeps_its_energy_however_often_it_tells_of_it() {
    // Half of the intervals went with the 2,049th reading, and of the power all but the last hours.
    let interval = |phase: Value| {
        let mut sample = json!({"value": "20", "measurand": "Energy.Active.Import.Interval"});
        sample["phase"] = phase;
        sample
    };
    let power = json!({"value": "7200", "measurand": "Power.Active.Import", "unit": "W"});
    let phases = json!(["L1", "L2", "L3"].map(|phase| interval(json!(phase))));
    for (samples, wh) in [
        (json!([interval(Value::Null)]), 4_000 * 20),
        (phases, 4_000 * 60),
        (json!([power]), 4_000 * 120),
    ] {
        let mut session = charge(5);
        for at in 1..=4_000 {
            session = session.told(at, &samples);
            if at % 500 == 0 {
                session.0.readings = thinned(session.0.readings);
            }
        }
        let told_again = (1_000..=4_000).fold(charge(5), |it, at| it.told(at, &samples));
        session.0.readings.extend(told_again.0.readings);
        session.0.readings = thinned(session.0.readings);
        assert!(session.0.readings.len() <= READINGS_MAX);
        assert_eq!(session.stopped(4_000, -1).0.energy().energy_wh, Some(wh));
    }
}

#[test]
fn a_clock_that_was_never_set_or_of_the_future_counts_by_arrival() {
    let never_set = ["1970-01-01T00:00:15Z", "2015-01-01T00:00:00Z", "2055-01-01T00:00:00Z"];
    for clock in [None].into_iter().chain(never_set.map(Some)) {
        let clock: Option<Timestamp> = clock.map(|text| text.parse().unwrap());
        let register = |wh: i64| json!([{"value": wh.to_string()}]);
        let told = charge(1_000).told_by_clock(clock, 10, &register(2_000)).told_by_clock(
            clock,
            20,
            &register(3_000),
        );
        let told = told.stopped(30, 3_500).is(2_500, &[ClockNotBelieved]);
        let moments: Vec<Timestamp> = told.0.energy().curve.points().map(|(at, _)| at).collect();
        assert_eq!(moments, [minute(0), minute(10), minute(20), minute(30)]);
        // So a session that has only such moments is on the day of its arrival.
        let mark = |at, wh| MeterMark::new(clock, minute(at), Some(wh));
        let evidence = Evidence { start: mark(0, 0), end: Some(mark(30, 900)), ..told.0 };
        let days = Evidence { readings: Vec::new(), ..evidence }.energy().curve.days();
        let today = minute(0).as_micros().div_euclid(DAY_MICROS);
        assert_eq!(days.into_iter().collect::<Vec<_>>(), [(today, 900)]);
    }
    // Three stations whose clock was never set, with 19 kWh in truth.
    let mark = |wh| MeterMark::new(Some(Timestamp::from_micros(15_000_000)), minute(1), Some(wh));
    let blind = Evidence {
        start: mark(0),
        end: Some(mark(19_000)),
        is_end_reported: true,
        readings: Vec::new(),
    };
    assert_eq!(blind.energy().energy_wh, Some(19_000));
}

#[test]
fn a_clock_that_was_set_back_in_the_middle_counts_in_the_order_of_arrival() {
    let register = |wh: i64| json!([{"value": wh.to_string()}]);
    let told = charge(1_000)
        .told(10, &register(2_000))
        .told(20, &register(3_000))
        .told(5, &register(4_000))
        .told(15, &register(5_000));
    told.stopped(25, 6_000).is(5_000, &[OrderOfArrival]);
    charge(1_000).stopped(-30, 6_000).is(5_000, &[]);
}

#[test]
fn a_transaction_without_a_stop_has_the_energy_of_its_last_reading_whenever_that_was() {
    let mut lost = charge(1_000).registers(&[(10, 2_000), (20, 3_000)]);
    lost.0.end = Some(MeterMark::new(Some(minute(15)), minute(15), None));
    lost.is(2_000, &[StopMissing]);
}

#[test]
fn readings_after_the_stop_are_not_the_transactions() {
    let late = charge(1_000).registers(&[(10, 2_000), (40, 9_000)]).stopped(25, 3_000);
    late.is(2_000, &[]);
}

#[test]
fn a_day_has_what_the_readings_of_that_day_show_and_midnight_closes_the_day_before() {
    let midnight = minute(0).as_micros().div_euclid(DAY_MICROS) + 1;
    let to_midnight = (midnight * DAY_MICROS - minute(0).as_micros()) / 60_000_000;
    let read = [(to_midnight - 15, 4_000), (to_midnight, 4_500), (to_midnight + 30, 6_000)];
    let days = |charge: Charge| charge.0.energy().curve.days().into_iter().collect::<Vec<_>>();
    let over = || charge(1_000).registers(&read);
    let (first, second) = (midnight - 1, midnight);
    assert_eq!(days(over()), [(first, 3_500), (second, 1_500)]);
    let stopped = over().stopped(to_midnight + 60, 7_000);
    assert_eq!(days(stopped), [(first, 3_500), (second, 2_500)]);
    let unread = charge(1_000).stopped(to_midnight + 60, 7_000);
    assert_eq!(days(unread), [(second, 6_000)]);
    let computed = over().0.energy().curve.days();
    let corrected = days_corrected(&computed, 1_000, minute(to_midnight + 60));
    assert_eq!(corrected.into_iter().collect::<Vec<_>>(), [(first, 700), (second, 300)]);
    let said = days_corrected(&Default::default(), 1_000, minute(to_midnight + 60));
    assert_eq!(said.into_iter().collect::<Vec<_>>(), [(second, 1_000)]);
}

#[test]
fn a_channel_is_stored_as_a_number_and_comes_back() {
    for code in 0..144 {
        assert_eq!(MeterChannel::of_code(code).map(MeterChannel::code), Some(code));
    }
    assert_eq!((MeterChannel::of_code(144), MeterChannel::of_code(-1)), (None, None));
}
