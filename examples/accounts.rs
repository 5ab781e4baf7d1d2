//! People sign up with a user name and an e-mail address of their own, rename themselves, and
//! leave; of a thousand who want one name at the same moment exactly one gets it, and of who has
//! left nothing is left. The pattern is uniqueness as a decision: it reads whatever was ever said
//! about the name and the address, and is decided anew if something is said in the meantime; a
//! secret is made safe, and personal data sealed, before it can become an event. Leave it where a
//! name only has to be unique within one aggregate: there the aggregate's own fold knows.

use std::error::Error;

use argon2::password_hash::{self, PasswordHasher, PasswordVerifier, phc};
use argon2::{Argon2, Params};
use leftfold::personal::{Erasure, Keys, KeysError, Opened, Personal};
use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

// ANCHOR: password
/// What a person types. No event can hold it: it is neither `Serialize` nor `Debug`.
struct Password(String);

impl Password {
    /// Slow on purpose, so it happens once, before the decision, which may be repeated.
    fn hash(&self) -> Result<PasswordHash, password_hash::Error> {
        let params =
            if cfg!(test) { Params::new(Params::MIN_M_COST, 1, 1, None)? } else { Params::DEFAULT };
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
        parsed.is_ok_and(|hash| {
            Argon2::default().verify_password(password.0.as_bytes(), &hash).is_ok()
        })
    }
}

/// A name as it is compared: `Ada` and `ada` are one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct UserName(String);

impl UserName {
    fn new(text: &str) -> Self {
        Self(text.trim().to_lowercase())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Email(String);

impl Email {
    fn new(text: &str) -> Self {
        Self(text.trim().to_lowercase())
    }
}

/// Everything of a person is sealed with the key of that person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Profile {
    /// Drawn by whoever asks; a UUID, in earnest.
    account: String,
    name: Personal<UserName>,
    email: Personal<Email>,
    password: Personal<PasswordHash>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum AccountEvent {
    SignedUp(Profile),
    Renamed { account: String, from: Personal<UserName>, to: Personal<UserName> },
    Closed { account: String, name: Personal<UserName>, email: Personal<Email> },
}

impl AccountEvent {
    /// Whether somebody has the name after the event, if it was so before or not.
    fn leaves_taken(&self, wanted: &Personal<UserName>, before: bool) -> bool {
        let is_it = |name: &Personal<UserName>| name.tag() == wanted.tag();
        match self {
            AccountEvent::SignedUp(Profile { name, .. })
            | AccountEvent::Renamed { to: name, .. }
                if is_it(name) =>
            {
                true
            }
            AccountEvent::Renamed { from: name, .. } | AccountEvent::Closed { name, .. }
                if is_it(name) =>
            {
                false
            }
            _ => before,
        }
    }
}

// ANCHOR: tags
impl Event for AccountEvent {
    const NAMESPACE: &'static str = "account";

    /// Whoever asks for a name finds all that took it and all that gave it back.
    fn tags(&self) -> Tags {
        match self {
            AccountEvent::SignedUp(Profile { account, name, email, .. })
            | AccountEvent::Closed { account, name, email } => Tags::none()
                .with(account_tag(account))
                .with(name.tag().to_owned())
                .with(email.tag().to_owned()),
            AccountEvent::Renamed { account, from, to } => Tags::none()
                .with(account_tag(account))
                .with(from.tag().to_owned())
                .with(to.tag().to_owned()),
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

#[derive(Clone, Debug)]
struct SignUp(Profile);

// ANCHOR: seal
impl SignUp {
    /// Seals what is personal in it, once, before the decision.
    async fn new(
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
struct Taken {
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
struct Rename {
    account: String,
    to: Personal<UserName>,
}

impl Rename {
    async fn new(keys: &Keys, account: &str, to: &str) -> Result<Self, KeysError> {
        let to = keys.subject(account).await?.seal_findable("name", &UserName::new(to)).await?;
        Ok(Self { account: account.to_owned(), to })
    }
}

#[derive(Default)]
struct Renaming {
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

// What concerns one account alone: an aggregate over the same events.

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    profile: Option<Profile>,
}

#[derive(Clone, Debug)]
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
        let Profile { account, name, email, .. } =
            self.profile.clone().ok_or(AccountRefusal::NoAccount)?;
        Ok(vec![AccountEvent::Closed { account, name, email }])
    }
}

// ANCHOR: forget
/// Closes the account, which gives its name and address back, and forgets whose it was.
async fn leave(keys: &Keys, account: &str) -> Result<Erasure, Box<dyn Error>> {
    keys.store().aggregate::<Account>().execute(account, Close).await?;
    Ok(keys.forget(account).await?)
}
// ANCHOR_END: forget

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    // A directory of their own: a backup of the log must not bring keys back.
    let keys = leftfold::open_keys(&store, format!("{}-keys", place.path())).await?;

    let sign_up = async |account, name, email, password: &'static str| {
        let password = tokio::task::spawn_blocking(|| Password(password.into()).hash()).await??;
        let sign_up = SignUp::new(&keys, account, name, email, password).await?;
        tell(&format!("{name} <{email}> signs up"), store.decide(&sign_up).await)
    };
    let rename = async |account: &str, to| {
        let rename = Rename::new(&keys, account, to).await?;
        tell(&format!("{account} wants to be {to}"), store.decide(&rename).await)
    };

    sign_up("1", "Ada", "ada@example.org", "correct horse").await?;
    sign_up("2", "ada", "lovelace@example.org", "battery staple").await?;
    sign_up("2", "Grace", "ADA@example.org", "battery staple").await?;
    rename("1", "countess").await?;
    sign_up("2", "ada", "lovelace@example.org", "battery staple").await?;
    rename("1", "ada").await?;

    let grace = profile(&store, "2").await?;
    let receipt = leave(&keys, "2").await?;
    println!("2 leaves, and has a receipt: {receipt}");
    keys.verify(&receipt).await?;
    println!("2 was called {:?}", keys.open(&grace.name).await?);
    rename("1", "ada").await?;

    let ada = profile(&store, "1").await?;
    println!("1 is called {:?}", keys.open(&ada.name).await?);
    if let Opened::Known(password) = keys.open(&ada.password).await? {
        println!("her password fits: {}", password.fits(&Password("correct horse".into())));
        println!("another one fits: {}", password.fits(&Password("battery staple".into())));
    }
    store.close().await?;
    Ok(())
}

async fn profile(store: &Store, account: &str) -> Result<Profile, Box<dyn Error>> {
    let loaded = store.aggregate::<Account>().load(account).await?;
    Ok(loaded.state.profile.ok_or(AccountRefusal::NoAccount)?)
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
    use leftfold::testing::explorer::{Explorer, Schedules, World};
    use leftfold::testing::given_events;
    use std::collections::HashMap;
    use std::path::Path;
    use tempfile::TempDir;

    const REFUSED_NAME: Result<(), AccountRefusal> = Err(AccountRefusal::NameTaken);

    /// The directory of a store's keys, which goes with the store.
    struct KeyPlace(TempDir);

    /// Keys of a store in memory and of an embedded log, with the second in a file.
    async fn keys_of_stores() -> [Keys; 2] {
        let [memory, log] = examples::stores().await;
        let place = log.attached(|| KeyPlace(TempDir::new().unwrap()));
        let of_log = leftfold::open_keys(&log, place.0.path().join("keys")).await.unwrap();
        [Keys::memory(&memory).await.unwrap(), of_log]
    }

    fn hashed(password: &str) -> PasswordHash {
        Password(password.into()).hash().unwrap()
    }

    async fn sign_up(
        keys: &Keys,
        account: &str,
        name: &str,
        email: &str,
    ) -> Result<(), AccountRefusal> {
        let sign_up = SignUp::new(keys, account, name, email, hashed("pa55word")).await.unwrap();
        outcome(keys.store().decide(&sign_up).await)
    }

    async fn rename(keys: &Keys, account: &str, to: &str) -> Result<(), AccountRefusal> {
        outcome(keys.store().decide(&Rename::new(keys, account, to).await.unwrap()).await)
    }

    fn outcome(done: Done) -> Result<(), AccountRefusal> {
        match done {
            Ok(_) => Ok(()),
            Err(ExecuteError::Refused(refusal)) => Err(refusal),
            Err(other) => panic!("{other}"),
        }
    }

    // ANCHOR: decision-test
    #[tokio::test]
    async fn a_name_is_taken_from_the_sign_up_until_it_is_released() {
        let keys = Keys::memory(&Store::memory()).await.unwrap();
        let ada = SignUp::new(&keys, "1", "ada", "ada@example.org", PasswordHash("x".into()))
            .await
            .unwrap();
        let other = SignUp::new(&keys, "2", "Ada", "other@example.org", PasswordHash("y".into()))
            .await
            .unwrap();
        let Rename { to, .. } = Rename::new(&keys, "1", "lovelace").await.unwrap();
        let renamed = AccountEvent::Renamed { account: "1".into(), from: ada.0.name.clone(), to };
        let signed_up = AccountEvent::SignedUp(ada.0);
        given_events([("account-1", signed_up.clone())])
            .decide(&other)
            .then_refused(AccountRefusal::NameTaken);
        given_events([("account-1", signed_up), ("account-1", renamed)])
            .decide(&other)
            .then([AccountEvent::SignedUp(other.0.clone())]);
    }
    // ANCHOR_END: decision-test

    // ANCHOR: race
    #[tokio::test(flavor = "multi_thread")]
    async fn of_a_thousand_racing_sign_ups_of_one_name_exactly_one_wins() {
        for keys in keys_of_stores().await {
            let race = |n: u32| {
                let keys = keys.clone();
                tokio::spawn(async move {
                    sign_up(&keys, &n.to_string(), "ada", &format!("{n}@example.org")).await
                })
            };
            let mut won = 0;
            for running in (0..1_000).map(race).collect::<Vec<_>>() {
                match running.await.unwrap() {
                    Ok(()) => won += 1,
                    refused => assert_eq!(refused, REFUSED_NAME),
                }
            }
            assert_eq!(won, 1);
            let signed_up = Query::types(["account.SignedUp".try_into().unwrap()]);
            assert_eq!(
                keys.store()
                    .read(Read::matching(signed_up, Position::START))
                    .all()
                    .await
                    .unwrap()
                    .len(),
                1
            );
        }
    }
    // ANCHOR_END: race

    /// Requests of people who want the same name, or the same address, sealed before they are
    /// asked.
    async fn rivals() -> ([SignUp; 3], [Rename; 2]) {
        let keys = Keys::memory(&Store::memory()).await.unwrap();
        let sign_up = async |account, name, email| {
            SignUp::new(&keys, account, name, email, PasswordHash("x".into())).await.unwrap()
        };
        let rename = async |to| Rename::new(&keys, "1", to).await.unwrap();
        let ada = sign_up("1", "ada", "ada@example.org").await;
        let rivals = [
            ada,
            sign_up("2", "Ada", "other@example.org").await,
            sign_up("3", "bea", "ADA@example.org").await,
        ];
        (rivals, [rename("countess").await, rename("ada").await])
    }

    #[test]
    fn no_crash_and_no_order_of_things_gives_one_name_to_two() {
        let ([ada, other, bea], [away, back]) =
            tokio::runtime::Runtime::new().unwrap().block_on(rivals());
        let explorer = Explorer::new().aggregate::<Account>().start(move |clients| {
            clients.client("ada").decide(ada).decide(away).decide(back);
            clients.client("other").decide(other).command::<Account>("2", Close);
            clients.client("bea").decide(bea);
        });
        let one_owner = |of: fn(&Profile) -> &str| {
            move |world: &World| {
                let mut taken: Vec<&str> = world
                    .states::<Account>()
                    .filter_map(|account| account.profile.as_ref().map(of))
                    .collect();
                taken.sort_unstable();
                taken.windows(2).all(|two| two[0] != two[1])
            }
        };
        let explorer =
            explorer.always("a name has one owner", one_owner(|profile| profile.name.tag()));
        explorer
            .always("an address has one owner", one_owner(|profile| profile.email.tag()))
            .run(Schedules(200));
    }

    /// Many want one name, get it, and give it back by a rename or by leaving, all at once.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_name_that_is_renamed_and_released_in_a_race_never_has_two_owners() {
        const PEOPLE: u32 = 20;
        for keys in keys_of_stores().await {
            let race = |n: u32| {
                let keys = keys.clone();
                tokio::spawn(async move {
                    let (id, name, stays) =
                        (n.to_string(), format!("person {n}"), !n.is_multiple_of(3));
                    sign_up(&keys, &id, &name, &format!("{n}@example.org")).await.unwrap();
                    for _ in 0..3 {
                        if rename(&keys, &id, "ada").await == Ok(()) && stays {
                            rename(&keys, &id, &name).await.unwrap();
                        }
                    }
                    if !stays {
                        leave(&keys, &id).await.unwrap();
                    }
                })
            };
            for running in (0..PEOPLE).map(race).collect::<Vec<_>>() {
                running.await.unwrap();
            }
            let taken = owners_in_turn(&keys).await;
            assert!(taken >= 1, "nobody ever had it");
            assert_eq!(sign_up(&keys, "last", "ada", "last@example.org").await, Ok(()));
        }
    }

    /// Goes through the log and follows who owns each name; returns how often a name passed on from
    /// another owner.
    async fn owners_in_turn(keys: &Keys) -> usize {
        let (mut owner, mut taken_again) = (HashMap::new(), 0);
        for event in keys
            .store()
            .read(Read::matching(Query::category("account"), Position::START))
            .all()
            .await
            .unwrap()
        {
            let event = keys.store().aggregate::<Account>().decode(&event).unwrap().remove(0);
            let (account, from, to) = match &event {
                AccountEvent::SignedUp(Profile { account, name, .. }) => {
                    (account, None, Some(name))
                }
                AccountEvent::Renamed { account, from, to } => (account, Some(from), Some(to)),
                AccountEvent::Closed { account, name, .. } => (account, Some(name), None),
            };
            if let Some(from) = from {
                assert_eq!(
                    owner.insert(from.tag().to_owned(), None),
                    Some(Some(account.clone())),
                    "{event:?}"
                );
            }
            if let Some(to) = to {
                let before = owner.insert(to.tag().to_owned(), Some(account.clone()));
                assert!(!matches!(before, Some(Some(_))), "{before:?} has it: {event:?}");
                taken_again += usize::from(before.is_some());
            }
        }
        taken_again
    }

    #[tokio::test]
    async fn names_and_addresses_are_unique_however_they_are_written() {
        for keys in keys_of_stores().await {
            assert_eq!(sign_up(&keys, "1", "Ada", "ada@example.org").await, Ok(()));
            assert_eq!(sign_up(&keys, "2", " aDA", "b@example.org").await, REFUSED_NAME);
            assert_eq!(
                sign_up(&keys, "2", "bea", "ADA@example.org").await,
                Err(AccountRefusal::EmailTaken)
            );
        }
    }

    #[tokio::test]
    async fn a_name_is_free_again_after_a_rename_and_after_its_owner_left() {
        for keys in keys_of_stores().await {
            sign_up(&keys, "1", "ada", "ada@example.org").await.unwrap();
            rename(&keys, "1", "countess").await.unwrap();
            sign_up(&keys, "2", "ada", "b@example.org").await.unwrap();
            assert_eq!(rename(&keys, "1", "ada").await, REFUSED_NAME);
            leave(&keys, "2").await.unwrap();
            assert_eq!(sign_up(&keys, "3", "countess", "b@example.org").await, REFUSED_NAME);
            assert_eq!(rename(&keys, "1", "ada").await, Ok(()));
            assert_eq!(sign_up(&keys, "3", "countess", "b@example.org").await, Ok(()));
            assert_eq!(rename(&keys, "4", "bea").await, Err(AccountRefusal::NoAccount));
        }
    }

    #[tokio::test]
    async fn a_password_fits_for_as_long_as_its_owner_is_not_forgotten() {
        for keys in keys_of_stores().await {
            sign_up(&keys, "1", "ada", "ada@example.org").await.unwrap();
            let ada = profile(keys.store(), "1").await.unwrap();
            let Opened::Known(password) = keys.open(&ada.password).await.unwrap() else {
                panic!("it is forgotten")
            };
            assert!(password.fits(&Password("pa55word".into())));
            assert!(!password.fits(&Password("password".into())));
            leave(&keys, "1").await.unwrap();
            assert_eq!(keys.open(&ada.password).await, Ok(Opened::Forgotten));
        }
    }

    // ANCHOR: files
    /// Every byte of every file below a directory.
    fn bytes_below(directory: &Path) -> Vec<u8> {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(
                |path| {
                    if path.is_dir() { bytes_below(&path) } else { std::fs::read(path).unwrap() }
                },
            )
            .collect()
    }

    #[tokio::test]
    async fn no_password_no_name_and_no_address_is_in_any_file() {
        let place = tempfile::tempdir().unwrap();
        let store = leftfold::open(place.path().join("log").to_str().unwrap()).await.unwrap();
        let keys = leftfold::open_keys(&store, place.path().join("keys")).await.unwrap();
        sign_up(&keys, "1", "lovelace", "ada@example.org").await.unwrap();
        rename(&keys, "1", "countess").await.unwrap();
        store.close().await.unwrap();
        let bytes = bytes_below(place.path());
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(holds("account.SignedUp"));
        for secret in ["pa55word", "$argon2", "lovelace", "countess", "ada@example", "example.org"]
        {
            assert!(!holds(secret), "{secret}");
        }
    }
    // ANCHOR_END: files
}
