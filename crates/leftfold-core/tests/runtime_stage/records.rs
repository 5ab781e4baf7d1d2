//! Records of a store: those that other releases write, and all that there are.

use leftfold_core::store::{
    Append, EventType, NewEvent, Outcome, Position, Query, Read, RecordedEvent, Store, StreamName,
};
use leftfold_testing::by_runtime;

/// A record as another release, or nobody of ours, would write it.
pub async fn record(
    store: &Store,
    stream: &str,
    event_type: &str,
    schema_version: u32,
    data: &str,
) -> Position {
    let mut event = NewEvent::new(EventType::new(event_type.to_owned()).unwrap(), data.to_owned());
    event.schema_version = schema_version;
    let append = Append::of(vec![event.in_stream(StreamName::new(stream.to_owned()).unwrap())]);
    match store.append(by_runtime(append)).await.unwrap() {
        Outcome::Appended(appended) => appended.last(),
        other => panic!("{other:?}"),
    }
}

pub async fn everything(store: &Store) -> Vec<RecordedEvent> {
    store.read(Read::matching(Query::everything(), Position(1))).all().await.unwrap()
}

/// The types of all events, in order; those of one append are joined.
pub async fn story(store: &Store) -> Vec<String> {
    let mut story = vec![String::new()];
    for event in everything(store).await {
        let line = story.last_mut().unwrap();
        line.push_str(event.event_type.rsplit('.').next().unwrap());
        if event.append_continues {
            line.push('+');
        } else {
            story.push(String::new());
        }
    }
    story.pop();
    story
}
