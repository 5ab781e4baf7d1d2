//! Users' code, kept apart: a panic of it is an error of its own work, and nobody else's.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

pub(crate) use crate::panic::message;

type Code<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// Runs users' code in the caller's task; if it panics, the error says with what.
///
/// It is polled in the task that awaits it and nowhere else, so its steps come in the caller's
/// order, and it needs nothing of tokio that it does not ask for itself.
pub(in crate::runtime) fn contained<'c, T>(
    code: impl Future<Output = T> + Send + 'c,
) -> Contained<'c, T> {
    Contained { code: Some(Box::pin(code)) }
}

#[must_use = "the code does not run until it is awaited"]
pub(in crate::runtime) struct Contained<'c, T> {
    /// The code; `None` once it has ended.
    code: Option<Code<'c, T>>,
}

impl<T> Future for Contained<'_, T> {
    type Output = Result<T, String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let code = &mut self.code;
        // After a panic the code is dropped and never polled again; what it shared with others is
        // theirs to keep whole, as it is between tasks.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let polled = code.as_mut().map(|code| code.as_mut().poll(context));
            if matches!(polled, Some(Poll::Ready(_))) {
                // What it held is dropped here, where a panic of that counts as one of the code.
                *code = None;
            }
            polled
        }));
        match polled {
            Ok(Some(Poll::Pending)) => Poll::Pending,
            Ok(Some(Poll::Ready(ended))) => Poll::Ready(Ok(ended)),
            Ok(None) => Poll::Ready(Err("it was awaited again after its end".to_owned())),
            Err(panic) => {
                let said = message(&*panic);
                self.give_up();
                Poll::Ready(Err(said))
            }
        }
    }
}

impl<T> Contained<'_, T> {
    /// Drops the code at once. A panic of the drop changes nothing, and was reported by the panic
    /// hook.
    fn give_up(&mut self) {
        let code = self.code.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(code)));
    }
}

impl<T> Drop for Contained<'_, T> {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::task::Waker;

    use super::*;

    /// Polls without any runtime.
    fn poll<T>(code: &mut Contained<'_, T>) -> Poll<Result<T, String>> {
        Pin::new(code).poll(&mut Context::from_waker(Waker::noop()))
    }

    struct ExplodesAtItsEnd;

    impl Drop for ExplodesAtItsEnd {
        fn drop(&mut self) {
            panic!("the end exploded");
        }
    }

    #[test]
    fn code_runs_where_it_is_polled_and_without_a_runtime() {
        let mut steps = 0;
        let mut code = contained(poll_fn(|_| {
            steps += 1;
            if steps < 3 { Poll::Pending } else { Poll::Ready(std::thread::current().id()) }
        }));
        assert_eq!((poll(&mut code), poll(&mut code)), (Poll::Pending, Poll::Pending));
        assert_eq!(poll(&mut code), Poll::Ready(Ok(std::thread::current().id())));
        assert!(matches!(poll(&mut code), Poll::Ready(Err(_))), "it is at its end");
        drop(code);
        assert_eq!(steps, 3);
    }

    #[test]
    fn a_panic_is_told_with_its_words_and_the_code_never_goes_on() {
        let mut steps = 0;
        let mut code = contained(poll_fn(|_| -> Poll<()> {
            steps += 1;
            panic!("step {steps} exploded")
        }));
        assert_eq!(poll(&mut code), Poll::Ready(Err("step 1 exploded".to_owned())));
        assert_eq!(
            poll(&mut code),
            Poll::Ready(Err("it was awaited again after its end".to_owned()))
        );
        drop(code);
        assert_eq!(steps, 1);
    }

    #[test]
    fn what_the_code_holds_may_panic_when_it_is_dropped() {
        let held = ExplodesAtItsEnd;
        let mut ends = contained(async move {
            let _held = &held;
            ready(()).await;
        });
        assert_eq!(poll(&mut ends), Poll::Ready(Err("the end exploded".to_owned())));
        let held = ExplodesAtItsEnd;
        let mut waits = contained(async move {
            let _held = &held;
            pending::<()>().await;
        });
        assert_eq!(poll(&mut waits), Poll::Pending);
        drop(waits);
    }
}
