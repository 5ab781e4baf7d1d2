//! Names that are put together when the program is compiled: what the runtime keeps for a type of
//! users', such as an inbox, has an aggregate and a process with names of their own.

/// Bytes of a name that is put together.
const BYTES_MAX: usize = 64;

/// A text that is put together.
pub(super) struct JoinedName {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

impl JoinedName {
    /// The name of something that belongs to a type with a name. One that is no such name does not
    /// compile: `says` is the compiler's message then.
    pub(super) const fn new(prefix: &str, name: &str, bytes_max: usize, says: &str) -> Self {
        assert!(!name.is_empty() && name.len() <= bytes_max, "{}", says);
        let (prefix, name) = (prefix.as_bytes(), name.as_bytes());
        let mut bytes = [0; BYTES_MAX];
        let mut at = 0;
        while at < prefix.len() {
            bytes[at] = prefix[at];
            at += 1;
        }
        while at < prefix.len() + name.len() {
            assert!(name[at - prefix.len()] != b'-', "{}", says);
            bytes[at] = name[at - prefix.len()];
            at += 1;
        }
        Self { bytes, length: at }
    }

    pub(super) const fn as_str(&self) -> &str {
        match std::str::from_utf8(self.bytes.split_at(self.length).0) {
            Ok(text) => text,
            Err(_) => panic!("texts one after the other are a text"),
        }
    }
}
