//! Reads backwards, while others write and in small pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leftfold_core::store::{
    Append, EventType, NewEvent, Outcome, Position, Query, Read, Store, StreamName, Tags, Version,
};
use leftfold_postgres::PostgresStore;

use crate::support::place;

fn event(stream: &str, event_type: &str) -> NewEvent {
    let event = NewEvent::new(EventType::new(event_type).unwrap(), "{}");
    event.in_stream(StreamName::new(stream).unwrap()).tagged(Tags::none().with("t"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_backwards_misses_nothing_while_another_process_writes() {
    let (_, url) = place("backwards");
    let reader = Store::new(PostgresStore::open(&url).await.unwrap());
    let writer = Store::new(PostgresStore::open(&url).await.unwrap());
    writer.append(Append::of(vec![event("order-1", "test.Happened")])).await.unwrap();
    let stops = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let stops = Arc::clone(&stops);
        async move {
            while !stops.load(Ordering::Relaxed) {
                let append = Append::of(vec![event("order-1", "test.Happened")]);
                assert!(matches!(writer.append(append).await, Ok(Outcome::Appended(_))));
            }
        }
    });
    let stream = StreamName::new("order-1").unwrap();
    for round in 0..300 {
        let page_of = 1 + round % 3;
        let read = Read::stream(stream.clone(), Version::END).backwards().page_of(page_of);
        let page = reader.page(read).await.unwrap();
        let newest = page.stream_version.unwrap();
        // Every version from the newest one down comes, in this page or the next ones.
        let mut versions: Vec<u64> = page.events.iter().map(|one| one.version().0).collect();
        let mut next = page.next;
        while let Some(what) = next.take()
            && versions.len() < 3
        {
            let read = Read { what, ..Read::stream(stream.clone(), Version::END) };
            let page = reader.page(read.backwards().page_of(page_of)).await.unwrap();
            versions.extend(page.events.iter().map(|one| one.version().0));
            next = page.next;
        }
        let wanted: Vec<u64> = (1..=newest.0).rev().take(versions.len()).collect();
        assert_eq!(versions, wanted, "in round {round}, the newest is {newest}");
        assert!(versions.len() >= 3.min(newest.0 as usize), "{versions:?} of {newest}");
    }
    stops.store(true, Ordering::Relaxed);
    writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_in_no_stream_are_read_backwards_in_small_pages() {
    let (_, url) = place("backwards");
    let store = Store::new(PostgresStore::open(&url).await.unwrap());
    let fact = || NewEvent::new(EventType::new("test.Happened").unwrap(), vec![b'x'; 100]);
    for _ in 0..5 {
        store.append(Append::of(vec![fact(), fact()])).await.unwrap();
    }
    let mut read = Read::matching(Query::all(), Position::END).backwards();
    read.page_bytes = 250;
    let mut positions = Vec::new();
    loop {
        let page = store.page(read.clone()).await.unwrap();
        positions.extend(page.events.iter().map(|one| one.position.0));
        match page.next {
            Some(what) => read.what = what,
            None => break,
        }
    }
    assert_eq!(positions, (1..=10).rev().collect::<Vec<_>>());
}
