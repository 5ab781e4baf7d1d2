//! Personal data that can be forgotten: it is sealed with the key of its subject, and forgetting
//! destroys the key.
//!
//! A [`Personal`] is a value that was sealed before it became part of anything: a field of an
//! event, a state, a command, an intent, a row. It has no plain text, so none can be written by
//! accident, and everything that holds it holds ciphertext: the log, the index, snapshots, records
//! of processes, copies, messages of errors. It is the same text forever, so folds stay pure, time
//! travel and the hash chain stay whole, and nothing has to be told apart when the key is gone.
//!
//! [`Keys`] seals and opens. A caller seals a value before it sends a request with it, as a
//! password is hashed first; code that shows the value opens it, and sees [`Opened::Forgotten`]
//! once the subject was forgotten. [`Keys::forget`] destroys the key, says so in the log
//! ([`SubjectForgotten`], which read models learn of), and gives an [`Erasure`], a receipt that can
//! be verified.
//!
//! `field` is the value, `secret` what it is sealed with, `cipher` how it is sealed, `key_store`
//! the contract of what keeps the keys, `ring` the state that such a place has, `memory` the one
//! for tests; `keys` is what applications hold, `erasure` the receipt. `error` has the errors, and
//! `kind` says what each means to a caller.
//!
//! ```
//! use leftfold_core::personal::{Keys, Opened, Personal};
//! use leftfold_core::store::Store;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::memory();
//! let keys = Keys::memory(&store).await?;
//! // A subject is known by a name that says nothing: a number, a UUID.
//! let ada = keys.subject("customer-1").await?;
//! let name: Personal<String> = ada.seal(&"Ada Lovelace".to_owned())?;
//! assert_eq!(keys.open(&name).await?, Opened::Known("Ada Lovelace".to_owned()));
//!
//! let receipt = keys.forget("customer-1").await?;
//! assert_eq!(keys.open(&name).await?, Opened::Forgotten);
//! keys.verify(&receipt).await?;
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
//! ```

mod cipher;
mod erasure;
mod error;
mod field;
mod key_store;
mod keys;
mod kind;
mod memory;
mod ring;
mod secret;

pub use erasure::{Erasure, SubjectForgotten};
pub use error::{ErasureError, KeysError};
pub use field::{NotSealed, Opened, Personal};
pub use key_store::{
    DestroyedKey, KeyState, KeyStore, KeyStoreError, KeyStoreIdentity, OutlivedValue, SubjectKey,
};
pub use keys::{Keys, RECORDED_WITHIN, SEALED_BYTES_MAX, Subject};
pub use memory::MemoryKeys;
pub use ring::{KeyRecord, Ring};
pub use secret::{KeyId, Lookup, Randomless, Secret, Token};
