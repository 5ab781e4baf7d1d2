//! The consumers of the log, for the dashboard.

use std::time::Duration;

use leftfold::runtime::process::{ParkedTrigger, Whose};
use leftfold::runtime::projection::ProjectionStatus;
use leftfold::runtime::{ConsumerStatus, MemberStatus};
use serde_json::json;
use tokio::time::timeout;

use crate::api::stands_still;
use crate::app::{Consumers, Csms};
use crate::dashboard::{ConsumerKind, ConsumerState, ConsumerView, ParkedView, ServerView};
use crate::processes::PROCESSES;

/// Parked items that are shown.
const PARKED_SHOWN_MAX: usize = 20;

/// Everything that follows the log.
pub(super) fn consumers(csms: &Csms) -> Vec<ConsumerView> {
    let projections =
        csms.consumers().map(|consumers| consumers.projections.list()).unwrap_or_default();
    let has_two = |name: &str| projections.iter().filter(|status| status.name == name).count() > 1;
    let read_models = projections.iter().map(|status| {
        let name = if has_two(status.name) {
            format!("{} v{}", status.name, status.version)
        } else {
            status.name.to_owned()
        };
        consumer(name, ConsumerKind::ReadModel, &status.consumer, state(status))
    });
    let all = csms.consumer_statuses();
    let is_read_model =
        |status: &ConsumerStatus| projections.iter().any(|it| it.consumer.name == status.name);
    let others = all.iter().filter(|status| !is_read_model(status)).map(|status| {
        let kind = if PROCESSES.contains(&status.name) {
            ConsumerKind::Process
        } else {
            ConsumerKind::Effect
        };
        consumer(status.name.to_owned(), kind, status, moving(status))
    });
    read_models.chain(others).collect()
}

fn consumer(
    name: String,
    kind: ConsumerKind,
    status: &ConsumerStatus,
    state: ConsumerState,
) -> ConsumerView {
    ConsumerView {
        name,
        kind,
        position: status.through.0,
        behind: status.lag(),
        per_second: status.per_second,
        seconds_left: status.time_left().map(|left| left.as_secs()),
        waits_for: status.waits_for.clone(),
        state,
    }
}

fn state(status: &ProjectionStatus) -> ConsumerState {
    match moving(&status.consumer) {
        state @ (ConsumerState::Stuck | ConsumerState::Waits | ConsumerState::Standby) => state,
        _ if !status.serves => ConsumerState::Building,
        state => state,
    }
}

fn moving(status: &ConsumerStatus) -> ConsumerState {
    match status.lag() {
        _ if stands_still(status) => ConsumerState::Stuck,
        _ if status.needs_person => ConsumerState::Waits,
        _ if status.standby => ConsumerState::Standby,
        0 => ConsumerState::UpToDate,
        _ => ConsumerState::CatchingUp,
    }
}

/// The servers that share the store; empty if the list does not come in time.
pub(super) async fn servers(csms: &Csms, within: Duration) -> Vec<ServerView> {
    let Ok(runtime) = csms.runtime_handle() else { return Vec::new() };
    if !csms.config.shares_store() {
        return Vec::new();
    }
    let members = timeout(within, runtime.members()).await;
    let view = |member: MemberStatus| ServerView {
        name: member.name,
        stops: member.stops,
        works: member.works.into_iter().map(|work| (work.consumer, work.waits_for)).collect(),
    };
    // What cannot be read now is shown the next time.
    let members = members.ok().and_then(Result::ok).unwrap_or_default();
    members.into_iter().map(view).collect()
}

/// Returns the first parked items, and the number of all of them.
pub(super) async fn parked(csms: &Csms) -> (Vec<ParkedView>, usize) {
    let Ok(consumers) = csms.consumers() else { return (Vec::new(), 0) };
    let mut views = Vec::new();
    let mut total = 0;
    for status in consumers.projections.list().iter().filter(|status| status.parked > 0) {
        total += status.parked;
        views.extend(parked_events(consumers, status.name));
    }
    for status in csms
        .consumer_statuses()
        .iter()
        .filter(|status| PROCESSES.contains(&status.name) && status.waiting > 0)
    {
        total += status.waiting;
        // What cannot be read now is shown the next time.
        let triggers = consumers.processes.parked(status.name).await.unwrap_or_default();
        views.extend(triggers.iter().map(|trigger| parked_trigger(status.name, trigger)));
    }
    // Those that a person can do something about come first.
    views.sort_by_key(|view| view.error.is_none());
    views.truncate(PARKED_SHOWN_MAX);
    (views, total)
}

fn parked_events(consumers: &Consumers, name: &'static str) -> Vec<ParkedView> {
    let parked = consumers.projections.parked(name).unwrap_or_default();
    let view = |item: &leftfold::runtime::projection::Parked| ParkedView {
        consumer: name.to_owned(),
        route: format!("/api/read-models/{name}"),
        position: item.position.0,
        key: item.key.clone(),
        error: item.state.error().map(str::to_owned),
        retry: json!({ "key": item.key }).to_string(),
        skip: json!({ "position": item.position.0 }).to_string(),
    };
    parked.iter().take(PARKED_SHOWN_MAX).map(view).collect()
}

fn parked_trigger(process: &'static str, trigger: &ParkedTrigger) -> ParkedView {
    let (field, key) = match &trigger.whose {
        Whose::Instance(instance) => ("instance", instance),
        Whose::Stream(stream) => ("stream", stream),
    };
    ParkedView {
        consumer: process.to_owned(),
        route: format!("/api/processes/{process}"),
        position: trigger.position.0,
        key: key.clone(),
        error: trigger.error.clone(),
        retry: json!({ field: key }).to_string(),
        skip: json!({ field: key, "position": trigger.position.0 }).to_string(),
    }
}
