//! The errors of calls, as clients of this protocol read them: the details of a status are an
//! `ErrorResponse`.

use leftfold::store::{AppendError, Invalid, ReadError};
use prost::Message;
use tonic::{Code, Status};

use super::event::UnreadableEvent;
use super::wire::ErrorResponse;
use super::wire::error_response::ErrorType;
use crate::services::{SHOWN_CHARACTERS_MAX, cut};

/// Characters of the text of a status.
const MESSAGE_CHARACTERS_MAX: usize = 1_000;

/// Makes a status. A long text is cut: it travels in the metadata, twice and escaped, of which
/// clients take little.
fn with_details(code: Code, error_type: ErrorType, message: String) -> Status {
    let message = cut(&message, MESSAGE_CHARACTERS_MAX);
    let details = ErrorResponse { message: message.clone(), error_type: error_type.into() };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// The status of a request that can never be carried out.
pub(super) fn unfit(reason: impl ToString) -> Status {
    with_details(Code::InvalidArgument, ErrorType::InvalidArgument, reason.to_string())
}

/// The status of an append that does not fit what is stored.
pub(super) fn overtaken(reason: impl ToString) -> Status {
    with_details(Code::FailedPrecondition, ErrorType::Integrity, reason.to_string())
}

/// The status of a read that meets an event which no client takes.
pub(super) fn unreadable(event: UnreadableEvent) -> Status {
    with_details(Code::OutOfRange, ErrorType::Serialization, event.to_string())
}

/// The status of an event with a text that is no UUID. Its class is that of the other server.
pub(super) fn no_uuid(text: &str) -> Status {
    let text = cut(text, SHOWN_CHARACTERS_MAX);
    let reason = format!("{text:?} is no UUID, give one to the event or leave it empty");
    with_details(Code::DataLoss, ErrorType::Corruption, reason)
}

/// The status of a call that was refused before it came to be one of this protocol: the caller is
/// not known or may not do it, or there is no such store.
pub(in crate::services) fn detailed(status: Status) -> Status {
    let error_type = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => ErrorType::Authentication,
        Code::InvalidArgument | Code::NotFound => ErrorType::InvalidArgument,
        _ => ErrorType::Io,
    };
    with_details(status.code(), error_type, status.message().to_owned())
}

/// The status of an append that was not carried out, or may not have been.
pub(super) fn of_append(error: AppendError) -> Status {
    let message = error.to_string();
    match error {
        AppendError::Invalid(invalid) => unfit(invalid),
        AppendError::CheckpointMoved { .. } => overtaken(message),
        AppendError::Read(error) => of_read(error),
        AppendError::Busy { .. } | AppendError::Full { .. } => {
            with_details(Code::ResourceExhausted, ErrorType::Io, message)
        }
        AppendError::Unavailable { .. } | AppendError::ReadOnly { .. } | AppendError::Closed => {
            with_details(Code::Unavailable, ErrorType::Io, message)
        }
        AppendError::Denied { .. } => {
            with_details(Code::PermissionDenied, ErrorType::Authentication, message)
        }
        AppendError::Unknown { .. } => with_details(Code::Unknown, ErrorType::Io, message),
        AppendError::CommandIdReused { .. }
        | AppendError::Fenced { .. }
        | AppendError::ReadModel { .. } => {
            with_details(Code::Internal, ErrorType::Internal, message)
        }
    }
}

/// The status of a read that was not carried out.
pub(super) fn of_read(error: ReadError) -> Status {
    let message = error.to_string();
    match error {
        ReadError::Invalid(invalid) => unfit(invalid),
        ReadError::Damaged { .. } => with_details(Code::DataLoss, ErrorType::Corruption, message),
        ReadError::Busy { .. } => with_details(Code::ResourceExhausted, ErrorType::Io, message),
        ReadError::Io { .. } => with_details(Code::Internal, ErrorType::Io, message),
        ReadError::Denied { .. } => {
            with_details(Code::PermissionDenied, ErrorType::Authentication, message)
        }
        ReadError::NoHistory => with_details(Code::Unimplemented, ErrorType::Internal, message),
        ReadError::Closed => with_details(Code::Unavailable, ErrorType::Io, message),
    }
}

/// The status of a request that is beyond a limit.
pub(super) fn of_invalid(invalid: Invalid) -> Status {
    unfit(invalid)
}
