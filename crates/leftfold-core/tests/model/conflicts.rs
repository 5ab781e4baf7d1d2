//! Others write too: decided again, on fresh state, a bounded number of times.

use leftfold_core::fold::{ATTEMPTS_MAX, ExecuteError};
use leftfold_core::store::Version;

use crate::probe::Probe;
use crate::purse::{Do, Purse, put, refused, rival_takes, taken};

#[tokio::test]
async fn a_conflict_reads_only_what_is_new_and_decides_again() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    purses.record("1", &[put(1), put(1), put(3)]).await.unwrap();
    purses.load("1").await.unwrap();
    probe.reads_from();
    probe.rival(rival_takes("1", 2));
    let done = purses.execute("1", Do::FillTo(6)).await.unwrap();
    assert_eq!((done.events, done.version), (vec![put(3)], Version(5)));
    assert_eq!(probe.reads_from(), [Version(4)]);
}

#[tokio::test]
async fn what_was_allowed_before_the_conflict_is_refused_after_it() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    purses.execute("1", Do::Put(5)).await.unwrap();
    probe.rival(rival_takes("1", 4));
    assert_eq!(purses.execute("1", Do::Take(3)).await, refused(1));
    assert_eq!(purses.execute("1", Do::Take(1)).await.unwrap().version, Version(3));
}

#[tokio::test]
async fn who_stated_a_version_is_not_decided_again_on_another() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    purses.execute("1", Do::Put(5)).await.unwrap();
    probe.rival(rival_takes("1", 1));
    let answer = purses.command("1", Do::Put(1)).expecting(Version(1)).execute().await;
    let Err(ExecuteError::Stale { actual, since, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!((actual, purses.decode(&since[0])), (Version(2), Ok(vec![taken(1)])));
}

#[tokio::test]
async fn conflicts_without_end_become_an_error_and_the_aggregate_goes_on_later() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    purses.execute("1", Do::Put(5)).await.unwrap();
    probe.refuse_conditions(true);
    let before = probe.appends();
    assert_eq!(
        purses.execute("1", Do::Put(1)).await,
        Err(ExecuteError::Contended { attempts: ATTEMPTS_MAX })
    );
    assert_eq!(probe.appends() - before, ATTEMPTS_MAX as usize);
    purses.record("1", &[put(1)]).await.unwrap();
    probe.refuse_conditions(false);
    assert_eq!(purses.execute("1", Do::Take(6)).await.unwrap().version, Version(3));
}

#[tokio::test]
async fn a_no_from_a_kept_fold_is_confirmed_by_the_store() {
    let probe = Probe::default();
    let (here, there) = (probe.store().aggregate::<Purse>(), probe.store().aggregate::<Purse>());
    assert_eq!(here.execute("1", Do::Take(3)).await, refused(0));
    there.execute("1", Do::Put(3)).await.unwrap();
    assert_eq!(here.execute("1", Do::Take(3)).await.unwrap().version, Version(2));
}

#[tokio::test]
async fn nothing_to_do_from_a_kept_fold_is_confirmed_by_the_store() {
    let probe = Probe::default();
    let (here, there) = (probe.store().aggregate::<Purse>(), probe.store().aggregate::<Purse>());
    here.execute("1", Do::Put(3)).await.unwrap();
    there.execute("1", Do::Take(2)).await.unwrap();
    assert_eq!(here.execute("1", Do::FillTo(3)).await.unwrap().events, [put(2)]);
    there.execute("1", Do::Put(1)).await.unwrap();
    let nothing = here.execute("1", Do::FillTo(4)).await.unwrap();
    assert_eq!((nothing.events.len(), nothing.version), (0, Version(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_that_take_the_last_coin_one_gets_it() {
    for _ in 0..50 {
        let probe = Probe::default();
        let (here, there) =
            (probe.store().aggregate::<Purse>(), probe.store().aggregate::<Purse>());
        here.execute("1", Do::Put(1)).await.unwrap();
        there.load("1").await.unwrap();
        let take = |purses: leftfold_core::fold::Aggregates<Purse>| {
            tokio::spawn(async move { purses.execute("1", Do::Take(1)).await })
        };
        let (a, b) = (take(here), take(there));
        let (a, b) = (a.await.unwrap(), b.await.unwrap());
        assert!(matches!((&a, &b), (Ok(_), Err(_)) | (Err(_), Ok(_))), "{a:?} {b:?}");
        assert!(a == refused(0) || b == refused(0), "{a:?} {b:?}");
    }
}
