//! Settings and beginnings of subscriptions, as requests write them.

use leftfold::store::{Position, Read, Version};
use tonic::Status;

use super::super::Facade;
use super::super::faults;
use super::super::filter::EventFilter;
use super::super::names::NamedStream;
use super::super::wire::persistent::all_options::{AllOption, FilterOption};
use super::super::wire::persistent::group_options::StreamOption;
use super::super::wire::persistent::settings::{CheckpointAfter, MessageTimeout};
use super::super::wire::persistent::{GroupOptions, Settings};
use super::super::wire::streams::read_req::stream_options::RevisionOption;
use super::face::{GroupFace, GroupSource, NamedGroup};
use crate::groups::{ConsumerStrategy, GroupSettings, KeyOf, StoredGroup};

/// Events that wait in memory, at most.
const BUFFER_MAX: i32 = 10_000;
/// Ticks of a millisecond: they are of 100 ns.
const TICKS: i64 = 10_000;
/// Names of the strategies.
const STRATEGIES: [&str; 4] = ["DispatchToSingle", "RoundRobin", "Pinned", "PinnedByCorrelation"];

/// Place at which a subscription begins.
struct GroupStart {
    /// Everything after this position is read.
    after: Position,
    /// Events of the stream before are left out, though they are recorded later.
    first_revision: u64,
    /// The place as clients see it.
    shown: String,
}

/// A subscription as it is to be.
pub(super) struct WishedGroup {
    pub(super) named: NamedGroup,
    pub(super) settings: GroupSettings,
    pub(super) start: Position,
}

/// Returns the subscription that options mean.
pub(super) fn named(options: &GroupOptions) -> Result<NamedGroup, Status> {
    let stream = |of: &Option<_>| Ok::<_, Status>(GroupSource::of(NamedStream::of(of.clone())?));
    let source = match &options.stream_option {
        Some(StreamOption::Stream(of)) => stream(&of.stream_identifier)?,
        Some(StreamOption::All(_)) => GroupSource::All,
        None => stream(&options.stream_identifier)?,
    };
    NamedGroup::of(source, options.group_name.clone())
}

impl WishedGroup {
    /// Reads options. What an update does not say is as it was `before`.
    pub(super) async fn read(
        options: GroupOptions,
        facade: &Facade,
        before: Option<&StoredGroup>,
    ) -> Result<Self, Status> {
        let named = named(&options)?;
        let of_before = before.and_then(|before| GroupFace::of(&before.settings));
        let settings =
            options.settings.ok_or_else(|| Status::invalid_argument("the settings are missing"))?;
        let (mut position, mut filter) = (None, None);
        let revision = match options.stream_option {
            Some(StreamOption::Stream(stream)) => stream.revision_option,
            Some(StreamOption::All(all)) => {
                (position, filter) = (all.all_option, all.filter_option);
                None
            }
            None => Some(RevisionOption::Revision(settings.revision)),
        };
        let filter = match filter {
            Some(FilterOption::Filter(filter)) => Some(EventFilter::to_store(filter)?),
            Some(FilterOption::NoFilter(_)) => None,
            None => of_before.and_then(|face| face.filter),
        };
        let start = match &named.source {
            GroupSource::All => start_of_all(facade, &named, position)?,
            source => start_of_stream(facade, source, revision).await?,
        };
        let (strategy, chosen) = strategy_of(&named, &settings)?;
        let read = match &filter {
            Some(filter) => Some(EventFilter::stored(filter.clone())?),
            None => None,
        };
        let face = GroupFace {
            stream: named.source.shown().to_owned(),
            group: named.group.clone(),
            strategy,
            start_from: start.shown,
            first_revision: start.first_revision,
            resolves_links: settings.resolve_links,
            extra_statistics: settings.extra_statistics,
            live_buffer: settings.live_buffer_size,
            history_buffer: settings.history_buffer_size,
            read_batch: settings.read_batch_size,
            filter,
        };
        let query = named.source.query(read.as_ref());
        let settings = engine_settings(&settings, &face, GroupSettings::of(query), chosen)?;
        Ok(Self { named, settings, start: start.after })
    }
}

fn engine_settings(
    settings: &Settings,
    face: &GroupFace,
    usual: GroupSettings,
    strategy: ConsumerStrategy,
) -> Result<GroupSettings, Status> {
    let count = |count: i32| u32::try_from(count.max(0)).unwrap_or(0);
    let millis = |ms: i64| u64::try_from(ms.max(0)).unwrap_or(0);
    let message_timeout_ms = match settings.message_timeout {
        Some(MessageTimeout::MessageTimeoutMs(ms)) => millis(ms.into()),
        Some(MessageTimeout::MessageTimeoutTicks(ticks)) => millis(ticks / TICKS),
        None => usual.message_timeout_ms,
    };
    let checkpoint_after_ms = match settings.checkpoint_after {
        Some(CheckpointAfter::CheckpointAfterMs(ms)) => millis(ms.into()),
        Some(CheckpointAfter::CheckpointAfterTicks(ticks)) => millis(ticks / TICKS),
        None => usual.checkpoint_after_ms,
    };
    let least = count(settings.min_checkpoint_count);
    let face = serde_json::to_value(face).map_err(|error| Status::internal(error.to_string()))?;
    Ok(GroupSettings {
        strategy,
        message_timeout_ms,
        retries_max: count(settings.max_retry_count),
        buffer_events: count(settings.history_buffer_size.clamp(1, BUFFER_MAX)),
        batch_events: count(settings.read_batch_size.clamp(1, BUFFER_MAX)),
        checkpoint_after_ms,
        checkpoint_events_min: least,
        checkpoint_events_max: count(settings.max_checkpoint_count).max(least).max(1),
        consumers_max: count(settings.max_subscriber_count),
        face,
        ..usual
    })
}

/// Returns the name of the strategy and what it means.
fn strategy_of(
    named: &NamedGroup,
    settings: &Settings,
) -> Result<(String, ConsumerStrategy), Status> {
    let numbered = usize::try_from(settings.named_consumer_strategy).ok();
    let numbered = numbered.filter(|number| *number < 3).map(|number| STRATEGIES[number]);
    let name = match &*settings.consumer_strategy {
        "" => numbered.unwrap_or_default(),
        name => name,
    };
    let strategy = match name {
        "DispatchToSingle" => ConsumerStrategy::DispatchToSingle,
        "RoundRobin" => ConsumerStrategy::RoundRobin,
        "Pinned" => ConsumerStrategy::Pinned(KeyOf::Stream),
        "PinnedByCorrelation" => ConsumerStrategy::Pinned(KeyOf::Correlation),
        _ => {
            let reason = format!("Consumer strategy {name} does not exist.");
            return Err(faults::group_failed(named.source.shown(), &named.group, &reason));
        }
    };
    Ok((name.to_owned(), strategy))
}

fn start_of_all(
    facade: &Facade,
    named: &NamedGroup,
    position: Option<AllOption>,
) -> Result<GroupStart, Status> {
    let head = facade.store.head().position;
    let (after, shown) = match position {
        Some(AllOption::Position(at)) if at.commit_position != u64::MAX => {
            // The event at the position is the first one.
            let after = Position(at.commit_position.saturating_sub(1));
            if after > head {
                let reason = format!(
                    "start position {} is behind the last event {head}",
                    at.commit_position
                );
                return Err(faults::group_failed(named.source.shown(), &named.group, &reason));
            }
            (after, format!("C:{}/P:{}", at.commit_position, at.prepare_position))
        }
        Some(AllOption::Start(_)) => (Position::START, "C:0/P:0".to_owned()),
        Some(AllOption::End(_) | AllOption::Position(_)) | None => (head, "C:-1/P:-1".to_owned()),
    };
    Ok(GroupStart { after, first_revision: 0, shown })
}

async fn start_of_stream(
    facade: &Facade,
    source: &GroupSource,
    revision: Option<RevisionOption>,
) -> Result<GroupStart, Status> {
    let head = facade.store.head().position;
    let revision = match revision {
        Some(RevisionOption::Start(_)) => 0,
        Some(RevisionOption::Revision(revision)) if revision != u64::MAX => revision,
        _ => return Ok(GroupStart { after: head, first_revision: 0, shown: "-1".to_owned() }),
    };
    // If the revision is still to come, events before it are left out by their revisions.
    let found = match source {
        _ if revision == 0 => Some(Position::START),
        GroupSource::Indexed(stream) => {
            let found = facade.ordinals.position_of(&facade.store, stream, revision).await;
            found.map_err(faults::unread)?
        }
        GroupSource::Stream(stream) => {
            let version = Version(revision.saturating_add(1));
            let read = Read::stream(stream.name.clone(), version).page_of(1);
            let page = facade.store.page(read).await.map_err(faults::unread)?;
            page.events.first().map(|event| event.position)
        }
        GroupSource::All => None,
    };
    let after = found.map_or(head, |found| Position(found.0.saturating_sub(1)));
    let first_revision = if found.is_some() { 0 } else { revision };
    Ok(GroupStart { after, first_revision, shown: revision.to_string() })
}
