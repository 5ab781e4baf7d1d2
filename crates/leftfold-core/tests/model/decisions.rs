//! Decisions over any events: their boundary is what they read.

use leftfold_core::fold::{
    ATTEMPTS_MAX, Answer, Decided, Decision, Event, EventError, ExecuteError, Upcasters,
};
use leftfold_core::store::{
    Append, AppendError, Backend, CommandId, EventType, Expected, NewEvent, Outcome, Position,
    Query, Read, StreamName, Tags, Version,
};
use serde::{Deserialize, Serialize};

use crate::probe::{Probe, now};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum SeatEvent {
    Booked { seat: String, by: String },
    Freed { seat: String },
}

impl Event for SeatEvent {
    const NAMESPACE: &'static str = "seat";

    fn tags(&self) -> Tags {
        match self {
            Self::Booked { seat, .. } | Self::Freed { seat } => {
                Tags::none().with(format!("seat:{seat}"))
            }
        }
    }

    fn upcasters() -> Upcasters {
        Upcasters::none().rename(("hall.SeatTaken", 1), ("seat.Booked", 1))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum NoSeat {
    #[error("it belongs to {0}")]
    Taken(String),
}

/// Books a seat; into the seat's stream, or into none.
#[derive(Clone, Debug)]
struct Book {
    seat: &'static str,
    by: &'static str,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Stream,
    NewStream,
    Fact,
}

fn book(seat: &'static str, by: &'static str) -> Book {
    Book { seat, by, place: Place::Stream }
}

impl Decision for Book {
    type Event = SeatEvent;
    type State = Option<String>;
    type Refusal = NoSeat;
    const EVENTS_MAX: usize = 10;

    fn query(&self) -> Query {
        Query::tag(format!("seat:{}", self.seat))
    }

    fn apply(&self, owner: &mut Option<String>, event: &SeatEvent) {
        *owner = match event {
            SeatEvent::Booked { by, .. } => Some(by.clone()),
            SeatEvent::Freed { .. } => None,
        }
    }

    fn decide(&self, owner: &Option<String>) -> Result<Decided<SeatEvent>, NoSeat> {
        match owner {
            Some(owner) if owner == self.by => return Ok(Decided::nothing()),
            Some(owner) => return Err(NoSeat::Taken(owner.clone())),
            None => {}
        }
        let booked = SeatEvent::Booked { seat: self.seat.into(), by: self.by.into() };
        let stream = format!("seat-{}", self.seat);
        Ok(match self.place {
            Place::Stream => Decided::event(stream, booked),
            Place::NewStream => {
                Decided::event(stream.clone(), booked).expecting(stream, Expected::Absent)
            }
            Place::Fact => Decided::fact(booked),
        })
    }
}

/// An event about a seat that somebody else writes, into no stream.
fn foreign(event_type: &'static str, seat: &str, data: &str) -> NewEvent {
    let new = NewEvent::new(EventType::new(event_type).unwrap(), data.to_owned());
    new.tagged(Tags::none().with(format!("seat:{seat}")))
}

fn append(backend: &impl Backend, event: NewEvent) {
    assert!(matches!(now(backend.append(Append::of(vec![event]))), Ok(Outcome::Appended(_))));
}

fn taken(by: &str) -> Result<leftfold_core::fold::Executed<SeatEvent>, ExecuteError<NoSeat>> {
    Err(ExecuteError::Refused(NoSeat::Taken(by.into())))
}

#[tokio::test]
async fn a_decision_records_what_follows_and_says_where() {
    let store = Probe::default().store();
    store.decide(&book("0", "eve")).await.unwrap();
    let done = store.decide(&book("1", "ann")).await.unwrap();
    let booked = SeatEvent::Booked { seat: "1".into(), by: "ann".into() };
    assert_eq!(
        (done.events, done.version, done.position, done.answer),
        (vec![booked], Version(1), Position(2), Answer::First)
    );
    assert_eq!(store.decide(&book("1", "bob")).await, taken("ann"));
    let nothing = store.decide(&book("1", "ann")).await.unwrap();
    assert_eq!((nothing.events.len(), store.head().position), (0, Position(2)));
}

#[tokio::test]
async fn who_is_overtaken_is_decided_anew_on_what_the_other_recorded() {
    let probe = Probe::default();
    let store = probe.store();
    probe.rival(|memory| append(memory, foreign("seat.Booked", "1", r#"{"seat":"1","by":"bob"}"#)));
    assert_eq!(store.decide(&book("1", "ann")).await, taken("bob"));
    probe.rival(|memory| append(memory, foreign("seat.Booked", "2", r#"{"seat":"2","by":"bob"}"#)));
    assert_eq!(store.decide(&book("3", "ann")).await.unwrap().position, Position(3));
    assert_eq!(probe.appends(), 2, "what the query does not match is no conflict");
}

#[tokio::test]
async fn a_condition_sees_events_of_old_types_that_upcasters_turn_into_todays() {
    let probe = Probe::default();
    let store = probe.store();
    append(&probe, foreign("hall.SeatTaken", "1", r#"{"seat":"1","by":"old"}"#));
    assert_eq!(store.decide(&book("1", "ann")).await, taken("old"));
    probe.rival(|memory| {
        append(memory, foreign("hall.SeatTaken", "2", r#"{"seat":"2","by":"older"}"#))
    });
    assert_eq!(store.decide(&book("2", "ann")).await, taken("older"));
}

#[tokio::test]
async fn events_of_other_types_are_neither_read_nor_in_the_way() {
    let probe = Probe::default();
    append(&probe, foreign("other.Happened", "1", "{}"));
    probe.rival(|memory| append(memory, foreign("other.Happened", "1", "{}")));
    assert_eq!(probe.store().decide(&book("1", "ann")).await.unwrap().position, Position(3));
}

#[tokio::test]
async fn a_decision_reads_a_bounded_number_of_events() {
    let probe = Probe::default();
    for _ in 0..Book::EVENTS_MAX {
        append(&probe, foreign("seat.Freed", "1", r#"{"seat":"1"}"#));
    }
    probe.rival(|memory| append(memory, foreign("seat.Freed", "1", r#"{"seat":"1"}"#)));
    let limit = Book::EVENTS_MAX;
    assert_eq!(
        probe.store().decide(&book("1", "ann")).await,
        Err(ExecuteError::TooManyEvents { limit })
    );
    assert!(probe.store().decide(&book("2", "ann")).await.is_ok());
}

#[tokio::test]
async fn a_fact_is_in_no_stream_and_found_by_its_tags() {
    let store = Probe::default().store();
    let done = store.decide(&Book { place: Place::Fact, ..book("1", "ann") }).await.unwrap();
    assert_eq!((done.version, done.position), (Version::ABSENT, Position(1)));
    let found =
        store.read(Read::matching(Query::tag("seat:1"), Position::START)).all().await.unwrap();
    assert_eq!((found.len(), &found[0].stream), (1, &None));
    assert_eq!(store.decide(&book("1", "bob")).await, taken("ann"));
}

#[tokio::test]
async fn an_expected_stream_is_part_of_the_condition() {
    let probe = Probe::default();
    let store = probe.store();
    let new = |seat, by| Book { place: Place::NewStream, ..book(seat, by) };
    assert_eq!(store.decide(&new("1", "ann")).await.unwrap().version, Version(1));
    // In the stream of seat 2, and yet nothing that the query matches.
    let event =
        foreign("other.Happened", "elsewhere", "{}").in_stream(StreamName::new("seat-2").unwrap());
    append(&probe, event);
    let answer = store.decide(&new("2", "ann")).await;
    let (stream, expected) = (StreamName::new("seat-2").unwrap(), Expected::Absent);
    assert_eq!(answer, Err(ExecuteError::Unexpected { stream, expected, actual: Version(1) }));
    assert_eq!(probe.appends(), 3, "deciding again could not help");
}

#[tokio::test]
async fn an_expected_stream_that_changes_with_what_was_read_is_decided_anew() {
    let probe = Probe::default();
    let seat = |by| format!(r#"{{"seat":"1","by":"{by}"}}"#);
    probe.rival(move |memory| {
        let event =
            foreign("seat.Booked", "1", &seat("bob")).in_stream(StreamName::new("seat-1").unwrap());
        append(memory, event);
    });
    assert_eq!(
        probe.store().decide(&Book { place: Place::NewStream, ..book("1", "ann") }).await,
        taken("bob")
    );
}

#[tokio::test]
async fn conflicts_without_end_become_an_error() {
    let probe = Probe::default();
    let store = probe.store();
    let by = |memory: &leftfold_core::store::MemoryBackend| {
        append(memory, foreign("seat.Freed", "1", r#"{"seat":"1"}"#))
    };
    probe.rival_for_ever(by);
    struct Patient(Book);
    impl Decision for Patient {
        type Event = SeatEvent;
        type State = Option<String>;
        type Refusal = NoSeat;
        fn query(&self) -> Query {
            self.0.query()
        }
        fn apply(&self, owner: &mut Option<String>, event: &SeatEvent) {
            self.0.apply(owner, event);
        }
        fn decide(&self, owner: &Option<String>) -> Result<Decided<SeatEvent>, NoSeat> {
            self.0.decide(owner)
        }
    }
    let answer = store.decide(&Patient(book("1", "ann"))).await;
    assert_eq!(answer, Err(ExecuteError::Contended { attempts: ATTEMPTS_MAX }));
    assert_eq!(store.head().position, Position(u64::from(ATTEMPTS_MAX)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_with_one_id_one_takes_effect_and_all_are_answered_alike() {
    let probe = Probe::default();
    let send = |_| {
        let store = probe.store();
        tokio::spawn(async move {
            store
                .decision(&book("1", "ann"))
                .id("api", "k")
                .without_request_check()
                .execute()
                .await
                .unwrap()
        })
    };
    let mut first = 0;
    for running in (0..40).map(send).collect::<Vec<_>>() {
        let done = running.await.unwrap();
        first += usize::from(done.answer == Answer::First);
        assert_eq!((done.events.len(), done.version, done.position), (1, Version(1), Position(1)));
    }
    assert_eq!((first, probe.store().head().position), (1, Position(1)));
}

#[tokio::test]
async fn refusals_and_nothing_to_do_are_answered_again_and_other_bytes_are_refused() {
    let probe = Probe::default();
    let store = probe.store();
    let (ann, bob) = (book("1", "ann"), book("1", "bob"));
    store.decide(&ann).await.unwrap();
    let nothing = || store.decision(&ann).id("ann", "k").request(b"mine").execute();
    let refusal = || {
        store.decision(&bob).id("bob", "k").without_request_check().remembering_refusal().execute()
    };
    let forgotten = || store.decision(&bob).id("bob", "other").without_request_check().execute();
    let first = nothing().await.unwrap();
    assert_eq!(refusal().await, taken("ann"));
    assert_eq!(forgotten().await, taken("ann"));
    append(&probe, foreign("seat.Freed", "1", r#"{"seat":"1"}"#));
    let again = nothing().await.unwrap();
    assert_eq!((first.events.len(), again.events.len(), again.answer), (0, 0, Answer::Again));
    assert_eq!((again.version, again.position), (first.version, first.position));
    assert_eq!(refusal().await, taken("ann"));
    let other = store.decision(&ann).id("ann", "k").request(b"other").execute().await;
    assert_eq!(
        other,
        Err(ExecuteError::Append(AppendError::CommandIdReused { id: CommandId::new("ann", "k") }))
    );
    assert_eq!(forgotten().await.unwrap().answer, Answer::First);
}

#[tokio::test]
async fn another_decision_under_the_same_id_is_refused_though_neither_says_its_bytes() {
    let store = Probe::default().store();
    store
        .decision(&book("1", "ann"))
        .id("api", "k")
        .without_request_check()
        .execute()
        .await
        .unwrap();
    let other = store
        .decision(&book("2", "ann"))
        .id("api", "k")
        .without_request_check()
        .execute()
        .await
        .unwrap_err();
    let id = CommandId::new("api", "k");
    assert_eq!(other, ExecuteError::Append(AppendError::CommandIdReused { id }));
}

/// The digest of a request without bytes was that of the query as it was put together: one made
/// from a hash set was another at the next try.
#[tokio::test]
async fn the_order_in_which_a_query_is_put_together_makes_no_other_decision() {
    struct Any(Vec<&'static str>);
    impl Decision for Any {
        type Event = SeatEvent;
        type State = ();
        type Refusal = NoSeat;
        fn query(&self) -> Query {
            self.0.iter().fold(Query::nothing(), |query, seat| {
                query.or(Query::tag(format!("seat:{seat}")).and_tag("x"))
            })
        }
        fn apply(&self, (): &mut (), _: &SeatEvent) {}
        fn decide(&self, (): &()) -> Result<Decided<SeatEvent>, NoSeat> {
            Ok(Decided::nothing())
        }
    }
    let store = Probe::default().store();
    let ask = async |seats| {
        store.decision(&Any(seats)).id("api", "k").without_request_check().execute().await
    };
    assert_eq!(ask(vec!["1", "2"]).await.unwrap().answer, Answer::First);
    assert_eq!(ask(vec!["2", "1"]).await.unwrap().answer, Answer::Again);
    let id = CommandId::new("api", "k");
    assert_eq!(
        ask(vec!["3"]).await,
        Err(ExecuteError::Append(AppendError::CommandIdReused { id }))
    );
}

/// Of 500 decisions about one boundary on a store that takes its time 350 were told that others
/// were faster 32 times.
#[tokio::test]
async fn decisions_of_one_boundary_queue_and_none_is_contended() {
    struct Next;
    impl Decision for Next {
        type Event = SeatEvent;
        type State = usize;
        type Refusal = NoSeat;
        fn query(&self) -> Query {
            Query::tag("seat:1").or(Query::tag("seat:2"))
        }
        fn apply(&self, seats: &mut usize, _: &SeatEvent) {
            *seats += 1;
        }
        fn decide(&self, seats: &usize) -> Result<Decided<SeatEvent>, NoSeat> {
            Ok(Decided::fact(SeatEvent::Booked {
                seat: (1 + seats % 2).to_string(),
                by: seats.to_string(),
            }))
        }
    }
    const DECISIONS: usize = 500;
    let probe = Probe::default();
    probe.take_time();
    let store = probe.store();
    let send = |_| {
        let store = store.clone();
        tokio::spawn(async move { store.decide(&Next).await.map(|done| done.events) })
    };
    let mut decided = Vec::new();
    for running in (0..DECISIONS).map(send).collect::<Vec<_>>() {
        let SeatEvent::Booked { by, .. } = running.await.unwrap().unwrap().remove(0) else {
            panic!("it books")
        };
        decided.push(by.parse::<usize>().unwrap());
    }
    decided.sort_unstable();
    assert_eq!(
        decided,
        (0..DECISIONS).collect::<Vec<_>>(),
        "each was decided on what those before it recorded"
    );
    let appends = probe.appends();
    assert!(appends < 3 * DECISIONS, "{appends} appends");
}

#[tokio::test]
async fn streams_without_an_id_or_of_the_runtime_are_refused_before_anything_is_written() {
    struct Into(Decided<SeatEvent>);
    impl Decision for Into {
        type Event = SeatEvent;
        type State = ();
        type Refusal = NoSeat;
        fn query(&self) -> Query {
            Query::nothing()
        }
        fn apply(&self, (): &mut (), _: &SeatEvent) {}
        fn decide(&self, (): &()) -> Result<Decided<SeatEvent>, NoSeat> {
            Ok(self.0.clone())
        }
    }
    let store = Probe::default().store();
    let freed = || SeatEvent::Freed { seat: "1".into() };
    let long = "x".repeat(450);
    let refused = [
        Decided::of::<crate::purse::Purse>("", freed()),
        Decided::of::<crate::purse::Purse>(&long, freed()),
        Decided::event("seat-", freed()),
        Decided::event("-1", freed()),
        Decided::event("", freed()),
        Decided::event(format!("seat-{long}"), freed()),
        Decided::event("$process:p-1", freed()),
        Decided::fact(freed()).expecting("seat-", Expected::Absent),
    ];
    for decided in refused {
        let answer = store.decide(&Into(decided)).await;
        let is_refused = matches!(
            answer,
            Err(ExecuteError::Invalid(_) | ExecuteError::Append(AppendError::Invalid(_)))
        );
        assert!(is_refused, "{answer:?}");
    }
    let purses = store.aggregate::<crate::purse::Purse>();
    assert!(matches!(
        purses.execute(&long, crate::purse::Do::Put(1)).await,
        Err(ExecuteError::Invalid(_))
    ));
    assert!(purses.record(&long, &[crate::purse::put(1)]).await.is_err());
    assert_eq!(store.head().position, Position(0));
    store.decide(&Into(Decided::event("ledger", freed()))).await.unwrap();
}

#[tokio::test]
async fn a_panic_in_a_decision_is_an_error_that_names_it() {
    struct Breaks(&'static str);
    #[derive(Clone)]
    struct First;
    impl Default for First {
        fn default() -> Self {
            First
        }
    }
    impl Decision for Breaks {
        type Event = SeatEvent;
        type State = First;
        type Refusal = NoSeat;
        fn query(&self) -> Query {
            assert!(self.0 != "query", "broken");
            Query::all()
        }
        fn apply(&self, _: &mut First, _: &SeatEvent) {
            assert!(self.0 != "apply", "broken");
        }
        fn decide(&self, _: &First) -> Result<Decided<SeatEvent>, NoSeat> {
            assert!(self.0 != "decide", "broken");
            Ok(Decided::nothing())
        }
    }
    let probe = Probe::default();
    append(&probe, foreign("seat.Freed", "1", r#"{"seat":"1"}"#));
    let store = probe.store();
    for broken in ["query", "apply", "decide"] {
        let answer = store.decide(&Breaks(broken)).await;
        let Err(ExecuteError::Event(EventError::Panicked { place, detail, name })) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!((place, &*detail), (broken, "broken"));
        assert!(name.ends_with("Breaks"), "{name}");
    }
    assert_eq!(store.head().position, Position(1));
}
