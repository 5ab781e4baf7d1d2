//! Commands that were recorded and are not carried out yet.

use std::collections::{BTreeMap, HashSet};

use futures_util::future::join_all;

use super::record::{Reacted, StoredCause, StoredCommand};
use super::targets::{Carried, Order, Targets};
use crate::fold::Cause;
use crate::runtime::effect::Backoff;
use crate::runtime::shortened;
use crate::store::{CommandId, Invalid, Label, Position, Store, Timestamp, Version};

/// Commands that are carried out at the same time.
const AT_ONCE_MAX: usize = 256;
/// The first and the longest wait before a command is tried again after the store failed.
const RETRY: Backoff = Backoff { first: std::time::Duration::from_millis(100), longest: std::time::Duration::from_secs(30) };

/// The commands of one process that are not carried out yet, in the order in which they were recorded.
#[derive(Debug)]
pub(super) struct Orders {
    process: &'static str,
    waiting: BTreeMap<(Position, u32), Waiting>,
    /// The last reaction that was recorded.
    last: Position,
}

#[derive(Debug)]
struct Waiting {
    key: String,
    command: StoredCommand,
    command_id: CommandId,
    correlation: Option<Label>,
    failures: u32,
    again_at: Timestamp,
    why: String,
}

/// A command that was refused.
#[derive(Debug)]
pub(super) struct RefusedOrder {
    pub(super) key: String,
    pub(super) cause: StoredCause,
    pub(super) correlation: Option<Label>,
}

impl Orders {
    pub(super) fn new(process: &'static str) -> Self {
        Self { process, waiting: BTreeMap::new(), last: Position::START }
    }

    /// Takes the commands of a reaction that is durable.
    ///
    /// A command's id is made of the instance and the version of its stream, so it stays the same where the store is
    /// copied into another one.
    pub(super) fn take(
        &mut self,
        key: &str,
        reacted: &Reacted,
        (position, version): (Position, Version),
        correlation: Option<&Label>,
    ) {
        self.last = self.last.max(position);
        for (index, command) in reacted.commands.iter().enumerate() {
            let index = index as u32;
            let command_id = CommandId::new(&format!("$process:{}", self.process), &format!("{version} {index} {key}"));
            let waiting = Waiting {
                key: key.to_owned(),
                command: command.clone(),
                command_id,
                correlation: correlation.cloned(),
                failures: 0,
                again_at: Timestamp::MIN,
                why: String::new(),
            };
            self.waiting.insert((position, index), waiting);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The commands of all reactions up to here are carried out.
    pub(super) fn carried(&self) -> Position {
        self.waiting.first_key_value().map_or(self.last, |((position, _), _)| Position(position.0 - 1))
    }

    /// When a command can be tried; none where there is none. One that waits behind another one for the same aggregate
    /// cannot be tried before that.
    pub(super) fn wakes_at<'o>(&'o self) -> Option<Timestamp> {
        let mut lanes = HashSet::new();
        let first = |Waiting { command, again_at, .. }: &'o Waiting| {
            lanes.insert((command.to.as_str(), command.id.as_str())).then_some(*again_at)
        };
        self.waiting.values().filter_map(first).min()
    }

    /// What a command that failed waits for.
    pub(super) fn trouble(&self) -> Option<String> {
        let failed = self.waiting.values().find(|waiting| waiting.failures > 0)?;
        Some(format!("the command for {}-{} to be carried out: {}", failed.command.to, failed.command.id, failed.why))
    }

    /// Carries out what can be: commands for one aggregate in order, those for others at the same time. What was
    /// refused waits to be [concluded](Orders::conclude) when that is recorded.
    pub(super) async fn carry(&mut self, store: &Store, targets: &Targets, now: Timestamp) -> Result<Vec<RefusedOrder>, Invalid> {
        let mut lanes: BTreeMap<(&str, &str), Vec<(Position, u32)>> = BTreeMap::new();
        let mut held: HashSet<(&str, &str)> = HashSet::new();
        let mut taken = 0;
        for (at, waiting) in &self.waiting {
            let lane = (waiting.command.to.as_str(), waiting.command.id.as_str());
            if waiting.again_at > now || held.contains(&lane) {
                held.insert(lane);
                continue;
            }
            lanes.entry(lane).or_default().push(*at);
            taken += 1;
            if taken >= AT_ONCE_MAX {
                break;
            }
        }
        let mut under_way = Vec::with_capacity(lanes.len());
        for lane in lanes.into_values() {
            let orders = lane.iter().map(|at| Ok((*at, self.order(*at, store)?))).collect::<Result<Vec<_>, Invalid>>()?;
            under_way.push(carry_lane(targets, orders));
        }
        let carried: Vec<_> = join_all(under_way).await.into_iter().flatten().collect();
        Ok(carried.into_iter().filter_map(|(at, carried)| self.judge(at, carried, now)).collect())
    }

    fn order(&self, at: (Position, u32), store: &Store) -> Result<(String, Order), Invalid> {
        let waiting = &self.waiting[&at];
        let causation = Label::new(format!("$process:{}@{}", self.process, at.0))?;
        let correlation = waiting.correlation.clone().unwrap_or_else(|| causation.clone());
        let order = Order {
            store: store.clone(),
            id: waiting.command.id.clone(),
            command: waiting.command.command.clone(),
            command_id: waiting.command_id,
            cause: Cause { causation, correlation },
        };
        Ok((waiting.command.to.clone(), order))
    }

    fn judge(&mut self, at: (Position, u32), carried: Carried, now: Timestamp) -> Option<RefusedOrder> {
        match carried {
            Carried::Done => {
                self.waiting.remove(&at);
                None
            }
            Carried::Failed(why) => {
                let waiting = self.waiting.get_mut(&at)?;
                waiting.failures += 1;
                waiting.again_at = now.plus(RETRY.after(waiting.failures));
                if waiting.why != why {
                    tracing::error!(process = self.process, target = %waiting.command.to, id = waiting.command.id, why, "a command cannot be carried out, trying again");
                    waiting.why = why;
                }
                None
            }
            Carried::Refused { refusal, reason } => {
                let waiting = self.waiting.get(&at)?;
                let StoredCommand { to, id, command } = waiting.command.clone();
                let (position, index) = (at.0.0, at.1);
                let cause = StoredCause::Refused { position, index, to, id, command, refusal, reason: shortened(reason) };
                Some(RefusedOrder { key: waiting.key.clone(), cause, correlation: waiting.correlation.clone() })
            }
        }
    }

    /// A refusal is recorded, or was before.
    pub(super) fn conclude(&mut self, cause: &StoredCause) {
        if let StoredCause::Refused { position, index, .. } = cause {
            self.waiting.remove(&(Position(*position), *index));
        }
    }
}

/// Carries out the commands for one aggregate, up to the first that fails.
async fn carry_lane(targets: &Targets, orders: Vec<((Position, u32), (String, Order))>) -> Vec<((Position, u32), Carried)> {
    let mut carried = Vec::with_capacity(orders.len());
    for (at, (to, order)) in orders {
        let done = targets.carry(&to, order).await;
        let failed = matches!(done, Carried::Failed(_));
        carried.push((at, done));
        if failed {
            break;
        }
    }
    carried
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command failed, and another one for the same aggregate waited behind it: that one seemed to be due, was not
    /// tried, and the process looked for it again and again, without a pause, until the first one was due.
    #[test]
    fn a_command_behind_one_that_failed_is_not_due_before_it() {
        let mut orders = Orders::new("transfer");
        let command = StoredCommand { to: "purse".to_owned(), id: "a".to_owned(), command: serde_json::Value::Null };
        let cause = StoredCause::Event { position: 1, part: 0 };
        let reacted = Reacted {
            process: "transfer".to_owned(),
            cause,
            starts: true,
            ends: false,
            commands: vec![command.clone(), command],
            timers: Vec::new(),
            cancelled: Vec::new(),
            depth: 0,
            carried: 0,
        };
        orders.take("t1", &reacted, (Position(2), Version(1)), None);
        let now = Timestamp::from_micros(0);
        assert_eq!(orders.wakes_at(), Some(Timestamp::MIN));
        assert!(orders.judge((Position(2), 0), Carried::Failed("the store is busy".to_owned()), now).is_none());
        assert!(orders.wakes_at().is_some_and(|at| at > now), "it is tried again after a while");
    }
}
