//! JSON on its way through code that works on [`Value`]: read as it stands, and written in the order in which it stood.
//!
//! A [`Value`] sorts the members of an object. To most types their order says nothing, but an adjacently tagged enum reads
//! numbers of 128 bits, and numbers that are keys, only if its tag comes first. And a [`Value`] of serde_json's own reading
//! takes an object with one of its private names for something else.

use std::cell::OnceCell;
use std::collections::HashMap;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::encoder::VERBATIM;
use super::standin::values_hold_any_number;

/// A value, and the layout of its members.
pub(super) struct WithLayout {
    pub(super) value: Value,
    layout: Layout,
}

/// The order of members at each place of a value.
#[derive(Default)]
pub(super) enum Layout {
    #[default]
    Leaf,
    Array(Vec<Layout>),
    Object(Vec<(String, Layout)>),
}

impl WithLayout {
    pub(super) fn parse(json: &[u8]) -> serde_json::Result<(Value, Layout)> {
        let Self { value, layout } = serde_json::from_slice(json)?;
        Ok((value, layout))
    }
}

impl Layout {
    /// A value that was made of this one, as JSON. Members stand as they did at the same place; if the object came from
    /// another place, as they did in one with the same keys, or as each key did first. New ones come last.
    pub(super) fn write(&self, value: &Value) -> Vec<u8> {
        let mut writer = Writer { root: self, seen: OnceCell::new(), json: Vec::new() };
        writer.write(self, value);
        writer.json
    }

    fn element(&self, index: usize) -> &Self {
        match self {
            Self::Array(layouts) => layouts.get(index).unwrap_or(&Self::Leaf),
            _ => &Self::Leaf,
        }
    }
}

struct Writer<'o> {
    root: &'o Layout,
    seen: OnceCell<Seen<'o>>,
    json: Vec<u8>,
}

/// Where keys stood, wherever that was.
#[derive(Default)]
struct Seen<'o> {
    /// By the keys of an object, sorted, the place of each in the first that had them.
    together: HashMap<Vec<&'o str>, HashMap<&'o str, usize>>,
    /// The place of a key among all.
    alone: HashMap<&'o str, usize>,
}

impl<'o> Seen<'o> {
    fn of(layout: &'o Layout) -> Self {
        let mut seen = Self::default();
        seen.take(layout);
        seen
    }

    fn take(&mut self, layout: &'o Layout) {
        match layout {
            Layout::Leaf => {}
            Layout::Array(elements) => elements.iter().for_each(|element| self.take(element)),
            Layout::Object(members) => {
                let places = || members.iter().enumerate().map(|(at, (key, _))| (key.as_str(), at));
                let mut keys: Vec<&str> = places().map(|(key, _)| key).collect();
                keys.sort_unstable();
                self.together.entry(keys).or_insert_with(|| places().collect());
                for (key, layout) in members {
                    let next = self.alone.len();
                    self.alone.entry(key).or_insert(next);
                    self.take(layout);
                }
            }
        }
    }
}

impl<'o> Writer<'o> {
    fn write(&mut self, layout: &'o Layout, value: &Value) {
        match value {
            Value::Array(elements) => {
                self.json.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    self.comma(index);
                    self.write(layout.element(index), element);
                }
                self.json.push(b']');
            }
            Value::Object(members) => self.write_object(layout, members),
            _ => push(value, &mut self.json),
        }
    }

    fn write_object(&mut self, layout: &'o Layout, members: &Map<String, Value>) {
        let here: HashMap<&str, (usize, &'o Layout)> = match layout {
            Layout::Object(layouts) => {
                layouts.iter().enumerate().map(|(at, (key, layout))| (key.as_str(), (at, layout))).collect()
            }
            _ => HashMap::new(),
        };
        let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
        if members.keys().all(|key| here.contains_key(key.as_str())) {
            sorted.sort_by_key(|(key, _)| here.get(key.as_str()).map(|(at, _)| *at));
        } else {
            self.sort(&mut sorted, &here);
        }
        self.json.push(b'{');
        for (index, (key, value)) in sorted.into_iter().enumerate() {
            self.comma(index);
            push(key, &mut self.json);
            self.json.push(b':');
            self.write(here.get(key.as_str()).map_or(&Layout::Leaf, |(_, layout)| *layout), value);
        }
        self.json.push(b'}');
    }

    /// Sorts members of which some are new at their place.
    fn sort(&self, members: &mut [(&String, &Value)], here: &HashMap<&str, (usize, &'o Layout)>) {
        let seen = self.seen.get_or_init(|| Seen::of(self.root));
        let mut keys: Vec<&str> = members.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        let is_grown = keys.iter().all(|key| here.contains_key(key) || !seen.alone.contains_key(key));
        let together = seen.together.get(&keys);
        members.sort_by_key(|(key, _)| {
            let place = match together {
                Some(together) => together.get(key.as_str()).copied(),
                None if is_grown => here.get(key.as_str()).map(|(at, _)| *at),
                None => seen.alone.get(key.as_str()).copied(),
            };
            place.unwrap_or(usize::MAX)
        });
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.json.push(b',');
        }
    }
}

fn push<T: serde::Serialize>(plain: &T, json: &mut Vec<u8>) {
    serde_json::to_writer(json, plain).expect("a vector takes any number and any text");
}

impl<'de> Deserialize<'de> for WithLayout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

fn leaf<E>(value: impl Into<Value>) -> Result<WithLayout, E> {
    Ok(WithLayout { value: value.into(), layout: Layout::Leaf })
}

impl<'de> Visitor<'de> for Reading {
    type Value = WithLayout;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<WithLayout, E> {
        leaf(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<WithLayout, E> {
        leaf(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<WithLayout, E> {
        leaf(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<WithLayout, E> {
        leaf(value)
    }

    fn visit_str<E>(self, value: &str) -> Result<WithLayout, E> {
        leaf(value)
    }

    fn visit_unit<E>(self) -> Result<WithLayout, E> {
        leaf(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<WithLayout, A::Error> {
        let (mut array, mut layouts) = (Vec::new(), Vec::new());
        while let Some(WithLayout { value, layout }) = elements.next_element()? {
            array.push(value);
            layouts.push(layout);
        }
        Ok(WithLayout { value: Value::Array(array), layout: Layout::Array(layouts) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<WithLayout, A::Error> {
        let (mut object, mut layouts) = (Map::new(), Vec::new());
        while let Some(key) = members.next_key::<String>()? {
            // With arbitrary_precision every number comes so.
            if key == VERBATIM[1] && values_hold_any_number() {
                let number: Number = members.next_value::<String>()?.parse().map_err(A::Error::custom)?;
                return leaf(Value::Number(number));
            }
            let WithLayout { value, layout } = members.next_value()?;
            if object.insert(key.clone(), value).is_none() {
                layouts.push((key, layout));
            }
        }
        Ok(WithLayout { value: Value::Object(object), layout: Layout::Object(layouts) })
    }
}
