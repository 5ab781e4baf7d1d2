//! Transactions: rows and notes stand together or not at all.

use leftfold_core::runtime::projection::{ProjectionError, Session, Target};

use super::Subject;
use super::stage::{TargetFixture, done, notes, place, texts};

/// Rows and notes of one transaction are both there afterwards.
pub async fn what_is_committed_is_there<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    stage.commit(&mut session, 1, "tom", "grey").await;
    assert_eq!(stage.row(&place, "tom").await.as_deref(), Some("grey"));
    assert_eq!(texts(&notes(&mut session, "").await), [("tom", "grey")]);
}

/// A rollback undoes rows and notes; if the target cannot do that, it leaves nothing at all.
pub async fn a_rollback_leaves_nothing<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    stage.commit(&mut session, 1, "tom", "grey").await;
    done(session.begin().await);
    stage.write(&mut session, 2, &[("tom", "white"), ("kit", "black")]).await;
    done(session.note("tom", None).await);
    done(session.note("kit", Some(b"black")).await);
    done(session.rollback().await);
    let left: &[(&str, &str)] = if S::Target::UNDOES { &[("tom", "grey")] } else { &[] };
    assert_eq!(texts(&notes(&mut session, "").await), left);
    assert_eq!(stage.row(&place, "tom").await.as_deref(), left.first().map(|row| row.1));
    assert_eq!(stage.row(&place, "kit").await, None);
}

/// A process that is killed between begin and commit has written nothing.
pub async fn a_session_that_is_dropped_leaves_nothing_uncommitted<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    stage.commit(&mut session, 1, "tom", "grey").await;
    done(session.begin().await);
    stage.write(&mut session, 2, &[("tom", "white")]).await;
    done(session.note("tom", Some(b"white")).await);
    drop(session);
    let mut session = stage.open(&place).await;
    let left: &[(&str, &str)] = if S::Target::UNDOES { &[("tom", "grey")] } else { &[] };
    assert_eq!(texts(&notes(&mut session, "").await), left);
    assert_eq!(stage.row(&place, "tom").await.as_deref(), left.first().map(|row| row.1));
}

/// Readers see the last commit while a transaction is open. (If nothing can be undone, readers
/// wait.)
pub async fn nobody_sees_what_is_not_committed<S: Subject>(subject: &S) {
    if !S::Target::UNDOES {
        return;
    }
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    stage.commit(&mut session, 1, "tom", "grey").await;
    done(session.begin().await);
    stage.write(&mut session, 2, &[("tom", "white"), ("kit", "black")]).await;
    assert_eq!(stage.row(&place, "tom").await.as_deref(), Some("grey"));
    assert_eq!(stage.row(&place, "kit").await, None);
    done(session.commit().await);
    assert_eq!(stage.row(&place, "tom").await.as_deref(), Some("white"));
    assert_eq!(stage.row(&place, "kit").await.as_deref(), Some("black"));
}

/// One session commits again and again.
pub async fn transactions_follow_each_other<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    for position in 1..=50 {
        stage.commit(&mut session, position, "tom", &position.to_string()).await;
        assert_eq!(stage.row(&place, "tom").await, Some(position.to_string()));
    }
}

/// Nothing to write is no error.
pub async fn an_empty_transaction_can_be_committed<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    for _ in 0..3 {
        done(session.begin().await);
        done(session.commit().await);
    }
    stage.commit(&mut session, 1, "tom", "grey").await;
    assert_eq!(stage.row(&place, "tom").await.as_deref(), Some("grey"));
}

/// The last write of a row counts, within a transaction and over several.
pub async fn rows_are_replaced_and_removed<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    done(session.begin().await);
    stage.write(&mut session, 1, &[("tom", "grey"), ("tom", "white"), ("kit", "black")]).await;
    stage.write(&mut session, 2, &[("mia", "red")]).await;
    stage.remove(&mut session, 3, "mia").await;
    done(session.commit().await);
    assert_eq!(stage.row(&place, "tom").await.as_deref(), Some("white"));
    assert_eq!(stage.row(&place, "mia").await, None);
    done(session.begin().await);
    stage.remove(&mut session, 4, "tom").await;
    stage.remove(&mut session, 5, "kit").await;
    stage.write(&mut session, 6, &[("kit", "brown")]).await;
    done(session.commit().await);
    assert_eq!(stage.row(&place, "tom").await, None);
    assert_eq!(stage.row(&place, "kit").await.as_deref(), Some("brown"));
}

/// A batch is as large as the runtime makes it.
pub async fn many_rows_fit_into_one_transaction<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    done(session.begin().await);
    for position in 1..=3_000_u64 {
        let text = position.to_string();
        stage.write(&mut session, position, &[(&text, &text)]).await;
    }
    done(session.commit().await);
    for position in [1_u64, 1_024, 2_999, 3_000] {
        assert_eq!(stage.row(&place, &position.to_string()).await, Some(position.to_string()));
    }
}

/// Most events write nothing: the places that a session is told leave gaps, within a transaction
/// and between two.
pub async fn events_that_write_nothing_are_passed_over<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    stage.commit(&mut session, 3, "tom", "grey").await;
    done(session.begin().await);
    stage.write(&mut session, 1_000, &[]).await;
    stage.write(&mut session, 5_000, &[("kit", "black")]).await;
    stage.write(&mut session, 9_000, &[]).await;
    done(session.commit().await);
    stage.commit(&mut session, 1 << 40, "tom", "white").await;
    assert_eq!(stage.row(&place, "kit").await.as_deref(), Some("black"));
    assert_eq!(stage.row(&place, "tom").await.as_deref(), Some("white"));
}

/// The same event is applied after a rollback, and counts then.
pub async fn an_event_can_be_applied_again_after_a_rollback<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    for _ in 0..3 {
        done(session.begin().await);
        if !S::Target::UNDOES {
            done(subject.set_up(session.rows()).await);
        }
        stage.write(&mut session, 5, &[("tom", "grey")]).await;
        done(session.rollback().await);
    }
    done(session.begin().await);
    stage.write(&mut session, 5, &[("tom", "white")]).await;
    done(session.commit().await);
    assert_eq!(stage.row(&place, "tom").await.as_deref(), Some("white"));
}

/// A statement that the target refuses in one transaction does not spoil the next, and is not taken
/// for the target's absence.
pub async fn a_failed_statement_is_undone_and_is_not_absence<S: Subject>(subject: &S) {
    if !S::Target::UNDOES {
        return;
    }
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    done(session.begin().await);
    stage.write(&mut session, 1, &[("tom", "grey")]).await;
    let error = stage.fail(session.rows()).await;
    assert!(
        !stage.target.is_away(&error),
        "{error} is about the event, but is taken for the target being away"
    );
    done(session.rollback().await);
    assert_eq!(stage.row(&place, "tom").await, None);
    stage.commit(&mut session, 1, "tom", "white").await;
    assert_eq!(stage.row(&place, "tom").await.as_deref(), Some("white"));
}

/// An error of users' code is about the event.
pub async fn what_users_code_says_is_not_absence<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    for error in
        [ProjectionError::message("a cat without a name"), "x".parse::<u32>().unwrap_err().into()]
    {
        assert!(!stage.target.is_away(&error), "{error}");
    }
}
