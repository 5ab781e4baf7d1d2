//! Bytes of connections: HTTP/2 with frames of every kind, HTTP/1.1, and neither.

use fastrand::Rng;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATHS: [&str; 6] = [
    "/leftfold.v1.Store/Identify",
    "/leftfold.v1.Store/Append",
    "/umadb.v1.DCB/Append",
    "/event_store.client.streams.Streams/BatchAppend",
    "/metrics?store=%00",
    "/",
];
const PLAIN: [&str; 4] = [
    "GET /health HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /metrics?store=default HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "POST /metrics HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    "GET /health HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n",
];

/// Makes the bytes of a connection.
pub(crate) fn input(random: &mut Rng) -> Vec<u8> {
    match random.u8(..10) {
        0 => (0..random.usize(..400)).map(|_| random.u8(..)).collect(),
        1 | 2 => PLAIN[random.usize(..PLAIN.len())].as_bytes().to_vec(),
        _ => {
            let mut bytes = PREFACE.to_vec();
            frame(&mut bytes, 4, 0, 0, &[]);
            for _ in 0..random.usize(..12) {
                any_frame(random, &mut bytes);
            }
            bytes
        }
    }
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
}

fn any_frame(random: &mut Rng, bytes: &mut Vec<u8>) {
    let stream = match random.u8(..30) {
        0 => [0, 2, u32::MAX][random.usize(..3)],
        number => u32::from(number / 10) * 2 + 1,
    };
    let flags = [0, 0, 0, 1, 1, 1, 4, 5, 0xff][random.usize(..9)];
    let number = [0, 1, 65_535, 1 << 24, 0x7fff_ffff, u32::MAX][random.usize(..6)];
    match random.u8(..12) {
        0..=3 => frame(bytes, 1, flags | 4, stream, &headers(random)),
        4..=6 => frame(bytes, 0, flags & 1, stream, &message(random)),
        7 => frame(bytes, 8, 0, stream, &number.to_be_bytes()),
        8 => frame(bytes, 3, 0, stream, &number.to_be_bytes()),
        9 => {
            let mut setting = u16::from(random.u8(..9)).to_be_bytes().to_vec();
            setting.extend(number.to_be_bytes());
            frame(bytes, 4, 0, 0, &setting);
        }
        10 => frame(bytes, 6, 0, 0, &[7; 8]),
        _ => {
            let payload: Vec<u8> = (0..random.usize(..32)).map(|_| random.u8(..)).collect();
            frame(bytes, random.u8(..12), random.u8(..), stream, &payload);
        }
    }
}

/// Headers, each as a literal that is not indexed.
fn headers(random: &mut Rng) -> Vec<u8> {
    let path = PATHS[random.usize(..PATHS.len())];
    let mut block = Vec::new();
    let mut add = |name: &str, value: &str| {
        block.push(0);
        for text in [name, value] {
            block.push(text.len().min(126) as u8);
            block.extend(&text.as_bytes()[..text.len().min(126)]);
        }
    };
    for (name, value) in [
        (":method", ["POST", "GET", "CONNECT"][random.usize(..3)]),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        (
            "content-type",
            ["application/grpc", "application/grpc+proto", "text/plain"][random.usize(..3)],
        ),
        ("te", "trailers"),
        ("leftfold-store", ["default", "..", "none"][random.usize(..3)]),
        ("grpc-timeout", ["1S", "9999999999H", "-1n"][random.usize(..3)]),
        ("grpc-encoding", ["identity", "gzip"][random.usize(..2)]),
        ("authorization", ["Basic AA==", "Bearer x", "Basic"][random.usize(..3)]),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ] {
        if random.u8(..12) != 0 {
            add(name, value);
        }
    }
    block
}

/// A message of gRPC, whose length may not be the right one.
fn message(random: &mut Rng) -> Vec<u8> {
    let payload: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..32)).collect();
    let length = match random.u8(..6) {
        0 => u32::MAX,
        1 => 64 << 20,
        2 => payload.len() as u32 + 1,
        _ => payload.len() as u32,
    };
    let mut bytes = vec![u8::from(random.u8(..8) == 0)];
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload);
    bytes
}
