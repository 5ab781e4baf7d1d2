//! What the requests of stations and people share.

mod transaction_numbers;

pub(crate) use transaction_numbers::{NoNumber, TransactionNumbers};
