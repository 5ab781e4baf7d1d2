//! Cron expressions compared with a walk over every minute, which knows nothing of fields and
//! segments.

use std::collections::BTreeSet;

use super::*;

/// A field as a list of values, and as it may be written.
struct Drawn {
    values: BTreeSet<i8>,
    text: String,
}

/// An expression that was made up, and what it means.
struct MadeUp {
    fields: [Drawn; 5],
    zone: TimeZone,
}

/// Zones whose clocks jump by an hour, by half of one, in the middle of the night, or never.
const ZONES: [&str; 5] = [
    "UTC0",
    "CET-1CEST,M3.5.0,M10.5.0/3",
    "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
    "XST5XDT,M3.2.0/0,M11.1.0/0",
    "<+0545>-5:45",
];

fn draw(random: &mut fastrand::Rng, low: i8, high: i8) -> Drawn {
    let some = |random: &mut fastrand::Rng| {
        let from = random.i8(low..=high);
        (from, random.i8(from..=high), random.i8(1..=high.min(12)))
    };
    if random.u8(..3) == 0 {
        return Drawn { values: (low..=high).collect(), text: "*".to_owned() };
    }
    let mut drawn = Drawn { values: BTreeSet::new(), text: String::new() };
    for part in 0..random.usize(1..4) {
        let (from, to, step) = some(random);
        let (values, text): (Vec<i8>, String) = match random.u8(..4) {
            0 => ((from..=to).collect(), format!("{from}-{to}")),
            1 => ((from..=to).step_by(step as usize).collect(), format!("{from}-{to}/{step}")),
            2 if part == 0 => ((low..=high).step_by(step as usize).collect(), format!("*/{step}")),
            _ => (vec![from], from.to_string()),
        };
        drawn.values.extend(values);
        drawn.text = if part == 0 { text } else { format!("{},{text}", drawn.text) };
    }
    drawn
}

impl MadeUp {
    fn draw(random: &mut fastrand::Rng) -> Self {
        let fields =
            [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)].map(|(low, high)| draw(random, low, high));
        let zone = ZONES[random.usize(..ZONES.len())];
        Self { fields, zone: TimeZone::posix(zone).unwrap() }
    }

    fn text(&self) -> String {
        self.fields.iter().map(|field| field.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn names(&self, civil: DateTime) -> bool {
        let [minutes, hours, days, months, weekdays] = &self.fields;
        let by_day = days.values.contains(&civil.day());
        let by_weekday = weekdays.values.contains(&civil.weekday().to_sunday_zero_offset());
        let day = match (days.text.as_str(), weekdays.text.as_str()) {
            ("*", _) => by_weekday,
            (_, "*") => by_day,
            _ => by_day || by_weekday,
        };
        let is_time =
            minutes.values.contains(&civil.minute()) && hours.values.contains(&civil.hour());
        is_time && day && months.values.contains(&civil.month())
    }

    /// The moments of some days, found by looking at each minute.
    fn walk(&self, from: Timestamp, minutes: i64) -> Vec<Timestamp> {
        let minute = SignedDuration::from_mins(1);
        let named_hours = !self.fields[1].text.starts_with('*');
        // What the clock has shown before, from well before the beginning.
        let mut at = from - SignedDuration::from_hours(30);
        let mut latest = self.zone.to_datetime(at);
        let mut moments = Vec::new();
        while at < from + SignedDuration::from_mins(minutes) {
            let civil = self.zone.to_datetime(at);
            let mut skipped = latest + minute;
            let mut fires = self.names(civil) && !(named_hours && civil <= latest);
            while named_hours && skipped < civil {
                fires |= self.names(skipped);
                skipped += minute;
            }
            if fires && at > from {
                moments.push(at);
            }
            latest = latest.max(civil);
            at += minute;
        }
        moments
    }
}

/// Every moment that the expression gives, and no other, forwards, backwards and counted.
#[test]
fn expressions_name_the_moments_that_a_walk_over_every_minute_finds() {
    let seed = std::env::var("LEFTFOLD_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("LEFTFOLD_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut found, mut jumps) = (0, 0);
    for _ in 0..150 {
        let made_up = MadeUp::draw(&mut random);
        let Ok(fields) = CronFields::parse(&made_up.text()) else { continue };
        let cron = Cron { fields, zone: made_up.zone.clone() };
        // Around a jump of the clock, if the zone has any.
        let some = Timestamp::from_second(random.i64(0..2_000_000_000) / 60 * 60).unwrap();
        let jump = made_up.zone.following(some).next().map(|transition| transition.timestamp());
        jumps += usize::from(jump.is_some());
        let from = jump.unwrap_or(some) - SignedDuration::from_mins(random.i64(0..3_000));
        let (minutes, about) =
            (4_000, format!("{} in {:?} from {from}", made_up.text(), made_up.zone));
        let walked = made_up.walk(from, minutes);
        let through = from + SignedDuration::from_mins(minutes) - TICK;
        let named: Vec<Timestamp> =
            std::iter::successors(cron.after(from), |moment| cron.after(*moment))
                .take_while(|moment| *moment <= through)
                .collect();
        assert_eq!(named, walked, "{about}");
        assert_eq!(cron.count(from, through), walked.len() as u64, "{about}");
        for _ in 0..20 {
            let moment = from + SignedDuration::from_secs(random.i64(0..minutes * 60));
            let last = walked.iter().rev().find(|walked| **walked <= moment).copied();
            let by = cron.by(moment);
            assert!(
                last.is_none() && by <= Some(from) || by == last,
                "{by:?} is not {last:?} by {moment}: {about}"
            );
            if let (Some(last), Some(by)) = (last, by) {
                assert_eq!(
                    cron.by(by - TICK).map_or(0, |before| cron.count(before, last)),
                    1,
                    "{about}"
                );
            }
        }
        found += walked.len();
    }
    assert!(found > 1_000 && jumps > 50, "{found} moments and {jumps} jumps are too few");
}

fn moments(cron: &Cron, after: &str, count: usize) -> Vec<String> {
    let first = cron.after(after.parse().unwrap());
    std::iter::successors(first, |moment| cron.after(*moment))
        .take(count)
        .map(|moment| moment.to_string())
        .collect()
}

#[test]
fn named_hours_fire_once_on_a_day_on_which_the_clock_jumps_and_others_follow_the_clock() {
    let berlin = |expression| {
        let zone = TimeZone::posix(ZONES[1]).unwrap();
        Cron { zone, ..Cron::parse(expression).unwrap() }
    };
    // At 01:00 UTC the clock goes from 2 to 3: what was due at 2:30 is due when it has.
    assert_eq!(
        moments(&berlin("30 2 * * *"), "2026-03-28T12:00:00Z", 2),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    // At 01:00 UTC it goes back from 3 to 2: the first half past two counts.
    assert_eq!(
        moments(&berlin("30 2 * * *"), "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    assert_eq!(
        moments(&berlin("30 * * * *"), "2026-03-29T00:00:00Z", 2),
        ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]
    );
    assert_eq!(
        moments(&berlin("30 * * * *"), "2026-10-25T00:00:00Z", 3),
        ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]
    );
}

/// Samoa went from the end of the 29th of December 2011 to the beginning of the 31st, a Saturday.
#[test]
fn named_hours_of_a_day_that_a_zone_leaves_out_fire_once_when_the_next_one_begins() {
    let apia = |expression| Cron::parse(expression).unwrap().in_zone("Pacific/Apia").unwrap();
    let (before, jump) = ("2011-12-29T00:00:00Z", "2011-12-30T10:00:00Z");
    let mornings = apia("0 8 * * *");
    assert_eq!(
        moments(&mornings, before, 4),
        ["2011-12-29T18:00:00Z", jump, "2011-12-30T18:00:00Z", "2011-12-31T18:00:00Z"]
    );
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    assert_eq!(mornings.by(at("2011-12-30T17:59:59Z")), Some(at(jump)));
    assert_eq!(mornings.count(at(before), at("2011-12-31T12:00:00Z")), 3);
    // However often, and by whichever of the day's names.
    for expression in ["0 8,12,16 30 * *", "0 8,12,16 * DEC FRI"] {
        assert_eq!(moments(&apia(expression), "2011-12-29T12:00:00Z", 1), [jump], "{expression}");
        assert_eq!(
            apia(expression).count(at("2011-12-29T12:00:00Z"), at("2011-12-31T00:00:00Z")),
            1
        );
    }
    // The midnight that is left out and the one that the clock shows then are one.
    assert_eq!(
        moments(&apia("0 0 * * *"), before, 3),
        ["2011-12-29T10:00:00Z", jump, "2011-12-31T10:00:00Z"]
    );
    // Every hour follows the clock, which shows none of that day's.
    assert_eq!(
        moments(&apia("30 * * * *"), "2011-12-30T09:00:00Z", 2),
        ["2011-12-30T09:30:00Z", "2011-12-30T10:30:00Z"]
    );
    assert_eq!(
        apia("30 * 30 DEC *").count(at("2011-12-01T00:00:00Z"), at("2012-12-01T00:00:00Z")),
        0
    );
}

/// Lord Howe's clock goes on, and back, by half an hour: a gap and a fold that no other zone has.
#[test]
fn named_hours_fire_once_at_a_gap_and_at_a_fold_of_half_an_hour() {
    let howe =
        |expression| Cron::parse(expression).unwrap().in_zone("Australia/Lord_Howe").unwrap();
    // From 2:00 to 2:30 on the 4th of October 2026, at 15:30 UTC.
    let (before, gap) = ("2026-10-03T10:00:00Z", "2026-10-03T15:30:00Z");
    assert_eq!(moments(&howe("15 2 * * *"), before, 2), [gap, "2026-10-04T15:15:00Z"]);
    // What is due in the gap, and at its end, is due once.
    assert_eq!(moments(&howe("15,30 2 * * *"), before, 2), [gap, "2026-10-04T15:15:00Z"]);
    // At 1:15, and then at 3:15: the clock shows no 2:15.
    assert_eq!(
        moments(&howe("15 * * * *"), "2026-10-03T14:30:00Z", 2),
        ["2026-10-03T14:45:00Z", "2026-10-03T16:15:00Z"]
    );
    // From 2:00 back to 1:30 on the 5th of April 2026, at 15:00 UTC.
    assert_eq!(
        moments(&howe("45 1 * * *"), "2026-04-04T10:00:00Z", 2),
        ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"]
    );
    assert_eq!(
        moments(&howe("45 * * * *"), "2026-04-04T14:30:00Z", 3),
        ["2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z", "2026-04-04T16:15:00Z"]
    );
}

#[test]
fn the_next_leap_day_is_found_over_a_century_that_has_none() {
    let leap = Cron::parse("0 0 29 2 *").unwrap();
    assert_eq!(moments(&leap, "2096-02-29T00:00:00Z", 1), ["2104-02-29T00:00:00Z"]);
    assert_eq!(leap.after(Timestamp::MAX), None);
    assert_eq!(leap.by(Timestamp::MIN), None);
    assert_eq!(
        leap.count(
            "2000-01-01T00:00:00Z".parse().unwrap(),
            "2100-01-01T00:00:00Z".parse().unwrap()
        ),
        25
    );
}

#[test]
fn an_expression_that_is_wrong_names_the_field_the_value_and_what_is_allowed() {
    for (expression, says) in [
        ("0 22 * *", "has 4 fields, write five: minute, hour, day of month, month, day of week"),
        ("", "has 0 fields"),
        ("60 * * * *", r#"the minute of a cron expression cannot be "60", write 0 to 59"#),
        ("0 24 * * *", r#"the hour of a cron expression cannot be "24", write 0 to 23"#),
        ("0 0 0 * *", r#"the day of the month of a cron expression cannot be "0", write 1 to 31"#),
        (
            "0 0 * FEBR *",
            r#"the month of a cron expression cannot be "FEBR", write 1 to 12 or JAN to DEC"#,
        ),
        (
            "0 0 * * 8",
            r#"the day of the week of a cron expression cannot be "8", write 0 to 7 or SUN to SAT"#,
        ),
        ("0 0 * * FRI-MON", r#"the range "FRI-MON" in the day of the week ends before it begins"#),
        (
            "*/0 * * * *",
            r#""*/0" is not a step of the minute, write */N or FROM-TO/N with N from 1 to 59"#,
        ),
        ("5/15 * * * *", r#""5/15" is not a step of the minute"#),
        ("+5 * * * *", r#"the minute of a cron expression cannot be "+5""#),
        ("1,,2 * * * *", r#"the minute of a cron expression cannot be """#),
        ("0 0 ? * *", r#"the day of the month of a cron expression cannot be "?""#),
        ("0 0 30 2 *", "is never due"),
        ("99999999999999999999 0 * * *", "the minute of a cron expression cannot be"),
    ] {
        let error = Cron::parse(expression).unwrap_err().to_string();
        assert!(error.contains(says), "{expression}: {error}");
    }
    let nowhere = Cron::parse("* * * * *").unwrap().in_zone("Europe/Nowhere").unwrap_err();
    assert!(nowhere.to_string().contains(r#""Europe/Nowhere" is not known"#), "{nowhere}");
}

#[test]
fn sunday_is_0_and_7_and_names_are_read_in_any_case() {
    let same = |one, other| assert_eq!(Cron::parse(one), Cron::parse(other), "{one} {other}");
    same("0 0 * * 7", "0 0 * * sun");
    same("0 0 * * FRI-SUN", "0 0 * * 0,5,6");
    same("0 0 * * 5-7", "0 0 * * 5,6,0");
    same("0 0 * jan-Mar *", "0 0 * 1,2,3 *");
    same("*/20  0 * *\t*", "0,20,40 0 * * *");
    same("0 0 * * SUN-SAT/2", "0 0 * * 0,2,4,6");
}
