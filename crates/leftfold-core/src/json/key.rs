//! The keys of maps: texts, and what can be told from a text by the type that reads it.

use serde::ser::{Impossible, Serialize, Serializer};

use super::loss::{Loss, Stop};
use super::mark::{Kind, Mark};
use super::output::Output;
use super::refuse::refuse;

/// Writes one key, with its quotes.
pub(super) struct Key<'o>(pub(super) &'o mut Output);

impl Key<'_> {
    fn quoted<T: Serialize>(self, mark: Mark, plain: &T) -> Result<Mark, Stop> {
        self.0.push(b"\"");
        self.0.push_plain(plain);
        self.0.push(b"\"");
        Ok(mark)
    }

    fn text(self, kind: Kind, text: &str) -> Result<Mark, Stop> {
        self.0.push_plain(text);
        Ok(Mark::text(kind, text.as_bytes()))
    }

    fn float<T: Serialize>(self, mark: Mark, plain: &T, number: f64) -> Result<Mark, Stop> {
        match number.is_finite() {
            true => self.quoted(mark, plain),
            false => Err(Stop::new(Loss::NotFinite { number: number.to_string() })),
        }
    }
}

macro_rules! plain {
    ($($method:ident($type:ty) => $kind:ident),* $(,)?) => {
        $(fn $method(self, value: $type) -> Result<Mark, Stop> {
            self.quoted(Mark::bits(Kind::$kind, value as u64), &value)
        })*
    };
}

impl Serializer for Key<'_> {
    type Ok = Mark;
    type Error = Stop;
    type SerializeSeq = Impossible<Mark, Stop>;
    type SerializeTuple = Impossible<Mark, Stop>;
    type SerializeTupleStruct = Impossible<Mark, Stop>;
    type SerializeTupleVariant = Impossible<Mark, Stop>;
    type SerializeMap = Impossible<Mark, Stop>;
    type SerializeStruct = Impossible<Mark, Stop>;
    type SerializeStructVariant = Impossible<Mark, Stop>;

    plain! {
        serialize_bool(bool) => Bool,
        serialize_i8(i8) => I8, serialize_i16(i16) => I16,
        serialize_i32(i32) => I32, serialize_i64(i64) => I64,
        serialize_u8(u8) => U8, serialize_u16(u16) => U16,
        serialize_u32(u32) => U32, serialize_u64(u64) => U64,
    }

    fn serialize_i128(self, value: i128) -> Result<Mark, Stop> {
        self.quoted(Mark::wide(Kind::I128, value as u128), &value)
    }

    fn serialize_u128(self, value: u128) -> Result<Mark, Stop> {
        self.quoted(Mark::wide(Kind::U128, value), &value)
    }

    fn serialize_f32(self, value: f32) -> Result<Mark, Stop> {
        self.float(Mark::bits(Kind::F32, u64::from(value.to_bits())), &value, value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<Mark, Stop> {
        self.float(Mark::bits(Kind::F64, value.to_bits()), &value, value)
    }

    fn serialize_char(self, value: char) -> Result<Mark, Stop> {
        self.text(Kind::Char, value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<Mark, Stop> {
        self.text(Kind::Str, text)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Mark, Stop> {
        self.text(Kind::UnitVariant, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Mark, Stop> {
        Ok(Mark::text(Kind::NewtypeStruct, name.as_bytes()).and(value.serialize(self)?))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Mark, Stop> {
        Ok(Mark::bits(Kind::Some, 0).and(value.serialize(self)?))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Mark, Stop> {
        Err(Stop::new(Loss::NoKey))
    }

    refuse! {
        Stop::new(Loss::NoKey);
        serialize_bytes(&[u8]) -> Ok, serialize_none() -> Ok, serialize_unit() -> Ok,
        serialize_unit_struct(&'static str) -> Ok,
        serialize_seq(Option<usize>) -> SerializeSeq,
        serialize_tuple(usize) -> SerializeTuple,
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant,
        serialize_map(Option<usize>) -> SerializeMap,
        serialize_struct(&'static str, usize) -> SerializeStruct,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant,
    }
}
