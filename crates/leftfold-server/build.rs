//! Makes the messages and services of other protocols from their descriptions, without `protoc`.

use std::error::Error;

/// Descriptions in the folder `proto`.
const FILES: [&str; 7] = [
    "umadb.proto",
    "kurrent/shared.proto",
    "kurrent/streams.proto",
    "kurrent/gossip.proto",
    "kurrent/features.proto",
    "kurrent/sessions.proto",
    "kurrent/session_errors.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let described = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(described)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
