//! The sizes of messages in memory, and the walk over the bytes of one.

use std::collections::HashMap;

use prost::Message;
use prost::encoding::encode_varint;

use super::PART_BYTES_MAX;
use super::described::{BYTES, DescribedFiles, DescribedMessage, MESSAGE, REPEATED, TEXT};

/// Bytes of a list, of a text, or of bytes, in the message that has it.
const FIELD_BYTES: usize = 32;
/// Bytes of a number.
const NUMBER_BYTES: usize = 8;
/// Bytes of a message that has nothing, and of what tells its variants apart.
const MESSAGE_BYTES: usize = 16;
/// Bytes of the smallest piece of the heap.
const HEAP_BYTES: usize = 32;
/// Elements that a list makes room for with its first one.
const FIRST_ROOM: usize = 4;
/// Elements that a list has room for, for each of the others.
const ROOM: usize = 2;
/// Depth of messages within messages; a decoder refuses a deeper one.
const DEPTH_MAX: usize = 100;
/// Number of a field, at most; there are no descriptions with greater ones here.
const FIELD_NUMBER_MAX: usize = 4_096;

/// The messages that clients send, with what they take in memory.
pub struct RequestShapes {
    shapes: Vec<MessageShape>,
    /// By the names of messages that a call may have.
    requests: HashMap<String, usize>,
    methods: Vec<(String, String)>,
}

/// Fields of a message, and its size.
#[derive(Default)]
struct MessageShape {
    /// By their numbers; most messages have few, counted from 1.
    fields: Vec<Option<FieldShape>>,
    bytes: usize,
}

#[derive(Clone, Copy)]
struct FieldShape {
    kind: FieldKind,
    is_list: bool,
}

#[derive(Clone, Copy)]
enum FieldKind {
    Number,
    Text,
    Message(usize),
}

/// Reason why a walk ended early.
enum WalkEnd {
    /// No decoder goes beyond this place.
    Malformed,
    TooLarge,
}

impl RequestShapes {
    /// Reads descriptions: a `google.protobuf.FileDescriptorSet`, with every message that one of
    /// its messages has.
    ///
    /// # Errors
    /// [`prost::DecodeError`] if they are none.
    pub fn described(descriptions: &[u8]) -> Result<Self, prost::DecodeError> {
        let files = DescribedFiles::decode(descriptions)?.files;
        let mut found = Vec::new();
        for file in &files {
            collect(&file.package, &file.messages, &mut found);
        }
        let by_name: HashMap<&str, usize> =
            found.iter().enumerate().map(|(at, (name, _))| (&**name, at)).collect();
        let mut shapes: Vec<_> =
            found.iter().map(|(_, message)| shape_of(message, &by_name)).collect();
        for at in 0..shapes.len() {
            shapes[at].bytes = inline_bytes(&shapes, at, &mut Vec::new());
        }
        let mut requests = HashMap::new();
        let mut methods = Vec::new();
        for file in &files {
            for service in &file.services {
                let name = named(&file.package, &service.name);
                for method in &service.methods {
                    let input = method.input.trim_start_matches('.');
                    if let Some(at) = by_name.get(input) {
                        requests.insert(input.to_owned(), *at);
                    }
                    methods.push((name.clone(), method.name.clone()));
                }
            }
        }
        Ok(Self { shapes, requests, methods })
    }

    /// Returns the calls that are described: the names of service and method.
    pub fn methods(&self) -> impl Iterator<Item = (&str, &str)> {
        self.methods.iter().map(|(service, method)| (&**service, &**method))
    }

    /// Returns the lists of requests that are not bounded: those of which a message of that size
    /// may be full, by empty elements. Lists of numbers take little more than their bytes, and are
    /// left out. A protocol tests that there is none.
    #[must_use]
    pub fn unbounded_lists(&self, message_bytes: usize) -> Vec<String> {
        let mut found = Vec::new();
        for (name, request) in &self.requests {
            self.lists(*request, &mut vec![*request], &mut Vec::new(), &mut |path| {
                if self.is_within(*request, &flood(path, message_bytes), PART_BYTES_MAX) {
                    found.push(format!("{name}, fields {path:?}"));
                }
            });
        }
        found
    }

    /// Tells of each list in a message: the numbers of the fields that lead to it.
    fn lists(
        &self,
        at: usize,
        within: &mut Vec<usize>,
        path: &mut Vec<usize>,
        tell: &mut impl FnMut(&[usize]),
    ) {
        for (number, field) in self.shapes[at].fields.iter().enumerate() {
            let Some(FieldShape { kind, is_list }) = *field else { continue };
            path.push(number);
            if is_list && !matches!(kind, FieldKind::Number) {
                tell(path);
            }
            if let FieldKind::Message(part) = kind
                && !within.contains(&part)
            {
                within.push(part);
                self.lists(part, within, path, tell);
                within.pop();
            }
            path.pop();
        }
    }

    /// Returns the place of the message of that name; `None` if it is not sent to a server.
    pub(super) fn request(&self, name: &str) -> Option<usize> {
        self.requests.get(name).copied()
    }

    /// Tells whether the parts of a message take at most so many bytes of memory. What no decoder
    /// reads is not counted.
    pub(super) fn is_within(&self, request: usize, message: &[u8], bytes_max: usize) -> bool {
        let mut walk = MessageWalk { shapes: &self.shapes, left: bytes_max };
        !matches!(walk.message(request, message, 0), Err(WalkEnd::TooLarge))
    }
}

/// A message of about so many bytes, with nothing but empty elements in the list at the path.
pub(super) fn flood(path: &[usize], bytes: usize) -> Vec<u8> {
    let key = |number: usize| (number << 3 | DELIMITED as usize) as u64;
    let Some((list, way)) = path.split_last() else { return Vec::new() };
    let mut element = Vec::new();
    encode_varint(key(*list), &mut element);
    element.push(0);
    let mut message = element.repeat(bytes / element.len());
    for number in way.iter().rev() {
        let inner = std::mem::take(&mut message);
        encode_varint(key(*number), &mut message);
        encode_varint(inner.len() as u64, &mut message);
        message.extend(inner);
    }
    message
}

fn named(within: &str, name: &str) -> String {
    if within.is_empty() { name.to_owned() } else { format!("{within}.{name}") }
}

fn collect<'d>(
    within: &str,
    messages: &'d [DescribedMessage],
    found: &mut Vec<(String, &'d DescribedMessage)>,
) {
    for message in messages {
        let name = named(within, &message.name);
        collect(&name, &message.nested, found);
        found.push((name, message));
    }
}

fn shape_of(message: &DescribedMessage, by_name: &HashMap<&str, usize>) -> MessageShape {
    let mut fields = Vec::new();
    for field in &message.fields {
        let number = usize::try_from(field.number).unwrap_or(usize::MAX);
        assert!(number <= FIELD_NUMBER_MAX, "{}: a field has the number {number}", message.name);
        if fields.len() <= number {
            fields.resize(number + 1, None);
        }
        let kind = match field.kind {
            TEXT | BYTES => FieldKind::Text,
            MESSAGE => FieldKind::Message(by_name[field.type_name.trim_start_matches('.')]),
            _ => FieldKind::Number,
        };
        fields[number] = Some(FieldShape { kind, is_list: field.label == REPEATED });
    }
    MessageShape { fields, bytes: 0 }
}

/// Returns the bytes of a message with those that stand in it. One that is in itself is in a box.
fn inline_bytes(shapes: &[MessageShape], at: usize, within: &mut Vec<usize>) -> usize {
    if within.contains(&at) {
        return NUMBER_BYTES;
    }
    within.push(at);
    let of_field = |field: &FieldShape, within: &mut Vec<usize>| match field.kind {
        _ if field.is_list => FIELD_BYTES,
        FieldKind::Number => NUMBER_BYTES,
        FieldKind::Text => FIELD_BYTES,
        FieldKind::Message(part) => inline_bytes(shapes, part, within),
    };
    let fields = shapes[at].fields.iter().flatten();
    let bytes = fields.map(|field| of_field(field, within)).sum::<usize>() + MESSAGE_BYTES;
    within.pop();
    bytes
}

/// A walk over the bytes of a message.
struct MessageWalk<'s> {
    shapes: &'s [MessageShape],
    /// Bytes that the rest may take.
    left: usize,
}

impl MessageWalk<'_> {
    fn message(&mut self, at: usize, bytes: &[u8], depth: usize) -> Result<(), WalkEnd> {
        if depth > DEPTH_MAX {
            return Err(WalkEnd::Malformed);
        }
        let shapes = self.shapes;
        let fields = &shapes[at].fields;
        let mut begun = 0_u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (number, wire) = key(&mut rest)?;
            let field = fields.get(number).copied().flatten();
            let value = value(&mut rest, number, wire, depth)?;
            let Some(FieldShape { kind, is_list }) = field else { continue };
            if is_list {
                // Of a list with a number that has no bit here, each element is as the first one.
                let bit = u32::try_from(number).ok().and_then(|number| 1_u64.checked_shl(number));
                let is_first = bit.is_none_or(|bit| begun & bit == 0);
                begun |= bit.unwrap_or_default();
                self.take_element(kind, value, is_first)?;
            }
            match (kind, value) {
                (FieldKind::Message(part), Some(value)) => self.message(part, value, depth + 1)?,
                // The value is cut out of the message, or a piece of the heap of its own.
                (FieldKind::Text, Some(value)) if !value.is_empty() => self.take(HEAP_BYTES)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn take_element(
        &mut self,
        kind: FieldKind,
        value: Option<&[u8]>,
        is_first: bool,
    ) -> Result<(), WalkEnd> {
        let room = if is_first { FIRST_ROOM } else { ROOM };
        let (bytes, elements) = match kind {
            FieldKind::Text => (FIELD_BYTES, 1),
            FieldKind::Message(part) => (self.shapes[part].bytes, 1),
            // Numbers may stand side by side in one value.
            FieldKind::Number => (NUMBER_BYTES, value.map_or(1, <[u8]>::len)),
        };
        self.take(bytes.saturating_mul(room).saturating_mul(elements))
    }

    fn take(&mut self, bytes: usize) -> Result<(), WalkEnd> {
        self.left = self.left.checked_sub(bytes).ok_or(WalkEnd::TooLarge)?;
        Ok(())
    }
}

const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const DELIMITED: u64 = 2;
const GROUP_BEGINS: u64 = 3;
const GROUP_ENDS: u64 = 4;
const FOUR_BYTES: u64 = 5;

/// Reads the number of a field, and how its value is written.
fn key(rest: &mut &[u8]) -> Result<(usize, u64), WalkEnd> {
    let key = u32::try_from(varint(rest)?).map_err(|_| WalkEnd::Malformed)?;
    let number = usize::try_from(key >> 3).map_err(|_| WalkEnd::Malformed)?;
    if number == 0 { Err(WalkEnd::Malformed) } else { Ok((number, u64::from(key & 7))) }
}

fn varint(rest: &mut &[u8]) -> Result<u64, WalkEnd> {
    let mut value = 0;
    for place in 0..10 {
        let Some((byte, behind)) = rest.split_first() else { return Err(WalkEnd::Malformed) };
        *rest = behind;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(WalkEnd::Malformed)
}

/// Reads a value, and returns the bytes of one whose length stands before it.
fn value<'b>(
    rest: &mut &'b [u8],
    number: usize,
    wire: u64,
    depth: usize,
) -> Result<Option<&'b [u8]>, WalkEnd> {
    let length = match wire {
        VARINT => return varint(rest).map(|_| None),
        EIGHT_BYTES => 8,
        FOUR_BYTES => 4,
        DELIMITED => usize::try_from(varint(rest)?).map_err(|_| WalkEnd::Malformed)?,
        GROUP_BEGINS => return group(rest, number, depth + 1).map(|()| None),
        _ => return Err(WalkEnd::Malformed),
    };
    let (value, behind) = rest.split_at_checked(length).ok_or(WalkEnd::Malformed)?;
    *rest = behind;
    Ok((wire == DELIMITED).then_some(value))
}

/// Goes to the end of a group, which no message has any more.
fn group(rest: &mut &[u8], number: usize, depth: usize) -> Result<(), WalkEnd> {
    if depth > DEPTH_MAX {
        return Err(WalkEnd::Malformed);
    }
    loop {
        let (inner, wire) = key(rest)?;
        if wire == GROUP_ENDS {
            return if inner == number { Ok(()) } else { Err(WalkEnd::Malformed) };
        }
        value(rest, inner, wire, depth)?;
    }
}
