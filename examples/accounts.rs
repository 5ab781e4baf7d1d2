//! People sign up with a user name and an e-mail address of their own, rename themselves, and leave; of a thousand who
//! want one name at the same moment exactly one gets it.
//! The pattern is uniqueness as a decision: it reads whatever was ever said about the name and the address, and is
//! decided anew where something is said in the meantime; a secret is made safe before it can become an event.
//! Leave it where a name only has to be unique within one aggregate: there the aggregate's own fold knows.

use std::error::Error;

use argon2::password_hash::{self, PasswordHasher, PasswordVerifier, phc};
use argon2::{Argon2, Params};
use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

// ANCHOR: password
/// What a person types. No event can hold it: it is neither `Serialize` nor `Debug`.
struct Password(String);

impl Password {
    /// Slow on purpose, so it happens once, before the decision, which may be repeated.
    fn hash(&self) -> Result<PasswordHash, password_hash::Error> {
        let params = if cfg!(test) { Params::new(Params::MIN_M_COST, 1, 1, None)? } else { Params::DEFAULT };
        let hash: phc::PasswordHash = Argon2::from(params).hash_password(self.0.as_bytes())?;
        Ok(PasswordHash(hash.to_string()))
    }
}
// ANCHOR_END: password

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PasswordHash(String);

impl PasswordHash {
    fn fits(&self, password: &Password) -> bool {
        let parsed = phc::PasswordHash::new(&self.0);
        parsed.is_ok_and(|hash| Argon2::default().verify_password(password.0.as_bytes(), &hash).is_ok())
    }
}

/// A name as it is compared: `Ada` and `ada` are one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct UserName(String);

impl UserName {
    fn new(text: &str) -> Self {
        Self(text.trim().to_lowercase())
    }

    fn tag(&self) -> String {
        format!("name:{}", self.0)
    }

    /// Whether somebody has the name after an event, where it was so before or not.
    fn taken_after(&self, event: &AccountEvent, before: bool) -> bool {
        match event {
            AccountEvent::SignedUp(Profile { name, .. }) | AccountEvent::Renamed { to: name, .. } if name == self => true,
            AccountEvent::Renamed { from: name, .. } | AccountEvent::Closed { name, .. } if name == self => false,
            _ => before,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Email(String);

impl Email {
    fn new(text: &str) -> Self {
        Self(text.trim().to_lowercase())
    }

    fn tag(&self) -> String {
        format!("email:{}", self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Profile {
    /// Drawn by whoever asks; a UUID, in earnest.
    account: String,
    name: UserName,
    email: Email,
    password: PasswordHash,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum AccountEvent {
    SignedUp(Profile),
    Renamed { account: String, from: UserName, to: UserName },
    Closed { account: String, name: UserName, email: Email },
}

// ANCHOR: tags
impl Event for AccountEvent {
    const NAMESPACE: &'static str = "account";

    /// Whoever asks for a name finds all that took it and all that gave it back.
    fn tags(&self) -> Tags {
        match self {
            AccountEvent::SignedUp(Profile { account, name, email, .. }) | AccountEvent::Closed { account, name, email } => {
                Tags::none().with(account_tag(account)).with(name.tag()).with(email.tag())
            }
            AccountEvent::Renamed { account, from, to } => {
                Tags::none().with(account_tag(account)).with(from.tag()).with(to.tag())
            }
        }
    }
}
// ANCHOR_END: tags

fn account_tag(account: &str) -> String {
    format!("account:{account}")
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
enum AccountRefusal {
    #[error("the name is taken")]
    NameTaken,
    #[error("the e-mail address is taken")]
    EmailTaken,
    #[error("there is no such account")]
    NoAccount,
}

// What concerns all accounts: decisions.

struct SignUp(Profile);

impl SignUp {
    fn new(account: &str, name: &str, email: &str, password: PasswordHash) -> Self {
        Self(Profile { account: account.into(), name: UserName::new(name), email: Email::new(email), password })
    }
}

// ANCHOR: sign-up
#[derive(Default)]
struct Taken {
    name: bool,
    email: bool,
}

impl Decision for SignUp {
    type Event = AccountEvent;
    type State = Taken;
    type Refusal = AccountRefusal;

    fn query(&self) -> Query {
        Query::tag(self.0.name.tag()).or(Query::tag(self.0.email.tag()))
    }

    fn apply(&self, taken: &mut Taken, event: &AccountEvent) {
        taken.name = self.0.name.taken_after(event, taken.name);
        match event {
            AccountEvent::SignedUp(Profile { email, .. }) if *email == self.0.email => taken.email = true,
            AccountEvent::Closed { email, .. } if *email == self.0.email => taken.email = false,
            _ => {}
        }
    }

    fn decide(&self, taken: &Taken) -> Result<Decided<AccountEvent>, AccountRefusal> {
        match taken {
            Taken { name: true, .. } => Err(AccountRefusal::NameTaken),
            Taken { email: true, .. } => Err(AccountRefusal::EmailTaken),
            _ => Ok(Decided::event(format!("account-{}", self.0.account), AccountEvent::SignedUp(self.0.clone()))),
        }
    }
}
// ANCHOR_END: sign-up

struct Rename {
    account: String,
    to: UserName,
}

#[derive(Default)]
struct Renaming {
    current: Option<UserName>,
    taken: bool,
}

impl Decision for Rename {
    type Event = AccountEvent;
    type State = Renaming;
    type Refusal = AccountRefusal;

    fn query(&self) -> Query {
        Query::tag(account_tag(&self.account)).or(Query::tag(self.to.tag()))
    }

    fn apply(&self, renaming: &mut Renaming, event: &AccountEvent) {
        renaming.taken = self.to.taken_after(event, renaming.taken);
        match event {
            AccountEvent::SignedUp(Profile { account, name, .. }) | AccountEvent::Renamed { account, to: name, .. } => {
                if *account == self.account {
                    renaming.current = Some(name.clone());
                }
            }
            AccountEvent::Closed { account, .. } if *account == self.account => renaming.current = None,
            AccountEvent::Closed { .. } => {}
        }
    }

    fn decide(&self, renaming: &Renaming) -> Result<Decided<AccountEvent>, AccountRefusal> {
        let from = renaming.current.clone().ok_or(AccountRefusal::NoAccount)?;
        if from == self.to {
            return Ok(Decided::nothing());
        }
        if renaming.taken {
            return Err(AccountRefusal::NameTaken);
        }
        let renamed = AccountEvent::Renamed { account: self.account.clone(), from, to: self.to.clone() };
        Ok(Decided::event(format!("account-{}", self.account), renamed))
    }
}

// What concerns one account alone: an aggregate over the same events.

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    profile: Option<Profile>,
}

struct Close;

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Event = AccountEvent;
    type Command = Close;
    type Refusal = AccountRefusal;

    fn apply(&mut self, event: &AccountEvent) {
        match (event, &mut self.profile) {
            (AccountEvent::SignedUp(profile), mine) => *mine = Some(profile.clone()),
            (AccountEvent::Renamed { to, .. }, Some(profile)) => profile.name = to.clone(),
            (AccountEvent::Renamed { .. }, None) => {}
            (AccountEvent::Closed { .. }, mine) => *mine = None,
        }
    }

    fn decide(&self, Close: &Close) -> Result<Vec<AccountEvent>, AccountRefusal> {
        let Profile { account, name, email, .. } = self.profile.clone().ok_or(AccountRefusal::NoAccount)?;
        Ok(vec![AccountEvent::Closed { account, name, email }])
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let accounts = store.aggregate::<Account>();

    let sign_up = async |account, name, email, password: &'static str| {
        let password = tokio::task::spawn_blocking(|| Password(password.into()).hash()).await??;
        let sign_up = SignUp::new(account, name, email, password);
        tell(&format!("{name} <{email}> signs up"), store.decide(&sign_up).await)
    };
    let rename = async |account: &str, to| {
        let rename = Rename { account: account.into(), to: UserName::new(to) };
        tell(&format!("{account} wants to be {to}"), store.decide(&rename).await)
    };

    sign_up("1", "Ada", "ada@example.org", "correct horse").await?;
    sign_up("2", "ada", "lovelace@example.org", "battery staple").await?;
    sign_up("2", "Grace", "ADA@example.org", "battery staple").await?;
    rename("1", "countess").await?;
    sign_up("2", "ada", "lovelace@example.org", "battery staple").await?;
    rename("1", "ada").await?;
    tell("2 leaves", accounts.execute("2", Close).await)?;
    rename("1", "ada").await?;

    if let Some(ada) = accounts.load("1").await?.state.profile {
        println!("her password fits: {}", ada.password.fits(&Password("correct horse".into())));
        println!("another one fits: {}", ada.password.fits(&Password("battery staple".into())));
    }
    store.close().await?;
    Ok(())
}

type Done = Result<Executed<AccountEvent>, ExecuteError<AccountRefusal>>;

/// Prints how it went. A refusal belongs to the story, anything else ends it.
fn tell(what: &str, done: Done) -> Result<(), Box<dyn Error>> {
    match done {
        Ok(_) => println!("{what}: done"),
        Err(ExecuteError::Refused(no)) => println!("{what}: {no}"),
        Err(other) => return Err(other.into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use leftfold::store::Read;
    use leftfold::testing::given_events;

    const REFUSED_NAME: Result<(), AccountRefusal> = Err(AccountRefusal::NameTaken);

    async fn sign_up(store: &Store, account: &str, name: &str, email: &str) -> Result<(), AccountRefusal> {
        let password = Password("pa55word".into()).hash().unwrap();
        outcome(store.decide(&SignUp::new(account, name, email, password)).await)
    }

    async fn rename(store: &Store, account: &str, to: &str) -> Result<(), AccountRefusal> {
        outcome(store.decide(&Rename { account: account.into(), to: UserName::new(to) }).await)
    }

    fn outcome(done: Done) -> Result<(), AccountRefusal> {
        match done {
            Ok(_) => Ok(()),
            Err(ExecuteError::Refused(refusal)) => Err(refusal),
            Err(other) => panic!("{other}"),
        }
    }

    // ANCHOR: decision-test
    #[test]
    fn a_name_is_taken_from_the_sign_up_until_it_is_released() {
        let ada = || SignUp::new("1", "ada", "ada@example.org", PasswordHash("x".into()));
        let other = SignUp::new("2", "Ada", "other@example.org", PasswordHash("y".into()));
        let (signed_up, renamed) = (
            AccountEvent::SignedUp(ada().0),
            AccountEvent::Renamed { account: "1".into(), from: UserName::new("ada"), to: UserName::new("lovelace") },
        );
        given_events([("account-1", signed_up.clone())]).decide(&other).then_refused(AccountRefusal::NameTaken);
        given_events([("account-1", signed_up), ("account-1", renamed)])
            .decide(&other)
            .then([AccountEvent::SignedUp(other.0.clone())]);
    }
    // ANCHOR_END: decision-test

    // ANCHOR: race
    #[tokio::test(flavor = "multi_thread")]
    async fn of_a_thousand_racing_sign_ups_of_one_name_exactly_one_wins() {
        let store = Store::memory();
        let race = |n: u32| {
            let store = store.clone();
            tokio::spawn(async move { sign_up(&store, &n.to_string(), "ada", &format!("{n}@example.org")).await })
        };
        let mut won = 0;
        for running in (0..1_000).map(race).collect::<Vec<_>>() {
            match running.await.unwrap() {
                Ok(()) => won += 1,
                refused => assert_eq!(refused, REFUSED_NAME),
            }
        }
        assert_eq!(won, 1);
        assert_eq!(store.head().position, Position(1));
    }
    // ANCHOR_END: race

    #[tokio::test]
    async fn names_and_addresses_are_unique_however_they_are_written() {
        let store = Store::memory();
        assert_eq!(sign_up(&store, "1", "Ada", "ada@example.org").await, Ok(()));
        assert_eq!(sign_up(&store, "2", " aDA", "b@example.org").await, REFUSED_NAME);
        assert_eq!(sign_up(&store, "2", "bea", "ADA@example.org").await, Err(AccountRefusal::EmailTaken));
    }

    #[tokio::test]
    async fn a_name_is_free_again_after_a_rename_and_after_its_owner_left() {
        let store = Store::memory();
        sign_up(&store, "1", "ada", "ada@example.org").await.unwrap();
        rename(&store, "1", "countess").await.unwrap();
        sign_up(&store, "2", "ada", "b@example.org").await.unwrap();
        assert_eq!(rename(&store, "1", "ada").await, REFUSED_NAME);
        store.aggregate::<Account>().execute("2", Close).await.unwrap();
        assert_eq!(sign_up(&store, "3", "countess", "b@example.org").await, REFUSED_NAME);
        assert_eq!(rename(&store, "1", "ada").await, Ok(()));
        assert_eq!(sign_up(&store, "3", "countess", "b@example.org").await, Ok(()));
        assert_eq!(rename(&store, "2", "bea").await, Err(AccountRefusal::NoAccount));
    }

    #[tokio::test]
    async fn no_password_is_in_the_log_and_it_fits_all_the_same() {
        let store = Store::memory();
        sign_up(&store, "1", "ada", "ada@example.org").await.unwrap();
        for event in store.read(Read::matching(Query::everything(), Position::START)).all().await.unwrap() {
            assert!(!format!("{event:?}").contains("pa55word"), "{event:?}");
        }
        let ada = store.aggregate::<Account>().load("1").await.unwrap().state.profile.unwrap();
        assert!(ada.password.fits(&Password("pa55word".into())));
        assert!(!ada.password.fits(&Password("password".into())));
    }
}
