//! Places: one session each, and what is apart from what.

use leftfold_core::runtime::projection::{Place, Session, Target};

use super::Subject;
use super::stage::{TargetFixture, done, notes, place, texts};

/// The session that comes second is told that another has the place, in this process and in another
/// one.
pub async fn a_place_has_one_session<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    let other = stage.another().await;
    for target in [&stage.target, &other] {
        assert!(target.open(&place).await.is_err(), "a second session was given for {place:?}");
    }
    stage.commit(&mut session, 1, "tom", "grey").await;
    assert_eq!(stage.row(&place, "tom").await.as_deref(), Some("grey"));
}

/// The place is free soon after its session is gone, for this process and for another one.
pub async fn a_place_is_free_when_its_session_is_dropped<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let place = place("cats", 1);
    let mut session = stage.set_up(&place).await;
    stage.commit(&mut session, 1, "tom", "grey").await;
    drop(session);
    let other = stage.another().await;
    let mut session = TargetFixture::<S>::open_at(&other, &place).await;
    assert_eq!(texts(&notes(&mut session, "").await), [("tom", "grey")]);
    stage.commit(&mut session, 2, "tom", "white").await;
    drop(session);
    let mut session = stage.open(&place).await;
    assert_eq!(texts(&notes(&mut session, "").await), [("tom", "white")]);
}

/// A home that several processes share has one name in all of them, and no other home has it.
pub async fn a_home_is_named_alike_by_every_process<S: Subject>(subject: &S) {
    let (stage, elsewhere) = (TargetFixture::new(subject).await, TargetFixture::new(subject).await);
    let name = done(stage.target.shared_as().await);
    let mut session = stage.set_up(&place("cats", 1)).await;
    stage.commit(&mut session, 1, "tom", "grey").await;
    for target in [&stage.target, &stage.another().await] {
        assert_eq!(done(target.shared_as().await), name);
    }
    if name.is_some() {
        assert_ne!(done(elsewhere.target.shared_as().await), name, "another home");
    }
}

/// Two versions are written at the same time and see nothing of each other.
pub async fn versions_are_open_side_by_side<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let (one, two) = (place("cats", 1), place("cats", 2));
    let mut old = stage.set_up(&one).await;
    let mut new = stage.set_up(&two).await;
    stage.commit(&mut old, 1, "tom", "grey").await;
    stage.commit(&mut new, 1, "tom", "silver").await;
    stage.commit(&mut old, 2, "kit", "black").await;
    assert_eq!(stage.row(&one, "tom").await.as_deref(), Some("grey"));
    assert_eq!(stage.row(&two, "tom").await.as_deref(), Some("silver"));
    assert_eq!(stage.row(&two, "kit").await, None);
    assert_eq!(texts(&notes(&mut old, "").await), [("kit", "black"), ("tom", "grey")]);
    assert_eq!(texts(&notes(&mut new, "").await), [("tom", "silver")]);
}

/// Lanes have transactions of their own, and find each other's notes.
pub async fn lanes_write_at_the_same_time_and_share_notes<S: Subject>(subject: &S) {
    if S::Target::LANES_MAX < 2 {
        return;
    }
    let stage = TargetFixture::new(subject).await;
    let first = place("cats", 1);
    let mut lanes = vec![stage.set_up(&first).await];
    for lane in 1..S::Target::LANES_MAX {
        lanes.push(stage.open(&Place { lane, ..first.clone() }).await);
    }
    for session in &mut lanes {
        done(session.begin().await);
    }
    for (lane, session) in lanes.iter_mut().enumerate() {
        let key = format!("lane/{lane}");
        stage.write(session, 1, &[(&key, "here")]).await;
        done(session.note(&key, Some(b"here")).await);
    }
    let rolled_back = lanes.len() - 1;
    for (lane, session) in lanes.iter_mut().enumerate() {
        done(if lane == rolled_back { session.rollback().await } else { session.commit().await });
    }
    let expected: Vec<_> =
        (0..rolled_back).map(|lane| (format!("lane/{lane}"), b"here".to_vec())).collect();
    for session in &mut lanes {
        assert_eq!(notes(session, "").await, expected);
    }
    for lane in 0..lanes.len() {
        let row = stage.row(&first, &format!("lane/{lane}")).await;
        assert_eq!(row.is_some(), lane != rolled_back, "lane {lane}");
    }
}

/// Any name is a name, and names that begin alike have nothing in common.
pub async fn names_of_every_kind_are_apart<S: Subject>(subject: &S) {
    let names = ["a", "a_v1", "a_", "order", "select", "z234567890123456789012345678901234567890"];
    for name in names {
        let stage = TargetFixture::new(subject).await;
        let place = place(name, u32::MAX);
        let mut session = stage.set_up(&place).await;
        stage.commit(&mut session, 1, "tom", name).await;
        assert_eq!(stage.row(&place, "tom").await.as_deref(), Some(name));
    }
    let stage = TargetFixture::new(subject).await;
    let mut session = stage.set_up(&place("a", 1)).await;
    stage.commit(&mut session, 1, "tom", "grey").await;
    // A target may be for one projection alone; then it says so.
    if stage.target.open(&place("a_v1", 1)).await.is_err() {
        return;
    }
    let mut other = stage.set_up(&place("a_v1", 1)).await;
    stage.commit(&mut other, 1, "tom", "white").await;
    assert_eq!(done(stage.target.versions("a").await), [1]);
    done(stage.target.serve("a", 1).await);
    assert_eq!(done(stage.target.serving("a_v1").await), None);
    drop(other);
    done(stage.target.discard("a_v1", 1).await);
    assert_eq!(stage.served("a", "tom").await.as_deref(), Some("grey"));
}
