//! Calls that are answered once. They may be repeated, so a connection that breaks is waited for.

use std::time::Duration;

use leftfold_core::store::{LeaseError, ReadError};
use leftfold_protocol::{lease_error, read_error};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Response, Status};

use crate::channel::Client;
use crate::shared::{LinkState, RemoteShared};

/// First wait before a call is repeated whose connection broke.
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(2);
/// Longest such wait.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// Error of a call that has no answer.
#[derive(Debug)]
pub(crate) enum UnansweredCall {
    /// The server refused it.
    Refused(Status),
    /// It could not be carried out.
    Away(String),
}

impl UnansweredCall {
    pub(crate) fn strange(detail: impl ToString) -> Self {
        Self::Away(format!("the server answered in an unknown way: {}", detail.to_string()))
    }
}

impl From<UnansweredCall> for ReadError {
    fn from(error: UnansweredCall) -> Self {
        match error {
            UnansweredCall::Away(detail) => Self::Io { detail },
            UnansweredCall::Refused(status) => match read_error(&status) {
                // This handle is open.
                Some(Self::Closed) => Self::Io { detail: "the server closed the store".to_owned() },
                Some(error) => error,
                None if status.code() == Code::PermissionDenied => {
                    Self::Denied { detail: status.message().to_owned() }
                }
                None => Self::Io { detail: status.message().to_owned() },
            },
        }
    }
}

impl From<UnansweredCall> for LeaseError {
    fn from(error: UnansweredCall) -> Self {
        let closed = || "the server closed the store".to_owned();
        match error {
            UnansweredCall::Away(detail) => Self::Unavailable { detail },
            UnansweredCall::Refused(status) => match lease_error(&status) {
                Some(Self::Closed) => Self::Unavailable { detail: closed() },
                Some(error) => error,
                None if status.code() == Code::PermissionDenied => {
                    Self::Denied { detail: status.message().to_owned() }
                }
                None => Self::Unavailable { detail: status.message().to_owned() },
            },
        }
    }
}

/// Makes a call, again if its connection breaks, until the patience of the handle is over.
pub(crate) async fn call<T, Answer>(
    shared: &RemoteShared,
    make: impl Fn(Client) -> Answer,
) -> Result<T, UnansweredCall>
where
    Answer: Future<Output = Result<T, Status>>,
{
    let mut failing_since = None;
    let mut wait = FIRST_WAIT;
    loop {
        let status = match make(client(shared).await?).await {
            Ok(answer) => {
                shared.answered();
                return Ok(answer);
            }
            Err(status) => status,
        };
        if is_answer(&status) {
            shared.answered();
            return Err(UnansweredCall::Refused(status));
        }
        let since = *failing_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= shared.options.patience {
            return Err(UnansweredCall::Away(status.message().to_owned()));
        }
        // The connection that broke is noticed elsewhere, and made again.
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// The same for calls with one reply.
pub(crate) async fn call_once<T, Answer>(
    shared: &RemoteShared,
    make: impl Fn(Client) -> Answer,
) -> Result<T, UnansweredCall>
where
    Answer: Future<Output = Result<Response<T>, Status>>,
{
    let make = |client| {
        let answer = make(client);
        async { answer.await.map(Response::into_inner) }
    };
    call(shared, make).await
}

/// Tells whether the server answered: otherwise the call failed on its way, or the server stops.
pub(crate) fn is_answer(status: &Status) -> bool {
    let passes = matches!(
        status.code(),
        Code::Unavailable
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
            | Code::Aborted
            | Code::DeadlineExceeded
    );
    !passes || read_error(status).is_some() || lease_error(status).is_some()
}

/// Returns the connection, when there is one.
async fn client(shared: &RemoteShared) -> Result<Client, UnansweredCall> {
    let mut connection = shared.connection.subscribe();
    let known = connection.wait_for(|connection| !matches!(connection, LinkState::Connecting));
    let away = |detail: &str| {
        UnansweredCall::Away(format!("the server {} {detail}", shared.options.address()))
    };
    match timeout(shared.options.patience, known).await {
        Err(_) => Err(away("does not answer")),
        Ok(Err(_)) => Err(away("is not connected any more")),
        Ok(Ok(known)) => match &*known {
            LinkState::Up(client) => Ok(client.clone()),
            LinkState::Away { detail } | LinkState::Ended { detail } => {
                Err(UnansweredCall::Away(detail.clone()))
            }
            LinkState::Connecting => Err(away("is not connected")),
        },
    }
}
