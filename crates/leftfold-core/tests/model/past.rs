//! The state now, at a version, at a moment; and the history with its metadata.

use leftfold_core::fold::{Answer, Cause};
use leftfold_core::store::{Label, Position, Store, Timestamp, Version};

use crate::probe::Probe;
use crate::purse::{Do, Purse, put, taken};

#[tokio::test]
async fn the_state_of_what_does_not_exist_is_the_default_at_version_0() {
    let purses = Store::memory().aggregate::<Purse>();
    for folded in [
        purses.load("1").await.unwrap(),
        purses.load_at("1", Version(3)).await.unwrap(),
        purses.load_at("1", Timestamp::MAX).await.unwrap(),
    ] {
        assert_eq!(
            (folded.state, folded.version, folded.position),
            (Purse::default(), Version::ABSENT, Position::START)
        );
    }
    assert_eq!(purses.history("1", Version(1)).unwrap().all().await.unwrap(), []);
}

#[tokio::test]
async fn the_state_at_a_version_and_at_its_moment_are_the_fold_up_to_there() {
    let purses = Store::memory().aggregate::<Purse>();
    for coins in 1..=9 {
        purses.execute("1", Do::Put(coins)).await.unwrap();
        purses.execute("other", Do::Put(100)).await.unwrap();
    }
    let now = purses.load("1").await.unwrap();
    assert_eq!((now.state.coins, now.version, now.position), (45, Version(9), Position(17)));
    for recorded in purses.history("1", Version(1)).unwrap().all().await.unwrap() {
        let (version, at) = (recorded.version(), recorded.recorded_at());
        let then = purses.load_at("1", version).await.unwrap();
        assert_eq!(then.state.coins, version.0 * (version.0 + 1) / 2);
        assert_eq!((then.version, then.position), (version, recorded.envelope.position));
        assert_eq!(then, purses.load_at("1", at).await.unwrap());
        let before =
            purses.load_at("1", at.minus(std::time::Duration::from_micros(1))).await.unwrap();
        assert_eq!(before.version.0, version.0 - 1);
    }
    assert_eq!(purses.load_at("1", Version::ABSENT).await.unwrap().state.coins, 0);
    assert_eq!(purses.load_at("1", Timestamp::MIN).await.unwrap().state.coins, 0);
    assert_eq!(purses.load_at("1", Version(1_000)).await.unwrap(), now);
    assert_eq!(purses.load_at("1", Timestamp::MAX).await.unwrap(), now);
}

#[tokio::test]
async fn several_events_of_one_append_have_one_moment_and_each_its_version() {
    let purses = Store::memory().aggregate::<Purse>();
    purses.commands("1", vec![Do::Put(1), Do::Put(2), Do::Put(3)]).execute().await.unwrap();
    let history = purses.history("1", Version(1)).unwrap().all().await.unwrap();
    assert_eq!(purses.load_at("1", history[0].recorded_at()).await.unwrap().version, Version(3));
    assert_eq!(purses.load_at("1", Version(2)).await.unwrap().state.coins, 3);
}

#[tokio::test]
async fn history_begins_where_it_is_asked_to_and_carries_the_metadata() {
    let purses = Store::memory().aggregate::<Purse>();
    purses.execute("1", Do::Put(1)).await.unwrap();
    let asked = Cause::message("mail-7").unwrap();
    purses.command("1", Do::Put(2)).caused_by(asked).metadata("by ann").execute().await.unwrap();
    let second = purses.history("1", Version(2)).unwrap().next().await.unwrap().unwrap();
    assert_eq!((&second.event, second.version()), (&put(2), Version(2)));
    let label = |text: &str| Some(Label::try_from(text).unwrap());
    let metadata = second.envelope.metadata.clone();
    assert_eq!((metadata.causation, metadata.correlation), (label("mail-7"), label("mail-7")));
    assert_eq!(&metadata.user[..], b"by ann");

    purses.command("2", Do::Put(3)).caused_by(&second.envelope).execute().await.unwrap();
    let caused =
        purses.history("2", Version(0)).unwrap().next().await.unwrap().unwrap().envelope.metadata;
    assert_eq!(
        (caused.causation, caused.correlation),
        (label(&second.envelope.id.to_string()), label("mail-7"))
    );
    assert_eq!(purses.history("1", Version(3)).unwrap().all().await.unwrap(), []);
}

#[tokio::test]
async fn a_history_of_many_pages_is_whole() {
    let purses = Store::memory().aggregate::<Purse>();
    for _ in 0..3 {
        purses.record("1", &vec![put(1); 5_000]).await.unwrap();
    }
    purses.execute("1", Do::Take(15_000)).await.unwrap();
    let history = purses.history("1", Version(1)).unwrap().all().await.unwrap();
    assert_eq!((history.len(), &history[15_000].event), (15_001, &taken(15_000)));
    assert!(
        history.iter().zip(1..).all(|(recorded, version)| recorded.version() == Version(version))
    );
    assert_eq!(purses.load_at("1", Version(12_345)).await.unwrap().state.coins, 12_345);
}

#[tokio::test]
async fn nothing_answers_once_the_store_is_closed() {
    let probe = Probe::default();
    let store = probe.store();
    let purses = store.aggregate::<Purse>();
    let done = purses.execute("1", Do::Put(1)).await.unwrap();
    assert_eq!(done.answer, Answer::First);
    store.close().await.unwrap();
    assert!(purses.execute("1", Do::Put(1)).await.is_err());
    assert!(purses.load("1").await.is_err());
    assert!(purses.record("1", &[put(1)]).await.is_err());
}
