//! Pages: what is in them, how they go on, what they say of the store.

use leftfold_core::store::{
    Append, Direction, Hash, Head, NewEvent, Page, Position, Query, Read, RecordedEvent, Timestamp,
    Version, What,
};
use tokio::task::JoinSet;

use super::Factory;
use super::examples::{event, event_type, events, fact, positions, stream, tagged, versions};
use super::subject::TestedStore;

/// Twelve events: three of `a-1` per append, every other append tagged, one fact without a stream
/// between.
async fn filled<F: Factory>(factory: &F) -> TestedStore<'_, F> {
    let store = TestedStore::new(factory).await;
    for round in 0..3 {
        let tags: &[&str] = if round == 1 { &[] } else { &["t"] };
        let batch = vec![
            tagged(event("a-1"), tags),
            event("b-1"),
            fact("test.Fact"),
            tagged(event("a-1"), tags),
        ];
        store.appended(Append::of(batch)).await;
    }
    store
}

/// Every request that a page can be read for.
fn requests() -> Vec<Read> {
    let mut all = Vec::new();
    let queries = [
        Query::all(),
        Query::tag("t"),
        Query::stream(stream("a-1")),
        Query::category("b"),
        Query::tag("none"),
    ];
    for query in queries {
        all.extend([1, 2, 5, 12, 13].map(|from| Read::matching(query.clone(), Position(from))));
        all.extend(
            [1, 2, 5, 12, 13, u64::MAX]
                .map(|from| Read::matching(query.clone(), Position(from)).backwards()),
        );
    }
    for name in ["a-1", "b-1", "none-1"] {
        all.extend([1, 2, 6, 7].map(|from| Read::stream(stream(name), Version(from))));
        all.extend(
            [1, 2, 6, 7, u64::MAX]
                .map(|from| Read::stream(stream(name), Version(from)).backwards()),
        );
    }
    all
}

/// Returns the events that a request asks for, by its definition.
fn asked<'a>(read: &Read, all: &'a [RecordedEvent]) -> Vec<&'a RecordedEvent> {
    let forwards = read.direction == Direction::Forwards;
    let within = |place: u64, from: u64| if forwards { place >= from } else { place <= from };
    let mut found: Vec<_> = all
        .iter()
        .filter(|event| match &read.what {
            What::Matching { query, from } => {
                within(event.position.0, from.0) && query.matches(event)
            }
            What::Stream { stream, from } => event
                .stream
                .as_ref()
                .is_some_and(|at| at.name == *stream && within(at.version.0, from.0)),
        })
        .collect();
    if !forwards {
        found.reverse();
    }
    found
}

/// The head of an empty store, and every question to it.
pub async fn an_empty_store_has_nothing(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let head = store.head();
    assert_eq!((head.position, head.recorded_at), (Position::START, Timestamp::MIN));
    for read in requests() {
        let page = store.read_page(read.clone()).await;
        assert!(page.events.is_empty() && page.next.is_none(), "{read:?} is answered {page:?}");
        assert_eq!(page.through, Position::START, "through of {read:?}");
        assert_eq!(page.head, head, "head of {read:?}");
        let version = matches!(read.what, What::Stream { .. }).then_some(Version::ABSENT);
        assert_eq!(page.stream_version, version, "stream version of {read:?}");
    }
    assert_eq!(store.hash_at(Position::START).await, Ok(Some(Hash::EMPTY)));
    assert_eq!(store.position_at(Timestamp::now()).await, Ok(Position::START));
}

/// Backwards is forwards, turned around.
pub async fn forwards_and_backwards_are_the_same_events(factory: &impl Factory) {
    let store = filled(factory).await;
    let forwards = store.everything().await;
    let mut backwards =
        store.read_all(Read::matching(Query::everything(), Position::END).backwards()).await;
    backwards.reverse();
    assert_eq!(positions(&forwards), (1..=12).collect::<Vec<_>>());
    assert!(forwards == backwards, "forwards {forwards:?}, backwards {backwards:?}");
}

/// The bound is inclusive, in both directions, for every kind of request.
pub async fn a_read_begins_where_it_is_told(factory: &impl Factory) {
    let store = filled(factory).await;
    let all = store.everything().await;
    for read in requests() {
        let found = store.read_all(read.clone()).await;
        let expected: Vec<RecordedEvent> = asked(&read, &all).into_iter().cloned().collect();
        assert_eq!(positions(&found), positions(&expected), "{read:?}");
        assert!(found == expected, "{read:?} finds other events");
    }
}

/// Versions name the events of a stream, whatever stands between them.
pub async fn a_stream_is_read_by_version(factory: &impl Factory) {
    let store = filled(factory).await;
    let read = async |from, direction| {
        let request = Read { direction, ..Read::stream(stream("a-1"), Version(from)) };
        let page = store.read_page(request).await;
        assert_eq!(page.stream_version, Some(Version(6)));
        (versions(&page.events), positions(&page.events))
    };
    assert_eq!(
        read(0, Direction::Forwards).await,
        (vec![1, 2, 3, 4, 5, 6], vec![1, 4, 5, 8, 9, 12])
    );
    assert_eq!(read(4, Direction::Forwards).await, (vec![4, 5, 6], vec![8, 9, 12]));
    assert_eq!(read(7, Direction::Forwards).await, (vec![], vec![]));
    assert_eq!(read(3, Direction::Backwards).await, (vec![3, 2, 1], vec![5, 4, 1]));
    assert_eq!(read(0, Direction::Backwards).await, (vec![], vec![]));
    assert_eq!(read(u64::MAX, Direction::Backwards).await.0, [6, 5, 4, 3, 2, 1]);
}

async fn pages<F: Factory>(store: &TestedStore<'_, F>, mut read: Read) -> Vec<Page> {
    let mut pages = Vec::new();
    loop {
        let page = store.read_page(read.clone()).await;
        let next = page.next.clone();
        pages.push(page);
        assert!(pages.len() <= 1_000, "the pages of {read:?} do not end");
        match next {
            Some(what) => read.what = what,
            None => return pages,
        }
    }
}

/// `next` goes on exactly where the page ends: nothing twice, nothing left out.
pub async fn pages_continue_exactly(factory: &impl Factory) {
    let store = filled(factory).await;
    let all = store.everything().await;
    for read in requests() {
        let expected: Vec<u64> =
            asked(&read, &all).into_iter().map(|event| event.position.0).collect();
        for size in [1, 2, 3, 5, 12, 13] {
            let pages = pages(&store, read.clone().page_of(size)).await;
            assert!(
                pages.iter().all(|page| page.events.len() <= size as usize),
                "a page of {read:?} beyond {size}"
            );
            let found: Vec<u64> = pages.iter().flat_map(|page| positions(&page.events)).collect();
            assert_eq!(found, expected, "{read:?} in pages of {size}");
        }
    }
}

fn sized(bytes: usize) -> NewEvent {
    NewEvent { data: vec![7; bytes].into(), ..event("a-1") }
}

/// A page holds about the requested number of bytes of events, and the rest comes with the next.
pub async fn a_page_is_bounded_by_its_bytes(factory: &impl Factory) {
    for bytes in [10_000, 200_000] {
        let store = TestedStore::new(factory).await;
        store.appended(Append::of(vec![sized(bytes); 20])).await;
        for read in [
            Read::matching(Query::all(), Position(1)),
            Read::stream(stream("a-1"), Version(1)),
            Read::matching(Query::all(), Position::END).backwards(),
            Read::stream(stream("a-1"), Version::END).backwards(),
        ] {
            let pages = pages(&store, Read { page_bytes: 5 * bytes as u32, ..read.clone() }).await;
            let counts: Vec<usize> = pages.iter().map(|page| page.events.len()).collect();
            assert_eq!(counts.iter().sum::<usize>(), 20, "{read:?}");
            // "About": a backend may count what is around the data too, and may end one event
            // later.
            assert!(
                counts.iter().all(|count| *count <= 6),
                "pages of five times {bytes} bytes hold {counts:?} such events"
            );
            assert!(
                counts.len() <= 12,
                "pages of five times {bytes} bytes hold only {counts:?} such events"
            );
        }
    }
}

/// An event larger than a page is returned all the same.
pub async fn one_event_is_always_returned(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(Append::of(vec![sized(1), sized(3 << 20), sized(3 << 20), sized(1)])).await;
    for page_bytes in [0, 1, 1_000, Read::PAGE_BYTES] {
        let forwards = Read { page_bytes, ..Read::matching(Query::all(), Position(1)) };
        let backwards =
            Read { page_bytes, ..Read::stream(stream("a-1"), Version::END).backwards() };
        for (read, expected) in [(forwards, [1, 2, 3, 4]), (backwards, [4, 3, 2, 1])] {
            let pages = pages(&store, read).await;
            let found: Vec<u64> = pages.iter().flat_map(|page| positions(&page.events)).collect();
            assert_eq!(found, expected, "in pages of {page_bytes} bytes");
        }
    }
}

/// A page of no events says what the stream and the store are.
pub async fn a_page_of_none_tells_where_things_stand(factory: &impl Factory) {
    let store = filled(factory).await;
    for (name, version) in [("a-1", 6), ("b-1", 3), ("none-1", 0)] {
        for from in [Version(1), Version::END] {
            let page = store.read_page(Read::stream(stream(name), from).page_of(0)).await;
            assert!(page.events.is_empty(), "{name}: {page:?}");
            assert_eq!(
                (page.stream_version, page.head),
                (Some(Version(version)), store.head()),
                "{name}"
            );
        }
    }
    let page = store.read_page(Read::matching(Query::all(), Position(1)).page_of(0)).await;
    assert!(page.events.is_empty() && page.stream_version.is_none(), "{page:?}");
    assert_eq!(page.head.position, Position(12));
    assert_eq!(page.through, Position::START, "none of the events that match was returned");
    assert_eq!(
        store.read_all(Read::matching(Query::all(), Position(1)).page_of(0)).await,
        [],
        "it does not go on for ever"
    );
}

/// Everything up to the position that a page reports as covered was returned; at the last page that
/// is the head, or the beginning.
pub async fn through_covers_everything_that_matches(factory: &impl Factory) {
    let store = filled(factory).await;
    let all = store.everything().await;
    for read in requests() {
        for size in [1, 2, 13] {
            let mut returned = Vec::new();
            let pages = pages(&store, read.clone().page_of(size)).await;
            let last = pages.len() - 1;
            for (index, page) in pages.into_iter().enumerate() {
                returned.extend(positions(&page.events));
                let covered = |place: Position| match read.direction {
                    Direction::Forwards => place <= page.through,
                    Direction::Backwards => place >= page.through,
                };
                for event in asked(&read, &all) {
                    let is_returned = returned.contains(&event.position.0);
                    assert_eq!(
                        covered(event.position),
                        is_returned,
                        "{read:?} through {} at {}",
                        page.through,
                        event.position
                    );
                }
                assert_eq!(page.head, store.head(), "the head of an idle store");
                let end = if read.direction == Direction::Forwards {
                    Position(12)
                } else {
                    Position::START
                };
                assert!(
                    index < last || page.through == end,
                    "the last page of {read:?} is through {}",
                    page.through
                );
            }
        }
    }
}

/// A stream that does not exist is an answer, not an error.
pub async fn an_absent_stream_has_no_events(factory: &impl Factory) {
    let store = filled(factory).await;
    let page = store.read_page(Read::stream(stream("a-2"), Version(1))).await;
    assert_eq!(
        (page.events.len(), page.next, page.stream_version),
        (0, None, Some(Version::ABSENT))
    );
    assert_eq!(
        store.version(stream("a")).await,
        Ok(Version::ABSENT),
        "the name of a category is another stream"
    );
}

/// While writers go on, every page is a prefix without gaps up to its head, whole appends at the
/// end.
pub async fn a_read_sees_a_prefix_while_writers_go_on(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let mut writers = JoinSet::new();
    for writer in 0..3 {
        let store = (*store).clone();
        writers.spawn(async move {
            for _ in 0..60 {
                let answer = store.append(events(&format!("w-{writer}"), 3)).await;
                assert!(answer.is_ok(), "{answer:?}");
            }
        });
    }
    let mut seen = Head { ..store.head() };
    while seen.position < Position(540) {
        let page = store.read_page(Read::matching(Query::all(), Position(1))).await;
        let count = page.events.len() as u64;
        assert_eq!(
            positions(&page.events),
            (1..=count).collect::<Vec<_>>(),
            "a prefix without gaps"
        );
        let ends_whole = page.events.last().is_none_or(|event| !event.append_continues);
        assert!(
            page.next.is_some() || (ends_whole && page.head.position.0 == count),
            "half an append, or not up to the head"
        );
        assert!(page.head.position >= seen.position, "the head went back");
        seen = page.head;
        tokio::task::yield_now().await;
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer ends without a panic");
    }
}

/// The limit of a page counts what is found, over all items together.
pub async fn a_page_counts_what_all_items_find(factory: &impl Factory) {
    let store = filled(factory).await;
    let query = Query::stream(stream("a-1")).or(Query::stream(stream("b-1"))).or(Query::tag("t"));
    let expected = [1, 2, 4, 5, 6, 8, 9, 10, 12];
    for size in [1, 2, 3, 4, 9] {
        for (read, backwards) in [
            (Read::matching(query.clone(), Position(1)), false),
            (Read::matching(query.clone(), Position::END).backwards(), true),
        ] {
            let pages = pages(&store, read.page_of(size)).await;
            let counts: Vec<usize> = pages.iter().map(|page| page.events.len()).collect();
            assert!(
                counts.iter().all(|count| *count <= size as usize),
                "pages of {size} hold {counts:?}"
            );
            let mut found: Vec<u64> =
                pages.iter().flat_map(|page| positions(&page.events)).collect();
            if backwards {
                found.reverse();
            }
            assert_eq!(found, expected, "in pages of {size}");
        }
    }
}

/// Nothing appears later in a range that a reader has already read, however long an append takes
/// beside short ones.
pub async fn nothing_appears_where_a_reader_has_looked(factory: &impl Factory) {
    const ROUNDS: usize = 30;
    const LARGE: usize = 200;
    let store = TestedStore::new(factory).await;
    let mut writers = JoinSet::new();
    for count in [1, LARGE] {
        let store = (*store).clone();
        writers.spawn(async move {
            for _ in 0..ROUNDS {
                let answer =
                    store.append(Append::of(vec![tagged(event("w-1"), &["t"]); count])).await;
                assert!(answer.is_ok(), "{answer:?}");
                tokio::task::yield_now().await;
            }
        });
    }
    let (mut found, mut through) = (Vec::new(), Position::START);
    while through < Position(((1 + LARGE) * ROUNDS) as u64) {
        let page = store.read_page(Read::matching(Query::tag("t"), through.next())).await;
        assert!(
            page.through >= through,
            "a page from {through} on is through with {}",
            page.through
        );
        found.extend(positions(&page.events));
        through = page.through;
        tokio::task::yield_now().await;
    }
    assert_eq!(found, (1..=through.0).collect::<Vec<_>>());
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer ends without a panic");
    }
}

/// Appends made meanwhile change nothing of a read from the end, and an abandoned read holds up
/// nobody.
pub async fn a_read_under_way_stays_as_it_began(factory: &impl Factory) {
    let store = filled(factory).await;
    for query in [
        Query::all(),
        Query::category("a").or(Query::category("b")).or(Query::types([event_type("test.Fact")])),
    ] {
        let began_at = store.head().position.0;
        let mut reading = store.read(Read::matching(query, Position::END).backwards().page_of(2));
        let mut found = Vec::new();
        while let Some(page) = reading.page().await.expect("the store can be read") {
            found.extend(positions(&page));
            assert!(
                found.len() as u64 <= began_at,
                "a read from the end at {began_at} finds {found:?}"
            );
            store.appended(events("a-1", 3)).await;
        }
        found.reverse();
        assert_eq!(found, (1..=began_at).collect::<Vec<_>>());
    }
    for _ in 0..100 {
        let mut left = store.read(Read::matching(Query::all(), Position(1)).page_of(1));
        assert!(left.next().await.is_ok_and(|event| event.is_some()));
    }
    store.appended(events("a-1", 1)).await;
}

/// A page of one event tells the whole of its stream: when it began, when it was last written, and
/// its version.
pub async fn a_stream_tells_where_it_stands(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let mut times = Vec::new();
    for _ in 0..3 {
        times.push(store.appended(events("a-1", 2)).await.recorded_at);
        store.appended(events("b-1", 1)).await;
    }
    let ends = [
        (Read::stream(stream("a-1"), Version(1)), 1, times[0]),
        (Read::stream(stream("a-1"), Version::END).backwards(), 6, times[2]),
    ];
    for (read, version, recorded_at) in ends {
        let page = store.read_page(read.page_of(1)).await;
        let told: Vec<_> =
            page.events.iter().map(|event| (event.version(), event.recorded_at)).collect();
        assert_eq!(
            (told, page.stream_version),
            (vec![(Version(version), recorded_at)], Some(Version(6)))
        );
    }
}
