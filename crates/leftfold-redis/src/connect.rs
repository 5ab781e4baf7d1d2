//! Connections.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, InfoDict};

use crate::RedisError;

const CONNECT: Duration = Duration::from_secs(10);
/// Time without any answer after which a server is given up.
const SILENCE: Duration = Duration::from_secs(30);

pub(crate) async fn connect(client: &Client) -> Result<MultiplexedConnection, RedisError> {
    let limits = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(SILENCE));
    client.get_multiplexed_async_connection_with_config(&limits).await.map_err(RedisError::Refused)
}

/// Refuses a server that may take any key away. One that does not tell is believed.
pub(crate) async fn check_eviction(
    connection: &mut MultiplexedConnection,
) -> Result<(), RedisError> {
    let told = redis::cmd("INFO").arg("memory").query_async::<InfoDict>(connection).await;
    let policy: Option<String> = told.ok().and_then(|info| info.get("maxmemory_policy"));
    match policy {
        Some(policy) if policy.starts_with("allkeys") => Err(RedisError::Evicts { policy }),
        _ => Ok(()),
    }
}
