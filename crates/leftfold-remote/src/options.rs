//! Place of a store that a server keeps, and the limits of a handle on it.

use std::path::PathBuf;
use std::time::Duration;

use leftfold_core::percent::decoded_text;
use leftfold_protocol::{DEFAULT_STORE, PORT};

use crate::error::RemoteError;

/// Place of a store that a server keeps, and the limits of a handle on it.
///
/// ```
/// use leftfold_remote::RemoteOptions;
///
/// let options = RemoteOptions::at("leftfold://events.internal/orders")?;
/// assert_eq!((&*options.host, options.port), ("events.internal", 2113));
/// assert_eq!(options.store, "orders");
/// # Ok::<(), leftfold_remote::RemoteError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteOptions {
    /// Name or address of the server.
    pub host: String,
    /// Port of the server.
    pub port: u16,
    /// Name of the store on the server.
    pub store: String,
    /// The user as whom the store is used; `None` for a server that knows no users.
    pub user: Option<RemoteUser>,
    /// Encryption of the connection; `None` if it is not encrypted.
    pub tls: Option<RemoteTls>,
    /// True if a store that is not there is made, by a server that makes stores on demand, for a
    /// user who may do that. Otherwise it is [`RemoteError::NoStore`].
    pub create: bool,
    /// Time that a connection may take to be made.
    pub connect_within: Duration,
    /// Time for which requests wait for a connection that was lost. After it what was sent is
    /// `Unknown`, and everything else `Unavailable`.
    pub patience: Duration,
    /// Time between two signs of life that are asked of the server, and for which each is waited
    /// for.
    pub alive_every: Duration,
    /// Bytes of appends that may wait for their answers, and as many of reads; beyond that the
    /// answer is `Busy`.
    pub queue_bytes: usize,
}

/// User of a server, with the password.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteUser {
    /// Name of the user.
    pub name: String,
    /// Password, which is never shown.
    pub password: String,
}

impl std::fmt::Debug for RemoteUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Certificates by which a connection is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteTls {
    /// File of PEM with the authorities that are trusted; `None` trusts those that Mozilla does.
    pub roots: Option<PathBuf>,
    /// Files of PEM with the certificate of the client, and its private key, for a server that
    /// demands one.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl RemoteOptions {
    /// The store of a URL: `leftfold://user:password@host:port/name`. Without a port it is 2113;
    /// without a name it is the store `default`. In the user and the password every character may
    /// stand as its hexadecimal digits behind a percent sign; `@`, `:`, `/` and `?` must. Behind a
    /// question mark stand options, with `&` between them:
    ///
    /// - `tls=require` demands an encrypted connection to a server whose certificate is of that
    ///   host and of an authority that Mozilla trusts, which takes the feature `tls`;
    /// - `tls-roots=PATH` demands it too, and trusts the certificates in that file of PEM instead;
    /// - `tls-cert=PATH&tls-key=PATH` demands it too, and shows that certificate to the server;
    /// - `create=no` makes [no store](Self::create) that is not there; `create=yes` is the default.
    ///
    /// A path is taken as it stands.
    ///
    /// # Errors
    /// [`RemoteError::Url`] if it cannot be read.
    pub fn at(url: &str) -> Result<Self, RemoteError> {
        let fault = |detail| RemoteError::Url { url: without_password(url), detail };
        let rest = url
            .split_once("://")
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("leftfold"))
            .ok_or_else(|| fault("it does not begin with leftfold://"))?
            .1;
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        if rest.contains('#') {
            return Err(fault("it has a fragment, which it cannot have"));
        }
        let (tls, create) = options_of(options).map_err(fault)?;
        let (user, rest) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((user, rest)) => (Some(user_of(user).map_err(fault)?), rest),
        };
        let (place, store) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match place.rsplit_once(':') {
            // The colons of an address in brackets are its own.
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| fault("the port is no number below 65536"))?)
            }
            _ => (place, PORT),
        };
        if host.is_empty() {
            return Err(fault("it has no host"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let store = if store.is_empty() { DEFAULT_STORE } else { store }.to_owned();
        if !store.bytes().all(|byte| matches!(byte, b'!'..=b'~')) || store.contains('/') {
            return Err(fault("the name of a store has letters, digits, '.', '_' and '-'"));
        }
        Ok(Self {
            host,
            port,
            store,
            user,
            tls,
            create,
            connect_within: Duration::from_secs(5),
            patience: Duration::from_secs(10),
            alive_every: Duration::from_secs(5),
            queue_bytes: 64 << 20,
        })
    }

    /// Host and port as they stand in a URL.
    pub(crate) fn address(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

fn user_of(text: &str) -> Result<RemoteUser, &'static str> {
    let (name, password) = text.split_once(':').ok_or("a user has a password behind a colon")?;
    let decoded =
        |text| decoded_text(text).ok_or("percent signs stand before two hexadecimal digits");
    Ok(RemoteUser { name: decoded(name)?, password: decoded(password)? })
}

const OPTIONS: &str =
    "its options are tls=require, tls-roots=, tls-cert=, tls-key= and create=yes or create=no";

/// Reads the options of a URL: the encryption, and if a store is made.
fn options_of(options: &str) -> Result<(Option<RemoteTls>, bool), &'static str> {
    let mut tls = RemoteTls::default();
    let (mut encrypts, mut create) = (false, true);
    let (mut certificate, mut key) = (None, None);
    for option in options.split('&').filter(|_| !options.is_empty()) {
        let place = |value: &str| Some(PathBuf::from(value));
        encrypts |= option.starts_with("tls");
        match option.split_once('=') {
            Some(("tls", "require")) => {}
            Some(("create", "yes")) => create = true,
            Some(("create", "no")) => create = false,
            Some(("tls-roots", path)) if !path.is_empty() => tls.roots = place(path),
            Some(("tls-cert", path)) if !path.is_empty() => certificate = place(path),
            Some(("tls-key", path)) if !path.is_empty() => key = place(path),
            _ => return Err(OPTIONS),
        }
    }
    tls.certificate = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("tls-cert and tls-key are given together"),
    };
    Ok((encrypts.then_some(tls), create))
}

/// The URL as it may stand in an error.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_what_it_leaves_out_is_the_usual() {
        let of = |url: &str| {
            let options = RemoteOptions::at(url).unwrap();
            (options.address(), options.store)
        };
        let pair = |address: &str, store: &str| (address.to_owned(), store.to_owned());
        assert_eq!(of("leftfold://localhost"), pair("localhost:2113", "default"));
        assert_eq!(of("LEFTFOLD://db:1/"), pair("db:1", "default"));
        assert_eq!(of("leftfold://[::1]:7/stock"), pair("[::1]:7", "stock"));
        assert_eq!(of("leftfold://[::1]"), pair("[::1]:2113", "default"));
        for bad in [
            "http://db",
            "leftfold:",
            "leftfold://",
            "leftfold://:1",
            "leftfold://db:x",
            "leftfold://db:70000",
            "leftfold://db/a b",
            "leftfold://db/a/b",
            "leftfold://db?x=y",
            "leftfold://db?tls=maybe",
            "leftfold://db?create=maybe",
            "leftfold://ada@db",
            "leftfold://ada:%4@db",
            "leftfold://db?tls-cert=a.pem",
        ] {
            assert!(RemoteOptions::at(bad).is_err(), "{bad}");
        }
        let tls = |url: &str| RemoteOptions::at(url).unwrap().tls;
        assert_eq!(tls("leftfold://db/x"), None);
        assert_eq!(tls("leftfold://db/x?tls=require"), Some(RemoteTls::default()));
        let both = tls("leftfold://db?tls-roots=/r.pem&tls-cert=c.pem&tls-key=k.pem").unwrap();
        assert_eq!(both.roots, Some("/r.pem".into()));
        assert_eq!(both.certificate, Some(("c.pem".into(), "k.pem".into())));
        let creates = |url: &str| RemoteOptions::at(url).unwrap().create;
        assert!(creates("leftfold://db/x?tls=require") && !creates("leftfold://db/x?create=no"));
        assert_eq!(tls("leftfold://db/x?create=no"), None);
        let user = RemoteOptions::at("leftfold://ada:a%40b%3A1@db:1/x").unwrap().user.unwrap();
        assert_eq!((&*user.name, &*user.password), ("ada", "a@b:1"));
        assert!(!format!("{user:?}").contains("a@b"), "{user:?}");
        let error = RemoteOptions::at("leftfold://ada:secret@db:x").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
