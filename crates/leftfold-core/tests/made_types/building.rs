//! Building stones: types with serde's derive and each of its attributes, whose parts are values of
//! any shape.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::shape::{Shape, Stone, in_part};

/// A value of the shape that the part of this number has in the shape that is in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct At<const PART: usize>(Any);

macro_rules! any {
    ($($stone:ident($type:ty) = $random:expr),* $(,)?) => {
        #[derive(Clone, Debug, PartialEq)]
        enum Any {
            $($stone($type),)*
        }

        impl<const PART: usize> Serialize for At<PART> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match &self.0 {
                    $(Any::$stone(value) => value.serialize(serializer),)*
                }
            }
        }

        impl<'de, const PART: usize> Deserialize<'de> for At<PART> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                in_part(PART, |stone| match stone {
                    $(Stone::$stone => {
                        <$type>::deserialize(deserializer).map(|value| Self(Any::$stone(value)))
                    })*
                })
            }
        }

        impl<const PART: usize> At<PART> {
            /// A value of a shape.
            pub(crate) fn random(shape: &Arc<Shape>, random: &mut fastrand::Rng) -> Self {
                let source = &mut Source { shape, random };
                match shape.stone {
                    $(Stone::$stone => Self(Any::$stone($random(source))),)*
                }
            }
        }
    };
}

struct Source<'s> {
    shape: &'s Arc<Shape>,
    random: &'s mut fastrand::Rng,
}

impl Source<'_> {
    fn part<const PART: usize>(&mut self) -> At<PART> {
        At::random(&self.shape.parts[PART], self.random)
    }

    fn some<const PART: usize>(&mut self) -> Vec<At<PART>> {
        (0..self.random.usize(usize::from(self.shape.is_shown)..4)).map(|_| self.part()).collect()
    }

    fn map<K, M: FromIterator<(K, At<0>)>>(&mut self, key: impl Fn(&mut Self) -> K) -> M {
        (0..self.random.usize(..5)).map(|_| (key(self), self.part())).collect()
    }

    fn text(&mut self) -> String {
        const CHARS: [char; 12] =
            ['a', 'b', ' ', '"', '\\', '\n', '\0', '\u{1f}', '\u{2028}', 'é', '漢', '🦀'];
        (0..self.random.usize(..12)).map(|_| CHARS[self.random.usize(..CHARS.len())]).collect()
    }

    fn number(&mut self) -> u64 {
        [0, 1, 7, 255, u64::from(u32::MAX), i64::MAX as u64, u64::MAX, self.random.u64(..)]
            [self.random.usize(..8)]
    }

    fn wide(&mut self) -> u128 {
        [0, 1, u128::from(u64::MAX), 20_000_000_000_000_000_000, u128::MAX, self.random.u128(..)]
            [self.random.usize(..6)]
    }

    fn float(&mut self) -> f64 {
        let any = f64::from_bits(self.random.u64(..));
        let computed = self.random.f64() * 100.0;
        [0.0, -0.0, 1.0, 1e300, 5e-324, computed, computed, any, 0.1 * 0.29, f64::MAX]
            [self.random.usize(..10)]
    }

    /// Now and then one that is none.
    fn any_float(&mut self) -> f64 {
        match self.random.u8(..30) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            _ => self.float(),
        }
    }

    fn colour(&mut self) -> Colour {
        [Colour::Red, Colour::Green, Colour::Blue][self.random.usize(..3)]
    }

    fn json(&mut self, depth: usize) -> Value {
        match self.random.u8(..if depth < 3 { 8 } else { 6 }) {
            0 => Value::Null,
            1 => self.random.bool().into(),
            2 => self.number().into(),
            3 => (self.number() as i64).into(),
            4 => self.float().into(),
            5 => self.text().into(),
            6 => (0..self.random.usize(..4)).map(|_| self.json(depth + 1)).collect(),
            _ => (0..self.random.usize(..4)).map(|_| (self.text(), self.json(depth + 1))).collect(),
        }
    }
}

any! {
    Unit(()) = |_: &mut Source<'_>| (),
    Bool(bool) = |s: &mut Source<'_>| s.random.bool(),
    I8(i8) = |s: &mut Source<'_>| s.number() as i8,
    I64(i64) = |s: &mut Source<'_>| (s.number() as i64).wrapping_neg(),
    I128(i128) = |s: &mut Source<'_>| (s.wide() as i128).wrapping_neg(),
    U8(u8) = |s: &mut Source<'_>| s.number() as u8,
    U32(u32) = |s: &mut Source<'_>| s.number() as u32,
    U64(u64) = |s: &mut Source<'_>| s.number(),
    U128(u128) = |s: &mut Source<'_>| s.wide(),
    F32(Single) = |s: &mut Source<'_>| Single(s.any_float() as f32),
    F64(Double) = |s: &mut Source<'_>| Double(s.any_float()),
    Char(char) = |s: &mut Source<'_>| s.text().chars().next().unwrap_or('x'),
    Text(String) = |s: &mut Source<'_>| s.text(),
    Blob(Blob) = |s: &mut Source<'_>| {
        Blob((0..s.random.usize(1..9)).map(|_| s.random.u8(..)).collect())
    },
    Colour(Colour) = |s: &mut Source<'_>| s.colour(),
    Json(Value) = |s: &mut Source<'_>| s.json(0),
    Raw(Raw) = |s: &mut Source<'_>| Raw(RawValue::from_string(format!(" {} ", s.json(0))).unwrap()),
    Words(HashSet<String>) =
        |s: &mut Source<'_>| (0..s.random.usize(..9)).map(|_| s.text()).collect(),
    Numbers(HashSet<u64>) =
        |s: &mut Source<'_>| (0..s.random.usize(..9)).map(|_| s.number()).collect(),
    SetOfSets(HashSet<BTreeSet<String>>) = |s: &mut Source<'_>| {
        (0..s.random.usize(..5)).map(|_| (0..3).map(|_| s.text()).collect()).collect()
    },
    Newtype(Box<Newtype>) = |s: &mut Source<'_>| Box::new(Newtype(s.part())),
    Pair(Box<(At<0>, At<1>)>) = |s: &mut Source<'_>| Box::new((s.part(), s.part())),
    Seq(Vec<At<0>>) = |s: &mut Source<'_>| s.some(),
    Opt(Option<Box<At<0>>>) =
        |s: &mut Source<'_>| (s.shape.is_shown || s.random.bool()).then(|| Box::new(s.part())),
    ByText(HashMap<String, At<0>>) = |s: &mut Source<'_>| s.map(Source::text),
    ByNumber(HashMap<i64, At<0>>) = |s: &mut Source<'_>| s.map(|s| s.number() as i64),
    ByColour(BTreeMap<Colour, At<0>>) = |s: &mut Source<'_>| s.map(Source::colour),
    ByBool(BTreeMap<bool, At<0>>) = |s: &mut Source<'_>| s.map(|s| s.random.bool()),
    ByChar(HashMap<char, At<0>>) =
        |s: &mut Source<'_>| s.map(|s| s.text().chars().next().unwrap_or('x')),
    ByWide(HashMap<u128, At<0>>) = |s: &mut Source<'_>| s.map(Source::wide),
    Plain(Box<Plain>) = |s: &mut Source<'_>| Box::new(Plain { a: s.part(), b: s.part() }),
    Left(Box<Left>) = |s: &mut Source<'_>| {
        Box::new(Left { a: s.random.bool().then(|| s.part()), b: s.some() })
    },
    Strict(Box<Strict>) = |s: &mut Source<'_>| Box::new(Strict { a: s.some() }),
    OtherDefault(OtherDefault) = |s: &mut Source<'_>| OtherDefault { n: s.random.u32(..3) },
    External(Box<External>) = |s: &mut Source<'_>| Box::new(match s.random.u8(..4) {
        0 => External::Unit,
        1 => External::Newtype(s.part()),
        2 => External::Tuple(s.part(), s.part()),
        _ => External::Struct { a: s.part(), b: s.part() },
    }),
    Tagged(Box<Tagged>) = |s: &mut Source<'_>| Box::new(tagged(s)),
    Adjacent(Box<Adjacent>) = |s: &mut Source<'_>| Box::new(match s.random.u8(..4) {
        0 => Adjacent::Unit,
        1 => Adjacent::Newtype(s.part()),
        2 => Adjacent::Tuple(s.part(), s.part()),
        _ => Adjacent::Struct { a: s.part(), b: s.part() },
    }),
    Untagged(Box<Untagged>) = |s: &mut Source<'_>| Box::new(match s.random.u8(..4) {
        0 => Untagged::Newtype(s.part()),
        1 => Untagged::Struct { one: s.part() },
        2 => Untagged::Tuple(s.part(), s.part()),
        _ => Untagged::Last(s.part()),
    }),
    Flat(Box<Flat>) = |s: &mut Source<'_>| Box::new(Flat {
        x: s.part(),
        rest: Rest { y: s.part(), z: s.random.bool().then(|| s.text()) },
    }),
    FlatMap(Box<FlatMap>) = |s: &mut Source<'_>| {
        let names = ["x", "y", "z", "é"];
        // Now and then the key of the field.
        let first = usize::from(s.random.u8(..4) > 0);
        let rest = (0..s.random.usize(..4))
            .map(|_| (names[s.random.usize(first..4)].to_owned(), s.part()));
        Box::new(FlatMap { rest: rest.collect(), x: s.part() })
    },
    FlatEnum(Box<FlatEnum>) =
        |s: &mut Source<'_>| Box::new(FlatEnum { x: s.random.u32(..), rest: tagged(s) }),
    NanAsText(NanAsText) = |s: &mut Source<'_>| NanAsText(Double(s.any_float())),
    NullAsSome(Box<NullAsSome>) = |s: &mut Source<'_>| {
        let a = [None, Some(None), Some(Some(s.part()))][s.random.usize(..3)].clone();
        Box::new(NullAsSome { a })
    },
}

fn tagged(s: &mut Source<'_>) -> Tagged {
    match s.random.u8(..3) {
        0 => Tagged::Unit,
        1 => Tagged::Newtype(Rest { y: s.part(), z: None }),
        _ => Tagged::Struct { a: s.part(), b: s.part() },
    }
}

/// Bit for bit, as everything here is compared.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Double(f64);

impl PartialEq for Double {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Single(f32);

impl PartialEq for Single {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Colour {
    Red,
    Green,
    Blue,
}

/// Bytes, told to serde as such.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Raw(Box<RawValue>);

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// JSON has no NaN; this type has a word for it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct NanAsText(Double);

impl Serialize for NanAsText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.0 {
            number if number.is_finite() && serializer.is_human_readable() => {
                serializer.serialize_f64(number)
            }
            number => serializer.collect_str(&format_args!("{:x}", number.to_bits())),
        }
    }
}

impl<'de> Deserialize<'de> for NanAsText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(bits) => u64::from_str_radix(&bits, 16)
                .map(|bits| Self(Double(f64::from_bits(bits))))
                .map_err(D::Error::custom),
            other => other
                .as_f64()
                .map(|number| Self(Double(number)))
                .ok_or_else(|| D::Error::custom("no number")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(At<0>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plain {
    a: At<0>,
    #[serde(rename = "b-\"é")]
    b: At<1>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Left {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    a: Option<At<0>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    b: Vec<At<1>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Strict {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    a: Vec<At<0>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OtherDefault {
    #[serde(default = "one", skip_serializing_if = "is_zero")]
    n: u32,
}

fn one() -> u32 {
    1
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum External {
    Unit,
    Newtype(At<0>),
    Tuple(At<1>, At<2>),
    Struct {
        a: At<0>,
        #[serde(alias = "c")]
        b: At<1>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Unit,
    Newtype(Rest),
    Struct { a: At<0>, b: At<2> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "of")]
enum Adjacent {
    Unit,
    Newtype(At<0>),
    Tuple(At<1>, At<2>),
    Struct { a: At<0>, b: At<1> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Newtype(At<0>),
    Struct { one: At<1> },
    Tuple(At<0>, At<1>),
    Last(At<2>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rest {
    y: At<1>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    z: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    x: At<0>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FlatMap {
    x: At<0>,
    #[serde(flatten)]
    rest: BTreeMap<String, At<1>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FlatEnum {
    x: u32,
    #[serde(flatten)]
    rest: Tagged,
}

/// A field that may be absent, null, or a value: all three are told apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NullAsSome {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    a: Option<Option<At<0>>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<At<0>>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}
