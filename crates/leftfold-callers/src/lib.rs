//! What servers share about those who call them: bounds on strangers, and proofs of who they are.
//! It knows no protocol and no store.

// An address counts by its `prefix`. `crowd` bounds the connections of each, and `rates` what may
// be done a second. `passwords` are compared by a bounded pool, `guesses` slows those that are
// wrong, and `refusals` records who was refused. `tls` encrypts connections; `reloading` reads its
// files, and others, again when they change.

mod crowd;
mod guesses;
mod passwords;
mod prefix;
mod rates;
mod refusals;
mod reloading;
mod tls;

pub use crowd::{Crowd, CrowdPlace};
pub use guesses::{GuessTurn, Guesses};
pub use passwords::{
    NotLetIn, PASSWORD_BYTES_MAX, PasswordError, PasswordPool, hash_password, is_password_hash,
};
pub use prefix::AddressPrefix;
pub use rates::RateBucket;
pub use refusals::Refusals;
pub use reloading::Reloader;
pub use tls::{ServerTls, TlsError, TlsFiles};
