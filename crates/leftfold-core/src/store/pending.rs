//! The answer of a request that is under way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

/// The answer that is still to come: a concrete future, so that the contract needs no boxing.
#[derive(Debug)]
#[must_use = "the work goes on without it, but its answer is lost"]
pub struct Pending<T, E>(PendingAnswer<T, E>);

#[derive(Debug)]
enum PendingAnswer<T, E> {
    Ready(Option<Result<T, E>>),
    Waiting(oneshot::Receiver<Result<T, E>>),
    Watched(Box<Watched<T, E>>),
}

/// A request that somebody watches: its span ends with the answer.
#[derive(Debug)]
struct Watched<T, E> {
    pending: Pending<T, E>,
    span: tracing::Span,
    say: fn(&tracing::Span, &Result<T, E>),
}

/// The other side ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl<T, E> Pending<T, E> {
    /// An answer that is there already.
    pub const fn ready(answer: Result<T, E>) -> Self {
        Self(PendingAnswer::Ready(Some(answer)))
    }

    /// An answer that comes through a channel.
    pub const fn waiting(answer: oneshot::Receiver<Result<T, E>>) -> Self {
        Self(PendingAnswer::Waiting(answer))
    }

    /// The same answer, which is said in a span when it comes.
    pub(super) fn watched(
        self,
        span: tracing::Span,
        say: fn(&tracing::Span, &Result<T, E>),
    ) -> Self {
        Self(PendingAnswer::Watched(Box::new(Watched { pending: self, span, say })))
    }
}

impl<T, E> Unpin for Pending<T, E> {}

impl<T, E: From<Gone>> Future for Pending<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            // A future that is polled after its end has no answer left to give.
            PendingAnswer::Ready(answer) => {
                Poll::Ready(answer.take().unwrap_or_else(|| Err(Gone.into())))
            }
            PendingAnswer::Waiting(receiver) => Pin::new(receiver)
                .poll(context)
                .map(|answer| answer.unwrap_or_else(|_| Err(Gone.into()))),
            PendingAnswer::Watched(watched) => {
                let Watched { pending, span, say } = &mut **watched;
                let polled = Pin::new(pending).poll(context);
                if let Poll::Ready(answer) = &polled {
                    say(span, answer);
                    *span = tracing::Span::none();
                }
                polled
            }
        }
    }
}
