//! Counts of calls, by method and status, with the time that they took.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use leftfold::span::continues;
use leftfold::store::{Histogram, Metrics, TraceContext};
use tonic::Code;
use tracing::Span;
use tracing::field::Empty;

use super::{CallProtocol, ServerCounts};

/// Bounds of the time of a call, in microseconds.
const CALL_MICROS: [u64; 12] = [
    100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000,
    60_000_000,
];
/// Statuses of gRPC by their numbers; those of plain HTTP are put among them.
const STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// Paths of plain HTTP, with their names as methods.
const PAGES: [(&str, &str); 2] = [("/health", "health"), ("/metrics", "metrics")];

/// Calls of all methods that the server has.
pub(crate) struct CallCounts {
    by_path: HashMap<String, usize>,
    /// The last one is that of every other path.
    methods: Vec<MethodCounts>,
}

struct MethodCounts {
    protocol: CallProtocol,
    method: String,
    open: AtomicU64,
    by_status: [AtomicU64; STATUSES.len()],
    seconds: Histogram,
}

impl MethodCounts {
    fn new(protocol: CallProtocol, method: &str) -> Self {
        Self {
            protocol,
            method: method.to_owned(),
            open: AtomicU64::new(0),
            by_status: Default::default(),
            seconds: Histogram::of_micros(&CALL_MICROS),
        }
    }
}

impl CallCounts {
    pub(super) fn new<'m>(methods: impl IntoIterator<Item = (&'m str, &'m str)>) -> Self {
        let (mut by_path, mut counts) = (HashMap::new(), Vec::new());
        let called = methods.into_iter().map(|(service, method)| {
            // Two services of one protocol may have methods of the same name.
            let name = service.rsplit('.').next().unwrap_or(service);
            let protocol = CallProtocol::of_service(service);
            (format!("/{service}/{method}"), protocol, format!("{name}/{method}"))
        });
        let pages = PAGES
            .into_iter()
            .map(|(path, name)| (path.to_owned(), CallProtocol::Http, name.to_owned()));
        for (path, protocol, method) in called.chain(pages) {
            by_path.insert(path, counts.len());
            counts.push(MethodCounts::new(protocol, &method));
        }
        counts.push(MethodCounts::new(CallProtocol::Other, "other"));
        Self { by_path, methods: counts }
    }

    pub(super) fn measure(&self, metrics: &mut Metrics) {
        for method in &self.methods {
            let labels = [("protocol", method.protocol.name()), ("method", &*method.method)];
            let open = method.open.load(Ordering::Relaxed);
            let counts = method.by_status.iter().map(|count| count.load(Ordering::Relaxed));
            let counts = STATUSES.into_iter().zip(counts).filter(|(_, count)| *count > 0);
            let counts: Vec<_> = counts.collect();
            // A method that nobody has called has no samples.
            if open == 0 && counts.is_empty() {
                continue;
            }
            let text = "Calls that are open, by protocol and method.";
            metrics.gauge("leftfold_server_calls_open", text, &labels, open);
            for (status, count) in counts {
                metrics.counter(
                    "leftfold_server_calls_total",
                    "Calls that have ended, by protocol, method and status.",
                    &[labels[0], labels[1], ("status", status)],
                    count,
                );
            }
            metrics.histogram(
                "leftfold_server_call_seconds",
                "Time from the beginning of a call to its end, by protocol and method.",
                &labels,
                &method.seconds,
            );
        }
    }
}

/// A call from its beginning to its end.
pub(crate) struct OpenCall {
    counts: Arc<ServerCounts>,
    method: usize,
    began: Instant,
    /// Status, as soon as it is known.
    status: Option<usize>,
    span: Span,
}

impl OpenCall {
    /// Begins a call of this path, with a span that continues the trace of its caller.
    pub(crate) fn begin(
        counts: &Arc<ServerCounts>,
        path: &str,
        trace: Option<&TraceContext>,
    ) -> Self {
        let calls = &counts.calls;
        let method = calls.by_path.get(path).copied().unwrap_or(calls.methods.len() - 1);
        calls.methods[method].open.fetch_add(1, Ordering::Relaxed);
        let MethodCounts { protocol, method: name, .. } = &calls.methods[method];
        let span = tracing::debug_span!(
            target: "leftfold",
            "leftfold.call",
            protocol = protocol.name(),
            method = &**name,
            status = Empty,
            trace_id = Empty,
            parent_id = Empty,
        );
        continues(&span, trace);
        Self { counts: Arc::clone(counts), method, began: Instant::now(), status: None, span }
    }

    /// The span of the call, which ends with it.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Counts the call when its answer has ended.
    pub(crate) fn answer(mut self, response: Response) -> Response {
        let kind = response.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            self.see(response.headers());
        } else {
            self.status = Some(of_page(response.status()) as usize);
        }
        response.map(|body| Body::new(CountedBody { body, call: self }))
    }

    /// Looks for the status, which comes with the headers of an answer without a body, and else
    /// behind it.
    fn see(&mut self, headers: &HeaderMap) {
        let status = headers.get(tonic::Status::GRPC_STATUS);
        let number = |text: &header::HeaderValue| text.to_str().ok()?.parse::<usize>().ok();
        let number = |text| number(text).filter(|number| *number < STATUSES.len());
        if let Some(text) = status {
            self.status = Some(number(text).unwrap_or(Code::Unknown as usize));
        }
    }
}

/// The status of an answer over plain HTTP.
fn of_page(status: StatusCode) -> Code {
    match status {
        _ if status.is_success() => Code::Ok,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        _ if status.is_client_error() => Code::InvalidArgument,
        _ => Code::Unknown,
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let method = &self.counts.calls.methods[self.method];
        method.open.fetch_sub(1, Ordering::Relaxed);
        // One that has none was given up by its client, or its connection broke.
        let status = self.status.unwrap_or(Code::Cancelled as usize);
        method.by_status[status].fetch_add(1, Ordering::Relaxed);
        self.span.record("status", STATUSES[status]);
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        method.seconds.observe(micros);
    }
}

/// The body of an answer, with which its call ends.
struct CountedBody {
    body: Body,
    call: OpenCall,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.see(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
