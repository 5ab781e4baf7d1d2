//! The group that is being gathered: its bytes, and what it changes, which the next append's
//! condition must see.

use std::collections::HashMap;

use leftfold_core::store::{
    AppendError, Appended, CheckpointRecord, CommandId, Condition, Conflict, Fence, Hash, Leases,
    NewEvent, Outcome, Position, Query, ReadError, Version,
};

use crate::format::{
    Binding, GROUP_HEADER_BYTES, GroupHeader, NextRecord, moment, put_checkpoint, put_command,
    put_fences,
};
use crate::index::unreadable;
use crate::index::{Index, Memtable, PostingKey, Recent};
use crate::read::candidates;
use crate::segments::scan::{ChainState, place_of};
use crate::shared::SharedLog;
use crate::write::fences;
use crate::write::lease::QueuedLease;
use crate::write::precheck::{
    appended_nothing, checkpoint_position, consumer_key, judge_repeat, repeated,
};
use crate::write::request::{AppendRequest, Precheck, WriteRequest};

/// Consumers whose position the writer keeps at hand.
const CONSUMERS_KEPT: usize = 4_096;

/// A group that is being gathered.
#[derive(Debug)]
pub(crate) struct GroupBuilder {
    /// Room for the header, then the records.
    buffer: Vec<u8>,
    records: u32,
    /// Offset of each event in the segment.
    offsets: Vec<u32>,
    /// Every request that was judged, with the position of its first event if it went into the
    /// group.
    requests: Vec<(Position, WriteRequest)>,
    pending: Memtable,
    recent: Recent,
    chain: ChainState,
    time: i64,
    address: u64,
    binding: Binding,
    answers: Vec<(usize, Result<Outcome, AppendError>)>,
    /// Positions of consumers, the group included. Only the writer moves them, so they are never
    /// stale.
    consumers: HashMap<String, Position>,
    leases: Leases,
    /// The last fence that this opening may give by what stands in the log, the group included;
    /// `None` if it gave none.
    reserved: Option<Fence>,
}

impl GroupBuilder {
    pub(crate) fn new(index: &Index) -> Self {
        Self {
            buffer: Vec::new(),
            records: 0,
            offsets: Vec::new(),
            requests: Vec::new(),
            pending: index.pending(),
            recent: index.recent(),
            chain: ChainState { next: Position(1), hash: Hash::EMPTY, recorded_at: 0 },
            time: 0,
            address: 0,
            binding: Binding::Address,
            answers: Vec::new(),
            consumers: HashMap::new(),
            leases: Leases::default(),
            reserved: None,
        }
    }

    /// Begins a group that follows from a chain.
    pub(crate) fn begin(
        &mut self,
        shared: &SharedLog,
        chain: ChainState,
        time: i64,
        address: u64,
        binding: Binding,
    ) {
        self.buffer.clear();
        self.buffer.resize(GROUP_HEADER_BYTES, 0);
        self.records = 0;
        self.offsets.clear();
        debug_assert!(self.requests.is_empty(), "the group before was answered");
        self.pending.clear();
        self.recent = shared.index.recent();
        (self.chain, self.time, self.address, self.binding) = (chain, time, address, binding);
        if self.consumers.len() > CONSUMERS_KEPT {
            self.consumers.clear();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the number of appends that wait for the group, including those that are refused.
    pub(crate) fn appends(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    pub(crate) fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    pub(crate) fn pending(&mut self) -> &mut Memtable {
        &mut self.pending
    }

    /// Judges an append against everything before it, and takes it into the group if it may go in.
    pub(crate) fn add(&mut self, shared: &SharedLog, mut request: WriteRequest) {
        let first = self.next();
        let outcome = match &mut request {
            WriteRequest::Append(append) => self.add_append(shared, append),
            WriteRequest::Lease(lease) => {
                let judged = self.judge_lease(shared, lease);
                judged.map(|()| appended_nothing(shared.head())).map_err(AppendError::from)
            }
        };
        if self.is_empty() {
            // All that was seen is durable.
            let outcome = match outcome {
                Ok(Outcome::Appended(_)) => Ok(appended_nothing(shared.head())),
                other => other,
            };
            request.answer(&shared.figures, outcome);
        } else {
            self.answers.push((self.requests.len(), outcome));
        }
        self.requests.push((first, request));
    }

    fn add_append(
        &mut self,
        shared: &SharedLog,
        append: &mut AppendRequest,
    ) -> Result<Outcome, AppendError> {
        match self.judge(shared, append)? {
            Some(outcome) => Ok(outcome),
            None => Ok(Outcome::Appended(self.put(append))),
        }
    }

    /// The position that the next event gets.
    fn next(&self) -> Position {
        Position(self.chain.next.0 + self.offsets.len() as u64)
    }

    /// Returns the outcome of an append that is already decided, `None` if it may join the group;
    /// then its precheck has the current versions of its streams.
    fn judge(
        &self,
        shared: &SharedLog,
        request: &mut AppendRequest,
    ) -> Result<Option<Outcome>, AppendError> {
        let facts = &mut request.precheck;
        if let Some(command) = &request.command {
            if let Some(address) = self.pending.command(&command.id.0) {
                return judge_repeat(command, self.record_at(address), address).map(Some);
            }
            if let Some(address) = self.command(shared, facts, command.id)? {
                return repeated(shared, command, address).map(Some);
            }
        }
        self.leases.check(request.fence.as_ref())?;
        for (name, version) in &mut facts.streams {
            if let Some(now) = self.pending.version(name).or_else(|| self.recent.version(name)) {
                *version = now;
            } else if facts.at < self.recent.since().position {
                *version =
                    shared.index.stream_version(name, self.chain.last()).map_err(unreadable)?;
            }
        }
        if let Some(conflict) = self.conflict(shared, &request.condition, facts)? {
            return Ok(Some(Outcome::Conflict(conflict)));
        }
        if let Some(record) = &request.checkpoint {
            let proposed = record.checkpoint.position;
            let current = self.consumer(shared, facts, &consumer_key(record))?;
            if !record.from.allows(current, proposed) {
                let current = current.unwrap_or(Position::START);
                let (consumer, from) = (record.consumer.clone(), record.from);
                return Err(AppendError::CheckpointMoved { consumer, current, from, proposed });
            }
        }
        Ok(None)
    }

    /// Judges a request about a lease. Only fences that the log has reserved are given, and each
    /// opening begins behind the reserved ones: so no fence is ever given twice, even if the
    /// process that gave it crashed, or the clock is wrong.
    fn judge_lease(
        &mut self,
        shared: &SharedLog,
        lease: &mut QueuedLease,
    ) -> Result<(), ReadError> {
        if lease.takes() && self.reserved.is_none_or(|reserved| self.leases.last() >= reserved) {
            if self.reserved.is_none() {
                let recorded = fences::recorded(shared)?.unwrap_or_default();
                self.leases.go_beyond(recorded.max(fences::floor(shared, self.time)));
            }
            let reserved = fences::reserve(self.leases.last());
            let address = self.address_here();
            put_fences(&mut self.buffer, reserved);
            self.pending.add_checkpoint(fences::FENCES_KEY, address);
            self.records += 1;
            self.reserved = Some(reserved);
        }
        lease.judge(&mut self.leases);
        Ok(())
    }

    /// The bytes from the record at an address of this group on.
    fn record_at(&self, address: u64) -> &[u8] {
        let within = place_of(address).1.saturating_sub(place_of(self.address).1);
        self.buffer.get(within as usize..).unwrap_or(&[])
    }

    /// Returns the address of the record of a command that was durable before this group, `None` if
    /// there is none. Records without events do not move the head, so only facts from behind the
    /// point where memory begins are complete with what is in memory.
    fn command(
        &self,
        shared: &SharedLog,
        facts: &Precheck,
        id: CommandId,
    ) -> Result<Option<u64>, ReadError> {
        match self.recent.command(&id.0) {
            Some(address) => Ok(Some(address)),
            None if facts.at > self.recent.since().position => Ok(None),
            None => shared.index.command(&id.0).map_err(unreadable),
        }
    }

    fn consumer(
        &self,
        shared: &SharedLog,
        facts: &Precheck,
        consumer: &str,
    ) -> Result<Option<Position>, ReadError> {
        if let Some(position) = self.consumers.get(consumer) {
            return Ok(Some(*position));
        }
        let address = match self.recent.checkpoint(consumer.as_bytes()) {
            Some(address) => address,
            None if facts.at > self.recent.since().position => return Ok(facts.consumer),
            None => match shared.index.checkpoint(consumer.as_bytes()).map_err(unreadable)? {
                Some(address) => address,
                None => return Ok(None),
            },
        };
        checkpoint_position(&shared.segments.record_at(address)?, address).map(Some)
    }

    fn conflict(
        &self,
        shared: &SharedLog,
        condition: &Condition,
        facts: &Precheck,
    ) -> Result<Option<Conflict>, ReadError> {
        for ((stream, expected), slot) in condition.streams.iter().zip(&facts.of_expectations) {
            let actual = facts.streams[*slot as usize].1;
            if !expected.holds(actual) {
                return Ok(Some(Conflict::Stream {
                    stream: stream.clone(),
                    expected: *expected,
                    actual,
                }));
            }
        }
        for (clause, none) in condition.none_matching.iter().enumerate() {
            let seen = none.after.max(facts.at);
            let found = match facts.found {
                Some((failed, found)) if failed == clause => Some(found),
                // Up to where the facts are from nothing matched it.
                _ => match self.found_durable(shared, &none.query, seen)? {
                    Some(found) => Some(found),
                    None => self.found_pending(&none.query, seen),
                },
            };
            if let Some(found) = found {
                return Ok(Some(Conflict::Matching { clause, after: none.after, found }));
            }
        }
        Ok(None)
    }

    /// Returns the first durable event after a position that matches.
    fn found_durable(
        &self,
        shared: &SharedLog,
        query: &Query,
        seen: Position,
    ) -> Result<Option<Position>, ReadError> {
        let head = self.chain.last();
        if seen < self.recent.since().position {
            return candidates::first_match(shared, query, seen, head);
        }
        let mut after = seen;
        while let Some(at) =
            candidates::next_candidate(query, after, &|key: PostingKey<'_>, after| {
                self.recent.first_after(key, after)
            })
            && at <= head
        {
            if query.matches(&shared.segments.event_at(at)?) {
                return Ok(Some(at));
            }
            after = at;
        }
        Ok(None)
    }

    /// Returns the first event of this group after a position that matches.
    fn found_pending(&self, query: &Query, seen: Position) -> Option<Position> {
        let mut after = seen.max(self.chain.last());
        loop {
            let at = candidates::next_candidate(query, after, &|key: PostingKey<'_>, after| {
                self.pending.first_after(key, after)
            })?;
            let event = self.event(at)?;
            if query.matches_parts(&event.event_type, event.stream.as_ref(), &event.tags) {
                return Some(at);
            }
            after = at;
        }
    }

    /// An event of this group.
    fn event(&self, position: Position) -> Option<&NewEvent> {
        if position >= self.next() {
            return None;
        }
        // One that went in without events, or not at all, has the position of what came in after
        // it: the last one counts.
        let after = self.requests.partition_point(|(first, _)| *first <= position);
        let (first, WriteRequest::Append(request)) = self.requests.get(after.checked_sub(1)?)?
        else {
            return None;
        };
        request.events.get(usize::try_from(position.0 - first.0).ok()?)
    }

    /// Takes an append in that may go in.
    fn put(&mut self, request: &mut AppendRequest) -> Appended {
        let before = Position(self.next().0 - 1);
        let first = if request.events.is_empty() { before } else { before.next() };
        let count = request.events.len();
        let then = |more: bool| if more { NextRecord::SameAppend } else { NextRecord::Other };
        let mut versions = Vec::with_capacity(count);
        for (index, event) in request.events.iter().enumerate() {
            let version = match request.precheck.of_events[index] {
                Some(slot) => {
                    let (_, version) = &mut request.precheck.streams[slot as usize];
                    *version = version.next();
                    *version
                }
                None => Version::ABSENT,
            };
            let position = self.next();
            self.offsets.push(self.place());
            let next = then(
                index + 1 < count || request.command.is_some() || request.checkpoint.is_some(),
            );
            request.encoded.put(index, (position, version), self.time, next, &mut self.buffer);
            let stream = event.stream.as_ref().map(|name| (&**name, version));
            let id = event.id.as_ref().map(|id| id.0.as_bytes());
            self.pending.add_event(
                position,
                &event.event_type,
                stream,
                event.tags.iter().map(|tag| &**tag),
                id,
            );
            versions.push(version);
        }
        self.records += count as u32;
        if let Some(command) = &request.command {
            let address = self.address_here();
            let next = then(request.checkpoint.is_some());
            put_command(&mut self.buffer, command, self.time, first, count as u32, next);
            self.pending.add_command(&command.id.0, address);
            self.records += 1;
        }
        if let Some(record) = &request.checkpoint {
            self.put_consumer(record, consumer_key(record));
        }
        Appended { first, versions, recorded_at: moment(self.time) }
    }

    fn put_consumer(&mut self, record: &CheckpointRecord, key: String) {
        let address = self.address_here();
        put_checkpoint(&mut self.buffer, record);
        self.pending.add_checkpoint(key.as_bytes(), address);
        self.consumers.insert(key, record.checkpoint.position);
        self.records += 1;
    }

    /// Returns the offset of the next record in the segment.
    fn place(&self) -> u32 {
        (place_of(self.address).1 + self.buffer.len() as u64) as u32
    }

    fn address_here(&self) -> u64 {
        self.address + self.buffer.len() as u64
    }

    /// Completes the bytes of the group with its header.
    pub(crate) fn finish(&mut self) -> GroupHeader {
        let header = GroupHeader {
            body_bytes: (self.buffer.len() - GROUP_HEADER_BYTES) as u32,
            records: self.records,
            events: self.offsets.len() as u32,
            flags: 0,
            address: self.address,
            first: self.chain.next,
            recorded_at: self.time,
            hash: self.chain.hash,
        };
        self.buffer[..GROUP_HEADER_BYTES].copy_from_slice(&header.encode(&self.binding));
        header
    }

    /// The chain after the group.
    pub(crate) fn chain(&self, header: &GroupHeader) -> ChainState {
        ChainState {
            next: self.next(),
            hash: header.chain(&self.buffer[GROUP_HEADER_BYTES..]),
            recorded_at: self.time,
        }
    }

    /// Sends the answers, now that everything that they rest on is durable.
    pub(crate) fn answer(&mut self, shared: &SharedLog) {
        for (index, outcome) in self.answers.drain(..) {
            self.requests[index].1.answer(&shared.figures, outcome);
        }
        shared.answered.give(self.requests.drain(..).map(|(_, request)| request));
    }

    /// Gives the group up. Nothing of it is shown; who was told of it gets the error.
    pub(crate) fn fail(&mut self, shared: &SharedLog, error: &AppendError) {
        self.pending.clear();
        self.consumers.clear();
        // What it recorded of leases is not there; the fences that it gave are not given again.
        self.reserved = None;
        for (index, outcome) in self.answers.drain(..) {
            let told = match (&outcome, error) {
                // It changed nothing, but what it saw may never be there.
                (Ok(Outcome::Conflict(_)) | Err(_), AppendError::Unknown { detail }) => {
                    AppendError::ReadOnly { detail: detail.clone() }
                }
                _ => error.clone(),
            };
            self.requests[index].1.answer(&shared.figures, Err(told));
        }
        shared.answered.give(self.requests.drain(..).map(|(_, request)| request));
    }
}
