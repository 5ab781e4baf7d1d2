//! Serves stores of Leftfold to programs elsewhere, over gRPC and HTTP on one port.
//!
//! The program `leftfold`, in the crate `leftfold-cli`, is what most need:
//! `leftfold serve --store ./data`. A program with a server inside binds a [`Server`] to its own
//! stores:
//!
//! ```
//! use leftfold::store::Store;
//! use leftfold_server::{Server, ServerOptions};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = ServerOptions::at("127.0.0.1:0".parse()?);
//! let server = Server::bind(options, vec![("default".to_owned(), Store::memory())]).await?;
//! println!("listens on {:?}", server.addresses());
//! // Until somebody stops it: what was taken is answered, and the stores are closed.
//! server.run(std::future::ready(())).await?;
//! # Ok(()) }
//! ```

// A `server` has the `options`, the sockets and the connections; `users` may call, within the
// bounds of the `guard`. `stores` has what is served by `services`, with the `groups` of consumers
// that share a subscription, until `stopping` says that it ends; `metrics` counts what goes on.
// `serve_error` says why it cannot begin. `foreign` reads other servers of its protocols, and
// `drive` is the door of tests that need no socket.

#[doc(hidden)]
pub mod drive;
#[doc(hidden)]
pub mod foreign;
mod groups;
mod guard;
mod metrics;
mod options;
mod serve_error;
mod server;
mod services;
mod stopping;
mod stores;
mod users;

pub use guard::{StoreLimits, UserLimits};
pub use leftfold_callers::{Reloader, ServerTls, TlsError, TlsFiles};
pub use options::ServerOptions;
pub use serve_error::ServeError;
pub use server::Server;
pub use stores::{STORE_NAME_MAX, Tenants, TenantsError, is_store_name};
pub use users::{NewUser, UserRole, Users, UsersError};
