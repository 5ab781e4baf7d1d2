//! Receiving from a broker: the same for every broker, so that each adapter only speaks its
//! protocol.
//!
//! A `settlement` says what becomes of one message, and which error is which. An adapter implements
//! `queue`; the `receiver` connects to it, takes its messages into an inbox, several sources side
//! by side (`sources`), and settles them. Its `status` is what people see of it.

mod queue;
mod receiver;
mod settlement;
mod sources;
mod status;

pub use queue::{Arrival, BrokerQueue, QueueSession};
pub use receiver::{CONNECT_WITHIN, RunningReceiver, SETTLE_WITHIN};
pub use settlement::Settlement;
pub use sources::RECEIVED_MAX;
pub use status::{ReceiverState, ReceiverStatus};
