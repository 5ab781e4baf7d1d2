//! Trace context: the place of an event in a distributed trace, as W3C Trace Context defines it.

use std::fmt;
use std::sync::Arc;

use super::limits::TRACE_STATE_BYTES_MAX;

/// The place of a request in a distributed trace: the headers `traceparent` and `tracestate` of
/// [W3C Trace Context](https://www.w3.org/TR/trace-context/). Cheap to clone.
///
/// ```
/// use leftfold_core::store::TraceContext;
///
/// let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context = TraceContext::parse(parent, Some("vendor=1"))?;
/// assert_eq!((context.to_string(), context.state()), (parent.to_owned(), "vendor=1"));
/// assert!(TraceContext::parse("4bf92f3577b34da6a3ce929d0e0e4736", None).is_err());
/// # Ok::<(), leftfold_core::store::NotATrace>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext(Arc<TraceParts>);

#[derive(Debug, PartialEq, Eq)]
struct TraceParts {
    trace: [u8; 16],
    parent: [u8; 8],
    flags: u8,
    state: Box<str>,
}

/// Error of a text, or of ids, that are no trace context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no traceparent, it has the form 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, not all of them 0"
)]
pub struct NotATrace {
    /// Text that was given, its first 64 characters at most.
    pub text: String,
}

impl TraceContext {
    /// Reads the header `traceparent`, and `tracestate` if there is one. A `tracestate` that is not
    /// printable ASCII, or longer than [`TRACE_STATE_BYTES_MAX`], is left out, as the standard
    /// says.
    ///
    /// # Errors
    /// [`NotATrace`] if the `traceparent` is none: then a new trace is to begin.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Result<Self, NotATrace> {
        let refused = || NotATrace { text: traceparent.chars().take(64).collect() };
        let mut fields = traceparent.trim().split('-');
        let mut next = || fields.next().ok_or_else(refused);
        let (version, trace, parent, flags) = (next()?, next()?, next()?, next()?);
        let version: [u8; 1] = digits(version).ok_or_else(refused)?;
        // Later versions may have more fields behind these.
        if version[0] == 0xff || version[0] == 0 && fields.next().is_some() {
            return Err(refused());
        }
        let (trace, parent) =
            (digits(trace).ok_or_else(refused)?, digits(parent).ok_or_else(refused)?);
        let flags: [u8; 1] = digits(flags).ok_or_else(refused)?;
        Self::new(trace, parent, flags[0], tracestate.unwrap_or_default()).ok_or_else(refused)
    }

    /// A context of its parts; `None` if an id has only zeros, which is no id. The state is left
    /// out as in [`parse`](Self::parse).
    #[must_use]
    pub fn new(trace: [u8; 16], parent: [u8; 8], flags: u8, state: &str) -> Option<Self> {
        let is_good = state.len() <= TRACE_STATE_BYTES_MAX
            && state.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let state = if is_good { state.trim().into() } else { Box::default() };
        (trace != [0; 16] && parent != [0; 8])
            .then(|| Self(Arc::new(TraceParts { trace, parent, flags, state })))
    }

    /// The id of the whole trace.
    #[must_use]
    pub fn trace_id(&self) -> [u8; 16] {
        self.0.trace
    }

    /// Returns the id of the span that is the parent of all spans that follow from this request.
    #[must_use]
    pub fn parent_id(&self) -> [u8; 8] {
        self.0.parent
    }

    /// The flags; bit 0 says that the trace is sampled.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.0.flags
    }

    /// The header `tracestate`, empty if there is none.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.0.state
    }

    /// Bytes that it adds to an event.
    pub(super) fn bytes(&self) -> usize {
        size_of::<[u8; 25]>() + self.0.state.len()
    }
}

impl fmt::Display for TraceContext {
    /// Writes the header `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceParts { trace, parent, flags, .. } = &*self.0;
        let (trace, parent) = (u128::from_be_bytes(*trace), u64::from_be_bytes(*parent));
        write!(f, "00-{trace:032x}-{parent:016x}-{flags:02x}")
    }
}

/// Reads `N` bytes, of two lower-case hexadecimal digits each; `None` if the text is anything else.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    #[test]
    fn what_the_standard_forbids_is_refused_and_later_versions_are_read() {
        let good = format!("00-{TRACE}-{PARENT}-01");
        assert_eq!(TraceContext::parse(&good, None).unwrap().to_string(), good);
        let later = TraceContext::parse(&format!("cc-{TRACE}-{PARENT}-01-more"), None);
        assert_eq!(later.unwrap().to_string(), good);
        let zeros = "0".repeat(32);
        let bad = [
            String::new(),
            "00".to_owned(),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("00-{TRACE}-{PARENT}"),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{zeros}-{PARENT}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{TRACE}-{PARENT}-1"),
            "ä".repeat(55),
        ];
        for text in bad {
            assert!(TraceContext::parse(&text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn a_state_that_cannot_be_kept_is_left_out() {
        let good = format!("00-{TRACE}-{PARENT}-00");
        let state =
            |state: &str| TraceContext::parse(&good, Some(state)).unwrap().state().to_owned();
        assert_eq!(state(" a=1,b=2 "), "a=1,b=2");
        assert_eq!(
            (state("a=ä"), state(&"x".repeat(TRACE_STATE_BYTES_MAX + 1))),
            (String::new(), String::new())
        );
    }
}
