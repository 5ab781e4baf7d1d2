//! Bounds on the memory that a request takes when it is decoded.
//!
//! A part of a message may take two bytes on the wire and hundreds in memory, so a bound on the
//! bytes of a message alone does not bound its memory. [`BoundedCodec`] looks at the bytes of each
//! request before it decodes them: it counts what the elements of its lists and maps take, by the
//! descriptions of the messages, and refuses what is beyond [`PART_BYTES_MAX`] with
//! `OUT_OF_RANGE`. Every protocol of a server has it, by the code that is generated for its
//! services.

// `described` has the descriptions, as far as they are needed, `shapes` the sizes of messages and
// the walk over their bytes, `codec` the place where both meet a call.

mod codec;
mod described;
mod shapes;

pub use codec::{BoundedCodec, BoundedDecoder, DescribedProtocol};
pub use shapes::RequestShapes;

/// Bytes of memory that the parts of a request may take, beside its bytes on the wire. The largest
/// append has its room: 10,000 events with all the tags and keys that an event may have.
pub const PART_BYTES_MAX: usize = 96 << 20;

#[cfg(test)]
mod tests;
