//! Types as data: which building stone, and of what its parts are.

use std::cell::RefCell;
use std::sync::Arc;

/// A type: a building stone, and the types of its parts.
#[derive(Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) stone: Stone,
    pub(crate) parts: Vec<Arc<Shape>>,
    /// Set if a value shows its type: untagged variants are told apart by it, so nothing may be
    /// empty.
    pub(crate) is_shown: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stone {
    Unit,
    Bool,
    I8,
    I64,
    I128,
    U8,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Text,
    Blob,
    Colour,
    Json,
    Raw,
    Words,
    Numbers,
    SetOfSets,
    Newtype,
    Pair,
    Seq,
    Opt,
    ByText,
    ByNumber,
    ByColour,
    ByBool,
    ByChar,
    ByWide,
    Plain,
    Left,
    Strict,
    OtherDefault,
    External,
    Tagged,
    Adjacent,
    Untagged,
    Flat,
    FlatMap,
    FlatEnum,
    NanAsText,
    NullAsSome,
}

use Stone::*;

/// Variants that an untagged enum may have, so that serde tells one from another.
const SCALARS: [Stone; 13] =
    [Bool, I8, I64, U8, U32, U64, U128, F32, F64, Char, Text, Colour, Blob];
const LEAVES: [Stone; 23] = [
    Unit, Bool, I8, I64, I128, U8, U32, U64, U128, F32, F64, F64, Char, Text, Text, Blob, Colour,
    Json, Raw, Words, Numbers, SetOfSets, NanAsText,
];
const INNER: [Stone; 24] = [
    Newtype,
    Pair,
    Seq,
    Opt,
    Opt,
    ByText,
    ByNumber,
    ByColour,
    ByBool,
    ByChar,
    ByWide,
    Plain,
    Plain,
    Left,
    Strict,
    OtherDefault,
    External,
    Tagged,
    Adjacent,
    Untagged,
    Flat,
    FlatMap,
    FlatEnum,
    NullAsSome,
];
/// Types within each other.
const DEPTH_MAX: usize = 4;

impl Shape {
    pub(crate) fn random(random: &mut fastrand::Rng) -> Arc<Self> {
        Self::of_depth(random, 0)
    }

    fn of_depth(random: &mut fastrand::Rng, depth: usize) -> Arc<Self> {
        let is_leaf = depth == DEPTH_MAX || (depth > 0 && random.u8(..10) < 4);
        let stone = if is_leaf {
            LEAVES[random.usize(..LEAVES.len())]
        } else {
            INNER[random.usize(..INNER.len())]
        };
        let parts = match stone {
            Untagged => Self::told_apart(random),
            _ => (0..stone.parts()).map(|_| Self::of_depth(random, depth + 1)).collect(),
        };
        Arc::new(Self { stone, parts, is_shown: false })
    }

    /// Types that serde is told of in different ways.
    fn told_apart(random: &mut fastrand::Rng) -> Vec<Arc<Self>> {
        let mut parts: Vec<Arc<Self>> = Vec::new();
        while parts.len() < Untagged.parts() {
            let scalar = |random: &mut fastrand::Rng| {
                let stone = SCALARS[random.usize(..SCALARS.len())];
                Arc::new(Self { stone, parts: Vec::new(), is_shown: true })
            };
            let part = match [Newtype, Seq, Opt, Plain, Unit, Unit, Unit][random.usize(..7)] {
                Unit => scalar(random),
                stone => {
                    let parts = (0..stone.parts()).map(|_| scalar(random)).collect();
                    Arc::new(Self { stone, parts, is_shown: true })
                }
            };
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        parts
    }
}

impl Stone {
    fn parts(self) -> usize {
        match self {
            Newtype | Seq | Opt | ByText | ByNumber | ByColour | ByBool | ByChar | ByWide
            | Strict | NullAsSome => 1,
            Pair | Plain | Left | Flat | FlatMap => 2,
            External | Tagged | Adjacent | Untagged | FlatEnum => 3,
            _ => 0,
        }
    }
}

thread_local! {
    /// The shapes around the value that is read, the innermost last.
    static IN_FORCE: RefCell<Vec<Arc<Shape>>> = const { RefCell::new(Vec::new()) };
}

/// Does something while a shape, of which there is one part, is in force.
pub(crate) fn within<T>(shape: &Arc<Shape>, work: impl FnOnce() -> T) -> T {
    let whole = Shape { stone: Newtype, parts: vec![shape.clone()], is_shown: false };
    entered(Arc::new(whole), work)
}

/// Does something while a part of the shape that is in force is.
pub(crate) fn in_part<T>(part: usize, work: impl FnOnce(Stone) -> T) -> T {
    let shape = IN_FORCE
        .with_borrow(|shapes| shapes.last().expect("a shape is in force").parts[part].clone());
    let stone = shape.stone;
    entered(shape, || work(stone))
}

fn entered<T>(shape: Arc<Shape>, work: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            IN_FORCE.with_borrow_mut(Vec::pop);
        }
    }
    IN_FORCE.with_borrow_mut(|shapes| shapes.push(shape));
    let _leave = Leave;
    work()
}
