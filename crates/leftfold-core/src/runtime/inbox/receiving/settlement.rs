//! Settlement of one message: the one place that decides which error is which.

use crate::fold::ExecuteError;
use crate::runtime::consumer::{contained, shortened};
use crate::runtime::inbox::{Inbox, Intake, Receipt, ReceiveError, Refusal};
use crate::store::{AppendError, Kind, ReadError};

/// Treatment of a message by the broker that delivered it.
///
/// | error of [`Intake::receive_bytes`] | settlement |
/// | --- | --- |
/// | none, or the message was received before | [`Taken`](Settlement::Taken) |
/// | another message under the id, unreadable, too large, its number refused, no id | [`Poison`](Settlement::Poison) |
/// | too much is held of its source; the store is busy, away, read-only, or cannot read what it has | [`Later`](Settlement::Later) |
/// | the store is closed | [`Closed`](Settlement::Closed) |
///
/// Poison is decided by the message alone: a fault of the store or of the program never turns the
/// messages of a queue into dead letters, it makes them wait.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a message that is not settled comes again"]
pub enum Settlement {
    /// The inbox has it, durably: the broker is to forget it.
    Taken(Receipt),
    /// No later try will take it: it is to go where people look for dead letters.
    Poison {
        /// Reason, for people; at most 4,096 bytes.
        reason: String,
    },
    /// It cannot be taken now: the broker is to deliver it again.
    Later {
        /// Reason, for people.
        reason: String,
    },
    /// The store is closed and takes nothing more. The broker is to deliver it again, to another
    /// process or the next start.
    Closed,
}

impl<I: Inbox> Intake<I> {
    /// Receives the bytes of a message from a broker, as [`receive_bytes`](Intake::receive_bytes)
    /// does, and returns what is to become of it there. A message without an id is poison, since
    /// its repetition could not be told from another message.
    ///
    /// For brokers without a ready part; [`receive_from`](Intake::receive_from) does the rest.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod incoming {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/incoming.rs"));
    /// # }
    /// use incoming::Incoming;
    /// use leftfold_core::runtime::inbox::{Receipt, Settlement};
    /// use leftfold_core::store::Store;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let inbox = Store::memory().inbox::<Incoming>();
    /// let body = br#"{"wallet":"ada","cents":500}"#;
    /// let taken = inbox.settle("bank", Some("m1"), None, body).await;
    /// assert_eq!(taken, Settlement::Taken(Receipt::Accepted));
    ///
    /// let unreadable = inbox.settle("bank", Some("m2"), None, b"{}").await;
    /// assert!(matches!(unreadable, Settlement::Poison { .. }));
    /// # Ok(()) }
    /// ```
    pub async fn settle(
        &self,
        source: &str,
        id: Option<&str>,
        sequence: Option<u64>,
        message: &[u8],
    ) -> Settlement {
        let Some(id) = id else {
            return Settlement::Poison { reason: NO_ID.to_owned() };
        };
        // Reading the message is users' code.
        match contained(self.receive_bytes(source, id, sequence, message)).await {
            Ok(received) => Settlement::of(received),
            Err(said) => poison(format!("message {id} cannot be read, its type panicked: {said}")),
        }
    }
}

const NO_ID: &str = "the message has no id, by which a repetition is known: let its sender give \
                     one, or let the queue take the id from somewhere else";

impl Settlement {
    /// Returns the settlement of a message from the result of receiving it.
    pub fn of(received: Result<Receipt, ReceiveError>) -> Self {
        let error = match received {
            Ok(receipt) => return Self::Taken(receipt),
            Err(error) => error,
        };
        match &error {
            ReceiveError::Refused(Refusal::Full { .. }) => later(&error),
            ReceiveError::OtherMessage { .. }
            | ReceiveError::Refused(_)
            | ReceiveError::Invalid(_)
            | ReceiveError::Unreadable { .. }
            | ReceiveError::Unwritable { .. } => poison(error.to_string()),
            ReceiveError::Store(of_store) => of_store_error(of_store),
        }
    }
}

fn of_store_error(error: &ExecuteError<Refusal>) -> Settlement {
    match error {
        ExecuteError::Append(AppendError::Closed | AppendError::Read(ReadError::Closed))
        | ExecuteError::Read(ReadError::Closed) => Settlement::Closed,
        // The id was answered by something that is no answer of an inbox.
        ExecuteError::AnswerUnreadable { .. } => poison(error.to_string()),
        // The message is within the limits of an inbox, and beyond one of the store's.
        error if error.kind() == Kind::Invalid => poison(error.to_string()),
        error => later(error),
    }
}

fn poison(reason: String) -> Settlement {
    Settlement::Poison { reason: shortened(reason) }
}

fn later(error: &impl ToString) -> Settlement {
    Settlement::Later { reason: shortened(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::EventError;
    use crate::store::{CommandId, Invalid};

    fn of_store(error: ExecuteError<Refusal>) -> Settlement {
        Settlement::of(Err(ReceiveError::Store(Box::new(error))))
    }

    fn is_later(settlement: &Settlement) -> bool {
        matches!(settlement, Settlement::Later { reason } if !reason.is_empty())
    }

    fn is_poison(settlement: &Settlement) -> bool {
        matches!(settlement, Settlement::Poison { reason } if !reason.is_empty())
    }

    #[test]
    fn what_is_wrong_with_a_message_itself_is_poison() {
        let too_large = Invalid::if_over("a message", 11, 10).unwrap_err();
        let id = CommandId::of_runtime("$inbox:a", "1 a b");
        let unreadable =
            ReceiveError::Unreadable { id: "m".to_owned(), detail: "no JSON".to_owned() };
        let other = ReceiveError::OtherMessage { source_name: "s".to_owned(), id: "m".to_owned() };
        for error in [
            unreadable,
            other,
            ReceiveError::Unwritable { detail: "no JSON".to_owned() },
            ReceiveError::Invalid(too_large.clone()),
            Refusal::BeforeFirst { first: 1, sequence: 0 }.into(),
            Refusal::Beyond { sequence: u64::MAX }.into(),
            Refusal::SequenceTaken { sequence: 1 }.into(),
        ] {
            assert!(is_poison(&Settlement::of(Err(error.clone()))), "{error}");
        }
        for error in [
            ExecuteError::Append(AppendError::Invalid(too_large.clone())),
            ExecuteError::Invalid(too_large),
            ExecuteError::AnswerUnreadable { id, detail: "no JSON".to_owned() },
        ] {
            assert!(is_poison(&of_store(error.clone())), "{error}");
        }
    }

    #[test]
    fn faults_of_the_store_and_of_the_program_make_a_message_wait() {
        let detail = || "the disk".to_owned();
        let full = Refusal::Full { held: 1_000, missing: 1 };
        assert!(is_later(&Settlement::of(Err(full.into()))));
        let foreign = EventError::NotAnEnum { name: "Told" };
        for error in [
            ExecuteError::Contended { attempts: 8 },
            ExecuteError::Event(foreign),
            ExecuteError::Append(AppendError::Busy { waiting: 1 }),
            ExecuteError::Append(AppendError::Full { detail: detail() }),
            ExecuteError::Append(AppendError::Unknown { detail: detail() }),
            ExecuteError::Append(AppendError::ReadOnly { detail: detail() }),
            ExecuteError::Read(ReadError::Io { detail: detail() }),
            ExecuteError::Read(ReadError::Busy { waiting: 1 }),
            ExecuteError::Read(ReadError::Damaged { place: detail(), detail: detail() }),
        ] {
            assert!(is_later(&of_store(error.clone())), "{error}");
        }
    }

    #[test]
    fn a_closed_store_takes_nothing_more_and_a_repetition_is_taken() {
        for error in [
            ExecuteError::Append(AppendError::Closed),
            ExecuteError::Append(AppendError::Read(ReadError::Closed)),
            ExecuteError::Read(ReadError::Closed),
        ] {
            assert_eq!(of_store(error), Settlement::Closed);
        }
        let again = Settlement::of(Ok(Receipt::Duplicate));
        assert_eq!(again, Settlement::Taken(Receipt::Duplicate));
    }
}
