//! Persistent subscriptions: the service, over the groups of consumers of the server.
//!
//! A subscription to `order-1` with the name `billing` is the group `kurrent:order-1::billing`.
//! Its parked events are read from `$persistentsubscription-order-1::billing-parked`, as links.

// `face` has what a subscription is beside a group, `wishes` reads its settings, `consuming` has
// the call of a consumer, `telling` shows subscriptions to those who look.

mod consuming;
mod face;
mod telling;
mod wishes;

use std::sync::Arc;
use std::time::Duration;

use leftfold::store::Version;
use tonic::{Request, Response, Status, Streaming};

use super::faults;
use super::names::NamedStream;
use super::records::{EventForm, IdSpelling};
use super::wire::persistent::list_req::options::ListOption;
use super::wire::persistent::{
    CreateReq, CreateResp, DeleteReq, DeleteResp, GetInfoReq, GetInfoResp, ListReq, ListResp,
    ReadReq, ReadResp, ReplayParkedReq, ReplayParkedResp, UpdateReq, UpdateResp, delete_req,
    get_info_req, list_req, persistent_subscriptions_server, read_req, replay_parked_req,
};
use super::wire::streams::read_req::uuid_option;
use super::wire::{Empty, StreamIdentifier};
use super::{Facade, Facades};
use crate::groups::{
    CAPACITY_MAX, ConnectedConsumers, ConsumerGroups, ConsumerName, GroupError, StoredGroup,
};
use crate::services::Messages;
use crate::users::{UserRole, Wish};
use consuming::ConsumeCall;
use face::{GroupFace, GroupSource, NamedGroup};
use wishes::WishedGroup;

/// Metadata by which a client tells its name.
const CONNECTION_NAME: &str = "connection-name";
/// Time within which a call says what it consumes.
const OPENED_WITHIN: Duration = Duration::from_secs(10);
/// Characters of the name of a client that are kept.
const NAME_CHARACTERS_MAX: usize = 100;

/// The service `event_store.client.persistent_subscriptions.PersistentSubscriptions`.
pub(super) struct GroupsService(Facades);

type Served = persistent_subscriptions_server::PersistentSubscriptionsServer<GroupsService>;

pub(super) fn service(facades: Facades) -> Served {
    persistent_subscriptions_server::PersistentSubscriptionsServer::new(GroupsService(facades))
        .max_decoding_message_size(super::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(super::ANSWER_BYTES_MAX)
}

fn missing() -> Status {
    Status::invalid_argument("the options are missing")
}

fn source_of(option: Option<impl Into<Option<StreamIdentifier>>>) -> Result<GroupSource, Status> {
    match option.map(Into::into) {
        Some(Some(identifier)) => Ok(GroupSource::of(NamedStream::of(Some(identifier))?)),
        Some(None) => Ok(GroupSource::All),
        None => Err(Status::invalid_argument("a stream, or all, is missing")),
    }
}

/// Makes the stream of an option, `None` for all events: each request has an option of its own.
macro_rules! streams_of_options {
    ($($option:ty, $stream:ident;)*) => {$(
        impl From<$option> for Option<StreamIdentifier> {
            fn from(option: $option) -> Self {
                type Chosen = $option;
                match option {
                    Chosen::$stream(stream) => Some(stream),
                    Chosen::All(_) => None,
                }
            }
        }
    )*};
}

streams_of_options! {
    read_req::options::StreamOption, StreamIdentifier;
    delete_req::options::StreamOption, StreamIdentifier;
    get_info_req::options::StreamOption, StreamIdentifier;
    replay_parked_req::options::StreamOption, StreamIdentifier;
    list_req::stream_option::StreamOption, Stream;
}

/// The status of a call about a subscription.
fn refused(named: &NamedGroup, error: GroupError) -> Status {
    let (stream, group) = (named.source.shown(), &*named.group);
    match error {
        GroupError::NotFound => faults::group_missing(stream, group),
        GroupError::Exists => faults::group_exists(stream, group),
        GroupError::ConsumersMax { .. } => faults::group_is_full(stream, group),
        GroupError::Invalid { detail } => faults::group_failed(stream, group, &detail),
        GroupError::Contended => Status::aborted(error.to_string()),
        GroupError::Unavailable { .. } => Status::unavailable(error.to_string()),
    }
}

impl Facade {
    fn groups(&self) -> Arc<ConsumerGroups> {
        ConsumerGroups::of(&self.store)
    }

    async fn stored_group(&self, named: &NamedGroup) -> Result<StoredGroup, Status> {
        let stored = self.groups().stored(&self.store, &named.name).await;
        stored.map_err(|error| refused(named, error))
    }
}

impl GroupsService {
    /// Returns the store for whoever may administer its subscriptions.
    async fn to_administer<T: Sync>(&self, request: &Request<T>) -> Result<Facade, Status> {
        let facade = self.0.of(request).await?;
        facade.may(Wish::Role(UserRole::Admin))?;
        Ok(facade)
    }

    async fn consume(
        &self,
        request: Request<Streaming<ReadReq>>,
    ) -> Result<Messages<ReadResp>, Status> {
        let facade = self.0.of(&request).await?;
        let name = request.metadata().get(CONNECTION_NAME);
        let name = name.and_then(|name| name.to_str().ok()).unwrap_or_default();
        let who = ConsumerName {
            name: crate::services::cut(name, NAME_CHARACTERS_MAX),
            user: facade.caller.name().to_string(),
            from: String::new(),
        };
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(OPENED_WITHIN, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the call did not say what it consumes"))??;
        let first = first.and_then(|first| first.content);
        let Some(read_req::Content::Options(options)) = first else { return Err(missing()) };
        let named = NamedGroup::of(source_of(options.stream_option)?, options.group_name)?;
        let spelling = match options.uuid_option.and_then(|option| option.content) {
            Some(uuid_option::Content::String(_)) => IdSpelling::Text,
            _ => IdSpelling::Structured,
        };
        let capacity = usize::try_from(options.buffer_size).unwrap_or(0);
        if capacity == 0 {
            return Err(Status::invalid_argument("the buffer of a consumer has 1 event at least"));
        }
        let capacity = capacity.min(CAPACITY_MAX);
        let group = facade.stored_group(&named).await?;
        facade.may_consume(&group.settings)?;
        let resolves_links = GroupFace::of(&group.settings).is_some_and(|face| face.resolves_links);
        let form = EventForm { spelling, resolves_links };
        let lenses = face::lenses(&facade);
        let entered =
            facade.groups().consume(&facade.store, &named.name, capacity, who, lenses).await;
        let consumer = entered.map_err(|error| refused(&named, error))?;
        let stopping = self.0.stopping.clone();
        let call = ConsumeCall::new(facade, named, form, consumer, capacity, incoming, stopping);
        Ok(call.responses())
    }
}

#[tonic::async_trait]
impl persistent_subscriptions_server::PersistentSubscriptions for GroupsService {
    type ReadStream = Messages<ReadResp>;

    async fn create(&self, request: Request<CreateReq>) -> Result<Response<CreateResp>, Status> {
        let facade = self.0.to_append(&request).await?;
        facade.may(Wish::Role(UserRole::Admin))?;
        let options = request.into_inner().options.ok_or_else(missing)?;
        let wished = WishedGroup::read(options, &facade, None).await?;
        let WishedGroup { named, settings, start } = wished;
        let created = facade.groups().create(&facade.store, &named.name, settings, start).await;
        created.map_err(|error| refused(&named, error))?;
        Ok(Response::new(CreateResp {}))
    }

    async fn update(&self, request: Request<UpdateReq>) -> Result<Response<UpdateResp>, Status> {
        let facade = self.to_administer(&request).await?;
        let options = request.into_inner().options.ok_or_else(missing)?;
        let before = facade.stored_group(&wishes::named(&options)?).await?;
        let wished = WishedGroup::read(options, &facade, Some(&before)).await?;
        let WishedGroup { named, settings, start } = wished;
        let (groups, ends) = (facade.groups(), ConnectedConsumers::End);
        let updated = groups.update(&facade.store, &named.name, &settings, Some(start), ends).await;
        updated.map_err(|error| refused(&named, error))?;
        Ok(Response::new(UpdateResp {}))
    }

    async fn delete(&self, request: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        let facade = self.to_administer(&request).await?;
        let options = request.into_inner().options.ok_or_else(missing)?;
        let named = NamedGroup::of(source_of(options.stream_option)?, options.group_name)?;
        let deleted = facade.groups().delete(&facade.store, &named.name).await;
        deleted.map_err(|error| refused(&named, error))?;
        Ok(Response::new(DeleteResp {}))
    }

    async fn read(
        &self,
        request: Request<Streaming<ReadReq>>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        self.consume(request).await.map(Response::new)
    }

    async fn get_info(
        &self,
        request: Request<GetInfoReq>,
    ) -> Result<Response<GetInfoResp>, Status> {
        let facade = self.0.of(&request).await?;
        facade.may(Wish::ReadAll)?;
        let options = request.into_inner().options.ok_or_else(missing)?;
        let named = NamedGroup::of(source_of(options.stream_option)?, options.group_name)?;
        let info = facade.groups().info(&facade.store, &named.name).await;
        let info = info.map_err(|error| refused(&named, error))?;
        let Some(face) = GroupFace::of(&info.group.settings) else {
            return Err(refused(&named, GroupError::NotFound));
        };
        let told = telling::told(&facade, &named, face, info).await?;
        Ok(Response::new(GetInfoResp { subscription_info: Some(told) }))
    }

    async fn replay_parked(
        &self,
        request: Request<ReplayParkedReq>,
    ) -> Result<Response<ReplayParkedResp>, Status> {
        let facade = self.0.of(&request).await?;
        let options = request.into_inner().options.ok_or_else(missing)?;
        let named = NamedGroup::of(source_of(options.stream_option)?, options.group_name)?;
        let through = match options.stop_at_option {
            Some(replay_parked_req::options::StopAtOption::StopAt(stop_at)) => {
                let stop_at = u64::try_from(stop_at);
                Version(stop_at.map_err(|_| Status::invalid_argument("stop_at is negative"))?)
            }
            _ => Version::END,
        };
        let group = facade.stored_group(&named).await?;
        facade.may_consume(&group.settings)?;
        let asked = facade.groups().replay(&facade.store, &named.name, through).await;
        asked.map_err(|error| refused(&named, error))?;
        Ok(Response::new(ReplayParkedResp {}))
    }

    async fn list(&self, request: Request<ListReq>) -> Result<Response<ListResp>, Status> {
        let facade = self.0.of(&request).await?;
        facade.may(Wish::ReadAll)?;
        let option = request.into_inner().options.and_then(|options| options.list_option);
        let wanted = match option {
            Some(ListOption::ListForStream(list_req::StreamOption { stream_option })) => {
                Some(source_of(stream_option)?)
            }
            Some(ListOption::ListAllSubscriptions(_)) => None,
            None => return Err(missing()),
        };
        let groups = facade.groups();
        let all = groups.all(&facade.store).await;
        let mut subscriptions = Vec::new();
        for (name, group) in all.map_err(|error| Status::unavailable(error.to_string()))? {
            let Some(face) = GroupFace::of(&group.settings) else { continue };
            let Some(named) = face.named() else { continue };
            if wanted.as_ref().is_some_and(|wanted| *wanted != named.source) {
                continue;
            }
            match groups.info_of(&facade.store, &name, group).await {
                Ok(info) => {
                    subscriptions.push(telling::told(&facade, &named, face, info).await?);
                }
                Err(error) => return Err(refused(&named, error)),
            }
        }
        match wanted {
            Some(source) if subscriptions.is_empty() => {
                Err(faults::group_missing(source.shown(), ""))
            }
            _ => Ok(Response::new(ListResp { subscriptions })),
        }
    }

    async fn restart_subsystem(&self, request: Request<Empty>) -> Result<Response<Empty>, Status> {
        let facade = self.to_administer(&request).await?;
        facade.groups().restart();
        Ok(Response::new(Empty {}))
    }
}
