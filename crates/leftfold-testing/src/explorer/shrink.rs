//! From a schedule that fails to a shorter one that fails in the same way.

use std::collections::BTreeMap;

use super::schedule::{ALL, Choice, ChoiceSource, ClockMove, RunSchedule};
use super::simulation::{ExplorationPlan, RunResult, StoryMode, run};

/// Runs that shrinking takes at most, and points of all of them.
const RUNS_MAX: u32 = 2_000;
const POINTS_MAX: u64 = 400_000;
/// A single choice that does what several did is looked for up to there.
const SINGLE_POINTS_MAX: u32 = 100;

/// The shortest run that was found. It fails as the one given does.
pub(super) fn shrink(plan: &ExplorationPlan, failed: RunResult) -> RunResult {
    let mut shrinking = Shrinker {
        plan,
        runs: 0,
        points: 0,
        best: run(plan, ChoiceSource::Known(failed.schedule), StoryMode::InFull),
    };
    while !shrinking.is_spent() && shrinking.round() {}
    shrinking.try_single_choices();
    shrinking.best
}

struct Shrinker<'p> {
    plan: &'p ExplorationPlan,
    runs: u32,
    points: u64,
    best: RunResult,
}

impl Shrinker<'_> {
    fn is_spent(&self) -> bool {
        self.runs >= RUNS_MAX || self.points >= POINTS_MAX
    }

    /// Tries everything once. Whether something was shorter.
    fn round(&mut self) -> bool {
        let before = cost(&self.best);
        if self.best.schedule.others > 0 {
            self.attempt(RunSchedule { others: 0, ..self.best.schedule.clone() });
        }
        self.drop_choices();
        self.simplify_choices();
        self.move_choices();
        cost(&self.best) < before
    }

    /// Looks for one choice that does what several did.
    fn try_single_choices(&mut self) {
        let points = u32::min(self.best.points, SINGLE_POINTS_MAX);
        let crash = |carried| Choice::Crash { application: 0, carried };
        let holds = (0..3).map(|operation| Choice::Hold { operation });
        for choice in holds.chain([crash(0), crash(ALL)]) {
            for point in 0..points {
                if self.best.schedule.choices.len() <= 1 && self.best.schedule.others == 0 {
                    return;
                }
                self.attempt(RunSchedule { others: 0, choices: BTreeMap::from([(point, choice)]) });
            }
        }
    }

    /// Leaves out choices: half of them, a quarter, and so on to single ones.
    fn drop_choices(&mut self) {
        let mut size = self.best.schedule.choices.len().next_power_of_two();
        while size > 0 {
            let mut at = 0;
            while at < self.best.schedule.choices.len() {
                if !self.attempt(without(&self.best.schedule, at, size)) {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    fn simplify_choices(&mut self) {
        let points: Vec<u32> = self.best.schedule.choices.keys().copied().collect();
        for point in points {
            for simpler in self
                .best
                .schedule
                .choices
                .get(&point)
                .map_or_else(Vec::new, |choice| simpler(*choice))
            {
                let mut schedule = self.best.schedule.clone();
                schedule.choices.insert(point, simpler);
                self.attempt(schedule);
            }
        }
    }

    /// Lets a choice come earlier, or a little later.
    fn move_choices(&mut self) {
        let points: Vec<u32> = self.best.schedule.choices.keys().copied().collect();
        for point in points {
            let earlier = [
                0,
                point / 2,
                point.saturating_sub(8),
                point.saturating_sub(2),
                point.saturating_sub(1),
            ];
            for to in earlier.into_iter().chain(point + 1..point + 9) {
                let mut schedule = self.best.schedule.clone();
                if schedule.choices.contains_key(&to) {
                    continue;
                }
                let Some(choice) = schedule.choices.remove(&point) else { break };
                schedule.choices.insert(to, choice);
                if self.attempt(schedule) {
                    break;
                }
            }
        }
    }

    /// Runs a schedule. Whether it fails in the same way and is shorter.
    fn attempt(&mut self, schedule: RunSchedule) -> bool {
        if self.is_spent() || schedule == self.best.schedule {
            return false;
        }
        self.runs += 1;
        let ended = run(self.plan, ChoiceSource::Known(schedule), StoryMode::InFull);
        self.points += u64::from(ended.points);
        let same = |ended: &RunResult| ended.broken.as_ref().map(|broken| broken.name.clone());
        let shorter = same(&ended) == same(&self.best) && cost(&ended) < cost(&self.best);
        if shorter {
            self.best = ended;
        }
        shorter
    }
}

/// Without this number of choices, from one of them on.
fn without(schedule: &RunSchedule, from: usize, count: usize) -> RunSchedule {
    let kept = schedule
        .choices
        .iter()
        .enumerate()
        .filter(|(index, _)| !(from..from + count).contains(index));
    RunSchedule {
        others: schedule.others,
        choices: kept.map(|(_, (point, choice))| (*point, *choice)).collect::<BTreeMap<_, _>>(),
    }
}

fn simpler(choice: Choice) -> Vec<Choice> {
    match choice {
        Choice::Take { operation, way } => {
            let ways = (0..way).map(|way| Choice::Take { operation, way });
            let first = (operation > 0 && way > 0).then_some(Choice::Take { operation: 0, way });
            let late = (0..3).map(|operation| Choice::Hold { operation });
            late.chain(ways).chain(first).collect()
        }
        Choice::Crash { application, carried } => {
            let of = |application, carried| Choice::Crash { application, carried };
            let all =
                [of(0, 0), of(0, ALL), of(0, carried), of(application, 0), of(application, ALL)];
            all.into_iter().filter(|simpler| *simpler != choice).collect()
        }
        Choice::Clock(ClockMove::Past(_) | ClockMove::On(_)) => {
            vec![Choice::Clock(ClockMove::Next)]
        }
        Choice::Hold { .. } | Choice::Lose { .. } | Choice::Clock(_) => Vec::new(),
    }
}

/// Returns the quantities to make small, the most important first.
fn cost(ended: &RunResult) -> (usize, usize, u8, u64, u64) {
    let choices = &ended.schedule.choices;
    let weight = |choice: &Choice| match choice {
        Choice::Take { way, .. } => u64::from(*way),
        Choice::Hold { .. } | Choice::Lose { .. } | Choice::Clock(ClockMove::Next) => 0,
        Choice::Crash { application, carried } => {
            u64::from(*application) * 100
                + if [0, ALL].contains(carried) { u64::from(carried & 1) } else { 32 }
        }
        Choice::Clock(_) => 100,
    };
    let points = choices.keys().map(|point| u64::from(*point)).sum();
    (
        ended.story.len(),
        choices.len(),
        ended.schedule.others,
        choices.values().map(weight).sum(),
        points,
    )
}
