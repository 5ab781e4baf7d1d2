//! What is open of one kind of effect, and whose turn it is: those of one key in their order, keys
//! side by side.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::EffectId;
use crate::store::Timestamp;

/// The effects that were taken up and are not concluded. It holds a few numbers for each, whatever
/// the intents are like.
#[derive(Debug, Default)]
pub(super) struct EffectQueue {
    open: BTreeMap<EffectId, Open>,
    lines: HashMap<u64, Line>,
    /// Those whose turn it is, in the order in which it became so.
    ready: BTreeMap<TurnKind, VecDeque<EffectId>>,
    /// Moments of the next turns of those that wait.
    waiting: BTreeSet<(Timestamp, EffectId)>,
    in_doubt: usize,
}

/// Purpose of the next turn of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TurnKind {
    /// Its next attempt, or whatever its ledger says.
    Attempt,
    /// It is in doubt and looked up.
    Look,
}

/// Wait of an effect for its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) until: Timestamp,
    pub(super) kind: TurnKind,
    /// True if the later effects of its key wait for it.
    pub(super) keeps_place: bool,
}

impl Rest {
    /// The wait of one that keeps its place and has its next attempt at a moment.
    pub(super) fn in_place(until: Timestamp) -> Self {
        Self { until, kind: TurnKind::Attempt, keeps_place: true }
    }
}

#[derive(Debug)]
struct Open {
    key: Option<u64>,
    bytes: usize,
    stand: Stand,
    kind: TurnKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// Behind another one of its key.
    Queued,
    Ready,
    UnderWay,
    Waits(Timestamp),
}

/// Those of one key that keep their place.
#[derive(Debug, Default)]
struct Line {
    members: BTreeSet<EffectId>,
    /// Effect whose turn it is.
    at_turn: Option<EffectId>,
}

impl EffectQueue {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn contains(&self, id: EffectId) -> bool {
        self.open.contains_key(&id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = EffectId> {
        self.open.keys().copied()
    }

    /// Returns the number of effects that wait for a look, or for a person.
    pub(super) const fn in_doubt(&self) -> usize {
        self.in_doubt
    }

    pub(super) fn bytes(&self, id: EffectId) -> usize {
        self.open.get(&id).map_or(0, |open| open.bytes)
    }

    /// Takes one up that was asked for, behind those of its key.
    pub(super) fn take_up(&mut self, id: EffectId, key: Option<u64>, bytes: usize) {
        self.open.insert(id, Open { key, bytes, stand: Stand::Queued, kind: TurnKind::Attempt });
        self.enter(id, key);
    }

    /// The next one that has such a turn; it is under way from now on.
    pub(super) fn start(&mut self, kind: TurnKind) -> Option<EffectId> {
        let id = self.next(kind)?;
        self.ready.get_mut(&kind)?.pop_front();
        self.open.get_mut(&id)?.stand = Stand::UnderWay;
        Some(id)
    }

    /// The one that would be started next.
    pub(super) fn next(&mut self, kind: TurnKind) -> Option<EffectId> {
        let ready = self.ready.get_mut(&kind)?;
        // What was concluded in between is none.
        while let Some(id) = ready.front()
            && !self
                .open
                .get(id)
                .is_some_and(|open| open.stand == Stand::Ready && open.kind == kind)
        {
            ready.pop_front();
        }
        ready.front().copied()
    }

    /// Its turn has ended, and another one follows.
    pub(super) fn rests(&mut self, id: EffectId, rest: Rest) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let Rest { until, kind, keeps_place } = rest;
        let (key, before) = (open.key, open.kind);
        if let Stand::Waits(until) = open.stand {
            self.waiting.remove(&(until, id));
        }
        (open.kind, open.stand) = (kind, Stand::Waits(until));
        self.counts(before, kind);
        self.waiting.insert((until, id));
        match key {
            Some(key) if !keeps_place => self.leave(id, key),
            // One that had given way comes back to its place, and has its turn when it is the first
            // again.
            Some(key) => {
                let line = self.lines.entry(key).or_default();
                line.members.insert(id);
                match line.at_turn {
                    None => line.at_turn = Some(id),
                    Some(other) if other != id => self.queue(id),
                    Some(_) => {}
                }
            }
            None => {}
        }
    }

    pub(super) fn conclude(&mut self, id: EffectId) {
        let Some(open) = self.open.remove(&id) else { return };
        self.counts(open.kind, TurnKind::Attempt);
        if let Stand::Waits(until) = open.stand {
            self.waiting.remove(&(until, id));
        }
        if let Some(key) = open.key {
            self.leave(id, key);
        }
    }

    /// Returns the moment at which the first of those that wait has its turn.
    pub(super) fn wakes_at(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(until, _)| *until)
    }

    pub(super) fn wake_due(&mut self, now: Timestamp) {
        while let Some((until, id)) = self.waiting.first().copied()
            && until <= now
        {
            self.wake(id);
        }
    }

    /// Everything that is in doubt has its turn at once, but for some.
    pub(super) fn wake_doubts(&mut self, but: impl Fn(EffectId) -> bool) {
        let doubts: Vec<_> = self
            .waiting
            .iter()
            .map(|(_, id)| *id)
            .filter(|id| self.open[id].kind == TurnKind::Look && !but(*id))
            .collect();
        doubts.into_iter().for_each(|id| self.wake(id));
    }

    /// Has its turn at once, if it waits for nothing but a moment.
    pub(super) fn wake(&mut self, id: EffectId) {
        if let Some(open) = self.open.get_mut(&id)
            && let Stand::Waits(until) = open.stand
        {
            self.waiting.remove(&(until, id));
            self.make_ready(id);
        }
    }

    /// Lets the next turns of an effect begin with reading its ledger.
    pub(super) fn is_to_be_read(&mut self, id: EffectId) {
        if let Some(open) = self.open.get_mut(&id)
            && matches!(open.stand, Stand::Waits(_))
        {
            let before = std::mem::replace(&mut open.kind, TurnKind::Attempt);
            self.counts(before, TurnKind::Attempt);
            self.wake(id);
        }
    }

    fn counts(&mut self, before: TurnKind, now: TurnKind) {
        self.in_doubt += usize::from(now == TurnKind::Look);
        self.in_doubt -= usize::from(before == TurnKind::Look);
    }

    fn enter(&mut self, id: EffectId, key: Option<u64>) {
        let Some(key) = key else { return self.make_ready(id) };
        let line = self.lines.entry(key).or_default();
        line.members.insert(id);
        if line.at_turn.is_none() {
            line.at_turn = Some(id);
            self.make_ready(id);
        }
    }

    fn leave(&mut self, id: EffectId, key: u64) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        line.members.remove(&id);
        if line.at_turn != Some(id) {
            return;
        }
        line.at_turn = line.members.first().copied();
        match line.at_turn {
            Some(next) => self.make_ready(next),
            None => drop(self.lines.remove(&key)),
        }
    }

    fn make_ready(&mut self, id: EffectId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.stand = Stand::Ready;
            self.ready.entry(open.kind).or_default().push_back(id);
        }
    }

    fn queue(&mut self, id: EffectId) {
        if let Some(open) = self.open.get_mut(&id)
            && let Stand::Waits(until) = std::mem::replace(&mut open.stand, Stand::Queued)
        {
            self.waiting.remove(&(until, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Position;

    fn id(number: u64) -> EffectId {
        EffectId(Position(number))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn waits(second: i64) -> Rest {
        Rest { until: at(second), kind: TurnKind::Attempt, keeps_place: true }
    }

    fn doubted(second: i64) -> Rest {
        Rest { until: at(second), kind: TurnKind::Look, keeps_place: false }
    }

    fn started(queue: &mut EffectQueue, kind: TurnKind) -> Vec<u64> {
        std::iter::from_fn(|| queue.start(kind)).map(|id| id.0.0).collect()
    }

    #[test]
    fn of_one_key_one_is_at_its_turn_and_other_keys_go_on() {
        let mut queue = EffectQueue::default();
        for (number, key) in [(1, Some(7)), (2, Some(7)), (3, Some(8)), (4, None), (5, None)] {
            queue.take_up(id(number), key, 10);
        }
        assert_eq!(started(&mut queue, TurnKind::Attempt), [1, 3, 4, 5]);
        queue.rests(id(1), waits(10));
        queue.conclude(id(3));
        assert_eq!(
            started(&mut queue, TurnKind::Attempt),
            [0; 0],
            "the second waits though the first only waits for a moment"
        );
        queue.wake_due(at(10));
        assert_eq!(started(&mut queue, TurnKind::Attempt), [1]);
        queue.conclude(id(1));
        assert_eq!(started(&mut queue, TurnKind::Attempt), [2]);
    }

    #[test]
    fn what_gave_way_is_passed_and_comes_back_behind_whoever_is_at_its_turn() {
        let mut queue = EffectQueue::default();
        (1..=3).for_each(|number| queue.take_up(id(number), Some(7), 10));
        assert_eq!(started(&mut queue, TurnKind::Attempt), [1]);
        queue.rests(id(1), doubted(10));
        assert_eq!((started(&mut queue, TurnKind::Attempt), queue.in_doubt()), (vec![2], 1));
        queue.wake_doubts(|_| false);
        assert_eq!(started(&mut queue, TurnKind::Look), [1]);
        // It did not take place and is to be tried again.
        queue.rests(id(1), waits(20));
        queue.wake_due(at(20));
        assert_eq!(started(&mut queue, TurnKind::Attempt), [0; 0], "the second is under way");
        queue.conclude(id(2));
        assert_eq!(started(&mut queue, TurnKind::Attempt), [1]);
        queue.conclude(id(1));
        assert_eq!(started(&mut queue, TurnKind::Attempt), [3]);
        queue.conclude(id(3));
        assert_eq!((queue.len(), queue.lines.len(), queue.wakes_at()), (0, 0, None));
    }

    #[test]
    fn a_doubt_that_keeps_its_place_is_passed_by_none_of_its_key() {
        let mut queue = EffectQueue::default();
        (1..=2).for_each(|number| queue.take_up(id(number), Some(7), 10));
        assert_eq!(started(&mut queue, TurnKind::Attempt), [1]);
        queue.rests(id(1), Rest { keeps_place: true, ..doubted(10) });
        assert_eq!(started(&mut queue, TurnKind::Attempt), [0; 0]);
        queue.conclude(id(1));
        assert_eq!((started(&mut queue, TurnKind::Attempt), queue.wakes_at()), (vec![2], None));
    }
}
