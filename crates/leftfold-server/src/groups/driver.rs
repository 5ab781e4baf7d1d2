//! The task that serves a group while it has consumers: it waits for the lease, and has a tenure
//! after the other.

use std::sync::Arc;
use std::time::Duration;

use leftfold::store::Leased;

use super::ConsumerGroups;
use super::command::GroupCommand;
use super::error::{GroupEnd, GroupError};
use super::info::RunningInfo;
use super::members::{AGAIN, GroupMembers};
use super::records::StoredGroup;
use super::tenure::{GroupTenure, TenureEnd};

/// The task of a group.
pub(super) struct GroupDriver {
    members: GroupMembers,
    groups: Arc<ConsumerGroups>,
    number: u64,
}

impl GroupDriver {
    pub(super) fn new(members: GroupMembers, groups: Arc<ConsumerGroups>, number: u64) -> Self {
        Self { members, groups, number }
    }

    /// Serves the group until it has no consumers.
    pub(super) async fn run(mut self) {
        loop {
            let loaded = StoredGroup::load(&self.members.store, &self.members.name).await;
            let (end, error) = match loaded {
                Ok((Some(group), _)) => {
                    self.serve(group).await;
                    if self.members.all.is_empty() && self.is_retired(None) {
                        return;
                    }
                    continue;
                }
                Ok((None, _)) => (GroupEnd::Deleted, GroupError::NotFound),
                Err(error) => {
                    let detail = error.to_string();
                    (GroupEnd::Away { detail }, GroupError::unavailable(error))
                }
            };
            self.members.end_all(&end);
            if self.is_retired(Some(&error)) {
                return;
            }
        }
    }

    /// Has a tenure if the lease is given, and waits a while for it if not.
    async fn serve(&mut self, group: StoredGroup) {
        // Whoever wants to come in finds out before the lease is there if there is room.
        while let Ok(command) = self.members.commands.try_recv() {
            if self.take_early(command, &group) {
                return;
            }
        }
        if self.members.all.is_empty() {
            return;
        }
        let asked = self.members.now();
        match self.members.ask_for_lease().await {
            Ok(Leased::Held(lease)) => {
                let end = GroupTenure::of(&mut self.members, group, lease, asked).await;
                if let TenureEnd::Ended(end) = end {
                    self.members.end_all(&end);
                }
            }
            Ok(Leased::HeldBy { .. }) => self.wait(&group, self.members.lease_time() / 3).await,
            Err(error) => {
                tracing::warn!(group = %self.members.name, %error, "a group cannot be leased");
                self.wait(&group, AGAIN).await;
            }
        }
    }

    /// Waits for a time, or until consumers come, go, or ask.
    async fn wait(&mut self, group: &StoredGroup, during: Duration) {
        let waiting = tokio::time::timeout(during, self.members.commands.recv());
        if let Ok(Some(command)) = waiting.await {
            self.take_early(command, group);
        }
    }

    /// Takes a command while there is no tenure. Returns true if the group is to be read again.
    fn take_early(&mut self, command: GroupCommand, group: &StoredGroup) -> bool {
        match command {
            GroupCommand::Enter(new) => {
                self.members.let_in(new, group.settings.consumers_max());
            }
            GroupCommand::Changed => return true,
            other => self.take_beside(other),
        }
        false
    }

    /// Takes a command for which the group need not be known.
    fn take_beside(&mut self, command: GroupCommand) {
        match command {
            GroupCommand::Enter(_) | GroupCommand::Changed => {}
            GroupCommand::Leave { consumer } => drop(self.members.all.remove(&consumer)),
            GroupCommand::Answer { reply, .. } => drop(reply.send(())),
            GroupCommand::Look { reply } => {
                let consumers = self.members.infos(|_| (0, 0));
                let _ = reply.send(RunningInfo { consumers, ..RunningInfo::default() });
            }
            GroupCommand::Stop => self.members.end_all(&GroupEnd::Stopped),
        }
    }

    /// Ends the task if it was told nothing meanwhile that it has to do. Whoever wants to come in
    /// is refused with the error; without one the group goes on for them.
    fn is_retired(&mut self, error: Option<&GroupError>) -> bool {
        let name = self.members.name.clone();
        loop {
            let commands = &mut self.members.commands;
            match (self.groups.retire(&name, self.number, commands), error) {
                (None, _) => return true,
                (Some(GroupCommand::Enter(new)), Some(error)) => {
                    let _ = new.reply.send(Err(error.clone()));
                }
                (Some(GroupCommand::Enter(new)), None) => {
                    // There is nobody else, and one may always come in.
                    self.members.let_in(new, usize::MAX);
                    return false;
                }
                // The group may be there by now.
                (Some(GroupCommand::Changed), _) => return false,
                (Some(other), _) => self.take_beside(other),
            }
        }
    }
}
