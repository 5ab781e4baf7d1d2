//! Requests made at random by the descriptions of the protocols.

use std::collections::HashMap;

use fastrand::Rng;
use leftfold_protocol::DESCRIPTIONS;
use leftfold_protocol::wire::{
    Append, AppendRequest, NewEvent, NumberedAppend, NumberedAppends, OpenAppends, append_request,
};
use prost::Message;
use prost::encoding::encode_varint;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use crate::target::{Input, Protocol};

/// Depth of messages within messages.
const DEPTH_MAX: usize = 6;
const TEXTS: [&str; 24] = [
    "",
    "a-1",
    "a-2",
    "b-1",
    "order-7",
    "$$a-1",
    "$all",
    "$ce-a",
    "$et-Placed",
    "$streams",
    "$$$all",
    "$metadata",
    "Placed",
    "type",
    "content-type",
    "application/json",
    "$maxCount",
    "~",
    "\\",
    "\0",
    "ß漢",
    "^(?!\\$)a.*",
    "(a{9}){9}",
    "00000000-0000-0000-0000-000000000007",
];
/// Data, and metadata that other protocols understand.
const DATA: [&str; 8] = [
    "",
    "{}",
    "{\"$maxCount\":2}",
    "{\"$tb\":9223372036854775807}",
    "0@a-1",
    "1@$$a-1",
    "[[[[",
    "{\"$maxAge\":1,\"$acl\":{\"$r\":[\"x\"]}}",
];
const NUMBERS: [u64; 12] = [0, 1, 2, 3, 10, 127, 128, 4_096, 1 << 31, 1 << 32, 1 << 63, u64::MAX];

/// A call of a protocol.
#[derive(Clone)]
pub(crate) struct DescribedCall {
    pub(crate) path: String,
    input: String,
    streams: bool,
}

/// The descriptions of all protocols.
pub(crate) struct Descriptions {
    messages: HashMap<String, DescriptorProto>,
    calls: Vec<DescribedCall>,
}

impl Descriptions {
    pub(crate) fn read() -> Self {
        let mut all = Self { messages: HashMap::new(), calls: Vec::new() };
        let facades = include_bytes!(concat!(env!("OUT_DIR"), "/described.bin"));
        for described in [DESCRIPTIONS, facades] {
            for file in FileDescriptorSet::decode(described).unwrap().file {
                let package = file.package().to_owned();
                for service in &file.service {
                    let calls = service.method.iter().map(|method| DescribedCall {
                        path: format!("/{package}.{}/{}", service.name(), method.name()),
                        input: method.input_type().trim_start_matches('.').to_owned(),
                        streams: method.client_streaming(),
                    });
                    all.calls.extend(calls);
                }
                all.add(&package, file.message_type);
            }
        }
        all
    }

    fn add(&mut self, within: &str, messages: Vec<DescriptorProto>) {
        for mut message in messages {
            let name = format!("{within}.{}", message.name());
            self.add(&name, std::mem::take(&mut message.nested_type));
            self.messages.insert(name, message);
        }
    }

    /// Returns the calls of a protocol, always in the same order.
    pub(crate) fn calls(&self, protocol: Protocol) -> Vec<DescribedCall> {
        self.calls.iter().filter(|call| protocol.has(&call.path)).cloned().collect()
    }

    /// Makes a message of a type.
    fn message(&self, random: &mut Rng, name: &str, depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(described) = self.messages.get(name) else { return bytes };
        // Of the fields that exclude one another one is chosen, and now and then several.
        let chosen: Vec<usize> = (0..described.oneof_decl.len())
            .map(|group| {
                let members = described.field.iter().enumerate();
                let members = members.filter(|(_, field)| field.oneof_index == Some(group as i32));
                let members: Vec<usize> = members.map(|(at, _)| at).collect();
                members.get(random.usize(..members.len().max(1))).copied().unwrap_or(usize::MAX)
            })
            .collect();
        for (at, field) in described.field.iter().enumerate() {
            let is_chosen = match field.oneof_index {
                Some(group) => chosen[group as usize] == at || random.u8(..50) == 0,
                // A part with parts of its own is left out as often: most have to fit.
                None if field.r#type() == Type::Message => random.bool(),
                None => random.u8(..10) < 8,
            };
            if !is_chosen {
                continue;
            }
            let times = match (field.label(), random.u8(..40)) {
                (Label::Repeated, 0) => random.usize(..400),
                (Label::Repeated, _) => random.usize(..4),
                _ => 1,
            };
            for _ in 0..times {
                self.field(random, field, depth, &mut bytes);
            }
        }
        bytes
    }

    fn field(
        &self,
        random: &mut Rng,
        field: &FieldDescriptorProto,
        depth: usize,
        bytes: &mut Vec<u8>,
    ) {
        let key = |wire: u64| (field.number() as u64) << 3 | wire;
        let number = NUMBERS[random.usize(..NUMBERS.len())];
        match field.r#type() {
            Type::Double => {
                encode_varint(key(1), bytes);
                bytes.extend(number.to_le_bytes());
            }
            Type::String | Type::Bytes | Type::Message => {
                let value = match field.r#type() {
                    Type::Message if depth >= DEPTH_MAX => return,
                    Type::Message => {
                        let name = field.type_name().trim_start_matches('.');
                        self.message(random, name, depth + 1)
                    }
                    kind => value(random, field.name(), kind == Type::Bytes),
                };
                encode_varint(key(2), bytes);
                encode_varint(value.len() as u64, bytes);
                bytes.extend(value);
            }
            Type::Bool | Type::Enum => {
                encode_varint(key(0), bytes);
                encode_varint(random.u64(..4), bytes);
            }
            _ => {
                encode_varint(key(0), bytes);
                encode_varint(number, bytes);
            }
        }
    }
}

/// A text or bytes, as a field of this name is likely to have them.
fn value(random: &mut Rng, name: &str, is_bytes: bool) -> Vec<u8> {
    let text = TEXTS[random.usize(..TEXTS.len())];
    let few = random.u8(..8);
    if is_bytes && matches!(name, "id" | "session" | "holder" | "store" | "source" | "digest") {
        return vec![few; 16];
    }
    if name.contains("id") && !is_bytes {
        return format!("00000000-0000-0000-0000-0000000000{few:02}").into_bytes();
    }
    if name == "hash" || name == "chain" {
        return vec![0; 32];
    }
    if name.contains("data") || name == "value" {
        return DATA[random.usize(..DATA.len())].as_bytes().to_vec();
    }
    match random.u8(..60) {
        0 => text.repeat(600).into_bytes(),
        1 if is_bytes => (0..random.usize(..40)).map(|_| random.u8(..)).collect(),
        _ => text.as_bytes().to_vec(),
    }
}

/// Makes an input of a call.
pub(crate) fn input(descriptions: &Descriptions, protocol: Protocol, random: &mut Rng) -> Vec<u8> {
    let calls = descriptions.calls(protocol);
    let call = random.usize(..calls.len());
    let DescribedCall { input, streams, .. } = &calls[call];
    let count = if *streams { random.usize(..6) } else { 1 };
    let messages = (0..count).map(|_| descriptions.message(random, input, 0)).collect();
    let input = Input { call: call as u8, framing: 0, messages };
    if *streams { opened(protocol, random, input).encode() } else { input.encode() }
}

/// Lets most calls of appends begin as they have to, and makes some of their appends good ones, so
/// that what follows is looked at.
fn opened(protocol: Protocol, random: &mut Rng, mut input: Input) -> Input {
    if protocol != Protocol::Native || random.u8(..10) >= 8 {
        return input;
    }
    let (session, takes_several) = (vec![random.u8(..4); 16].into(), random.bool());
    let open = OpenAppends { session, first_unanswered: 1, takes_several };
    let open = append_request::Request::Open(open);
    let mut messages = vec![AppendRequest { request: Some(open) }.encode_to_vec()];
    for (number, message) in (1..).zip(&input.messages) {
        let decoded = AppendRequest::decode(&**message).ok().and_then(|one| one.request);
        let mut append = match decoded {
            Some(append_request::Request::Append(append)) => append.append.unwrap_or_default(),
            _ => Append::default(),
        };
        if random.bool() {
            append.events = (0..random.usize(1..4)).map(|_| good_event(random)).collect();
        }
        if random.bool() {
            append =
                Append { events: append.events, authority: append.authority, ..Append::default() };
        }
        let append = if random.bool() {
            let append = NumberedAppend { number, first_unanswered: 1, append: Some(append) };
            append_request::Request::Append(append)
        } else {
            let (first, appends) = (number, vec![append]);
            let appends = NumberedAppends { first, first_unanswered: 1, appends };
            append_request::Request::Appends(appends.encode_to_vec().into())
        };
        messages.push(AppendRequest { request: Some(append) }.encode_to_vec());
    }
    input.messages = messages;
    input
}

fn good_event(random: &mut Rng) -> NewEvent {
    NewEvent {
        stream: TEXTS[random.usize(1..5)].into(),
        r#type: "test.Placed".into(),
        data: DATA[random.usize(..DATA.len())].as_bytes().into(),
        tags: vec![TEXTS[random.usize(1..TEXTS.len())].into()],
        ..NewEvent::default()
    }
}
