//! The index in its shortest form: maps of vectors, and the groups to build another one from.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;
use leftfold_core::store::{Direction, Hash, Position, Version};

use crate::index::{Covered, Index, IndexError, ListError, Memtable, PostingKey};

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) groups: Vec<Group>,
    lists: BTreeMap<Owned, Vec<u64>>,
    commands: BTreeMap<[u8; 16], u64>,
    consumers: BTreeMap<Vec<u8>, u64>,
    /// All values that were ever kept, the newest last.
    snapshots: BTreeMap<Vec<u8>, Vec<Bytes>>,
    events: u64,
    records: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    events: Vec<Event>,
    commands: Vec<([u8; 16], u64)>,
    consumers: Vec<(Vec<u8>, u64)>,
    pub(super) covered: Covered,
}

#[derive(Clone, Debug)]
struct Event {
    position: u64,
    event_type: String,
    stream: Option<(String, u64)>,
    tags: Vec<String>,
    id: Option<[u8; 16]>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owned {
    Stream(String),
    Category(String),
    Type(String),
    Tag(String),
    Id([u8; 16]),
}

impl Owned {
    fn key(&self) -> PostingKey<'_> {
        match self {
            Self::Stream(name) => PostingKey::Stream(name),
            Self::Category(name) => PostingKey::Category(name),
            Self::Type(name) => PostingKey::Type(name),
            Self::Tag(name) => PostingKey::Tag(name),
            Self::Id(id) => PostingKey::EventId(id),
        }
    }
}

fn id(number: u64) -> [u8; 16] {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id
}

impl Model {
    pub(super) fn covered(&self) -> Covered {
        self.groups.last().map_or(Covered::NONE, |group| group.covered)
    }

    pub(super) fn add_group(&mut self, rng: &mut Rng) -> &Group {
        let mut group = Group {
            events: Vec::new(),
            commands: Vec::new(),
            consumers: Vec::new(),
            covered: Covered::NONE,
        };
        let names = if rng.u8(..) < 100 { 3 } else { 60 };
        for _ in 0..rng.u64(0..60) {
            let event = self.event(rng, names);
            group.events.push(event);
        }
        for _ in 0..rng.u64(0..4) {
            self.records += 1;
            let command = id(rng.u64(..1_000));
            self.commands.insert(command, self.records);
            group.commands.push((command, self.records));
            let consumer = format!("consumer {}\0", rng.u64(..5)).into_bytes();
            self.consumers.insert(consumer.clone(), self.records);
            group.consumers.push((consumer, self.records));
        }
        self.records += 1;
        let hash = Hash([self.records as u8; 32]);
        group.covered = Covered { position: Position(self.events), address: self.records, hash };
        self.groups.push(group);
        self.groups.last().unwrap()
    }

    fn event(&mut self, rng: &mut Rng, names: u64) -> Event {
        self.events += 1;
        let position = self.events;
        let event_type = format!("test.Type{}", rng.u64(..3));
        let mut keys = vec![Owned::Type(event_type.clone())];
        let stream = (rng.u8(..) < 220).then(|| {
            let name = if rng.u8(..) < 20 {
                "alone".to_owned()
            } else {
                format!("kind{}-{}", rng.u64(..2), rng.u64(..names))
            };
            let category = name.split('-').next().unwrap().to_owned();
            keys.extend([Owned::Stream(name.clone()), Owned::Category(category)]);
            let version = self.lists.get(&keys[1]).map_or(0, Vec::len) as u64 + 1;
            (name, version)
        });
        let tags: Vec<String> =
            (0..rng.u64(..3)).map(|_| format!("tag:{}", rng.u64(..names))).collect();
        keys.extend(tags.iter().cloned().map(Owned::Tag));
        let brought = (rng.u8(..) < 30).then(|| id(rng.u64(..60)));
        keys.extend(brought.map(Owned::Id));
        for key in keys {
            let list = self.lists.entry(key).or_default();
            if list.last() != Some(&position) {
                list.push(position);
            }
        }
        Event { position, event_type, stream, tags, id: brought }
    }

    pub(super) fn keep_snapshot(&mut self, rng: &mut Rng, index: &Index) {
        let key = format!("fold {}", rng.u64(..20)).into_bytes();
        let len = if rng.u8(..) < 20 { 20_000 } else { 40 };
        let value = Bytes::from(vec![rng.u8(..); rng.usize(..len)]);
        index.keep_snapshot(&key, value.clone());
        self.snapshots.entry(key).or_default().push(value);
    }

    /// Brings an index up to date that covers less.
    pub(super) fn replay(&self, index: &Index, covered: Covered) {
        let mut pending = index.pending();
        for group in self.groups.iter().filter(|group| group.covered.address > covered.address) {
            index.make_room().unwrap();
            group.insert(index, &mut pending);
        }
    }

    /// Forgets snapshots that the index has lost, which it may; what it has, it was given.
    pub(super) fn forget_lost_snapshots(&mut self, index: &Index) {
        for (key, values) in &mut self.snapshots {
            match index.snapshot(key).unwrap() {
                None => values.clear(),
                Some(value) => {
                    let known = values
                        .iter()
                        .rposition(|other| *other == value)
                        .expect("a snapshot that nobody kept");
                    values.truncate(known + 1);
                }
            }
        }
    }

    /// Compares every lookup. Damage may be reported where it is allowed; nothing else may differ.
    pub(super) fn check(&self, index: &Index, rng: &mut Rng) -> Result<(), IndexError> {
        for (key, list) in &self.lists {
            self.check_list(index, key, list, rng)?;
        }
        assert_eq!(index.stream_version("kind0-", Position::END)?, Version::ABSENT);
        assert_eq!(index.first_after(PostingKey::Tag("tag:"), Position::START)?, None);
        assert_eq!(index.command(&[9; 16])?, None);
        for (command, address) in &self.commands {
            assert_eq!(index.command(command)?, Some(*address));
        }
        for (consumer, address) in &self.consumers {
            assert_eq!(index.checkpoint(consumer)?, Some(*address));
        }
        for (key, values) in &self.snapshots {
            assert_eq!(index.snapshot(key)?.as_ref(), values.last(), "snapshot {key:?}");
        }
        let names = |prefix: &str| -> BTreeSet<String> {
            let streams = self
                .lists
                .keys()
                .filter_map(|key| if let Owned::Stream(name) = key { Some(name) } else { None });
            streams.filter(|name| name.starts_with(prefix)).cloned().collect()
        };
        for prefix in ["", "kind", "kind1-", "kind1-2", "alone", "b"] {
            let expected: Vec<_> =
                names(prefix).into_iter().map(bytestring::ByteString::from).collect();
            match index.keys_with_prefix(PostingKey::Stream(prefix), expected.len()) {
                Ok(found) => assert_eq!(found, expected),
                Err(ListError::Index(error)) => return Err(error),
                Err(error) => panic!("{error}"),
            }
            if !expected.is_empty() {
                match index.keys_with_prefix(PostingKey::Stream(prefix), expected.len() - 1) {
                    Err(ListError::TooMany { .. }) => {}
                    Err(ListError::Index(error)) => return Err(error),
                    Ok(found) => panic!("{found:?}"),
                }
            }
        }
        Ok(())
    }

    fn check_list(
        &self,
        index: &Index,
        key: &Owned,
        list: &[u64],
        rng: &mut Rng,
    ) -> Result<(), IndexError> {
        let read = |from, direction, through| -> Result<Vec<u64>, IndexError> {
            index
                .postings(key.key(), Position(from), direction, Position(through))
                .map(|found| found.map(|p| p.0))
                .collect()
        };
        assert_eq!(read(0, Direction::Forwards, u64::MAX)?, list, "{key:?}");
        let backwards: Vec<u64> = list.iter().rev().copied().collect();
        assert_eq!(read(u64::MAX, Direction::Backwards, u64::MAX)?, backwards, "{key:?}");

        let (from, through) = (rng.u64(..=self.events), rng.u64(..=self.events));
        let forwards = list.iter().copied().filter(|&p| p >= from && p <= through);
        assert_eq!(
            read(from, Direction::Forwards, through)?,
            forwards.collect::<Vec<_>>(),
            "{key:?} {from} {through}"
        );
        let backwards = list.iter().rev().copied().filter(|&p| p <= from && p <= through);
        assert_eq!(
            read(from, Direction::Backwards, through)?,
            backwards.collect::<Vec<_>>(),
            "{key:?} {from} {through}"
        );

        let after = |bound: u64| list.iter().copied().find(|&p| p > bound).map(Position);
        assert_eq!(index.first_after(key.key(), Position(from))?, after(from));
        let recent = index.recent();
        let bound = from.max(recent.since().position.0);
        assert_eq!(recent.first_after(key.key(), Position(bound)), after(bound));

        let mut seeking =
            index.postings(key.key(), Position::START, Direction::Forwards, Position::END);
        if rng.bool() {
            seeking.next().transpose()?;
        }
        let begun = seeking.next().transpose()?.map_or(u64::MAX, |p| p.0);
        seeking.seek(Position(from));
        let expected = list.iter().copied().find(|&p| p > begun && p >= from).map(Position);
        assert_eq!(seeking.next().transpose()?, expected);

        match key {
            Owned::Stream(name) => check_versions(index, name, list, from, rng),
            _ => Ok(()),
        }
    }
}

/// The versions of a stream, through a position and for each of its events.
fn check_versions(
    index: &Index,
    name: &str,
    list: &[u64],
    from: u64,
    rng: &mut Rng,
) -> Result<(), IndexError> {
    let version = |bound: u64| Version(list.iter().filter(|&&p| p <= bound).count() as u64);
    assert_eq!(index.stream_version(name, Position::END)?, version(u64::MAX));
    let through = index.stream_version(name, Position(from))?;
    assert_eq!(through, version(from), "{name} through {from}");
    let events = list.len() as u64;
    for version in [0, 1, rng.u64(..events + 2), events, events + 1] {
        let place = version.checked_sub(1).and_then(|place| list.get(place as usize));
        let expected = place.map(|&p| Position(p));
        assert_eq!(index.position_of(name, Version(version))?, expected, "{name} {version}");
    }
    let recent = index.recent();
    if list.last() > Some(&recent.since().position.0) {
        assert_eq!(recent.version(name), Some(version(u64::MAX)));
    }
    Ok(())
}

impl Group {
    pub(super) fn insert(&self, index: &Index, pending: &mut Memtable) {
        for event in &self.events {
            let stream =
                event.stream.as_ref().map(|(name, version)| (name.as_str(), Version(*version)));
            let tags = event.tags.iter().map(String::as_str);
            pending.add_event(
                Position(event.position),
                &event.event_type,
                stream,
                tags,
                event.id.as_ref(),
            );
            if let Some((name, version)) = stream {
                assert_eq!(pending.version(name), Some(version));
                assert_eq!(
                    pending.first_after(PostingKey::Stream(name), Position(event.position)),
                    None
                );
            }
        }
        for (command, address) in &self.commands {
            pending.add_command(command, *address);
            assert_eq!(pending.command(command), Some(*address));
        }
        for (consumer, address) in &self.consumers {
            pending.add_checkpoint(consumer, *address);
            assert_eq!(pending.checkpoint(consumer), Some(*address));
        }
        index.insert_group(pending, self.covered);
        assert!(pending.is_empty());
    }
}
