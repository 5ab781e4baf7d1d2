//! Versions: which serves, which are there, and their end.

use leftfold_core::runtime::projection::Target;

use super::Subject;
use super::stage::{TargetFixture, done, notes, place, texts};

/// A target that was never used serves nothing and holds nothing.
pub async fn nothing_serves_at_first<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    assert_eq!(done(stage.target.serving("cats").await), None);
    assert_eq!(done(stage.target.versions("cats").await), [0; 0]);
    assert_eq!(stage.served("cats", "tom").await, None);
    done(stage.target.discard("cats", 1).await);
}

/// Readers follow from one version to the next, and back.
pub async fn readers_see_the_version_that_serves<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let mut old = stage.set_up(&place("cats", 1)).await;
    let mut new = stage.set_up(&place("cats", 2)).await;
    stage.commit(&mut old, 1, "tom", "grey").await;
    stage.commit(&mut new, 1, "tom", "silver").await;
    let other = stage.another().await;
    for (version, row) in [(1, "grey"), (2, "silver"), (2, "silver"), (1, "grey")] {
        done(stage.target.serve("cats", version).await);
        for target in [&stage.target, &other] {
            assert_eq!(done(target.serving("cats").await), Some(version));
            assert_eq!(subject.served(target, "cats", "tom").await.as_deref(), Some(row));
        }
    }
    stage.commit(&mut old, 2, "tom", "white").await;
    assert_eq!(stage.served("cats", "tom").await.as_deref(), Some("white"));
}

/// By their numbers, not as texts.
pub async fn versions_are_listed_in_order<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    for version in [10, 2, 1] {
        let mut session = stage.set_up(&place("cats", version)).await;
        stage.commit(&mut session, 1, "tom", "grey").await;
    }
    assert_eq!(done(stage.target.versions("cats").await), [1, 2, 10]);
    assert_eq!(done(stage.target.versions("dogs").await), [0; 0]);
    assert_eq!(done(stage.target.versions("cat").await), [0; 0]);
}

/// Rows and notes of the version are gone; the others are as they were.
pub async fn a_discarded_version_is_gone_and_no_other<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    for (version, row) in [(1, "grey"), (11, "red"), (2, "silver")] {
        let mut session = stage.set_up(&place("cats", version)).await;
        stage.commit(&mut session, 1, "tom", row).await;
    }
    done(stage.target.serve("cats", 2).await);
    done(stage.target.discard("cats", 1).await);
    done(stage.target.discard("cats", 1).await);
    assert_eq!(done(stage.target.versions("cats").await), [2, 11]);
    assert_eq!(stage.row(&place("cats", 1), "tom").await, None);
    assert_eq!(stage.row(&place("cats", 11), "tom").await.as_deref(), Some("red"));
    assert_eq!(stage.served("cats", "tom").await.as_deref(), Some("silver"));
    let mut session = stage.open(&place("cats", 2)).await;
    assert_eq!(texts(&notes(&mut session, "").await), [("tom", "silver")]);
}

/// It begins with nothing, also with the positions that it has had.
pub async fn a_discarded_version_can_be_made_anew<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    stage.commit(&mut session, 9, "tom", "grey").await;
    drop(session);
    done(stage.target.discard("cats", 1).await);
    let mut session = stage.set_up(&place).await;
    assert_eq!(notes(&mut session, "").await, []);
    assert_eq!(stage.row(&place, "tom").await, None);
    stage.commit(&mut session, 1, "tom", "white").await;
    assert_eq!(stage.row(&place, "tom").await.as_deref(), Some("white"));
}

/// Everything that was committed is there for the next process: rows, notes, versions, and the
/// choice of the serving version.
pub async fn everything_survives_reopening<S: Subject>(subject: &S) {
    if !S::Target::DURABLE {
        return;
    }
    let mut stage = TargetFixture::new(subject).await;
    for (version, row) in [(1, "grey"), (2, "silver")] {
        let mut session = stage.set_up(&place("cats", version)).await;
        stage.commit(&mut session, 1, "tom", row).await;
    }
    done(stage.target.serve("cats", 2).await);
    stage.target = stage.another().await;
    assert_eq!(done(stage.target.serving("cats").await), Some(2));
    assert_eq!(done(stage.target.versions("cats").await), [1, 2]);
    assert_eq!(stage.row(&place("cats", 1), "tom").await.as_deref(), Some("grey"));
    assert_eq!(stage.served("cats", "tom").await.as_deref(), Some("silver"));
    for (version, row) in [(1, "grey"), (2, "silver")] {
        let mut session = stage.open(&place("cats", version)).await;
        assert_eq!(texts(&notes(&mut session, "").await), [("tom", row)]);
    }
}

/// A version that is set up is there though nothing was written; it is told from one that never
/// was, and from one that was discarded, even if it served.
pub async fn what_was_begun_is_told_from_what_never_was<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    drop(stage.set_up(&place("cats", 1)).await);
    assert_eq!(done(stage.target.versions("cats").await), [1]);
    assert_eq!(done(stage.target.serving("cats").await), None);
    done(stage.target.serve("cats", 1).await);
    assert_eq!(done(stage.target.serving("cats").await), Some(1));
    // A session that was dropped may still be at it.
    drop(stage.open(&place("cats", 1)).await);
    stage.discarded("cats", 1).await;
    assert_eq!(done(stage.target.versions("cats").await), [0; 0]);
    assert_eq!(done(stage.target.serving("cats").await), None, "that it serves ends with it");
}

/// To discard a version that somebody writes is refused, and changes nothing: neither its rows nor
/// its notes, nor that it serves.
pub async fn a_version_that_is_written_is_not_discarded<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    stage.commit(&mut session, 1, "tom", "grey").await;
    let other = stage.another().await;
    done(stage.target.serve("cats", 1).await);
    for target in [&stage.target, &other] {
        assert!(
            target.discard("cats", 1).await.is_err(),
            "a version that somebody writes was discarded"
        );
    }
    assert_eq!(done(stage.target.versions("cats").await), [1]);
    assert_eq!(done(stage.target.serving("cats").await), Some(1));
    assert_eq!(texts(&notes(&mut session, "").await), [("tom", "grey")]);
    stage.commit(&mut session, 2, "kit", "black").await;
    assert_eq!(stage.served("cats", "tom").await.as_deref(), Some("grey"));
    assert_eq!(stage.served("cats", "kit").await.as_deref(), Some("black"));
}
