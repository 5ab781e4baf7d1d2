//! The calls whose messages are many events: those go from what was read into the bytes of a
//! message, without a message between.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes};
use leftfold_protocol::bounded::BoundedDecoder;
use prost::{Message, Name};
use tonic::body::Body;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, ServerStreamingService};
use tonic::{Request, Response, Status};

use super::{MESSAGE_BYTES_MAX, UmaService, wire};
use crate::services::{FacadeCodec, Messages};

/// Request of a call that is answered with encoded messages.
pub(super) trait AnsweredEncoded: Message + Default + Name + Send + 'static {
    /// Path of the call.
    const PATH: &'static str;

    /// Answers the call.
    fn answer(
        service: &UmaService,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Messages<Bytes>>, Status>> + Send;
}

impl AnsweredEncoded for wire::ReadRequest {
    const PATH: &'static str = "/umadb.v1.DCB/Read";

    async fn answer(
        service: &UmaService,
        request: Request<Self>,
    ) -> Result<Response<Messages<Bytes>>, Status> {
        service.read_encoded(request).await
    }
}

impl AnsweredEncoded for wire::SubscribeRequest {
    const PATH: &'static str = "/umadb.v1.DCB/Subscribe";

    async fn answer(
        service: &UmaService,
        request: Request<Self>,
    ) -> Result<Response<Messages<Bytes>>, Status> {
        service.subscribe_encoded(request).await
    }
}

/// Adds a route for each of these calls.
pub(super) fn routes(service: &Arc<UmaService>) -> axum::Router {
    let reads = EncodedCall::<wire::ReadRequest>::of(service);
    let subscriptions = EncodedCall::<wire::SubscribeRequest>::of(service);
    axum::Router::new()
        .route_service(wire::ReadRequest::PATH, reads)
        .route_service(wire::SubscribeRequest::PATH, subscriptions)
}

/// One call, as a service of its own.
struct EncodedCall<R> {
    service: Arc<UmaService>,
    request: PhantomData<fn(R)>,
}

impl<R> EncodedCall<R> {
    fn of(service: &Arc<UmaService>) -> Self {
        Self { service: Arc::clone(service), request: PhantomData }
    }
}

impl<R> Clone for EncodedCall<R> {
    fn clone(&self) -> Self {
        Self::of(&self.service)
    }
}

type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<R: AnsweredEncoded> ServerStreamingService<R> for EncodedCall<R> {
    type Response = Bytes;
    type ResponseStream = Messages<Bytes>;
    type Future = Answer<Result<Response<Messages<Bytes>>, Status>>;

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let service = Arc::clone(&self.service);
        Box::pin(async move { R::answer(&service, request).await })
    }
}

impl<R: AnsweredEncoded> Service<http::Request<axum::body::Body>> for EncodedCall<R> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<axum::body::Body>) -> Self::Future {
        let call = self.clone();
        Box::pin(async move {
            let codec = EncodedCodec::<R>(PhantomData);
            let mut grpc =
                Grpc::new(codec).apply_max_message_size_config(Some(MESSAGE_BYTES_MAX), None);
            Ok(grpc.server_streaming(call, request).await)
        })
    }
}

/// Codec of a call whose messages are encoded before they come to it.
struct EncodedCodec<R>(PhantomData<fn(R)>);

impl<R: AnsweredEncoded> Codec for EncodedCodec<R> {
    type Encode = Bytes;
    type Decode = R;
    type Encoder = EncodedEncoder;
    type Decoder = BoundedDecoder<R>;

    fn encoder(&mut self) -> EncodedEncoder {
        EncodedEncoder
    }

    fn decoder(&mut self) -> BoundedDecoder<R> {
        FacadeCodec::<R, R>::default().decoder()
    }
}

struct EncodedEncoder;

impl Encoder for EncodedEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(message.len());
        to.put(message);
        Ok(())
    }
}
