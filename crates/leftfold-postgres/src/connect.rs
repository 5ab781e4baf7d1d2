//! Connections, each with the task that drives it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::LoadBalanceHosts;
use tokio_postgres::error::Severity;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Socket};

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
    pub(crate) heard: Arc<Heard>,
    drives: JoinHandle<()>,
}

/// Messages that the server sent without being asked.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// A warning came. It comes before the answer of the statement that it is about.
    warned: AtomicBool,
    /// Somebody else notified a channel that this connection listens to, or the connection ended.
    pub(crate) news: Notify,
}

impl Heard {
    /// Tells whether a warning came since this was asked last.
    pub(crate) fn take_warning(&self) -> bool {
        self.warned.swap(false, Ordering::AcqRel)
    }

    fn hear(&self, message: &AsyncMessage) {
        match message {
            AsyncMessage::Notice(notice) => {
                if notice.parsed_severity() == Some(Severity::Warning) {
                    self.warned.store(true, Ordering::Release);
                }
            }
            AsyncMessage::Notification(_) => self.news.notify_one(),
            _ => {}
        }
    }
}

/// Way to make a connection: the configuration, and the dialling.
pub(crate) struct PostgresConnector {
    config: Config,
    dial: Box<dyn Dial>,
    /// A server took a connection and did not answer: the next attempt may begin with another one.
    met_silence: AtomicBool,
}

/// Connects, encrypted or not; behind it stands one type for each kind of encryption.
trait Dial: Send + Sync {
    fn dial<'d>(&'d self, config: &'d Config, heard: &'d Arc<Heard>) -> Dialling<'d>;
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
    fn dial<'d>(&'d self, config: &'d Config, heard: &'d Arc<Heard>) -> Dialling<'d> {
        Box::pin(async {
            let (client, mut connection) = config.connect(self.0.clone()).await?;
            let heard = Arc::clone(heard);
            let drives = tokio::spawn(async move {
                // Whoever waits for an answer gets the error that ends it too.
                while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                    heard.hear(&message);
                }
                heard.news.notify_one();
            });
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
        let met_silence = AtomicBool::new(false);
        Self { config: with_limits(config), dial: Box::new(By(tls)), met_silence }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) async fn connect(&self) -> Result<Connected, PostgresError> {
        let within = connect_within(&self.config);
        let mut config = self.config.clone();
        if self.met_silence.load(Ordering::Relaxed) {
            config.load_balance_hosts(LoadBalanceHosts::Random);
        }
        let made = timeout(within, self.make(&config)).await;
        self.met_silence.store(made.is_err(), Ordering::Relaxed);
        made.unwrap_or(Err(PostgresError::Silent { within }))
    }

    async fn make(&self, config: &Config) -> Result<Connected, PostgresError> {
        let heard = Arc::default();
        let (client, drives) =
            self.dial.dial(config, &heard).await.map_err(PostgresError::Unreachable)?;
        let connected = Connected { rows: Rows::new(client), busy: false, heard, drives };
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

/// Time for making a connection. The driver's own limit is one on dialling each host: a server that
/// stands still takes a connection and never greets.
fn connect_within(config: &Config) -> Duration {
    let each = config.get_connect_timeout().copied();
    let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX);
    let each = each.unwrap_or(Duration::from_secs(CONNECT_SECONDS));
    each.saturating_mul(hosts.saturating_add(1))
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
