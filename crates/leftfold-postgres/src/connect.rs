//! Connections, each with the task that drives it.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Config, NoTls};

use crate::{PostgresError, Rows};

const CONNECT_SECONDS: u64 = 10;
/// How long a server that does not answer at all is believed in.
const SILENCE_SECONDS: u64 = 30;
/// A statement whose client has gone ends soon, and with it its locks; not every system can tell.
const NOTICE_GONE: &str = "DO $$ BEGIN PERFORM set_config('client_connection_check_interval', '2s', false);
    EXCEPTION WHEN OTHERS THEN NULL; END $$";

/// A connection. Dropped in the middle of something it is cut, so that the server undoes what was under way.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) rows: Rows,
    /// Something was begun and not ended.
    pub(crate) busy: bool,
    drives: JoinHandle<()>,
}

/// What the URL leaves open.
pub(crate) fn with_limits(mut config: Config) -> Config {
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

pub(crate) async fn connect(config: &Config) -> Result<Connected, PostgresError> {
    let (client, connection) = config.connect(NoTls).await.map_err(PostgresError::Unreachable)?;
    // Whoever waits for an answer gets the error too.
    let drives = tokio::spawn(async move { drop(connection.await) });
    let connected = Connected { rows: Rows::new(client), busy: false, drives };
    connected.rows.batch_execute(NOTICE_GONE).await.map_err(PostgresError::Unreachable)?;
    Ok(connected)
}

impl Drop for Connected {
    /// Without a client the task says goodbye to the server, but only after the last answer has come.
    fn drop(&mut self) {
        if self.busy {
            self.drives.abort();
        }
    }
}
