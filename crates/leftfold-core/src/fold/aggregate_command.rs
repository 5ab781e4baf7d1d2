//! Commands on one aggregate, with all that a caller says beside them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::aggregate::{Aggregate, Aggregates};
use super::command::{Alongside, Identified, Origin, Remember};
use super::execute::CommandAlongside;
use super::metadata::origin_methods;
use crate::store::{CommandId, Version};

/// One or several commands on one aggregate, to be executed.
#[must_use = "a command does nothing until it is executed"]
pub struct Command<A: Aggregate> {
    pub(super) aggregates: Aggregates<A>,
    pub(super) id: String,
    pub(super) commands: Vec<A::Command>,
    pub(super) expecting: Option<Version>,
    pub(super) origin: Origin,
    pub(super) remember: Option<Remember<A::Refusal>>,
}

impl<A: Aggregate> Command<A> {
    /// Names the request, so that it takes effect at most once: a repetition is answered as the
    /// first time. The call that follows says how another request under the same id is found out.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::fold::Answer;
    /// use leftfold_core::store::Store;
    /// use wallet::{Wallet, WalletCommand};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wallets = Store::memory().aggregate::<Wallet>();
    /// let send = || {
    ///     let command = wallets.command("ada", WalletCommand::Deposit { cents: 500 });
    ///     command.id("POST /deposits by ada", "f3a9").request(br#"{"cents":500}"#)
    /// };
    /// let first = send().execute().await?;
    /// let again = send().execute().await?;
    /// assert_eq!((first.answer, again.answer), (Answer::First, Answer::Again));
    /// assert_eq!(again.events, first.events);
    /// assert_eq!(wallets.load("ada").await?.state.cents, 500);
    /// # Ok(()) }
    /// ```
    pub fn id(self, scope: &str, key: &str) -> Identified<Self> {
        self.with_id(CommandId::new(scope, key))
    }

    /// The same with an id that is there already.
    pub fn with_id(self, id: CommandId) -> Identified<Self> {
        Identified::new(self, id, |command| &mut command.origin)
    }

    origin_methods!();

    /// The same, with the origin that another builder collected.
    pub(crate) fn of_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// States the version that the caller saw: if there were events since, nothing is done and they
    /// come with the error. With [`Version::ABSENT`] the aggregate must be new.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::fold::ExecuteError;
    /// use leftfold_core::store::{Mismatch, Store, Version};
    /// use wallet::{Wallet, WalletCommand};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wallets = Store::memory().aggregate::<Wallet>();
    /// wallets.execute("ada", WalletCommand::Deposit { cents: 500 }).await?;
    ///
    /// // A page that was loaded before the deposit.
    /// let stale = wallets.command("ada", WalletCommand::Withdraw { cents: 1 });
    /// let error = stale.expecting(Version::ABSENT).execute().await.unwrap_err();
    /// assert_eq!(error.mismatch(), Some(Mismatch::AlreadyThere));
    /// let ExecuteError::Stale { since, .. } = error else { unreachable!("it is a conflict") };
    /// assert_eq!(&*since[0].event_type, "wallet.Deposited");
    /// # Ok(()) }
    /// ```
    pub fn expecting(mut self, version: Version) -> Self {
        self.expecting = Some(version);
        self
    }

    /// Keeps a refusal too, and gives it again to a repetition. Without this a refused request may
    /// be tried again.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::fold::ExecuteError;
    /// use leftfold_core::store::Store;
    /// use wallet::{Overdrawn, Wallet, WalletCommand};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wallets = Store::memory().aggregate::<Wallet>();
    /// let send = || {
    ///     let command = wallets.command("ada", WalletCommand::Withdraw { cents: 500 });
    ///     command.id("withdrawals", "7").request(b"500").remembering_refusal().execute()
    /// };
    /// assert_eq!(send().await, Err(ExecuteError::Refused(Overdrawn { cents: 0 })));
    ///
    /// // The answer stays what it was, though the wallet has enough by now.
    /// wallets.execute("ada", WalletCommand::Deposit { cents: 900 }).await?;
    /// assert_eq!(send().await, Err(ExecuteError::Refused(Overdrawn { cents: 0 })));
    /// # Ok(()) }
    /// ```
    pub fn remembering_refusal(mut self) -> Self
    where
        A::Refusal: Serialize + DeserializeOwned,
    {
        self.remember = Some(Remember::as_json());
        self
    }

    /// Adds parts that go into the same append.
    pub(crate) fn alongside(self, alongside: Alongside) -> CommandAlongside<A> {
        CommandAlongside { command: self, alongside }
    }
}
