//! Makes messages and services from their descriptions, without `protoc`.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use protox::prost::Message;
use tonic_prost_build::Config;

const FILES: [&str; 2] = ["leftfold.proto", "health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let described = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo names a folder")?);
    fs::write(out.join("described.bin"), described.encode_to_vec())?;
    let mut config = Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .codec_path("crate::NativeCodec")
        .compile_fds_with_config(described, config)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
