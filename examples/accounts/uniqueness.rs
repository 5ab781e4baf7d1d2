//! Rules across all accounts: decisions about names and addresses that nobody else may have.

use leftfold::personal::{Keys, KeysError, Personal};
use leftfold::prelude::*;

use crate::account::{AccountEvent, AccountRefusal, account_tag};
use crate::profile::{Email, PasswordHash, Profile, UserName};

#[derive(Clone, Debug)]
pub(crate) struct SignUp(pub(crate) Profile);

// ANCHOR: seal
impl SignUp {
    /// Seals what is personal in it, once, before the decision.
    pub(crate) async fn new(
        keys: &Keys,
        account: &str,
        name: &str,
        email: &str,
        password: PasswordHash,
    ) -> Result<Self, KeysError> {
        let person = keys.subject(account).await?;
        Ok(Self(Profile {
            account: account.to_owned(),
            name: person.seal_findable("name", &UserName::new(name)).await?,
            email: person.seal_findable("email", &Email::new(email)).await?,
            password: person.seal(&password)?,
        }))
    }
}
// ANCHOR_END: seal

// ANCHOR: sign-up
#[derive(Default)]
pub(crate) struct Taken {
    name: bool,
    email: bool,
}

impl Decision for SignUp {
    type Event = AccountEvent;
    type State = Taken;
    type Refusal = AccountRefusal;

    fn query(&self) -> Query {
        Query::tag(self.0.name.tag().to_owned()).or(Query::tag(self.0.email.tag().to_owned()))
    }

    fn apply(&self, taken: &mut Taken, event: &AccountEvent) {
        taken.name = event.leaves_taken(&self.0.name, taken.name);
        match event {
            AccountEvent::SignedUp(Profile { email, .. }) if email.tag() == self.0.email.tag() => {
                taken.email = true
            }
            AccountEvent::Closed { email, .. } if email.tag() == self.0.email.tag() => {
                taken.email = false
            }
            _ => {}
        }
    }

    fn decide(&self, taken: &Taken) -> Result<Decided<AccountEvent>, AccountRefusal> {
        match taken {
            Taken { name: true, .. } => Err(AccountRefusal::NameTaken),
            Taken { email: true, .. } => Err(AccountRefusal::EmailTaken),
            _ => Ok(Decided::event(
                format!("account-{}", self.0.account),
                AccountEvent::SignedUp(self.0.clone()),
            )),
        }
    }
}
// ANCHOR_END: sign-up

#[derive(Clone, Debug)]
pub(crate) struct Rename {
    account: String,
    pub(crate) to: Personal<UserName>,
}

impl Rename {
    pub(crate) async fn new(keys: &Keys, account: &str, to: &str) -> Result<Self, KeysError> {
        let to = keys.subject(account).await?.seal_findable("name", &UserName::new(to)).await?;
        Ok(Self { account: account.to_owned(), to })
    }
}

#[derive(Default)]
pub(crate) struct Renaming {
    current: Option<Personal<UserName>>,
    taken: bool,
}

impl Decision for Rename {
    type Event = AccountEvent;
    type State = Renaming;
    type Refusal = AccountRefusal;

    fn query(&self) -> Query {
        Query::tag(account_tag(&self.account)).or(Query::tag(self.to.tag().to_owned()))
    }

    fn apply(&self, renaming: &mut Renaming, event: &AccountEvent) {
        renaming.taken = event.leaves_taken(&self.to, renaming.taken);
        match event {
            AccountEvent::SignedUp(Profile { account, name, .. })
            | AccountEvent::Renamed { account, to: name, .. } => {
                if *account == self.account {
                    renaming.current = Some(name.clone());
                }
            }
            AccountEvent::Closed { account, .. } if *account == self.account => {
                renaming.current = None
            }
            AccountEvent::Closed { .. } => {}
        }
    }

    fn decide(&self, renaming: &Renaming) -> Result<Decided<AccountEvent>, AccountRefusal> {
        let from = renaming.current.clone().ok_or(AccountRefusal::NoAccount)?;
        if from.tag() == self.to.tag() {
            return Ok(Decided::nothing());
        }
        if renaming.taken {
            return Err(AccountRefusal::NameTaken);
        }
        let renamed =
            AccountEvent::Renamed { account: self.account.clone(), from, to: self.to.clone() };
        Ok(Decided::event(format!("account-{}", self.account), renamed))
    }
}
