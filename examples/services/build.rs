//! Makes the gRPC service of foos from its description, without `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let described = protox::compile(["foos/foos.proto"], ["foos"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let described_path = out.join("foos.bin");
    tonic_prost_build::configure()
        .build_client(false)
        .file_descriptor_set_path(&described_path)
        .compile_fds(described.clone())?;
    // The reflection service shows it to clients.
    std::fs::write(described_path, prost::Message::encode_to_vec(&described))?;
    println!("cargo::rerun-if-changed=foos/foos.proto");
    Ok(())
}
