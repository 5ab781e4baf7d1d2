//! How many effects may be open and under way: so many at a time, and beside them those that hang.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::store::Timestamp;

// ANCHOR: limits
/// Effects that wait to be carried out at most; beyond that no further intents are taken up until
/// some are concluded. Each takes a few numbers in memory, whatever its intent is like.
pub const OPEN_EFFECTS_MAX: usize = 100_000;
/// Effects that wait for a person, in doubt or parked, at most. They take no place of others, as
/// long as there are not so many; the status says that they need a person from the first one on.
pub const FOR_PERSON_MAX: usize = 500_000;
/// Bytes of the intents that are carried out at a time, but for those that hang; one is carried out
/// in any case.
pub const UNDER_WAY_BYTES_MAX: usize = 64 << 20;
/// An attempt, or a look, that has taken this part of the deadline hangs: it counts no longer
/// against [`Policy::concurrency`](super::Policy::concurrency), so that others begin.
pub const HANGS_AFTER_PART: u32 = 10;
/// Number of attempts or looks that may hang at a time, unless
/// [`Policy::hanging`](super::Policy::hanging) says otherwise; further ones keep their slots.
pub const HANGING_MAX: usize = 1_024;
/// Bytes of the intents of those that hang, at most; further ones keep their slots.
pub const HANGING_BYTES_MAX: usize = 256 << 20;
// ANCHOR_END: limits

/// Number of attempts or looks of one kind that may be under way, and the time after which one
/// counts as hanging.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotBounds {
    pub(super) at_a_time: usize,
    pub(super) hanging: usize,
    pub(super) hanging_bytes: usize,
    /// Time under way after which an attempt or a look hangs.
    pub(super) hangs_after: Duration,
}

/// Attempts or looks under way of one kind. A hanging one gives its slot back, as far as there is
/// room for it beside the others.
#[derive(Debug)]
pub(super) struct Slots {
    bounds: SlotBounds,
    begun: u64,
    /// Start and bytes of each one that has a slot, the first ones first.
    with_slot: BTreeMap<Ticket, (Timestamp, usize)>,
    bytes: usize,
    hanging: BTreeMap<Ticket, usize>,
    hanging_bytes: usize,
}

/// Names something that is under way, in the order in which all began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

impl Slots {
    pub(super) fn new(bounds: SlotBounds) -> Self {
        let (with_slot, hanging) = (BTreeMap::new(), BTreeMap::new());
        Self { bounds, begun: 0, with_slot, bytes: 0, hanging, hanging_bytes: 0 }
    }

    pub(super) fn begin(&mut self, bytes: usize, now: Timestamp) -> Ticket {
        self.begun += 1;
        self.bytes += bytes;
        self.with_slot.insert(Ticket(self.begun), (now, bytes));
        Ticket(self.begun)
    }

    pub(super) fn end(&mut self, ticket: Ticket) {
        if let Some((_, bytes)) = self.with_slot.remove(&ticket) {
            self.bytes -= bytes;
        }
        self.hanging_bytes -= self.hanging.remove(&ticket).unwrap_or_default();
    }

    /// Takes the slots of those that hang by now.
    pub(super) fn take_back(&mut self, now: Timestamp) {
        while let Some((ticket, hangs_at, bytes)) = self.next()
            && hangs_at <= now
        {
            self.with_slot.remove(&ticket);
            self.hanging.insert(ticket, bytes);
            self.bytes -= bytes;
            self.hanging_bytes += bytes;
        }
    }

    /// Returns the moment at which the next slot is taken back; `None` while there is no room for
    /// one that hangs.
    pub(super) fn takes_back_at(&self) -> Option<Timestamp> {
        self.next().map(|(_, hangs_at, _)| hangs_at)
    }

    /// Tells whether one more may begin, if others hold the given number of slots.
    pub(super) fn has_room(&self, held: usize) -> bool {
        self.with_slot.len() + held < self.bounds.at_a_time
    }

    /// The bytes of those that have a slot.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next that may give its slot back, and when it hangs.
    fn next(&self) -> Option<(Ticket, Timestamp, usize)> {
        let (ticket, (began, bytes)) = self.with_slot.first_key_value()?;
        let fits = self.hanging.len() < self.bounds.hanging
            && self.hanging_bytes + bytes <= self.bounds.hanging_bytes;
        fits.then(|| (*ticket, began.plus(self.bounds.hangs_after), *bytes))
    }
}

/// Returns the reason why no further intents are taken up, with the number of open effects and of
/// those that wait for a person; `None` if more are.
pub(super) fn full(open: usize, for_person: usize) -> Option<String> {
    if for_person >= FOR_PERSON_MAX {
        return Some(format!(
            "a person: {for_person} effects are in doubt or parked, put some of them right"
        ));
    }
    let waiting = open.saturating_sub(for_person);
    (waiting >= OPEN_EFFECTS_MAX).then(|| format!("some of {waiting} open effects to be concluded"))
}

/// Tells whether an intent of the given number of bytes may be carried out beside those under way.
pub(super) const fn fits(under_way: usize, bytes: usize) -> bool {
    under_way == 0 || under_way + bytes <= UNDER_WAY_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: SlotBounds = SlotBounds {
        at_a_time: 2,
        hanging: 3,
        hanging_bytes: 30,
        hangs_after: Duration::from_secs(3),
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    #[test]
    fn what_hangs_gives_its_slot_back_until_so_many_hang() {
        let mut slots = Slots::new(BOUNDS);
        let first = slots.begin(1, at(0));
        slots.begin(1, at(1));
        assert!(!slots.has_room(0));
        assert_eq!(slots.takes_back_at(), Some(at(3)));
        slots.take_back(at(2));
        assert!(!slots.has_room(0));
        slots.take_back(at(3));
        assert!(slots.has_room(0) && !slots.has_room(1));
        slots.take_back(at(4));
        let all = [slots.begin(1, at(4)), slots.begin(1, at(4))];
        slots.take_back(at(9));
        assert_eq!(
            (slots.has_room(0), slots.has_room(1), slots.takes_back_at()),
            (true, false, None),
            "three hang"
        );
        // One that ended makes room.
        slots.end(first);
        assert_eq!(slots.takes_back_at(), Some(at(7)));
        slots.take_back(at(9));
        all.into_iter().for_each(|ticket| slots.end(ticket));
        assert_eq!((slots.bytes(), slots.hanging_bytes, slots.hanging.len()), (0, 1, 1));
    }

    #[test]
    fn those_that_hang_are_bounded_in_bytes_too() {
        let mut slots = Slots::new(BOUNDS);
        slots.begin(20, at(0));
        slots.begin(20, at(0));
        assert_eq!(slots.bytes(), 40);
        slots.take_back(at(3));
        assert_eq!((slots.bytes(), slots.takes_back_at()), (20, None));
    }

    /// Effects in doubt, left for years, used to keep others from being taken up once they were as
    /// many as may wait.
    #[test]
    fn effects_that_wait_for_a_person_take_no_place_of_others() {
        assert_eq!(full(FOR_PERSON_MAX - 1 + OPEN_EFFECTS_MAX - 1, FOR_PERSON_MAX - 1), None);
        let waiting = full(OPEN_EFFECTS_MAX + 7, 7).unwrap();
        assert!(waiting.starts_with("some of 100000"), "{waiting}");
        let for_person = full(FOR_PERSON_MAX, FOR_PERSON_MAX).unwrap();
        assert!(for_person.starts_with("a person: "), "{for_person}");
    }
}
