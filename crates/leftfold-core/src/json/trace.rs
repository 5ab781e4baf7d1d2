//! A trace: all that serde was told of a value, kept as a tree. It is made only to find the place
//! where two values differ.

use super::loss::PathStep;
use super::mark::{Mark, ValueKind};

/// The nodes that are complete and not yet part of a greater one.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    nodes: Vec<Node>,
}

#[derive(Debug)]
pub(super) struct Node {
    step: Option<PathStep>,
    mark: Mark,
    doubt: Option<Doubt>,
    shown: String,
    members: Vec<Node>,
    /// The mark of its order: of a sequence that of its elements, of a text that of its letters.
    order: Option<Mark>,
    /// True if the members are found by their marks, not by their places.
    is_loose: bool,
}

/// Doubtful kind of a value: JSON, or its readers, do not bear it everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    NotFinite,
    Wide,
}

/// Characters of a value that an error shows.
const SHOWN_CHARS_MAX: usize = 80;

impl Trace {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn leaf(&mut self, mark: Mark, doubt: Option<Doubt>, shown: String) {
        let shown = match shown.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => format!("{}...", &shown[..end]),
            None => shown,
        };
        self.nodes.push(Node {
            step: None,
            mark,
            doubt,
            shown,
            members: Vec::new(),
            order: None,
            is_loose: false,
        });
    }

    /// The last node is of things in an order.
    pub(super) fn order(&mut self, order: Mark) {
        if let Some(node) = self.nodes.last_mut() {
            node.order = Some(order);
        }
    }

    /// The last node is what a newtype, or a Some, holds.
    pub(super) fn wrap(&mut self, mark: Mark, shown: &str) {
        if let Some(node) = self.nodes.last_mut() {
            node.mark = mark;
            node.shown = format!("{shown}({})", node.shown);
        }
    }

    /// The place of the last node in the greater one.
    pub(super) fn place(&mut self, step: PathStep) {
        if let Some(node) = self.nodes.last_mut() {
            node.step = Some(step);
        }
    }

    /// The nodes from there on are the members of one.
    pub(super) fn join(&mut self, from: usize, mark: Mark, kind: ValueKind, name: &str) {
        let members = self.nodes.split_off(from.min(self.nodes.len()));
        let shown = match kind {
            ValueKind::Seq | ValueKind::Tuple => format!("a list of {}", members.len()),
            ValueKind::Map => format!("a map of {}", members.len()),
            ValueKind::Verbatim => "JSON".to_owned(),
            _ => name.to_owned(),
        };
        let is_loose = kind == ValueKind::Seq;
        let order = is_loose.then(|| {
            members.iter().fold(Mark::bits(kind, 0), |order, member| order.and(member.mark))
        });
        self.nodes.push(Node { step: None, mark, doubt: None, shown, members, order, is_loose });
    }

    pub(super) fn root(mut self) -> Option<Node> {
        self.nodes.pop()
    }
}

/// Order of the contents of a place, and the way to it.
pub(super) struct Ordered<'n> {
    pub(super) mark: Mark,
    /// Number of elements; 0 in a text.
    pub(super) elements: usize,
    pub(super) steps: Vec<&'n PathStep>,
    pub(super) shown: &'n str,
}

/// First place where two values differ, and what each has there.
pub(super) struct ValueDifference<'n> {
    pub(super) steps: Vec<&'n PathStep>,
    pub(super) doubt: Option<Doubt>,
    pub(super) from: &'n str,
    pub(super) to: &'n str,
}

impl Node {
    /// Shows the order of what is in it, at each place: all elements of a sequence are at one.
    pub(super) fn orders<'n>(
        &'n self,
        at: Mark,
        steps: &mut Vec<&'n PathStep>,
        each: &mut impl FnMut(Mark, Ordered<'n>),
    ) {
        if let Some(mark) = self.order {
            each(
                at,
                Ordered {
                    mark,
                    elements: self.members.len(),
                    steps: steps.clone(),
                    shown: &self.shown,
                },
            );
        }
        for member in &self.members {
            let step = match &member.step {
                Some(PathStep::Name(name)) => Mark::text(ValueKind::Str, name.as_bytes()),
                Some(PathStep::Index(index)) if !self.is_loose => {
                    Mark::bits(ValueKind::U64, *index as u64)
                }
                _ => Mark::bits(ValueKind::Seq, 0),
            };
            let before = steps.len();
            steps.extend(&member.step);
            member.orders(at.and(step), steps, each);
            steps.truncate(before);
        }
    }

    /// The first place at which JSON may fail so.
    pub(super) fn first(&self, doubt: Doubt) -> Option<ValueDifference<'_>> {
        if self.doubt == Some(doubt) {
            let steps = self.step.iter().collect();
            return Some(ValueDifference {
                steps,
                doubt: self.doubt,
                from: &self.shown,
                to: NOTHING,
            });
        }
        let mut found = self.members.iter().find_map(|member| member.first(doubt))?;
        found.steps.splice(0..0, &self.step);
        Some(found)
    }

    /// The first place where another value differs from this one.
    pub(super) fn difference<'n>(&'n self, other: &'n Node) -> ValueDifference<'n> {
        let mine = unmatched(self, other);
        let theirs = unmatched(other, self);
        let within = match (mine.first(), theirs.first()) {
            (Some(mine), _) => {
                match theirs.iter().find(|their| their.step == mine.step).or(theirs.first()) {
                    Some(their) => Some(mine.difference(their)),
                    None => Some(mine.alone(&mine.shown, NOTHING)),
                }
            }
            (None, Some(their)) => Some(their.alone(NOTHING, &their.shown)),
            (None, None) => None,
        };
        let Some(mut within) = within else {
            let mut here = self.alone(&self.shown, &other.shown);
            here.doubt = self.doubt;
            return here;
        };
        within.steps.splice(0..0, &self.step);
        within
    }

    fn alone<'n>(&'n self, from: &'n str, to: &'n str) -> ValueDifference<'n> {
        ValueDifference { steps: self.step.iter().collect(), doubt: self.doubt, from, to }
    }
}

const NOTHING: &str = "nothing";

/// The members of one that have no equal in the other.
fn unmatched<'n>(of: &'n Node, other: &'n Node) -> Vec<&'n Node> {
    let mut left: Vec<&Node> = other.members.iter().collect();
    let is_equal =
        |one: &Node, two: &Node| one.mark == two.mark && (of.is_loose || one.step == two.step);
    let mut unmatched = Vec::new();
    for member in &of.members {
        match left.iter().position(|other| is_equal(member, other)) {
            Some(at) => drop(left.swap_remove(at)),
            None => unmatched.push(member),
        }
    }
    unmatched
}
