//! Who gets a name in a race, who has it in turn, and what is left of who leaves.

use super::*;
use crate::profile::PasswordHash;
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
    let ada =
        SignUp::new(&keys, "1", "ada", "ada@example.org", PasswordHash("x".into())).await.unwrap();
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
    let explorer = explorer.always("a name has one owner", one_owner(|profile| profile.name.tag()));
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
        assert_eq!(sign_up(&keys, "last", "ada", "last@example.org").await, Ok(()));
        let taken = owners_in_turn(&keys).await;
        assert!(taken >= 1, "nobody had it before");
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
            AccountEvent::SignedUp(Profile { account, name, .. }) => (account, None, Some(name)),
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
    for secret in ["pa55word", "$argon2", "lovelace", "countess", "ada@example", "example.org"] {
        assert!(!holds(secret), "{secret}");
    }
}
// ANCHOR_END: files
