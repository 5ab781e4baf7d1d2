//! The place of a backup in object storage: a URL, and the usual variables of the environment.

use std::path::PathBuf;

use leftfold::remote::{RemoteOptions, RemoteTls};
use rusty_s3::{Bucket, Credentials, UrlStyle};

use crate::failure::CliFailure;

/// Region if the environment names none.
const REGION: &str = "us-east-1";

/// A prefix of a bucket, and how it is reached.
pub(crate) struct BucketPlace {
    pub(super) bucket: Bucket,
    /// Beginning of the names of the objects: empty, or with a slash at its end.
    pub(super) prefix: String,
    pub(super) credentials: Option<Credentials>,
    /// Host, port and encryption.
    pub(super) options: RemoteOptions,
}

impl std::fmt::Debug for BucketPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BucketPlace").field(&self.shown()).finish()
    }
}

impl BucketPlace {
    /// Reads a place; `None` if the text is that of a directory.
    pub(crate) fn of(text: &str) -> Option<Result<Self, CliFailure>> {
        let (scheme, rest) = text.split_once("://")?;
        let is_meant = scheme.eq_ignore_ascii_case("s3");
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        is_meant.then(|| Self::parse(rest, variable).map_err(CliFailure::Usage))
    }

    fn parse(rest: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() || name.contains(['@', ':', '?']) {
            return Err("a place in object storage is s3://BUCKET/PREFIX".to_owned());
        }
        let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = region.unwrap_or_else(|| REGION.to_owned());
        let own = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL"));
        // Other storages than that of AWS know a bucket by the path, not by the host.
        let style = if own.is_some() { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let endpoint = own.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let wrong = |error: &dyn std::fmt::Display| format!("the endpoint {endpoint}: {error}");
        let url = endpoint.parse().map_err(|error| wrong(&error))?;
        let bucket = Bucket::new(url, style, name.to_owned(), region);
        let bucket = bucket.map_err(|error| wrong(&error))?;
        let (key, secret) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"));
        let credentials = match (key, secret, variable("AWS_SESSION_TOKEN")) {
            (Some(key), Some(secret), None) => Some(Credentials::new(key, secret)),
            (Some(key), Some(secret), Some(token)) => {
                Some(Credentials::new_with_token(key, secret, token))
            }
            (None, None, _) => None,
            _ => return Err("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together".to_owned()),
        };
        let options = options_of(&bucket, variable("AWS_CA_BUNDLE"))?;
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { bucket, prefix, credentials, options })
    }

    /// Returns the place as people write it.
    pub(crate) fn shown(&self) -> String {
        format!("s3://{}/{}", self.bucket.name(), self.prefix.trim_end_matches('/'))
    }

    pub(super) fn object(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

fn options_of(bucket: &Bucket, roots: Option<String>) -> Result<RemoteOptions, String> {
    let url = bucket.base_url();
    let is_encrypted = url.scheme() == "https";
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(format!("the endpoint {url} has no host"));
    };
    let options = RemoteOptions::at(&format!("leftfold://{host}:{port}"));
    let mut options = options.map_err(|error| error.to_string())?;
    let roots = roots.map(PathBuf::from);
    options.tls = is_encrypted.then_some(RemoteTls { roots, certificate: None });
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_with_the_usual_variables() {
        let none = |_: &str| None;
        let aws = BucketPlace::parse("shop/a/b/", none).unwrap();
        assert_eq!((aws.shown().as_str(), aws.object("x").as_str()), ("s3://shop/a/b", "a/b/x"));
        assert_eq!(
            (&*aws.options.host, aws.options.port),
            ("shop.s3.us-east-1.amazonaws.com", 443)
        );
        assert!(aws.options.tls.is_some() && aws.credentials.is_none());
        let own = |name: &str| match name {
            "AWS_ENDPOINT_URL" => Some("http://minio.example:9000".to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("x".to_owned()),
            _ => None,
        };
        let own = BucketPlace::parse("shop", own).unwrap();
        assert_eq!((&*own.options.host, own.options.port), ("minio.example", 9000));
        assert!(own.options.tls.is_none() && own.credentials.is_some());
        assert_eq!(own.bucket.object_url("x").path(), "/shop/x");
        let half = |name: &str| (name == "AWS_ACCESS_KEY_ID").then(|| "x".to_owned());
        assert!(BucketPlace::parse("shop", half).is_err());
        assert!(BucketPlace::parse("/prefix", none).is_err());
        assert!(BucketPlace::of("./shop").is_none() && BucketPlace::of("file:///x").is_none());
    }
}
