//! A request, carried out by the runtime that has the code for it.
//!
//! Whoever has not the work, or cannot do it now, gives no answer: the request stays open, and
//! another runtime may have one, or this one later. Each action is done once however often it is
//! tried: what is not parked any more is not skipped again, and an effect is concluded once.

use super::record::{AskedRecord, OperatorEvent};
use super::{LISTED_ITEMS_MAX, ListedItem, ListedPlace, OperatorAction, ParkedChoice};
use crate::runtime::consumer::{AskError, shortened, shortened_to};
use crate::runtime::effect::{CancelError, EffectId, EffectState, Effects, ResolveError, Verdict};
use crate::runtime::handle::RuntimeHandle;
use crate::runtime::process::{ParkedFilter, Processes, RetriedAll, Whose};
use crate::runtime::projection::{Parked, ProjectionStatus, Projections, Retried, Skipped};
use crate::store::{Kind, Position, Timestamp};

/// Items that an answer names, of those that failed again.
const FAILING_MAX: usize = 20;
/// Bytes of what an answer says of one of them.
const FAILING_BYTES_MAX: usize = 1_000;

/// Answer of a runtime, still without its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum OperatorAnswer {
    Done { number: u64, failing: Vec<String> },
    Listed { items: Vec<ListedItem>, has_more: bool },
    Refused(String),
}

impl OperatorAnswer {
    fn one() -> Option<Self> {
        Some(Self::Done { number: 1, failing: Vec::new() })
    }

    fn refused(error: &impl ToString) -> Option<Self> {
        Some(Self::Refused(error.to_string()))
    }

    /// Counts items; if none was concluded, that is a refusal.
    fn of(number: usize, failing: Vec<String>) -> Self {
        match (number, failing.first()) {
            (0, None) => Self::Refused("nothing is parked that is meant, list what is".to_owned()),
            (0, Some(first)) => {
                let others = match failing.len() {
                    1 => String::new(),
                    number => format!(" (and {} others)", number - 1),
                };
                Self::Refused(format!("it fails again, mend that or skip it: {first}{others}"))
            }
            _ => {
                let shown = failing.into_iter().take(FAILING_MAX);
                let shown = shown.map(|text| shortened_to(FAILING_BYTES_MAX, text)).collect();
                Self::Done { number: number as u64, failing: shown }
            }
        }
    }

    pub(super) fn event(self, runtime: &str) -> OperatorEvent {
        let runtime = runtime.to_owned();
        match self {
            Self::Done { number, failing } => OperatorEvent::Done { runtime, number, failing },
            Self::Listed { items, has_more } => OperatorEvent::Listed { runtime, items, has_more },
            Self::Refused(reason) => OperatorEvent::Refused { runtime, reason: shortened(reason) },
        }
    }
}

/// Carries a request out; `None` if it is another runtime's, or cannot be done now.
pub(super) async fn carry(
    runtime: RuntimeHandle,
    asked: AskedRecord,
    at: (Position, Timestamp),
) -> Option<OperatorAnswer> {
    let by = asked.author();
    match &asked.action {
        OperatorAction::Retry { consumer, parked } => {
            let work = ParkedWork { runtime: &runtime, consumer, parked, asked_at: at.0 };
            work.retry().await
        }
        OperatorAction::Skip { consumer, parked } => {
            let work = ParkedWork { runtime: &runtime, consumer, parked, asked_at: at.0 };
            work.skip(&by).await
        }
        OperatorAction::Conclude { effect, verdict } => {
            conclude(&runtime.effects, *effect, (verdict, &by), at.1).await
        }
        OperatorAction::Cancel { effect } => {
            cancel(&runtime.effects, *effect, (&asked.reason, &by)).await
        }
        OperatorAction::List { consumer, after } => {
            list(&runtime, consumer.as_deref(), after.as_ref())
        }
    }
}

/// Lists a page of what projections of this runtime have parked: of one, or of all of which it does
/// the work.
fn list(
    runtime: &RuntimeHandle,
    consumer: Option<&str>,
    after: Option<&ListedPlace>,
) -> Option<OperatorAnswer> {
    if let Some(name) = consumer.filter(|name| runtime.processes.asked.contains_key(*name)) {
        let text =
            format!("{name} is a process: what it has parked is in the store, list it there");
        return Some(OperatorAnswer::Refused(text));
    }
    let statuses = runtime.status();
    let stands_by = |name: &str| statuses.iter().any(|of| of.name == name && of.standby);
    let mut names: Vec<_> = runtime.projections.list().iter().map(|of| of.name).collect();
    names.retain(|name| consumer.is_none_or(|of| of == *name) && !stands_by(name));
    names.sort_unstable();
    names.dedup();
    if names.is_empty() && consumer.is_some() {
        return None;
    }
    let is_wanted = |place: &ListedPlace| after.is_none_or(|after| place > after);
    let mut items: Vec<ListedItem> = Vec::new();
    for name in names {
        for parked in runtime.projections.parked(name).ok()? {
            let place = ListedPlace { consumer: name.to_owned(), position: parked.position };
            // Two versions of a projection may have parked the same event.
            let is_known = items.last().is_some_and(|last| last.place == place);
            if is_known || !is_wanted(&place) {
                continue;
            }
            if items.len() == LISTED_ITEMS_MAX {
                return Some(OperatorAnswer::Listed { items, has_more: true });
            }
            let error = parked.state.error().map(ToOwned::to_owned);
            items.push(ListedItem { place, key: parked.key, stream: parked.stream, error });
        }
    }
    Some(OperatorAnswer::Listed { items, has_more: false })
}

/// Items that are parked by a consumer of this runtime.
struct ParkedWork<'a> {
    runtime: &'a RuntimeHandle,
    consumer: &'a str,
    parked: &'a ParkedChoice,
    asked_at: Position,
}

impl ParkedWork<'_> {
    /// Returns the processes, if the consumer is one of them.
    fn processes(&self) -> Option<&Processes> {
        let processes = &self.runtime.processes;
        processes.asked.contains_key(self.consumer).then_some(processes)
    }

    /// Tells whether another runtime has the work: it alone answers, or what it has done would be
    /// taken for what nobody can do.
    fn stands_by(&self) -> bool {
        let mut all = self.runtime.status().into_iter();
        all.any(|status| status.name == self.consumer && status.standby)
    }

    /// Returns the projections, if the consumer is one of them that has its rows, and has gone past
    /// the request: before, it may still park what is meant.
    fn projections(&self) -> Option<&Projections> {
        let projections = &self.runtime.projections;
        let mut named = projections.list().into_iter().filter(|all| all.name == self.consumer);
        let is_ready = |status: ProjectionStatus| {
            let consumer = status.consumer;
            let has_come = consumer.through >= self.asked_at && !consumer.stalled;
            has_come || (consumer.stalled && consumer.needs_person)
        };
        (is_ready(named.next()?) && named.all(is_ready)).then_some(projections)
    }

    async fn retry(&self) -> Option<OperatorAnswer> {
        if self.stands_by() {
            return None;
        }
        if let Some(processes) = self.processes() {
            let retried = match filters(self.parked, self.asked_at) {
                filters if filters.is_empty() => Ok(RetriedAll::default()),
                filters => retry_each(processes, self.consumer, filters).await,
            };
            let answer = |all: RetriedAll| {
                let failing = all.failing.into_iter().map(|(whose, position, why)| {
                    format!("{} at {position}: {why}", shown(&whose))
                });
                OperatorAnswer::of(all.done, failing.collect())
            };
            return answered(retried.map(answer));
        }
        let retried = self.projections()?.retry_all(self.consumer, |item| self.admits(item)).await;
        if self.stands_by() {
            return None;
        }
        let answer =
            |retried: Retried| OperatorAnswer::of(retried.applied.len(), failing(&retried));
        answered(retried.map(answer))
    }

    async fn skip(&self, by: &str) -> Option<OperatorAnswer> {
        if self.stands_by() {
            return None;
        }
        if let Some(processes) = self.processes() {
            let mut number = 0;
            for filter in filters(self.parked, self.asked_at) {
                match processes.skip_all(self.consumer, &filter, by).await {
                    Ok(skipped) => number += skipped,
                    Err(error) => return answered(Err(error)),
                }
            }
            return Some(OperatorAnswer::of(number, Vec::new()));
        }
        let skipped =
            self.projections()?.skip_all(self.consumer, |item| self.admits(item), by).await;
        if self.stands_by() {
            return None;
        }
        let answer = |skipped: Skipped| match skipped.skipped.len() {
            0 => OperatorAnswer::of(0, Vec::new()),
            number => OperatorAnswer::of(number, failing(&skipped.retried)),
        };
        answered(skipped.map(answer))
    }

    /// The choice as a projection has it. Its target does not say when an item was parked: without
    /// a position, the events up to the request are meant.
    fn admits(&self, item: &Parked) -> bool {
        let ParkedChoice { key, stream, position, saying } = self.parked;
        let says = |text: &String| item.state.error().is_some_and(|error| error.contains(&**text));
        key.as_ref().is_none_or(|key| *key == item.key)
            && stream.as_ref().is_none_or(|stream| *stream == item.stream)
            && position.map_or(item.position <= self.asked_at, |at| at == item.position)
            && saying.as_ref().is_none_or(says)
    }
}

async fn retry_each(
    processes: &Processes,
    consumer: &str,
    filters: Vec<ParkedFilter>,
) -> Result<RetriedAll, AskError> {
    let mut all = RetriedAll::default();
    for filter in filters {
        let retried = processes.retry_all(consumer, &filter).await?;
        all.done += retried.done;
        all.failing.extend(retried.failing);
    }
    Ok(all)
}

/// Returns the answer to what was asked; `None` if the store or the target fails, or another
/// runtime has the work.
fn answered(done: Result<OperatorAnswer, AskError>) -> Option<OperatorAnswer> {
    match done {
        Ok(answer) => Some(answer),
        Err(error) if error.kind() == Kind::Unavailable => None,
        Err(error) => OperatorAnswer::refused(&error),
    }
}

/// The choice as a process has it: without a position, what was parked before the request. A key
/// and a stream name two owners, which nothing has both.
fn filters(parked: &ParkedChoice, asked_at: Position) -> Vec<ParkedFilter> {
    let mut filter = match parked.position {
        Some(position) => ParkedFilter::all().at(position),
        None => ParkedFilter::all().parked_until(asked_at),
    };
    if let Some(saying) = &parked.saying {
        filter = filter.saying(saying.clone());
    }
    match (&parked.key, &parked.stream) {
        (None, None) => vec![filter],
        (Some(key), None) => vec![filter.of(Whose::Instance(key.clone()))],
        (None, Some(stream)) => vec![filter.of(Whose::Stream(stream.clone()))],
        (Some(_), Some(_)) => Vec::new(),
    }
}

fn failing(retried: &Retried) -> Vec<String> {
    let one = retried.stopped_by.as_ref().map(|item| {
        let error = item.state.error().unwrap_or("it waits for an earlier event");
        format!("key {} at {}: {error}", item.key, item.position)
    });
    one.into_iter().collect()
}

fn shown(whose: &Whose) -> String {
    match whose {
        Whose::Instance(key) => format!("instance {key}"),
        Whose::Stream(stream) => format!("stream {stream}"),
    }
}

/// Records a person's word about an effect. A word that came before the attempt was over was no
/// knowledge; one that came after it waits until the doubt is recorded.
async fn conclude(
    effects: &Effects,
    id: EffectId,
    (verdict, by): (&Verdict, &str),
    asked_at: Timestamp,
) -> Option<OperatorAnswer> {
    let state = effects.find(id).await.ok()??.state;
    match state {
        EffectState::InFlight { deadline } if asked_at < deadline => {
            return OperatorAnswer::refused(&ResolveError::TooEarly { id, deadline });
        }
        EffectState::InFlight { .. } => return None,
        _ => {}
    }
    match effects.resolve(id, verdict.clone(), by).await {
        Ok(_) => OperatorAnswer::one(),
        Err(ResolveError::NotOpen { .. }) => ended(effects, id, Some(verdict), by).await,
        Err(ResolveError::Busy { .. } | ResolveError::Store { .. } | ResolveError::Stopped) => None,
        Err(error) => OperatorAnswer::refused(&error),
    }
}

async fn cancel(
    effects: &Effects,
    id: EffectId,
    (reason, by): (&str, &str),
) -> Option<OperatorAnswer> {
    effects.find(id).await.ok()??;
    match effects.cancel(id, reason, by).await {
        Ok(_) => OperatorAnswer::one(),
        Err(CancelError::NotOpen { .. }) => ended(effects, id, None, by).await,
        Err(CancelError::Busy { .. } | CancelError::Store { .. } | CancelError::Stopped) => None,
        Err(error) => OperatorAnswer::refused(&error),
    }
}

/// Tells how an effect has ended: by this person's very word, as an earlier try has recorded it, or
/// in another way. Without a verdict, the person wants the effect no more.
async fn ended(
    effects: &Effects,
    id: EffectId,
    verdict: Option<&Verdict>,
    person: &str,
) -> Option<OperatorAnswer> {
    let status = effects.find(id).await.ok()??;
    let is_persons = |by: &str| by == shortened(person.to_owned());
    match (status.state, verdict) {
        (EffectState::Done { outcome, by }, Some(Verdict::Done(given))) => {
            let is_same = effects.is_outcome(status.name, given, &outcome);
            if is_same && is_persons(&by) {
                return OperatorAnswer::one();
            }
            let other = if is_same { "" } else { ", with another outcome" };
            OperatorAnswer::refused(&format!("effect {id} took place, as {by} has said{other}"))
        }
        (EffectState::Done { by, .. }, _) => {
            OperatorAnswer::refused(&format!("effect {id} took place, as {by} has said"))
        }
        (EffectState::NotDone { by, .. }, None | Some(Verdict::NotDone { .. }))
            if is_persons(&by) =>
        {
            OperatorAnswer::one()
        }
        (EffectState::NotDone { by, reason }, _) => OperatorAnswer::refused(&format!(
            "effect {id} did not take place, as {by} has said: {reason}"
        )),
        _ => None,
    }
}
