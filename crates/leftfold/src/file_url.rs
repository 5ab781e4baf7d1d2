//! Paths of `file:` URLs, as RFC 8089 has them.

use std::path::PathBuf;

/// Error of a `file:` URL that names no directory of this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileUrlError {
    /// The URL names a host. RFC 8089 section 2: without a host, or with `localhost`, it is this machine's file system.
    #[error("the file URL names the host {host:?}, only files of this machine can be opened; use file:///path")]
    Host {
        /// The host.
        host: String,
    },
    /// A percent sign is not followed by two hexadecimal digits (RFC 3986 section 2.1).
    #[error("{found:?} in the file URL is no percent-encoded byte; write a percent sign as %25")]
    PercentSign {
        /// The percent sign with up to two characters behind it.
        found: String,
    },
    /// A `?` or `#` begins a part that a file has not.
    #[error("{character:?} does not belong into a file URL; write it as {encoded} when it is part of the path")]
    NotInPath {
        /// The character.
        character: char,
        /// How it is written as part of a path.
        encoded: &'static str,
    },
    /// The path is empty, has a zero byte, or is not UTF-8 on a system whose paths are text.
    #[error("the file URL has a path that no file can have: {detail}")]
    Path {
        /// What is wrong with it.
        detail: &'static str,
    },
}

/// The path of what stands behind `file:`.
///
/// `/path`, `///path` and `//localhost/path` are absolute, as in RFC 8089 appendix B. A path that does not begin with a
/// slash is taken from the working directory, which the RFC does not have.
pub(crate) fn path(after_scheme: &str) -> Result<PathBuf, FileUrlError> {
    let text = match after_scheme.strip_prefix("//") {
        None => after_scheme,
        Some(rest) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
                return Err(FileUrlError::Host { host: host.to_owned() });
            }
            path
        }
    };
    for (character, encoded) in [('?', "%3F"), ('#', "%23")] {
        if text.contains(character) {
            return Err(FileUrlError::NotInPath { character, encoded });
        }
    }
    let bytes = decoded(text)?;
    match bytes.as_slice() {
        [] => Err(FileUrlError::Path { detail: "it is empty" }),
        bytes if bytes.contains(&0) => Err(FileUrlError::Path { detail: "it has a zero byte" }),
        _ => native(bytes),
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, FileUrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        // `from_str_radix` takes a sign, which is no digit.
        let digits = after.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let found = || format!("%{}", after.chars().take(2).collect::<String>());
        bytes.push(byte.ok_or_else(|| FileUrlError::PercentSign { found: found() })?);
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

#[cfg(unix)]
fn native(bytes: Vec<u8>) -> Result<PathBuf, FileUrlError> {
    use std::os::unix::ffi::OsStringExt;
    Ok(std::ffi::OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn native(bytes: Vec<u8>) -> Result<PathBuf, FileUrlError> {
    let text = String::from_utf8(bytes).map_err(|_| FileUrlError::Path { detail: "it is not UTF-8" })?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_rfc_and_a_relative_path_are_understood() {
        let cases = [
            ("/data/events", "/data/events"),
            ("///data/events", "/data/events"),
            ("//localhost/data/events", "/data/events"),
            ("//LocalHost/data/events", "/data/events"),
            ("///a%20b/100%25/%C3%A4", "/a b/100%/ä"),
            ("///a+b/c:d@e", "/a+b/c:d@e"),
            ("////share/events", "//share/events"),
            ("data", "data"),
            ("./data%2Fevents", "./data/events"),
        ];
        for (url, expected) in cases {
            assert_eq!(path(url), Ok(PathBuf::from(expected)), "file:{url}");
        }
    }

    #[test]
    fn what_names_no_file_of_this_machine_is_refused_with_what_is_wrong() {
        let percent = |found: &str| FileUrlError::PercentSign { found: found.to_owned() };
        let host = |host: &str| FileUrlError::Host { host: host.to_owned() };
        let cases = [
            ("//other/data", host("other")),
            ("//data", host("data")),
            ("//me@localhost/data", host("me@localhost")),
            ("//localhost:80/data", host("localhost:80")),
            ("/a%", percent("%")),
            ("/a%2", percent("%2")),
            ("/a%zz", percent("%zz")),
            ("/a%+1", percent("%+1")),
            ("/a%2ä", percent("%2ä")),
            ("/a?b", FileUrlError::NotInPath { character: '?', encoded: "%3F" }),
            ("/a#b", FileUrlError::NotInPath { character: '#', encoded: "%23" }),
            ("", FileUrlError::Path { detail: "it is empty" }),
            ("//localhost", FileUrlError::Path { detail: "it is empty" }),
            ("/a%00b", FileUrlError::Path { detail: "it has a zero byte" }),
        ];
        for (url, expected) in cases {
            assert_eq!(path(url), Err(expected), "file:{url}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_path_may_have_bytes_that_are_no_text() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(path("/a%FFb").unwrap().as_os_str().as_bytes(), b"/a\xffb");
    }
}
