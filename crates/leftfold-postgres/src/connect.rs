//! Connections, each with the task that drives it.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Error, Socket};

use crate::{PostgresError, Rows};

const CONNECT_SECONDS: u64 = 10;
/// Seconds without any answer after which a server is given up.
const SILENCE_SECONDS: u64 = 30;
/// A statement whose client has gone ends soon, and with it its locks; not every system can tell.
const NOTICE_GONE: &str =
    "DO $$ BEGIN PERFORM set_config('client_connection_check_interval', '2s', false);
    EXCEPTION WHEN OTHERS THEN NULL; END $$";

/// A connection. Dropped in the middle of something it is cut, so that the server undoes what was
/// under way.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) rows: Rows,
    /// Something was begun and not ended.
    pub(crate) busy: bool,
    drives: JoinHandle<()>,
}

/// Way to make a connection: the configuration, and the dialling.
pub(crate) struct PostgresConnector {
    config: Config,
    dial: Box<dyn Dial>,
}

/// Connects, encrypted or not; behind it stands one type for each kind of encryption.
trait Dial: Send + Sync {
    fn dial<'d>(&'d self, config: &'d Config) -> Dialling<'d>;
}

/// A client, and the task that drives its connection.
type Dialling<'d> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'd>>;

struct By<T>(T);

impl<T> Dial for By<T>
where
    T: MakeTlsConnect<Socket, TlsConnect: Send, Stream: Send> + Clone + Send + Sync + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn dial<'d>(&'d self, config: &'d Config) -> Dialling<'d> {
        Box::pin(async {
            let (client, connection) = config.connect(self.0.clone()).await?;
            // Whoever waits for an answer gets the error too.
            let drives = tokio::spawn(async move { drop(connection.await) });
            Ok((client, drives))
        })
    }
}

impl PostgresConnector {
    pub(crate) fn new<T>(config: Config, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket, TlsConnect: Send, Stream: Send> + Clone + Send + Sync + 'static,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        Self { config: with_limits(config), dial: Box::new(By(tls)) }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) async fn connect(&self) -> Result<Connected, PostgresError> {
        let (client, drives) =
            self.dial.dial(&self.config).await.map_err(PostgresError::Unreachable)?;
        let connected = Connected { rows: Rows::new(client), busy: false, drives };
        connected.rows.batch_execute(NOTICE_GONE).await.map_err(PostgresError::Unreachable)?;
        Ok(connected)
    }
}

impl fmt::Debug for PostgresConnector {
    /// The configuration shows no password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

/// Sets the limits and the name that the URL leaves open.
fn with_limits(mut config: Config) -> Config {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(CONNECT_SECONDS));
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(SILENCE_SECONDS));
        config.keepalives_idle(Duration::from_secs(SILENCE_SECONDS));
    }
    if config.get_application_name().is_none() {
        config.application_name(format!("leftfold of process {}", std::process::id()));
    }
    config
}

impl Drop for Connected {
    /// Without a client the task says goodbye to the server, but only after the last answer has
    /// come.
    fn drop(&mut self) {
        if self.busy {
            self.drives.abort();
        }
    }
}
