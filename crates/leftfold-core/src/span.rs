//! Spans of tracing: one for each command, append, reaction, attempt at an effect and batch of a
//! projection.
//!
//! A span that nobody listens to costs a look at an atomic number. Names of things that may be a
//! person's, as the ids of aggregates are, stand only in the span of an append, whose level is
//! DEBUG.
//!
//! A trace continues behind the log: the trace that caused an event is kept in its metadata, and
//! the span of everything that follows from the event has it as its parent (with the feature
//! `opentelemetry`), or tells it in the fields `trace_id` and `parent_id`.

use std::future::Future;

use tracing::{Instrument, Span};

use crate::store::{Metadata, TraceContext};

/// Traces that a span is linked with.
const LINKS_MAX: usize = 32;

/// Lets a span continue the trace of a request: with the feature `opentelemetry` it has its parent
/// there, and without it the span says so in its fields `trace_id` and `parent_id`, if it has them.
///
/// ```
/// use leftfold_core::span::continues;
/// use leftfold_core::store::TraceContext;
/// use tracing::field::Empty;
///
/// let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let parent = TraceContext::parse(parent, None)?;
/// let span = tracing::info_span!("request", trace_id = Empty, parent_id = Empty);
/// continues(&span, Some(&parent));
/// # Ok::<(), leftfold_core::store::NotATrace>(())
/// ```
pub fn continues(span: &Span, trace: Option<&TraceContext>) {
    let Some(trace) = trace.filter(|_| !span.is_disabled()) else { return };
    span.record(
        "trace_id",
        tracing::field::display(format_args!("{:032x}", u128::from_be_bytes(trace.trace_id()))),
    );
    span.record(
        "parent_id",
        tracing::field::display(format_args!("{:016x}", u64::from_be_bytes(trace.parent_id()))),
    );
    #[cfg(feature = "opentelemetry")]
    otel::continues(span, trace);
}

/// Lets the span of a batch continue the trace of its events if all of them have the same one. Else
/// it is linked with their traces, with [`LINKS_MAX`] at most.
pub(crate) fn comes_of<'t>(span: &Span, traces: impl Iterator<Item = Option<&'t TraceContext>>) {
    let mut distinct: Vec<Option<&TraceContext>> = Vec::new();
    for trace in traces {
        if distinct.len() < LINKS_MAX && !distinct.contains(&trace) {
            distinct.push(trace);
        }
    }
    match distinct[..] {
        [trace] => continues(span, trace),
        #[cfg(feature = "opentelemetry")]
        _ => distinct.into_iter().flatten().for_each(|trace| otel::links(span, trace)),
        #[cfg(not(feature = "opentelemetry"))]
        _ => {}
    }
}

/// Lets metadata say that its events were caused within a span: with the feature `opentelemetry`,
/// as the collector of spans names it. Without the feature, or if nobody collects spans, it stays
/// as the caller said.
pub(crate) fn carries(span: &Span, metadata: &mut Metadata) {
    #[cfg(feature = "opentelemetry")]
    if let Some(trace) = otel::context(span) {
        metadata.trace = Some(trace);
    }
    #[cfg(not(feature = "opentelemetry"))]
    let _ = (span, metadata);
}

/// Carries out work within a span, and lets `say` record the result in it.
pub(crate) async fn within<T>(
    span: Span,
    work: impl Future<Output = T>,
    say: impl FnOnce(&Span, &T),
) -> T {
    let done = work.instrument(span.clone()).await;
    if !span.is_disabled() {
        say(&span, &done);
    }
    done
}

#[cfg(feature = "opentelemetry")]
mod otel {
    use opentelemetry::trace::{
        SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState,
    };
    use tracing::Span;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    use crate::store::TraceContext;

    pub(super) fn continues(span: &Span, trace: &TraceContext) {
        let current = Span::current().context();
        // A span within one of the same trace has its parent already.
        if current.span().span_context().trace_id() == TraceId::from_bytes(trace.trace_id()) {
            return;
        }
        // It fails only if nobody collects spans.
        let _ = span.set_parent(current.with_remote_span_context(remote(trace)));
    }

    pub(super) fn links(span: &Span, trace: &TraceContext) {
        span.add_link(remote(trace));
    }

    fn remote(trace: &TraceContext) -> SpanContext {
        let state = trace.state().parse::<TraceState>().unwrap_or_default();
        let (trace_id, parent_id) =
            (TraceId::from_bytes(trace.trace_id()), SpanId::from_bytes(trace.parent_id()));
        SpanContext::new(trace_id, parent_id, TraceFlags::new(trace.flags()), true, state)
    }

    pub(super) fn context(span: &Span) -> Option<TraceContext> {
        let context = span.context();
        let context = context.span().span_context().clone();
        let state = context.trace_state().header();
        TraceContext::new(
            context.trace_id().to_bytes(),
            context.span_id().to_bytes(),
            context.trace_flags().to_u8(),
            &state,
        )
    }
}
