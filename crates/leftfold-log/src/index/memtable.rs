//! The part of the index that is in memory. The same type is the writer's view of the group that it
//! gathers.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use leftfold_core::store::{Direction, Position, Version};

use super::PostingKey;
use super::key::{KeyKind, RawKey};

/// Entries in memory, unsorted.
///
/// Positions must be added in increasing order, versions of a stream without gaps; it panics
/// otherwise, because the index would be wrong forever. Made by
/// [`Index::pending`](super::Index::pending), so that all tables of one index share one hash seed:
/// a key is hashed once, in the group, and copied into the index without another allocation. The
/// hasher is foldhash with a random seed: keys come from users, who must not be able to choose ones
/// that collide; nothing outside sees the hashes or their order.
#[derive(Debug)]
pub(crate) struct Memtable {
    hasher: DefaultHashBuilder,
    /// Index in `slots` of each key.
    table: HashTable<u32>,
    /// In the order in which the keys came.
    slots: Vec<KeySlot>,
    /// The bytes of all keys, kind first, one after the other.
    keys: Vec<u8>,
    /// Snapshots; a slot says which one is its own.
    values: Vec<Bytes>,
    value_bytes: usize,
    /// Positions in `later` of all slots.
    later: usize,
    /// Of the first and last event.
    positions: Option<(u64, u64)>,
    /// Slots of records that were put in, not taken over: they are shown later than the lists.
    records: Vec<u32>,
}

/// Content of one key.
#[derive(Debug)]
struct KeySlot {
    hash: u64,
    key_start: u32,
    key_len: u32,
    /// The first position; of a command or a consumer, the address.
    first: u64,
    /// Of a stream, the version of the first position; of a snapshot, which value.
    ordinal: u64,
    /// The positions after the first, as distances from it: half the bytes of positions, and a
    /// table never spans more (see [`Memtable::is_over`]).
    later: Vec<u32>,
}

/// Range of positions, and bytes of keys, above which a table counts as full, whatever its budget.
const SPAN_MAX: u64 = 1 << 31;

impl Memtable {
    pub(super) fn new(hasher: DefaultHashBuilder) -> Self {
        Self {
            hasher,
            table: HashTable::new(),
            slots: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
            value_bytes: 0,
            later: 0,
            positions: None,
            records: Vec::new(),
        }
    }

    /// Adds an event: its type, its stream and the category of that, its tags, and the id that its
    /// caller brought.
    pub(crate) fn add_event<'a>(
        &mut self,
        position: Position,
        event_type: &str,
        stream: Option<(&str, Version)>,
        tags: impl IntoIterator<Item = &'a str>,
        id: Option<&[u8; 16]>,
    ) {
        let Position(position) = position;
        if let Some((_, last)) = self.positions {
            assert!(
                position > last,
                "positions are added in increasing order, {position} came after {last}"
            );
        }
        self.positions = Some((self.positions.map_or(position, |(first, _)| first), position));
        self.post(PostingKey::Type(event_type), position, 0);
        if let Some((name, version)) = stream {
            self.post(PostingKey::Stream(name), position, version.0);
            let category = name.split_once('-').map_or(name, |(category, _)| category);
            self.post(PostingKey::Category(category), position, 0);
        }
        for tag in tags {
            self.post(PostingKey::Tag(tag), position, 0);
        }
        if let Some(id) = id {
            self.post(PostingKey::EventId(id), position, 0);
        }
    }

    /// Adds the address of a command record.
    pub(crate) fn add_command(&mut self, id: &[u8; 16], address: u64) {
        self.put(RawKey::command(id), address);
    }

    /// Adds the address of a checkpoint record, which is the latest under its key from now on: the
    /// key has the consumer, and the store and partition that it follows, as the caller writes
    /// them.
    pub(crate) fn add_checkpoint(&mut self, consumer: &[u8], address: u64) {
        self.put(RawKey::consumer(consumer), address);
    }

    /// Adds a cached value, which replaces one under the same key.
    pub(crate) fn put_snapshot(&mut self, key: &[u8], value: Bytes) {
        let key = RawKey::snapshot(key);
        let (index, new) = self.slot(key.kind, key.bytes, self.hash(key));
        self.set_value(index, new, value);
    }

    /// Tells whether the table has no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Drops what was added: a group that was given up.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.slots.clear();
        self.keys.clear();
        self.values.clear();
        self.value_bytes = 0;
        self.later = 0;
        self.positions = None;
        self.records.clear();
    }

    /// The version of a stream after what was added; `None` if none of its events was.
    pub(crate) fn version(&self, stream: &str) -> Option<Version> {
        self.version_through(stream, Position::END)
    }

    /// The first position after `after` in the list of a key.
    pub(crate) fn first_after(&self, key: PostingKey<'_>, after: Position) -> Option<Position> {
        self.find(key.into())?.from(after.0.checked_add(1)?).next().map(Position)
    }

    /// The address of a command record.
    pub(crate) fn command(&self, id: &[u8; 16]) -> Option<u64> {
        self.find(RawKey::command(id)).map(|slot| slot.first)
    }

    /// The address of a consumer's latest checkpoint record.
    pub(crate) fn checkpoint(&self, consumer: &[u8]) -> Option<u64> {
        self.find(RawKey::consumer(consumer)).map(|slot| slot.first)
    }

    pub(super) fn snapshot(&self, key: &[u8]) -> Option<Bytes> {
        self.find(RawKey::snapshot(key)).map(|slot| self.values[slot.ordinal as usize].clone())
    }

    /// The version of a stream after its events up to and including `through`, if one of them is
    /// here.
    pub(super) fn version_through(&self, stream: &str, through: Position) -> Option<Version> {
        let slot = self.find(PostingKey::Stream(stream).into())?;
        let count = slot.count_through(through.0);
        (count > 0).then(|| Version(slot.ordinal + count as u64 - 1))
    }

    /// Returns the position of the event of this version, `None` if it is not in this table.
    pub(super) fn position_of(&self, stream: &str, version: Version) -> Option<Position> {
        let slot = self.find(PostingKey::Stream(stream).into())?;
        let index = usize::try_from(version.0.checked_sub(slot.ordinal)?).ok()?;
        slot.nth(index).map(Position)
    }

    /// Up to `count_max` positions of a key: forwards from `bound`, or backwards from it, in that
    /// order.
    pub(super) fn positions(
        &self,
        key: RawKey<'_>,
        bound: u64,
        direction: Direction,
        count_max: usize,
        out: &mut Vec<u64>,
    ) {
        let Some(slot) = self.find(key) else { return };
        match direction {
            Direction::Forwards => out.extend(slot.from(bound).take(count_max)),
            Direction::Backwards => {
                let count = slot.count_through(bound);
                let indexes = (count.saturating_sub(count_max)..count).rev();
                out.extend(indexes.filter_map(|index| slot.nth(index)));
            }
        }
    }

    /// Returns the approximate bytes of memory that the table takes.
    pub(super) fn bytes(&self) -> usize {
        // A slot with its place in the table, and the slack of growing vectors.
        let slots = self.slots.len() * (size_of::<KeySlot>() + 16);
        slots + self.keys.len() * 5 / 4 + self.later * 6 + self.value_bytes
    }

    /// Tells whether the table is full: over its budget, or near the limit of its offsets.
    pub(super) fn is_over(&self, budget_bytes: usize) -> bool {
        let span = self.positions.map_or(0, |(first, last)| last - first);
        self.bytes() > budget_bytes || span > SPAN_MAX || self.keys.len() as u64 > SPAN_MAX
    }

    /// Returns the number of keys; they are numbered in the order in which they came.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Some of the keys, kind first.
    pub(super) fn keys(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        self.slots[range].iter().map(|slot| self.key_of(slot))
    }

    /// All entries, sorted by key.
    pub(super) fn sorted(&self) -> impl Iterator<Item = Sorted<'_>> {
        let mut order: Vec<&KeySlot> = self.slots.iter().collect();
        order.sort_unstable_by(|a, b| self.key_of(a).cmp(self.key_of(b)));
        order.into_iter().map(|slot| {
            let key = self.key_of(slot);
            let value = match KeyKind::of(key) {
                Some(KeyKind::Snapshot) => Value::Bytes(&self.values[slot.ordinal as usize]),
                Some(KeyKind::Command | KeyKind::Consumer) => Value::Address(slot.first),
                _ => Value::Positions { ordinal: slot.ordinal, positions: slot.from(0).collect() },
            };
            Sorted { key, value }
        })
    }

    /// Takes some of the entries of a newer table over, but for records; to be called for all of
    /// them, in order.
    pub(super) fn absorb(&mut self, group: &mut Self, range: Range<usize>) {
        if let Some((first, last)) = group.positions {
            self.positions = Some((self.positions.map_or(first, |(first, _)| first), last));
        }
        for slot in &mut group.slots[range] {
            let raw = &group.keys[slot.key_start as usize..][..slot.key_len as usize];
            // Invariant: a slot is made with a key that begins with its kind.
            let kind = KeyKind::of(raw).expect("every key in a table begins with its kind");
            if matches!(kind, KeyKind::Command | KeyKind::Consumer) {
                continue;
            }
            let (index, new) = self.slot(kind, &raw[1..], slot.hash);
            match kind {
                KeyKind::Snapshot => {
                    self.set_value(index, new, group.values[slot.ordinal as usize].clone())
                }
                _ if new => {
                    let own = &mut self.slots[index];
                    (own.first, own.ordinal) = (slot.first, slot.ordinal);
                    own.later = std::mem::take(&mut slot.later);
                    self.later += own.later.len();
                }
                _ => {
                    let own = &mut self.slots[index];
                    if kind == KeyKind::Stream {
                        own.check_next(slot.ordinal);
                    }
                    let distance = slot.first - own.first;
                    let later = slot.later.iter().map(|&later| distance + u64::from(later));
                    std::iter::once(distance).chain(later).for_each(|distance| own.push(distance));
                    self.later += 1 + slot.later.len();
                }
            }
        }
    }

    /// Takes over the addresses of the records of commands and consumers from a newer table.
    pub(super) fn absorb_records(&mut self, group: &Self) {
        for slot in group.records.iter().map(|index| &group.slots[*index as usize]) {
            let raw = group.key_of(slot);
            // Invariant: a slot is made with a key that begins with its kind.
            let kind = KeyKind::of(raw).expect("every key in a table begins with its kind");
            let (index, _) = self.slot(kind, &raw[1..], slot.hash);
            self.slots[index].first = slot.first;
        }
    }

    fn post(&mut self, key: PostingKey<'_>, position: u64, ordinal: u64) {
        let key = RawKey::from(key);
        let (index, new) = self.slot(key.kind, key.bytes, self.hash(key));
        let slot = &mut self.slots[index];
        if new {
            (slot.first, slot.ordinal) = (position, ordinal);
            return;
        }
        if slot.last() == position {
            // The same tag twice on one event says it once.
            return;
        }
        if key.kind == KeyKind::Stream {
            slot.check_next(ordinal);
        }
        slot.push(position - slot.first);
        self.later += 1;
    }

    fn put(&mut self, key: RawKey<'_>, address: u64) {
        let (index, new) = self.slot(key.kind, key.bytes, self.hash(key));
        self.slots[index].first = address;
        if new {
            self.records.push(index as u32);
        }
    }

    fn set_value(&mut self, index: usize, new: bool, value: Bytes) {
        self.value_bytes += value.len();
        if new {
            self.slots[index].ordinal = self.values.len() as u64;
            self.values.push(value);
        } else {
            let old =
                std::mem::replace(&mut self.values[self.slots[index].ordinal as usize], value);
            self.value_bytes -= old.len();
        }
    }

    fn hash(&self, key: RawKey<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u8(key.kind as u8);
        hasher.write(key.bytes);
        hasher.finish()
    }

    fn key_of(&self, slot: &KeySlot) -> &[u8] {
        &self.keys[slot.key_start as usize..][..slot.key_len as usize]
    }

    fn find(&self, key: RawKey<'_>) -> Option<&KeySlot> {
        let same = |&index: &u32| {
            let slot = &self.slots[index as usize];
            key.is(self.key_of(slot))
        };
        self.table.find(self.hash(key), same).map(|&index| &self.slots[index as usize])
    }

    /// The slot of a key, and whether it was made just now.
    fn slot(&mut self, kind: KeyKind, bytes: &[u8], hash: u64) -> (usize, bool) {
        let (slots, keys) = (&self.slots, &self.keys);
        let key = RawKey { kind, bytes };
        let same = |&index: &u32| {
            let slot = &slots[index as usize];
            slot.hash == hash && key.is(&keys[slot.key_start as usize..][..slot.key_len as usize])
        };
        if let Some(&index) = self.table.find(hash, same) {
            return (index as usize, false);
        }
        let index = self.slots.len();
        // Invariant: the writer makes room before a group, so a table has at most `SPAN_MAX` and
        // one group of keys.
        let narrow = |number: usize| {
            u32::try_from(number).expect("a table is frozen before its offsets overflow")
        };
        let key_start = narrow(self.keys.len());
        self.keys.push(kind as u8);
        self.keys.extend_from_slice(bytes);
        let key_len = narrow(1 + bytes.len());
        self.slots.push(KeySlot {
            hash,
            key_start,
            key_len,
            first: 0,
            ordinal: 0,
            later: Vec::new(),
        });
        let slots = &self.slots;
        self.table.insert_unique(hash, narrow(index), |&index| slots[index as usize].hash);
        (index, true)
    }
}

/// One key and all that a table knows of it.
#[derive(Debug)]
pub(super) struct Sorted<'a> {
    /// Kind first.
    pub(super) key: &'a [u8],
    pub(super) value: Value<'a>,
}

/// Content of a key.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Positions { ordinal: u64, positions: Vec<u64> },
    Address(u64),
    Bytes(&'a [u8]),
}

impl KeySlot {
    fn len(&self) -> usize {
        1 + self.later.len()
    }

    fn nth(&self, index: usize) -> Option<u64> {
        match index {
            0 => Some(self.first),
            _ => self.later.get(index - 1).map(|&later| self.first + u64::from(later)),
        }
    }

    fn last(&self) -> u64 {
        self.first + self.later.last().copied().map_or(0, u64::from)
    }

    /// The positions at and after `bound`.
    fn from(&self, bound: u64) -> impl Iterator<Item = u64> {
        let skipped = bound.checked_sub(1).map_or(0, |through| self.count_through(through));
        (skipped..self.len()).filter_map(|index| self.nth(index))
    }

    fn count_through(&self, through: u64) -> usize {
        match through.checked_sub(self.first) {
            None => 0,
            Some(distance) => 1 + self.later.partition_point(|&later| u64::from(later) <= distance),
        }
    }

    fn push(&mut self, distance: u64) {
        // Invariant: a table counts as full at `SPAN_MAX` positions, half of what fits.
        let distance =
            u32::try_from(distance).expect("a table is frozen before its positions overflow");
        assert!(
            self.later.last().copied().unwrap_or(0) < distance,
            "positions are added in increasing order"
        );
        self.later.push(distance);
    }

    fn check_next(&self, version: u64) {
        let expected = self.ordinal + self.len() as u64;
        assert_eq!(version, expected, "versions of a stream are added without gaps");
    }
}
