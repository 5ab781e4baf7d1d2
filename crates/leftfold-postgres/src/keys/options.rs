//! Place and use of a key store: a URL, and what it leaves open.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use leftfold_core::percent::decoded_text;
use tokio_postgres::Config;

use super::error::PostgresKeysError;
use crate::url::{DatabaseUrl, SCHEMA_NAMES, is_schema_name};

/// Schema of a key store whose URL names none.
const SCHEMA: &str = "leftfold_keys";

/// Place of a key store in a database, and how it is used.
///
/// ```
/// use leftfold_postgres::PostgresKeysOptions;
///
/// let options = PostgresKeysOptions::at("postgres://shop@db.internal/secrets?schema=keys")?;
/// assert_eq!(options.schema, "keys");
/// # Ok::<(), leftfold_postgres::PostgresKeysError>(())
/// ```
#[derive(Clone)]
pub struct PostgresKeysOptions {
    /// The server, the database, the role, and if the connection is to be encrypted.
    pub config: Config,
    /// File of PEM with the certificates that are trusted if `config` demands an encrypted
    /// connection; `None` trusts those that Mozilla does.
    pub root_certificates: Option<PathBuf>,
    /// Schema of the tables; it is created if it does not exist.
    pub schema: String,
    /// Connections at most; each carries out one call at a time.
    pub connections: usize,
    /// Longest time for which a transaction may wait for this process, and so keep a key from being
    /// destroyed by another one.
    pub transaction_within: Duration,
}

impl PostgresKeysOptions {
    /// The key store of a URL: `postgres://user:password@host:port/database`, with the parameters
    /// that [`Config`] lists, `schema=NAME`, which is `leftfold_keys` if it is left out, and those
    /// for encryption that [`PostgresStoreOptions::at`](crate::PostgresStoreOptions::at) has.
    ///
    /// # Errors
    /// [`PostgresKeysError::Url`] or [`PostgresKeysError::Parameter`] if it cannot be parsed,
    /// [`PostgresKeysError::Option`] if the schema has a name that it cannot have.
    pub fn at(url: &str) -> Result<Self, PostgresKeysError> {
        let mut parsed = DatabaseUrl::parse(url, &["schema"]);
        let refused_url = match parsed.refused.take() {
            Some(name) => PostgresKeysError::Parameter { name },
            None => PostgresKeysError::Url,
        };
        let config = parsed.config.take().ok_or(refused_url)?;
        let schema = match parsed.own("schema") {
            Some(name) => {
                decoded_text(name).ok_or_else(|| refused("schema", name, SCHEMA_NAMES))?
            }
            None => SCHEMA.to_owned(),
        };
        let root_certificates = parsed.root_certificates;
        Self { root_certificates, ..Self::of(config, schema) }.checked()
    }

    /// The key store in a schema of the database that is configured.
    #[must_use]
    pub fn of(config: Config, schema: impl Into<String>) -> Self {
        let transaction_within = Duration::from_secs(5);
        Self {
            config,
            root_certificates: None,
            schema: schema.into(),
            connections: 4,
            transaction_within,
        }
    }

    /// Refuses values that no key store can have.
    pub(super) fn checked(self) -> Result<Self, PostgresKeysError> {
        if !is_schema_name(&self.schema) {
            return Err(refused("schema", &self.schema, SCHEMA_NAMES));
        }
        if self.connections == 0 {
            return Err(refused("connections", "0", "at least 1"));
        }
        if self.transaction_within < Duration::from_millis(100) {
            let value = format!("{:?}", self.transaction_within);
            return Err(refused("transaction_within", &value, "at least 100 ms"));
        }
        Ok(self)
    }
}

impl fmt::Debug for PostgresKeysOptions {
    /// The configuration shows no password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresKeysOptions")
            .field("config", &self.config)
            .field("root_certificates", &self.root_certificates)
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .field("transaction_within", &self.transaction_within)
            .finish()
    }
}

fn refused(option: &'static str, value: &str, remedy: &'static str) -> PostgresKeysError {
    PostgresKeysError::Option { option, value: value.to_owned(), remedy }
}
