//! `file:` URLs: paths as RFC 8089 has them, and options behind a question mark.

use std::fmt;
use std::path::{Path, PathBuf};

use leftfold_core::percent::decoded;
use leftfold_core::store::Kind;

/// Error of a `file:` URL that names no directory of this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileUrlError {
    /// The URL names a host. RFC 8089 section 2: without a host, or with `localhost`, it is this
    /// machine's file system.
    #[error(
        "the file URL names the host {host:?}, only files of this machine can be opened; use file:///path"
    )]
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
    /// A `#` begins a part that a file does not have.
    #[error("'#' does not belong into a file URL; write it as %23 if it is part of the path")]
    Fragment,
    /// The text behind a `?` is not an option of a store.
    #[error(
        "{found:?} is not an option of a store, there are {OPTIONS}; write a question mark that is part of the path as %3F"
    )]
    Option {
        /// Option that was found, with its value.
        found: String,
    },
    /// An option stands there twice.
    #[error("the option {name} stands twice in the URL, give it once")]
    OptionTwice {
        /// The option.
        name: &'static str,
    },
    /// A path that is no URL has options behind it, which would become part of the name of a
    /// directory.
    #[error("{path:?} is a path and takes no options, write {url:?}")]
    OptionsOfPath {
        /// The path.
        path: String,
        /// The URL that is meant.
        url: String,
    },
    /// The path is empty, has a zero byte, or is not UTF-8 on a system whose paths are text.
    #[error("the file URL has a path that no file can have: {detail}")]
    Path {
        /// Description of the fault.
        detail: &'static str,
    },
}

impl FileUrlError {
    /// Returns the kind of the error, for the caller who opens the store.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// The options, for messages.
const OPTIONS: &str = "clock-behind=refuse, clock-behind=go-on, clock-doubtful=warn, clock-doubtful=refuse, mode=write and mode=read";

/// The options of a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UrlOptions {
    /// True if a log whose last record is ahead of the clock is opened all the same; `None` if the
    /// URL does not say.
    pub(crate) goes_on_behind: Option<bool>,
    /// True if a log is not opened when the clock is doubtful; `None` if the URL does not say.
    pub(crate) refuses_doubtful: Option<bool>,
    /// True if the log of another process is followed; `None` if the URL does not say.
    pub(crate) follows: Option<bool>,
}

/// Returns the path and the options of the text behind `file:`.
pub(crate) fn path_and_options(after_scheme: &str) -> Result<(PathBuf, UrlOptions), FileUrlError> {
    match after_scheme.split_once('?') {
        None => Ok((path(after_scheme)?, UrlOptions::default())),
        Some((before, options)) => Ok((path(before)?, UrlOptions::parse(options)?)),
    }
}

/// Checks a path that was not given as a URL. A path with options behind it is refused: a store
/// would be begun beside the one that is meant.
pub(crate) fn plain(text: &str) -> Result<PathBuf, FileUrlError> {
    if let Some((before, options)) = text.rsplit_once('?')
        && UrlOptions::parse(options).is_ok()
    {
        let (path, url) = (text.to_owned(), url_of(Path::new(before), options));
        return Err(FileUrlError::OptionsOfPath { path, url });
    }
    Ok(text.into())
}

/// The URL of a path with an option.
pub(crate) fn url_of(path: &Path, options: &str) -> String {
    let mut url = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                url.push(char::from(*byte))
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    format!("{url}?{options}")
}

impl fmt::Display for UrlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let behind = self
            .goes_on_behind
            .map(|goes_on| if goes_on { "clock-behind=go-on" } else { "clock-behind=refuse" });
        let doubtful = self
            .refuses_doubtful
            .map(|refuses| if refuses { "clock-doubtful=refuse" } else { "clock-doubtful=warn" });
        let mode = self.follows.map(|follows| if follows { "mode=read" } else { "mode=write" });
        let all = behind.into_iter().chain(doubtful).chain(mode);
        f.write_str(&all.collect::<Vec<_>>().join("&"))
    }
}

impl UrlOptions {
    fn parse(text: &str) -> Result<Self, FileUrlError> {
        let mut options = Self::default();
        for found in text.split('&') {
            let (name, place, value) = match found {
                "clock-behind=refuse" => ("clock-behind", &mut options.goes_on_behind, false),
                "clock-behind=go-on" => ("clock-behind", &mut options.goes_on_behind, true),
                "clock-doubtful=warn" => ("clock-doubtful", &mut options.refuses_doubtful, false),
                "clock-doubtful=refuse" => ("clock-doubtful", &mut options.refuses_doubtful, true),
                "mode=write" => ("mode", &mut options.follows, false),
                "mode=read" => ("mode", &mut options.follows, true),
                found => return Err(FileUrlError::Option { found: found.to_owned() }),
            };
            if place.replace(value).is_some() {
                return Err(FileUrlError::OptionTwice { name });
            }
        }
        Ok(options)
    }
}

/// Returns the path of the text behind `file:`, which has no options.
///
/// `/path`, `///path` and `//localhost/path` are absolute, as in RFC 8089 appendix B. A path that
/// does not begin with a slash is taken from the working directory, which the RFC does not have.
fn path(after_scheme: &str) -> Result<PathBuf, FileUrlError> {
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
    if text.contains('#') {
        return Err(FileUrlError::Fragment);
    }
    let bytes = decoded(text).map_err(|found| FileUrlError::PercentSign { found })?;
    match bytes.as_slice() {
        [] => Err(FileUrlError::Path { detail: "it is empty" }),
        bytes if bytes.contains(&0) => Err(FileUrlError::Path { detail: "it has a zero byte" }),
        _ => native(bytes),
    }
}

#[cfg(unix)]
fn native(bytes: Vec<u8>) -> Result<PathBuf, FileUrlError> {
    use std::os::unix::ffi::OsStringExt;
    Ok(std::ffi::OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn native(bytes: Vec<u8>) -> Result<PathBuf, FileUrlError> {
    let text =
        String::from_utf8(bytes).map_err(|_| FileUrlError::Path { detail: "it is not UTF-8" })?;
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
        let option = |found: &str| FileUrlError::Option { found: found.to_owned() };
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
            ("/a?b", option("b")),
            ("/a?", option("")),
            ("/a?clock-behind", option("clock-behind")),
            ("/a?clock-behind=perhaps", option("clock-behind=perhaps")),
            ("/a?clock-behind=go-on&open=twice", option("open=twice")),
            ("/a?clock-behind=go-on#b", option("clock-behind=go-on#b")),
            (
                "/a?clock-behind=go-on&clock-behind=refuse",
                FileUrlError::OptionTwice { name: "clock-behind" },
            ),
            ("/a#b", FileUrlError::Fragment),
            ("", FileUrlError::Path { detail: "it is empty" }),
            ("//localhost", FileUrlError::Path { detail: "it is empty" }),
            ("/a%00b", FileUrlError::Path { detail: "it has a zero byte" }),
        ];
        for (url, expected) in cases {
            assert_eq!(path_and_options(url), Err(expected), "file:{url}");
        }
    }

    #[test]
    fn options_are_read_and_a_url_is_written_so_that_it_is_read_again() {
        let all = UrlOptions {
            goes_on_behind: Some(true),
            refuses_doubtful: Some(true),
            follows: Some(true),
        };
        let text = "clock-doubtful=refuse&mode=read&clock-behind=go-on";
        assert_eq!(UrlOptions::parse(&all.to_string()), Ok(all));
        for path in ["/data/events", "./a b", "/50%?#/ä"] {
            let url = url_of(Path::new(path), text);
            assert_eq!(
                path_and_options(url.strip_prefix("file:").unwrap()),
                Ok((path.into(), all)),
                "{url}"
            );
        }
        let meant = FileUrlError::OptionsOfPath {
            path: "./data?clock-behind=go-on".to_owned(),
            url: "file:./data?clock-behind=go-on".to_owned(),
        };
        assert_eq!(plain("./data?clock-behind=go-on"), Err(meant));
        assert_eq!(plain("./really?"), Ok("./really?".into()));
    }

    #[cfg(unix)]
    #[test]
    fn a_path_may_have_bytes_that_are_no_text() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(path("/a%FFb").unwrap().as_os_str().as_bytes(), b"/a\xffb");
    }
}
