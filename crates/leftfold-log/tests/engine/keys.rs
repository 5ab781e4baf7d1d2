//! The key store in a directory: what it acknowledged it has, what it destroyed is nowhere, at
//! whichever line it crashed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leftfold_core::personal::{
    DestroyedKey, KeyId, KeyState, KeyStore, KeyStoreError, Keys, KeysError, Lookup, Opened,
    Personal, SubjectKey, Token,
};
use leftfold_core::store::{Label, Store, Timestamp};
use leftfold_log::disk::{Disk, DiskUse, Fault, Simulated};
use leftfold_log::{KeyFile, KeyFileError};

use crate::support::Folder;

fn label(text: &str) -> Label {
    Label::try_from(text).unwrap()
}

fn open(disk: &Simulated) -> KeyFile {
    KeyFile::open_on(Arc::new(disk.clone())).unwrap()
}

async fn drawn(keys: &KeyFile, subject: &str) -> Result<SubjectKey, KeyStoreError> {
    match keys.draw(label(subject)).await? {
        KeyState::Held(key) => Ok(key),
        KeyState::Destroyed(_) => panic!("{subject} is forgotten"),
    }
}

fn value_of(number: u8) -> Lookup {
    Lookup { name: label("email"), hash: [number; 16] }
}

fn destroyed(key: &SubjectKey) -> DestroyedKey {
    DestroyedKey { id: key.id, subject: key.subject.clone(), at: Timestamp::from_micros(7) }
}

/// All that is in any file.
fn bytes_of(disk: &Simulated) -> Vec<u8> {
    let names = disk.names().unwrap();
    names.iter().flat_map(|name| disk.content(name).unwrap()).collect()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn the_key_file_keeps_the_contract() {
    let disk = Simulated::new(1);
    leftfold_testing::key_store::conformance(async || open(&disk)).await;
}

/// Requests to a key store that it said it carried out.
#[derive(Default)]
struct Acknowledged {
    held: BTreeMap<KeyId, SubjectKey>,
    tokens: Vec<(Lookup, KeyId, Token)>,
    /// Anyone who asked for a token of a value may have it, answered or not.
    asked: Vec<(Lookup, KeyId)>,
    destroyed: Vec<SubjectKey>,
    /// It may be destroyed or not.
    in_doubt: BTreeSet<KeyId>,
}

impl Acknowledged {
    async fn draw(&mut self, keys: &KeyFile, subject: &str) -> Option<SubjectKey> {
        let key = drawn(keys, subject).await.ok()?;
        self.held.insert(key.id, key.clone());
        Some(key)
    }

    async fn token(&mut self, keys: &KeyFile, value: u8, owner: Option<&SubjectKey>) {
        let (value, Some(owner)) = (value_of(value), owner) else { return };
        self.asked.push((value.clone(), owner.id));
        if let Ok(Some(token)) = keys.token(value.clone(), owner.id, Timestamp::MIN).await {
            self.tokens.push((value, owner.id, token));
        }
    }

    async fn destroy(&mut self, keys: &KeyFile, key: Option<SubjectKey>) {
        let Some(key) = key else { return };
        match keys.destroy(destroyed(&key)).await {
            Ok(()) => {
                self.held.remove(&key.id);
                self.destroyed.push(key);
            }
            Err(_) => drop(self.in_doubt.insert(key.id)),
        }
    }

    /// Takes a value from one who outlived another who had it.
    async fn release(&mut self, keys: &KeyFile, value: u8, owner: Option<&SubjectKey>) {
        let (value, Some(owner)) = (value_of(value), owner) else { return };
        self.tokens.retain(|(of, by, _)| (of, *by) != (&value, owner.id));
        if keys.release(vec![(value.clone(), owner.id)]).await.is_ok() {
            self.asked.retain(|(of, by)| (of, *by) != (&value, owner.id));
        }
    }

    /// A life with everything in it, up to where it ends.
    async fn life(disk: &Simulated) -> Self {
        let mut all = Self::default();
        let Ok(keys) = KeyFile::open_on(Arc::new(disk.clone())) else { return all };
        let ada = all.draw(&keys, "ada").await;
        let bob = all.draw(&keys, "bob").await;
        all.token(&keys, 1, ada.as_ref()).await;
        all.token(&keys, 1, bob.as_ref()).await;
        all.token(&keys, 2, ada.as_ref()).await;
        all.destroy(&keys, ada).await;
        all.release(&keys, 1, bob.as_ref()).await;
        let eve = all.draw(&keys, "eve").await;
        all.token(&keys, 2, eve.as_ref()).await;
        all.destroy(&keys, eve).await;
        all.draw(&keys, "zoe").await;
        all
    }

    /// Everything that was acknowledged is so, and what was destroyed is nowhere.
    async fn check(&self, keys: &KeyFile, disk: &Simulated, story: &str) {
        let bytes = bytes_of(disk);
        assert!(
            !disk.names().unwrap().contains(&"keys.new".to_owned()),
            "keys are left aside: {story}"
        );
        for key in self.destroyed.iter() {
            assert_eq!(
                keys.key(key.id).await.unwrap(),
                Some(KeyState::Destroyed(destroyed(key))),
                "{story}"
            );
            assert!(!holds(&bytes, &key.secret.0), "a destroyed key is in a file: {story}");
        }
        for (id, key) in &self.held {
            let state = keys.key(*id).await.unwrap();
            let is_held = state == Some(KeyState::Held(key.clone()));
            assert!(
                is_held
                    || self.in_doubt.contains(id)
                        && state == Some(KeyState::Destroyed(destroyed(key))),
                "{story}: {state:?}"
            );
            assert_eq!(is_held, holds(&bytes, &key.secret.0), "{story}");
        }
        for (value, owner, token) in &self.tokens {
            if matches!(keys.key(*owner).await.unwrap(), Some(KeyState::Held(_))) {
                assert_eq!(keys.find(value.clone()).await.unwrap(), Some(*token), "{story}");
            }
            let mut owners = self.asked.iter().filter(|(of, _)| of == value);
            let gone = owners.all(|(_, owner)| self.destroyed.iter().any(|key| key.id == *owner));
            if gone {
                assert!(!holds(&bytes, &token.0) && !holds(&bytes, &value.hash), "{story}");
            }
        }
        let again = drawn(keys, "new").await.unwrap();
        assert_eq!(drawn(keys, "new").await.unwrap(), again, "{story}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_whichever_line_a_crash_comes_at() {
    let mut points = 0;
    for kind in DiskUse::CHANGES {
        for nth in 1.. {
            let mut reached = false;
            for seed in 0..12 {
                let disk = Simulated::new(seed);
                disk.plan(kind, nth, Fault::Stop);
                let story = format!("seed {seed}, stopped at {kind:?} {nth}");
                let all = Acknowledged::life(&disk).await;
                reached |= disk.is_stopped();
                let disk = disk.crash();
                let keys = KeyFile::open_on(Arc::new(disk.clone()))
                    .unwrap_or_else(|error| panic!("{story}: {error}"));
                all.check(&keys, &disk, &story).await;
                points += 1;
            }
            if !reached {
                break;
            }
        }
    }
    assert!(points > 200, "{points}");
}

#[tokio::test]
async fn a_disk_that_fails_is_told_of_and_what_was_acknowledged_stays() {
    for fault in [Fault::Fail, Fault::Lack] {
        for kind in DiskUse::CHANGES {
            for (nth, seed) in (1..12).flat_map(|nth| (0..4).map(move |seed| (nth, seed))) {
                let disk = Simulated::new(seed);
                disk.plan(kind, nth, fault);
                let story = format!("seed {seed}, {fault:?} at {kind:?} {nth}");
                let all = Acknowledged::life(&disk).await;
                let disk = disk.kill();
                let keys = open(&disk);
                all.check(&keys, &disk, &story).await;
            }
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let disk = Simulated::new(1);
    let keys = open(&disk);
    let ada = drawn(&keys, "ada").await.unwrap();
    disk.set_room(Some(20));
    assert!(matches!(drawn(&keys, "bob").await, Err(KeyStoreError::Failed { .. })));
    assert!(matches!(keys.destroy(destroyed(&ada)).await, Err(KeyStoreError::Failed { .. })));
    disk.set_room(None);
    keys.destroy(destroyed(&ada)).await.unwrap();
    disk.set_room(Some(200));
    assert!(matches!(drawn(&keys, &"x".repeat(250)).await, Err(KeyStoreError::Failed { .. })));
    disk.set_room(None);
    // It is shorter than what the failed write left.
    let bob = drawn(&keys, "bob").await.unwrap();
    drop(keys);
    let keys = open(&disk);
    assert_eq!(keys.key(bob.id).await.unwrap(), Some(KeyState::Held(bob)));
    assert_eq!(keys.key(ada.id).await.unwrap(), Some(KeyState::Destroyed(destroyed(&ada))));
}

/// A reader that still has the old file open, such as a running backup, finds nothing in it either.
#[tokio::test]
async fn the_bytes_of_the_former_file_are_overwritten() {
    let disk = Simulated::new(1);
    let keys = open(&disk);
    let ada = drawn(&keys, "ada").await.unwrap();
    let former = disk.open("keys").unwrap();
    keys.destroy(destroyed(&ada)).await.unwrap();
    // The next answer comes after all that was done for this one.
    drawn(&keys, "bob").await.unwrap();
    let mut bytes = vec![1; former.len().unwrap() as usize];
    former.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn a_torn_end_is_cut_and_damage_before_the_end_is_told_with_its_place() {
    let disk = Simulated::new(1);
    let keys = open(&disk);
    let ada = drawn(&keys, "ada").await.unwrap();
    let before = disk.content("keys").unwrap().len();
    drawn(&keys, "bob").await.unwrap();
    drop(keys);
    let whole = disk.content("keys").unwrap();
    let with = |bytes: &[u8]| {
        let disk = Simulated::new(1);
        let file = disk.create("keys").unwrap();
        file.write_all_at(bytes, 0).unwrap();
        disk
    };
    for len in before..whole.len() {
        let disk = with(&whole[..len]);
        let keys = open(&disk);
        assert_eq!(
            keys.key(ada.id).await.unwrap(),
            Some(KeyState::Held(ada.clone())),
            "{len} bytes"
        );
        assert_eq!(keys.key_of(label("bob")).await.unwrap(), None);
        let bob = drawn(&keys, "bob").await.unwrap();
        drop(keys);
        assert_eq!(open(&disk).key(bob.id).await.unwrap(), Some(KeyState::Held(bob)));
    }
    for at in 0..before {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let error = KeyFile::open_on(Arc::new(with(&bytes))).unwrap_err();
            assert!(
                matches!(error, KeyFileError::Damaged { .. } | KeyFileError::OtherRelease { .. }),
                "bit {bit} of {at}: {error}"
            );
        }
    }
    for len in 0..64 {
        let error = KeyFile::open_on(Arc::new(with(&whole[..len]))).unwrap_err();
        assert!(matches!(error, KeyFileError::Damaged { offset: 0, .. }), "{len} bytes: {error}");
    }
}

#[tokio::test]
async fn many_at_once_get_what_each_asked_for() {
    let disk = Simulated::new(1);
    let keys = open(&disk);
    let asked: Vec<_> =
        (0..300).map(|n| (n % 100, keys.draw(label(&format!("subject {}", n % 100))))).collect();
    let mut of = BTreeMap::new();
    for (subject, pending) in asked {
        let KeyState::Held(key) = pending.await.unwrap() else { panic!("destroyed") };
        assert_eq!(*of.entry(subject).or_insert(key.id), key.id);
    }
    assert_eq!(of.len(), 100);
    let value = value_of(1);
    let tokens: Vec<_> =
        of.values().map(|owner| keys.token(value.clone(), *owner, Timestamp::MIN)).collect();
    let mut all = BTreeSet::new();
    for token in tokens {
        all.insert(token.await.unwrap().unwrap().0);
    }
    assert_eq!(all.len(), 1);
    let gone: Vec<_> = of
        .values()
        .map(|id| keys.destroy(DestroyedKey { id: *id, subject: label("x"), at: Timestamp::MIN }))
        .collect();
    for gone in gone {
        gone.await.unwrap();
    }
    assert_eq!(
        (keys.find(value).await.unwrap(), keys.destroyed().await.unwrap().len()),
        (None, 100)
    );
}

#[test]
fn a_directory_that_is_another_s_is_refused() {
    let disk = Simulated::new(1);
    let keys = open(&disk);
    let in_use = KeyFile::open_on(Arc::new(disk.clone())).unwrap_err();
    assert!(matches!(in_use, KeyFileError::InUse { .. }), "{in_use}");
    drop(keys);
    disk.create("log-000000000001.seg").unwrap();
    let foreign = KeyFile::open_on(Arc::new(disk)).unwrap_err();
    assert!(
        matches!(&foreign, KeyFileError::Foreign { file, .. } if file.starts_with("log")),
        "{foreign}"
    );
}

/// A lock file was left in it.
#[test]
fn a_directory_that_is_another_s_is_left_as_it_was() {
    let folder = Folder::new("foreign-to-keys");
    std::fs::create_dir_all(&folder.0).unwrap();
    std::fs::write(folder.0.join("photo.jpg"), "a photo").unwrap();
    let foreign = KeyFile::open(&folder.0).unwrap_err();
    assert!(
        matches!(&foreign, KeyFileError::Foreign { file, .. } if file == "photo.jpg"),
        "{foreign}"
    );
    let names = std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["photo.jpg"]);
}

/// A key file with keys, a token and a forgotten subject; and the same before the last of them.
async fn key_files() -> (Vec<u8>, Vec<u8>, [SubjectKey; 3]) {
    let disk = Simulated::new(1);
    let keys = open(&disk);
    let (ada, bob) = (drawn(&keys, "ada").await.unwrap(), drawn(&keys, "bob").await.unwrap());
    keys.token(value_of(1), bob.id, Timestamp::MIN).await.unwrap();
    keys.destroy(destroyed(&ada)).await.unwrap();
    let older = disk.content("keys").unwrap();
    let eve = drawn(&keys, "eve").await.unwrap();
    drop(keys);
    (older, disk.content("keys").unwrap(), [ada, bob, eve])
}

/// Whatever becomes of the file: either an error that leads to a copy, or no key but those that
/// were there. A file that lost what was last appended to it opens, as after a crash; one that lost
/// more than that was opened without any key.
#[tokio::test]
async fn a_damaged_key_file_is_refused_or_has_what_it_had() {
    let (older, whole, [ada, bob, eve]) = key_files().await;
    let judge = async |what: String, bytes: &[u8]| {
        let disk = Simulated::new(1);
        disk.create("keys").unwrap().write_all_at(bytes, 0).unwrap();
        let keys = match KeyFile::open_on(Arc::new(disk)) {
            Ok(keys) => keys,
            Err(error) => {
                let leads = matches!(
                    error,
                    KeyFileError::Damaged { .. } | KeyFileError::OtherRelease { .. }
                );
                let text = error.to_string();
                assert!(
                    leads && !text.contains("empty") && !text.contains("new key"),
                    "{what}: {error:?}"
                );
                assert!(text.contains("copy") || text.contains("release"), "{what}: {text}");
                return false;
            }
        };
        for key in [&bob, &eve] {
            let found = keys.key(key.id).await.unwrap();
            assert!(
                found.is_none() || found == Some(KeyState::Held(key.clone())),
                "{what}: {found:?}"
            );
            let found = keys.key_of(key.subject.clone()).await.unwrap();
            assert!(
                found.is_none() || found == Some(KeyState::Held(key.clone())),
                "{what}: {found:?}"
            );
        }
        let forgotten = keys.key(ada.id).await.unwrap();
        assert_eq!(forgotten, Some(KeyState::Destroyed(destroyed(&ada))), "{what}");
        true
    };
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        // What the last append wrote may be taken for one that never became durable; nothing before
        // it is.
        assert!(
            !judge(format!("byte {at}"), &bytes).await || at >= older.len(),
            "byte {at} is not looked at"
        );
    }
    for len in 0..whole.len() {
        let opened = judge(format!("{len} bytes"), &whole[..len]).await;
        assert!(!opened || len >= older.len(), "of {len} bytes a part is taken for all");
    }
    let (_, foreign, _) = key_files().await;
    let mut pieced = foreign[..64].to_vec();
    pieced.extend_from_slice(&whole[64..]);
    assert!(!judge("behind the header of another key store".to_owned(), &pieced).await);
    assert!(!judge("a header alone".to_owned(), &whole[..64]).await);
    assert!(judge("an older copy".to_owned(), &older).await);
    assert!(!judge("nothing".to_owned(), &[]).await);
    assert!(
        !judge(
            "a log".to_owned(),
            b"LEFTFOLD and what follows, which is longer than any header of a key file is."
        )
        .await
    );
}

/// The keys of a store are compared with its key store when it is opened: keys that are gone, or
/// those of another store.
#[tokio::test]
async fn a_store_whose_key_file_is_gone_or_another_s_says_so_and_begins_no_new_one() {
    let store = Store::memory();
    let disk = Simulated::new(1);
    let keys = Keys::of(&store, open(&disk)).await.unwrap();
    keys.subject("ada").await.unwrap().seal(&"ada@example.org".to_owned()).unwrap();
    drop(keys);
    for (what, other) in [("gone", Simulated::new(2)), ("another's", Simulated::new(3))] {
        if what != "gone" {
            drawn(&open(&other), "ada").await.unwrap();
        }
        let before = bytes_of(&other);
        let error = Keys::of(&store, open(&other)).await.unwrap_err();
        assert!(
            matches!(error, KeysError::Lost { .. } | KeysError::Foreign { .. }),
            "{what}: {error:?}"
        );
        assert!(!error.to_string().contains("empty"), "{what}: {error}");
        assert_eq!(bytes_of(&other), before, "{what}");
    }
}

#[tokio::test]
async fn nothing_is_written_before_the_first_key() {
    let disk = Simulated::new(1);
    let keys = open(&disk);
    assert!(keys.identity().is_empty);
    assert_eq!(keys.token(value_of(1), KeyId([1; 16]), Timestamp::MIN).await.unwrap(), None);
    assert_eq!((disk.count(DiskUse::Create), disk.count(DiskUse::Write)), (0, 0));
    drawn(&keys, "ada").await.unwrap();
    let id = keys.identity().id;
    drop(keys);
    assert_eq!(open(&disk).identity().id, id);
}

/// Format 1, as the first release wrote it: what was sealed then is opened, found, or known as
/// forgotten.
#[tokio::test]
async fn a_stored_key_file_is_read_as_it_always_was() {
    const ADA: &str = "personal1.96774ba780fe604e3540c2829351beb2.jAI9aYhYrdmuLwEbK4-3fiVur8HQGc9jpH2vSocTV4G8mJ9PDBAHfsvqUXauQVTw-ZuPQIqHxGh38PzfbnJCC0GwHHIz3-ku.email:adadd15619b36d6c6a967d5cee9e582d";
    const BOB: &str = "personal1.bf39a42c26f75304fbe7a18f39cdd781.NWePqbqEdJNLoy-t3i0nCTkXY6J_YBYZPC4PfHAA5Ro6jAWpbLAsNHDih36Q64J0dU7bPkjwT6SF-foZpV4mgSLmrSZjytzf.email:3b4738060a60431200f314d603fb7cd8";
    let disk = Simulated::new(1);
    let stored = std::fs::read("tests/old/keys/keys").unwrap();
    disk.create("keys").unwrap().write_all_at(&stored, 0).unwrap();
    let keys = Keys::of(&Store::memory(), open(&disk)).await.unwrap();
    let [ada, bob]: [Personal<String>; 2] = [ADA, BOB].map(|sealed| sealed.parse().unwrap());
    let of = |name: &str| format!("{name}@example.org");
    assert_eq!(keys.open(&ada).await, Ok(Opened::Known(of("ada"))));
    assert_eq!(keys.find("email", &of("ada")).await.unwrap().unwrap(), ada.tag());
    assert_eq!(keys.open(&bob).await, Ok(Opened::Forgotten));
    assert_eq!(keys.find("email", &of("bob")).await, Ok(None));
    assert_eq!(keys.forget("bob").await.unwrap().at.to_string(), "2026-11-29T14:51:17.779122Z");
}
