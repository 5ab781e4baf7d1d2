//! Makes messages and services from their descriptions, without `protoc`.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use protox::prost::Message;
use tonic_prost_build::Config;

const FILES: [&str; 2] = ["leftfold.proto", "health.proto"];

/// Fields of a message that are bytes in its Rust type: the same on the wire. Texts of events share
/// the memory of their message so; of a list of messages each is read, or written, by itself.
const AS_BYTES: [(&str, &[&str]); 6] = [
    ("NewEvent", &TEXTS),
    ("RecordedEvent", &TEXTS),
    ("StreamExpectation", &["stream"]),
    ("AppendRequest", &["appends"]),
    ("AppendReply", &["answers"]),
    ("RecordedEvents", &["events"]),
];
const TEXTS: [&str; 7] =
    ["stream", "type", "other_media", "correlation", "causation", "tags", "key_ids"];
/// Number of the type `bytes` in descriptions.
const BYTES: i32 = 12;

fn main() -> Result<(), Box<dyn Error>> {
    let mut described = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo names a folder")?);
    fs::write(out.join("described.bin"), described.encode_to_vec())?;
    for message in described.file.iter_mut().flat_map(|file| &mut file.message_type) {
        let known = AS_BYTES.iter().find(|(name, _)| *name == message.name());
        let Some((_, names)) = known else { continue };
        for field in &mut message.field {
            if names.contains(&field.name()) {
                (field.r#type, field.type_name) = (Some(BYTES), None);
            }
        }
    }
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
