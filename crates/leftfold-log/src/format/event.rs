//! Event records. The caller of an append encodes all but what only the writer knows; readers
//! decode without copying.

use bytes::Bytes;
use bytestring::ByteString;
use leftfold_core::store::limits::{
    KEY_IDS_MAX, LABEL_BYTES_MAX, STREAM_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX, TYPE_BYTES_MAX,
};
use leftfold_core::store::{
    ContentType, EventId, EventType, InStream, Invalid, Label, Metadata, NewEvent, Position,
    RecordedEvent, StoreId, StreamName, Tag, Tags, TraceContext, Version,
};

use super::record::{EventParts, put_event};
use super::{Decoder, FormatError, NextRecord, moment};
use crate::format::varint;

const ID: u8 = 1;
const STREAM: u8 = 1 << 1;
const TAGS: u8 = 1 << 2;
const CONTENT_TYPE: u8 = 1 << 3;
const KEY_IDS: u8 = 1 << 4;
const METADATA: u8 = 1 << 5;
const CONTINUES: u8 = 1 << 6;
const EXTENSION: u8 = 1 << 7;

/// Field of an extension: a trace context.
const TRACE: u8 = 1;
/// Bytes of a trace context before its state: ids of trace and parent, flags.
const TRACE_BYTES: usize = 25;

const BINARY: u8 = 1;
const OTHER: u8 = 2;

/// Events as their caller encoded them: each in two parts, for between them goes the version, which
/// the writer knows.
#[derive(Debug, Default)]
pub(crate) struct EncodedEvents {
    bytes: Vec<u8>,
    parts: Vec<EncodedEventBounds>,
}

#[derive(Clone, Copy, Debug)]
struct EncodedEventBounds {
    flags: u8,
    head_end: u32,
    end: u32,
}

impl EncodedEvents {
    /// Encodes events that are within their limits. What they carry beside names and tags is taken
    /// out of them.
    pub(crate) fn take(events: &mut [NewEvent]) -> Self {
        let payload = |event: &NewEvent| event.data.len() + event.metadata.user.len() + 96;
        let mut encoded = Self {
            bytes: Vec::with_capacity(events.iter().map(payload).sum()),
            parts: Vec::with_capacity(events.len()),
        };
        let count = events.len();
        for (index, event) in events.iter_mut().enumerate() {
            let continues = if index + 1 < count { CONTINUES } else { 0 };
            let flags = encoded.head(event) | continues;
            let head_end = encoded.bytes.len() as u32;
            let flags = flags | encoded.tail(event);
            encoded.parts.push(EncodedEventBounds {
                flags,
                head_end,
                end: encoded.bytes.len() as u32,
            });
            event.data = Bytes::new();
            event.metadata = Metadata::default();
        }
        encoded
    }

    /// Returns the approximate number of bytes that the records will have.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len() + self.parts.len() * 24
    }

    /// Writes the record of the event at an index.
    pub(crate) fn put(
        &self,
        index: usize,
        (position, version): (Position, Version),
        recorded_at: i64,
        next: NextRecord,
        out: &mut Vec<u8>,
    ) {
        let EncodedEventBounds { flags, head_end, end } = self.parts[index];
        let start = if index == 0 { 0 } else { self.parts[index - 1].end as usize };
        let (head, tail) =
            (&self.bytes[start..head_end as usize], &self.bytes[head_end as usize..end as usize]);
        let version = (flags & STREAM != 0).then_some(version);
        put_event(out, &EventParts { flags, head, version, tail }, position, recorded_at, next);
    }

    fn head(&mut self, event: &NewEvent) -> u8 {
        let mut flags = 0;
        if let Some(id) = event.id {
            flags |= ID;
            self.bytes.extend_from_slice(id.0.as_bytes());
        }
        self.short_text(&event.event_type);
        varint::put(u64::from(event.schema_version), &mut self.bytes);
        if let Some(stream) = &event.stream {
            flags |= STREAM;
            self.long_text(stream);
        }
        flags
    }

    fn tail(&mut self, event: &NewEvent) -> u8 {
        let mut flags = 0;
        if !event.tags.is_empty() {
            flags |= TAGS;
            varint::put(event.tags.len() as u64, &mut self.bytes);
            event.tags.iter().for_each(|tag| self.long_text(tag));
        }
        match &event.content_type {
            ContentType::Json => {}
            ContentType::Binary => {
                flags |= CONTENT_TYPE;
                self.bytes.push(BINARY);
            }
            ContentType::Other(label) => {
                flags |= CONTENT_TYPE;
                self.bytes.push(OTHER);
                self.short_text(label);
            }
        }
        if !event.key_ids.is_empty() {
            flags |= KEY_IDS;
            varint::put(event.key_ids.len() as u64, &mut self.bytes);
            event.key_ids.iter().for_each(|key| self.short_text(key));
        }
        let Metadata { correlation, causation, user, trace } = &event.metadata;
        if correlation.is_some() || causation.is_some() || !user.is_empty() {
            flags |= METADATA;
            self.short_text(correlation.as_deref().unwrap_or(""));
            self.short_text(causation.as_deref().unwrap_or(""));
            varint::put(user.len() as u64, &mut self.bytes);
            self.bytes.extend_from_slice(user);
        }
        if let Some(trace) = trace {
            flags |= EXTENSION;
            self.extension(trace);
        }
        self.bytes.extend_from_slice(&event.data);
        flags
    }

    fn extension(&mut self, trace: &TraceContext) {
        let mut field = vec![TRACE];
        varint::put((TRACE_BYTES + trace.state().len()) as u64, &mut field);
        field.extend_from_slice(&trace.trace_id());
        field.extend_from_slice(&trace.parent_id());
        field.push(trace.flags());
        field.extend_from_slice(trace.state().as_bytes());
        varint::put(field.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(&field);
    }

    /// Types and labels are at most 255 bytes long.
    fn short_text(&mut self, text: &str) {
        self.bytes.push(text.len() as u8);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn long_text(&mut self, text: &str) {
        varint::put(text.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(text.as_bytes());
    }
}

/// An event record as it is stored. All its texts are checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventView<'a> {
    pub(crate) recorded_at: i64,
    pub(crate) id: Option<[u8; 16]>,
    pub(crate) event_type: &'a str,
    schema_version: u32,
    pub(crate) stream: Option<(&'a str, Version)>,
    tags: Decoder<'a>,
    tag_count: usize,
    content_type: StoredContentType<'a>,
    key_ids: Decoder<'a>,
    key_id_count: usize,
    correlation: &'a str,
    causation: &'a str,
    user: &'a [u8],
    trace: Option<TraceView<'a>>,
    pub(crate) data: &'a [u8],
    pub(crate) continues: bool,
}

#[derive(Clone, Copy, Debug)]
struct TraceView<'a> {
    trace: [u8; 16],
    parent: [u8; 8],
    flags: u8,
    state: &'a str,
}

#[derive(Clone, Copy, Debug)]
enum StoredContentType<'a> {
    Json,
    Binary,
    Other(&'a str),
}

impl<'a> EventView<'a> {
    /// Decodes the body of an event record.
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, FormatError> {
        let what = "event record";
        let mut input = Decoder::new(body, what);
        let flags = input.u8()?;
        let has = |flag: u8| flags & flag != 0;
        let recorded_at = input.i64()?;
        let id = if has(ID) { Some(input.array()?) } else { None };
        let event_type = within(input.short_text()?, TYPE_BYTES_MAX)?;
        let schema_version =
            u32::try_from(input.varint()?).map_err(|_| FormatError::Value { what })?;
        let stream = if has(STREAM) {
            Some((within(input.long_text()?, STREAM_BYTES_MAX)?, Version(input.varint()?)))
        } else {
            None
        };
        let tag_count = if has(TAGS) { input.count()? } else { 0 };
        if tag_count > TAGS_MAX {
            return Err(FormatError::Value { what });
        }
        let tags = input;
        for _ in 0..tag_count {
            within(input.long_text()?, TAG_BYTES_MAX)?;
        }
        let content_type =
            if has(CONTENT_TYPE) { content_type(&mut input)? } else { StoredContentType::Json };
        let key_id_count = if has(KEY_IDS) { input.count()? } else { 0 };
        if key_id_count > KEY_IDS_MAX {
            return Err(FormatError::Value { what });
        }
        let key_ids = input;
        for _ in 0..key_id_count {
            within(input.short_text()?, LABEL_BYTES_MAX)?;
        }
        let (mut correlation, mut causation, mut user) = ("", "", [].as_slice());
        if has(METADATA) {
            correlation = input.short_text()?;
            causation = input.short_text()?;
            let bytes = input.count()?;
            user = input.bytes(bytes)?;
        }
        let trace = if has(EXTENSION) { trace_in_extension(&mut input)? } else { None };
        Ok(Self {
            recorded_at,
            id,
            event_type,
            schema_version,
            stream,
            tags,
            tag_count,
            content_type,
            key_ids,
            key_id_count,
            correlation,
            causation,
            user,
            trace,
            data: input.rest(),
            continues: has(CONTINUES),
        })
    }

    /// The tags, in the order given.
    pub(crate) fn tags(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut input = self.tags;
        // They were decoded once: the iterator gives as many as were found then.
        (0..self.tag_count).map_while(move |_| input.long_text().ok())
    }

    fn key_ids(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut input = self.key_ids;
        (0..self.key_id_count).map_while(move |_| input.short_text().ok())
    }

    /// The event as readers get it. Its texts and data share `buffer`, which the view was decoded
    /// from; its id is minted by the segment's [minter](super::segment::SegmentHeader::minter),
    /// unless a caller brought one.
    pub(crate) fn to_event(
        self,
        minter: StoreId,
        position: Position,
        buffer: &Bytes,
    ) -> Result<RecordedEvent, FormatError> {
        let share = |text: &str| -> Result<ByteString, FormatError> {
            let shared = buffer.slice_ref(text.as_bytes());
            ByteString::try_from(shared).map_err(|_| FormatError::Text { what: "event record" })
        };
        let label = |text: &str| -> Result<Option<Label>, FormatError> {
            if text.is_empty() { Ok(None) } else { name(Label::new(share(text)?)).map(Some) }
        };
        let recorded_at = moment(self.recorded_at);
        let mut tags = Tags::none();
        for tag in self.tags() {
            tags.insert(name(Tag::new(share(tag)?))?);
        }
        let stream = match self.stream {
            Some((text, version)) => {
                Some(InStream { name: name(StreamName::new(share(text)?))?, version })
            }
            None => None,
        };
        Ok(RecordedEvent {
            position,
            recorded_at,
            stream,
            id: self.id.map_or_else(
                || EventId::minted(minter, position, recorded_at),
                |id| EventId(uuid::Uuid::from_bytes(id)),
            ),
            event_type: name(EventType::new(share(self.event_type)?))?,
            schema_version: self.schema_version,
            content_type: match self.content_type {
                StoredContentType::Json => ContentType::Json,
                StoredContentType::Binary => ContentType::Binary,
                StoredContentType::Other(text) => {
                    ContentType::Other(name(Label::new(share(text)?))?)
                }
            },
            data: buffer.slice_ref(self.data),
            metadata: Metadata {
                correlation: label(self.correlation)?,
                causation: label(self.causation)?,
                user: buffer.slice_ref(self.user),
                trace: self.trace.and_then(|view| {
                    TraceContext::new(view.trace, view.parent, view.flags, view.state)
                }),
            },
            tags,
            key_ids: self
                .key_ids()
                .map(|key| name(Label::new(share(key)?)))
                .collect::<Result<_, _>>()?,
            append_continues: self.continues,
        })
    }
}

fn content_type<'a>(input: &mut Decoder<'a>) -> Result<StoredContentType<'a>, FormatError> {
    match input.u8()? {
        BINARY => Ok(StoredContentType::Binary),
        OTHER => Ok(StoredContentType::Other(within(input.short_text()?, LABEL_BYTES_MAX)?)),
        _ => Err(FormatError::Value { what: "content type" }),
    }
}

/// The trace context of an extension, if it has one. Fields of other kinds are skipped.
fn trace_in_extension<'a>(input: &mut Decoder<'a>) -> Result<Option<TraceView<'a>>, FormatError> {
    let bytes = input.count()?;
    let mut fields = Decoder::new(input.bytes(bytes)?, "extension of an event");
    let mut found = None;
    while !fields.is_empty() {
        let kind = fields.u8()?;
        let bytes = fields.count()?;
        let mut field = Decoder::new(fields.bytes(bytes)?, "trace context");
        if kind == TRACE {
            let (trace, parent, flags) = (field.array()?, field.array()?, field.u8()?);
            let state = std::str::from_utf8(field.rest())
                .map_err(|_| FormatError::Text { what: "trace context" })?;
            found = Some(TraceView { trace, parent, flags, state });
        }
    }
    Ok(found)
}

fn within(text: &str, bytes_max: usize) -> Result<&str, FormatError> {
    if text.is_empty() || text.len() > bytes_max {
        Err(FormatError::Text { what: "event record" })
    } else {
        Ok(text)
    }
}

fn name<T>(name: Result<T, Invalid>) -> Result<T, FormatError> {
    name.map_err(|_| FormatError::Text { what: "event record" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{RecordFrame, RecordKind};

    fn random_event(random: &mut fastrand::Rng) -> NewEvent {
        let text = |random: &mut fastrand::Rng, max: usize| -> String {
            let len = if random.u8(..4) == 0 { max / 2 } else { 1 + random.usize(..12.min(max)) };
            (0..len).map(|_| random.alphanumeric()).collect()
        };
        let label = |random: &mut fastrand::Rng| {
            random.bool().then(|| Label::new(text(random, LABEL_BYTES_MAX)).unwrap())
        };
        let data: Vec<u8> = (0..random.usize(..400)).map(|_| random.u8(..)).collect();
        let mut event = NewEvent::new(EventType::new(text(random, TYPE_BYTES_MAX)).unwrap(), data);
        event.schema_version = random.u32(..);
        event.stream =
            random.bool().then(|| StreamName::new(text(random, STREAM_BYTES_MAX)).unwrap());
        event.tags = (0..random.usize(..4))
            .map(|_| Tag::new(text(random, TAG_BYTES_MAX)).unwrap())
            .collect();
        event.id = random.bool().then(|| EventId(uuid::Uuid::from_u128(random.u128(..))));
        event.key_ids = (0..random.usize(..3)).filter_map(|_| label(random)).collect();
        event.content_type = match random.u8(..3) {
            0 => ContentType::Json,
            1 => ContentType::Binary,
            _ => ContentType::Other(Label::new("text/plain").unwrap()),
        };
        let state = "x".repeat([0, 9, 512][random.usize(..3)]);
        let trace = TraceContext::new(
            random.u128(1..).to_be_bytes(),
            random.u64(1..).to_be_bytes(),
            random.u8(..),
            &state,
        );
        event.metadata = Metadata {
            correlation: label(random),
            causation: label(random),
            user: vec![1; random.usize(..9)].into(),
            trace: trace.filter(|_| random.bool()),
        };
        event
    }

    #[test]
    fn what_is_encoded_decodes_equal_and_damaged_bytes_are_refused() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let store = StoreId::random();
        for _ in 0..2_000 {
            let events: Vec<NewEvent> =
                (0..=random.usize(..3)).map(|_| random_event(&mut random)).collect();
            let encoded = EncodedEvents::take(&mut events.clone());
            for (index, event) in events.iter().enumerate() {
                let mut record = Vec::new();
                let at = (Position(7), Version(random.u64(..)));
                encoded.put(index, at, 1_700_000_000_000_000, NextRecord::SameAppend, &mut record);
                let buffer = Bytes::from(record.clone());
                let frame = RecordFrame::decode(&buffer, Position(7)).unwrap();
                assert!(
                    RecordFrame::decode(&buffer, Position(8)).is_err(),
                    "an event checks only at its own position"
                );
                assert_eq!((frame.kind, frame.bytes), (RecordKind::Event, record.len()));
                let back = EventView::decode(frame.body)
                    .unwrap()
                    .to_event(store, Position(7), &buffer)
                    .unwrap();
                assert_eq!(new(&back, event.id), *event);
                assert_eq!(back.append_continues, index + 1 < events.len());
                let byte = random.usize(..record.len());
                record[byte] ^= 1 << random.u8(..8);
                assert!(RecordFrame::decode(&record, Position(7)).is_err());
                let body = &record[9..];
                let _ = EventView::decode(&body[..random.usize(..body.len())]);
            }
        }
    }

    fn new(event: &RecordedEvent, id: Option<EventId>) -> NewEvent {
        let event = event.clone();
        NewEvent {
            stream: event.stream.map(|at| at.name),
            event_type: event.event_type,
            schema_version: event.schema_version,
            content_type: event.content_type,
            data: event.data,
            metadata: event.metadata,
            tags: event.tags,
            id: id.map(|_| event.id),
            key_ids: event.key_ids,
        }
    }
}
