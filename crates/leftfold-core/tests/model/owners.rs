//! Who owns a type says how it is written and read: a view of it cannot forget its tags, schema
//! version and upcasters.

use leftfold_core::fold::{
    Aggregate, Decided, Decision, Event, EventError, ExecuteError, Executed, LoadError, Owners,
    Recorded, Schema, Unknown, Upcasters,
};
use leftfold_core::runtime::Runtime;
use leftfold_core::runtime::projection::{Memory, Projection, ProjectionError};
use leftfold_core::store::{Append, Position, Query, Read, Store, Tags};
use serde::{Deserialize, Serialize};

use crate::purse::raw;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("it is out")]
struct Out;

/// Owns boats. Once the event had no day, and another name before that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum BoatEvent {
    Rented { boat: String, day: u32 },
    Returned { boat: String },
}

impl Event for BoatEvent {
    const NAMESPACE: &'static str = "boat";

    fn tags(&self) -> Tags {
        let (Self::Rented { boat, .. } | Self::Returned { boat }) = self;
        assert!(boat != "cursed", "no tag for a cursed boat");
        Tags::none().with(format!("boat:{boat}"))
    }

    fn upcasters() -> Upcasters {
        Upcasters::none().rename(("boat.Hired", 1), ("boat.Rented", 1)).change(
            "boat.Rented",
            1,
            |mut data| {
                data["day"] = 1.into();
                Ok(data)
            },
        )
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Boat {
    days: Vec<u32>,
}

impl Aggregate for Boat {
    const CATEGORY: &'static str = "boat";
    type Event = BoatEvent;
    type Command = BoatEvent;
    type Refusal = Out;

    fn apply(&mut self, event: &BoatEvent) {
        if let BoatEvent::Rented { day, .. } = event {
            self.days.push(*day);
        }
    }

    fn decide(&self, event: &BoatEvent) -> Result<Vec<BoatEvent>, Out> {
        Ok(vec![event.clone()])
    }
}

fn rented(boat: &str, day: u32) -> BoatEvent {
    BoatEvent::Rented { boat: boat.into(), day }
}

/// A view that names no owner, and has no tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Seen {
    #[serde(rename = "boat.Rented")]
    Rented { boat: String, day: u32 },
}

impl Event for Seen {
    const NAMESPACE: &'static str = "rental";
}

/// The same, and it names the owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Named {
    #[serde(rename = "boat.Rented")]
    Rented { boat: String, day: u32 },
}

impl Event for Named {
    const NAMESPACE: &'static str = "rental";

    fn owners() -> Owners {
        Owners::of::<BoatEvent>()
    }
}

/// Reads less than the owner needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Short {
    #[serde(rename = "boat.Rented")]
    Rented { boat: String },
}

impl Event for Short {
    const NAMESPACE: &'static str = "rental";

    fn owners() -> Owners {
        Owners::of::<BoatEvent>()
    }
}

/// A view of what nobody in this program owns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Foreign {
    #[serde(rename = "harbour.Closed")]
    Closed,
}

impl Event for Foreign {
    const NAMESPACE: &'static str = "rental";
}

/// Rents a boat that is in, through whatever enum.
struct Rent<E>(&'static str, fn(String) -> E);

impl<E: Event> Decision for Rent<E> {
    type Event = E;
    type State = u32;
    type Refusal = Out;

    fn query(&self) -> Query {
        Query::tag(format!("boat:{}", self.0))
    }

    fn apply(&self, out: &mut u32, _: &E) {
        *out += 1;
    }

    fn decide(&self, out: &u32) -> Result<Decided<E>, Out> {
        if *out > 0 {
            Err(Out)
        } else {
            Ok(Decided::event(format!("boat-{}", self.0), self.1(self.0.into())))
        }
    }
}

impl<E> Rent<E> {
    fn with(&self) -> &Self {
        self
    }
}

async fn rent<E: Event>(
    store: &Store,
    boat: &'static str,
    event: fn(String) -> E,
) -> Result<Executed<E>, ExecuteError<Out>> {
    store.decide(Rent(boat, event).with()).await
}

async fn only_event(store: &Store) -> leftfold_core::store::RecordedEvent {
    let mut all = store.read(Read::matching(Query::all(), Position::START)).all().await.unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// The view had no tags, so the second rental did not find the first: two people got one boat. It
/// was written as version 1, too, and the owner took it for an old one.
#[tokio::test]
async fn an_event_that_is_recorded_through_a_view_has_the_tags_and_the_version_of_its_owner() {
    let store = Store::memory();
    rent(&store, "anna", |boat| Named::Rented { boat, day: 7 }).await.unwrap();
    assert_eq!(
        rent(&store, "anna", |boat| Named::Rented { boat, day: 8 }).await,
        Err(ExecuteError::Refused(Out))
    );
    let event = only_event(&store).await;
    assert_eq!(
        (event.schema_version, event.tags.as_slice()),
        (2, Tags::none().with("boat:anna").as_slice())
    );
    assert_eq!(store.aggregate::<Boat>().load("anna").await.unwrap().state.days, [7]);

    // The same where the owner is not named and is in use with the store.
    let store = Store::memory();
    let boats = store.aggregate::<Boat>();
    rent(&store, "anna", |boat| Seen::Rented { boat, day: 7 }).await.unwrap();
    assert_eq!(
        rent(&store, "anna", |boat| Seen::Rented { boat, day: 8 }).await,
        Err(ExecuteError::Refused(Out))
    );
    assert_eq!(boats.load("anna").await.unwrap().state.days, [7]);
}

#[tokio::test]
async fn a_view_whose_owner_is_not_known_or_does_not_read_what_it_says_records_nothing() {
    let store = Store::memory();
    let event_type = leftfold_core::store::EventType::new("harbour.Closed").unwrap();
    let unknown = EventError::NoOwner { name: std::any::type_name::<Foreign>(), event_type };
    assert_eq!(rent(&store, "anna", |_| Foreign::Closed).await, Err(ExecuteError::Event(unknown)));
    let short = rent(&store, "anna", |boat| Short::Rented { boat }).await.unwrap_err();
    assert!(matches!(
        &short,
        ExecuteError::Event(EventError::Encode { detail, .. })
            if detail.contains("missing field `day`")
    ));
    assert_eq!(store.head().position, Position::START);
}

/// The first upcaster of an owner made every view of it refuse all new events, and its projection
/// parked every stream.
#[tokio::test]
async fn a_view_reads_old_events_as_the_owner_does_and_new_ones_too() {
    struct Days;
    impl Projection<Memory<Vec<u32>>> for Days {
        const NAME: &'static str = "days";
        type Event = Seen;
        async fn apply(
            &self,
            days: &mut Vec<u32>,
            event: &Recorded<Seen>,
        ) -> Result<(), ProjectionError> {
            let Seen::Rented { day, .. } = &event.event;
            days.push(*day);
            Ok(())
        }
    }
    let store = Store::memory();
    let old = vec![
        raw("boat-1", "boat.Hired", 1, r#"{"boat":"1"}"#),
        raw("boat-1", "boat.Rented", 1, r#"{"boat":"1"}"#),
        raw("boat-1", "boat.Rented", 2, r#"{"boat":"1","day":3}"#),
    ];
    store.append(Append::of(old)).await.unwrap();
    store.aggregate::<Boat>().execute("1", rented("1", 4)).await.unwrap();
    let memory = Memory::<Vec<u32>>::new();
    Runtime::new(&store).project(Days, memory.clone()).run_until_idle().await.unwrap();
    assert_eq!(memory.read(Clone::clone).await, [1, 1, 3, 4]);
    let mut named = store.follow::<Named>(Position::START).unwrap();
    for day in [1, 1, 3, 4] {
        assert_eq!(named.next().await.unwrap().event, Named::Rented { boat: "1".into(), day });
    }
    assert_eq!(Schema::of::<Named>().unwrap().wanted().len(), 2);
}

/// A view with upcasters that its owner does not have reads, and would write, something else.
#[test]
fn a_view_needs_no_upcasters_of_its_own_and_may_not_have_others() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Otherwise {
        #[serde(rename = "boat.Rented")]
        Rented { boat: String },
    }
    impl Event for Otherwise {
        const NAMESPACE: &'static str = "rental";
        fn owners() -> Owners {
            Owners::of::<BoatEvent>()
        }
        fn upcasters() -> Upcasters {
            Upcasters::none().change("boat.Rented", 1, Ok).change("boat.Rented", 2, Ok)
        }
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Misspelt {
        #[serde(rename = "boat.Rentt")]
        Rented { boat: String },
    }
    impl Event for Misspelt {
        const NAMESPACE: &'static str = "rental";
        fn owners() -> Owners {
            Owners::of::<BoatEvent>()
        }
    }
    let error = Store::memory().follow::<Otherwise>(Position::START).unwrap_err();
    assert!(matches!(error, EventError::Upcasters { schema_version: 2, .. }), "{error}");
    assert!(matches!(Schema::of::<Misspelt>(), Err(EventError::NotOwned { .. })));
}

#[tokio::test]
async fn a_view_that_was_read_before_its_owner_was_known_reads_no_more() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Late {
        Begun { at: u32 },
    }
    impl Event for Late {
        const NAMESPACE: &'static str = "late";
        fn upcasters() -> Upcasters {
            Upcasters::none().change("late.Begun", 1, |mut data| {
                data["at"] = 9.into();
                Ok(data)
            })
        }
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum View {
        #[serde(rename = "late.Begun")]
        Begun { at: u32 },
    }
    impl Event for View {
        const NAMESPACE: &'static str = "view";
    }
    let store = Store::memory();
    store.append(Append::of(vec![raw("late-1", "late.Begun", 1, r#"{"at":1}"#); 2])).await.unwrap();
    let mut view = store.follow::<View>(Position::START).unwrap();
    assert_eq!(view.next().await.unwrap().event, View::Begun { at: 1 });
    store.facts("late", "2", &[Late::Begun { at: 2 }]).record().await.unwrap();
    assert!(matches!(view.next().await, Err(LoadError::Event(EventError::Claimed { .. }))));
    let mut view = store.follow::<View>(Position::START).unwrap();
    assert_eq!(view.next().await.unwrap().event, View::Begun { at: 9 });
}

/// The first variant was read as the second.
#[test]
fn two_variants_of_one_enum_under_one_stored_type_are_refused() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Shop {
        #[serde(rename = "shop.Opened")]
        Early {
            at: u32,
        },
        Opened {
            at: u32,
        },
    }
    impl Event for Shop {
        const NAMESPACE: &'static str = "shop";
    }
    assert!(matches!(Schema::of::<Shop>(), Err(EventError::Claimed { .. })));
}

macro_rules! rival {
    ($name:ident, $upcasters:expr, $tag:literal) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        enum $name {
            Happened { n: u32 },
        }
        impl Event for $name {
            const NAMESPACE: &'static str = "rival";
            fn tags(&self) -> Tags {
                Tags::none().with($tag)
            }
            fn upcasters() -> Upcasters {
                $upcasters
            }
        }
    };
}

#[tokio::test]
async fn two_enums_that_write_one_type_differently_are_not_used_with_one_store() {
    rival!(First, Upcasters::none(), "a");
    rival!(Same, Upcasters::none(), "a");
    rival!(OtherTags, Upcasters::none(), "b");
    rival!(OtherVersion, Upcasters::none().change("rival.Happened", 2, Ok), "a");
    rival!(OtherUpcasters, Upcasters::none().rename(("rival.Was", 1), ("rival.Happened", 1)), "a");
    let store = Store::memory();
    store.facts("rival", "1", &[First::Happened { n: 1 }]).record().await.unwrap();
    store.facts("rival", "1", &[Same::Happened { n: 1 }]).record().await.unwrap();
    let claimed = |error: &dyn std::fmt::Display| {
        error.to_string().contains("do not agree on rival.Happened")
    };
    let (tags, version) = (&[OtherTags::Happened { n: 1 }], &[OtherVersion::Happened { n: 1 }]);
    assert!(claimed(&store.facts("rival", "1", tags).record().await.unwrap_err()));
    assert!(claimed(&store.facts("rival", "1", version).record().await.unwrap_err()));
    assert!(claimed(&store.follow::<OtherUpcasters>(Position::START).unwrap_err()));
    assert_eq!(store.head().position, Position(2));
    // Another store may be of another release.
    Store::memory().facts("rival", "1", version).record().await.unwrap();
}

#[tokio::test]
async fn a_panic_in_tags_is_an_error_and_nothing_is_recorded() {
    let store = Store::memory();
    let done = store.aggregate::<Boat>().execute("cursed", rented("cursed", 1)).await;
    let Err(ExecuteError::Event(EventError::Tags { detail, event_type, .. })) = done else {
        panic!("{done:?}")
    };
    assert_eq!((&*detail, &*event_type), ("no tag for a cursed boat", "boat.Rented"));
    let through = rent(&store, "cursed", |boat| Named::Rented { boat, day: 1 }).await.unwrap_err();
    assert!(through.to_string().contains("tags() panics"), "{through}");
    assert_eq!(store.head().position, Position::START);
}

macro_rules! faulty {
    ($name:ident, $namespace:literal, $upcasters:expr) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        enum $name {
            New {
                #[serde(default)]
                x: i64,
            },
        }
        impl Event for $name {
            const NAMESPACE: &'static str = $namespace;
            fn upcasters() -> Upcasters {
                $upcasters
            }
        }
    };
}

/// Events of whose shape an upcaster takes up, and which none brings to today's, were passed over.
#[tokio::test]
async fn upcasters_that_leave_events_unread_are_refused_in_use_and_never_pass_an_event_over() {
    async fn refused<E: Event + std::fmt::Debug>(stored: &[(&'static str, u32)]) {
        let store = Store::memory();
        let is_refused = |error: &EventError| matches!(error, EventError::Upcasters { .. });
        assert!(is_refused(&store.follow::<E>(Position::START).unwrap_err()));
        assert!(matches!(
            store.facts::<E>("up", "1", &[]).record().await,
            Err(leftfold_core::fold::RecordError::Event(error)) if is_refused(&error)
        ));
        let schema = Schema::of::<E>().unwrap();
        for (event_type, schema_version) in stored {
            store
                .append(Append::of(vec![raw("up-1", event_type, *schema_version, "{}")]))
                .await
                .unwrap();
        }
        let all = store.read(Read::matching(Query::all(), Position::START)).all().await.unwrap();
        for event in all {
            let read = schema.decode::<E>(&event, Unknown::Ignore);
            assert!(
                read.is_err(),
                "{} version {}: {read:?}",
                event.event_type,
                event.schema_version
            );
        }
    }
    faulty!(Typo, "up", Upcasters::none().rename(("up.Old", 1), ("up.Nwe", 1)));
    faulty!(Gap, "up", Upcasters::none().change("up.New", 1, Ok).change("up.New", 3, Ok));
    faulty!(
        Behind,
        "up",
        Upcasters::none().rename(("up.Old", 1), ("up.New", 1)).change("up.New", 2, Ok)
    );
    faulty!(
        Circle,
        "up",
        Upcasters::none().rename(("up.A", 1), ("up.B", 1)).rename(("up.B", 1), ("up.A", 1))
    );
    faulty!(
        Beside,
        "up",
        Upcasters::none().split(("up.Old", 1), &[("up.New", 1), ("up.Ohter", 1)], |data| {
            Ok(vec![("up.New", data.clone()), ("up.Ohter", data)])
        })
    );
    refused::<Typo>(&[("up.Old", 1), ("up.Old", 2)]).await;
    refused::<Gap>(&[("up.New", 1), ("up.New", 2), ("up.New", 5)]).await;
    refused::<Behind>(&[("up.Old", 1), ("up.New", 1)]).await;
    refused::<Circle>(&[("up.A", 1), ("up.B", 1)]).await;
    refused::<Beside>(&[("up.Old", 1)]).await;
}

/// Events stored under an old name in a version that no upcaster takes up were of no concern to
/// anybody.
#[tokio::test]
async fn an_old_type_in_a_version_that_nothing_covers_is_an_error_to_every_reader() {
    faulty!(Renamed, "old", Upcasters::none().rename(("old.Old", 1), ("old.New", 1)));
    let store = Store::memory();
    store.append(Append::of(vec![raw("old-1", "old.Old", 2, "{}")])).await.unwrap();
    let uncovered = |error: &EventError| matches!(error, EventError::Upcast { position: 1, .. });
    let read = store.follow::<Renamed>(Position::START).unwrap().next().await;
    assert!(matches!(&read, Err(LoadError::Event(error)) if uncovered(error)), "{read:?}");
    let decided = store.decide(&Named2).await;
    assert!(matches!(&decided, Err(ExecuteError::Event(error)) if uncovered(error)), "{decided:?}");

    struct Named2;
    impl Decision for Named2 {
        type Event = Renamed;
        type State = ();
        type Refusal = Out;
        /// Names the type of today, and means the old ones.
        fn query(&self) -> Query {
            Query::types([leftfold_core::store::EventType::new("old.New").unwrap()])
        }
        fn apply(&self, (): &mut (), _: &Renamed) {}
        fn decide(&self, (): &()) -> Result<Decided<Renamed>, Out> {
            Ok(Decided::nothing())
        }
    }
}

/// The types that a query named were asked for by those names alone: what was stored under older
/// ones was not found, by the decision or by its condition.
#[tokio::test]
async fn types_that_a_decision_names_are_found_under_their_older_names() {
    faulty!(Once, "once", Upcasters::none().rename(("elsewhere.Old", 1), ("once.New", 1)));
    struct First(Query);
    impl Decision for First {
        type Event = Once;
        type State = u32;
        type Refusal = Out;
        fn query(&self) -> Query {
            self.0.clone()
        }
        fn apply(&self, seen: &mut u32, _: &Once) {
            *seen += 1;
        }
        fn decide(&self, seen: &u32) -> Result<Decided<Once>, Out> {
            if *seen > 0 { Err(Out) } else { Ok(Decided::fact(Once::New { x: 1 })) }
        }
    }
    use leftfold_core::store::{QueryItem, TypeMatch};
    let exact = Query::types([leftfold_core::store::EventType::new("once.New").unwrap()]);
    let prefix = Query::from(QueryItem {
        types: vec![TypeMatch::Prefix("once.".into())],
        ..QueryItem::default()
    });
    for query in [exact, prefix] {
        let store = Store::memory();
        store.append(Append::of(vec![raw("elsewhere-1", "elsewhere.Old", 1, "{}")])).await.unwrap();
        assert_eq!(store.decide(&First(query)).await, Err(ExecuteError::Refused(Out)));
    }
}

/// An enum with more types than a query may name was taken by aggregates; its projection stood
/// still forever.
#[test]
fn an_enum_with_more_types_than_a_query_may_name_is_refused_with_the_number() {
    faulty!(Many, "many", {
        let names = (0..1_000).map(|n| &*format!("many.Old{n}").leak());
        names.fold(Upcasters::none(), |upcasters, old| upcasters.rename((old, 1), ("many.New", 1)))
    });
    let error = Schema::of::<Many>().unwrap_err();
    assert!(error.to_string().contains("1001") && error.to_string().contains("1000"), "{error}");
}

/// The natural test of an upcaster: one release writes, and the next one reads and goes on.
#[tokio::test]
async fn the_next_release_of_an_enum_goes_on_in_the_same_store_and_the_former_one_writes_no_more() {
    rival!(Old, Upcasters::none(), "a");
    rival!(
        Next,
        Upcasters::none().change("rival.Happened", 1, |mut data| {
            data["n"] = 10.into();
            Ok(data)
        }),
        "b"
    );
    rival!(Unrelated, Upcasters::none().change("rival.Happened", 2, Ok), "a");
    let store = Store::memory();
    store.facts("rival", "1", &[Old::Happened { n: 1 }]).record().await.unwrap();
    let mut read = store.follow::<Next>(Position::START).unwrap();
    assert_eq!(read.next().await.unwrap().event, Next::Happened { n: 10 });
    // Reading alone takes nothing over.
    store.facts("rival", "1", &[Old::Happened { n: 2 }]).record().await.unwrap();
    store.facts("rival", "1", &[Next::Happened { n: 3 }]).record().await.unwrap();
    let error = store.facts("rival", "1", &[Old::Happened { n: 4 }]).record().await.unwrap_err();
    assert!(error.to_string().contains("a later release"), "{error}");
    let mut former = store.follow::<Old>(Position(2)).unwrap();
    assert!(matches!(
        former.next().await,
        Err(LoadError::Event(EventError::SchemaVersion { stored: 2, current: 1, .. }))
    ));
    let unrelated = store.facts("rival", "1", &[Unrelated::Happened { n: 4 }]).record().await;
    assert!(unrelated.unwrap_err().to_string().contains("do not agree"));
}
