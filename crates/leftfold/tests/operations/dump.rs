//! Stores as lines of JSON: written, read, interrupted, and lines that are wrong.

use leftfold::log::{Log, Options};
use leftfold::operations::{Import, ImportError, ImportReport, dump, import};
use leftfold::prelude::*;
use leftfold::store::{
    Append, Checkpoint, CheckpointRecord, CommandId, CommandRecord, ContentType, Digest, EventId,
    EventType, Hash, Label, Metadata, MoveFrom, NewEvent, Outcome, Partition, Read, RecordedEvent,
    Tags, TraceContext,
};
use leftfold_testing::by_runtime;

/// Data that is no JSON of one line, or is JSON that a parser would write in another way.
const DATA: [&[u8]; 14] = [
    b"{}",
    br#"{"cents":500}"#,
    br#"{"a": 1.0, "a":1e999,"b":-0}"#,
    br#"" \ud800 \u0041 ""#,
    b"123456789012345678901234567890.10",
    b"null",
    b" {}",
    b"{} ",
    b"[1,\n2]",
    b"[1,\r2]",
    b"",
    b"no json",
    b"\xff\x00\xfe",
    "\"\u{2028}ä\u{0}\"".as_bytes(),
];

fn label(text: &str) -> Label {
    Label::try_from(text).unwrap()
}

fn open(path: &std::path::Path) -> Store {
    let options = Options { segment_bytes: 16 << 10, memory_bytes: 1 << 20, ..Options::default() };
    Store::new(Log::open(path, options).unwrap().0)
}

fn event(random: &mut fastrand::Rng) -> NewEvent {
    let types = ["shop.Sold", "shop.Opened", "$timer.Set"];
    let mut event = NewEvent::new(
        EventType::new(types[random.usize(..3)]).unwrap(),
        DATA[random.usize(..DATA.len())],
    );
    event.schema_version = random.u32(1..4);
    if random.u8(..5) > 0 {
        let id = random.u8(..4).to_string();
        event.stream = Some(StreamName::of(["shop", "$timer"][random.usize(..2)], &id).unwrap());
    }
    if random.bool() {
        event.tags = Tags::none().with("shop:1").with("a \"quoted\"\ntag");
        event.key_ids = vec![label("key")];
        event.content_type = ContentType::Other(label("text/plain"));
    } else if random.bool() {
        event.content_type = ContentType::Binary;
        event.id = Some(EventId(uuid_of(random.u128(..))));
    }
    if random.bool() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        event.metadata = Metadata {
            correlation: Some(label("talk")),
            causation: Some(label("word")),
            user: DATA[random.usize(..DATA.len())].into(),
            trace: Some(TraceContext::parse(parent, Some("vendor=1")).unwrap()),
        };
    }
    event
}

fn uuid_of(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

/// Appends of every shape; some move consumers of this store and of another one.
async fn grow(store: &Store, random: &mut fastrand::Rng, numbers: std::ops::Range<u64>) {
    let other = leftfold::store::StoreId(uuid_of(7));
    for number in numbers {
        let events = (0..random.usize(..4)).map(|_| event(random)).collect::<Vec<_>>();
        let command = (number % 2 == 0).then(|| CommandRecord {
            id: CommandId::new("test", &number.to_string()),
            digest: Digest::of(&number.to_le_bytes()),
            answer: DATA[random.usize(..DATA.len())].into(),
        });
        let checkpoint = match random.u8(..4) {
            0 => Some(("$process:p", store.checkpoint_at(store.head().position).await.unwrap())),
            1 => Some((
                "reader",
                Checkpoint {
                    store: other,
                    partition: Partition::default(),
                    position: Position(number),
                    hash: Hash([9; 32]),
                },
            )),
            _ => None,
        };
        let checkpoint = checkpoint.map(|(consumer, checkpoint)| CheckpointRecord {
            consumer: label(consumer),
            from: MoveFrom::Anywhere,
            checkpoint,
        });
        let append = by_runtime(Append { events, command, checkpoint, ..Append::default() });
        assert!(matches!(store.append(append).await.unwrap(), Outcome::Appended(_)));
    }
}

async fn lines_of(store: &Store) -> Vec<u8> {
    let mut lines = Vec::new();
    dump(store, &mut lines).await.unwrap();
    lines
}

async fn events(store: &Store) -> Vec<RecordedEvent> {
    store.read(Read::matching(Query::everything(), Position(1))).all().await.unwrap()
}

/// Asserts that a store has everything that another one has, but for times.
async fn assert_same(new: &Store, old: &Store, numbers: u64) {
    let (found, expected) = (events(new).await, events(old).await);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.into_iter().zip(expected) {
        let recorded_at = expected.recorded_at;
        assert_eq!(RecordedEvent { recorded_at, ..found }, expected);
    }
    for number in 0..numbers {
        let id = CommandId::new("test", &number.to_string());
        let [found, expected] = [new.answered(id).await.unwrap(), old.answered(id).await.unwrap()]
            .map(|answered| answered.map(|found| (found.record, found.first, found.events)));
        assert_eq!(found, expected);
    }
    let process = || label("$process:p");
    let expected = old.checkpoint(process()).await.unwrap().unwrap();
    let found = new.checkpoint(process()).await.unwrap().unwrap();
    assert_eq!(found.position, expected.position);
    assert_eq!(new.verify(&found).await, Ok(()));
    let other = leftfold::store::StoreId(uuid_of(7));
    let [found, expected] = [new, old].map(|store| store.checkpoint_in(label("reader"), other));
    assert_eq!(found.await, expected.await);
}

#[tokio::test]
async fn everything_but_times_comes_back_wherever_an_import_was_interrupted() {
    let place = tempfile::tempdir().unwrap();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let old = open(&place.path().join("old"));
    grow(&old, &mut random, 0..300).await;
    let lines = lines_of(&old).await;
    let all: Vec<&[u8]> = lines.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(all.len() > 250 && std::str::from_utf8(&lines).is_ok());
    for new in [Store::memory(), open(&place.path().join("new"))] {
        for _ in 0..5 {
            let mut import = Import::into(&new);
            for line in &all[..random.usize(..all.len())] {
                match import.line(line.strip_suffix(b"\n").unwrap()).await {
                    Ok(()) => {}
                    // What the last one handed over is still under way.
                    Err(ImportError::Overtaken { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        let report = loop {
            match import(&new, &mut &lines[..]).await {
                Err(ImportError::Overtaken { .. }) => {}
                imported => break imported.unwrap(),
            }
        };
        assert_eq!((report.appends, report.source), (all.len() as u64 - 2, old.identity().store));
        assert_same(&new, &old, 300).await;

        // It is done, and doing it again changes nothing, whatever the store did since.
        let mut later = new.checkpoint(label("$process:p")).await.unwrap().unwrap();
        later = new.checkpoint_at(Position(later.position.0.saturating_sub(1))).await.unwrap();
        let record = CheckpointRecord {
            consumer: label("$process:p"),
            from: MoveFrom::Anywhere,
            checkpoint: later.clone(),
        };
        let moved = Append { checkpoint: Some(record), ..Append::default() };
        new.append(by_runtime(moved)).await.unwrap();
        let again = import(&new, &mut &lines[..]).await.unwrap();
        assert_eq!(ImportReport { repeated: report.repeated, ..again }, report);
        assert_eq!(new.checkpoint(label("$process:p")).await.unwrap(), Some(later));
    }
    // A dump of the import says the same of every append, but for times and hashes.
    let new = Store::memory();
    import(&new, &mut &lines[..]).await.unwrap();
    let second = lines_of(&new).await;
    let datas = |lines: &[u8]| {
        let text = std::str::from_utf8(lines).unwrap();
        text.lines().map(|line| line.matches("\"data").count()).sum::<usize>()
    };
    assert_eq!(datas(&second), datas(&lines));
}

#[tokio::test]
async fn a_later_dump_of_the_same_store_goes_on_where_an_import_ended() {
    let (old, new) = (Store::memory(), Store::memory());
    let mut random = fastrand::Rng::with_seed(3);
    grow(&old, &mut random, 0..50).await;
    import(&new, &mut &lines_of(&old).await[..]).await.unwrap();
    grow(&old, &mut random, 50..100).await;
    let report = import(&new, &mut &lines_of(&old).await[..]).await.unwrap();
    assert!(report.repeated > 30, "{report:?}");
    assert_same(&new, &old, 100).await;
    // From the first append of its own the store is nobody's copy.
    let sold = NewEvent::new(EventType::new("shop.Sold").unwrap(), "{}");
    new.append(Append::of(vec![sold])).await.unwrap();
    grow(&old, &mut random, 100..101).await;
    let refused = import(&new, &mut &lines_of(&old).await[..]).await;
    assert!(matches!(refused, Err(ImportError::Foreign { .. })), "{refused:?}");
}

#[tokio::test]
async fn of_two_imports_at_once_one_is_told_to_leave_it_to_the_other() {
    // Every other append answers a command, and has none to three events.
    for (start, seed) in (0..2).flat_map(|start| (0..8).map(move |seed| (start, seed))) {
        let (old, new) = (Store::memory(), Store::memory());
        grow(&old, &mut fastrand::Rng::with_seed(seed), start..40).await;
        let lines = lines_of(&old).await;
        let all: Vec<&[u8]> = lines.strip_suffix(b"\n").unwrap().split(|b| *b == b'\n').collect();
        // As after an interruption: the second begins, and then what the first handed over arrives.
        let [mut first, mut second] = [Import::into(&new), Import::into(&new)];
        first.line(all[0]).await.unwrap();
        second.line(all[0]).await.unwrap();
        for line in &all[1..] {
            first.line(line).await.unwrap();
        }
        first.finish().await.unwrap();
        for line in &all[1..] {
            second.line(line).await.unwrap();
        }
        let refused = second.finish().await;
        let is_overtaken = matches!(refused, Err(ImportError::Overtaken { line: 2, .. }));
        assert!(is_overtaken, "from {start}, seed {seed}: {refused:?}");
        assert_same(&new, &old, 40).await;
    }
}

#[tokio::test]
async fn wrong_lines_are_refused_by_their_number_and_a_wrong_store_before_anything() {
    let (old, empty) = (Store::memory(), Store::memory);
    grow(&old, &mut fastrand::Rng::with_seed(5), 0..20).await;
    let lines = String::from_utf8(lines_of(&old).await).unwrap();
    let all: Vec<&str> = lines.lines().collect();
    let try_lines = |lines: Vec<&str>| {
        let text = lines.join("\n");
        async move { import(&empty(), &mut text.as_bytes()).await }
    };
    let at = |result: Result<ImportReport, ImportError>| match result {
        Err(ImportError::Line { line, .. }) => line,
        other => panic!("{other:?}"),
    };
    assert_eq!(at(try_lines(vec!["{}"]).await), 1);
    let mut wrong = all.clone();
    let half = &all[4][..all[4].len() / 2];
    wrong[4] = half;
    assert_eq!(at(try_lines(wrong).await), 5);
    let unknown = all[3].replacen("{\"first\"", "{\"colour\":\"red\",\"first\"", 1);
    let mut wrong = all.clone();
    wrong[3] = &unknown;
    assert_eq!(at(try_lines(wrong).await), 4);
    let with_events = (1..all.len() - 1).find(|at| all[*at].contains("\"events\"")).unwrap();
    let mut wrong = all.clone();
    wrong.remove(with_events);
    assert!(at(try_lines(wrong).await) > 1);
    let text = all[with_events].replacen("\"type\":\"", "\"type\":\"x", 1);
    let mut wrong = all.clone();
    wrong[with_events] = &text;
    assert_eq!(at(try_lines(wrong).await), all.len() as u64, "the last line tells of it");
    let mut wrong = all.clone();
    wrong.push(all[3]);
    assert_eq!(at(try_lines(wrong).await), all.len() as u64 + 1);
    let cut = try_lines(all[..all.len() - 1].to_vec()).await;
    assert_eq!(cut, Err(ImportError::Incomplete { lines: all.len() as u64 - 1 }));
    let future = all[0].replace("\"format\":1", "\"format\":2");
    assert_eq!(try_lines(vec![&future]).await, Err(ImportError::OtherRelease { found: 2 }));

    let own = import(&old, &mut lines.as_bytes()).await;
    assert_eq!(own, Err(ImportError::SameStore { store: old.identity().store }));
    let used = Store::memory();
    grow(&used, &mut fastrand::Rng::with_seed(6), 0..20).await;
    let refused = import(&used, &mut lines.as_bytes()).await;
    assert_eq!(refused, Err(ImportError::Foreign { found: Position(1) }));
    // An import that was begun with other lines.
    let begun = empty();
    let mut import_of = Import::into(&begun);
    for line in &all[..=with_events] {
        import_of.line(line.as_bytes()).await.unwrap();
    }
    drop(import_of);
    let mut other = all.clone();
    other[with_events] = &text;
    let refused = import(&begun, &mut other.join("\n").as_bytes()).await;
    assert!(matches!(refused, Err(ImportError::OtherDump { .. })), "{refused:?}");
}
