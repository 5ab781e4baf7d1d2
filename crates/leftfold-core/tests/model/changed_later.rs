//! Events whose type gets an upcaster after they were recorded: what it does not touch stays what
//! it is.

use std::collections::{BTreeMap, HashMap};

use leftfold_core::fold::{Aggregate, Event, EventError, ExecuteError, Schema, Unknown, Upcasters};
use leftfold_core::store::{Position, Query, Read, Store};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tag", content = "content")]
enum Adjacent {
    Wei(u128),
    Counts(BTreeMap<u8, i128>),
}

/// JSON as it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Raw(Box<RawValue>);

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

fn raw(json: &str) -> Raw {
    Raw(RawValue::from_string(json.to_owned()).unwrap())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Content {
    adjacent: Vec<Adjacent>,
    labels: HashMap<String, String>,
    raw: Raw,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Before {
    Noted { content: Content, more: Vec<Adjacent> },
}

impl Event for Before {
    const NAMESPACE: &'static str = "note";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum After {
    Noted { about: Content, more: Vec<Adjacent>, title: String },
}

impl Event for After {
    const NAMESPACE: &'static str = "note";

    fn upcasters() -> Upcasters {
        Upcasters::none().change("note.Noted", 1, |mut data| {
            let content = data.as_object_mut().and_then(|data| data.remove("content"));
            data["about"] = content.ok_or("no content")?;
            data["title"] = "none".into();
            Ok(data)
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Notes;

impl Aggregate for Notes {
    const CATEGORY: &'static str = "notes";
    type Event = Before;
    type Command = Before;
    type Refusal = std::convert::Infallible;

    fn apply(&mut self, _: &Before) {}

    fn decide(&self, note: &Before) -> Result<Vec<Before>, std::convert::Infallible> {
        Ok(vec![note.clone()])
    }
}

fn content() -> Content {
    // The names under which serde_json hands its raw values and numbers on, as a client may have
    // sent them.
    let names =
        ["$serde_json::private::RawValue", "a"].map(|name| (name.to_owned(), "no JSON".to_owned()));
    // Where serde_json keeps numbers of any size it writes the sign of an exponent, so this one has
    // it from the beginning.
    Content {
        adjacent: vec![
            Adjacent::Wei(u128::MAX),
            Adjacent::Counts(BTreeMap::from([(7, i128::MIN)])),
        ],
        labels: HashMap::from(names),
        raw: raw(
            r#"{"b":1e+999,"a":[0.1000000000000000055511151231257827,1e-400,-20000000000000000000.5]}"#,
        ),
    }
}

/// The members of each object came out sorted: the content of an adjacently tagged enum before its
/// tag, where neither numbers of 128 bits nor keys that are numbers can be read. A key with a
/// private name of serde_json, or a number that no float holds, left the event unreadable or
/// changed as well, from the day on which its type had an upcaster.
#[tokio::test]
async fn what_an_upcaster_moves_untouched_is_what_it_was() {
    let store = Store::memory();
    let (content, more) = (content(), vec![Adjacent::Wei(u128::MAX - 1)]);
    let note = Before::Noted { content: content.clone(), more: more.clone() };
    store.aggregate::<Notes>().execute("1", note).await.unwrap();
    let recorded = store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap();
    let read = Schema::of::<After>().unwrap().decode::<After>(&recorded[0], Unknown::Refuse);
    assert_eq!(read, Ok(vec![After::Noted { about: content, more, title: "none".to_owned() }]));
}

/// It passed as JSON, since nobody had looked into the text, and anyone who did could not read the
/// event.
#[tokio::test]
async fn a_surrogate_that_is_alone_in_raw_json_is_refused() {
    let store = Store::memory();
    let noted = async |json: &str| {
        let note =
            Before::Noted { content: Content { raw: raw(json), ..content() }, more: Vec::new() };
        store.aggregate::<Notes>().execute("1", note).await
    };
    noted(r#"["\ud83d\ude00 \u0000 \\ud83d"]"#).await.unwrap();
    let refused = noted(r#"["\ud83d"]"#).await;
    let Err(ExecuteError::Event(EventError::Encode { detail, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert!(detail.contains("Noted.content.raw"), "{detail}");
    assert_eq!(store.head().position, Position(1));
}
