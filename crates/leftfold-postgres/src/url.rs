//! URLs of databases: the connection that they describe, and parameters that are Leftfold's own.

use std::path::PathBuf;

use leftfold_core::percent::decoded_text;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

/// Bytes of an identifier in PostgreSQL.
const IDENTIFIER_BYTES_MAX: usize = 63;
/// Names that can be the name of a schema.
pub(crate) const SCHEMA_NAMES: &str = "a name of 1 to 63 bytes that does not begin with pg_";

/// A URL that was taken apart.
pub(crate) struct DatabaseUrl<'u> {
    /// The connection; `None` if the URL cannot be read.
    pub(crate) config: Option<Config>,
    /// Name of the parameter for which it cannot be read. Nothing else of the reason is told: it
    /// may be a part of the password.
    pub(crate) refused: Option<String>,
    /// File with the certificates that are trusted.
    pub(crate) root_certificates: Option<PathBuf>,
    own: Vec<(&'u str, &'u str)>,
}

impl<'u> DatabaseUrl<'u> {
    /// Takes the parameters with these names out of a URL, and reads the rest. `sslrootcert`, and
    /// the `sslmode=verify-full` of other drivers, demand an encrypted connection; each that is
    /// encrypted is verified.
    pub(crate) fn parse(url: &'u str, names: &[&str]) -> Self {
        let (place, parameters) = url.split_once('?').unwrap_or((url, ""));
        // A scheme is the same in capitals, which the driver does not know.
        let (scheme, behind) = place.split_once("://").unwrap_or(("", place));
        let place = match scheme.to_ascii_lowercase() {
            known if ["postgres", "postgresql"].contains(&&*known) => format!("{known}://{behind}"),
            _ => place.to_owned(),
        };
        let (mut own, mut others, mut roots) = (Vec::new(), Vec::new(), None);
        let mut is_verified = false;
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some((name, value)) if names.contains(&name) => own.push((name, value)),
                Some(("sslrootcert", path)) => roots = Some(decoded_text(path)),
                Some(("sslmode", "verify-full")) => is_verified = true,
                _ => others.push(parameter),
            }
        }
        let rest = if others.is_empty() { place } else { format!("{place}?{}", others.join("&")) };
        let mut config = rest.parse::<Config>().ok().filter(|_| roots != Some(None));
        if let Some(config) = config.as_mut().filter(|_| is_verified || roots.is_some()) {
            config.ssl_mode(SslMode::Require);
        }
        // Behind a question mark in a password stands the rest of that.
        let refused = match &config {
            None if roots == Some(None) => Some("sslrootcert".to_owned()),
            None if !parameters.contains('@') => refused_of(&others),
            _ => None,
        };
        Self { config, refused, root_certificates: roots.flatten().map(PathBuf::from), own }
    }

    /// Returns the value of a parameter that was taken out: the last one, as it was written.
    pub(crate) fn own(&self, name: &str) -> Option<&'u str> {
        self.own.iter().rev().find(|(own, _)| *own == name).map(|(_, value)| *value)
    }

    /// Returns the number of a parameter that was taken out, or its text if it is no number of at
    /// least 1.
    pub(crate) fn number(&self, name: &str) -> Option<Result<usize, String>> {
        let text = self.own(name)?;
        Some(text.parse().ok().filter(|number| *number > 0).ok_or_else(|| text.to_owned()))
    }
}

/// Name of the first parameter that the driver does not take.
fn refused_of(parameters: &[&str]) -> Option<String> {
    let is_refused =
        |parameter: &&&str| format!("postgres://h/d?{parameter}").parse::<Config>().is_err();
    let parameter = parameters.iter().find(is_refused)?;
    Some(parameter.split('=').next().unwrap_or_default().to_owned())
}

/// Tells whether a schema can have a name.
pub(crate) fn is_schema_name(name: &str) -> bool {
    (1..=IDENTIFIER_BYTES_MAX).contains(&name.len())
        && !name.contains('\0')
        && !name.starts_with("pg_")
}
