//! Where one kind of effect stands in the log: a checkpoint, and the effects before it that are
//! still open.

use serde::{Deserialize, Serialize};

use super::ledger::{Ledger, LedgerEvent};
use super::{Begin, EffectId};
use crate::fold::{Event, Schema, Unknown};
use crate::runtime::consumer::backoff::EFFECT_BEGINNING;
use crate::runtime::positions::{self, Owner, Positions, RewriteError, no_label};
use crate::runtime::{Host, StartFault};
use crate::store::{
    Append, AppendError, Authority, CheckpointRecord, Fence, Label, MoveFrom, NewEvent, Outcome,
    Position, Query, Read, RecordedEvent, Store, StreamName, SubscribeError, Version,
};

/// Fact recorded with a checkpoint, as `$effects.…` in the stream `$effects-NAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum MarkEvent {
    /// Everything up to `through` is concluded, but for the effects at these positions.
    LeftOpen { through: u64, positions: Vec<u64> },
}

impl Event for MarkEvent {
    const NAMESPACE: &'static str = "$effects";
}

/// Marks in a copy of the store.
pub(in crate::runtime) const OWNER: Owner =
    Owner { category: MarkEvent::NAMESPACE, rewrite, label: no_label };

fn rewrite(
    record: &RecordedEvent,
    positions: &dyn Positions,
) -> Result<Option<NewEvent>, RewriteError> {
    let rewritten = positions::changed(
        record,
        |MarkEvent::LeftOpen { through, positions: open }: &mut MarkEvent| {
            *through = positions.through(Position(*through)).0;
            *open = open
                .iter()
                .filter_map(|position| positions.event(Position(*position)))
                .map(|position| position.0)
                .collect();
        },
    )?;
    Ok(Some(rewritten))
}

/// Number of marks that are searched for one that can be read.
const MARKS_LOOKED_AT: u32 = 16;
/// Number of tries to record the beginning of an effect.
const BEGINNINGS_MAX: u32 = 100;

/// Progress of a kind of effect.
#[derive(Debug)]
pub(super) struct EffectMark {
    name: &'static str,
    consumer: Label,
    stream: StreamName,
    /// Position that the store knows.
    pub(super) through: Position,
    /// Effects up to there that were open.
    pub(super) left_open: Vec<EffectId>,
}

impl EffectMark {
    /// Reads the progress of the effect. An effect that is new to the store begins as `begins`
    /// says, and that is recorded before anything else: otherwise a crash would move its beginning.
    pub(super) async fn new(
        host: &Host,
        name: &'static str,
        intents: &Query,
        begins: Begin,
        at_once: u32,
    ) -> Result<Self, StartFault> {
        let store = &host.store;
        let consumer = Label::new(format!("$effect:{name}"))?;
        let stream = StreamName::of("$effects", name)?;
        let mut mark =
            Self { name, consumer, stream, through: Position::START, left_open: Vec::new() };
        for tries in 1..=BEGINNINGS_MAX {
            if mark.read(store).await? {
                return Ok(mark);
            }
            let from = match begins {
                Begin::Now if !mark.was_at_work(store, intents, at_once).await? => {
                    store.head().position
                }
                Begin::Now | Begin::History => Position::START,
            };
            let checkpoint = store.checkpoint_at(from).await?;
            let from = MoveFrom::Exactly(Position::START);
            let record = CheckpointRecord { consumer: mark.consumer.clone(), from, checkpoint };
            let append = Append {
                checkpoint: Some(record),
                authority: Authority::RUNTIME,
                ..Append::default()
            };
            match store.append(append).await {
                // Others may have been faster, and what is recorded counts.
                Ok(_) | Err(AppendError::CheckpointMoved { .. } | AppendError::Unknown { .. }) => {}
                // There will be room in a moment.
                Err(AppendError::Busy { .. }) if tries < BEGINNINGS_MAX => {
                    let again_at = host.clock.now().plus(EFFECT_BEGINNING.first);
                    host.clock.sleep_until(again_at).await;
                }
                Err(error) => return Err(StartFault::Beginning(error.to_string())),
            }
        }
        Err(StartFault::Beginning("it was written, but cannot be read".to_owned()))
    }

    /// Reads it again: others may have moved it. Whether there is one.
    pub(super) async fn read(&mut self, store: &Store) -> Result<bool, SubscribeError> {
        let Some(checkpoint) = store.checkpoint(self.consumer.clone()).await? else {
            return Ok(false);
        };
        store.verify(&checkpoint).await?;
        (self.through, self.left_open) = (checkpoint.position, Vec::new());
        let read =
            Read::stream(self.stream.clone(), Version::END).backwards().page_of(MARKS_LOOKED_AT);
        let schema = Schema::of::<MarkEvent>();
        for (index, event) in store.page(read).await?.events.into_iter().enumerate() {
            let decoded = schema
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|schema| schema.decode(&event, Unknown::Refuse));
            match decoded.map(|said| said.into_iter().last()) {
                // Where none was open, further checkpoints came without a record.
                Ok(Some(MarkEvent::LeftOpen { positions, .. }))
                    if index == 0 && positions.is_empty() =>
                {
                    return Ok(true);
                }
                Ok(Some(MarkEvent::LeftOpen { through, positions })) => {
                    self.left_open = positions
                        .into_iter()
                        .map(|position| EffectId(Position(position)))
                        .collect();
                    // An older one is as good: more is read again.
                    self.through = self.through.min(Position(through));
                    return Ok(true);
                }
                Ok(None) => {}
                Err(error) => {
                    let at = event.position;
                    tracing::error!(effect = self.name, %at, %error, "which effects were open cannot be read, an older record is taken");
                }
            }
        }
        Ok(true)
    }

    /// Tells whether an earlier release, which recorded no beginning, has carried out the effect
    /// here: it took up intents from the first one on.
    async fn was_at_work(
        &self,
        store: &Store,
        intents: &Query,
        at_once: u32,
    ) -> Result<bool, StartFault> {
        let first = Read::matching(intents.clone(), Position(1)).page_of(at_once);
        for event in store.page(first).await?.events {
            let ledger = Ledger::stream(EffectId(event.position))?;
            let opened = store.page(Read::stream(ledger, Version(1)).page_of(1)).await?.events;
            let schema = Schema::of::<LedgerEvent>()?;
            for said in opened
                .iter()
                .filter_map(|event| schema.decode::<LedgerEvent>(event, Unknown::Refuse).ok())
                .flatten()
            {
                if matches!(said, LedgerEvent::AttemptOpened { effect, .. } if effect == self.name)
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Records that everything up to a position is concluded, but for these. A hint for the next
    /// start: without it more is read.
    pub(super) async fn save(
        &mut self,
        store: &Store,
        fence: Option<(Label, Fence)>,
        through: Position,
        open: Vec<EffectId>,
    ) -> Result<(), String> {
        if through <= self.through {
            return Ok(());
        }
        let detail = |error: &dyn std::error::Error| error.to_string();
        let checkpoint = store.checkpoint_at(through).await.map_err(|error| detail(&error))?;
        let record = CheckpointRecord {
            consumer: self.consumer.clone(),
            from: MoveFrom::Earlier,
            checkpoint,
        };
        let mut append = Append {
            checkpoint: Some(record),
            fence,
            authority: Authority::RUNTIME,
            ..Append::default()
        };
        if !(open.is_empty() && self.left_open.is_empty()) {
            let positions = open.iter().map(|id| id.0.0).collect();
            let event = MarkEvent::LeftOpen { through: through.0, positions };
            let schema = Schema::of::<MarkEvent>().map_err(|error| detail(&error))?;
            let event = schema.encode(&event).map_err(|error| detail(&error))?;
            append.events.push(event.in_stream(self.stream.clone()));
        }
        if let Outcome::Appended(_) = store.append(append).await.map_err(|error| detail(&error))? {
            (self.through, self.left_open) = (through, open);
        }
        Ok(())
    }
}
