//! The connection that writes, and the transaction of a group.

use std::time::Duration;

use leftfold_core::store::{Head, Outcome, StoreId};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::facts::{self, FactStatements, GroupFacts, KnownState};
use super::group_rows::{self, GroupRows, GroupStatements};
use super::judge::GroupJudge;
use super::request::{RequestVerdict, StoreRequest};
use crate::connect::{Connected, DURABLE_COMMITS, PostgresConnector};
use crate::error::Trouble;
use crate::store::clock::DatabaseClock;
use crate::store::error::NotDone;
use crate::store::inline::{ApplyEnd, InlineProjections, ViewFailure};
use crate::store::options::PostgresStoreOptions;
use crate::store::payload::PayloadColumn;
use crate::store::rows::{self, HEAD, HeadRow};
use crate::store::shared::{LOST, OTHER_FORMAT, OTHER_LIFE};
use crate::store::tables::{self, FORMAT};
use crate::store::values::signed;
use crate::target::place::quoted;

/// The one connection that writes, with its statements prepared.
#[derive(Debug)]
pub(super) struct WriteSession {
    connected: Connected,
    facts: FactStatements,
    rows: GroupStatements,
    schema: String,
    begin: String,
    answer_within: Duration,
    transaction_within: Duration,
    inline: InlineProjections,
    /// The round of which the registered inline projections are known to be these.
    inline_round: Option<i64>,
}

/// Time that a server may take to answer on top of what its own limits allow. One that stands still
/// keeps no limits.
const ANSWER_GRACE: Duration = Duration::from_secs(5);
/// Times `transaction_within` that one statement of the writer may take.
const STATEMENT_PART: u32 = 2;
/// Detail of a group whose transaction was ended by code of users: it is there, or is not.
const ENDED_BY_CODE: &str = "code of an inline projection ended the transaction";
/// Detail of an answer that must not be given yet.
pub(super) const NOT_REPLICATED: &str = "the server did not wait for its standby";

/// The identity and the options that a group is written with.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupContext {
    pub(super) minter: StoreId,
    pub(super) payload: PayloadColumn,
    /// Life of the store in which it was opened.
    pub(super) epoch: i64,
    /// The last append that was shown here: it has to be in the history.
    pub(super) last: (u64, Head),
}

impl GroupContext {
    /// Reason why the store that was found behind the lock is not what was opened, if it is not.
    fn ended(&self, found: &GroupFacts) -> Option<&'static str> {
        let (number, last) = self.last;
        if found.format != FORMAT {
            Some(OTHER_FORMAT)
        } else if found.head.epoch != self.epoch {
            Some(OTHER_LIFE)
        } else if number > 0 && found.last != Some(last.chain) {
            Some(LOST)
        } else {
            None
        }
    }
}

/// A group that is durable, and the answers to its requests in their order.
#[derive(Debug)]
pub(super) struct CommittedGroup {
    pub(super) verdicts: Vec<RequestVerdict>,
    pub(super) head: HeadRow,
    pub(super) appends: usize,
}

/// A group that is not known to be durable.
#[derive(Debug)]
pub(super) enum GroupFailure {
    /// Nothing of it is there.
    NotDone(NotDone),
    /// An inline projection does not take an event of it. Nothing of it is there. The request is
    /// the one at which that was noticed, if it was at one.
    Refused { failure: ViewFailure, request: Option<usize> },
    /// The store is not what was opened here, for this reason. Nothing of it is there.
    Ended(&'static str),
    /// The commit was sent, and no answer came: it is there if the head has this append.
    InDoubt { group: Box<CommittedGroup>, detail: String },
    /// It is there, but the server did not wait until a standby has it too.
    NotReplicated(Box<CommittedGroup>),
}

impl GroupFailure {
    /// The same, with the request at which it was noticed that an event is not taken.
    fn noticed_in(mut self, verdicts: &[RequestVerdict]) -> Self {
        if let Self::Refused { failure: ViewFailure { at: Some(at), .. }, request } = &mut self {
            *request = verdicts.iter().rposition(|verdict| match verdict {
                RequestVerdict::Append(Ok(Outcome::Appended(appended))) => {
                    !appended.versions.is_empty() && appended.first <= *at
                }
                _ => false,
            });
        }
        self
    }
}

impl From<NotDone> for GroupFailure {
    fn from(why: NotDone) -> Self {
        Self::NotDone(why)
    }
}

impl WriteSession {
    pub(super) async fn new(
        connected: Connected,
        options: &PostgresStoreOptions,
    ) -> Result<Self, NotDone> {
        let schema = quoted(&options.schema);
        let transaction_within = options.transaction_within;
        let millis = transaction_within.as_millis();
        // A process that stands still is ended by the server, and lets others write.
        let settings = format!(
            "SET idle_in_transaction_session_timeout = {millis};
            SET statement_timeout = {};
            SET jit = off; SET client_min_messages = warning; {DURABLE_COMMITS}",
            u128::from(STATEMENT_PART) * millis
        );
        let answer_within = transaction_within.saturating_mul(4).saturating_add(ANSWER_GRACE);
        let preparing = async {
            connected.rows.batch_execute(&settings).await?;
            tokio::try_join!(
                FactStatements::prepare(&connected.rows, &schema),
                GroupStatements::prepare(&connected.rows, &schema)
            )
        };
        let prepared = timeout(answer_within, preparing).await;
        let (facts, rows) = prepared.map_err(|_| silent(answer_within))??;
        let begin = tables::behind_lock(&options.schema);
        let inline = options.inline.clone();
        let session = Self {
            connected,
            facts,
            rows,
            schema,
            begin,
            answer_within,
            transaction_within,
            inline,
            inline_round: None,
        };
        Ok(session)
    }

    /// Judges the requests behind the lock of the head, and commits what goes in.
    pub(super) async fn run(
        &mut self,
        requests: &[StoreRequest],
        known: &mut KnownState,
        context: GroupContext,
        clock: &DatabaseClock,
    ) -> Result<CommittedGroup, GroupFailure> {
        // If this is given up half-way the connection is cut, and the server undoes it.
        self.connected.busy = true;
        self.connected.heard.take_warning();
        let (number, _) = context.last;
        let load = facts::load(&self.connected.rows, &self.facts, number, requests, known);
        let loaded = match timeout(self.answer_within, load).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(why)) => return Err(self.undo(why).await.into()),
            Err(_) => return Err(silent(self.answer_within).into()),
        };
        if let Some(ended) = context.ended(&loaded) {
            self.end().await?;
            return Err(GroupFailure::Ended(ended));
        }
        if let Some(doubt) = clock.look(loaded.now) {
            return Err(self.undo(NotDone::Withheld(doubt)).await.into());
        }
        if let Err(why) = self.check_inline(loaded.head.inline_round).await {
            return Err(self.undo(why).await.into());
        }
        let since = loaded.head.append;
        let mut judge = GroupJudge::new(loaded, known, context.minter);
        let verdicts = self.judge(requests, &mut judge, context.payload).await?;
        let GroupJudge { facts, written, .. } = judge;
        let appends = written.appends.len();
        let mut group = CommittedGroup { verdicts, head: facts.head, appends };
        let span = (since, group.head.append);
        if written.is_empty() {
            self.end().await?;
            known.versions.learn(span, facts.versions);
            return Ok(group);
        }
        let rows = GroupRows {
            group: &written,
            head: facts.head,
            leases: &known.leases,
            payload: context.payload,
        };
        let ended = self.write(&rows).await;
        if let Some(detail) = ended.map_err(|why| why.noticed_in(&group.verdicts))? {
            return Err(GroupFailure::InDoubt { group: Box::new(group), detail });
        }
        self.connected.busy = false;
        known.versions.learn(span, facts.versions);
        if written.changes_leases() {
            group.head.lease_round += 1;
            group.head.fence = group.head.fence.max(known.leases.last().0);
            known.lease_round = Some(group.head.lease_round);
        }
        if self.connected.heard.take_warning() {
            return Err(GroupFailure::NotReplicated(Box::new(group)));
        }
        Ok(group)
    }

    /// Judges the requests, and sends the rows of those before while it does.
    async fn judge(
        &mut self,
        requests: &[StoreRequest],
        judge: &mut GroupJudge<'_>,
        payload: PayloadColumn,
    ) -> Result<Vec<RequestVerdict>, GroupFailure> {
        let mut verdicts = Vec::with_capacity(requests.len());
        for request in requests {
            verdicts.push(judge.judge(request));
            let (client, written) = (&self.connected.rows, &mut judge.written);
            let sent = group_rows::send_judged(client, &self.rows, written, payload).await;
            if let Err(error) = sent {
                return Err(self.undo(NotDone::of(&error)).await.into());
            }
        }
        Ok(verdicts)
    }

    /// Writes the rows of a group, with those of inline projections, and commits them. Returns why
    /// it is in doubt, if it is.
    async fn write(&mut self, rows: &GroupRows<'_>) -> Result<Option<String>, GroupFailure> {
        let sent = group_rows::send_rest(&self.connected.rows, &self.rows, rows).await;
        if let Err(error) = sent {
            return Err(self.undo(NotDone::of(&error)).await.into());
        }
        if !self.inline.is_empty() && !rows.group.events.is_empty() {
            match timeout(self.answer_within, self.connected.rows.answered()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(self.undo(self.refused(&error)).await.into()),
                Err(_) => return Err(silent(self.answer_within).into()),
            }
            let events: Vec<_> = rows.group.events.iter().map(|one| &one.event).collect();
            let inline = self.inline.clone();
            // Before the server ends a transaction that stands still.
            let within = self.transaction_within / 2;
            match inline.apply(&mut self.connected.rows, &events, within).await {
                // Warnings so far are of its code, and say nothing of the commit.
                Ok(ApplyEnd::Open) => drop(self.connected.heard.take_warning()),
                Ok(ApplyEnd::EndedByCode) => return Ok(Some(ENDED_BY_CODE.to_owned())),
                Err(failure) => {
                    // Its code may have changed a table under a plan.
                    self.connected.rows.forget_prepared();
                    self.undo(NotDone::Away(String::new())).await;
                    return Err(GroupFailure::Refused { failure, request: None });
                }
            }
        }
        match timeout(self.answer_within, group_rows::commit(&self.connected.rows)).await {
            Ok(Ok(())) => Ok(None),
            Ok(Err(error)) if Trouble::of(&error) != Trouble::Broken => {
                self.connected.busy = false;
                Err(self.refused(&error).into())
            }
            Ok(Err(error)) => Ok(Some(error.to_string())),
            Err(_) => Ok(Some(silent_detail(self.answer_within))),
        }
    }

    /// Returns the meaning of an error of the server while rows are written. A statement that took
    /// too long may take as long every time.
    fn refused(&self, error: &tokio_postgres::Error) -> NotDone {
        let why = NotDone::of(error);
        match why {
            NotDone::Away(detail) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                let within = STATEMENT_PART * self.transaction_within;
                NotDone::Away(format!(
                    "{detail}; the rows of a group have {within:?}: if this append alone needs \
                     longer, divide it, or raise PostgresStoreOptions::transaction_within"
                ))
            }
            why => why,
        }
    }

    /// Sees that this process has the inline projections that are registered, behind the lock.
    async fn check_inline(&mut self, round: i64) -> Result<(), NotDone> {
        if self.inline_round == Some(round) {
            return Ok(());
        }
        let asking = self.inline.lacking(&self.connected.rows, &self.schema);
        match timeout(self.answer_within, asking)
            .await
            .map_err(|_| silent(self.answer_within))??
        {
            Some(lacking) => Err(NotDone::Withheld(lacking)),
            None => {
                self.inline_round = Some(round);
                Ok(())
            }
        }
    }

    /// Ends a transaction that wrote nothing but its lock. With a standby that is waited for, its
    /// commit waits until the standby has everything that it saw.
    async fn end(&mut self) -> Result<(), NotDone> {
        let commit = timeout(self.answer_within, self.connected.rows.batch_execute("COMMIT"));
        commit.await.map_err(|_| silent(self.answer_within))??;
        self.connected.busy = false;
        if self.connected.heard.take_warning() {
            return Err(NotDone::Away(NOT_REPLICATED.to_owned()));
        }
        Ok(())
    }

    /// Ends a transaction that failed.
    async fn undo(&mut self, why: NotDone) -> NotDone {
        self.connected.rows.forget_sent();
        let rollback = timeout(self.answer_within, self.connected.rows.batch_execute("ROLLBACK"));
        if matches!(rollback.await, Ok(Ok(()))) {
            self.connected.busy = false;
        }
        why
    }

    /// Tells whether the connection can be used for another group.
    pub(super) fn is_usable(&self) -> bool {
        !self.connected.busy && !self.connected.rows.is_closed()
    }

    /// Tells whether another host takes writes, and this one does not.
    pub(super) fn is_outdated(&self, connector: &PostgresConnector) -> bool {
        connector.is_outdated(&self.connected)
    }

    /// Reads the head behind its lock: after it, what another session had under way is there or
    /// not. Also tells whether the history still has an append with that hash.
    pub(super) async fn settle(
        &mut self,
        (number, known): (u64, Head),
    ) -> Result<SettledHead, NotDone> {
        self.connected.busy = true;
        self.connected.heard.take_warning();
        let head = format!("SELECT {HEAD} FROM {}.head h", self.schema);
        let hash = format!("SELECT hash FROM {}.appends WHERE append = $1", self.schema);
        let client = &self.connected.rows;
        let stored = signed(number);
        let asked: [&(dyn ToSql + Sync); 1] = [&stored];
        let asking = async {
            tokio::join!(
                client.batch_execute(&self.begin),
                client.query_one(&head, &[]),
                client.query_opt(&hash, &asked)
            )
        };
        let asked = timeout(self.answer_within, asking).await;
        let (begun, head, found) = asked.map_err(|_| silent(self.answer_within))?;
        begun?;
        let head = rows::head(&head?, 0)?;
        let found = found?;
        self.end().await?;
        let hash = found.as_ref().map(|row| row.try_get::<_, &[u8]>(0)).transpose()?;
        let has_known = number == 0 || hash == Some(&known.chain.0);
        Ok(SettledHead { head, has_known })
    }
}

fn silent(within: Duration) -> NotDone {
    NotDone::Away(silent_detail(within))
}

fn silent_detail(within: Duration) -> String {
    format!("the server did not answer within {within:?}")
}

/// The head, when nothing is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct SettledHead {
    pub(super) head: HeadRow,
    /// True if the append that was asked for is in the history.
    pub(super) has_known: bool,
}
