//! Making a connection, and looking at what answers.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use leftfold_core::store::{Identity, Status};
use leftfold_protocol::wire::IdentifyRequest;
use leftfold_protocol::{MESSAGE_BYTES_MAX, Malformed, STORE_METADATA};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::codegen::http::Uri;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request};

use crate::channel::{Channel, Client, ConnectionEnd};
use crate::error::RemoteError;
use crate::options::{RemoteOptions, RemoteUser};

/// Bytes of one call that the server may send before they were read.
const CALL_WINDOW: u32 = 4 << 20;
/// Bytes of all calls of a connection together.
const CONNECTION_WINDOW: u32 = 32 << 20;

/// A connection to a server whose store was looked at.
pub(crate) struct CheckedConnection {
    pub(crate) client: Client,
    pub(crate) ended: ConnectionEnd,
    pub(crate) identity: Identity,
    pub(crate) status: Status,
}

/// A message of a call, which names the store.
pub(crate) fn request<T>(options: &RemoteOptions, message: T) -> Request<T> {
    let mut request = Request::new(message);
    // Options with another name cannot be made.
    if let Ok(name) = options.store.parse() {
        request.metadata_mut().insert(STORE_METADATA, name);
    }
    if let Some(RemoteUser { name, password }) = &options.user {
        let encoded = BASE64_STANDARD.encode(format!("{name}:{password}"));
        if let Ok(mut value) = AsciiMetadataValue::try_from(format!("Basic {encoded}")) {
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
    }
    request
}

/// Connects, and asks which store answers.
pub(crate) async fn connect(options: &RemoteOptions) -> Result<CheckedConnection, RemoteError> {
    let away = |detail: String| RemoteError::Unreachable { address: options.address(), detail };
    timeout(options.connect_within, try_connect(options))
        .await
        .unwrap_or_else(|_| Err(away("it does not answer in time".to_owned())))
}

async fn try_connect(options: &RemoteOptions) -> Result<CheckedConnection, RemoteError> {
    let (channel, origin) = try_dial(options).await?;
    let ended = channel.ended.clone();
    let mut client = Client::with_origin(channel, origin)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let reply = client.identify(request(options, IdentifyRequest { create: options.create })).await;
    let reply = reply.map_err(|status| refusal(options, &status))?.into_inner();
    let strange = |_: Malformed| RemoteError::Refused {
        address: options.address(),
        detail: "it speaks another protocol".to_owned(),
    };
    let absent = || strange(Malformed::Absent { field: "identity" });
    let identity = reply.identity.ok_or_else(absent)?.try_into().map_err(strange)?;
    let status = reply.status.ok_or_else(absent)?.try_into().map_err(strange)?;
    Ok(CheckedConnection { client, ended, identity, status })
}

/// Connects to a server of any protocol over gRPC, at the host and the port of the options, as they
/// say encrypted or not. Returns the channel for calls, and their origin.
///
/// # Errors
/// [`RemoteError::Unreachable`] if it does not answer in time; [`RemoteError::Certificates`].
#[doc(hidden)]
pub async fn dial(options: &RemoteOptions) -> Result<(Channel, Uri), RemoteError> {
    let away = |detail: String| RemoteError::Unreachable { address: options.address(), detail };
    timeout(options.connect_within, try_dial(options))
        .await
        .unwrap_or_else(|_| Err(away("it does not answer in time".to_owned())))
}

/// Connection of bytes, encrypted or not.
#[doc(hidden)]
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// Connects in the same way to a server that speaks HTTP/1.1.
///
/// # Errors
/// Those of [`dial`].
#[doc(hidden)]
pub async fn dial_http1(options: &RemoteOptions) -> Result<Box<dyn ByteStream>, RemoteError> {
    let away = |detail: String| RemoteError::Unreachable { address: options.address(), detail };
    let dialled = async {
        let stream = reach(options).await?;
        Ok(match &options.tls {
            None => Box::new(stream) as Box<dyn ByteStream>,
            #[cfg(feature = "tls")]
            Some(tls) => Box::new(crate::tls::encrypted(options, tls, stream, b"http/1.1").await?),
            #[cfg(not(feature = "tls"))]
            Some(_) => return Err(RemoteError::NoEncryption),
        })
    };
    timeout(options.connect_within, dialled)
        .await
        .unwrap_or_else(|_| Err(away("it does not answer in time".to_owned())))
}

async fn reach(options: &RemoteOptions) -> Result<TcpStream, RemoteError> {
    let away = |error: std::io::Error| RemoteError::Unreachable {
        address: options.address(),
        detail: error.to_string(),
    };
    let stream = TcpStream::connect((&*options.host, options.port)).await.map_err(away)?;
    stream.set_nodelay(true).map_err(away)?;
    Ok(stream)
}

async fn try_dial(options: &RemoteOptions) -> Result<(Channel, Uri), RemoteError> {
    let stream = reach(options).await?;
    match &options.tls {
        None => begin(options, stream).await,
        #[cfg(feature = "tls")]
        Some(tls) => {
            begin(options, crate::tls::encrypted(options, tls, stream, b"h2").await?).await
        }
        #[cfg(not(feature = "tls"))]
        Some(_) => Err(RemoteError::NoEncryption),
    }
}

/// Begins to speak over a connection.
async fn begin<S>(options: &RemoteOptions, stream: S) -> Result<(Channel, Uri), RemoteError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let address = options.address();
    let away = |detail: String| RemoteError::Unreachable { address: address.clone(), detail };
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(CALL_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(options.alive_every)
        .keep_alive_timeout(options.alive_every)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| away(error.to_string()))?;
    let (ends, ended) = ConnectionEnd::new();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the server ended");
        }
        drop(ends);
    });
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let origin: Uri = format!("{scheme}://{address}")
        .parse()
        .map_err(|_| away("its name cannot stand in a request".to_owned()))?;
    Ok((Channel { requests: sender, ended }, origin))
}

/// The error of a server that does not say which store it has.
fn refusal(options: &RemoteOptions, status: &tonic::Status) -> RemoteError {
    let address = options.address();
    let detail = status.message().to_owned();
    match status.code() {
        Code::NotFound => RemoteError::NoStore { address, store: options.store.clone() },
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal => {
            RemoteError::Unreachable { address, detail }
        }
        _ => RemoteError::Refused { address, detail },
    }
}
