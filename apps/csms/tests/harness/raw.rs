//! A station on a bare socket: it says what it is told to say, and answers nothing, no ping either.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::deadline::PATIENCE;

/// A handshake of WebSocket in full; `target` and `headers` as they are.
pub(crate) fn handshake(to: SocketAddr, target: &str, headers: &str) -> String {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    format!("GET {target} HTTP/1.1\r\nHost: {to}\r\n{upgrade}\r\n{key}\r\n{headers}\r\n")
}

/// A station that has connected.
pub(crate) struct RawStation(TcpStream);

impl RawStation {
    #[track_caller]
    pub(crate) fn connect(to: SocketAddr, identity: &str) -> Self {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let target = format!("/ocpp/{identity}");
        let text = handshake(to, &target, "Sec-WebSocket-Protocol: ocpp1.6\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self(stream)
    }

    /// Sends a text frame of less than 64 KiB, under a mask of zeros.
    pub(crate) fn send(&mut self, text: &str) {
        let length = u16::try_from(text.len()).unwrap();
        let head = match u8::try_from(length) {
            Ok(short) if short < 126 => vec![0x81, 0x80 | short],
            _ => [&[0x81, 0x80 | 126][..], &length.to_be_bytes()].concat(),
        };
        self.0.write_all(&[&head[..], &[0; 4], text.as_bytes()].concat()).unwrap();
    }

    /// Reads the next text frame.
    #[track_caller]
    pub(crate) fn read(&mut self) -> String {
        loop {
            let [kind, short] = self.read_bytes();
            let length = match short {
                127 => u64::from_be_bytes(self.read_bytes()),
                126 => u16::from_be_bytes(self.read_bytes()).into(),
                short => short.into(),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).unwrap();
            match kind & 0x0f {
                1 => return String::from_utf8(payload).unwrap(),
                8 => panic!("the server closed the connection: {payload:?}"),
                _ => {}
            }
        }
    }

    fn read_bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads until the server ends the connection.
    #[track_caller]
    pub(crate) fn wait_ended(mut self) {
        let ended = self.0.read_to_end(&mut Vec::new());
        // Pings that were never read may make the end a reset.
        if let Err(error) = ended {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
}
