//! Real servers for tests: PostgreSQL, PgBouncer before it, Redis, RabbitMQ, NATS, UmaDB and object
//! storage, each on loopback with a port and a directory of its own.
//!
//! A server of its own is for a test that kills it, with `stop_hard` and `start_again` on the same
//! data and port. All others share one per test process, and take a database each from it:
//!
//! ```no_run
//! use leftfold_proving::PostgresServer;
//!
//! let url = PostgresServer::shared().database("orders");
//!
//! let mut own = PostgresServer::start();
//! own.stop_hard();
//! own.start_again();
//! # let _ = url;
//! ```
//!
//! A server is killed, and its directory removed, when the value is dropped, and also when the test
//! process ends in any other way, by SIGKILL or with the value in a static: a small shell outlives
//! the process for that.
//!
//! Everything here panics, with the server's last words, where it does not succeed: there is
//! nothing that a test could do about it. The programs are found by variables that
//! `cargo xtask setup` prints and `cargo xtask test` sets. Where the tests run as root the servers
//! run as `nobody`.

// `postgres`, `pgbouncer`, `redis`, `rabbitmq`, `nats`, `umadb` and `object_storage` each start a
// `process` in a `directory`. `cutting` has a proxy before any of them.

mod cutting;
mod directory;
mod nats;
mod object_storage;
mod pgbouncer;
mod postgres;
mod process;
mod rabbitmq;
mod redis;
mod umadb;

pub use cutting::CuttingProxy;
pub use nats::NatsServer;
pub use object_storage::ObjectStorage;
pub use pgbouncer::{PgBouncer, PoolMode};
pub use postgres::PostgresServer;
pub use rabbitmq::RabbitMqServer;
pub use redis::RedisServer;
pub use umadb::UmaDbServer;
