//! The gRPC API over the read model.

use std::pin::Pin;
use std::time::Duration;

use leftfold::prelude::*;
use leftfold::runtime::projection::Projections;
use leftfold::sqlite::{Reader, SqliteError};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status as Answer};
use uuid::Uuid;

use crate::foo::Status;
use crate::tables::{self, FooRow, Foos};
use proto::foos_server;

/// Code that `build.rs` generates from foos.proto.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "it is generated")]
pub(crate) mod proto {
    tonic::include_proto!("foos.v1");

    /// Description of the service, for clients that use reflection.
    pub const DESCRIBED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/foos.bin"));
}

/// Longest time that a caller waits for the read model to reach what it wrote.
const REACHED_WITHIN: Duration = Duration::from_secs(2);
/// Foos that wait for a slow caller.
const WAITING_MAX: usize = 64;

/// Answers from the rows.
pub(crate) struct FoosService {
    pub(crate) foos: Reader,
    pub(crate) projections: Projections,
}

#[tonic::async_trait]
impl foos_server::Foos for FoosService {
    // ANCHOR: get-foo
    async fn get_foo(
        &self,
        request: Request<proto::GetFooRequest>,
    ) -> Result<Response<proto::Foo>, Answer> {
        let proto::GetFooRequest { id, at_least } = request.into_inner();
        let id: Uuid =
            id.parse().map_err(|_| Answer::invalid_argument(format!("{id:?} is no UUID")))?;
        let reached = self.projections.wait_until(
            <Foos as Projection<leftfold::sqlite::Sqlite>>::NAME,
            Position(at_least),
            REACHED_WITHIN,
        );
        reached.await.map_err(|not_yet| Answer::unavailable(not_yet.to_string()))?;
        let foos = self.foos.clone();
        let found = blocking(move || tables::find(&foos, id)).await?;
        found
            .map(|foo| Response::new(foo.into()))
            .ok_or_else(|| Answer::not_found(format!("there is no foo {id}")))
    }
    // ANCHOR_END: get-foo

    type GetFoosStream = Pin<Box<dyn Stream<Item = Result<proto::Foo, Answer>> + Send>>;

    async fn get_foos(
        &self,
        request: Request<proto::GetFoosRequest>,
    ) -> Result<Response<Self::GetFoosStream>, Answer> {
        let status = match request.into_inner().status() {
            proto::Status::Unspecified => None,
            proto::Status::Active => Some(Status::Active),
            proto::Status::Paused => Some(Status::Paused),
            proto::Status::Retired => Some(Status::Retired),
        };
        let (send, sent) = mpsc::channel(WAITING_MAX);
        let foos = self.foos.clone();
        tokio::spawn(async move {
            // A caller that has gone away ends it.
            let _ = send_all(foos, status, send).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(sent))))
    }
}

/// Sends page after page, each read at once: so a slow caller holds no transaction open.
async fn send_all(
    foos: Reader,
    status: Option<Status>,
    send: mpsc::Sender<Result<proto::Foo, Answer>>,
) -> Result<(), mpsc::error::SendError<Result<proto::Foo, Answer>>> {
    let mut after = String::new();
    loop {
        let (reader, from) = (foos.clone(), after.clone());
        let page = match blocking(move || tables::page(&reader, status, &from)).await {
            Ok(page) => page,
            Err(failed) => return send.send(Err(failed)).await,
        };
        let Some(last) = page.last() else { return Ok(()) };
        after = last.name.id.to_string();
        for foo in page {
            send.send(Ok(foo.into())).await?;
        }
    }
}

/// Reads rows where that holds up nobody.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, SqliteError> + Send + 'static,
) -> Result<T, Answer> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(failed)) => Err(Answer::unavailable(failed.to_string())),
        Err(panicked) => Err(Answer::internal(panicked.to_string())),
    }
}

impl From<FooRow> for proto::Foo {
    fn from(foo: FooRow) -> Self {
        let status = match foo.status {
            None => proto::Status::Unspecified,
            Some(Status::Active) => proto::Status::Active,
            Some(Status::Paused) => proto::Status::Paused,
            Some(Status::Retired) => proto::Status::Retired,
        };
        Self {
            id: foo.name.id.to_string(),
            bar_id: foo.name.bar,
            baz_id: foo.name.baz,
            status: status.into(),
            label: foo.label.unwrap_or_default(),
        }
    }
}
