//! Queues that are found, or declared.

use lapin::Connection;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};

use crate::error::AmqpError;

/// Finds a queue, or declares it: durable, without arguments. One that is there is taken as it is,
/// whatever its arguments.
pub(crate) async fn declare(
    connection: &Connection,
    address: &str,
    queue: &str,
) -> Result<(), AmqpError> {
    let refused = |error| AmqpError::of_queue(address, queue, error);
    let name = queue_name(queue)?;
    // A question that is answered with no closes its channel.
    let channel = connection.create_channel().await.map_err(refused)?;
    let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(name.clone(), look, FieldTable::default()).await;
    let channel = match found {
        Ok(_) => channel,
        Err(error) if AmqpError::code(&error) == Some(404) => {
            let channel = connection.create_channel().await.map_err(refused)?;
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(name, durable, FieldTable::default()).await.map_err(refused)?;
            channel
        }
        Err(error) => return Err(refused(error)),
    };
    // If it cannot be closed, the connection is lost, which its next use tells.
    let _ = channel.close(200, ShortString::default()).await;
    Ok(())
}

/// Returns a name that is not empty and not too long; `None` for others.
pub(crate) fn short(name: &str) -> Option<ShortString> {
    ShortString::try_new(name).ok().filter(|name| !name.as_str().is_empty())
}

/// Returns the name of a queue.
pub(crate) fn queue_name(queue: &str) -> Result<ShortString, AmqpError> {
    short(queue).ok_or_else(|| AmqpError::Destination { destination: queue.to_owned() })
}
