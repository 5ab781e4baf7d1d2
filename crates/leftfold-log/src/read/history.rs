//! The history link by link: groups, and the lives of the store, as the chain covers them.

use std::sync::Arc;

use bytes::BytesMut;
use leftfold_core::store::{
    AppendsFrom, Hash, Head, HistoryEnd, HistoryFrom, HistoryKind, HistoryLink, HistoryPage,
    HistoryRule, PageRoom, Position, ReadError,
};

use crate::format::{DESCRIBED_BYTES, SegmentHeader, moment};
use crate::segments::scan::{ChainState, Group, Groups, address, place_of};
use crate::segments::segment::{Segment, damaged, io_error, missing};
use crate::shared::SharedLog;

/// Reads links until the page is full.
pub(crate) fn page(
    shared: &SharedLog,
    from: HistoryFrom,
    page_bytes: u32,
) -> Result<HistoryPage, ReadError> {
    let head = shared.head();
    let mut walk = HistoryWalk::begin(shared, from.link, head)?;
    let end = walk.chain.map_or(head.chain, |chain| chain.hash);
    let mut page = HistoryPage::empty(HistoryRule::Blake3, end, from, head);
    let mut room = PageRoom::of(page_bytes, from);
    while let Some(FoundLink { before, link, places }) = walk.next()? {
        if page.links.is_empty() {
            page.before = before;
        }
        if !page.push(link, places, &mut room) {
            break;
        }
    }
    Ok(page)
}

/// A walk through the links of a log.
struct HistoryWalk<'a> {
    shared: &'a SharedLog,
    head: Head,
    segment: Arc<Segment>,
    following: Option<Arc<Segment>>,
    /// Durable end of the segment when the walk came to it.
    end: u64,
    groups: Groups,
    offset: u64,
    /// Place of the next link, as readers name it.
    place: AppendsFrom,
    /// Chain before the next link; `None` if the link itself tells it.
    chain: Option<ChainState>,
    /// The life that the segment begins is the next link.
    is_life_due: bool,
}

/// Link with the hash before it, its place and the place behind it.
struct FoundLink {
    before: Hash,
    link: HistoryLink,
    places: (AppendsFrom, AppendsFrom),
}

impl<'a> HistoryWalk<'a> {
    fn begin(shared: &'a SharedLog, from: AppendsFrom, head: Head) -> Result<Self, ReadError> {
        let segments = &shared.segments;
        let (segment, offset) = match from {
            AppendsFrom::After(_) => (segments.first(), 0),
            AppendsFrom::Mark(mark) => {
                let (number, offset) = place_of(mark);
                let found = segments.numbered(number);
                let segment = found.filter(|segment| offset >= segment.header.bytes());
                let no_page = || damaged(number, offset, &"no page of this store ended here");
                (segment.ok_or_else(no_page)?, offset)
            }
        };
        let (following, end, groups) = look_at(shared, &segment)?;
        let mut walk = Self {
            shared,
            head,
            segment,
            following,
            end,
            groups,
            offset,
            place: from,
            chain: None,
            is_life_due: false,
        };
        match from {
            AppendsFrom::Mark(_) => {}
            AppendsFrom::After(position) if position.min(head.position) == Position::START => {
                walk.offset = walk.segment.header.bytes();
                walk.is_life_due = true;
            }
            AppendsFrom::After(position) => walk.go_behind(position.min(head.position))?,
        }
        Ok(walk)
    }

    /// Goes to the place behind the group that holds a position.
    fn go_behind(&mut self, position: Position) -> Result<(), ReadError> {
        let segments = &self.shared.segments;
        self.enter(segments.holding(position).ok_or_else(|| missing(position))?)?;
        let index = self.segment.index_of(position);
        let anchor = segments.table(&self.segment, |table, blocks| table.anchor(index, blocks))?;
        self.offset = u64::from(anchor.ok_or_else(|| missing(position))?.offset);
        loop {
            let (chain, end) = {
                let group = self.group()?;
                (group.chain(), group.end())
            };
            (self.offset, self.chain) = (end, Some(chain));
            if chain.last() >= position {
                break;
            }
        }
        self.place = AppendsFrom::Mark(address(self.number(), self.offset));
        Ok(())
    }

    /// Returns the next link; `None` at the durable end.
    fn next(&mut self) -> Result<Option<FoundLink>, ReadError> {
        loop {
            if self.is_life_due {
                self.is_life_due = false;
                return Ok(Some(self.life()));
            }
            if self.offset < self.end {
                return self.records();
            }
            let Some(next) = self.following.take() else { return Ok(None) };
            self.is_life_due = next.header.epoch != self.segment.header.epoch;
            if self.is_life_due && self.chain.is_none() {
                self.walk_through()?;
            }
            self.enter(next)?;
        }
    }

    /// Goes to the beginning of a segment.
    fn enter(&mut self, segment: Arc<Segment>) -> Result<(), ReadError> {
        (self.following, self.end, self.groups) = look_at(self.shared, &segment)?;
        (self.offset, self.segment) = (segment.header.bytes(), segment);
        Ok(())
    }

    /// The group at the offset, if readers see what it records.
    fn records(&mut self) -> Result<Option<FoundLink>, ReadError> {
        let (place, number, shown) = (self.place, self.number(), self.head.recorded_at);
        let version = u32::from(self.segment.header.version());
        let group = self.group()?;
        if moment(group.header.recorded_at) > shown {
            // It is durable, and not shown yet.
            return Ok(None);
        }
        let mut hashed = BytesMut::with_capacity(DESCRIBED_BYTES + group.body.len());
        hashed.extend_from_slice(&group.header.described());
        hashed.extend_from_slice(group.body);
        let (before, chain, end) = (group.header.hash, group.chain(), group.end());
        let hashed = hashed.freeze();
        let next = AppendsFrom::Mark(address(number, end));
        (self.offset, self.chain, self.place) = (end, Some(chain), next);
        let end = HistoryEnd { hash: chain.hash, position: chain.last() };
        let link = HistoryLink { kind: HistoryKind::Records, version, hashed, end: Some(end) };
        Ok(Some(FoundLink { before, link, places: (place, next) }))
    }

    /// The life that the segment begins.
    fn life(&mut self) -> FoundLink {
        let header = self.segment.header;
        // The first life follows from nothing.
        let before = self.chain.map_or(Hash::EMPTY, |chain| chain.hash);
        let state = ChainState::before(&header);
        let next = AppendsFrom::Mark(address(header.number, header.bytes()));
        let places = (self.place, next);
        (self.chain, self.place) = (Some(state), next);
        let link = HistoryLink {
            kind: HistoryKind::Life,
            version: u32::from(header.version()),
            hashed: SegmentHeader::life(header.store, &header.epoch).into(),
            end: Some(HistoryEnd { hash: state.hash, position: state.last() }),
        };
        FoundLink { before, link, places }
    }

    /// Finds out the chain at the end of the segment.
    fn walk_through(&mut self) -> Result<(), ReadError> {
        self.offset = self.segment.header.bytes();
        self.chain = Some(ChainState::before(&self.segment.header));
        while self.offset < self.end {
            let (chain, offset) = {
                let group = self.group()?;
                (group.chain(), group.end())
            };
            (self.chain, self.offset) = (Some(chain), offset);
        }
        Ok(())
    }

    /// The group at the offset, which must be right and follow from what is known.
    fn group(&mut self) -> Result<Group<'_>, ReadError> {
        let (number, offset) = (self.segment.header.number, self.offset);
        let group = self.groups.at(offset, self.chain.as_ref());
        let group = group.map_err(|error| io_error(number, &error))?;
        group.valid_or(|fault| damaged(number, offset, &fault))
    }

    fn number(&self) -> u64 {
        self.segment.header.number
    }
}

/// Returns the segment after one, its durable end, and what reads its groups.
fn look_at(
    shared: &SharedLog,
    segment: &Segment,
) -> Result<(Option<Arc<Segment>>, u64, Groups), ReadError> {
    let number = segment.header.number;
    let following = shared.segments.following(segment);
    let end = match &following {
        Some(next) => u64::from(next.header.length_before),
        // What lies behind it is not durable yet.
        None => u64::from(shared.segments.table(segment, |table, _| Ok(table.end()))?),
    };
    // A file that grows is looked at behind its end.
    let groups = Groups::of(shared.segments.file(number)?, &segment.header);
    Ok((following, end, groups.map_err(|error| io_error(number, &error))?))
}
