//! Redis is started, killed, and started again.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use leftfold_proving::RedisServer;

#[test]
fn an_append_only_server_has_its_data_after_a_sigkill_and_one_in_memory_has_not() {
    for (mut server, expected) in
        [(RedisServer::start_append_only(), "1"), (RedisServer::start(), "$-1")]
    {
        assert_eq!(ask(&server, "SET kept 1"), "+OK");
        server.stop_hard();
        server.start_again();
        let answer = ask(&server, "GET kept");
        assert_eq!(answer, expected);
    }
}

#[test]
fn every_database_of_the_shared_server_is_given_once() {
    assert_ne!(RedisServer::shared().database(), RedisServer::shared().database());
}

/// The first line of the answer; of a text, the text.
fn ask(server: &RedisServer, command: &str) -> String {
    let url = server.url();
    let address = url.trim_start_matches("redis://").trim_end_matches("/0");
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "{command}\r\n").unwrap();
    let mut lines = BufReader::new(connection).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    if first.starts_with('$') && first != "$-1" { lines.next().unwrap() } else { first }
}
