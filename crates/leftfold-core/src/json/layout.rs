//! JSON on its way through code that works on [`Value`]: read as it stands, and written in the
//! order in which it stood.
//!
//! A [`Value`] sorts the members of an object. To most types their order says nothing, but an
//! adjacently tagged enum reads numbers of 128 bits, and numbers that are keys, only if its tag
//! comes first. And a [`Value`] of serde_json's own reading takes an object with one of its private
//! names for something else.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::verbatim::{VERBATIM, values_hold_any_number};

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
    /// Writes a value that was made of this one, as JSON. Members stand as they did at the same
    /// place; if the object came from another place, as they did in one with the same keys, or as
    /// each key did first. New ones come last.
    pub(super) fn write(&self, value: &Value) -> Vec<u8> {
        let mut writer = LayoutWriter { root: self, seen: OnceCell::new(), json: Vec::new() };
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

struct LayoutWriter<'o> {
    root: &'o Layout,
    seen: OnceCell<SeenKeys<'o>>,
    json: Vec<u8>,
}

/// Places of keys, from all objects of a layout.
#[derive(Default)]
struct SeenKeys<'o> {
    /// By the keys of an object, sorted, the place of each in the first that had them.
    together: HashMap<Vec<&'o str>, HashMap<&'o str, usize>>,
    /// The place of a key among all.
    alone: HashMap<&'o str, usize>,
}

impl<'o> SeenKeys<'o> {
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

impl<'o> LayoutWriter<'o> {
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
        let here: &'o [(String, Layout)] = match layout {
            Layout::Object(layouts) => layouts,
            _ => &[],
        };
        self.json.push(b'{');
        let stayed = here.iter().filter(|(key, _)| members.contains_key(key)).count();
        // Nothing was put in the place of another: what is new comes last.
        if stayed == members.len() || stayed == here.len() && stayed > 0 {
            let kept =
                here.iter().filter_map(|(key, layout)| Some((key, layout, members.get(key)?)));
            kept.enumerate()
                .for_each(|(index, (key, layout, value))| self.member(index, layout, key, value));
            if stayed < members.len() {
                let known: HashSet<&str> = here.iter().map(|(key, _)| key.as_str()).collect();
                let new = members.iter().filter(|(key, _)| !known.contains(key.as_str()));
                new.enumerate().for_each(|(index, (key, value))| {
                    self.member(stayed + index, &Layout::Leaf, key, value)
                });
            }
        } else {
            let here: HashMap<&str, &'o Layout> =
                here.iter().map(|(key, layout)| (key.as_str(), layout)).collect();
            for (index, (key, value)) in self.sorted(members).into_iter().enumerate() {
                self.member(
                    index,
                    here.get(key.as_str()).copied().unwrap_or(&Layout::Leaf),
                    key,
                    value,
                );
            }
        }
        self.json.push(b'}');
    }

    fn member(&mut self, index: usize, layout: &'o Layout, key: &str, value: &Value) {
        self.comma(index);
        push(key, &mut self.json);
        self.json.push(b':');
        self.write(layout, value);
    }

    /// Members that are new at their place.
    fn sorted<'m>(&self, members: &'m Map<String, Value>) -> Vec<(&'m String, &'m Value)> {
        let seen = self.seen.get_or_init(|| SeenKeys::of(self.root));
        let mut keys: Vec<&str> = members.keys().map(String::as_str).collect();
        keys.sort_unstable();
        let places = seen.together.get(&keys).unwrap_or(&seen.alone);
        let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
        sorted.sort_by_key(|(key, _)| places.get(key.as_str()).copied().unwrap_or(usize::MAX));
        sorted
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.json.push(b',');
        }
    }
}

fn push<T: serde::Serialize + ?Sized>(plain: &T, json: &mut Vec<u8>) {
    serde_json::to_writer(json, plain).expect("a vector takes any number and any text");
}

impl<'de> Deserialize<'de> for WithLayout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LayoutVisitor)
    }
}

struct LayoutVisitor;

fn leaf<E>(value: impl Into<Value>) -> Result<WithLayout, E> {
    Ok(WithLayout { value: value.into(), layout: Layout::Leaf })
}

impl<'de> Visitor<'de> for LayoutVisitor {
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
                let number: Number =
                    members.next_value::<String>()?.parse().map_err(A::Error::custom)?;
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
