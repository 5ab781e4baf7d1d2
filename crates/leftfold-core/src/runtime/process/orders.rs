//! Commands that were recorded and are not carried out yet.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use futures_util::future::join_all;

use super::record::{ReactionRecord, StoredCause, StoredCommand};
use super::targets::{CommandOrder, CommandResult, Targets};
use crate::runtime::consumer::backoff::PROCESS_COMMAND;
use crate::runtime::consumer::shortened;
use crate::store::{
    CommandId, Fence, Invalid, Label, Metadata, Position, Store, Timestamp, Version,
};

/// Aggregates that are commanded at the same time.
const LANES_AT_ONCE_MAX: usize = 64;
/// Commands that wait at most; beyond that nothing new is reacted to until some are carried out.
const ORDERS_MAX: usize = 20_000;
/// Bytes of them, about.
const ORDERS_BYTES_MAX: usize = 64 << 20;
/// Commands for one aggregate that are carried out one after the other before others have their
/// turn.
const LANE_AT_ONCE_MAX: usize = 16;

/// The commands of one process that are not carried out yet, in the order in which they were
/// recorded.
#[derive(Debug)]
pub(super) struct Orders {
    process: &'static str,
    waiting: BTreeMap<CommandPlace, WaitingCommand>,
    /// The same, for each aggregate in order.
    lanes: HashMap<Aggregate, CommandLane>,
    /// Moments at which the lanes can go on.
    ready: BTreeSet<(Timestamp, CommandPlace, Aggregate)>,
    /// The last reaction that was recorded.
    last: Position,
    /// Bytes of all commands, about.
    bytes: usize,
}

/// Place of a command: the position of its reaction, and its index among the reaction's commands.
type CommandPlace = (Position, u32);

/// Addressee of a command: category and id.
type Aggregate = (String, String);

#[derive(Debug)]
struct WaitingCommand {
    key: String,
    command: StoredCommand,
    command_id: CommandId,
    /// Correlation and trace of its reaction, and the user metadata for its events.
    metadata: Metadata,
}

/// The commands for one aggregate, of which there is at least one.
#[derive(Debug)]
struct CommandLane {
    queue: VecDeque<CommandPlace>,
    again_at: Timestamp,
    failures: u32,
    why: String,
}

/// A command that was refused.
#[derive(Debug)]
pub(super) struct RefusedOrder {
    pub(super) key: String,
    pub(super) cause: StoredCause,
    pub(super) metadata: Metadata,
}

/// A command that will not be carried out before a person does something.
#[derive(Debug)]
pub(super) struct StuckOrder {
    pub(super) key: String,
    pub(super) cause: StoredCause,
    /// Reason, for people; `None` if it only waits behind another one of its instance.
    pub(super) error: Option<String>,
    pub(super) metadata: Metadata,
}

/// Result of carrying out the commands that can be.
#[derive(Debug, Default)]
pub(super) struct CommandResults {
    /// These wait to be [concluded](Orders::conclude) when that is recorded.
    pub(super) refused: Vec<RefusedOrder>,
    /// These wait to be concluded, too.
    pub(super) stuck: Vec<StuckOrder>,
    /// The lease went to another runner.
    pub(super) fenced: bool,
}

impl Orders {
    pub(super) fn new(process: &'static str) -> Self {
        let (waiting, lanes, ready) = (BTreeMap::new(), HashMap::new(), BTreeSet::new());
        Self { process, waiting, lanes, ready, last: Position::START, bytes: 0 }
    }

    /// Takes the commands of a reaction that is durable. Reactions are taken in their order.
    pub(super) fn take(
        &mut self,
        key: &str,
        reacted: &ReactionRecord,
        (position, version): (Position, Version),
        metadata: &Metadata,
    ) {
        self.last = self.last.max(position);
        for (index, command) in reacted.commands.iter().enumerate() {
            let at = (position, index as u32);
            let command_id = command_id(self.process, key, version, index as u32);
            self.bytes += bytes_of(command, metadata);
            let metadata = metadata.clone();
            let aggregate = (command.to.clone(), command.id.clone());
            self.waiting.insert(
                at,
                WaitingCommand {
                    key: key.to_owned(),
                    command: command.clone(),
                    command_id,
                    metadata,
                },
            );
            match self.lanes.get_mut(&aggregate) {
                Some(lane) => lane.queue.push_back(at),
                None => self.open_lane(aggregate, CommandLane::of(at)),
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Tells whether no more commands can be taken before some are carried out.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= ORDERS_MAX || self.bytes >= ORDERS_BYTES_MAX
    }

    /// The commands of all reactions up to here are carried out, and their refusals reacted to.
    pub(super) fn carried(&self) -> Position {
        self.waiting
            .first_key_value()
            .map_or(self.last, |((position, _), _)| Position(position.0 - 1))
    }

    /// Returns the moment at which a command can be tried; `None` if there is none.
    pub(super) fn wakes_at(&self) -> Option<Timestamp> {
        self.ready.first().map(|(at, ..)| *at)
    }

    /// Describes the condition that a failed command waits for.
    pub(super) fn trouble(&self) -> Option<String> {
        // Those that failed can go on latest.
        let (_, _, aggregate) = self.ready.last()?;
        let lane = self.lanes.get(aggregate).filter(|lane| lane.failures > 0)?;
        let (to, id) = aggregate;
        Some(format!("the command for {to}-{id} to be carried out: {}", lane.why))
    }

    /// Carries out the commands that can be: those for one aggregate in order, those for others at
    /// the same time.
    pub(super) async fn carry(
        &mut self,
        (store, fence): (&Store, Option<&(Label, Fence)>),
        targets: &Targets,
        now: Timestamp,
    ) -> Result<CommandResults, Invalid> {
        let mut under_way = Vec::new();
        while under_way.len() < LANES_AT_ONCE_MAX
            && self.wakes_at().is_some_and(|at| at <= now)
            && let Some((.., aggregate)) = self.ready.pop_first()
            && let Some(lane) = self.lanes.remove(&aggregate)
        {
            let orders = lane.queue.iter().take(LANE_AT_ONCE_MAX);
            let orders = orders
                .map(|at| Ok((*at, self.order(*at, store, fence)?)))
                .collect::<Result<Vec<_>, Invalid>>()?;
            under_way.push(carry_lane(targets, aggregate, lane, orders));
        }
        let mut out = CommandResults::default();
        for (aggregate, mut lane, carried) in join_all(under_way).await {
            for (at, carried) in carried {
                self.judge(&aggregate, &mut lane, at, carried, now, &mut out);
            }
            if !lane.queue.is_empty() {
                self.open_lane(aggregate, lane);
            }
        }
        Ok(out)
    }

    fn open_lane(&mut self, aggregate: Aggregate, lane: CommandLane) {
        if let Some(first) = lane.queue.front() {
            self.ready.insert((lane.again_at, *first, aggregate.clone()));
            self.lanes.insert(aggregate, lane);
        }
    }

    fn order(
        &self,
        at: CommandPlace,
        store: &Store,
        fence: Option<&(Label, Fence)>,
    ) -> Result<CommandOrder, Invalid> {
        // What is in a lane waits.
        let WaitingCommand { command, command_id, metadata, .. } = &self.waiting[&at];
        CommandOrder::new(self.process, at.0, (command, *command_id), metadata, (store, fence))
    }

    fn judge(
        &mut self,
        to: &Aggregate,
        lane: &mut CommandLane,
        at: CommandPlace,
        carried: CommandResult,
        now: Timestamp,
        out: &mut CommandResults,
    ) {
        match carried {
            CommandResult::Done => {
                self.forget(at);
                lane.done();
            }
            CommandResult::Fenced => out.fenced = true,
            CommandResult::Stuck(why) => self.stuck(lane, at, why, out),
            CommandResult::Failed(why) => {
                lane.failures += 1;
                lane.again_at = now.plus(PROCESS_COMMAND.after(lane.failures));
                if lane.why != why {
                    let (target, id) = to;
                    tracing::error!(
                        process = self.process,
                        target,
                        id,
                        why,
                        "a command cannot be carried out, trying again"
                    );
                    lane.why = why;
                }
            }
            CommandResult::Refused { refusal, reason } => {
                let Some(waiting) = self.waiting.get(&at) else { return lane.done() };
                let StoredCommand { to, id, command } = waiting.command.clone();
                let (position, index) = (at.0.0, at.1);
                let (refusal, reason) = (Some(refusal), shortened(reason));
                let cause =
                    StoredCause::Refused { position, index, to, id, command, refusal, reason };
                if let Err(why) = cause.can_be_parked() {
                    return self.stuck(
                        lane,
                        at,
                        format!("it was refused, and that cannot be recorded: {why}"),
                        out,
                    );
                }
                lane.done();
                out.refused.push(RefusedOrder {
                    key: waiting.key.clone(),
                    cause,
                    metadata: waiting.metadata.clone(),
                });
            }
        }
    }

    /// Holds a command until a person does something, and with it the later ones of its instance
    /// for the same aggregate: those stay in order. The commands of other instances for the
    /// aggregate go on.
    fn stuck(
        &mut self,
        lane: &mut CommandLane,
        at: CommandPlace,
        why: String,
        out: &mut CommandResults,
    ) {
        lane.done();
        let Some(key) = self.waiting.get(&at).map(|waiting| waiting.key.clone()) else { return };
        let of_same =
            |at: &CommandPlace| self.waiting.get(at).is_some_and(|waiting| waiting.key == key);
        let (behind, others): (VecDeque<CommandPlace>, VecDeque<CommandPlace>) =
            std::mem::take(&mut lane.queue).into_iter().partition(of_same);
        lane.queue = others;
        let mut error = Some(why);
        for at in std::iter::once(at).chain(behind) {
            let Some(WaitingCommand { key, command, metadata, .. }) = self.waiting.get(&at) else {
                continue;
            };
            let (to, id) = (command.to.clone(), command.id.clone());
            let cause = StoredCause::Command { position: at.0.0, index: at.1, to, id };
            out.stuck.push(StuckOrder {
                key: key.clone(),
                cause,
                error: error.take(),
                metadata: metadata.clone(),
            });
        }
    }

    fn forget(&mut self, at: CommandPlace) -> Option<WaitingCommand> {
        let waiting = self.waiting.remove(&at)?;
        self.bytes = self.bytes.saturating_sub(bytes_of(&waiting.command, &waiting.metadata));
        Some(waiting)
    }

    /// Removes a command whose result, other than being carried out, is recorded, or was before.
    pub(super) fn conclude(&mut self, cause: &StoredCause) {
        let (StoredCause::Refused { position, index, .. }
        | StoredCause::Command { position, index, .. }) = cause
        else {
            return;
        };
        let at = (Position(*position), *index);
        let Some(waiting) = self.forget(at) else { return };
        // While the log is read again, it is still in its lane.
        let aggregate = (waiting.command.to, waiting.command.id);
        if let Some(mut lane) = self.lanes.remove(&aggregate) {
            if let Some(first) = lane.queue.front() {
                self.ready.remove(&(lane.again_at, *first, aggregate.clone()));
            }
            lane.queue.retain(|known| *known != at);
            self.open_lane(aggregate, lane);
        }
    }
}

impl CommandLane {
    fn of(at: CommandPlace) -> Self {
        Self {
            queue: VecDeque::from([at]),
            again_at: Timestamp::MIN,
            failures: 0,
            why: String::new(),
        }
    }

    /// Its first command is carried out, or never will be.
    fn done(&mut self) {
        self.queue.pop_front();
        (self.failures, self.again_at) = (0, Timestamp::MIN);
        self.why.clear();
    }
}

/// Names a command by its instance and the version of the stream with the reaction that issued it,
/// so it stays the same if the store is copied into another one.
pub(super) fn command_id(process: &str, key: &str, version: Version, index: u32) -> CommandId {
    CommandId::of_runtime(&format!("$process:{process}"), &format!("{version} {index} {key}"))
}

fn bytes_of(command: &StoredCommand, metadata: &Metadata) -> usize {
    command.to.len() + command.id.len() + command.command.text().len() + metadata.user.len()
}

/// Carries out commands for one aggregate, up to the first that fails.
async fn carry_lane(
    targets: &Targets,
    aggregate: Aggregate,
    lane: CommandLane,
    orders: Vec<(CommandPlace, CommandOrder)>,
) -> (Aggregate, CommandLane, Vec<(CommandPlace, CommandResult)>) {
    let mut carried = Vec::with_capacity(orders.len());
    for (at, order) in orders {
        let done = targets.carry(&aggregate.0, order).await;
        let goes_on = matches!(done, CommandResult::Done | CommandResult::Refused { .. });
        carried.push((at, done));
        if !goes_on {
            break;
        }
    }
    (aggregate, lane, carried)
}
