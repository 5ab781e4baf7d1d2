//! Makes messages and services from their descriptions, without `protoc`.

use std::error::Error;

const FILES: [&str; 2] = ["leftfold.proto", "health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let described = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(described)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
