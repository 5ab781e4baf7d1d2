//! Unfinished work of a process when its runner begins.

use super::instance::{InstanceReader, category};
use super::orders::Orders;
use super::parking::UnreadableRecord;
use super::record::{ParkedRecord, ProcessEvent, ReactionRecord, StoredCause};
use super::timers::ProcessTimers;
use crate::fold::LoadError;
use crate::store::{Position, Query, Read, RecordedEvent, Timestamp};

/// Work that a process has still to do.
pub(super) struct Unfinished {
    /// The commands that may not have been carried out.
    pub(super) orders: Orders,
    pub(super) timers: ProcessTimers,
    /// Records that cannot be read.
    pub(super) unreadable: Vec<UnreadableRecord>,
}

impl Unfinished {
    /// Loads the unfinished work from the log: the commands of every reaction after the mark that
    /// the last one bears, and the timers from its other mark on.
    pub(super) async fn load(
        archive: &InstanceReader,
        process: &'static str,
        now: Timestamp,
        near_max: usize,
    ) -> Result<Self, LoadError> {
        let own = Query::category(category(process));
        let mut records =
            archive.store.read(Read::matching(own.clone(), Position::END).backwards().page_of(16));
        // Where it never reacted, no timer was set.
        let (mut carried, mut fired_before) = (Position::START, now);
        'looking: while let Some(page) = records.page().await? {
            for record in page {
                if let Ok(ProcessEvent::Reacted(reacted)) = archive.own(&record) {
                    (carried, fired_before) =
                        (Position(reacted.carried), Timestamp::from_micros(reacted.fired_before));
                    break 'looking;
                }
            }
        }
        let (mut orders, mut unreadable) = (Orders::new(process), Vec::new());
        let mut timers = ProcessTimers::from(process, fired_before, near_max);
        let mut records = archive.store.read(Read::matching(own, carried.next()));
        while let Some(record) = records.next().await? {
            match archive.own(&record) {
                Ok(ProcessEvent::Reacted(reacted)) => {
                    // What was refused is concluded with the reaction to that.
                    orders.conclude(&reacted.cause);
                    take_orders(&mut orders, &record, &reacted);
                }
                Ok(ProcessEvent::Parked(ParkedRecord { cause, .. })) => orders.conclude(&cause),
                // It could not be read when its commands and timers were to be known.
                Ok(ProcessEvent::Unparked { cause: StoredCause::Record { position } }) => {
                    if let Some(record) = archive.event_at(Position(position)).await?
                        && let Ok(ProcessEvent::Reacted(reacted)) = archive.own(&record)
                    {
                        take_orders(&mut orders, &record, &reacted);
                        reacted
                            .near(key_of(&record), record.position)
                            .for_each(|timer| timers.set(timer));
                    }
                }
                Ok(ProcessEvent::Skipped { .. } | ProcessEvent::Unparked { .. }) => {}
                Err(why) => unreadable.extend(UnreadableRecord::new(process, &record, &why)),
            }
        }
        Ok(Self { orders, timers, unreadable })
    }
}

/// The key of the instance whose record it is.
fn key_of(record: &RecordedEvent) -> &str {
    record.stream.as_ref().map_or("", |at| at.name.id())
}

fn take_orders(orders: &mut Orders, record: &RecordedEvent, reacted: &ReactionRecord) {
    let at = (record.position, record.version());
    orders.take(key_of(record), reacted, at, &record.metadata);
}
