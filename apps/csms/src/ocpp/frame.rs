//! The frames of OCPP-J 1.6 section 4.2: CALL, CALLRESULT and CALLERROR.
//!
//! Parsing is lenient and never panics; writing is strict. A payload stays JSON text here: it is
//! kept as it came, and [`v16`](super::v16) gives it its meaning.

use serde_json::Value;
use serde_json::value::RawValue;

use super::abridged::abridged_payload;
use super::open_enum::open_enum;
use super::reading::{Notes, ViolationKind, WithViolations, cut, text_of};

/// The largest frame that is read as a whole, in bytes. Of a larger one that reports a transaction
/// the small fields are read, since its station would send it again for ever; others are refused.
pub(crate) const FRAME_BYTES_MAX: usize = 256 * 1024;

/// Bytes that a socket should accept in one message, so that the sender of a frame that is too
/// large gets an answer instead of a closed connection: transactions of days with all their values,
/// some of which are signed, come to a few MiB.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Actions whose refusal makes a station send them again, with all that it has queued waiting
/// behind (OCPP 1.6 section 9.1,
/// TransactionMessageAttempts).
const NEVER_REFUSED: [&str; 3] = ["StartTransaction", "StopTransaction", "MeterValues"];

/// The longest message id that the specification allows, in characters (OCPP-J 1.6 section 4.1.4).
/// Ours keep to it.
pub(crate) const MESSAGE_ID_CHARS_MAX: usize = 36;

/// The longest message id that is accepted from a station, in characters. It is answered under that
/// same id.
pub(crate) const MESSAGE_ID_CHARS_MAX_INWARD: usize = 255;

/// The longest description in a CALLERROR, in characters (OCPP-J 1.6 section 4.2.3). Longer ones
/// are cut.
pub(crate) const ERROR_DESCRIPTION_CHARS_MAX: usize = 255;

/// Bytes of a broken frame that are searched for its message id and action.
const HEAD_BYTES_MAX: usize = 2_048;

/// The longest action that is kept of a frame, in characters; those of the specification are far
/// shorter.
const ACTION_CHARS_MAX: usize = 64;

/// One message of OCPP-J.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A request.
    Call(Call),
    /// The answer to a request.
    CallResult(CallResult),
    /// The refusal of a request.
    CallError(CallError),
}

/// CALL, `[2, id, action, payload]` (OCPP-J 1.6 section 4.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Id that matches the answer to the call; unique among the sender's calls on one connection.
    pub(crate) id: MessageId,
    /// Name of the request, such as `Heartbeat`.
    pub(crate) action: String,
    /// The request's fields.
    pub(crate) payload: Payload,
}

/// CALLRESULT, `[3, id, payload]` (OCPP-J 1.6 section 4.2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallResult {
    /// The id of the call that is answered.
    pub(crate) id: MessageId,
    /// The confirmation's fields.
    pub(crate) payload: Payload,
}

/// CALLERROR, `[4, id, code, description, details]` (OCPP-J 1.6 section 4.2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallError {
    /// The id of the call that is refused.
    pub(crate) id: MessageId,
    /// Error code.
    pub(crate) code: ErrorCode,
    /// Description in words; written up to [`ERROR_DESCRIPTION_CHARS_MAX`].
    pub(crate) description: String,
    /// Further details; an empty object if there are none.
    pub(crate) details: Payload,
}

open_enum! {
    /// Error codes of OCPP-J 1.6 section 4.2.3, spelt as there.
    ErrorCode {
        NotImplemented = "NotImplemented",
        NotSupported = "NotSupported",
        InternalError = "InternalError",
        ProtocolError = "ProtocolError",
        SecurityError = "SecurityError",
        FormationViolation = "FormationViolation",
        PropertyConstraintViolation = "PropertyConstraintViolation",
        OccurenceConstraintViolation = "OccurenceConstraintViolation",
        TypeConstraintViolation = "TypeConstraintViolation",
        GenericError = "GenericError",
    }
}

/// The id of a CALL. It matches an answer to its call and says nothing more: a resent message comes
/// under a new id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct MessageId(String);

impl MessageId {
    /// An id for a call of ours: 1 to [`MESSAGE_ID_CHARS_MAX`] characters, so a hyphenated UUID
    /// fits.
    pub(crate) fn new(text: impl Into<String>) -> Result<Self, MessageIdError> {
        let text = text.into();
        match text.chars().count() {
            1..=MESSAGE_ID_CHARS_MAX => Ok(Self(text)),
            chars => Err(MessageIdError { chars }),
        }
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot be the id of a call of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message id of {chars} characters; use 1 to {MESSAGE_ID_CHARS_MAX}")]
pub(crate) struct MessageIdError {
    /// Its length in characters.
    pub(crate) chars: usize,
}

/// The payload of a frame: JSON text of which only the syntax has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payload(String);

impl Payload {
    /// A payload without fields, `{}`.
    pub(crate) fn empty() -> Self {
        Self("{}".to_owned())
    }

    /// The JSON text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        Self(value.to_string())
    }
}

/// The kinds of frame (OCPP-J 1.6 section 4.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageType {
    /// 2
    Call,
    /// 3
    CallResult,
    /// 4
    CallError,
}

/// A text that is not a frame, with the parts of it that could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct FrameError {
    /// Defect of the text.
    pub(crate) problem: FrameProblem,
    /// The kind of frame it was to be, if readable.
    pub(crate) message_type: Option<MessageType>,
    /// The message id, if readable.
    pub(crate) id: Option<MessageId>,
    /// The action of a call, if readable.
    pub(crate) action: Option<String>,
}

/// Defect of a text that is not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameProblem {
    /// Larger than [`FRAME_BYTES_MAX`].
    #[error("a message of {bytes} bytes; send at most {FRAME_BYTES_MAX}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// Not JSON, or not an array.
    #[error("no JSON array ({detail}); send a frame as in OCPP-J 1.6 section 4.2")]
    NotJsonArray {
        /// Place and cause of the parse error.
        detail: String,
    },
    /// A message type other than 2, 3 and 4. Section 4.1.3 wants it ignored.
    #[error("unknown message type; send 2, 3 or 4")]
    MessageType,
    /// The message id is missing, empty, not a text or number, or longer than
    /// [`MESSAGE_ID_CHARS_MAX_INWARD`].
    #[error(
        "message id missing or unreadable; send a text of 1 to {MESSAGE_ID_CHARS_MAX} characters"
    )]
    MessageId,
    /// The action of a call is missing or not a text.
    #[error("action missing or unreadable; send its name as the third element")]
    Action,
}

impl FrameError {
    /// Tells whether the text was meant as an answer to a call of ours.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self.message_type, Some(MessageType::CallResult | MessageType::CallError))
    }

    /// Returns the CALLERROR to send back; `None` if none may be sent: only a call whose id is
    /// readable can be answered.
    pub(crate) fn answer(&self) -> Option<CallError> {
        if self.message_type != Some(MessageType::Call) {
            return None;
        }
        let code = match self.problem {
            FrameProblem::TooLarge { .. } => ErrorCode::GenericError,
            _ => ErrorCode::FormationViolation,
        };
        let id = self.id.clone()?;
        Some(CallError { id, code, description: self.to_string(), details: Payload::empty() })
    }
}

impl Frame {
    /// Reads a frame. Tolerated and recorded: a message type that is a text, an id that is a
    /// number, missing or surplus elements at the end, a payload that is missing, and stray byte
    /// order marks and NULs around the frame. Of a frame that is too large and reports a
    /// transaction the small fields are read.
    pub(crate) fn parse(text: &str) -> Result<WithViolations<Self>, FrameError> {
        let json = text.trim_matches(['\0', '\u{feff}', ' ', '\t', '\r', '\n']);
        if text.len() > FRAME_BYTES_MAX {
            return abridge(json, broken(text, FrameProblem::TooLarge { bytes: text.len() }));
        }
        let mut notes = Notes::default();
        if json.len() < text.trim_matches([' ', '\t', '\r', '\n']).len() {
            notes.note("", ViolationKind::StrayCharacters);
        }
        let elements: Vec<&RawValue> = serde_json::from_str(json).map_err(|error| {
            broken(json, FrameProblem::NotJsonArray { detail: error.to_string() })
        })?;
        let frame =
            read_elements(&elements, &mut notes).map_err(|problem| broken(json, problem))?;
        Ok(notes.read(frame))
    }

    /// The frame as text for the socket.
    pub(crate) fn encode(&self) -> String {
        match self {
            Self::Call(Call { id, action, payload }) => {
                format!("[2,{},{},{}]", json_text(&id.0), json_text(action), payload.0)
            }
            Self::CallResult(CallResult { id, payload }) => {
                format!("[3,{},{}]", json_text(&id.0), payload.0)
            }
            Self::CallError(CallError { id, code, description, details }) => format!(
                "[4,{},{},{},{}]",
                json_text(&id.0),
                json_text(code.as_str()),
                json_text(&cut(description, ERROR_DESCRIPTION_CHARS_MAX)),
                details.0
            ),
        }
    }
}

fn read_elements(elements: &[&RawValue], notes: &mut Notes) -> Result<Frame, FrameProblem> {
    let message_type = elements
        .first()
        .and_then(|raw| message_type(raw, notes))
        .ok_or(FrameProblem::MessageType)?;
    let id =
        elements.get(1).and_then(|raw| message_id(raw, notes)).ok_or(FrameProblem::MessageId)?;
    let (frame, expected) = match message_type {
        MessageType::Call => {
            let action = elements.get(2).and_then(|raw| action(raw)).ok_or(FrameProblem::Action)?;
            (Frame::Call(Call { id, action, payload: payload(elements.get(3)) }), 4)
        }
        MessageType::CallResult => {
            (Frame::CallResult(CallResult { id, payload: payload(elements.get(2)) }), 3)
        }
        MessageType::CallError => {
            let mut text =
                |at: usize, path| elements.get(at).and_then(|raw| text_of(raw, path, notes));
            let code = text(2, "errorCode").unwrap_or_default();
            let description = text(3, "errorDescription").unwrap_or_default();
            let code = ErrorCode::from(code.as_str());
            if let ErrorCode::Other(_) = code {
                notes.note("errorCode", ViolationKind::UnknownValue);
            }
            (
                Frame::CallError(CallError {
                    id,
                    code,
                    description,
                    details: payload(elements.get(4)),
                }),
                5,
            )
        }
    };
    if elements.len() < expected {
        notes.note("", ViolationKind::ElementsMissing);
    }
    if elements.len() > expected {
        notes.note("", ViolationKind::ElementsExtra);
    }
    Ok(frame)
}

fn message_type(raw: &RawValue, notes: &mut Notes) -> Option<MessageType> {
    let (message_type, exact) = match raw.get().trim_matches('"') {
        "2" | "2.0" => (MessageType::Call, "2"),
        "3" | "3.0" => (MessageType::CallResult, "3"),
        "4" | "4.0" => (MessageType::CallError, "4"),
        _ => return None,
    };
    if raw.get() != exact {
        notes.note("messageTypeId", ViolationKind::Converted);
    }
    Some(message_type)
}

/// Reads a text or a number of 1 to [`MESSAGE_ID_CHARS_MAX_INWARD`] characters. A string that is
/// not valid text (half a surrogate pair) could not be sent back as it came, so it counts as
/// unreadable.
fn message_id(raw: &RawValue, notes: &mut Notes) -> Option<MessageId> {
    let json = raw.get();
    let text = match json.as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(json).ok()?,
        b'-' | b'0'..=b'9' => {
            notes.note("messageId", ViolationKind::Converted);
            json.to_owned()
        }
        _ => return None,
    };
    let chars = text.chars().count();
    if chars == 0 || chars > MESSAGE_ID_CHARS_MAX_INWARD {
        return None;
    }
    if chars > MESSAGE_ID_CHARS_MAX {
        notes.note("messageId", ViolationKind::TooLong { chars_max: MESSAGE_ID_CHARS_MAX });
    }
    Some(MessageId(text))
}

fn action(raw: &RawValue) -> Option<String> {
    let text: String = serde_json::from_str(raw.get()).ok()?;
    Some(cut(&text, ACTION_CHARS_MAX))
}

/// A missing payload is read as an empty one.
fn payload(raw: Option<&&RawValue>) -> Payload {
    raw.map_or_else(Payload::empty, |raw| Payload(raw.get().to_owned()))
}

/// Looks for the message type, id and action at the start of a frame that cannot be read as a
/// whole.
fn broken(text: &str, problem: FrameProblem) -> FrameError {
    let mut error = FrameError { problem, message_type: None, id: None, action: None };
    let head_bytes = (0..=text.len().min(HEAD_BYTES_MAX))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    let head = text[..head_bytes].trim_start_matches(['\0', '\u{feff}', ' ', '\t', '\r', '\n']);
    let Some(head) = head.strip_prefix('[') else {
        return error;
    };
    let Some((raw, rest)) = first_value(head) else {
        return error;
    };
    let mut unheeded = Notes::default();
    error.message_type = message_type(raw, &mut unheeded);
    let Some((raw, rest)) = after_comma(rest).and_then(first_value) else {
        return error;
    };
    error.id = message_id(raw, &mut unheeded);
    if error.message_type == Some(MessageType::Call) {
        error.action = after_comma(rest).and_then(first_value).and_then(|(raw, _)| action(raw));
    }
    error
}

/// Reads the small fields of a call that is too large, if it must not be refused.
fn abridge(json: &str, error: FrameError) -> Result<WithViolations<Frame>, FrameError> {
    match error {
        FrameError { id: Some(id), action: Some(action), .. }
            if NEVER_REFUSED.contains(&action.as_str()) =>
        {
            let mut notes = Notes::default();
            notes.note("", ViolationKind::TooLong { chars_max: FRAME_BYTES_MAX });
            let payload = Payload(abridged_payload(json, &mut notes));
            Ok(notes.read(Frame::Call(Call { id, action, payload })))
        }
        error => Err(error),
    }
}

fn first_value(text: &str) -> Option<(&RawValue, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let raw = values.next()?.ok()?;
    Some((raw, text.get(values.byte_offset()..)?))
}

fn after_comma(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix(',')
}

fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
