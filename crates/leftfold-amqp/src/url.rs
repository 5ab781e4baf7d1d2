//! The URL of a broker. Its password is in no message.

use lapin::uri::{AMQPScheme, AMQPUri};

/// Seconds between two signs of life, if the URL does not say it: a broker whose machine is gone is
/// noticed after twice that.
const HEARTBEAT_S: u16 = 20;

/// Error of a URL. It never repeats the URL, which may have a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmqpUrlError {
    /// The URL is not of a broker.
    #[error("the URL of a broker begins with amqp:// or amqps://, this one with {scheme:?}")]
    Scheme {
        /// Text before `://`, at most 20 characters.
        scheme: String,
    },
    /// The URL cannot be read.
    #[error(
        "the URL of the broker cannot be read: write amqp://USER:PASSWORD@HOST:PORT/VIRTUAL_HOST, \
         special characters of a name or password as %XX"
    )]
    Malformed,
    /// The URL ends with `/`, which names a virtual host with an empty name.
    #[error(
        "the URL of the broker names the virtual host \"\": leave the last / out for the virtual \
         host /, or write it as %2f"
    )]
    EmptyVirtualHost,
    /// Encrypted connections are not compiled in.
    #[error("amqps:// needs the feature tls of leftfold-amqp (amqp-tls of leftfold), turn it on")]
    NoTls,
}

pub(crate) fn parse(url: &str) -> Result<AMQPUri, AmqpUrlError> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if !["amqp", "amqps"].contains(&scheme) {
        return Err(AmqpUrlError::Scheme { scheme: scheme.chars().take(20).collect() });
    }
    // Its message may have the whole URL.
    let mut uri: AMQPUri = url.parse().map_err(|_| AmqpUrlError::Malformed)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    // The library reads an IPv6 address as no host at all.
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.split(']').next()) {
        uri.authority.host = address.to_owned();
    } else if host.is_empty() || host.starts_with(':') {
        return Err(AmqpUrlError::Malformed);
    }
    if uri.vhost.is_empty() {
        return Err(AmqpUrlError::EmptyVirtualHost);
    }
    if uri.scheme == AMQPScheme::AMQPS && !cfg!(feature = "tls") {
        return Err(AmqpUrlError::NoTls);
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
    Ok(uri)
}

/// Returns the address in a URL, without names and passwords.
pub(crate) fn address(uri: &AMQPUri) -> String {
    let (host, port) = (&uri.authority.host, uri.authority.port);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_as_brokers_mean_it() {
        let read = |url: &str| {
            let uri = parse(url).unwrap();
            (address(&uri), uri.vhost, uri.authority.userinfo.username)
        };
        let expected = |address: &str, host: &str, user: &str| {
            (address.to_owned(), host.to_owned(), user.to_owned())
        };
        assert_eq!(read("amqp://broker"), expected("broker:5672", "/", "guest"));
        assert_eq!(read("amqp://a%40b:p%2f@b:1/%2f"), expected("b:1", "/", "a@b"));
        assert_eq!(read("amqp://a:b@[::1]:77/shop"), expected("[::1]:77", "shop", "a"));
        assert_eq!(parse("amqp://b").unwrap().query.heartbeat, Some(HEARTBEAT_S));
        assert_eq!(parse("amqp://b?heartbeat=7").unwrap().query.heartbeat, Some(7));
    }

    #[test]
    fn a_bad_url_is_refused_and_its_password_is_not_repeated() {
        for (url, error) in [
            ("broker:5672", AmqpUrlError::Scheme { scheme: String::new() }),
            ("http://u:secret@b", AmqpUrlError::Scheme { scheme: "http".to_owned() }),
            ("amqp://u:secret@", AmqpUrlError::Malformed),
            ("amqp://u:secret@:5672", AmqpUrlError::Malformed),
            ("amqp://u:secret@b:port", AmqpUrlError::Malformed),
            ("amqp://u:secret@b?heartbeat=soon", AmqpUrlError::Malformed),
            ("amqp://u:%ff@b", AmqpUrlError::Malformed),
            ("amqp://u:secret@b/", AmqpUrlError::EmptyVirtualHost),
        ] {
            let refused = parse(url).unwrap_err();
            assert!(!format!("{refused} {refused:?}").contains("secret"));
            assert_eq!(refused, error, "{url}");
        }
        #[cfg(not(feature = "tls"))]
        assert_eq!(parse("amqps://b").unwrap_err(), AmqpUrlError::NoTls);
        #[cfg(feature = "tls")]
        assert_eq!(address(&parse("amqps://b").unwrap()), "b:5671");
    }
}
