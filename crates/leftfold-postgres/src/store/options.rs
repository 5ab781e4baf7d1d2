//! Place and use of a store: a URL, and what it leaves open.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use leftfold_core::fold::EventError;
use leftfold_core::percent::decoded_text;
use leftfold_core::runtime::projection::Projection;
use tokio_postgres::Config;

use super::error::PostgresStoreError;
use super::inline::InlineProjections;
use super::payload::PayloadColumn;
use crate::Postgres;
use crate::url::{DatabaseUrl, SCHEMA_NAMES, is_schema_name};

/// Place of a store in a database, and how it is used.
///
/// ```
/// use leftfold_postgres::{PayloadColumn, PostgresStoreOptions};
///
/// let options = PostgresStoreOptions::at("postgres://shop@db.internal/shop?schema=orders")?;
/// assert_eq!(options.schema, "orders");
/// let options = PostgresStoreOptions { payload: Some(PayloadColumn::Bytes), ..options };
/// # let _ = options;
/// # Ok::<(), leftfold_postgres::PostgresStoreError>(())
/// ```
#[derive(Clone)]
pub struct PostgresStoreOptions {
    /// The server, the database, the role, and if the connection is to be encrypted.
    pub config: Config,
    /// File of PEM with the certificates that are trusted if `config` demands an encrypted
    /// connection; `None` trusts those that Mozilla does. Of no use to
    /// [`open_encrypted`](crate::PostgresStore::open_encrypted).
    pub root_certificates: Option<PathBuf>,
    /// Schema of the store's tables. A database may have several stores, in a schema each.
    pub schema: String,
    /// True if the schema and the tables are created when they do not exist, and brought to the
    /// newest format. If it is false opening changes nothing in the database, and is refused with
    /// [`PostgresStoreError::Missing`] or [`PostgresStoreError::OlderFormat`] instead: for
    /// programs that look at a store of others.
    pub create: bool,
    /// Column of data and metadata, for a store that is created; `None` takes `json`, or what the
    /// store has. Another one than the store has is refused.
    pub payload: Option<PayloadColumn>,
    /// Connections that read, beside one that writes and one that listens.
    pub readers: usize,
    /// Longest time for which a statement, or a transaction that waits for this process, may keep
    /// others from writing. Below half of a lease, so that a process that stands still is fenced
    /// before its work changes hands.
    pub transaction_within: Duration,
    /// Longest time for which the writer tries to find out what came of a commit whose answer was
    /// lost. After it the answer is [`AppendError::Unknown`](leftfold_core::store::AppendError).
    pub doubt_within: Duration,
    /// Read models that are written in the append's own transaction. Every process that appends
    /// must have the same ones.
    pub inline: InlineProjections,
    /// Bytes of appends that may wait, and as many of reads; beyond that the answer is `Busy`.
    pub queue_bytes: usize,
}

/// Schema of a store whose URL names none.
const SCHEMA: &str = "leftfold_store";
/// Values that can be decoded.
const PERCENT: &str = "two hexadecimal digits behind each percent sign";

impl PostgresStoreOptions {
    /// The store of a URL: `postgres://user:password@host:port/database`, with the parameters that
    /// [`Config`] lists, and these:
    ///
    /// - `sslmode=require` demands an encrypted connection to a server whose certificate is of that
    ///   host and of an authority that Mozilla trusts, which takes the feature `tls`;
    ///   `sslmode=verify-full` means the same;
    /// - `sslrootcert=PATH` demands it too, and trusts the certificates in that file of PEM
    ///   instead;
    /// - `schema=NAME`: the schema with its tables; `leftfold_store` if it is left out;
    /// - `create=no`: [nothing is created or migrated](Self::create); `create=yes` is the default;
    /// - `payload=json` or `payload=bytes`: the column of data and metadata of a store that is
    ///   created;
    /// - `readers=4`: [connections for reading](Self::readers).
    ///
    /// # Errors
    /// [`PostgresStoreError::Url`] or [`PostgresStoreError::Parameter`] if it cannot be parsed,
    /// [`PostgresStoreError::Option`] if one of its own parameters has a value that it cannot have.
    pub fn at(url: &str) -> Result<Self, PostgresStoreError> {
        let mut parsed = DatabaseUrl::parse(url, &["schema", "create", "payload", "readers"]);
        let refused_url = match parsed.refused.take() {
            Some(name) => PostgresStoreError::Parameter { name },
            None => PostgresStoreError::Url,
        };
        let config = parsed.config.take().ok_or(refused_url)?;
        let schema = match parsed.own("schema") {
            Some(name) => decoded_text(name).ok_or_else(|| refused("schema", name, PERCENT))?,
            None => SCHEMA.to_owned(),
        };
        let create = match parsed.own("create") {
            None | Some("yes") => true,
            Some("no") => false,
            Some(value) => return Err(refused("create", value, "yes or no")),
        };
        let payload = parsed.own("payload").map(|name| {
            PayloadColumn::of_name(name).ok_or_else(|| refused("payload", name, "json or bytes"))
        });
        let payload = payload.transpose()?;
        let readers = parsed.number("readers").transpose();
        let readers = readers.map_err(|text| refused("readers", &text, "at least 1"))?;
        let root_certificates = parsed.root_certificates;
        let mut options = Self { create, payload, root_certificates, ..Self::of(config, schema) };
        options.readers = readers.unwrap_or(options.readers);
        options.checked()
    }

    /// The store in a schema of the database that is configured.
    #[must_use]
    pub fn of(config: Config, schema: impl Into<String>) -> Self {
        Self {
            config,
            root_certificates: None,
            schema: schema.into(),
            create: true,
            payload: None,
            readers: 4,
            transaction_within: Duration::from_secs(5),
            doubt_within: Duration::from_secs(30),
            inline: InlineProjections::default(),
            queue_bytes: 64 << 20,
        }
    }

    /// The same, with a read model that is written in the append's own transaction: see
    /// [`InlineProjections`].
    ///
    /// # Errors
    /// [`EventError`] if the projection's enum of events cannot be one.
    pub fn inline<P: Projection<Postgres>>(self, projection: P) -> Result<Self, EventError> {
        Ok(Self { inline: self.inline.and(projection)?, ..self })
    }

    /// Refuses values that no store can have.
    pub(super) fn checked(self) -> Result<Self, PostgresStoreError> {
        if !is_schema_name(&self.schema) {
            return Err(refused("schema", &self.schema, SCHEMA_NAMES));
        }
        if self.readers == 0 {
            return Err(refused("readers", "0", "at least 1"));
        }
        if self.transaction_within < Duration::from_millis(100) {
            let value = format!("{:?}", self.transaction_within);
            return Err(refused("transaction_within", &value, "at least 100 ms"));
        }
        self.inline.check()?;
        Ok(self)
    }
}

impl fmt::Debug for PostgresStoreOptions {
    /// The configuration shows no password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStoreOptions")
            .field("config", &self.config)
            .field("root_certificates", &self.root_certificates)
            .field("schema", &self.schema)
            .field("create", &self.create)
            .field("payload", &self.payload)
            .field("readers", &self.readers)
            .field("transaction_within", &self.transaction_within)
            .field("doubt_within", &self.doubt_within)
            .field("inline", &self.inline)
            .field("queue_bytes", &self.queue_bytes)
            .finish()
    }
}

fn refused(option: &'static str, value: &str, remedy: &'static str) -> PostgresStoreError {
    PostgresStoreError::Option { option, value: value.to_owned(), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_the_schema_and_keeps_the_parameters_of_the_connection() {
        let url = "postgres://a:b@h:1/d?connect_timeout=3&schema=my%20events&payload=bytes";
        let options = PostgresStoreOptions::at(url).unwrap();
        assert_eq!(options.schema, "my events");
        assert_eq!(options.payload, Some(PayloadColumn::Bytes));
        assert_eq!(options.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(options.config.get_dbname(), Some("d"));
        let options = PostgresStoreOptions::at("postgresql://h/d").unwrap();
        assert_eq!((&*options.schema, options.payload), (SCHEMA, None));
        assert!(options.create);
        assert!(!PostgresStoreOptions::at("postgres://h/d?create=no").unwrap().create);
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        for (url, told) in [
            ("postgres://h/d?schema=", "schema"),
            ("postgres://h/d?schema=pg_events", "pg_"),
            ("postgres://h/d?schema=%zz", "percent"),
            ("postgres://h/d?payload=xml", "json or bytes"),
            ("postgres://h/d?create=never", "yes or no"),
            ("postgres://h/d?sslmode=verify-ca&schema=a", "parameter sslmode"),
            ("postgres://h/d?connect_timeout=3&sslcert=my.pem", "parameter sslcert"),
            ("postgres://h/d?sslrootcert=%zz", "parameter sslrootcert"),
        ] {
            let error = PostgresStoreOptions::at(url).unwrap_err().to_string();
            assert!(error.contains(told), "{url}: {error}");
        }
        let secret = PostgresStoreOptions::at("postgres://me:secret@h:x/d").unwrap_err();
        assert!(!format!("{secret} {secret:?}").contains("secret"));
        let secret = PostgresStoreOptions::at("postgres://me:12?secret=3@h:x/d").unwrap_err();
        assert!(!format!("{secret} {secret:?}").contains("secret"));
        let shown = PostgresStoreOptions::at("postgres://me:secret@h/d").unwrap();
        assert!(!format!("{shown:?}").contains("secret"));
    }
}
