//! Writes JSON as serde_json does, and takes down in the same pass what serde was told.

use std::ops::Range;

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::key::KeyEncoder;
use super::loss::{EncodeError, Loss, PathStep};
use super::mark::{Mark, ValueKind};
use super::output::{ElementOrder, Output};
use super::text::{depth, unreadable_text};
use super::trace::Doubt;
use super::verbatim::VERBATIM;

/// Arrays and objects within each other that a value of a user's type may have. serde_json reads
/// 127; what is left is room for an upcaster that wraps old data.
pub(crate) const DEPTH_MAX: u32 = 120;

/// Arrays and objects within each other that serde_json reads. In a record of the runtime a value
/// of a user's has its own limit, so that what can be written alone can be recorded whatever the
/// record puts around it.
const DEPTH_READ_MAX: u32 = 127;

/// Keys for which there is room from the start, whatever a type says of its length.
const KEYS_AT_ONCE: usize = 1_024;

/// Writes one value.
pub(crate) struct Encoder<'o> {
    output: &'o mut Output,
    /// Arrays and objects around it.
    depth: u32,
    texts: TextForm,
}

/// Form in which texts are written.
#[derive(Clone, Copy, PartialEq)]
enum TextForm {
    Quoted,
    /// The text is JSON.
    Verbatim,
}

impl<'o> Encoder<'o> {
    pub(crate) fn new(output: &'o mut Output) -> Self {
        Self { output, depth: 0, texts: TextForm::Quoted }
    }

    fn number<T: Serialize>(
        self,
        mark: Mark,
        number: T,
        shown: impl FnOnce(T) -> String,
    ) -> Result<Mark, EncodeError> {
        self.output.push_plain(&number);
        Ok(self.output.leaf(mark, || shown(number)))
    }

    fn wide(
        self,
        mark: Mark,
        number: impl std::fmt::Display,
        kind: &str,
    ) -> Result<Mark, EncodeError> {
        let number = number.to_string();
        self.output.push(number.as_bytes());
        Ok(self.output.doubtful(mark, Some(Doubt::Wide), || format!("{number} ({kind})")))
    }

    /// Writes a number that JSON does not know, as null. It does no harm if the type reads a null
    /// as what it was.
    fn not_finite(self, mark: Mark, number: f64) -> Result<Mark, EncodeError> {
        self.output.push(b"null");
        // Every NaN is written alike.
        let mark =
            if number.is_nan() { Mark::bits(ValueKind::F64, f64::NAN.to_bits()) } else { mark };
        Ok(self.output.doubtful(mark, Some(Doubt::NotFinite), || number.to_string()))
    }

    fn null(self, mark: Mark, shown: &str) -> Result<Mark, EncodeError> {
        self.output.push(b"null");
        Ok(self.output.leaf(mark, || shown.to_owned()))
    }

    fn verbatim(self, json: &str) -> Result<Mark, EncodeError> {
        let depth = depth(json.as_bytes());
        // What is only looked at was written before.
        let is_value =
            self.output.json.is_some() && self.output.trace.is_none() && !self.output.is_record;
        let depth_max = if is_value { DEPTH_MAX } else { DEPTH_READ_MAX };
        if depth > DEPTH_MAX || self.depth + depth > depth_max {
            return Err(EncodeError::new(Loss::TooDeep { depth_max: DEPTH_MAX }));
        }
        if let Some(error) = is_value.then(|| unreadable_text(json.as_bytes())).flatten() {
            return Err(EncodeError::new(Loss::Unreadable { detail: error.to_string() }));
        }
        self.output.push(json.as_bytes());
        Ok(self.output.leaf(Mark::text(ValueKind::Verbatim, json.as_bytes()), || json.to_owned()))
    }

    fn open(
        self,
        kind: ValueKind,
        name: &'static str,
        open: &[u8],
        close: &'static [u8],
    ) -> Result<Members<'o>, EncodeError> {
        // Each closing bracket is a level; what stands for verbatim text has none.
        let depth = self.depth + close.len() as u32;
        if depth > DEPTH_MAX {
            return Err(EncodeError::new(Loss::TooDeep { depth_max: DEPTH_MAX }));
        }
        self.output.push(open);
        let nodes = self.output.nodes();
        let mark = Mark::text(kind, name.as_bytes());
        let (key, keys, texts) =
            (Mark::bits(ValueKind::Unit, 0), WrittenKeys::default(), TextForm::Quoted);
        Ok(Members {
            output: self.output,
            depth,
            kind,
            name,
            close,
            count: 0,
            mark,
            key,
            keys,
            nodes,
            texts,
        })
    }

    /// A variant with data: an object with the variant as its only key.
    fn open_variant(
        self,
        kind: ValueKind,
        (name, variant): (&'static str, &'static str),
        bracket: u8,
        close: &'static [u8],
    ) -> Result<Members<'o>, EncodeError> {
        self.output.push(b"{");
        self.output.push_plain(variant);
        let mut members = self.open(kind, variant, &[b':', bracket], close)?;
        members.mark = members.mark.and(Mark::text(kind, name.as_bytes()));
        Ok(members)
    }

    /// The same place for what a newtype, or a Some, holds.
    fn inner(&mut self) -> Encoder<'_> {
        Encoder { output: self.output, depth: self.depth, texts: self.texts }
    }

    fn wrapped(
        mut self,
        around: Mark,
        shown: &str,
        write: impl FnOnce(Encoder<'_>) -> Result<Mark, EncodeError>,
    ) -> Result<Mark, EncodeError> {
        let mark = around.and(write(self.inner())?);
        if let Some(trace) = &mut self.output.trace {
            trace.wrap(mark, shown);
        }
        Ok(mark)
    }
}

macro_rules! numbers {
    ($($method:ident($type:ty) => $kind:ident),* $(,)?) => {
        $(#[inline]
        fn $method(self, number: $type) -> Result<Mark, EncodeError> {
            let shown = |number| format!("{number} ({})", stringify!($type));
            self.number(Mark::bits(ValueKind::$kind, number as u64), number, shown)
        })*
    };
}

impl<'o> Serializer for Encoder<'o> {
    type Ok = Mark;
    type Error = EncodeError;
    type SerializeSeq = Members<'o>;
    type SerializeTuple = Members<'o>;
    type SerializeTupleStruct = Members<'o>;
    type SerializeTupleVariant = Members<'o>;
    type SerializeMap = Members<'o>;
    type SerializeStruct = Members<'o>;
    type SerializeStructVariant = Members<'o>;

    numbers! {
        serialize_i8(i8) => I8, serialize_i16(i16) => I16,
        serialize_i32(i32) => I32, serialize_i64(i64) => I64,
        serialize_u8(u8) => U8, serialize_u16(u16) => U16,
        serialize_u32(u32) => U32, serialize_u64(u64) => U64,
    }

    fn serialize_bool(self, value: bool) -> Result<Mark, EncodeError> {
        self.output.push(if value { b"true" } else { b"false" });
        Ok(self.output.leaf(Mark::bits(ValueKind::Bool, u64::from(value)), || value.to_string()))
    }

    fn serialize_i128(self, number: i128) -> Result<Mark, EncodeError> {
        self.wide(Mark::wide(ValueKind::I128, number as u128), number, "i128")
    }

    fn serialize_u128(self, number: u128) -> Result<Mark, EncodeError> {
        self.wide(Mark::wide(ValueKind::U128, number), number, "u128")
    }

    fn serialize_f32(self, number: f32) -> Result<Mark, EncodeError> {
        let mark = Mark::bits(ValueKind::F32, u64::from(number.to_bits()));
        if number.is_finite() {
            return self.number(mark, number, |number| format!("{number:?} (f32)"));
        }
        self.not_finite(mark, number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<Mark, EncodeError> {
        let mark = Mark::bits(ValueKind::F64, number.to_bits());
        if number.is_finite() {
            return self.number(mark, number, |number| format!("{number:?} (f64)"));
        }
        self.not_finite(mark, number)
    }

    fn serialize_char(self, value: char) -> Result<Mark, EncodeError> {
        self.output.push_plain(&value);
        Ok(self.output.leaf(Mark::bits(ValueKind::Char, u64::from(u32::from(value))), || {
            format!("{value:?}")
        }))
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<Mark, EncodeError> {
        if self.texts == TextForm::Verbatim {
            return self.verbatim(text);
        }
        self.output.push_plain(text);
        let mark = self.output.mark_of(text);
        let mark = self.output.leaf(mark, || format!("{text:?}"));
        if let Some(trace) = &mut self.output.trace {
            trace.order(Mark::text(ValueKind::Str, text.as_bytes()));
        }
        Ok(mark)
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Mark, EncodeError> {
        self.output.push_plain(bytes);
        Ok(self.output.leaf(Mark::text(ValueKind::Bytes, bytes), || format!("{bytes:?}")))
    }

    fn serialize_none(self) -> Result<Mark, EncodeError> {
        self.null(Mark::bits(ValueKind::None, 0), "None")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Mark, EncodeError> {
        self.wrapped(Mark::bits(ValueKind::Some, 0), "Some", |inner| value.serialize(inner))
    }

    fn serialize_unit(self) -> Result<Mark, EncodeError> {
        self.null(Mark::bits(ValueKind::Unit, 0), "()")
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<Mark, EncodeError> {
        self.null(Mark::text(ValueKind::UnitStruct, name.as_bytes()), name)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Mark, EncodeError> {
        self.output.push_plain(variant);
        let mark = Mark::text(ValueKind::UnitVariant, variant.as_bytes())
            .and(Mark::text(ValueKind::UnitVariant, name.as_bytes()));
        Ok(self.output.leaf(mark, || variant.to_owned()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Mark, EncodeError> {
        self.wrapped(Mark::text(ValueKind::NewtypeStruct, name.as_bytes()), name, |inner| {
            value.serialize(inner)
        })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Mark, EncodeError> {
        let mut members = self.open(ValueKind::NewtypeVariant, name, b"{", b"}")?;
        members.field(variant, value)?;
        members.close()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Members<'o>, EncodeError> {
        self.open(ValueKind::Seq, "", b"[", b"]")
    }

    fn serialize_tuple(self, _: usize) -> Result<Members<'o>, EncodeError> {
        self.open(ValueKind::Tuple, "", b"[", b"]")
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Members<'o>, EncodeError> {
        self.open(ValueKind::TupleStruct, name, b"[", b"]")
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'o>, EncodeError> {
        self.open_variant(ValueKind::TupleVariant, (name, variant), b'[', b"]}")
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Members<'o>, EncodeError> {
        let keys = if self.output.json.is_some() { len.unwrap_or(0).min(KEYS_AT_ONCE) } else { 0 };
        let mut members = self.open(ValueKind::Map, "", b"{", b"}")?;
        members.keys.0.reserve(keys);
        Ok(members)
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Members<'o>, EncodeError> {
        if VERBATIM.contains(&name) {
            let mut members = self.open(ValueKind::Verbatim, "", b"", b"")?;
            members.texts = TextForm::Verbatim;
            return Ok(members);
        }
        self.open(ValueKind::Struct, name, b"{", b"}")
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'o>, EncodeError> {
        self.open_variant(ValueKind::StructVariant, (name, variant), b'{', b"}}")
    }
}

/// The members of an array or an object, as they are written.
pub(crate) struct Members<'o> {
    output: &'o mut Output,
    depth: u32,
    kind: ValueKind,
    name: &'static str,
    close: &'static [u8],
    count: usize,
    mark: Mark,
    /// The mark of the key whose value comes next.
    key: Mark,
    keys: WrittenKeys,
    /// Number of nodes that stood in the trace before it.
    nodes: usize,
    texts: TextForm,
}

/// The keys of a map, and their places in the JSON; a struct has each of its own once.
#[derive(Default)]
struct WrittenKeys(Vec<(Mark, Range<usize>)>);

impl WrittenKeys {
    /// The text of the key that was written last.
    fn last(&self, output: &Output) -> PathStep {
        let range = self.0.last().map_or(0..0, |(_, range)| range.clone());
        PathStep::Name(output.text_of(range))
    }

    /// An object of two members with one key is read as one of them, or not at all.
    fn check(mut self, output: &Output) -> Result<(), EncodeError> {
        self.0.sort_unstable_by_key(|(mark, _)| *mark);
        match self.0.windows(2).find(|two| two[0].0 == two[1].0) {
            Some(two) => {
                Err(EncodeError::new(Loss::KeyTwice { key: output.text_of(two[0].1.clone()) }))
            }
            None => Ok(()),
        }
    }
}

impl Members<'_> {
    #[inline]
    fn comma(&mut self) {
        if self.count > 0 {
            self.output.push(b",");
        }
        self.count += 1;
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<Mark, EncodeError> {
        value.serialize(Encoder { output: self.output, depth: self.depth, texts: self.texts })
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let index = self.count;
        self.comma();
        let start = self.output.len();
        let mark = self.value(value).map_err(|stop| stop.at(PathStep::Index(index)))?;
        if self.output.is_doubling && self.kind == ValueKind::Seq && index == 0 {
            self.output.push_again(start);
        }
        if let Some(trace) = &mut self.output.trace {
            trace.place(PathStep::Index(index));
        }
        self.mark = match (self.kind, self.output.order) {
            (ValueKind::Seq, ElementOrder::Any) => self.mark.beside(mark),
            _ => self.mark.and(mark),
        };
        Ok(())
    }

    /// A member whose key is a field's name.
    #[inline]
    fn field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        if self.texts == TextForm::Quoted {
            self.comma();
            self.output.push_plain(name);
            self.output.push(b":");
        }
        self.key = Mark::text(ValueKind::Str, name.as_bytes());
        let mark = self.value(value).map_err(|stop| stop.at(PathStep::Name(name.to_owned())))?;
        self.take(mark, |_, _| PathStep::Name(name.to_owned()));
        Ok(())
    }

    /// Takes the value of the key.
    fn take(&mut self, value: Mark, step: impl FnOnce(&WrittenKeys, &Output) -> PathStep) {
        if self.output.trace.is_some() {
            let step = step(&self.keys, self.output);
            self.output.trace.iter_mut().for_each(|trace| trace.place(step.clone()));
        }
        self.mark = self.mark.beside(self.key.and(value));
    }

    fn close(self) -> Result<Mark, EncodeError> {
        self.output.push(self.close);
        self.keys.check(self.output)?;
        let mark = self.mark.and(Mark::bits(self.kind, self.count as u64));
        if let Some(trace) = &mut self.output.trace {
            trace.join(self.nodes, mark, self.kind, self.name);
        }
        Ok(mark)
    }
}

impl SerializeMap for Members<'_> {
    type Ok = Mark;
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.comma();
        let start = self.output.len();
        self.key = key.serialize(KeyEncoder(self.output))?;
        if let Some(json) = &self.output.json {
            let range = start..json.len();
            self.keys.0.push((Mark::text(ValueKind::Str, &json[range.clone()]), range));
        }
        self.output.push(b":");
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let mark = self.value(value);
        let mark = mark.map_err(|stop| stop.at(self.keys.last(self.output)))?;
        self.take(mark, WrittenKeys::last);
        Ok(())
    }

    fn end(self) -> Result<Mark, EncodeError> {
        self.close()
    }
}

macro_rules! members {
    ($($interface:ident: $method:ident($($key:ident)?) by $how:ident),* $(,)?) => {
        $(impl $interface for Members<'_> {
            type Ok = Mark;
            type Error = EncodeError;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($key: &'static str,)?
                value: &T,
            ) -> Result<(), EncodeError> {
                self.$how($($key,)? value)
            }

            fn end(self) -> Result<Mark, EncodeError> {
                self.close()
            }
        })*
    };
}

members! {
    SerializeSeq: serialize_element() by element,
    SerializeTuple: serialize_element() by element,
    SerializeTupleStruct: serialize_field() by element,
    SerializeTupleVariant: serialize_field() by element,
    SerializeStruct: serialize_field(key) by field,
    SerializeStructVariant: serialize_field(key) by field,
}
