//! The trace of a call, which its events belong to.

use axum::http::HeaderMap;
use leftfold::store::{Append, TraceContext};
use tonic::metadata::MetadataMap;

/// Returns the trace that a call says it is part of, by `traceparent` and `tracestate` of the W3C;
/// `None` if it says none that can be read.
pub(super) fn trace_of(metadata: &MetadataMap) -> Option<TraceContext> {
    trace_in(metadata.as_ref())
}

/// Returns the same, of the headers of a request.
pub(super) fn trace_in(headers: &HeaderMap) -> Option<TraceContext> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    TraceContext::parse(text("traceparent")?, text("tracestate")).ok()
}

/// Notes the trace at each event that has none of its own.
pub(super) fn note_trace(append: &mut Append, trace: Option<&TraceContext>) {
    let Some(trace) = trace else { return };
    for event in append.events.iter_mut().filter(|event| event.metadata.trace.is_none()) {
        event.metadata.trace = Some(trace.clone());
    }
}
