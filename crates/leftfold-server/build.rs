//! Makes the messages and services of other protocols from their descriptions, without `protoc`.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use protox::prost::Message;
use tonic_prost_build::Config;

/// Descriptions in the folder `proto`.
const FILES: [&str; 8] = [
    "umadb.proto",
    "kurrent/shared.proto",
    "kurrent/streams.proto",
    "kurrent/persistent.proto",
    "kurrent/gossip.proto",
    "kurrent/features.proto",
    "kurrent/sessions.proto",
    "kurrent/session_errors.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let described = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo names a folder")?);
    fs::write(out.join("described.bin"), described.encode_to_vec())?;
    let mut config = Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .codec_path("crate::services::FacadeCodec")
        .compile_fds_with_config(described, config)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
