//! The plan of who does which work: a function of the leases that are held, so that all members
//! make the same one from the same list.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// Short name of a work in the plan: two works of one name in a plan are moved together, which
/// costs evenness and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WorkId(pub(super) u32);

impl WorkId {
    pub(super) fn of(work: &str) -> Self {
        let hash = blake3::hash(work.as_bytes());
        Self(hash.as_bytes().first_chunk().copied().map_or(0, u32::from_le_bytes))
    }
}

/// Works that a member can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Abilities {
    These(BTreeSet<WorkId>),
    /// They are too many for its note.
    Any,
}

impl Abilities {
    fn include(&self, work: WorkId) -> bool {
        match self {
            Self::These(works) => works.contains(&work),
            Self::Any => true,
        }
    }
}

/// Members and works, as the leases tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Situation {
    /// Works that each member can do.
    pub(super) members: BTreeMap<Uuid, Abilities>,
    /// The member that has each work; `None` if somebody else has it.
    pub(super) held: BTreeMap<WorkId, Option<Uuid>>,
    /// The member that a work is not moved to.
    pub(super) kept: BTreeMap<WorkId, Uuid>,
}

/// Returns the member that is to do each work. A work that is held by nobody's member has none.
///
/// What is free goes to the member that can do it and has the least; then one work after the other
/// goes from a member with more to one that has at least two less and can do it. So whoever is
/// given a work has no more than the others when it is, and a plan that was carried out is
/// followed by the same one.
pub(super) fn plan(situation: &Situation) -> BTreeMap<WorkId, Uuid> {
    let Situation { members, held, .. } = situation;
    let mut loads: BTreeMap<Uuid, usize> = members.keys().map(|member| (*member, 0)).collect();
    let mut of: BTreeMap<WorkId, Uuid> = BTreeMap::new();
    for (work, holder) in held {
        if let Some(holder) = holder
            && let Some(load) = loads.get_mut(holder)
        {
            *load += 1;
            of.insert(*work, *holder);
        }
    }
    let all = members.values().flat_map(|abilities| match abilities {
        Abilities::These(works) => works.iter().copied().collect::<Vec<_>>(),
        Abilities::Any => Vec::new(),
    });
    let free: BTreeSet<WorkId> = all.filter(|work| !held.contains_key(work)).collect();
    for work in free {
        let able = members.iter().filter(|(_, abilities)| abilities.include(work));
        let least = able.map(|(member, _)| *member).min_by_key(|member| {
            let load = loads.get(member).copied().unwrap_or_default();
            (load, rank(work, *member))
        });
        if let Some(member) = least {
            *loads.entry(member).or_default() += 1;
            of.insert(work, member);
        }
    }
    while let Some((work, to)) = next_move(situation, &loads, &of) {
        if let Some(from) = of.insert(work, to) {
            *loads.entry(from).or_default() -= 1;
            *loads.entry(to).or_default() += 1;
        }
    }
    of
}

/// Returns the next work to move, from whoever has most to whoever has least, and the member that
/// it goes to; `None` if all is even.
fn next_move(
    Situation { members, kept, .. }: &Situation,
    loads: &BTreeMap<Uuid, usize>,
    of: &BTreeMap<WorkId, Uuid>,
) -> Option<(WorkId, Uuid)> {
    let mut by_load: Vec<(usize, Uuid)> =
        loads.iter().map(|(member, load)| (*load, *member)).collect();
    by_load.sort_unstable();
    for (most, from) in by_load.iter().rev() {
        for (least, to) in &by_load {
            if least + 2 > *most {
                break;
            }
            let movable = of.iter().filter(|(work, member)| {
                let can =
                    |member: &Uuid| members.get(member).is_some_and(|able| able.include(**work));
                // A member that cannot do what it holds is about to lose it.
                *member == from && can(from) && can(to) && kept.get(work) != Some(to)
            });
            if let Some(work) = movable.map(|(work, _)| *work).min_by_key(|work| rank(*work, *to)) {
                return Some((work, *to));
            }
        }
    }
    None
}

/// Decides between members that have the same load: another one for each work.
fn rank(work: WorkId, member: Uuid) -> u64 {
    let (high, low) = member.as_u64_pair();
    let mixed =
        (high ^ low.rotate_left(32) ^ u64::from(work.0)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(number: u128) -> Uuid {
        Uuid::from_u128(number.wrapping_mul(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef))
    }

    fn works(of: impl IntoIterator<Item = u32>) -> BTreeSet<WorkId> {
        of.into_iter().map(WorkId).collect()
    }

    fn all_can(members: u128, number: u32) -> Situation {
        let able = Abilities::These(works(0..number));
        let members = (1..=members).map(|number| (member(number), able.clone())).collect();
        Situation { members, ..Situation::default() }
    }

    fn loads(plan: &BTreeMap<WorkId, Uuid>) -> Vec<usize> {
        let mut loads: BTreeMap<Uuid, usize> = BTreeMap::new();
        plan.values().for_each(|member| *loads.entry(*member).or_default() += 1);
        let mut loads: Vec<usize> = loads.into_values().collect();
        loads.sort_unstable();
        loads
    }

    fn carried_out(plan: &BTreeMap<WorkId, Uuid>) -> BTreeMap<WorkId, Option<Uuid>> {
        plan.iter().map(|(work, member)| (*work, Some(*member))).collect()
    }

    #[test]
    fn free_work_is_spread_evenly_and_then_nothing_moves() {
        let mut situation = all_can(3, 13);
        let first = plan(&situation);
        assert_eq!(loads(&first), [4, 4, 5]);
        situation.held = carried_out(&first);
        assert_eq!(plan(&situation), first);
    }

    #[test]
    fn one_that_comes_gets_its_share_and_no_more_and_nothing_else_moves() {
        let mut situation = all_can(6, 12);
        let before = plan(&situation);
        situation.held = carried_out(&before);
        situation.members.insert(member(7), Abilities::These(works(0..12)));
        let after = plan(&situation);
        assert_eq!(loads(&after), [1, 1, 2, 2, 2, 2, 2]);
        let moved = before.iter().filter(|(work, member)| after[*work] != **member).count();
        assert_eq!(moved, 1);
    }

    #[test]
    fn work_goes_only_to_those_who_can_do_it() {
        let these = |works| Abilities::These(works);
        let members = [
            (member(1), these(works(0..10))),
            (member(2), these(works(0..2))),
            (member(3), these(works([]))),
        ];
        let mut situation = Situation { members: members.into(), ..Situation::default() };
        let first = plan(&situation);
        assert_eq!(loads(&first), [2, 8]);
        situation.held = carried_out(&first);
        assert_eq!(plan(&situation), first);
    }

    #[test]
    fn what_is_held_by_others_stays_and_what_a_member_cannot_do_is_not_moved() {
        let mut situation = all_can(2, 4);
        situation.held = (0..4).map(|work| (WorkId(work), None)).collect();
        assert_eq!(plan(&situation), BTreeMap::new());
        situation.held = (10..14).map(|work| (WorkId(work), Some(member(1)))).collect();
        let planned = plan(&situation);
        assert!((10..14).all(|work| planned[&WorkId(work)] == member(1)));
        assert!((0..4).all(|work| planned[&WorkId(work)] == member(2)), "{planned:?}");
    }

    #[test]
    fn a_work_that_its_holder_keeps_is_not_moved_and_another_one_is() {
        let mut situation = all_can(1, 4);
        situation.held = carried_out(&plan(&situation));
        situation.members.insert(member(2), Abilities::These(works(0..4)));
        let moved_of = |situation: &Situation| -> BTreeSet<WorkId> {
            let to = plan(situation).into_iter().filter(|(_, to)| *to == member(2));
            to.map(|(work, _)| work).collect()
        };
        let moved = moved_of(&situation);
        assert_eq!(moved.len(), 2);
        situation.kept = moved.iter().map(|work| (*work, member(2))).collect();
        let others: BTreeSet<WorkId> = works(0..4).difference(&moved).copied().collect();
        assert_eq!(moved_of(&situation), others);
    }

    #[test]
    fn from_any_situation_a_plan_that_is_carried_out_is_followed_by_itself() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut chance = fastrand::Rng::with_seed(seed);
        for _ in 0..2_000 {
            let (members, number) = (chance.u128(1..7), chance.u32(0..30));
            let able = |chance: &mut fastrand::Rng| match chance.u32(0..5) {
                0 => Abilities::Any,
                1 => Abilities::These((0..number).filter(|_| chance.bool()).map(WorkId).collect()),
                _ => Abilities::These(works(0..number)),
            };
            let members: BTreeMap<_, _> =
                (1..=members).map(|number| (member(number), able(&mut chance))).collect();
            let held = (0..number)
                .filter_map(|work| {
                    let holder = chance.u128(0..10);
                    (holder > 0).then(|| (WorkId(work), (holder < 9).then(|| member(holder))))
                })
                .collect();
            let kept = (0..number)
                .filter(|_| chance.u32(0..5) == 0)
                .map(|work| (WorkId(work), member(1)))
                .collect();
            let mut situation = Situation { members, held, kept };
            let first = plan(&situation);
            situation.held.extend(carried_out(&first));
            assert_eq!(plan(&situation), first);
        }
    }
}
