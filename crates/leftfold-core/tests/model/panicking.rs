//! Users' code that panics where it is written or read: an error of that value, with nothing
//! written.

use std::fmt;

use leftfold_core::fold::{
    Aggregate, Decided, Decision, Event, EventError, ExecuteError, LoadError, RecordError, Schema,
    SnapshotPolicy, Upcasters,
};
use leftfold_core::store::{Append, Position, Query, Store, Tags, Version};
use serde::{Deserialize, Serialize};

use crate::fuse::{Fuse, fuse};
use crate::purse::raw;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Lit {
    Lit {
        fuse: Fuse,
    },
    /// The state has the text, and the event has none.
    Hidden {
        length: usize,
    },
}

impl Event for Lit {
    const NAMESPACE: &'static str = "fuse";

    fn tags(&self) -> Tags {
        match self {
            Self::Lit { fuse } => assert_ne!(fuse.0, "tag", "the label broke"),
            Self::Hidden { .. } => {}
        }
        Tags::none().with("lit")
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Burnt {
    fuse: Fuse,
}

impl fmt::Display for Burnt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("burnt")
    }
}

impl std::error::Error for Burnt {}

#[derive(Clone, Debug)]
enum Do {
    Light(Fuse),
    Burn(Fuse),
    Hide(usize),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Box {
    last: Fuse,
}

impl Aggregate for Box {
    const CATEGORY: &'static str = "box";
    type Event = Lit;
    type Command = Do;
    type Refusal = Burnt;

    fn apply(&mut self, event: &Lit) {
        self.last = match event {
            Lit::Lit { fuse } => fuse.clone(),
            Lit::Hidden { length } => fuse(&"write"[..*length]),
        };
    }

    fn decide(&self, command: &Do) -> Result<Vec<Lit>, Burnt> {
        match command.clone() {
            Do::Light(fuse) => Ok(vec![Lit::Lit { fuse }]),
            Do::Burn(fuse) => Err(Burnt { fuse }),
            Do::Hide(length) => Ok(vec![Lit::Hidden { length }]),
        }
    }

    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(1)
    }
}

/// Lights what it is told to, whatever was lit before.
struct Light(Fuse);

impl Decision for Light {
    type Event = Lit;
    type State = usize;
    type Refusal = Burnt;

    fn query(&self) -> Query {
        Query::tag("lit")
    }

    fn apply(&self, lit: &mut usize, _: &Lit) {
        *lit += 1;
    }

    fn decide(&self, _: &usize) -> Result<Decided<Lit>, Burnt> {
        Ok(Decided::of::<Box>("1", Lit::Lit { fuse: self.0.clone() }))
    }
}

/// Tells whether it says which code of which type panics, and with what.
fn says(error: &EventError, code: &str, words: &str) -> bool {
    let (whole, EventError::Panicked { name, place, detail }) = (error.to_string(), error) else {
        return false;
    };
    whole.contains("fix it") && name.ends_with("Lit") && *place == code && detail.contains(words)
}

/// Such a panic went through the caller, also through one that carries out the commands of others.
#[tokio::test]
async fn an_event_whose_code_panics_is_refused_by_name_and_nothing_is_written() {
    let store = Store::memory();
    let boxes = store.aggregate::<Box>();
    for (text, code, words) in
        [("write", "Serialize", "the pen broke"), ("read", "Deserialize", "the glasses broke")]
    {
        let command = boxes.execute("1", Do::Light(fuse(text))).await;
        assert!(
            matches!(&command, Err(ExecuteError::Event(error)) if says(error, code, words)),
            "{command:?}"
        );
        let decision = store.decide(&Light(fuse(text))).await;
        assert!(
            matches!(&decision, Err(ExecuteError::Event(error)) if says(error, code, words)),
            "{decision:?}"
        );
        let facts = boxes.record("1", &[Lit::Lit { fuse: fuse(text) }]).await;
        assert!(
            matches!(&facts, Err(RecordError::Event(error)) if says(error, code, words)),
            "{facts:?}"
        );
    }
    let tagged = boxes.execute("1", Do::Light(fuse("tag"))).await;
    let Err(ExecuteError::Event(EventError::Tags { detail, .. })) = &tagged else {
        panic!("{tagged:?}")
    };
    assert!(detail.contains("the label broke"), "{detail}");
    assert_eq!(store.head().position, Position::START);
    assert_eq!(boxes.execute("1", Do::Light(fuse("ok"))).await.unwrap().version, Version(1));
}

#[tokio::test]
async fn a_recorded_event_whose_code_panics_is_an_error_that_names_its_place_to_every_reader() {
    let store = Store::memory();
    let boxes = store.aggregate::<Box>();
    boxes.execute("1", Do::Light(fuse("ok"))).await.unwrap();
    let mut unreadable = raw("box-1", "fuse.Lit", 1, r#"{"fuse":"read"}"#);
    unreadable.tags = Tags::none().with("lit");
    store.append(Append::of(vec![unreadable])).await.unwrap();
    let is_told = |error: &EventError| {
        let is_it = matches!(
            error,
            EventError::DecodePanics { position: 2, detail, .. }
                if detail.contains("the glasses broke")
        );
        is_it
            && error
                .to_string()
                .contains("position 2 cannot be read as fuse.Lit version 1: Deserialize of")
    };
    let loaded = boxes.load("1").await;
    assert!(matches!(&loaded, Err(LoadError::Event(error)) if is_told(error)), "{loaded:?}");
    let done = boxes.execute("1", Do::Light(fuse("more"))).await;
    assert!(matches!(&done, Err(ExecuteError::Event(error)) if is_told(error)), "{done:?}");
    let decided = store.decide(&Light(fuse("more"))).await;
    assert!(matches!(&decided, Err(ExecuteError::Event(error)) if is_told(error)), "{decided:?}");
    let history = boxes.history("1", Version(2)).unwrap().next().await;
    assert!(matches!(&history, Err(LoadError::Event(error)) if is_told(error)), "{history:?}");
    let mut following = store.follow::<Lit>(Position(1)).unwrap();
    let followed = following.next().await;
    assert!(matches!(&followed, Err(LoadError::Event(error)) if is_told(error)), "{followed:?}");
}

#[tokio::test]
async fn a_refusal_whose_code_panics_is_not_remembered_and_its_id_stays_free() {
    let store = Store::memory();
    let boxes = store.aggregate::<Box>();
    let asked = |command: Do| {
        boxes
            .command("1", command)
            .id("test", "1")
            .without_request_check()
            .remembering_refusal()
            .execute()
    };
    for text in ["write", "read"] {
        let refused = asked(Do::Burn(fuse(text))).await;
        let Err(ExecuteError::Event(EventError::Panicked { name, .. })) = &refused else {
            panic!("{refused:?}")
        };
        assert!(name.ends_with("Burnt"), "{name}");
    }
    assert_eq!(asked(Do::Light(fuse("ok"))).await.unwrap().version, Version(1));
}

/// The events were recorded, and then the caller panicked: the state was weighed, and a snapshot
/// made of it.
#[tokio::test]
async fn a_state_whose_code_panics_has_no_snapshot_and_its_commands_go_on() {
    let store = Store::memory();
    let boxes = store.aggregate::<Box>();
    for version in 1..=4 {
        assert_eq!(
            boxes.execute("1", Do::Hide("write".len())).await.unwrap().version,
            Version(version)
        );
    }
    assert_eq!(boxes.load("1").await.unwrap().state.last, fuse("write"));
    // One whose snapshot cannot be read again is folded from its events.
    boxes.execute("2", Do::Light(fuse("ok"))).await.unwrap();
    assert_eq!(boxes.load_at("2", Version::END).await.unwrap().state.last, fuse("ok"));
}

#[test]
fn an_enum_whose_declarations_panic_is_an_error_when_it_is_taken_into_use() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Broken {
        Made {},
    }
    impl Event for Broken {
        const NAMESPACE: &'static str = "broken";

        fn upcasters() -> Upcasters {
            panic!("the table broke")
        }
    }
    let schema = Schema::of::<Broken>();
    let Err(EventError::Panicked { place: "upcasters", detail, .. }) = &schema else {
        panic!("{schema:?}")
    };
    assert_eq!(detail, "the table broke");
}
