//! Notes: what the runtime remembers of a version.

use leftfold_core::runtime::projection::Session;

use super::Subject;
use super::stage::{TargetFixture, done, notes, place, texts};

const ODD: [&str; 9] = ["a", "a%b", "a*b", "a/", "a/1", "a/10", "a/2", "a?b", "a_b"];

/// A prefix is taken literally, and keys come in the order of their bytes.
pub async fn notes_are_listed_by_prefix_in_order_of_their_bytes<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let mut session = stage.set_up(&place("cats", 1)).await;
    let keys = ["Z", "a", "a_b", "a/10", "a/2", "a/1", "a%b", "a*b", "a?b", "a/", "b", "ä", "zz"];
    done(session.begin().await);
    for key in keys {
        done(session.note(key, Some(key.as_bytes())).await);
    }
    done(session.commit().await);
    let mut ordered = keys;
    ordered.sort_unstable_by_key(|key| key.as_bytes());
    for prefix in ["", "a", "a/", "a/1", "a_", "a%", "a*", "a?", "z", "zz", "zzz", "ä", "c"] {
        let expected: Vec<_> =
            ordered.iter().filter(|key| key.starts_with(prefix)).map(|key| (*key, *key)).collect();
        assert_eq!(texts(&notes(&mut session, prefix).await), expected, "the prefix {prefix:?}");
    }
}

/// Pages neither overlap nor leave anything out.
pub async fn a_page_of_notes_begins_after_a_key<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let mut session = stage.set_up(&place("cats", 1)).await;
    done(session.begin().await);
    for key in ODD.into_iter().chain(["b", "Z"]) {
        done(session.note(key, Some(b"x")).await);
    }
    for at_most in [1, 2, 3, 9, 10] {
        let (mut all, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
        loop {
            let page = done(session.notes("a", after.as_deref(), at_most).await);
            assert!(page.len() <= at_most);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            all.extend(page.into_iter().map(|(key, _)| key));
        }
        assert_eq!(all, ODD, "{at_most} a page");
    }
    assert_eq!(done(session.notes("a/", Some("a/1"), 10).await).len(), 2);
    assert_eq!(done(session.notes("a/", Some("b"), 10).await), []);
    assert_eq!(done(session.notes("a/", Some("a"), 1).await)[0].0, "a/");
    done(session.commit().await);
}

/// The last value of a note counts; one that is removed is gone.
pub async fn notes_are_replaced_and_removed<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let mut session = stage.set_up(&place("cats", 1)).await;
    for (value, left) in [
        (Some("1"), vec![("k", "1")]),
        (Some("2"), vec![("k", "2")]),
        (None, vec![]),
        (None, vec![]),
    ] {
        done(session.begin().await);
        done(session.note("k", value.map(str::as_bytes)).await);
        done(session.commit().await);
        assert_eq!(texts(&notes(&mut session, "").await), left);
    }
}

/// The transaction sees its own notes, in their place among the others.
pub async fn notes_of_the_open_transaction_are_seen<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let mut session = stage.set_up(&place("cats", 1)).await;
    done(session.begin().await);
    for key in ["a", "c", "e"] {
        done(session.note(key, Some(b"old")).await);
    }
    done(session.commit().await);
    done(session.begin().await);
    for (key, value) in
        [("b", Some(b"new")), ("c", Some(b"new")), ("e", None), ("f", Some(b"new")), ("f", None)]
    {
        done(session.note(key, value.map(|value| &value[..])).await);
    }
    let seen = done(session.notes("", None, 10).await);
    assert_eq!(texts(&seen), [("a", "old"), ("b", "new"), ("c", "new")]);
    assert_eq!(texts(&done(session.notes("", Some("a"), 1).await)), [("b", "new")]);
    done(session.commit().await);
    assert_eq!(notes(&mut session, "").await, seen);
}

/// Values are bytes, from none to the limit; keys are as long as the limit.
pub async fn notes_hold_any_bytes<S: Subject>(subject: &S) {
    let stage = TargetFixture::new(subject).await;
    let mut session = stage.set_up(&place("cats", 1)).await;
    let all: Vec<u8> = (0..=255).collect();
    let long = "k".repeat(200);
    let values = [
        ("empty", vec![]),
        ("every", all.clone()),
        (long.as_str(), all.repeat(64)),
        ("zero", vec![0]),
    ];
    done(session.begin().await);
    for (key, value) in &values {
        done(session.note(key, Some(value)).await);
    }
    done(session.commit().await);
    let kept = notes(&mut session, "").await;
    assert_eq!(kept, values.map(|(key, value)| (key.to_owned(), value)));
}
