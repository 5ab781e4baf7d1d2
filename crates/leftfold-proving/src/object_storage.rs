//! Object storage that speaks the protocol of S3: the server of moto.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use crate::directory::{ServerDirectory, free_port, told};
use crate::process::ServerProcess;

/// Header of a call of somebody: without one only some calls are allowed.
const SIGNED: &str = "authorization: AWS4-HMAC-SHA256 \
     Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n";

/// Object storage that keeps everything in memory, and lets everybody in.
pub struct ObjectStorage {
    directory: ServerDirectory,
    port: u16,
    process: Option<ServerProcess>,
}

impl ObjectStorage {
    /// A new, empty server.
    #[must_use]
    pub fn start() -> ObjectStorage {
        let directory = ServerDirectory::new("moto");
        let mut server = ObjectStorage { directory, port: 0, process: None };
        // Between the choice of a port and its use somebody else may take it.
        let started = (0..3).any(|_| {
            server.port = free_port();
            server.try_start().is_ok()
        });
        if !started {
            server.try_start().unwrap_or_else(|why| panic!("moto: {why}"));
        }
        server
    }

    /// URL of the server.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a call without a body, whose signature nobody looks at, and returns the status of the
    /// answer.
    #[must_use]
    pub fn call(&self, method: &str, path: &str) -> u16 {
        let failed = |error: std::io::Error| -> u16 { panic!("moto does not answer: {error}") };
        let called = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            let head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n", self.port);
            stream.write_all(head.as_bytes())?;
            stream.write_all(SIGNED.as_bytes())?;
            stream.write_all(b"content-length: 0\r\nconnection: close\r\n\r\n")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            let text = String::from_utf8_lossy(&answer).into_owned();
            Ok(text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0))
        };
        called().unwrap_or_else(failed)
    }

    fn try_start(&mut self) -> Result<(), String> {
        let mut server = self.directory.command_of_ours(&told("LEFTFOLD_PYTHON"));
        let port = self.port.to_string();
        server.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port]);
        let process = ServerProcess::start(server, "Running on http")?;
        self.directory.doom("KILL", &[process.id()]);
        self.process = Some(process);
        Ok(())
    }
}

impl Drop for ObjectStorage {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.directory.doom("", &[]);
    }
}
