//! The native protocol of Leftfold: its messages, and what they mean in the words of a store.
//!
//! A server and its clients send [`wire`] messages over gRPC. Each of them that stands for a word
//! of the store is made of that word with `From`, and read with `TryFrom`, which refuses what no
//! client of this protocol sends as [`Malformed`]: an absent part, an id of the wrong length, a
//! text or a list beyond the store's limits. Both directions keep every field: what is read is
//! equal to what was written.
//!
//! The description for clients in other languages is `proto/leftfold.proto`; the calls, the errors
//! and how versions change are in `docs/protocol.md`.

// `malformed` is the error of a message, with what reads its parts. Then, in the order of the
// description: `event`, `query`, `append`, `outcome`, `read`, `history`, `lease` and
// `status`; `batch` has several appends or answers in one message, `problem` the errors that travel
// beside a call's status. `bounded` has the codec of all calls.

mod append;
mod batch;
pub mod bounded;
mod event;
mod history;
mod lease;
mod malformed;
mod outcome;
mod problem;
mod query;
mod read;
mod status;

use std::sync::LazyLock;

pub use batch::{AnswerBatch, AppendBatch, SentAppends, answers_of, append_of, encoded_answer};
use bounded::{BoundedCodec, DescribedProtocol, RequestShapes};
pub use event::{encoded_event, event_of};
pub use malformed::Malformed;
pub use outcome::{answer_of, outcome_of};
pub use problem::{
    group_problem, group_status, lease_error, lease_status, read_error, read_status,
    subscribe_status,
};

/// Messages and services, as they are described in `proto/leftfold.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod wire {
    tonic::include_proto!("leftfold.v1");
}

/// The native protocol and the health service, as they are described.
#[derive(Debug)]
pub struct NativeProtocol;

/// Descriptions of the native protocol and of the health service, as a
/// `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTIONS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/described.bin"));

static NATIVE_REQUESTS: LazyLock<RequestShapes> = LazyLock::new(|| {
    RequestShapes::described(DESCRIPTIONS).expect("the build has written the descriptions")
});

impl DescribedProtocol for NativeProtocol {
    fn requests() -> &'static RequestShapes {
        &NATIVE_REQUESTS
    }
}

/// Codec of the calls of the native protocol and of the health service.
type NativeCodec<E, D> = BoundedCodec<NativeProtocol, E, D>;

/// The health service of gRPC.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// Bytes of a message, in either direction. The largest append, and the largest page, are below it.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Bytes of events that a server puts into one page, approximately.
pub const PAGE_BYTES_MAX: u32 = 16 << 20;
/// Appends of one call that may wait for their answers; a server reads no more until some have
/// gone out.
pub const IN_FLIGHT_MAX: usize = 4_096;
/// Metadata of a call that names its store.
pub const STORE_METADATA: &str = "leftfold-store";
/// Name of the store that a call means if it names none.
pub const DEFAULT_STORE: &str = "default";
/// Port on which servers listen if they are told no other one.
pub const PORT: u16 = 2113;

#[cfg(test)]
mod tests;
