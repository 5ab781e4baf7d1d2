//! Inline projections: read models that are written in the append's own transaction.
//!
//! This file has the projections and how they are called; `register` builds the rows of one up to
//! the head and registers it with the store, so that from then on every append writes it.

pub(super) mod register;

use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use leftfold_core::fold::{EventError, Recorded, Schema, Unknown};
use leftfold_core::runtime::projection::{Projection, ProjectionError};
use leftfold_core::store::{Position, Query, RecordedEvent};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::error::SqlState;

use super::error::{NotDone, PostgresStoreError};
use crate::target::place::{quoted, schema};
use crate::{Postgres, Rows};

/// Read models that are written in the transaction of each append that has an event for them.
///
/// Whoever appended reads what was written at once, in any process, and an append whose events a
/// projection refuses is refused with
/// [`AppendError::ReadModel`](leftfold_core::store::AppendError::ReadModel). Rows are in the schema
/// that a projection of [`Postgres`] has, and [`Postgres::reader`] reads them.
///
/// # What it costs
/// - Their statements run while the head of the store is locked: every writer of every process
///   waits for them. A following projection costs writers nothing.
/// - Every process that appends must have the same ones. One that lacks one of them, or has
///   another version, takes no appends: so a new version is a deployment in which all processes are
///   replaced.
/// - There is no parking: what the projection refuses is not recorded.
///
/// Take it for rows that a decision outside of an aggregate needs, or that a constraint of the
/// database must guard; let everything else follow.
#[derive(Clone, Default)]
pub struct InlineProjections(Vec<Arc<dyn InlineView>>);

type Applying<'r> = Pin<Box<dyn Future<Output = Result<(), ProjectionError>> + Send + 'r>>;

/// A projection whose events are not part of its type.
pub(super) trait InlineView: Send + Sync {
    fn name(&self) -> &'static str;
    fn version(&self) -> u32;
    fn query(&self) -> &Query;
    fn set_up<'r>(&'r self, rows: &'r mut Rows) -> Applying<'r>;
    fn apply<'r>(&'r self, rows: &'r mut Rows, event: &'r RecordedEvent) -> Applying<'r>;
}

struct TypedView<P: Projection<Postgres>> {
    projection: P,
    schema: Arc<Schema>,
    query: Query,
}

impl<P: Projection<Postgres>> InlineView for TypedView<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn version(&self) -> u32 {
        P::VERSION
    }

    fn query(&self) -> &Query {
        &self.query
    }

    fn set_up<'r>(&'r self, rows: &'r mut Rows) -> Applying<'r> {
        Box::pin(async move {
            self.projection.set_up(rows).await?;
            Ok(rows.answered().await?)
        })
    }

    fn apply<'r>(&'r self, rows: &'r mut Rows, event: &'r RecordedEvent) -> Applying<'r> {
        Box::pin(async move {
            for decoded in self.schema.decode::<P::Event>(event, Unknown::Ignore)? {
                let event = Recorded { event: decoded, envelope: event.clone() };
                self.projection.apply(rows, &event).await?;
            }
            Ok(())
        })
    }
}

/// A setting of our own, which goes when the transaction does.
const MARK: &str = "SET LOCAL leftfold.transaction TO 'inline'";
const MARKED: &str =
    "SELECT coalesce(current_setting('leftfold.transaction', true), '') = 'inline'";

/// State of the transaction after the code of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApplyEnd {
    Open,
    /// Code of users ended it: what was written is there or is not.
    EndedByCode,
}

/// Reason why a read model does not take an event.
#[derive(Debug)]
pub(super) struct ViewFailure {
    /// The read model.
    pub(super) name: &'static str,
    /// Position of the event that was applied when it was noticed: that event, or one before it,
    /// since a statement may be answered later. `None` if it was noticed behind the last one.
    pub(super) at: Option<Position>,
    pub(super) why: ViewRefusal,
}

/// The side that is at fault.
#[derive(Debug)]
pub(super) enum ViewRefusal {
    /// Nothing can be written now.
    NotDone(NotDone),
    /// The event's, or the projection's.
    Event(String),
    /// The projection gave no answer in time. It is at that very event.
    Late(String),
}

impl InlineProjections {
    /// The same ones and another.
    ///
    /// # Errors
    /// [`EventError`] if the projection's enum of events cannot be one.
    pub fn and<P: Projection<Postgres>>(mut self, projection: P) -> Result<Self, EventError> {
        let schema = Schema::of::<P::Event>()?;
        let query = schema.query();
        self.0.push(Arc::new(TypedView { projection, schema, query }));
        Ok(self)
    }

    /// Refuses two of one name.
    pub(super) fn check(&self) -> Result<(), PostgresStoreError> {
        for (index, view) in self.0.iter().enumerate() {
            if self.0[..index].iter().any(|other| other.name() == view.name()) {
                return Err(PostgresStoreError::Option {
                    option: "inline",
                    value: view.name().to_owned(),
                    remedy: "one version of each projection",
                });
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn views(&self) -> &[Arc<dyn InlineView>] {
        &self.0
    }

    /// Returns what keeps this process from appending, if others registered other projections with
    /// the store in a schema: a quoted name.
    pub(super) async fn lacking(
        &self,
        rows: &Rows,
        schema: &str,
    ) -> Result<Option<String>, NotDone> {
        let ask = format!("SELECT name, version FROM {schema}.inline_projections ORDER BY name");
        let mut registered = Vec::new();
        for row in rows.query(&ask, &[]).await? {
            registered.push((row.try_get::<_, String>(0)?, row.try_get::<_, i64>(1)?));
        }
        let own = self.names();
        Ok((registered != own).then(|| {
            format!(
                "every append writes the inline projections {}, this process has {}; start it with the same ones, or take one away (PostgresStore::remove_inline)",
                listed(&registered),
                listed(&own)
            )
        }))
    }

    /// Their names and versions, in the order of the names.
    pub(super) fn names(&self) -> Vec<(String, i64)> {
        let mut names: Vec<_> =
            self.0.iter().map(|view| (view.name().to_owned(), i64::from(view.version()))).collect();
        names.sort_unstable();
        names
    }

    /// Applies events in the open transaction, each to every projection that reads it.
    pub(super) async fn apply(
        &self,
        rows: &mut Rows,
        events: &[&RecordedEvent],
        within: Duration,
    ) -> Result<ApplyEnd, ViewFailure> {
        for view in &self.0 {
            let mut own = Vec::new();
            for event in events {
                if view.query().matches(event) {
                    own.push(*event);
                }
            }
            if own.is_empty() {
                continue;
            }
            let applied = apply_view(&**view, rows, &own, within).await;
            // In a transaction that failed this fails too: nothing of it can be there.
            let marked = rows.query_one(MARKED, &[]).await.and_then(|row| row.try_get(0));
            match (applied, marked) {
                (_, Ok(false)) => return Ok(ApplyEnd::EndedByCode),
                (applied @ Err(_), _) => return applied.map(|()| ApplyEnd::Open),
                (Ok(()), Ok(true)) => {}
                (Ok(()), Err(error)) => {
                    let why = match error.code() {
                        Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
                            let passed_over = "a statement of it failed, and its code went on";
                            ViewRefusal::Event(passed_over.to_owned())
                        }
                        _ => ViewRefusal::NotDone(NotDone::of(&error)),
                    };
                    return Err(ViewFailure { name: view.name(), at: None, why });
                }
            }
        }
        Ok(ApplyEnd::Open)
    }
}

/// Names and versions, for people.
fn listed(projections: &[(String, i64)]) -> String {
    let named: Vec<_> =
        projections.iter().map(|(name, version)| format!("{name} (version {version})")).collect();
    if named.is_empty() { "none".to_owned() } else { named.join(", ") }
}

/// Applies events to one projection, in its schema.
pub(super) async fn apply_view(
    view: &dyn InlineView,
    rows: &mut Rows,
    events: &[&RecordedEvent],
    within: Duration,
) -> Result<(), ViewFailure> {
    let name = view.name();
    let entered = enter(view, rows).await;
    entered.map_err(|why| ViewFailure { name, at: None, why: ViewRefusal::NotDone(why) })?;
    let applied = apply_all(view, rows, events, within).await;
    applied.map_err(|(at, why)| {
        rows.forget_sent();
        ViewFailure { name, at, why }
    })
}

/// The error says at which event it was noticed, and why.
async fn apply_all(
    view: &dyn InlineView,
    rows: &mut Rows,
    events: &[&RecordedEvent],
    within: Duration,
) -> Result<(), (Option<Position>, ViewRefusal)> {
    let until = Instant::now() + within;
    let late = || ViewRefusal::Late(format!("it took longer than {within:?}"));
    for event in events {
        let at = Some(event.position);
        let applied = timeout_at(until, contained(|| view.apply(rows, event))).await;
        applied.map_err(|_| (at, late()))?.map_err(|error| (at, refusal(&error)))?;
    }
    // The statements that nobody has waited for yet.
    let answered = timeout_at(until, rows.answered()).await.map_err(|_| (None, late()))?;
    answered.map_err(|error| (None, refusal(&error.into())))
}

/// Lets the projection's statements mean the tables of its own schema.
pub(super) async fn enter(view: &dyn InlineView, rows: &Rows) -> Result<(), NotDone> {
    let schema = quoted(&schema(view.name(), view.version()));
    let enter = format!("SET LOCAL search_path TO {schema}, public; {MARK}");
    Ok(rows.batch_execute(&enter).await?)
}

/// Runs code of users, whose panic is an error of its own.
pub(super) async fn contained<'r>(
    begin: impl FnOnce() -> Applying<'r>,
) -> Result<(), ProjectionError> {
    let panicked = || Err(ProjectionError::message("its code panicked"));
    let Ok(mut running) = catch_unwind(AssertUnwindSafe(begin)) else { return panicked() };
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
        Ok(poll) => poll,
        Err(_) => Poll::Ready(panicked()),
    })
    .await
}

fn refusal(error: &ProjectionError) -> ViewRefusal {
    let server = error.causes().find_map(|cause| cause.downcast_ref::<tokio_postgres::Error>());
    match server {
        Some(server) if crate::error::Trouble::of(server).passes() => {
            ViewRefusal::NotDone(NotDone::of(server))
        }
        _ => ViewRefusal::Event(error.to_string()),
    }
}

impl From<ViewFailure> for PostgresStoreError {
    fn from(failure: ViewFailure) -> Self {
        let detail = match failure.why {
            ViewRefusal::NotDone(why) => why.for_read().to_string(),
            ViewRefusal::Event(detail) | ViewRefusal::Late(detail) => detail,
        };
        Self::Inline { projection: failure.name, detail }
    }
}

impl fmt::Debug for InlineProjections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
