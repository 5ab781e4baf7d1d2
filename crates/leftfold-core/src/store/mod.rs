//! The store: its words, its contract, and the handle that everything above it holds.
//!
//! 1. The words: `names`, `time`, `event`, `trace`, `query`, with the `limits` on every size and
//!    the error of what is beyond one (`invalid`).
//! 2. The contract: `append`, `read` and `lease` are its requests and answers, `record` is what it
//!    keeps beside events, and `authority` the right to write names of the runtime. An answer is
//!    `pending` until it comes, and events that a backend brings by itself come by a `feed`.
//!    `history` has the bytes of the chain. `backend` says what every store promises. `memory`
//!    keeps it in the shortest form, with the rules of leases from `tenures`.
//! 3. The `handle` on a backend, with the `subscription` that follows it, its `metrics`, and what
//!    an error means to a caller (`kind`). `append_figures` has those that backends share,
//!    `held_bytes` says what a waiting request counts for; `sleep` measures the time that the
//!    machine slept, for clocks.

mod append;
mod append_figures;
mod authority;
mod backend;
mod event;
mod feed;
mod handle;
pub mod held_bytes;
mod history;
mod invalid;
mod kind;
mod lease;
pub mod limits;
mod memory;
mod metrics;
mod names;
mod pending;
mod query;
mod read;
mod record;
mod sleep;
mod subscription;
mod tenures;
mod time;
mod trace;

pub use append::{
    Append, AppendError, Appended, Condition, Conflict, Expected, Mismatch, NoneMatching, Outcome,
};
pub use append_figures::AppendFigures;
pub use authority::Authority;
pub use backend::{Backend, CloseError, Epoch, Identity};
pub use event::{ContentType, InStream, Metadata, NewEvent, RecordedEvent};
pub use feed::{EventFeed, FedEvents, Signal};
pub use handle::{Events, Store, UnknownPartition};
pub use history::{
    HistoryEnd, HistoryFrom, HistoryHasher, HistoryKind, HistoryLink, HistoryPage, HistoryRule,
    PageRoom,
};
pub use invalid::Invalid;
pub use kind::Kind;
pub use lease::{Fence, HeldLease, Holder, Lease, LeaseError, LeaseRequest, Leased};
pub use memory::MemoryBackend;
pub(crate) use metrics::Measured;
pub use metrics::{Histogram, Labels, Metrics};
pub use names::{
    CommandId, Digest, EventId, EventType, Hash, Label, Position, StoreId, StreamName, Tag, Tags,
    Version,
};
pub use pending::{Gone, Pending};
pub use query::{Query, QueryItem, StreamMatch, System, TypeMatch};
pub use read::{
    AppendsFrom, AppendsPage, Direction, Head, Page, Read, ReadError, RecordedAppend, State,
    Status, What,
};
pub use record::{Answered, Checkpoint, CheckpointRecord, CommandRecord, MoveFrom, Partition};
pub use sleep::SleepGauge;
pub use subscription::{SubscribeError, Subscription};
pub use tenures::{Leases, Tenure};
pub use time::{NotATime, Timestamp};
pub use trace::{NotATrace, TraceContext};
