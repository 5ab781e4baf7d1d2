//! Habits of real stations, as a set of named flags.

use std::fmt;
use std::str::FromStr;

use fastrand::Rng;

/// A habit of firmware that departs from the specification, or that servers get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    Clock1970,
    ClockWrongUntilBoot,
    NeverAvailableAfterStop,
    StopWithMinusOne,
    LateOfflineStart,
    QuickSuccession,
    ForgetsOnReboot,
    ForeignTransaction,
    LongIdTag,
    StopZeroMeter,
    StopNegativeMeter,
    SessionMeter,
    KwhUnit,
    MissingUnit,
    PerPhase,
    RegisterReset,
    RegisterJump,
    SignedMeterValues,
    ResendNewId,
    ConstantMessageIds,
    NoBootOnReconnect,
    NeverPong,
    OriginFile,
    DoubleSlashPath,
    TrailingSlash,
    EncodedIdentity,
}

/// Part of a station that a habit belongs to. A station has at most one habit of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HabitPart {
    Transactions,
    Meter,
    Messages,
    Line,
}

use Habit as H;
use HabitPart as P;

/// All habits: each with its name, the part that it belongs to, and a line for the help.
const HABITS: [(Habit, &str, HabitPart, &str); 26] = [
    (H::Clock1970, "clock-1970", P::Transactions, "the clock begins at 1970 at each start"),
    (
        H::ClockWrongUntilBoot,
        "clock-wrong-until-boot",
        P::Transactions,
        "the clock is at 1970 until the server has told the time",
    ),
    (
        H::NeverAvailableAfterStop,
        "never-available-after-stop",
        P::Transactions,
        "no Available follows a StopTransaction",
    ),
    (
        H::StopWithMinusOne,
        "stop-with-minus-one",
        P::Transactions,
        "StopTransaction names transaction -1",
    ),
    (
        H::LateOfflineStart,
        "late-offline-start",
        P::Transactions,
        "sessions from offline are told of when a later one runs",
    ),
    (
        H::QuickSuccession,
        "quick-succession",
        P::Transactions,
        "several sessions of the same tag within one second",
    ),
    (
        H::ForgetsOnReboot,
        "forgets-on-reboot",
        P::Transactions,
        "a session is forgotten with the power: no stop is ever told",
    ),
    (
        H::ForeignTransaction,
        "foreign-transaction",
        P::Transactions,
        "the first session was begun under another server, with its transaction id",
    ),
    (H::LongIdTag, "long-id-tag", P::Transactions, "id tags of 600 characters"),
    (H::StopZeroMeter, "stop-zero-meter", P::Meter, "meterStop is 0; the meter values are right"),
    (
        H::StopNegativeMeter,
        "stop-negative-meter",
        P::Meter,
        "meterStop is -1; the meter values are right",
    ),
    (
        H::SessionMeter,
        "session-meter",
        P::Meter,
        "start and stop count from 0, beside meter values of the lifetime",
    ),
    (H::KwhUnit, "kwh-unit", P::Meter, "meter values in kWh"),
    (H::MissingUnit, "missing-unit", P::Meter, "meter values without a unit"),
    (H::PerPhase, "per-phase", P::Meter, "meter values for each phase"),
    (H::RegisterReset, "register-reset", P::Meter, "the register falls to 0 within a session"),
    (H::RegisterJump, "register-jump", P::Meter, "one reading of a session is 5 GWh too high"),
    (
        H::SignedMeterValues,
        "signed-meter-values",
        P::Meter,
        "the last meter value comes with signed data",
    ),
    (H::ResendNewId, "resend-new-id", P::Messages, "what is sent again has a new message id"),
    (H::ConstantMessageIds, "constant-message-ids", P::Messages, "all messages have the same id"),
    (
        H::NoBootOnReconnect,
        "no-boot-on-reconnect",
        P::Line,
        "BootNotification comes at power-up only",
    ),
    (H::NeverPong, "never-pong", P::Line, "pings are not answered"),
    (H::OriginFile, "origin-file", P::Line, "the handshake has Origin: file://"),
    (H::DoubleSlashPath, "double-slash-path", P::Line, "the path is //ocpp/ID"),
    (H::TrailingSlash, "trailing-slash", P::Line, "the path is /ocpp/ID/"),
    (H::EncodedIdentity, "encoded-identity", P::Line, "the identity has a space and is encoded"),
];

impl Habit {
    /// Returns the name, as in `--habits`.
    pub(crate) fn name(self) -> &'static str {
        HABITS[self as usize].1
    }

    fn part(self) -> HabitPart {
        HABITS[self as usize].2
    }
}

/// A set of habits. Its text is `all`, `none`, or names with commas between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Habits(u32);

impl Habits {
    /// Set of all habits.
    pub(crate) const ALL: Self = Self((1 << HABITS.len()) - 1);

    /// Tells whether a habit is in the set.
    pub(crate) fn has(self, habit: Habit) -> bool {
        self.0 & (1 << habit as u32) != 0
    }

    /// Returns the set with one more habit.
    pub(crate) fn with(self, habit: Habit) -> Self {
        Self(self.0 | (1 << habit as u32))
    }

    /// Returns the habits in the set.
    pub(crate) fn each(self) -> impl Iterator<Item = Habit> {
        HABITS.iter().map(|(habit, ..)| *habit).filter(move |habit| self.has(*habit))
    }

    /// Returns the habits of one station out of this set: each habit in turn is the first one of a
    /// station, so that a fleet as large as the set has them all, and habits of other parts may
    /// come with it. Habits of transactions and of meters do not come together: what is to be
    /// expected of a session would be a riddle.
    pub(crate) fn of_station(self, number: usize, rng: &mut Rng) -> Self {
        let all: Vec<Habit> = self.each().collect();
        if all.is_empty() {
            return self;
        }
        let first = all[number % all.len()];
        let mut habits = Self::default().with(first);
        for part in [P::Transactions, P::Meter, P::Messages, P::Line] {
            let clashes = matches!(
                (first.part(), part),
                (P::Transactions, P::Meter) | (P::Meter, P::Transactions)
            );
            let taken = habits.each().any(|habit| {
                habit.part() == part || matches!((habit.part(), part), (P::Transactions, P::Meter))
            });
            if clashes || taken || rng.u8(..3) > 0 {
                continue;
            }
            let of_part: Vec<Habit> =
                all.iter().copied().filter(|habit| habit.part() == part).collect();
            if let Some(habit) = rng.choice(of_part) {
                habits = habits.with(habit);
            }
        }
        habits
    }
}

impl fmt::Display for Habits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(0) => f.write_str("none"),
            Self::ALL => f.write_str("all"),
            some => f.write_str(&some.each().map(Habit::name).collect::<Vec<_>>().join(",")),
        }
    }
}

/// A name that no habit has.
#[derive(Debug, thiserror::Error)]
#[error("there is no habit {name:?}; use all, none, or some of {}", Habits::ALL.names())]
pub(crate) struct UnknownHabit {
    name: String,
}

impl Habits {
    fn names(self) -> String {
        self.each().map(Habit::name).collect::<Vec<_>>().join(", ")
    }
}

impl FromStr for Habits {
    type Err = UnknownHabit;

    fn from_str(text: &str) -> Result<Self, UnknownHabit> {
        match text {
            "all" => return Ok(Self::ALL),
            "none" | "" => return Ok(Self::default()),
            _ => {}
        }
        text.split(',').map(str::trim).try_fold(Self::default(), |habits, name| {
            let row = HABITS.iter().find(|row| row.1 == name);
            let row = row.ok_or_else(|| UnknownHabit { name: name.to_owned() })?;
            Ok(habits.with(row.0))
        })
    }
}

/// Returns the lines of the help that tell of each habit.
pub(crate) fn habits_help() -> String {
    HABITS.iter().map(|(_, name, _, line)| format!("  {name:27} {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_as_large_as_the_set_has_every_habit_and_no_station_two_of_a_part() {
        let mut rng = Rng::with_seed(7);
        let mut found = Habits::default();
        for number in 0..HABITS.len() {
            let habits = Habits::ALL.of_station(number, &mut rng);
            found.0 |= habits.0;
            for part in [P::Transactions, P::Meter, P::Messages, P::Line] {
                assert!(habits.each().filter(|habit| habit.part() == part).count() <= 1);
            }
        }
        assert_eq!(found, Habits::ALL);
    }

    #[test]
    fn a_set_is_read_from_its_text_and_an_unknown_name_is_told_with_the_known_ones() {
        for text in ["all", "none", "clock-1970,never-pong"] {
            assert_eq!(text.parse::<Habits>().unwrap().to_string(), text);
        }
        let error = "clock-1971".parse::<Habits>().unwrap_err().to_string();
        assert!(error.contains("clock-1971") && error.contains("never-pong"), "{error}");
        for (at, row) in HABITS.iter().enumerate() {
            assert_eq!(row.0 as usize, at, "the rows stand in the order of the enum");
        }
    }
}
