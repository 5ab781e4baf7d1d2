//! A bank of a hundred customers forgets fifty: nothing of them is in any file, and everything else
//! goes on.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leftfold::copy::{Copy, Transformed};
use leftfold::fold::{Aggregate, Event, Recorded, SnapshotPolicy};
use leftfold::log::KeyFile;
use leftfold::personal::{
    Erasure, KeyState, KeyStore, Keys, KeysError, Opened, Personal, Secret, SubjectForgotten,
};
use leftfold::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold::runtime::projection::{
    Bus, Memory, Message, Outbox, Outgoing, Projection, ProjectionError,
};
use leftfold::runtime::{Attempt, Begin, Conclusion, Effect, Performed, Policy, Runtime};
use leftfold::store::{EventType, Label, Position, Query, Store, Tags, Version};
use leftfold::{OpenKeysError, open_keys};
use leftfold_sqlite::Sqlite;
use leftfold_sqlite::rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum AccountEvent {
    Opened { customer: String, name: Personal<String>, iban: Personal<String> },
    Greeted { name: Personal<String> },
    LetterAsked(Letter),
    LetterSent {},
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Letter {
    to: Personal<String>,
}

impl Event for AccountEvent {
    const NAMESPACE: &'static str = "account";

    fn tags(&self) -> Tags {
        match self {
            AccountEvent::Opened { iban, .. } => Tags::none().with(iban.tag().to_owned()),
            _ => Tags::none(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum AccountCommand {
    Open { customer: String, name: Personal<String>, iban: Personal<String> },
    Greet { name: Personal<String> },
    NoteLetter {},
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    name: Option<Personal<String>>,
    letters: u32,
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Event = AccountEvent;
    type Command = AccountCommand;
    type Refusal = No;

    fn apply(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Opened { name, .. } | AccountEvent::Greeted { name } => {
                self.name = Some(name.clone())
            }
            AccountEvent::LetterAsked(_) => {}
            AccountEvent::LetterSent {} => self.letters += 1,
        }
    }

    fn decide(&self, command: &AccountCommand) -> Result<Vec<AccountEvent>, No> {
        Ok(match command.clone() {
            AccountCommand::Open { customer, name, iban } => {
                vec![AccountEvent::Opened { customer, name, iban }]
            }
            AccountCommand::Greet { name } => {
                vec![
                    AccountEvent::Greeted { name: name.clone() },
                    AccountEvent::LetterAsked(Letter { to: name }),
                ]
            }
            AccountCommand::NoteLetter {} => vec![AccountEvent::LetterSent {}],
        })
    }

    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(1)
    }
}

/// The name goes through a state, a record of a command, and an event.
#[derive(Default)]
struct Greeting;

impl Process for Greeting {
    const NAME: &'static str = "greeting";
    type Event = AccountEvent;

    fn targets() -> Targets {
        Targets::of::<Account>()
    }

    fn correlate(event: &Recorded<AccountEvent>) -> Correlation {
        match event.event {
            AccountEvent::Opened { .. } => Correlation::starts(event.stream_id()),
            _ => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<AccountEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<AccountEvent>, context: &Context) -> Reaction {
        match trigger {
            Trigger::Event(AccountEvent::Opened { name, .. }) => Reaction::none()
                .command::<Account>(
                    &context.stream_id,
                    AccountCommand::Greet { name: name.clone() },
                ),
            _ => Reaction::none(),
        }
    }
}

// ANCHOR: post
/// Letters are posted to anyone who is known when it is time.
struct Post {
    keys: Keys,
    posted: Arc<Mutex<Vec<String>>>,
}

impl Effect for Post {
    const NAME: &'static str = "post";
    const INTENT: &'static str = "account.LetterAsked";
    type Intent = Letter;
    type Outcome = ();
    type Target = Account;

    fn policy(&self) -> Policy {
        Policy::once()
    }

    fn begins(&self) -> Begin {
        Begin::History
    }

    async fn perform(&self, attempt: &Attempt<Letter>) -> Performed<()> {
        match self.keys.open(&attempt.intent.to).await {
            Ok(Opened::Known(name)) => self.posted.lock().unwrap().push(name),
            Ok(Opened::Forgotten) => {}
            Err(error) => return Performed::NotDone { reason: error.to_string() },
        }
        Performed::Done(())
    }

    fn report(
        &self,
        attempt: &Attempt<Letter>,
        _: &Conclusion<()>,
    ) -> Option<(String, AccountCommand)> {
        let stream = attempt.event.stream.as_ref()?;
        Some((stream.name.id().to_owned(), AccountCommand::NoteLetter {}))
    }
}
// ANCHOR_END: post

// ANCHOR: clear
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Fact {
    #[serde(rename = "account.Opened")]
    Opened { customer: String, name: Personal<String>, iban: Personal<String> },
    #[serde(rename = "$personal.Forgotten")]
    Forgotten(SubjectForgotten),
}

impl Event for Fact {
    const NAMESPACE: &'static str = "fact";
}

/// Rows in the clear, that are deleted when their customer is forgotten.
struct Clear(Keys);

impl Projection<Sqlite> for Clear {
    const NAME: &'static str = "clear";
    type Event = Fact;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        Ok(rows.execute_batch(
            "CREATE TABLE owners (customer TEXT PRIMARY KEY, name TEXT, iban TEXT); CREATE INDEX n ON owners (name)",
        )?)
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<Fact>,
    ) -> Result<(), ProjectionError> {
        match &event.event {
            Fact::Opened { customer, name, iban } => {
                if let (Opened::Known(name), Opened::Known(iban)) =
                    (self.0.open(name).await?, self.0.open(iban).await?)
                {
                    rows.execute(
                        "INSERT INTO owners VALUES (?1, ?2, ?3)",
                        params![customer, name, iban],
                    )?;
                }
            }
            Fact::Forgotten(SubjectForgotten { subject, .. }) => {
                rows.execute("DELETE FROM owners WHERE customer = ?1", [subject])?;
            }
        }
        Ok(())
    }
}
// ANCHOR_END: clear

// ANCHOR: sealed
/// Rows with what is sealed, that are opened when they are shown: these need to learn nothing.
struct Sealed;

impl Projection<Sqlite> for Sealed {
    const NAME: &'static str = "sealed";
    type Event = Fact;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        Ok(rows.execute_batch("CREATE TABLE owners (customer TEXT PRIMARY KEY, name TEXT)")?)
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<Fact>,
    ) -> Result<(), ProjectionError> {
        if let Fact::Opened { customer, name, .. } = &event.event {
            rows.execute("INSERT INTO owners VALUES (?1, ?2)", params![customer, name.as_str()])?;
        }
        Ok(())
    }
}
// ANCHOR_END: sealed

struct Names(Keys);

impl Projection<Memory<BTreeSet<String>>> for Names {
    const NAME: &'static str = "names";
    type Event = Fact;

    async fn apply(
        &self,
        rows: &mut BTreeSet<String>,
        event: &Recorded<Fact>,
    ) -> Result<(), ProjectionError> {
        if let Fact::Opened { name, .. } = &event.event {
            rows.extend(self.0.open(name).await?.known());
        }
        Ok(())
    }
}

/// The broker is somebody else: what it is sent is gone.
#[derive(Clone, Default)]
struct Broker(Arc<Mutex<usize>>);

impl Bus for Broker {
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
        *self.0.lock().unwrap() += messages.len();
        Ok(())
    }
}

struct Statements(Keys);

impl Projection<Outbox<Broker>> for Statements {
    const NAME: &'static str = "statements";
    type Event = Fact;

    async fn apply(
        &self,
        outgoing: &mut Outgoing,
        event: &Recorded<Fact>,
    ) -> Result<(), ProjectionError> {
        if let Fact::Opened { iban, .. } = &event.event
            && let Opened::Known(iban) = self.0.open(iban).await?
        {
            outgoing.send("statements", "", iban);
        }
        Ok(())
    }
}

const CUSTOMERS: usize = 100;

/// Every other one is forgotten.
fn is_forgotten(number: usize) -> bool {
    number.is_multiple_of(2)
}

fn name_of(number: usize) -> String {
    format!("Ottilie-{number}-Quastenflosser")
}

fn iban_of(number: usize) -> String {
    format!("DE{:020}", 98_765_432_109_u64 * (number as u64 + 1))
}

/// Everything of a bank, in one directory.
struct Bank {
    home: PathBuf,
    store: Store,
    key_file: Arc<KeyFile>,
    keys: Keys,
}

impl Bank {
    async fn open(home: &Path) -> Self {
        let store = leftfold::open(home.join("log").to_str().unwrap()).await.unwrap();
        let key_file = Arc::new(KeyFile::open(home.join("keys")).unwrap());
        let keys = Keys::of(&store, key_file.clone()).await.unwrap();
        Self { home: home.to_owned(), store, key_file, keys }
    }

    async fn close(self) {
        self.store.close().await.unwrap();
    }

    async fn open_accounts(&self) {
        for number in 0..CUSTOMERS {
            let customer = number.to_string();
            let subject = self.keys.subject(&customer).await.unwrap();
            let name = subject.seal(&name_of(number)).unwrap();
            let iban = subject.seal_findable("iban", &iban_of(number)).await.unwrap();
            let open = AccountCommand::Open { customer: customer.clone(), name, iban };
            self.store.aggregate::<Account>().execute(&customer, open).await.unwrap();
        }
    }

    fn rows(&self, place: &str) -> Sqlite {
        Sqlite::at(self.home.join(place))
    }

    fn read_models(&self, place: &str, names: &Memory<BTreeSet<String>>) -> Runtime {
        let rows = self.rows(place);
        Runtime::new(&self.store)
            .project(Clear(self.keys.clone()), rows.clone().erasing())
            .project(Sealed, rows)
            .project(Names(self.keys.clone()), names.clone())
    }

    async fn secrets(&self) -> Vec<Secret> {
        let mut secrets = Vec::new();
        for number in 0..CUSTOMERS {
            match self
                .key_file
                .key_of(Label::try_from(&*number.to_string()).unwrap())
                .await
                .unwrap()
            {
                Some(KeyState::Held(key)) => secrets.push(key.secret),
                other => panic!("{other:?}"),
            }
        }
        secrets
    }

    fn owners(&self, place: &str) -> BTreeSet<String> {
        let read = self.rows(place).reader::<Clear>().read(|rows| {
            let mut statement = rows.prepare("SELECT name FROM owners")?;
            let names = statement.query_map([], |row| row.get::<_, String>(0))?;
            names.collect::<Result<BTreeSet<String>, _>>()
        });
        read.unwrap()
    }
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Lists the files below a directory that have any of these in them, as it is, or in the digits of
/// base 16.
fn holding(directory: &Path, parts: &[Vec<u8>]) -> Vec<PathBuf> {
    let hex = |part: &Vec<u8>| {
        part.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()
    };
    let parts: Vec<Vec<u8>> = parts.iter().flat_map(|part| [part.clone(), hex(part)]).collect();
    let beginnings: HashSet<[u8; 8]> =
        parts.iter().map(|part| *part.first_chunk().unwrap()).collect();
    let has_any = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        let begins =
            |(at, window): (usize, &[u8])| beginnings.contains(window).then_some(&bytes[at..]);
        let mut begun = bytes.windows(8).enumerate().filter_map(begins);
        begun.any(|rest| parts.iter().any(|part| rest.starts_with(part)))
    };
    files(directory).into_iter().filter(has_any).collect()
}

fn data_of(numbers: impl Iterator<Item = usize>) -> Vec<Vec<u8>> {
    numbers.flat_map(|number| [name_of(number), iban_of(number)]).map(String::into_bytes).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(path, target).unwrap();
    }
}

const WITHIN: Duration = Duration::from_secs(60);

/// Iterates over the numbers of those who are forgotten.
fn gone() -> impl Iterator<Item = usize> {
    (0..CUSTOMERS).filter(|number| is_forgotten(*number))
}

/// Backups that are made now: of the directories, and by a copy into a new store.
async fn back_up(bank: Bank) {
    let home = bank.home.clone();
    let new = leftfold::open(home.join("copy/log").to_str().unwrap()).await.unwrap();
    let copying = Copy::from(&bank.store).into(&new).through(|_| Transformed::Keep);
    copying.run_until_caught_up().await.unwrap();
    copying.switch().await.unwrap();
    assert!(copying.verify().await.unwrap().is_sound());
    new.close().await.unwrap();
    bank.close().await;
    for part in ["log", "rows", "keys"] {
        copy(&home.join(part), &home.join("backup").join(part));
    }
    copy(&home.join("keys"), &home.join("copy/keys"));
}

/// Checks what a bank knows of the forgotten, and of the others, when it is opened again and
/// everything is rebuilt.
async fn check_anew(home: &Path, receipts: &[String], first: &Account) {
    let bank = Bank::open(home).await;
    for receipt in receipts {
        let receipt: Erasure = receipt.parse().unwrap();
        let held = bank.keys.verify(&receipt).await;
        // A copy into a new store is another store, and has receipts of its own.
        let receipt = if home.ends_with("copy") {
            bank.keys.forget(&receipt.subject).await.unwrap()
        } else {
            receipt
        };
        assert_eq!(held.is_ok(), !home.ends_with("copy"));
        bank.keys.verify(&receipt).await.unwrap();
    }
    let then = bank.store.aggregate::<Account>().load_at("0", Version(1)).await.unwrap();
    assert_eq!(then.state, *first);
    assert_eq!(bank.keys.open(&then.state.name.unwrap()).await.unwrap(), Opened::Forgotten);
    assert_eq!(bank.keys.find("iban", &iban_of(0)).await.unwrap(), None);
    assert!(bank.keys.find("iban", &iban_of(1)).await.unwrap().is_some());
    let known: BTreeSet<String> =
        (0..CUSTOMERS).filter(|number| !is_forgotten(*number)).map(name_of).collect();
    let names = Memory::new();
    bank.read_models("rebuilt", &names).run_until_idle().await.unwrap();
    assert_eq!((names.read(Clone::clone).await, bank.owners("rebuilt")), (known.clone(), known));
    bank.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_who_were_forgotten_nothing_is_in_any_file_and_everything_is_built_anew() {
    let place = tempfile::tempdir().unwrap();
    let home = place.path();
    let bank = Bank::open(home).await;
    bank.open_accounts().await;
    let (posted, broker, names) =
        (Arc::<Mutex<Vec<String>>>::default(), Broker::default(), Memory::new());
    let runtime = bank.read_models("rows", &names).process::<Greeting>();
    let runtime = runtime.effect(Post { keys: bank.keys.clone(), posted: posted.clone() });
    let outbox = Outbox::new(&bank.store, broker.clone());
    let running = runtime.project(Statements(bank.keys.clone()), outbox).start().await.unwrap();
    // Opened, greeted, a letter asked for and sent.
    let sent = Query::types([EventType::new("account.LetterSent").unwrap()]);
    let mut sent = bank.store.subscribe(sent, Position::START);
    for _ in 0..CUSTOMERS {
        tokio::time::timeout(WITHIN, sent.event()).await.unwrap().unwrap();
    }
    let caught_up = async |name| {
        running.projections().wait_until(name, bank.store.head().position, WITHIN).await.unwrap();
    };
    for name in ["clear", "sealed", "names", "statements"] {
        caught_up(name).await;
    }
    assert_eq!((posted.lock().unwrap().len(), *broker.0.lock().unwrap()), (CUSTOMERS, CUSTOMERS));
    assert_eq!(bank.owners("rows").len(), CUSTOMERS);
    let first = bank.store.aggregate::<Account>().load_at("0", Version(1)).await.unwrap().state;
    let secrets = bank.secrets().await;
    // Rows in the clear show that names would be found.
    let found = holding(home, &data_of(0..CUSTOMERS));
    assert!(
        !found.is_empty() && found.iter().all(|path| path.starts_with(home.join("rows"))),
        "{found:?}"
    );

    let mut receipts: Vec<String> = Vec::new();
    for number in gone() {
        receipts.push(bank.keys.forget(&number.to_string()).await.unwrap().to_string());
    }
    for name in ["clear", "sealed", "names"] {
        caught_up(name).await;
    }
    let secret = |number: usize| secrets[number].0.to_vec();
    let erased: Vec<Vec<u8>> = data_of(gone()).into_iter().chain(gone().map(secret)).collect();
    assert_eq!(holding(home, &erased), Vec::<PathBuf>::new(), "while everything runs");
    running.stop().await.unwrap();
    back_up(bank).await;
    assert_eq!(holding(home, &erased), Vec::<PathBuf>::new(), "in files, or in backups");
    let kept: Vec<Vec<u8>> =
        (0..CUSTOMERS).filter(|number| !is_forgotten(*number)).map(secret).collect();
    assert!(holding(home, &kept).iter().all(|path| path.ends_with("keys/keys")));

    for home in [home.to_owned(), home.join("backup"), home.join("copy")] {
        check_anew(&home, &receipts, &first).await;
    }
    assert_eq!(holding(home, &erased), Vec::<PathBuf>::new(), "after everything was rebuilt");
}

async fn bank_of_one(home: &Path) -> Bank {
    let bank = Bank::open(home).await;
    let subject = bank.keys.subject("1").await.unwrap();
    let (name, iban) = (
        subject.seal(&name_of(1)).unwrap(),
        subject.seal_findable("iban", &iban_of(1)).await.unwrap(),
    );
    let open = AccountCommand::Open { customer: "1".to_owned(), name, iban };
    bank.store.aggregate::<Account>().execute("1", open).await.unwrap();
    bank
}

#[tokio::test]
async fn keys_that_were_lost_or_are_others_are_named_and_those_of_the_store_are_right_again() {
    let place = tempfile::tempdir().unwrap();
    let (home, other) = (place.path().join("home"), place.path().join("other"));
    bank_of_one(&home).await.close().await;
    bank_of_one(&other).await.close().await;
    let open = async |keys: &Path| {
        let store = leftfold::open(home.join("log").to_str().unwrap()).await.unwrap();
        let opened = open_keys(&store, keys).await;
        let name = store.aggregate::<Account>().load("1").await.unwrap().state.name.unwrap();
        let seen = match &opened {
            Ok(keys) => Ok(keys.open(&name).await.unwrap()),
            Err(error) => Err(error.clone()),
        };
        store.close().await.unwrap();
        seen
    };
    let lost = open(&home.join("elsewhere")).await.unwrap_err();
    assert!(matches!(lost, OpenKeysError::Keys(KeysError::Lost { .. })), "{lost}");
    assert!(lost.to_string().contains("elsewhere"), "{lost}");
    let foreign = open(&other.join("keys")).await.unwrap_err();
    assert!(matches!(foreign, OpenKeysError::Keys(KeysError::Foreign { .. })), "{foreign}");
    assert_eq!(open(&home.join("keys")).await.unwrap(), Opened::Known(name_of(1)));
    // The log's own directory is no place for keys.
    let mixed = KeyFile::open(home.join("log")).unwrap_err();
    assert!(mixed.to_string().contains("a directory of their own"), "{mixed}");
}

#[tokio::test]
async fn keys_that_are_brought_back_from_before_a_forgetting_are_destroyed_again() {
    let place = tempfile::tempdir().unwrap();
    let home = place.path();
    let bank = bank_of_one(home).await;
    let secret = match bank.key_file.key_of(Label::try_from("1").unwrap()).await.unwrap() {
        Some(KeyState::Held(key)) => key.secret.0.to_vec(),
        other => panic!("{other:?}"),
    };
    std::fs::create_dir(home.join("saved")).unwrap();
    std::fs::copy(home.join("keys/keys"), home.join("saved/keys")).unwrap();
    let receipt = bank.keys.forget("1").await.unwrap();
    bank.close().await;
    std::fs::copy(home.join("saved/keys"), home.join("keys/keys")).unwrap();
    assert_eq!(holding(&home.join("keys"), std::slice::from_ref(&secret)).len(), 1);

    let bank = Bank::open(home).await;
    assert_eq!(holding(&home.join("keys"), &[secret]), Vec::<PathBuf>::new());
    assert_eq!(bank.keys.verify(&receipt).await, Ok(()));
    assert_eq!(bank.keys.forget("1").await, Ok(receipt));
    let name = bank.store.aggregate::<Account>().load("1").await.unwrap().state.name.unwrap();
    assert_eq!(bank.keys.open(&name).await, Ok(Opened::Forgotten));
}
