//! The connection of a station: a WebSocket over TCP, with small buffers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use axum::http::{HeaderValue, Uri};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::habits::{Habit, Habits};
use crate::confidential::Confidential;
use crate::ocpp::v16::SUBPROTOCOL;

/// Time that a handshake, or writing one message, may take.
const LINE_TIMEOUT: Duration = Duration::from_secs(20);
/// Read buffer of a connection, in bytes: thousands of stations fit one machine.
const READ_BUFFER_BYTES: usize = 1_024;
/// The longest message that a station reads, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Way to the server, which all stations share.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    /// Host and port, as in a URL.
    pub(crate) authority: Arc<str>,
    /// Password of all stations (security profile 1); `None` without (profile 0).
    pub(crate) password: Option<Confidential>,
}

/// Connection of one station.
pub(crate) struct StationLine {
    socket: WebSocketStream<QuietStream>,
}

/// Error of a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("the server did not answer within {LINE_TIMEOUT:?}")]
    Late,
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error("the WebSocket failed: {0}")]
    Socket(#[from] Box<tungstenite::Error>),
    #[error("the identity {0:?} or the password cannot be sent in a handshake")]
    Unsendable(String),
}

impl Dialer {
    /// Connects a station.
    pub(crate) async fn connect(
        &self,
        identity: &str,
        habits: Habits,
    ) -> Result<StationLine, LineError> {
        let handshake = async {
            let stream = TcpStream::connect(&*self.authority).await?;
            stream.set_nodelay(true)?;
            let stream = QuietStream::new(stream, habits.has(Habit::NeverPong));
            let config = WebSocketConfig::default()
                .read_buffer_size(READ_BUFFER_BYTES)
                .write_buffer_size(0)
                .max_write_buffer_size(MESSAGE_BYTES_MAX)
                .max_message_size(Some(MESSAGE_BYTES_MAX))
                .max_frame_size(Some(MESSAGE_BYTES_MAX));
            let request = self.request(identity, habits)?;
            let connected = client_async_with_config(request, stream, Some(config)).await;
            let (socket, _) = connected.map_err(Box::new)?;
            Ok(StationLine { socket })
        };
        tokio::time::timeout(LINE_TIMEOUT, handshake).await.map_err(|_| LineError::Late)?
    }

    fn request(
        &self,
        identity: &str,
        habits: Habits,
    ) -> Result<tungstenite::handshake::client::Request, LineError> {
        let unsendable = || LineError::Unsendable(identity.to_owned());
        let before = if habits.has(Habit::DoubleSlashPath) { "//" } else { "/" };
        let after = if habits.has(Habit::TrailingSlash) { "/" } else { "" };
        let url = format!("ws://{}{before}ocpp/{}{after}", self.authority, encoded(identity));
        let uri: Uri = url.parse().map_err(|_| unsendable())?;
        let mut request = uri.into_client_request().map_err(Box::new)?;
        let headers = request.headers_mut();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        if habits.has(Habit::OriginFile) {
            headers.insert(ORIGIN, HeaderValue::from_static("file://"));
        }
        if let Some(password) = &self.password {
            let basic = BASE64_STANDARD.encode(format!("{identity}:{}", password.reveal()));
            let mut value =
                HeaderValue::try_from(format!("Basic {basic}")).map_err(|_| unsendable())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}

impl StationLine {
    /// Sends a frame of OCPP-J.
    pub(crate) async fn send(&mut self, text: String) -> Result<(), LineError> {
        let sent = tokio::time::timeout(LINE_TIMEOUT, self.socket.send(Message::text(text))).await;
        Ok(sent.map_err(|_| LineError::Late)?.map_err(Box::new)?)
    }

    /// Receives the next frame of OCPP-J; `None` if the connection has ended. It may be dropped and
    /// called again.
    pub(crate) async fn receive(&mut self) -> Option<String> {
        loop {
            match self.socket.next().await? {
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
pub(crate) fn encoded(identity: &str) -> String {
    let mut text = String::with_capacity(identity.len());
    for byte in identity.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

/// A stream that can keep pongs to itself: the WebSocket below answers each ping, and some firmware
/// does not.
struct QuietStream {
    stream: TcpStream,
    is_quiet: bool,
    /// Bytes that remain of the frame that is being written.
    frame_left: usize,
    /// False until the handshake has been written.
    is_upgraded: bool,
}

/// Begin of a pong: its opcode, and the bit that ends a message (RFC 6455 section 5.2).
const PONG: u8 = 0x8A;
/// Bytes of the header of a short frame with its mask.
const SHORT_HEADER_BYTES: usize = 6;

impl QuietStream {
    fn new(stream: TcpStream, is_quiet: bool) -> Self {
        Self { stream, is_quiet, frame_left: 0, is_upgraded: false }
    }
}

impl AsyncRead for QuietStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The server has spoken, so the handshake is written.
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.is_upgraded |= read.is_ready();
        read
    }
}

impl AsyncWrite for QuietStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_quiet || !self.is_upgraded {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        if self.frame_left == 0 {
            let frame_bytes = frame_bytes(bytes);
            if bytes.first() == Some(&PONG) && frame_bytes <= bytes.len() {
                return Poll::Ready(Ok(frame_bytes));
            }
            self.frame_left = frame_bytes;
        }
        let part = &bytes[..bytes.len().min(self.frame_left)];
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, part))?;
        self.frame_left -= written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Returns the length of the masked frame that the bytes begin with, header included.
fn frame_bytes(bytes: &[u8]) -> usize {
    let long = |range: std::ops::Range<usize>| {
        let digits = bytes.get(range).unwrap_or_default();
        digits.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte))
    };
    match bytes.get(1).map_or(0, |byte| byte & 0x7F) {
        126 => SHORT_HEADER_BYTES + 2 + long(2..4),
        127 => SHORT_HEADER_BYTES + 8 + long(2..10),
        short => SHORT_HEADER_BYTES + usize::from(short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_frame_is_read_from_its_header() {
        assert_eq!(frame_bytes(&[0x8A, 0x80, 1, 2, 3, 4]), 6);
        assert_eq!(frame_bytes(&[0x81, 0x80 | 5]), 11);
        assert_eq!(frame_bytes(&[0x81, 0x80 | 126, 1, 0]), 264);
        assert_eq!(frame_bytes(&[0x81, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0]), 65_550);
    }

    #[test]
    fn an_identity_is_encoded_as_a_part_of_a_path() {
        assert_eq!(encoded("RDAM 1/ä"), "RDAM%201%2F%C3%A4");
    }
}
