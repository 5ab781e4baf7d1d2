//! NATS is started, killed, and started again.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;

use leftfold_proving::NatsServer;

/// The line by which a server introduces itself.
fn introduction(url: &str) -> String {
    let address = url.strip_prefix("nats://").unwrap();
    let mut line = String::new();
    BufReader::new(TcpStream::connect(address).unwrap()).read_line(&mut line).unwrap();
    line
}

#[test]
fn it_has_jetstream_and_its_settings_also_after_a_sigkill_and_a_new_start() {
    let mut server = NatsServer::start_with("max_payload: 12345");
    for again in [false, true] {
        let said = introduction(&server.url());
        assert!(said.starts_with("INFO ") && said.contains(r#""jetstream":true"#), "{said}");
        assert!(said.contains(r#""max_payload":12345"#), "{said}");
        if !again {
            server.stop_hard();
            assert!(TcpStream::connect(server.url().strip_prefix("nats://").unwrap()).is_err());
            server.start_again();
        }
    }
}
