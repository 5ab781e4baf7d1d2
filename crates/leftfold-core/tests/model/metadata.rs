//! Metadata: where events come from, and what an application says beside them.

use leftfold_core::fold::{Cause, ExecuteError, MetadataError, Recorded};
use leftfold_core::store::limits::METADATA_BYTES_MAX;
use leftfold_core::store::{Invalid, Kind, Position, Store, Version};
use serde::{Deserialize, Serialize};

use crate::purse::{Do, Purse, PurseEvent, put};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Origin {
    actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

fn origin(actor: &str) -> Origin {
    Origin { actor: actor.to_owned(), address: None }
}

async fn first(store: &Store, id: &str) -> Recorded<PurseEvent> {
    let mut history = store.aggregate::<Purse>().history(id, Version(1)).unwrap();
    history.next().await.unwrap().unwrap()
}

#[tokio::test]
async fn what_a_command_says_of_its_origin_is_read_from_its_events() {
    let store = Store::memory();
    let purses = store.aggregate::<Purse>();
    let command = purses
        .command("1", Do::Put(1))
        .caused_by(Cause::message("m1").unwrap())
        .correlated("conversation 7");
    command
        .header("tenant", "north")
        .metadata_as(&origin("ann"))
        .header("tenant", "south")
        .execute()
        .await
        .unwrap();
    let event = first(&store, "1").await;
    assert_eq!(
        (event.position(), event.version(), event.stream().map(|name| &**name)),
        (Position(1), Version(1), Some("purse-1"))
    );
    assert_eq!((event.correlation(), event.causation()), (Some("conversation 7"), Some("m1")));
    assert_eq!(
        event.metadata_as::<Origin>(),
        Ok(Some(origin("ann"))),
        "headers that the type does not name are passed over"
    );
    let headers = ["tenant", "actor", "address"].map(|name| event.header(name));
    assert_eq!(
        headers,
        [Some("south".to_owned()), Some("ann".to_owned()), None],
        "the last of a name counts"
    );
    let next = purses.command("1", Do::Put(1)).caused_by(&event);
    next.execute().await.unwrap();
    let next = purses.history("1", Version(2)).unwrap().next().await.unwrap().unwrap();
    assert_eq!(
        (next.correlation(), next.causation()),
        (Some("conversation 7"), Some(&*event.envelope.id.to_string()))
    );
    assert_eq!((next.metadata_as::<Origin>(), next.header("tenant")), (Ok(None), None));
}

#[tokio::test]
async fn facts_and_decisions_have_the_same_metadata() {
    let store = Store::memory();
    let facts = store.aggregate::<Purse>();
    facts
        .facts("1", &[put(1)])
        .correlated("c")
        .header("a", "b")
        .metadata_as(&origin("ann"))
        .record()
        .await
        .unwrap();
    let event = first(&store, "1").await;
    assert_eq!((event.correlation(), event.header("a")), (Some("c"), Some("b".to_owned())));
    assert_eq!(event.metadata_as::<Origin>(), Ok(Some(origin("ann"))));
    let fills = crate::metadata::Fills;
    store
        .decision(&fills)
        .correlated("c")
        .header("a", "b")
        .metadata_as(&origin("ann"))
        .execute()
        .await
        .unwrap();
    let event = first(&store, "decided").await;
    assert_eq!((event.correlation(), event.header("a")), (Some("c"), Some("b".to_owned())));
    assert_eq!(event.metadata_as::<Origin>(), Ok(Some(origin("ann"))));
}

pub(crate) struct Fills;

impl leftfold_core::fold::Decision for Fills {
    type Event = PurseEvent;
    type State = ();
    type Refusal = crate::purse::TooFew;

    fn query(&self) -> leftfold_core::store::Query {
        leftfold_core::store::Query::nothing()
    }

    fn apply(&self, (): &mut (), _: &PurseEvent) {}

    fn decide(
        &self,
        (): &(),
    ) -> Result<leftfold_core::fold::Decided<PurseEvent>, crate::purse::TooFew> {
        Ok(leftfold_core::fold::Decided::of::<Purse>("decided", put(1)))
    }
}

#[tokio::test]
async fn metadata_that_cannot_be_recorded_is_a_typed_error_and_nothing_happens() {
    #[derive(Serialize, Deserialize)]
    struct Number(u32);
    #[derive(Serialize, Deserialize)]
    struct Reading {
        value: f64,
    }
    let store = Store::memory();
    let purses = store.aggregate::<Purse>();
    let put = || purses.command("1", Do::Put(1));
    let too_large = |size| Invalid::TooLarge {
        what: "the user metadata of an event",
        size,
        limit: METADATA_BYTES_MAX,
    };
    let long = "x".repeat(METADATA_BYTES_MAX);
    for (command, expected) in [
        (
            put().header("", "x"),
            MetadataError::Invalid(Invalid::Empty { what: "the name of a header" }),
        ),
        (
            put().header("$x", "x"),
            MetadataError::Invalid(Invalid::Reserved {
                what: "the name of a header",
                name: "$x".into(),
            }),
        ),
        (put().header("x", &long), MetadataError::Invalid(too_large(METADATA_BYTES_MAX + 8))),
        (
            put().metadata_as(&Number(1)),
            MetadataError::NotAnObject { name: std::any::type_name::<Number>() },
        ),
        (put().metadata("no JSON").header("x", "y"), MetadataError::Bytes),
        (put().correlated(""), MetadataError::Invalid(Invalid::Empty { what: "a label" })),
    ] {
        let error = command.header("later", "and right").execute().await.unwrap_err();
        match error {
            ExecuteError::Metadata(MetadataError::Invalid(Invalid::Empty { .. })) => {
                assert!(
                    matches!(expected, MetadataError::Invalid(Invalid::Empty { .. })),
                    "{expected}"
                );
                assert_eq!(error.kind(), Kind::Invalid);
            }
            error => assert_eq!(error, ExecuteError::Metadata(expected)),
        }
    }
    let error = put().metadata_as(&Reading { value: f64::NAN }).execute().await.unwrap_err();
    assert!(
        matches!(
            &error,
            ExecuteError::Metadata(MetadataError::Encode { detail, .. }) if detail.contains("value")
        ),
        "{error}"
    );
    assert_eq!(error.kind(), Kind::Bug);
    assert_eq!(store.head().position, Position::START);
}

#[tokio::test]
async fn metadata_of_another_shape_is_a_typed_error_and_bytes_have_no_headers() {
    let store = Store::memory();
    let purses = store.aggregate::<Purse>();
    purses.command("1", Do::Put(1)).header("tenant", "north").execute().await.unwrap();
    let event = first(&store, "1").await;
    let error = event.metadata_as::<Origin>().unwrap_err();
    assert!(matches!(&error, MetadataError::Decode { position: Position(1), .. }), "{error}");
    assert!(error.to_string().contains("actor"), "{error}");
    purses.command("2", Do::Put(1)).metadata("no JSON").execute().await.unwrap();
    let event = first(&store, "2").await;
    assert_eq!(
        (event.header("tenant"), &event.envelope.metadata.user[..]),
        (None, &b"no JSON"[..])
    );
    assert!(event.metadata_as::<Origin>().is_err());
}
