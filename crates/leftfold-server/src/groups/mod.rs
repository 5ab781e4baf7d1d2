//! Groups of consumers: several workers share the events that a query finds.
//!
//! Each event goes to one consumer at a time until it is settled: acknowledged, skipped, or parked.
//! An event that is not answered in time, or whose consumer went, goes to another one; one that was
//! given out too often is parked, and can be replayed. With an order, the events of one key are
//! given out one after the other. Everything is at least once: an event comes again if the server
//! ends before its checkpoint.
//!
//! Protocols stand on [`ConsumerGroups`]: they make groups, and
//! [`consume`](ConsumerGroups::consume). A group is served while it has consumers, by the server
//! that has its lease in the store; consumers at another server wait until that one ends.

// `settings` has what a group is, `records` what the store keeps of it, `released` what a person
// took out of it, `machine` its state without I/O. `driver` is the task of a group, which has the
// `members` and takes a `command`; it reads and writes during the `tenure` of a lease, by `jobs`.
// `consumer` is the end that protocols hold, with a `queue`. `info` is told to those who look,
// `figures` to `/metrics`, `error` says why something is not done.

mod command;
mod consumer;
mod driver;
mod error;
mod figures;
mod info;
mod jobs;
mod machine;
mod members;
mod queue;
mod records;
mod released;
mod settings;
mod tenure;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leftfold::store::{Position, ReadError, RecordedEvent, Store, Version};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use command::{GroupCommand, NewConsumer};
pub(crate) use consumer::GroupConsumer;
use driver::GroupDriver;
pub(crate) use error::{GroupEnd, GroupError};
use figures::GroupTotals;
pub(crate) use info::{ConsumerInfo, GroupInfo, RunningInfo};
use machine::ConsumerId;
pub(crate) use machine::{ConsumerAnswer, GroupDelivery, ItemId, ItemSource};
use members::{GivenBefore, GroupMembers};
pub(crate) use queue::ConsumerName;
use queue::ConsumerQueue;
pub(crate) use records::{ParkedEntry, StoredGroup};
pub(crate) use released::{ParkedRange, ReleasedTo};
pub(crate) use settings::{CAPACITY_MAX, ConsumerStrategy, GroupName, GroupSettings, KeyOf};

/// Time that a store has to write down the places that groups have reached.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Groups of which something is remembered in memory while they are not served, about.
const REMEMBERED_GROUPS_MAX: usize = 1_000;

/// A judgement that takes a while.
pub(crate) type Judging<'a> = Pin<Box<dyn Future<Output = Result<bool, ReadError>> + Send + 'a>>;

/// Judge of a protocol, which leaves out some of the events that the query of a group finds.
pub(crate) trait EventLens: Send + Sync {
    /// Tells whether consumers get an event.
    fn passes<'a>(&'a self, event: &'a RecordedEvent) -> Judging<'a>;
}

/// Lens through which everything is seen.
pub(crate) struct EveryEvent;

impl EventLens for EveryEvent {
    fn passes<'a>(&'a self, _: &'a RecordedEvent) -> Judging<'a> {
        Box::pin(std::future::ready(Ok(true)))
    }
}

/// Makes the lens of a group from its settings, again after each update.
pub(crate) type LensMaker = Arc<dyn Fn(&GroupSettings) -> Arc<dyn EventLens> + Send + Sync>;

/// Choice of what an update does with the consumers that are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectedConsumers {
    /// They stay, and get what the new settings say.
    Stay,
    /// They are ended, and may come back.
    End,
}

/// The groups of a store, as this server serves them.
pub(crate) struct ConsumerGroups {
    running: Mutex<HashMap<GroupName, RunningGroup>>,
    /// Of groups that were served before.
    before: Mutex<HashMap<GroupName, ServedBefore>>,
    /// Numbers of consumers and of tasks.
    numbers: AtomicU64,
}

/// Memory of a group, also while it is not served.
#[derive(Clone, Default)]
struct ServedBefore {
    given: GivenBefore,
    totals: GroupTotals,
}

struct RunningGroup {
    number: u64,
    commands: mpsc::UnboundedSender<GroupCommand>,
    task: JoinHandle<()>,
}

impl ConsumerGroups {
    /// The groups of a store: the same for all protocols.
    pub(crate) fn of(store: &Store) -> Arc<Self> {
        store.attached(|| Self {
            running: Mutex::default(),
            before: Mutex::default(),
            numbers: AtomicU64::new(1),
        })
    }

    /// Makes a group that begins after a position.
    pub(crate) async fn create(
        &self,
        store: &Store,
        name: &GroupName,
        settings: GroupSettings,
        start: Position,
    ) -> Result<(), GroupError> {
        settings.validate()?;
        records::create(store, name, settings, start).await
    }

    /// Gives a group other settings, and another beginning if nothing was settled yet.
    pub(crate) async fn update(
        &self,
        store: &Store,
        name: &GroupName,
        settings: &GroupSettings,
        start: Option<Position>,
        connected: ConnectedConsumers,
    ) -> Result<(), GroupError> {
        settings.validate()?;
        // A beginning that moves under consumers would give them events twice.
        let start =
            start.filter(|_| connected == ConnectedConsumers::End || !self.is_running(name));
        let ends = connected == ConnectedConsumers::End;
        records::update(store, name, settings, start, ends).await?;
        self.tell(name, GroupCommand::Changed);
        Ok(())
    }

    /// Deletes a group. Its consumers are ended, its parked events are forgotten.
    pub(crate) async fn delete(&self, store: &Store, name: &GroupName) -> Result<(), GroupError> {
        records::delete(store, name).await?;
        self.tell(name, GroupCommand::Changed);
        Ok(())
    }

    /// Gives out parked events again: those whose records have versions up to one in the
    /// [stream](GroupName::parked_stream) of what is parked.
    pub(crate) async fn replay(
        &self,
        store: &Store,
        name: &GroupName,
        through: Version,
    ) -> Result<(), GroupError> {
        records::replay(store, name, through).await?;
        self.tell(name, GroupCommand::Changed);
        Ok(())
    }

    /// Takes parked events out, by the versions of their records: all of them or none.
    pub(crate) async fn release(
        &self,
        store: &Store,
        name: &GroupName,
        numbers: &BTreeSet<Version>,
        to: ReleasedTo,
        by: &str,
    ) -> Result<(), GroupError> {
        released::release(store, name, numbers, to, by).await?;
        self.tell(name, GroupCommand::Changed);
        Ok(())
    }

    /// Reads a group as it is in the store.
    pub(crate) async fn stored(
        &self,
        store: &Store,
        name: &GroupName,
    ) -> Result<StoredGroup, GroupError> {
        StoredGroup::load(store, name).await?.0.ok_or(GroupError::NotFound)
    }

    /// Reads all groups, by name.
    pub(crate) async fn all(
        &self,
        store: &Store,
    ) -> Result<Vec<(GroupName, StoredGroup)>, GroupError> {
        Ok(StoredGroup::load_all(store).await?)
    }

    /// Returns what is parked in a group and not being replayed.
    pub(crate) async fn parked(
        &self,
        store: &Store,
        name: &GroupName,
    ) -> Result<ParkedRange, GroupError> {
        let group = self.stored(store, name).await?;
        Ok(ParkedRange::read(store, name, &group).await?)
    }

    /// Tells how a group is doing.
    pub(crate) async fn info(
        &self,
        store: &Store,
        name: &GroupName,
    ) -> Result<GroupInfo, GroupError> {
        let group = self.stored(store, name).await?;
        self.info_of(store, name, group).await
    }

    /// Tells how a group is doing that was read already.
    pub(crate) async fn info_of(
        &self,
        store: &Store,
        name: &GroupName,
        group: StoredGroup,
    ) -> Result<GroupInfo, GroupError> {
        let (reply, told) = oneshot::channel();
        let running = match self.tell(name, GroupCommand::Look { reply }) {
            true => told.await.ok(),
            false => None,
        };
        GroupInfo::read(store, name, group, running).await
    }

    /// Begins to consume: the consumer takes at most so many events at once.
    pub(crate) async fn consume(
        self: &Arc<Self>,
        store: &Store,
        name: &GroupName,
        capacity: usize,
        who: ConsumerName,
        lenses: LensMaker,
    ) -> Result<GroupConsumer, GroupError> {
        if !(1..=CAPACITY_MAX).contains(&capacity) {
            let detail = format!("a consumer takes 1 to {CAPACITY_MAX} events at once");
            return Err(GroupError::Invalid { detail });
        }
        let id = ConsumerId(self.numbers.fetch_add(1, Ordering::Relaxed));
        let queue = Arc::new(ConsumerQueue::default());
        let (reply, entered) = oneshot::channel();
        let new = NewConsumer { id, queue: Arc::clone(&queue), capacity, who, reply };
        let commands = self.enter(store, name, new, lenses);
        // From here on it leaves by itself if the caller does not wait.
        let consumer = GroupConsumer { id, queue, commands };
        match entered.await {
            Ok(entered) => entered.map(|()| consumer),
            Err(_) => Err(GroupError::unavailable("the group ended at this moment")),
        }
    }

    /// Ends all consumers: they may come back, and everything is read anew.
    pub(crate) fn restart(&self) {
        for group in self.running().values() {
            let _ = group.commands.send(GroupCommand::Stop);
        }
    }

    /// Ends all consumers, and returns when the places that were reached are written down.
    pub(crate) async fn stop(&self) {
        // Who comes in from here on finds none of them.
        let groups: Vec<_> = self.running().drain().map(|(_, group)| group).collect();
        for group in &groups {
            let _ = group.commands.send(GroupCommand::Stop);
        }
        let ended = async {
            for group in groups {
                let _ = group.task.await;
            }
        };
        if tokio::time::timeout(STOP_WITHIN, ended).await.is_err() {
            tracing::warn!("the store does not answer, so some events of groups will come again");
        }
    }

    fn enter(
        self: &Arc<Self>,
        store: &Store,
        name: &GroupName,
        new: NewConsumer,
        lenses: LensMaker,
    ) -> mpsc::UnboundedSender<GroupCommand> {
        let mut running = self.running();
        // A task that failed has left its entry.
        running.retain(|other, group| other != name || !group.commands.is_closed());
        let is_served = |other: &GroupName| running.contains_key(other);
        let before = (!is_served(name)).then(|| self.served_before(name, is_served));
        let group = running.entry(name.clone()).or_insert_with(|| {
            let (commands, received) = mpsc::unbounded_channel();
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let ServedBefore { given, totals } = before.unwrap_or_default();
            let (store, name) = (store.clone(), name.clone());
            let members = GroupMembers::new(store, name, lenses, received, given, totals);
            let driver = GroupDriver::new(members, Arc::clone(self), number);
            RunningGroup { number, commands, task: tokio::spawn(driver.run()) }
        });
        let _ = group.commands.send(GroupCommand::Enter(new));
        group.commands.clone()
    }

    /// Returns what is remembered of a group while it is not served. Those that are served go on
    /// counting in what is remembered of them.
    fn served_before(
        &self,
        name: &GroupName,
        is_served: impl Fn(&GroupName) -> bool,
    ) -> ServedBefore {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        if before.len() >= REMEMBERED_GROUPS_MAX && !before.contains_key(name) {
            before.retain(|other, of| is_served(other) || !of.given.is_empty());
        }
        if before.len() >= REMEMBERED_GROUPS_MAX && !before.contains_key(name) {
            before.retain(|other, _| is_served(other));
        }
        before.entry(name.clone()).or_default().clone()
    }

    /// Returns what was counted of a group.
    fn totals(&self, name: &GroupName) -> GroupTotals {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        before.get(name).map(|before| before.totals.clone()).unwrap_or_default()
    }

    /// Tells something to a group that is served; false if it is not.
    fn tell(&self, name: &GroupName, command: GroupCommand) -> bool {
        self.running().get(name).is_some_and(|group| group.commands.send(command).is_ok())
    }

    fn is_running(&self, name: &GroupName) -> bool {
        self.running().contains_key(name)
    }

    /// Ends serving a group unless somebody has told it something meanwhile.
    fn retire(
        &self,
        name: &GroupName,
        number: u64,
        commands: &mut mpsc::UnboundedReceiver<GroupCommand>,
    ) -> Option<GroupCommand> {
        let mut running = self.running();
        if let Ok(command) = commands.try_recv() {
            return Some(command);
        }
        commands.close();
        if running.get(name).is_some_and(|group| group.number == number) {
            running.remove(name);
        }
        None
    }

    fn running(&self) -> MutexGuard<'_, HashMap<GroupName, RunningGroup>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
