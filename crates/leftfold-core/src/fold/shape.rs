//! The fingerprint of a state's shape: the names of its fields, variants and primitive types, all the way down.
//!
//! A snapshot is stored as JSON, and JSON of another shape may parse by accident: a renamed field with a default is
//! silently empty. So a snapshot is keyed by what serde says of the type. The fold's meaning can change without its
//! shape; for that there is the explicit fold version.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// How deep types are followed; a type that contains itself ends here.
const DEPTH_MAX: usize = 12;
/// How many names are taken; a type of this size is told apart from others well enough.
const NAMES_MAX: usize = 4_096;

/// The fingerprint of a type's shape.
pub(super) fn fingerprint<T: DeserializeOwned>() -> [u8; 16] {
    let mut trace = Trace { hasher: blake3::Hasher::new(), names: 0 };
    // What matters is the walk, not the value; where a type refuses the value offered, the walk ends there, the same
    // way every time.
    let _ = T::deserialize(Walk { trace: &mut trace, depth: 0 });
    let mut print = [0; 16];
    print.copy_from_slice(&trace.hasher.finalize().as_bytes()[..16]);
    print
}

struct Trace {
    hasher: blake3::Hasher,
    names: usize,
}

impl Trace {
    fn note(&mut self, name: &str) -> Result<(), Ended> {
        self.names += 1;
        self.hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        if self.names > NAMES_MAX { Err(Ended) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct Ended;

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the walk over the type ended")
    }
}

impl std::error::Error for Ended {}

impl serde::de::Error for Ended {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

/// Offers every type a least value of itself, and notes what it asks for.
struct Walk<'a> {
    trace: &'a mut Trace,
    depth: usize,
}

impl Walk<'_> {
    fn step(&mut self, name: &str) -> Result<Walk<'_>, Ended> {
        self.trace.note(name)?;
        if self.depth >= DEPTH_MAX { Err(Ended) } else { Ok(Walk { trace: self.trace, depth: self.depth + 1 }) }
    }
}

macro_rules! primitives {
    ($($method:ident => $visit:ident($($value:expr)?)),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Ended> {
            self.trace.note(stringify!($method))?;
            visitor.$visit($($value)?)
        })*
    };
}

impl<'de> Deserializer<'de> for Walk<'_> {
    type Error = Ended;

    primitives! {
        deserialize_any => visit_unit(), deserialize_bool => visit_bool(false), deserialize_i8 => visit_i8(0),
        deserialize_i16 => visit_i16(0), deserialize_i32 => visit_i32(0), deserialize_i64 => visit_i64(0),
        deserialize_i128 => visit_i128(0), deserialize_u8 => visit_u8(0), deserialize_u16 => visit_u16(0),
        deserialize_u32 => visit_u32(0), deserialize_u64 => visit_u64(0), deserialize_u128 => visit_u128(0),
        deserialize_f32 => visit_f32(0.0), deserialize_f64 => visit_f64(0.0), deserialize_char => visit_char('a'),
        deserialize_str => visit_str(""), deserialize_string => visit_str(""), deserialize_bytes => visit_bytes(&[]),
        deserialize_byte_buf => visit_bytes(&[]), deserialize_unit => visit_unit(), deserialize_identifier => visit_str(""),
        deserialize_ignored_any => visit_unit(),
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Ended> {
        if self.depth >= DEPTH_MAX {
            return visitor.visit_none();
        }
        visitor.visit_some(self.step("option")?)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Ended> {
        self.trace.note(name)?;
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(mut self, name: &'static str, visitor: V) -> Result<V::Value, Ended> {
        visitor.visit_newtype_struct(self.step(name)?)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Ended> {
        let walk = self.step("seq")?;
        visitor.visit_seq(Members { walk, left: 1 })
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Ended> {
        let walk = self.step("tuple")?;
        visitor.visit_seq(Members { walk, left: len })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Ended> {
        let walk = self.step(name)?;
        visitor.visit_seq(Members { walk, left: len })
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Ended> {
        let walk = self.step("map")?;
        visitor.visit_map(Members { walk, left: 1 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Ended> {
        let walk = self.step(name)?;
        visitor.visit_map(Fields { walk, fields, value_of: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Ended> {
        let walk = self.step(name)?;
        for variant in variants {
            walk.trace.note(variant)?;
        }
        // One value has one variant: the first stands for all, whose names were noted.
        visitor.visit_enum(Variant { walk, name: variants.first().ok_or(Ended)? })
    }
}

/// The members of a sequence, tuple or map.
struct Members<'a> {
    walk: Walk<'a>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Members<'_> {
    type Error = Ended;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Ended> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(self.walk.step("member")?).map(Some)
    }
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = Ended;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Ended> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Ended> {
        seed.deserialize(self.walk.step("value")?)
    }
}

/// The fields of a struct, by name.
struct Fields<'a> {
    walk: Walk<'a>,
    fields: &'static [&'static str],
    value_of: Option<&'static str>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Ended;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Ended> {
        let Some((field, rest)) = self.fields.split_first() else { return Ok(None) };
        self.fields = rest;
        self.value_of = Some(field);
        let name: StrDeserializer<'_, Ended> = field.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Ended> {
        seed.deserialize(self.walk.step(self.value_of.unwrap_or_default())?)
    }
}

/// One variant of an enum.
struct Variant<'a> {
    walk: Walk<'a>,
    name: &'static str,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Ended;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Ended> {
        let name: StrDeserializer<'_, Ended> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Ended;

    fn unit_variant(self) -> Result<(), Ended> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(mut self, seed: T) -> Result<T::Value, Ended> {
        seed.deserialize(self.walk.step("newtype")?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Ended> {
        visitor.visit_seq(Members { walk: self.walk, left: len })
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Ended> {
        visitor.visit_map(Fields { walk: self.walk, fields, value_of: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    mod one {
        use super::*;
        #[derive(Deserialize)]
        pub(super) struct State {
            _a: u32,
            _list: Vec<Part>,
            _map: BTreeMap<String, Option<Part>>,
        }
        #[derive(Deserialize)]
        pub(super) struct Part {
            _x: i64,
        }
    }

    mod other {
        use super::*;
        #[derive(Deserialize)]
        pub(super) struct State {
            _a: u32,
            _list: Vec<Part>,
            _map: BTreeMap<String, Option<Part>>,
        }
        #[derive(Deserialize)]
        pub(super) struct Part {
            _y: i64,
        }
    }

    #[test]
    fn a_nested_field_that_is_renamed_changes_the_fingerprint() {
        assert_eq!(fingerprint::<one::State>(), fingerprint::<one::State>());
        assert_ne!(fingerprint::<one::State>(), fingerprint::<other::State>());
        assert_ne!(fingerprint::<Vec<u32>>(), fingerprint::<Vec<u64>>());
    }

    #[test]
    fn a_type_that_contains_itself_ends() {
        #[derive(Deserialize)]
        struct Tree {
            _children: Vec<Tree>,
            _next: Option<Box<Tree>>,
        }
        fingerprint::<Tree>();
    }
}
