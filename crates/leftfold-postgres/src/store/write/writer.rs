//! The one task that writes: it takes what waits as a group, commits it and answers.

use std::sync::Arc;
use std::time::Duration;

use leftfold_core::store::{AppendError, Outcome, StoreId};
use tokio::time::{Instant, sleep, timeout_at};

use super::facts::KnownState;
use super::look_up::look_up_again;
use super::request::{RequestVerdict, StoreRequest};
use super::session::{CommittedGroup, GroupContext, GroupFailure, NOT_REPLICATED, WriteSession};
use crate::store::error::NotDone;
use crate::store::inline::{ViewFailure, ViewRefusal};
use crate::store::payload::PayloadColumn;
use crate::store::shared::{LOST, StoreShared};

/// Requests of a group at most, and the bytes that they count for.
const GROUP_MAX: usize = 1_024;
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Number of times that a commit without an answer is found not to be there, before it is given up:
/// it may be what ends the connection.
const VANISHED_MAX: u32 = 3;
/// Number of times that an inline projection may give no answer to a part of a group, before the
/// rest of the group is refused: nobody writes meanwhile.
const LATE_GROUPS_MAX: u32 = 2;
/// Wait before another try to learn what came of a commit.
const SETTLE_AGAIN: Duration = Duration::from_millis(200);

/// The writer, and all that only it may touch.
#[derive(Debug)]
pub(in crate::store) struct StoreWriter {
    shared: Arc<StoreShared>,
    session: Option<WriteSession>,
    known: KnownState,
    /// The last fence that is known to have been given.
    fence: u64,
    /// Parts of the group under way that an inline projection gave no answer to.
    late_groups: u32,
}

/// A commit whose answer was lost.
struct DoubtfulCommit {
    group: Box<CommittedGroup>,
    detail: String,
    until: Instant,
}

/// Says that the store is closed when the writer ends, also by a panic.
struct WriterEnding(Arc<StoreShared>);

impl Drop for WriterEnding {
    fn drop(&mut self) {
        self.0.closed();
    }
}

impl StoreWriter {
    pub(in crate::store) fn new(shared: Arc<StoreShared>) -> Self {
        let known = KnownState::after(shared.shown().1.position);
        Self { shared, session: None, known, fence: 0, late_groups: 0 }
    }

    /// Works until the store is closed.
    pub(in crate::store) async fn run(mut self) {
        let _ending = WriterEnding(Arc::clone(&self.shared));
        while let Some(requests) = self.shared.queue.take(GROUP_MAX, GROUP_BYTES_MAX).await {
            self.late_groups = 0;
            self.group(requests).await;
            self.known.recent.trim();
            self.shared.keep_recent_since(self.known.recent.since());
        }
    }

    fn context(&self, payload: PayloadColumn) -> GroupContext {
        let identity = self.shared.identity;
        // A life that began with a restore mints other ids than the lives before it.
        let minter =
            if identity.epoch.number == 1 { identity.store } else { StoreId(identity.epoch.id) };
        // What was shown here was decided upon here, whoever wrote it.
        let last = self.shared.shown();
        GroupContext { minter, payload, epoch: i64::from(identity.epoch.number), last }
    }

    /// Commits the requests and answers them, or answers why that cannot be done.
    async fn group(&mut self, requests: Vec<StoreRequest>) {
        let (mut payload, mut tries, mut vanished) = (self.shared.payload, 0, 0);
        let mut doubt: Option<DoubtfulCommit> = None;
        loop {
            if let Some(detail) = self.shared.ended() {
                return match doubt.take() {
                    Some(pending) => self.tell_unknown(requests, *pending.group, &detail),
                    None => refuse(requests, &NotDone::OnlyReads(detail)),
                };
            }
            tries += 1;
            if let Some(pending) = doubt.take() {
                match self.settle(&pending).await {
                    Ok(true) => return self.confirm(requests, *pending.group),
                    Ok(false) => {
                        self.forget();
                        vanished += 1;
                        if vanished == VANISHED_MAX {
                            return self.give_up(requests, NotDone::Away(pending.detail)).await;
                        }
                    }
                    Err(_) => match self.wait(pending).await {
                        Ok(pending) => {
                            doubt = Some(pending);
                            continue;
                        }
                        Err(late) => return self.tell_unknown(requests, *late.group, &late.detail),
                    },
                }
            } else if let Some(why) = self.connect().await.err() {
                // A close waits for one connection that fails, and not for each group's own.
                let rest = self.shared.queue.take_if_closing();
                return self.refuse(requests.into_iter().chain(rest).collect(), why);
            }
            let context = self.context(payload);
            let Some(session) = &mut self.session else { continue };
            match session.run(&requests, &mut self.known, context, &self.shared.clock).await {
                Ok(group) => return self.confirm(requests, group),
                Err(GroupFailure::NotReplicated(group)) => {
                    return self.tell_unknown(requests, *group, NOT_REPLICATED);
                }
                Err(GroupFailure::InDoubt { group, detail }) => {
                    let until = Instant::now() + self.shared.options.doubt_within;
                    doubt = Some(DoubtfulCommit { group, detail, until });
                    self.session = None;
                }
                Err(GroupFailure::Refused { failure, request }) => {
                    self.forget();
                    return self.apart(requests, failure, request).await;
                }
                Err(GroupFailure::Ended(why)) => {
                    self.forget();
                    self.shared.end(why);
                }
                Err(GroupFailure::NotDone(why)) => {
                    self.forget();
                    let is_usable = self.session.as_ref().is_some_and(WriteSession::is_usable);
                    match why {
                        // A connection that was idle may have ended before the group was sent.
                        _ if !is_usable && tries == 1 => {}
                        // JSON that the server refuses, and this program does not.
                        NotDone::Value(_) if payload == PayloadColumn::Json => {
                            payload = PayloadColumn::Bytes;
                        }
                        why => return self.give_up(requests, why).await,
                    }
                }
            }
        }
    }

    /// Waits before another try to settle a doubt; fails if there is no time left for it.
    async fn wait(&mut self, pending: DoubtfulCommit) -> Result<DoubtfulCommit, DoubtfulCommit> {
        self.session = None;
        if Instant::now() + SETTLE_AGAIN > pending.until {
            return Err(pending);
        }
        sleep(SETTLE_AGAIN).await;
        Ok(pending)
    }

    /// Refuses a group that cannot be written. If that may be the fault of one of its requests, the
    /// others go in without it.
    async fn give_up(&mut self, requests: Vec<StoreRequest>, why: NotDone) {
        let may_be_of_one = matches!(why, NotDone::Damaged(_) | NotDone::Value(_))
            || self.session.as_ref().is_some_and(WriteSession::is_usable);
        let is_of_all = matches!(why, NotDone::OnlyReads(_) | NotDone::Withheld(_));
        if requests.len() > 1 && may_be_of_one && !is_of_all {
            return self.one_by_one(requests).await;
        }
        self.refuse(requests, why);
    }

    async fn one_by_one(&mut self, requests: Vec<StoreRequest>) {
        for request in requests {
            self.group_within(vec![request]).await;
        }
    }

    /// Commits the requests of a group without what an inline projection does not take. The request
    /// at which that was noticed is tried alone, and the others around it in a few groups: one
    /// before it may be at fault, so each half of those is one.
    async fn apart(
        &mut self,
        requests: Vec<StoreRequest>,
        failure: ViewFailure,
        at: Option<usize>,
    ) {
        let ViewFailure { name, why, .. } = failure;
        let (detail, is_late) = match why {
            ViewRefusal::NotDone(why) => return self.refuse(requests, why),
            ViewRefusal::Event(detail) => (detail, false),
            ViewRefusal::Late(detail) => (detail, true),
        };
        self.late_groups += u32::from(is_late);
        if is_late && (at.is_none() || self.late_groups > LATE_GROUPS_MAX) && requests.len() > 1 {
            let why = format!("the inline projection {name} holds appends up: {detail}");
            return self.refuse(requests, NotDone::Away(why));
        }
        let at = at.unwrap_or(requests.len() - 1);
        let mut before = requests;
        let after = before.split_off(at + 1);
        let noticed = before.split_off(at);
        let second = before.split_off(before.len() / 2);
        let is_alone = before.is_empty() && second.is_empty() && after.is_empty();
        for requests in [before, second] {
            self.group_within(requests).await;
        }
        if is_alone || is_late {
            let refused = AppendError::ReadModel { projection: name, detail };
            let refuse = |request: StoreRequest| {
                request.answer(RequestVerdict::Append(Err(refused.clone())));
            };
            noticed.into_iter().for_each(refuse);
        } else {
            self.group_within(noticed).await;
        }
        self.group_within(after).await;
    }

    /// Commits a part of a group, if there is anything in it.
    async fn group_within(&mut self, requests: Vec<StoreRequest>) {
        if !requests.is_empty() {
            Box::pin(self.group(requests)).await;
        }
    }

    /// Connects if there is no connection, and sees that the history is the one that is known.
    async fn connect(&mut self) -> Result<(), NotDone> {
        let connector = &self.shared.connector;
        if let Some(session) = &self.session
            && session.is_usable()
            && !session.is_outdated(connector)
        {
            return Ok(());
        }
        self.session = None;
        let connected = self.shared.connector.connect().await?;
        let options = &self.shared.options;
        let mut session = WriteSession::new(connected, options).await?;
        // What was known of another connection's transactions may be another server's.
        self.forget();
        let settled = session.settle(self.shared.shown()).await?;
        if !settled.has_known || settled.head.fence < self.fence {
            self.shared.end(LOST);
            return Err(NotDone::OnlyReads(LOST.to_owned()));
        }
        self.shared.show(&settled.head);
        self.session = Some(session);
        Ok(())
    }

    /// Tells whether a commit in doubt is in the history; fails if that cannot be learned now. A
    /// group of leases alone is not: they are given again, which changes nothing if they were.
    async fn settle(&mut self, pending: &DoubtfulCommit) -> Result<bool, NotDone> {
        let sent = (pending.group.head.append, pending.group.head.head);
        let asking = async {
            self.connect().await?;
            match &mut self.session {
                Some(session) => {
                    let settled = session.settle(sent).await?;
                    Ok(pending.group.appends > 0 && settled.has_known)
                }
                None => Ok(false),
            }
        };
        let late = || NotDone::Away(pending.detail.clone());
        timeout_at(pending.until, asking).await.unwrap_or_else(|_| Err(late()))
    }

    /// Forgets what was known beside the head.
    fn forget(&mut self) {
        self.known = KnownState::after(self.shared.shown().1.position);
    }

    /// Shows and answers what is committed.
    fn confirm(&mut self, requests: Vec<StoreRequest>, group: CommittedGroup) {
        self.note(&group);
        for (request, verdict) in requests.into_iter().zip(group.verdicts) {
            match verdict {
                RequestVerdict::LookUpAgain => look_up_again(&self.shared, request),
                verdict => request.answer(verdict),
            }
        }
    }

    fn note(&mut self, group: &CommittedGroup) {
        self.shared.written();
        self.fence = self.fence.max(group.head.fence);
        self.shared.show(&group.head);
        if group.appends > 0 {
            self.shared.figures.group(group.appends);
            self.shared.committed.notify_one();
        }
    }

    /// Answers what may be there, or is there and may be lost.
    fn tell_unknown(&mut self, requests: Vec<StoreRequest>, group: CommittedGroup, detail: &str) {
        if self.session.is_some() {
            self.note(&group);
        } else {
            self.forget();
        }
        for (request, verdict) in requests.into_iter().zip(group.verdicts) {
            match verdict {
                RequestVerdict::Append(Ok(Outcome::Appended(_))) => {
                    let unknown = AppendError::Unknown { detail: detail.to_owned() };
                    request.answer(RequestVerdict::Append(Err(unknown)));
                }
                _ => request.refuse(&NotDone::Away(detail.to_owned())),
            }
        }
    }

    fn refuse(&mut self, requests: Vec<StoreRequest>, why: NotDone) {
        if let NotDone::OnlyReads(_) = why {
            // Of several servers another one may take appends.
            self.session = None;
            self.shared.connector.pass_over();
        }
        let is_connected = self.session.as_ref().is_some_and(WriteSession::is_usable);
        self.shared.unwritten(&why, is_connected);
        refuse(requests, &why);
    }
}

fn refuse(requests: Vec<StoreRequest>, why: &NotDone) {
    requests.into_iter().for_each(|request| request.refuse(why));
}
