//! The keys of maps: texts, and what can be told from a text by the type that reads it.

use serde::ser::{Impossible, Serialize, Serializer};

use super::loss::{EncodeError, Loss};
use super::mark::{Mark, ValueKind};
use super::output::Output;
use super::refuse::refuse;

/// Writes one key, with its quotes.
pub(super) struct KeyEncoder<'o>(pub(super) &'o mut Output);

impl KeyEncoder<'_> {
    fn quoted<T: Serialize>(self, mark: Mark, plain: &T) -> Result<Mark, EncodeError> {
        self.0.push(b"\"");
        self.0.push_plain(plain);
        self.0.push(b"\"");
        Ok(mark)
    }

    fn text(self, kind: ValueKind, text: &str) -> Result<Mark, EncodeError> {
        self.0.push_plain(text);
        Ok(Mark::text(kind, text.as_bytes()))
    }

    fn float<T: Serialize>(self, mark: Mark, plain: &T, number: f64) -> Result<Mark, EncodeError> {
        match number.is_finite() {
            true => self.quoted(mark, plain),
            false => Err(EncodeError::new(Loss::NotFinite { number: number.to_string() })),
        }
    }
}

macro_rules! plain {
    ($($method:ident($type:ty) => $kind:ident),* $(,)?) => {
        $(fn $method(self, value: $type) -> Result<Mark, EncodeError> {
            self.quoted(Mark::bits(ValueKind::$kind, value as u64), &value)
        })*
    };
}

impl Serializer for KeyEncoder<'_> {
    type Ok = Mark;
    type Error = EncodeError;
    type SerializeSeq = Impossible<Mark, EncodeError>;
    type SerializeTuple = Impossible<Mark, EncodeError>;
    type SerializeTupleStruct = Impossible<Mark, EncodeError>;
    type SerializeTupleVariant = Impossible<Mark, EncodeError>;
    type SerializeMap = Impossible<Mark, EncodeError>;
    type SerializeStruct = Impossible<Mark, EncodeError>;
    type SerializeStructVariant = Impossible<Mark, EncodeError>;

    plain! {
        serialize_bool(bool) => Bool,
        serialize_i8(i8) => I8, serialize_i16(i16) => I16,
        serialize_i32(i32) => I32, serialize_i64(i64) => I64,
        serialize_u8(u8) => U8, serialize_u16(u16) => U16,
        serialize_u32(u32) => U32, serialize_u64(u64) => U64,
    }

    fn serialize_i128(self, value: i128) -> Result<Mark, EncodeError> {
        self.quoted(Mark::wide(ValueKind::I128, value as u128), &value)
    }

    fn serialize_u128(self, value: u128) -> Result<Mark, EncodeError> {
        self.quoted(Mark::wide(ValueKind::U128, value), &value)
    }

    fn serialize_f32(self, value: f32) -> Result<Mark, EncodeError> {
        self.float(Mark::bits(ValueKind::F32, u64::from(value.to_bits())), &value, value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<Mark, EncodeError> {
        self.float(Mark::bits(ValueKind::F64, value.to_bits()), &value, value)
    }

    fn serialize_char(self, value: char) -> Result<Mark, EncodeError> {
        self.text(ValueKind::Char, value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<Mark, EncodeError> {
        self.text(ValueKind::Str, text)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Mark, EncodeError> {
        self.text(ValueKind::UnitVariant, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Mark, EncodeError> {
        Ok(Mark::text(ValueKind::NewtypeStruct, name.as_bytes()).and(value.serialize(self)?))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Mark, EncodeError> {
        Ok(Mark::bits(ValueKind::Some, 0).and(value.serialize(self)?))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Mark, EncodeError> {
        Err(EncodeError::new(Loss::NoKey))
    }

    refuse! {
        EncodeError::new(Loss::NoKey);
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
