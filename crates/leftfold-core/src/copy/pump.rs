//! Copying: from the old store, through the function, into the new one.
//!
//! Every append that is handed over moves the copy's own checkpoint from exactly where the one
//! before left it, and is made on condition that nobody else wrote the new store. So many may be
//! under way at once: if one fails, all behind it fail, and what is there is always a beginning of
//! what should be. That checkpoint alone says how far the copy has come.

use std::collections::{HashMap, HashSet, VecDeque};

use super::error::CopyError;
use super::map::PositionMap;
use super::reader::{AppendReader, head_now};
use super::record::{CopyEvent, consumers, stream};
use super::state::{CopyState, consumer};
use super::translate::Translated;
use super::{CONSUMERS_MAX, Copy, Progress};
use crate::fold::Schema;
use crate::store::{
    Append, AppendError, Authority, Checkpoint, CheckpointRecord, Condition, Conflict, Hash, Head,
    Label, MoveFrom, NewEvent, Outcome, Partition, Pending, Position, Query, ReadError,
    RecordedAppend, StoreId, StreamName, SubscribeError, Version,
};

/// Appends, and bytes of them, that are under way at once.
const UNDER_WAY_MAX: usize = 256;
const UNDER_WAY_BYTES_MAX: usize = 8 << 20;
/// Streams whose version is kept at hand.
const VERSIONS_KEPT: usize = 1 << 16;

/// Copies for as long as nothing fails.
#[derive(Debug)]
pub(super) struct Pump<'c> {
    copy: &'c Copy,
    old: AppendReader,
    /// Checkpoint of the copy once everything under way has arrived.
    at: Checkpoint,
    /// Checkpoint up to which the old store was looked at: it may be beyond `at`, by events that
    /// were dropped.
    looked: Checkpoint,
    /// The end of the new store once everything under way has arrived.
    head: Position,
    map: PositionMap,
    /// The versions of streams that were written, with all that is under way.
    versions: HashMap<StreamName, Version>,
    consumers: HashSet<(Label, StoreId)>,
    under_way: VecDeque<AppendUnderWay>,
    under_way_bytes: usize,
}

#[derive(Debug)]
struct AppendUnderWay {
    answer: Pending<Outcome, AppendError>,
    /// Position that its first event must get; `None` if it has no events.
    first: Option<Position>,
    /// Effect of the append on the copy's checkpoint.
    moves: CheckpointMove,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckpointMove {
    On,
    Nowhere,
}

impl<'c> Pump<'c> {
    /// Goes on where the copy stands, or begins it.
    pub(super) async fn open(copy: &'c Copy) -> Result<Self, CopyError> {
        let state = match CopyState::load(copy).await? {
            Some(state) => state,
            None => begin(copy).await?,
        };
        if state.switched.is_some() {
            return Err(CopyError::Switched);
        }
        Ok(Self {
            copy,
            old: AppendReader::after(&copy.old, state.at.position),
            looked: state.at.clone(),
            at: state.at,
            head: copy.new.head().position,
            map: state.map,
            versions: HashMap::new(),
            consumers: state.consumers,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
        })
    }

    /// Copies what there is, and waits until it has arrived.
    pub(super) async fn run(&mut self) -> Result<Progress, CopyError> {
        let ran = async {
            while let Some(append) = self.old.next().await? {
                self.take(append).await?;
            }
            self.settle_all().await
        };
        let ran = ran.await;
        self.end(ran).await
    }

    /// Copies what there is and what comes, until `stop` is there.
    pub(super) async fn follow(
        &mut self,
        stop: impl Future<Output = ()>,
    ) -> Result<Progress, CopyError> {
        let mut status = self.copy.old.status();
        let ran = async {
            let mut stop = std::pin::pin!(stop);
            loop {
                status.mark_unchanged();
                let next = tokio::select! {
                    biased;
                    () = &mut stop => return self.settle_all().await,
                    next = self.old.next() => next?,
                };
                if let Some(append) = next {
                    self.take(append).await?;
                    continue;
                }
                self.settle_all().await?;
                tokio::select! {
                    () = &mut stop => return Ok(()),
                    changed = status.changed() => changed.map_err(|_| ReadError::Closed)?,
                }
            }
        };
        let ran = ran.await;
        self.end(ran).await
    }

    /// Copies the rest, and records the end: the rest of the map, the checkpoints of consumers, and
    /// that the copy is done.
    pub(super) async fn switch(&mut self) -> Result<Progress, CopyError> {
        self.run().await?;
        let ran = self.finish().await;
        self.end(ran).await
    }

    async fn finish(&mut self) -> Result<(), CopyError> {
        let end = self.old.head();
        if !self.map.pending.is_empty() {
            self.record_map().await?;
        }
        self.is_quiet(end).await?;
        let mut consumers: Vec<_> = self.consumers.iter().cloned().collect();
        consumers.sort_by(|a, b| (&a.0, a.1.0).cmp(&(&b.0, b.1.0)));
        for (consumer, source) in &consumers {
            self.carry_over(consumer, *source).await?;
        }
        self.is_quiet(end).await?;
        let (through, chain) = (self.looked.position.0, end.chain.to_string());
        let event =
            self.own(&CopyEvent::Switched { through, chain, consumers: consumers.len() as u64 })?;
        self.hand_over(Append::of(vec![event]), self.looked.clone()).await?;
        self.settle_all().await
    }

    /// Refuses an old store that was written since it was read to its end.
    async fn is_quiet(&self, end: Head) -> Result<(), CopyError> {
        let head = head_now(&self.copy.old, self.looked.position).await?;
        if (head.position, head.chain) == (end.position, end.chain) {
            return Ok(());
        }
        Err(CopyError::StillWritten { copied: self.looked.position, head: head.position })
    }

    /// Leaves nothing under way: a later call must find what is there.
    async fn end(&mut self, ran: Result<(), CopyError>) -> Result<Progress, CopyError> {
        for under_way in self.under_way.drain(..) {
            // What failed is reported already; those behind it fail with it.
            let _ = under_way.answer.await;
        }
        ran?;
        let old_head = self.copy.old.head().position;
        Ok(Progress { copied: self.looked.position, old_head, new_head: self.head })
    }

    async fn take(&mut self, append: RecordedAppend) -> Result<(), CopyError> {
        if let Some((consumer, checkpoint)) = &append.checkpoint {
            self.notice(consumer, checkpoint.store).await?;
        }
        let mut translated = self.copy.translation.translate(&append, &mut self.map).await?;
        let target = match append.events.is_empty() {
            true => self.looked.clone(),
            false => {
                Checkpoint { position: append.last(), hash: append.hash, ..self.looked.clone() }
            }
        };
        let mut next = self.head.next();
        if !translated.is_empty() {
            self.write(&mut translated, target.clone()).await?;
        }
        for (old, images, primary) in &translated.shares {
            self.map.pending.push(*old, next, *images, *primary);
            next = Position(next.0 + images);
        }
        self.looked = target;
        if self.map.pending.is_full() { self.record_map().await } else { Ok(()) }
    }

    /// Hands the events of an append over.
    async fn write(
        &mut self,
        translated: &mut Translated,
        target: Checkpoint,
    ) -> Result<(), CopyError> {
        if self.versions.len() > VERSIONS_KEPT {
            // What is not kept is asked of the store, which must have everything by then.
            self.settle_all().await?;
            self.versions.clear();
        }
        let mut versions = Vec::with_capacity(translated.events.len());
        for event in &translated.events {
            versions.push(match &event.stream {
                Some(stream) => self.version_after(stream).await?,
                None => Version::ABSENT,
            });
        }
        let command = translated.command(&versions);
        let events = std::mem::take(&mut translated.events);
        self.hand_over(Append { events, command, ..Append::default() }, target).await
    }

    /// The version that the next event of a stream gets.
    async fn version_after(&mut self, stream: &StreamName) -> Result<Version, CopyError> {
        if let Some(version) = self.versions.get_mut(stream) {
            *version = version.next();
            return Ok(*version);
        }
        // Nothing that is under way touches it, or it would be kept.
        let version = self.copy.new.version(stream.clone()).await?.next();
        self.versions.insert(stream.clone(), version);
        Ok(version)
    }

    /// Remembers that a consumer has a checkpoint, before anything of the append that moved it is
    /// copied.
    async fn notice(&mut self, consumer: &Label, source: StoreId) -> Result<(), CopyError> {
        let seen = (consumer.clone(), source);
        if **consumer == *super::record::COPY || self.consumers.contains(&seen) {
            return Ok(());
        }
        if self.consumers.len() >= CONSUMERS_MAX {
            return Err(CopyError::TooManyConsumers { limit: CONSUMERS_MAX });
        }
        let event =
            CopyEvent::ConsumerSeen { consumer: consumer.to_string(), source: source.to_string() };
        let event = Schema::of::<CopyEvent>()?
            .encode(&event)?
            .in_stream(consumers(self.copy.old.identity().store)?);
        self.hand_over(Append::of(vec![event]), self.looked.clone()).await?;
        self.consumers.insert(seen);
        Ok(())
    }

    async fn record_map(&mut self) -> Result<(), CopyError> {
        let event = self.own(&self.map.pending.event())?;
        self.hand_over(Append::of(vec![event]), self.looked.clone()).await?;
        // From now on it is looked up in the store.
        self.settle_all().await?;
        self.map.recorded();
        Ok(())
    }

    fn own(&self, event: &CopyEvent) -> Result<NewEvent, CopyError> {
        Ok(Schema::of::<CopyEvent>()?
            .encode(event)?
            .in_stream(stream(self.copy.old.identity().store)?))
    }

    async fn carry_over(&mut self, consumer: &Label, source: StoreId) -> Result<(), CopyError> {
        let (old, new) = (&self.copy.old, &self.copy.new);
        let Some(stands) = old.checkpoint_in(consumer.clone(), source).await? else {
            return Ok(());
        };
        let checkpoint = if source == old.identity().store {
            carried(self.copy, &mut self.map, stands).await?
        } else {
            stands
        };
        let record =
            CheckpointRecord { consumer: consumer.clone(), from: MoveFrom::Anywhere, checkpoint };
        match new
            .append(Append {
                checkpoint: Some(record),
                condition: self.alone(),
                authority: Authority::COPY,
                ..Append::default()
            })
            .await?
        {
            Outcome::Conflict(Conflict::Matching { found, .. }) => {
                Err(CopyError::Foreign { found })
            }
            _ => Ok(()),
        }
    }

    /// Returns the condition that nobody else wrote the new store.
    fn alone(&self) -> Condition {
        Condition::none_matching(Query::everything(), self.head)
    }

    async fn hand_over(&mut self, mut append: Append, target: Checkpoint) -> Result<(), CopyError> {
        let count = append.events.len() as u64;
        let bytes = append
            .events
            .iter()
            .map(|event| event.data.len() + event.metadata.user.len() + 256)
            .sum();
        while self.under_way.len() >= UNDER_WAY_MAX
            || self.under_way_bytes + bytes > UNDER_WAY_BYTES_MAX
        {
            if !self.settle_one().await? {
                break;
            }
        }
        let moves = if target == self.at { CheckpointMove::Nowhere } else { CheckpointMove::On };
        append.condition = self.alone();
        append.authority = Authority::COPY;
        let from = MoveFrom::Exactly(self.at.position);
        append.checkpoint =
            Some(CheckpointRecord { consumer: consumer()?, from, checkpoint: target.clone() });
        let answer = self.copy.new.append(append);
        self.under_way.push_back(AppendUnderWay {
            answer,
            first: (count > 0).then(|| self.head.next()),
            moves,
            bytes,
        });
        self.under_way_bytes += bytes;
        self.head = Position(self.head.0 + count);
        self.at = target;
        Ok(())
    }

    async fn settle_all(&mut self) -> Result<(), CopyError> {
        while self.settle_one().await? {}
        Ok(())
    }

    /// Waits for the oldest append that is under way, if there is one.
    async fn settle_one(&mut self) -> Result<bool, CopyError> {
        let Some(oldest) = self.under_way.front_mut() else { return Ok(false) };
        let answer = (&mut oldest.answer).await;
        let Some(AppendUnderWay { first, moves, bytes, .. }) = self.under_way.pop_front() else {
            return Ok(false);
        };
        self.under_way_bytes -= bytes;
        let overtaken = |detail: String| Err(CopyError::Overtaken { detail });
        match answer {
            Ok(Outcome::Appended(appended))
                if first.is_none_or(|first| first == appended.first) =>
            {
                Ok(true)
            }
            Ok(Outcome::Appended(appended)) => {
                overtaken(format!("an append went to position {}", appended.first))
            }
            // A request without events was copied before the copy was interrupted.
            Ok(Outcome::Repeated(_)) if first.is_none() && moves == CheckpointMove::Nowhere => {
                Ok(true)
            }
            Ok(Outcome::Repeated(again)) => {
                overtaken(format!("command {} was copied already", again.record.id))
            }
            Ok(Outcome::Conflict(Conflict::Matching { found, .. })) => {
                Err(CopyError::Foreign { found })
            }
            Ok(Outcome::Conflict(conflict)) => overtaken(conflict.to_string()),
            Err(error @ AppendError::CheckpointMoved { .. }) => overtaken(error.to_string()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The checkpoint of a consumer of the old store, as one of the new store. One that did not belong
/// to the old store does not belong to the new one either.
async fn carried(
    copy: &Copy,
    map: &mut PositionMap,
    stands: Checkpoint,
) -> Result<Checkpoint, CopyError> {
    let sound = match copy.old.verify(&stands).await {
        Ok(()) => true,
        Err(SubscribeError::Read(error)) => return Err(error.into()),
        Err(_) => false,
    };
    let position = if sound { map.image(stands.position).await?.through } else { stands.position };
    let hash =
        if sound { copy.new.hash_at(position).await?.unwrap_or(Hash::EMPTY) } else { stands.hash };
    Ok(Checkpoint { store: copy.new.identity().store, partition: stands.partition, position, hash })
}

/// Begins a copy in an empty store.
async fn begin(copy: &Copy) -> Result<CopyState, CopyError> {
    let old = copy.old.identity().store;
    let at = Checkpoint {
        store: old,
        partition: Partition::default(),
        position: Position::START,
        hash: Hash::EMPTY,
    };
    let began = CopyEvent::Began { old: old.to_string() };
    let event = Schema::of::<CopyEvent>()?.encode(&began)?.in_stream(stream(old)?);
    let from = MoveFrom::Exactly(Position::START);
    let append = Append {
        events: vec![event],
        condition: Condition::none_matching(Query::everything(), Position::START),
        checkpoint: Some(CheckpointRecord { consumer: consumer()?, from, checkpoint: at.clone() }),
        authority: Authority::COPY,
        ..Append::default()
    };
    match copy.new.append(append).await? {
        Outcome::Conflict(Conflict::Matching { found, .. }) => {
            return Err(CopyError::Foreign { found });
        }
        Outcome::Conflict(conflict) => {
            return Err(CopyError::Overtaken { detail: conflict.to_string() });
        }
        Outcome::Appended(_) | Outcome::Repeated(_) => {}
    }
    let epoch = copy.old.identity().epoch;
    if epoch.number > 1 {
        tracing::warn!(
            epoch = epoch.number,
            "the old store was restored from a copy: effects that its runtime has not \
            found in doubt yet are pending in the new one; run it once before the switch"
        );
    }
    let map = PositionMap::open(&copy.new, old).await?;
    Ok(CopyState { at, map, consumers: HashSet::new(), switched: None })
}
