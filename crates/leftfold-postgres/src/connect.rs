//! Connections, each with the task that drives it.

use std::fmt;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use leftfold_core::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::error::Severity;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Socket};
use uuid::Uuid;

use crate::{PostgresError, Rows, tls};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Seconds without any answer after which a server is given up.
const SILENCE_SECONDS: u64 = 30;
/// Characters of the machine's name in the name of a session.
const HOST_MAX: usize = 40;
/// Has the server notice within about half a minute that a client is gone, and that its machine is,
/// and within a minute that it stands still in a transaction: then its session ends, and with it
/// its locks. What the server is told to notice sooner stays so, and a limit on transactions that
/// it or the URL sets; not every system can tell.
const NOTICE_GONE: &str = "DO $$
    DECLARE setting record;
    BEGIN
        FOR setting IN SELECT * FROM (VALUES
            ('client_connection_check_interval', 2000), ('tcp_keepalives_idle', 15),
            ('tcp_keepalives_interval', 5), ('tcp_keepalives_count', 3),
            ('tcp_user_timeout', 30000)) AS wanted (name, most)
        LOOP BEGIN
            PERFORM set_config(s.name, setting.most::text, false) FROM pg_settings s
                WHERE s.name = setting.name AND (s.setting = '0' OR s.setting::int > setting.most);
        EXCEPTION WHEN OTHERS THEN NULL;
        END; END LOOP;
        IF current_setting('idle_in_transaction_session_timeout') = '0' THEN
            PERFORM set_config('idle_in_transaction_session_timeout', '60s', false); END IF;
    END $$";
/// Tells whether the server takes no writes.
const ONLY_READS: &str = "SELECT current_setting('transaction_read_only')::boolean";
/// Time between two looks for a host that takes writes.
const LOOK_FOR_WRITES: Duration = Duration::from_secs(1);
/// Marks the session, and tells the mark that it had.
const MARK: &str = "SELECT current_setting('leftfold.session', true) AS was,
    set_config('leftfold.session', $1, false) AS is_now";
/// Tells whether it is the session with that mark.
const IS_MARKED: &str = "SELECT current_setting('leftfold.session', true) = $1";

/// Statement that makes commits durable before they are answered, unless the server asks for more
/// than that.
pub(crate) const DURABLE_COMMITS: &str = "SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// A connection. Dropped in the middle of something it is cut, so that the server undoes what was
/// under way.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) rows: Rows,
    /// Something was begun and not ended.
    pub(crate) busy: bool,
    /// The server took no writes when it was connected to, and another host may.
    only_reads: bool,
    pub(crate) heard: Arc<Heard>,
    drives: JoinHandle<()>,
}

/// Messages that the server sent without being asked.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// A warning came. It comes before the answer of the statement that it is about.
    warned: AtomicBool,
    /// The server's process behind this connection, whose own notifications are no news; 0 if that
    /// is not known.
    own_process: AtomicI32,
    /// Somebody else notified a channel that this connection listens to, or the connection ended.
    pub(crate) news: Notify,
}

impl Heard {
    /// Tells whether a warning came since this was asked last.
    pub(crate) fn take_warning(&self) -> bool {
        self.warned.swap(false, Ordering::AcqRel)
    }

    /// Ignores the notifications that this process of the server sends.
    pub(crate) fn ignore_own(&self, process: i32) {
        self.own_process.store(process, Ordering::Relaxed);
    }

    fn hear(&self, message: &AsyncMessage) {
        match message {
            AsyncMessage::Notice(notice) if notice.parsed_severity() == Some(Severity::Warning) => {
                self.warned.store(true, Ordering::Release);
            }
            AsyncMessage::Notification(note)
                if note.process_id() != self.own_process.load(Ordering::Relaxed) =>
            {
                self.news.notify_one();
            }
            _ => {}
        }
    }
}

/// Way to make a connection: the configuration, and the dialling.
pub(crate) struct PostgresConnector {
    config: Config,
    /// The configuration of each host.
    hosts: Vec<Config>,
    dial: Box<dyn Dial>,
    /// The host that was connected to last.
    last: AtomicUsize,
    /// The URL has several hosts and leaves open which of them it means.
    prefers_writes: bool,
    /// The host that was connected to last takes writes, as far as that was asked.
    takes_writes: AtomicBool,
}

/// Connects, encrypted or not; behind it stands one type for each kind of encryption.
trait Dial: Send + Sync {
    fn dial<'d>(&'d self, config: &'d Config, heard: &'d Arc<Heard>) -> Dialling<'d>;
}

/// A client, and the task that drives its connection.
type Dialling<'d> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), PostgresError>> + Send + 'd>>;

/// By a connector that the caller gave.
struct By<T>(T);

/// Encrypted if the configuration demands that, trusting the certificates in this file, or the
/// usual ones. The file is read for each connection, so that it may be renewed.
struct AsConfigured(Option<PathBuf>);

impl Dial for AsConfigured {
    fn dial<'d>(&'d self, config: &'d Config, heard: &'d Arc<Heard>) -> Dialling<'d> {
        Box::pin(async move {
            if config.get_ssl_mode() == SslMode::Require {
                By(tls::connector(self.0.as_deref())?).dial(config, heard).await
            } else {
                By(NoTls).dial(config, heard).await
            }
        })
    }
}

impl<T> Dial for By<T>
where
    T: MakeTlsConnect<Socket, TlsConnect: Send, Stream: Send> + Clone + Send + Sync + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn dial<'d>(&'d self, config: &'d Config, heard: &'d Arc<Heard>) -> Dialling<'d> {
        Box::pin(async {
            let connecting = config.connect(self.0.clone()).await;
            let (client, mut connection) = connecting.map_err(PostgresError::of_connecting)?;
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
    /// Encrypts if the configuration demands that, and trusts the certificates in this file, or the
    /// usual ones.
    pub(crate) fn as_configured(config: Config, root_certificates: Option<PathBuf>) -> Self {
        Self::by(config, AsConfigured(root_certificates))
    }

    pub(crate) fn new<T>(config: Config, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket, TlsConnect: Send, Stream: Send> + Clone + Send + Sync + 'static,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        Self::by(config, By(tls))
    }

    fn by(config: Config, dial: impl Dial + 'static) -> Self {
        let config = with_limits(config);
        let hosts = each_host(&config);
        let prefers_writes = hosts.len() > 1
            && config.get_target_session_attrs() == TargetSessionAttrs::Any
            && config.get_load_balance_hosts() == LoadBalanceHosts::Disable;
        let (last, takes_writes) = (AtomicUsize::new(0), AtomicBool::new(true));
        Self { config, hosts, dial: Box::new(dial), last, prefers_writes, takes_writes }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Connects to the first host that takes it, beginning with the one that did last. If the URL
    /// leaves open which of several it means, that is the first one that takes writes, and only if
    /// there is none another one.
    pub(crate) async fn connect(&self) -> Result<Connected, PostgresError> {
        let hosts = self.hosts.len();
        let first = match self.config.get_load_balance_hosts() {
            LoadBalanceHosts::Random if hosts > 1 => Uuid::new_v4().as_fields().0 as usize,
            _ => self.last.load(Ordering::Relaxed),
        };
        let (mut offset, mut only_reading) = (0, None);
        loop {
            let host = first.wrapping_add(offset) % hosts;
            offset += 1;
            match (self.connect_to(host).await, only_reading.take()) {
                (Ok(connected), None) if connected.only_reads && offset < hosts => {
                    only_reading = Some((host, connected));
                }
                (Ok(connected), Some(found)) if connected.only_reads && offset < hosts => {
                    only_reading = Some(found);
                }
                (Ok(connected), Some((host, found))) if connected.only_reads => {
                    return Ok(self.chosen(host, found));
                }
                (Ok(connected), _) => return Ok(self.chosen(host, connected)),
                (Err(_), found) if offset < hosts => only_reading = found,
                (Err(_), Some((host, found))) => return Ok(self.chosen(host, found)),
                (Err(error), None) => return Err(error),
            }
        }
    }

    fn chosen(&self, host: usize, connected: Connected) -> Connected {
        self.last.store(host, Ordering::Relaxed);
        self.takes_writes.store(!connected.only_reads, Ordering::Relaxed);
        connected
    }

    async fn connect_to(&self, host: usize) -> Result<Connected, PostgresError> {
        let config = &self.hosts[host];
        // The driver's own limit is one on dialling: a server that stands still takes a connection
        // and never greets.
        let each = config.get_connect_timeout().copied().unwrap_or(CONNECT_WITHIN);
        let within = each.saturating_mul(2);
        let made = timeout(within, self.make(config)).await;
        made.unwrap_or(Err(PostgresError::Silent { within }))
    }

    /// Waits until a host takes writes, if none did before and the URL leaves open which one it
    /// means: without an end otherwise.
    pub(crate) async fn takes_writes_again(&self) {
        if !self.prefers_writes {
            return std::future::pending().await;
        }
        loop {
            sleep(LOOK_FOR_WRITES).await;
            if self.connect().await.is_ok_and(|connected| !connected.only_reads) {
                return;
            }
        }
    }

    /// Tells whether a connection only reads although another host takes writes.
    pub(crate) fn is_outdated(&self, connected: &Connected) -> bool {
        connected.only_reads && self.takes_writes.load(Ordering::Relaxed)
    }

    /// Begins with the next host, since the one that was connected to last is of no use.
    pub(crate) fn pass_over(&self) {
        self.last.fetch_add(1, Ordering::Relaxed);
    }

    async fn make(&self, config: &Config) -> Result<Connected, PostgresError> {
        let heard = Arc::default();
        let (client, drives) = self.dial.dial(config, &heard).await?;
        let rows = Rows::new(client);
        let mut connected = Connected { rows, busy: false, only_reads: false, heard, drives };
        connected.own_session().await?;
        if self.prefers_writes {
            let asked = connected.rows.query_one(ONLY_READS, &[]).await;
            let told = asked.and_then(|row| row.try_get(0));
            connected.only_reads = told.map_err(PostgresError::Unreachable)?;
        }
        connected.rows.batch_execute(NOTICE_GONE).await.map_err(PostgresError::Unreachable)?;
        Ok(connected)
    }
}

impl Connected {
    /// Sees that the session of the server is this connection's alone, as far as that can be seen:
    /// behind a pooler that shares sessions between transactions one finds the mark of another, or
    /// not its own.
    async fn own_session(&self) -> Result<(), PostgresError> {
        let unreachable = PostgresError::Unreachable;
        let mark = Uuid::new_v4().to_string();
        let typed = [(&mark as &(dyn ToSql + Sync), Type::TEXT)];
        let marked = self.rows.query_typed(MARK, &typed).await.map_err(unreachable)?;
        let found = self.rows.query_typed(IS_MARKED, &typed).await.map_err(unreachable)?;
        let was: Option<&str> = marked.first().and_then(|row| row.try_get("was").ok()).flatten();
        let is_marked: Option<bool> = found.first().and_then(|row| row.try_get(0).ok()).flatten();
        match was.unwrap_or_default().is_empty() && is_marked == Some(true) {
            true => Ok(()),
            false => Err(PostgresError::SharedSession),
        }
    }

    /// Tells whether the server, or the way to it, has ended the connection.
    pub(crate) fn is_over(&self) -> bool {
        self.drives.is_finished()
    }
}

impl fmt::Debug for PostgresConnector {
    /// The configuration shows no password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

/// The configuration of each of several hosts. The driver tries them in turn by itself, but waits
/// without an end for the greeting of one that stands still.
fn each_host(config: &Config) -> Vec<Config> {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let (count, ports) = (hosts.len().max(addresses.len()), config.get_ports());
    let is_sound = ports.len() <= 1 || ports.len() == count;
    if count < 2 || !is_sound || (!addresses.is_empty() && addresses.len() != count) {
        return vec![config.clone()];
    }
    let of_host = |index: usize| {
        let mut one = without_hosts(config);
        match hosts.get(index) {
            Some(Host::Tcp(name)) => {
                one.host(name);
            }
            #[cfg(unix)]
            Some(Host::Unix(path)) => {
                one.host_path(path);
            }
            None => {}
        }
        if let Some(address) = addresses.get(index) {
            one.hostaddr(*address);
        }
        if let Some(port) = ports.get(index).or(ports.first()) {
            one.port(*port);
        }
        one
    };
    (0..count).map(of_host).collect()
}

fn without_hosts(config: &Config) -> Config {
    let mut one = Config::new();
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(name) = config.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(time) = config.get_connect_timeout() {
        one.connect_timeout(*time);
    }
    if let Some(time) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*time);
    }
    if let Some(time) = config.get_keepalives_interval() {
        one.keepalives_interval(time);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(config.get_keepalives());
    one.keepalives_idle(config.get_keepalives_idle());
    one.ssl_mode(config.get_ssl_mode());
    one.ssl_negotiation(config.get_ssl_negotiation());
    one.target_session_attrs(config.get_target_session_attrs());
    one.channel_binding(config.get_channel_binding());
    one
}

/// Sets the limits and the name that the URL leaves open.
fn with_limits(mut config: Config) -> Config {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_WITHIN);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(SILENCE_SECONDS));
        config.keepalives_idle(Duration::from_secs(SILENCE_SECONDS));
    }
    if config.get_application_name().is_none() {
        config.application_name(application_name(&Runtime::default_name()));
    }
    config
}

/// The name of a session, for whoever asks who has a lock: that of the runtime of its process. The
/// server cuts it off after 63 bytes, and the id of the process stands at its end.
fn application_name(runtime: &str) -> String {
    let (host, process) = runtime.rsplit_once(':').unwrap_or((runtime, ""));
    let host: String = host.chars().filter(char::is_ascii_graphic).take(HOST_MAX).collect();
    format!("leftfold of {host}:{process}")
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

#[cfg(test)]
mod tests {
    use leftfold_proving::PostgresServer;

    use super::*;

    #[test]
    fn the_name_of_a_session_ends_with_the_process_however_long_that_of_the_machine_is() {
        assert_eq!(application_name("db-1:4711"), "leftfold of db-1:4711");
        let name = application_name(&format!("{}:4294967295", "ö-pod-x".repeat(40)));
        assert!(name.len() <= 63 && name.ends_with(":4294967295"), "{name}");
    }

    #[tokio::test]
    async fn the_server_is_to_notice_soon_that_a_machine_is_gone() {
        let server = PostgresServer::shared();
        let shown = async |url: &str, setting: &str| {
            let connector = PostgresConnector::new(url.parse().unwrap(), NoTls);
            let connected = connector.connect().await.unwrap();
            let row = connected.rows.query_one(&format!("SHOW {setting}"), &[]).await.unwrap();
            row.get::<_, String>(0)
        };
        let url = server.url();
        assert_eq!(shown(&url, "tcp_user_timeout").await, "30000");
        assert_eq!(shown(&url, "tcp_keepalives_idle").await, "15");
        assert_eq!(shown(&url, "client_connection_check_interval").await, "2s");
        assert_eq!(shown(&url, "idle_in_transaction_session_timeout").await, "1min");
        let shorter = format!("{url}?options=-c%20tcp_user_timeout%3D9000");
        assert_eq!(shown(&shorter, "tcp_user_timeout").await, "9000");
    }
}
