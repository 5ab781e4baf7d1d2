//! A schedule: where a run leaves the usual course, and how.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

/// Deviation from the usual event at one point of a run.
///
/// Points are counted from 0. The usual thing is that what was asked for first is carried out
/// first, in the usual way; if nothing waits, the clock goes on to the next moment that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This operation is carried out now, in this way.
    Take { operation: u16, way: u8 },
    /// This operation is late: all others go first.
    Hold { operation: u16 },
    /// The answer to a client is lost, and it asks again.
    Lose { client: u8 },
    /// An application stops and is started again; of what it had under way only these operations
    /// are carried out.
    Crash { application: u8, carried: u32 },
    /// The clock is moved.
    Clock(ClockMove),
}

/// Movement of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockMove {
    /// To the next moment that someone waits for.
    Next,
    /// This much beyond that.
    Past(Duration),
    /// A little.
    On(Duration),
    Back(Duration),
}

/// A run, but for what is usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RunSchedule {
    /// Number of applications that share the store, besides the first.
    pub(super) others: u8,
    pub(super) choices: BTreeMap<u32, Choice>,
}

/// Everything is carried out that was under way.
pub(super) const ALL: u32 = u32::MAX;

impl RunSchedule {
    /// A crash at one point; what was under way is all lost, or all carried out.
    pub(super) fn crash_at(point: u32, carried: u32) -> Self {
        Self {
            others: 0,
            choices: BTreeMap::from([(point, Choice::Crash { application: 0, carried })]),
        }
    }
}

/// Source of the choices of a run.
pub(super) enum ChoiceSource {
    /// They are known.
    Known(RunSchedule),
    /// They are drawn on the way, and remembered.
    Drawn(Box<DrawnSchedule>),
}

/// A schedule that is drawn while the run goes on.
pub(super) struct DrawnSchedule {
    rng: Rng,
    drawn: RunSchedule,
    planned: BTreeMap<u32, PlannedChoice>,
    /// Percentage of operations carried out next that are not the usual one.
    reorders: u32,
    /// Number of appends that still find the store busy.
    outage: u32,
    /// Percentage of clock movements that go elsewhere than to the next moment that matters.
    lateness: u32,
    /// Percentage of operations carried out in another way than usual.
    varies: u32,
}

#[derive(Clone, Copy)]
enum PlannedChoice {
    Crash,
    Clock,
    Hold,
    Lose,
    Outage,
}

/// Kind of an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OperationKind {
    Looks,
    Appends,
    /// It touches the outside world.
    Outside,
}

/// Options for a choice at a point.
pub(super) struct ChoiceOptions<'a> {
    /// The ways of each operation that waits, and what it does.
    pub(super) waiting: &'a [(u8, OperationKind)],
    pub(super) first: Option<usize>,
    pub(super) applications: u8,
    /// Clients that wait for an answer.
    pub(super) asking: &'a [u8],
}

impl ChoiceSource {
    /// A schedule for a seed, for a system whose usual run has the given number of points.
    pub(super) fn drawn(seed: u64, points: u32, others_max: u8) -> Self {
        let mut rng = Rng::with_seed(seed);
        let points = points.max(1) + points / 4;
        let mut planned = BTreeMap::new();
        for (kind, most) in [
            (PlannedChoice::Crash, 3),
            (PlannedChoice::Clock, 3),
            (PlannedChoice::Hold, 4),
            (PlannedChoice::Lose, 1),
            (PlannedChoice::Outage, 1),
        ] {
            for _ in 0..rng.u32(..=most) {
                planned.insert(rng.u32(..points), kind);
            }
        }
        let reorders = [0, 5, 40][rng.usize(..3)];
        let varies = [0, 5, 20][rng.usize(..3)];
        let lateness = [0, 20, 50][rng.usize(..3)];
        let drawn = RunSchedule { others: rng.u8(..=others_max), choices: BTreeMap::new() };
        Self::Drawn(Box::new(DrawnSchedule {
            rng,
            drawn,
            planned,
            reorders,
            outage: 0,
            lateness,
            varies,
        }))
    }

    pub(super) fn others(&self) -> u8 {
        match self {
            Self::Known(schedule) => schedule.others,
            Self::Drawn(drawing) => drawing.drawn.others,
        }
    }

    /// The choice at a point; `None` if the usual happens.
    pub(super) fn choose(&mut self, point: u32, options: &ChoiceOptions<'_>) -> Option<Choice> {
        match self {
            Self::Known(schedule) => schedule.choices.get(&point).copied(),
            Self::Drawn(drawing) => {
                let choice = drawing.draw(point, options)?;
                drawing.drawn.choices.insert(point, choice);
                Some(choice)
            }
        }
    }

    /// The choices that were made.
    pub(super) fn made(self) -> RunSchedule {
        match self {
            Self::Known(schedule) => schedule,
            Self::Drawn(drawing) => drawing.drawn,
        }
    }
}

impl DrawnSchedule {
    fn draw(&mut self, point: u32, options: &ChoiceOptions<'_>) -> Option<Choice> {
        let waiting = options.waiting.len();
        match self.planned.get(&point) {
            Some(PlannedChoice::Crash) => {
                let carried = [0, ALL, self.rng.u32(..)][self.rng.usize(..3)];
                return Some(Choice::Crash {
                    application: self.rng.u8(..options.applications),
                    carried,
                });
            }
            Some(PlannedChoice::Clock) => return Some(Choice::Clock(self.turn())),
            Some(PlannedChoice::Hold) if waiting > 1 => {
                return Some(Choice::Hold { operation: self.operation(waiting) });
            }
            Some(PlannedChoice::Lose) if !options.asking.is_empty() => {
                return Some(Choice::Lose {
                    client: options.asking[self.rng.usize(..options.asking.len())],
                });
            }
            Some(PlannedChoice::Outage) => self.outage = self.rng.u32(1..15),
            _ => {}
        }
        let Some(usual) = options.first else {
            // Everyone waits for a moment: it need not be the next one that comes.
            let late = waiting == 0 && self.rng.u32(..100) < self.lateness;
            return late.then(|| Choice::Clock(self.turn()));
        };
        let operation = if waiting > 1 && self.rng.u32(..100) < self.reorders {
            self.operation(waiting)
        } else {
            usual as u16
        };
        let index = usize::from(operation);
        let way = self.way(options.waiting[index]);
        (index != usual || way > 0).then_some(Choice::Take { operation, way })
    }

    fn way(&mut self, (ways, kind): (u8, OperationKind)) -> u8 {
        if kind == OperationKind::Appends && self.outage > 0 {
            self.outage -= 1;
            return 1;
        }
        let varies = if kind == OperationKind::Outside { 60 } else { self.varies };
        if ways > 1 && self.rng.u32(..100) < varies { self.rng.u8(1..ways) } else { 0 }
    }

    fn operation(&mut self, waiting: usize) -> u16 {
        self.rng.u16(..u16::try_from(waiting).unwrap_or(u16::MAX))
    }

    fn turn(&mut self) -> ClockMove {
        match self.rng.u8(..6) {
            0 | 1 => ClockMove::Next,
            2 => ClockMove::Past(Duration::from_secs(self.rng.u64(1..60))),
            3 => ClockMove::Past(Duration::from_secs(self.rng.u64(60..7_200))),
            4 => ClockMove::On(Duration::from_millis(self.rng.u64(1..5_000))),
            _ => ClockMove::Back(Duration::from_millis(self.rng.u64(1..5_000))),
        }
    }
}
