//! Serde as the only macro: an externally tagged enum is taken apart into variant and data, and put
//! together again.
//!
//! A variant without data is stored as `{}`, so that it can grow fields later. Tuple variants have
//! no names to grow by and are refused.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;
use serde::ser::{Impossible, Serialize, SerializeStruct, SerializeStructVariant, Serializer};

use super::error::EventError;
use crate::json::{
    self, EncodeError, Encoder, JsonReadError, Loss, Mark, Members, Output, SerdeFunctions,
    Unfaithful,
};

/// The variants of an externally tagged enum, as serde names them.
pub(super) fn variants<E: DeserializeOwned>() -> Result<&'static [&'static str], EventError> {
    match EventError::caught::<E, _>("Deserialize", || E::deserialize(Probe))? {
        Err(Probed::Variants(variants)) => Ok(variants),
        _ => Err(EventError::NotAnEnum { name: std::any::type_name::<E>() }),
    }
}

/// The variant and the JSON of its data, which is read as it was written.
pub(super) fn encode<E: Serialize + DeserializeOwned>(
    event: &E,
    mut output: Output,
) -> Result<(&'static str, Vec<u8>), EventError> {
    let (variant, mark) = split(event, &mut output).map_err(|error| match error {
        SplitError::Shape(what) => EventError::Shape { name: std::any::type_name::<E>(), what },
        SplitError::Encode(stop) => stop.of::<E>().into(),
    })?;
    let data = output.into_json();
    let read = decode::<E>(variant, &data);
    let marked = |event: &E| split(event, &mut Output::marking());
    if read.as_ref().is_ok_and(|back| marked(back).is_ok_and(|split| split == (variant, mark))) {
        return Ok((variant, data));
    }
    match json::read_faithfully(
        event,
        &data,
        read,
        &SerdeFunctions { tell: &tell, read: &|data| decode(variant, data) },
    ) {
        Ok(_) => Ok((variant, data)),
        Err(mut lost) => {
            let dot = if lost.path.is_empty() { "" } else { "." };
            lost.path = format!("{variant}{dot}{}", lost.path);
            Err(lost.into())
        }
    }
}

fn split<E: Serialize>(event: &E, output: &mut Output) -> Result<Split, SplitError> {
    json::writing(|| event.serialize(Splitter(output)))
}

fn tell<E: Serialize>(event: &E, output: &mut Output) -> Result<Mark, EncodeError> {
    split(event, output).map(|(_, mark)| mark).map_err(|error| match error {
        SplitError::Shape(what) => serde::ser::Error::custom(what),
        SplitError::Encode(stop) => stop,
    })
}

impl From<Unfaithful> for EventError {
    fn from(lost: Unfaithful) -> Self {
        match lost.loss {
            Loss::Panics { code, detail } => {
                Self::Panicked { name: lost.name, place: code, detail }
            }
            _ => Self::Encode { name: lost.name, detail: lost.to_string() },
        }
    }
}

/// The event of a variant and the JSON of its data.
pub(super) fn decode<E: DeserializeOwned>(variant: &str, data: &[u8]) -> Result<E, JsonReadError> {
    json::reading(|| E::deserialize(JoinedVariant { variant, data }))
}

/// Asks a type for its variants: the answer comes as the error.
struct Probe;

#[derive(Debug)]
enum Probed {
    Variants(&'static [&'static str]),
    Other,
}

impl std::fmt::Display for Probed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a probe has no value")
    }
}

impl std::error::Error for Probed {}

impl serde::de::Error for Probed {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self::Other
    }
}

impl<'de> Deserializer<'de> for Probe {
    type Error = Probed;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Probed> {
        Err(Probed::Other)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Probed> {
        Err(Probed::Variants(variants))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

/// Presents a variant and its data as the enum that they are.
struct JoinedVariant<'a> {
    variant: &'a str,
    data: &'a [u8],
}

impl<'de> JoinedVariant<'de> {
    fn read<T>(
        self,
        read: impl FnOnce(
            &mut serde_json::Deserializer<serde_json::de::SliceRead<'de>>,
        ) -> serde_json::Result<T>,
    ) -> serde_json::Result<T> {
        let mut json = serde_json::Deserializer::from_slice(self.data);
        let value = read(&mut json)?;
        json.end()?;
        Ok(value)
    }
}

impl<'de> Deserializer<'de> for JoinedVariant<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("not an externally tagged enum"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

impl<'de> EnumAccess<'de> for JoinedVariant<'de> {
    type Error = serde_json::Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), Self::Error> {
        let name: StrDeserializer<'_, Self::Error> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for JoinedVariant<'de> {
    type Error = serde_json::Error;

    /// Fields that were stored with a variant that has none today are of no interest to it.
    fn unit_variant(self) -> Result<(), Self::Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, Self::Error> {
        self.read(|json| seed.deserialize(json))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("a tuple variant cannot be an event, give its fields names"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.read(|json| json.deserialize_struct("", fields, visitor))
    }
}

/// Takes an enum apart into its variant and the JSON of its data.
struct Splitter<'o>(&'o mut Output);

/// The variant, and the mark of its data.
type Split = (&'static str, Mark);

#[derive(Debug)]
enum SplitError {
    Shape(&'static str),
    Encode(EncodeError),
}

impl std::fmt::Display for SplitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shape(what) => f.write_str(what),
            Self::Encode(stop) => stop.fmt(f),
        }
    }
}

impl std::error::Error for SplitError {}

impl serde::ser::Error for SplitError {
    fn custom<T: std::fmt::Display>(detail: T) -> Self {
        Self::Encode(serde::ser::Error::custom(detail))
    }
}

impl From<EncodeError> for SplitError {
    fn from(stop: EncodeError) -> Self {
        Self::Encode(stop)
    }
}

/// The fields of a struct variant, as they are written.
struct VariantFields<'o> {
    variant: &'static str,
    members: Members<'o>,
}

impl SerializeStructVariant for VariantFields<'_> {
    type Ok = Split;
    type Error = SplitError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), SplitError> {
        Ok(SerializeStruct::serialize_field(&mut self.members, key, value)
            .map_err(|stop| stop.within(self.variant))?)
    }

    fn end(self) -> Result<Split, SplitError> {
        Ok((self.variant, SerializeStruct::end(self.members)?))
    }
}

const NOT_A_VARIANT: &str = "it must be written as an externally tagged enum";

impl<'o> Serializer for Splitter<'o> {
    type Ok = Split;
    type Error = SplitError;
    type SerializeSeq = Impossible<Split, SplitError>;
    type SerializeTuple = Impossible<Split, SplitError>;
    type SerializeTupleStruct = Impossible<Split, SplitError>;
    type SerializeTupleVariant = Impossible<Split, SplitError>;
    type SerializeMap = Impossible<Split, SplitError>;
    type SerializeStruct = Impossible<Split, SplitError>;
    type SerializeStructVariant = VariantFields<'o>;

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Split, SplitError> {
        let members = Encoder::new(self.0).serialize_struct(variant, 0)?;
        Ok((variant, SerializeStruct::end(members)?))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Split, SplitError> {
        let mark = value.serialize(Encoder::new(self.0)).map_err(|stop| stop.within(variant))?;
        Ok((variant, mark))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        fields: usize,
    ) -> Result<VariantFields<'o>, SplitError> {
        Ok(VariantFields {
            variant,
            members: Encoder::new(self.0).serialize_struct(variant, fields)?,
        })
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Split, SplitError> {
        Err(SplitError::Shape(NOT_A_VARIANT))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Split, SplitError> {
        value.serialize(self)
    }

    json::refuse! {
        SplitError::Shape("a tuple variant cannot be an event, give its fields names");
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant,
    }

    json::refuse! {
        SplitError::Shape(NOT_A_VARIANT);
        serialize_bool(bool) -> Ok,
        serialize_i8(i8) -> Ok, serialize_i16(i16) -> Ok,
        serialize_i32(i32) -> Ok, serialize_i64(i64) -> Ok,
        serialize_u8(u8) -> Ok, serialize_u16(u16) -> Ok,
        serialize_u32(u32) -> Ok, serialize_u64(u64) -> Ok,
        serialize_f32(f32) -> Ok, serialize_f64(f64) -> Ok,
        serialize_char(char) -> Ok, serialize_str(&str) -> Ok, serialize_bytes(&[u8]) -> Ok,
        serialize_none() -> Ok, serialize_unit() -> Ok,
        serialize_unit_struct(&'static str) -> Ok,
        serialize_seq(Option<usize>) -> SerializeSeq,
        serialize_tuple(usize) -> SerializeTuple,
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct,
        serialize_map(Option<usize>) -> SerializeMap,
        serialize_struct(&'static str, usize) -> SerializeStruct,
    }
}
