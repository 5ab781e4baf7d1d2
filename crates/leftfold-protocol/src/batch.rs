//! Several appends, or several answers, in one message.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use leftfold_core::store::{Append, Head, Invalid};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, message, skip_field};
use prost::encoding::{encode_key, encode_varint};

use crate::IN_FLIGHT_MAX;
use crate::malformed::Malformed;
use crate::wire::{self, append_reply, append_request};

/// Field of the answers in a message of several.
const ANSWERS_FIELD: u32 = 1;
/// Field of the appends in a message of several.
const APPENDS_FIELD: u32 = 3;

/// Message with appends, while it is written.
#[derive(Debug)]
pub struct AppendBatch {
    bytes: Vec<u8>,
}

impl AppendBatch {
    /// Begins a message with the number of its first append, and of the first append whose answer
    /// the client has not got.
    #[must_use]
    pub fn new(first: u64, first_unanswered: u64) -> Self {
        let numbers = wire::NumberedAppends { first, first_unanswered, appends: Vec::new() };
        Self { bytes: numbers.encode_to_vec() }
    }

    /// Adds an append.
    pub fn push(&mut self, append: &Append) {
        message::encode(APPENDS_FIELD, &wire::Append::from(append), &mut self.bytes);
    }

    /// Bytes of the message so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the message.
    #[must_use]
    pub fn into_request(self) -> wire::AppendRequest {
        let appends = append_request::Request::Appends(self.bytes.into());
        wire::AppendRequest { request: Some(appends) }
    }
}

/// Appends of one message, each still encoded.
#[derive(Debug)]
pub struct SentAppends {
    /// Number of the first append.
    pub first: u64,
    /// Number of the first append whose answer the client has not got.
    pub first_unanswered: u64,
    /// The appends, which [`append_of`] reads; at most [`IN_FLIGHT_MAX`].
    pub appends: VecDeque<Bytes>,
}

impl SentAppends {
    /// Reads the part `appends` of a request, but not yet the appends: each is read when it is
    /// taken.
    ///
    /// # Errors
    /// [`Malformed`] if it cannot be decoded, or has too many.
    pub fn read(mut message: Bytes) -> Result<Self, Malformed> {
        let mut sent = Self { first: 0, first_unanswered: 0, appends: VecDeque::new() };
        while !message.is_empty() {
            match decode_key(&mut message)? {
                (1, WireType::Varint) => sent.first = decode_varint(&mut message)?,
                (2, WireType::Varint) => sent.first_unanswered = decode_varint(&mut message)?,
                (APPENDS_FIELD, WireType::LengthDelimited) => {
                    let count = sent.appends.len() + 1;
                    Invalid::if_over("the appends of a message", count, IN_FLIGHT_MAX)?;
                    sent.appends.push_back(part(&mut message)?);
                }
                (tag, kind) => skip_field(kind, tag, &mut message, DecodeContext::default())?,
            }
        }
        Ok(sent)
    }
}

/// Takes a part of a message with its length before it.
fn part(message: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = usize::try_from(decode_varint(message)?).unwrap_or(usize::MAX);
    if length > message.len() {
        return Err(Malformed::Undecodable { detail: "a part ends beyond its message".to_owned() });
    }
    Ok(message.split_to(length))
}

/// Reads an append.
///
/// # Errors
/// [`Malformed`] if it is not an append, or beyond a limit of the store.
pub fn append_of(bytes: Bytes) -> Result<Append, Malformed> {
    wire::Append::decode(bytes)?.try_into()
}

/// Message with answers, while it is written.
#[derive(Debug, Default)]
pub struct AnswerBatch {
    bytes: BytesMut,
    /// Number of each answer, and the place of its bytes.
    answers: Vec<(u64, std::ops::Range<usize>)>,
}

impl AnswerBatch {
    /// Adds an answer, which has no head.
    pub fn push(&mut self, answer: &wire::AppendAnswer) {
        let length = self.begin(answer.encoded_len());
        answer.encode_raw(&mut self.bytes);
        self.answers.push((answer.number, length..self.bytes.len()));
    }

    /// Adds an answer of an earlier message.
    pub fn push_encoded(&mut self, number: u64, answer: &[u8]) {
        let length = self.begin(answer.len());
        self.bytes.extend_from_slice(answer);
        self.answers.push((number, length..self.bytes.len()));
    }

    fn begin(&mut self, length: usize) -> usize {
        encode_key(ANSWERS_FIELD, WireType::LengthDelimited, &mut self.bytes);
        encode_varint(length as u64, &mut self.bytes);
        self.bytes.len()
    }

    /// Bytes of the message so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Number of the answers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Tells whether there is no answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Returns the message with the durable end, and each answer with its number as it is encoded.
    #[must_use]
    pub fn finish(
        mut self,
        head: Head,
    ) -> (wire::AppendReply, impl ExactSizeIterator<Item = (u64, Bytes)>) {
        message::encode(2, &wire::Head::from(head), &mut self.bytes);
        let bytes = self.bytes.freeze();
        let reply = Some(append_reply::Reply::Answers(bytes.clone()));
        let answers = self.answers.into_iter();
        let encoded = answers.map(move |(number, place)| (number, bytes.slice(place)));
        (wire::AppendReply { reply }, encoded)
    }
}

/// Reads the part `answers` of a reply.
///
/// # Errors
/// [`Malformed`] if it cannot be decoded.
pub fn answers_of(bytes: Bytes) -> Result<wire::AppendAnswers, Malformed> {
    Ok(wire::AppendAnswers::decode(bytes)?)
}

/// Reads an answer that an [`AnswerBatch`] has encoded, with the durable end.
#[must_use]
pub fn encoded_answer(bytes: Bytes, head: Head) -> wire::AppendAnswer {
    let answer = wire::AppendAnswer::decode(bytes).unwrap_or_default();
    wire::AppendAnswer { head: Some(head.into()), ..answer }
}
