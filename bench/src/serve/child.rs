//! A process that is a server.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use leftfold_server::{Server, ServerOptions};

use crate::{Outcome, store};

/// Stands first in the arguments of a process that is a server.
pub(crate) const FLAG: &str = "--serve";

/// Serves the store in a folder until the standard input ends, and tells where.
pub(crate) async fn serve(folder: &Path) -> Outcome {
    let options = ServerOptions::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let stores = vec![("default".to_owned(), store::open(folder)?)];
    let server = Server::bind(options, stores).await?;
    let address = server.addresses().first().ok_or("the server listens nowhere")?;
    let mut to = std::io::stdout();
    writeln!(to, "{address}")?;
    to.flush()?;
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
    let ended = async { drop(ended.await) };
    Ok(server.run(ended).await?)
}
