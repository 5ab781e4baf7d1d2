//! Queries: the events that one finds, by every way of asking.

use leftfold_core::store::{
    Append, Condition, Conflict, NewEvent, Position, Query, QueryItem, Read, StreamMatch, Tag,
    TypeMatch,
};

use super::Factory;
use super::examples::{event_type, fact, stream, tagged};
use super::subject::TestedStore;

async fn holding<'f, F: Factory>(
    factory: &'f F,
    new: &[(&str, Option<&str>, &[&str])],
) -> TestedStore<'f, F> {
    let store = TestedStore::new(factory).await;
    for (name, in_stream, tags) in new {
        let event = tagged(fact(name), tags);
        let event = in_stream.map_or(event.clone(), |name| event.in_stream(stream(name)));
        store.appended(Append::of(vec![event])).await;
    }
    store
}

fn types(names: &[&str]) -> Query {
    Query::types(names.iter().map(|name| event_type(name)))
}

fn item(types: &[TypeMatch], tags: &[&str], streams: Option<StreamMatch>) -> QueryItem {
    let tags = tags.iter().map(|tag| Tag::new(tag.to_string()).expect("a tag")).collect();
    QueryItem { types: types.to_vec(), tags, streams, ..QueryItem::default() }
}

fn prefix(text: &str) -> Query {
    Query::from(item(&[TypeMatch::Prefix(text.to_owned())], &[], None))
}

fn within(streams: StreamMatch) -> Query {
    Query::from(item(&[], &[], Some(streams)))
}

async fn assert_finds<F: Factory>(store: &TestedStore<'_, F>, cases: &[(Query, &[u64])]) {
    for (query, expected) in cases {
        assert_eq!(store.matching(query.clone()).await, *expected, "{query:?}");
    }
}

/// Any of the types of an item.
pub async fn types_are_alternatives(factory: &impl Factory) {
    let store = holding(
        factory,
        &[("t.A", None, &[]), ("t.B", Some("s-1"), &[]), ("t.AB", None, &[]), ("t.A", None, &[])],
    )
    .await;
    let cases: [(Query, &[u64]); 5] = [
        (types(&["t.A"]), &[1, 4]),
        (types(&["t.A", "t.B"]), &[1, 2, 4]),
        (types(&["t.B", "t.A", "t.B"]), &[1, 2, 4]),
        (types(&["t.C"]), &[]),
        (types(&[]), &[]),
    ];
    assert_finds(&store, &cases).await;
}

/// All of the tags of an item.
pub async fn all_tags_must_be_there(factory: &impl Factory) {
    let store = holding(
        factory,
        &[
            ("t.A", None, &["a"]),
            ("t.A", None, &["b", "a"]),
            ("t.A", None, &["ab"]),
            ("t.A", None, &[]),
        ],
    )
    .await;
    let cases: [(Query, &[u64]); 5] = [
        (Query::tag("a"), &[1, 2]),
        (Query::tag("a").and_tag("b"), &[2]),
        (Query::tag("b").and_tag("a").and_tag("b"), &[2]),
        (Query::tag("a").and_tag("ab"), &[]),
        (Query::tag("A"), &[]),
    ];
    assert_finds(&store, &cases).await;
}

/// Any of the items; an event that matches two is found once. No items, no events; an empty item,
/// every event.
pub async fn items_are_alternatives(factory: &impl Factory) {
    let store = holding(
        factory,
        &[
            ("t.A", None, &["a"]),
            ("t.B", None, &["a", "b"]),
            ("t.C", Some("s-1"), &["b"]),
            ("t.D", None, &[]),
        ],
    )
    .await;
    let cases: [(Query, &[u64]); 5] = [
        (Query::tag("a").or(Query::tag("b")), &[1, 2, 3]),
        (types(&["t.D"]).or(Query::tag("a")), &[1, 2, 4]),
        (Query::tag("a").or(Query::tag("a")).or(types(&["t.A"])), &[1, 2]),
        (Query::nothing(), &[]),
        (Query::all().or(Query::tag("a")), &[1, 2, 3, 4]),
    ];
    assert_finds(&store, &cases).await;
}

/// Types, tags and stream of one item hold together; they do not mix with those of another item.
pub async fn an_item_restricts_by_everything_it_names(factory: &impl Factory) {
    let corpus: [(&str, Option<&str>, &[&str]); 5] = [
        ("t.A", Some("s-1"), &["a"]),
        ("t.A", Some("s-2"), &["a"]),
        ("t.B", Some("s-1"), &["a"]),
        ("t.A", Some("s-1"), &["b"]),
        ("t.A", None, &["a"]),
    ];
    let store = holding(factory, &corpus).await;
    let exact = |name: &str| TypeMatch::Exact(event_type(name));
    let one = item(&[exact("t.A")], &["a"], Some(StreamMatch::Exact(stream("s-1"))));
    let category =
        item(&[exact("t.A"), exact("t.B")], &["a"], Some(StreamMatch::Category("s".to_owned())));
    let crossed = item(&[exact("t.B")], &[], Some(StreamMatch::Exact(stream("s-2"))));
    let cases: [(Query, &[u64]); 4] = [
        (Query::from(one.clone()), &[1]),
        (Query::from(category), &[1, 2, 3]),
        (Query::from(item(&[exact("t.A")], &["a"], None)), &[1, 2, 5]),
        ([one, crossed].into_iter().collect(), &[1]),
    ];
    assert_finds(&store, &cases).await;
}

/// One stream, a category up to the first dash, a prefix; an event without a stream is in none.
pub async fn streams_are_found_by_name_category_and_prefix(factory: &impl Factory) {
    let names = [
        Some("car-1"),
        Some("car-1-2"),
        Some("car"),
        Some("cargo-1"),
        None,
        Some("Car-1"),
        Some("-x"),
    ];
    let corpus = names.map(|name| ("t.A", name, &[] as &[&str]));
    let store = holding(factory, &corpus).await;
    let prefix = |text: &str| within(StreamMatch::Prefix(text.to_owned()));
    let cases: [(Query, &[u64]); 9] = [
        (Query::stream(stream("car-1")), &[1]),
        (Query::stream(stream("car")), &[3]),
        (Query::category("car"), &[1, 2, 3]),
        (Query::category("cargo"), &[4]),
        (Query::category("ca"), &[]),
        (prefix("car"), &[1, 2, 3, 4]),
        (prefix("car-1"), &[1, 2]),
        (prefix(""), &[1, 2, 3, 4, 6, 7]),
        (Query::category(""), &[7]),
    ];
    assert_finds(&store, &cases).await;
}

/// Every type that begins so, the very text included.
pub async fn types_are_found_by_prefix(factory: &impl Factory) {
    let corpus = ["shop.Sold", "shop.SoldOut", "shop", "shopping.Began", "bank.Paid"]
        .map(|name| (name, None, &[] as &[&str]));
    let store = holding(factory, &corpus).await;
    let cases: [(Query, &[u64]); 6] = [
        (prefix("shop."), &[1, 2]),
        (prefix("shop"), &[1, 2, 3, 4]),
        (prefix("shop.Sold"), &[1, 2]),
        (prefix("s"), &[1, 2, 3, 4]),
        (prefix("x"), &[]),
        (prefix(""), &[1, 2, 3, 4, 5]),
    ];
    assert_finds(&store, &cases).await;
}

/// The runtime's own events are outside "all events": an item must name them, or say that it means
/// them.
pub async fn system_events_are_found_only_where_they_are_meant(factory: &impl Factory) {
    let corpus: [(&str, Option<&str>, &[&str]); 5] = [
        ("t.A", Some("s-1"), &["a"]),
        ("$timer.Fired", Some("s-1"), &["a"]),
        ("t.A", Some("$effect-1"), &["a"]),
        ("$timer.Set", None, &["a"]),
        ("t.$A", Some("s-$"), &["$a"]),
    ];
    let store = holding(factory, &corpus).await;
    let cases: [(Query, &[u64]); 14] = [
        (Query::all(), &[1, 5]),
        (Query::everything(), &[1, 2, 3, 4, 5]),
        (Query::tag("a"), &[1]),
        (Query::tag("$a"), &[5]),
        (Query::everything().and_tag("a"), &[1, 2, 3, 4]),
        (types(&["t.A"]), &[1]),
        (types(&["$timer.Fired"]), &[2]),
        (types(&["$timer.Fired", "t.A"]), &[1, 2, 3]),
        (prefix("$timer."), &[2, 4]),
        (prefix(""), &[1, 5]),
        (Query::stream(stream("s-1")), &[1]),
        (Query::stream(stream("$effect-1")), &[3]),
        (Query::category("$effect"), &[3]),
        (Query::tag("a").or(types(&["$timer.Set"])), &[1, 4]),
    ];
    assert_finds(&store, &cases).await;
    let by_stream =
        store.read_all(Read::stream(stream("s-1"), leftfold_core::store::Version(1))).await;
    assert_eq!(
        super::examples::positions(&by_stream),
        [1, 2],
        "a read of a stream is of all its events"
    );
}

/// Nothing is trimmed, folded or split: a text matches itself.
pub async fn names_of_every_kind_are_matched_exactly(factory: &impl Factory) {
    let tags = ["a", "a ", " a", "A", "á", "a\u{301}", "a:b", "a:", ":", "a,b", "a\0", "a\0b"];
    let store = TestedStore::new(factory).await;
    for tag in tags {
        store.appended(Append::of(vec![tagged(fact("t.A"), &[tag])])).await;
    }
    for (index, tag) in tags.iter().enumerate() {
        assert_eq!(store.matching(Query::tag(*tag)).await, [index as u64 + 1], "tag {tag:?}");
    }
}

struct QueryGenerator(fastrand::Rng);

impl QueryGenerator {
    fn name(&mut self) -> String {
        let namespace = ["a", "ab", "b", "$s"][self.0.usize(..4)];
        format!("{namespace}.{}", self.0.u8(..3))
    }

    fn stream(&mut self) -> String {
        let category = ["a", "ab", "b", "$s"][self.0.usize(..4)];
        format!("{category}-{}", self.0.u8(..3))
    }

    fn tags(&mut self, count_max: u8) -> Vec<String> {
        (0..self.0.u8(..=count_max)).map(|_| format!("t{}", self.0.u8(..4))).collect()
    }

    fn event(&mut self) -> NewEvent {
        let tags = self.tags(3);
        let new = tagged(fact(&self.name()), &tags.iter().map(String::as_str).collect::<Vec<_>>());
        if self.0.u8(..4) == 0 { new } else { new.in_stream(stream(&self.stream())) }
    }

    fn beginning(&mut self, text: &str) -> String {
        text[..self.0.usize(..=text.len())].to_owned()
    }

    fn query(&mut self) -> Query {
        (0..self.0.u8(1..4)).map(|_| self.item()).collect()
    }

    fn item(&mut self) -> QueryItem {
        let types: Vec<_> = (0..self.0.u8(..3))
            .map(|_| {
                let name = self.name();
                if self.0.bool() {
                    TypeMatch::Exact(event_type(&name))
                } else {
                    TypeMatch::Prefix(self.beginning(&name))
                }
            })
            .collect();
        let name = self.stream();
        let streams = match self.0.u8(..6) {
            0 => Some(StreamMatch::Exact(stream(&name))),
            1 => Some(StreamMatch::Category(stream(&name).category().to_owned())),
            2 => Some(StreamMatch::Prefix(self.beginning(&name))),
            _ => None,
        };
        let tags = self.tags(2);
        let one = item(&types, &tags.iter().map(String::as_str).collect::<Vec<_>>(), streams);
        if self.0.u8(..5) == 0 { one.with_system() } else { one }
    }
}

/// Random queries over a random log find what [`Query::matches`] says: in reads of both directions
/// from any place, in small pages, and as conditions.
pub async fn random_queries_find_what_they_say(factory: &impl Factory) {
    let mut choices = QueryGenerator(fastrand::Rng::with_seed(crate::seed()));
    let mut store = TestedStore::new(factory).await;
    for _ in 0..120 {
        let batch = (0..choices.0.usize(1..4)).map(|_| choices.event()).collect();
        store.appended(Append::of(batch)).await;
    }
    store.reopen().await;
    let all = store.everything().await;
    for _ in 0..300 {
        let query = choices.query();
        let from = choices.0.u64(1..all.len() as u64 + 2);
        let meant = |event: &&leftfold_core::store::RecordedEvent| query.matches(event);
        let expected: Vec<u64> =
            all.iter().filter(meant).map(|e| e.position.0).filter(|at| *at >= from).collect();
        let read = Read::matching(query.clone(), Position(from)).page_of(choices.0.u32(1..20));
        let found = super::examples::positions(&store.read_all(read).await);
        assert_eq!(found, expected, "forwards from {from}: {query:?}");
        let mut before: Vec<u64> =
            all.iter().filter(meant).map(|e| e.position.0).filter(|at| *at <= from).collect();
        before.reverse();
        let read =
            Read::matching(query.clone(), Position(from)).backwards().page_of(choices.0.u32(1..20));
        let found = super::examples::positions(&store.read_all(read).await);
        assert_eq!(found, before, "backwards from {from}: {query:?}");
        let after = Position(from - 1);
        let append = Append::default().when(Condition::none_matching(query.clone(), after));
        match expected.first() {
            Some(first) => {
                let told = Conflict::Matching { clause: 0, after, found: Position(*first) };
                assert_eq!(store.conflict(append).await, told, "as a condition: {query:?}");
            }
            None => drop(store.appended(append).await),
        }
    }
}

/// In whatever order its items stand, a query finds the same events, and as a condition the same
/// conflict.
pub async fn the_order_of_items_changes_nothing(factory: &impl Factory) {
    let tags = ["a", "b", "c", "d", "e"];
    let store = holding(
        factory,
        &tags
            .map(|tag| ("t.A", None, [tag]))
            .each_ref()
            .map(|(name, within, tags)| (*name, *within, &tags[..])),
    )
    .await;
    let mut items: Vec<QueryItem> = tags.iter().map(|tag| item(&[], &[tag], None)).collect();
    for _ in 0..2 {
        for _ in 0..items.len() {
            items.rotate_left(1);
            let query: Query = items.iter().cloned().collect();
            assert_eq!(store.matching(query.clone()).await, [1, 2, 3, 4, 5], "{query:?}");
            for after in 0..5 {
                let (after, found) = (Position(after), Position(after + 1));
                let append = Append::default().when(Condition::none_matching(query.clone(), after));
                assert_eq!(
                    store.conflict(append).await,
                    Conflict::Matching { clause: 0, after, found },
                    "{query:?}"
                );
            }
        }
        items.reverse();
    }
}

/// Events that were appended together are seen together, though each event matches another item.
pub async fn all_items_are_judged_at_one_head(factory: &impl Factory) {
    const PAIRS: u64 = 150;
    let store = TestedStore::new(factory).await;
    let writing = (*store).clone();
    let writer = tokio::spawn(async move {
        for _ in 0..PAIRS {
            let pair = Append::of(vec![tagged(fact("t.A"), &["a"]), tagged(fact("t.B"), &["b"])]);
            let answer = writing.append(pair).await;
            assert!(answer.is_ok(), "{answer:?}");
            tokio::task::yield_now().await;
        }
    });
    let both = Query::tag("a").or(Query::tag("b"));
    let mut seen = 0;
    while seen < 2 * PAIRS {
        let page = store.read_page(Read::matching(both.clone(), Position(1))).await;
        seen = page.events.len() as u64;
        let whole: Vec<u64> = (1..=seen).collect();
        assert!(
            super::examples::positions(&page.events) == whole && seen % 2 == 0,
            "half of a pair is missing: {page:?}"
        );
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer ends without a panic");
}
