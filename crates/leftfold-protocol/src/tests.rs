//! Every word of the store survives the way over the wire.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use fastrand::Rng;
use leftfold_core::store::{
    Answered, Append, AppendError, Appended, AppendsFrom, AppendsPage, Authority, Checkpoint,
    CheckpointRecord, CommandId, CommandRecord, Condition, Conflict, ContentType, Digest,
    Direction, Epoch, EventId, EventType, Expected, Fence, Hash, Head, HeldLease, Holder, Identity,
    InStream, Invalid, Label, Lease, LeaseError, LeaseRequest, Leased, Metadata, MoveFrom,
    NewEvent, NoneMatching, Outcome, Page, Partition, Position, Query, QueryItem, Read, ReadError,
    RecordedAppend, RecordedEvent, State, Status, StoreId, StreamMatch, StreamName, System, Tag,
    Tags, Timestamp, TraceContext, TypeMatch, Version, What,
};
use prost::Message;
use uuid::Uuid;

use super::*;

/// Sends a word as a message of type `W`, byte by byte, and compares it with what arrives.
fn survives<T, W>(word: &T)
where
    T: Clone + Debug + PartialEq + Into<W> + TryFrom<W>,
    T::Error: Debug,
    W: Message + Default,
{
    let message: W = word.clone().into();
    let arrived = W::decode(&*message.encode_to_vec()).unwrap();
    assert_eq!(&T::try_from(arrived).unwrap(), word);
}

fn text(random: &mut Rng) -> String {
    let letters = ['a', 'ß', '$', '-', ' ', '\0', '漢', ':'];
    (0..random.usize(1..20)).map(|_| random.choice(letters).unwrap()).collect()
}

fn maybe<T>(random: &mut Rng, make: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    if random.bool() { Some(make(random)) } else { None }
}

fn several<T>(random: &mut Rng, make: impl Fn(&mut Rng) -> T) -> Vec<T> {
    (0..random.usize(..4)).map(|_| make(random)).collect()
}

fn bytes(random: &mut Rng) -> bytes::Bytes {
    (0..random.usize(..40)).map(|_| random.u8(..)).collect()
}

fn label(random: &mut Rng) -> Label {
    Label::new(text(random)).unwrap()
}

fn stream(random: &mut Rng) -> StreamName {
    StreamName::new(text(random)).unwrap()
}

fn event_type(random: &mut Rng) -> EventType {
    EventType::new(text(random)).unwrap()
}

fn position(random: &mut Rng) -> Position {
    *random.choice(&[Position::START, Position::END, Position(7)]).unwrap()
}

fn moment(random: &mut Rng) -> Timestamp {
    Timestamp::from_micros(random.i64(-1_000_000..i64::from(u32::MAX) * 1_000_000))
}

fn hash(random: &mut Rng) -> Hash {
    Hash(std::array::from_fn(|_| random.u8(..)))
}

fn uuid(random: &mut Rng) -> Uuid {
    Uuid::from_u128(random.u128(..))
}

fn content_type(random: &mut Rng) -> ContentType {
    match random.u8(..4) {
        0 => ContentType::Json,
        1 => ContentType::Binary,
        2 => ContentType::Other(Label::new("application/json").unwrap()),
        _ => ContentType::Other(label(random)),
    }
}

fn trace(random: &mut Rng) -> TraceContext {
    let state = if random.bool() { "vendor=1" } else { "" };
    TraceContext::new([random.u8(1..); 16], [random.u8(1..); 8], random.u8(..), state).unwrap()
}

fn new_event(random: &mut Rng) -> NewEvent {
    NewEvent {
        stream: maybe(random, stream),
        event_type: event_type(random),
        schema_version: random.u32(..3),
        content_type: content_type(random),
        data: bytes(random),
        metadata: Metadata {
            correlation: maybe(random, label),
            causation: maybe(random, label),
            user: bytes(random),
            trace: maybe(random, trace),
        },
        tags: several(random, |random| Tag::new(text(random)).unwrap())
            .into_iter()
            .collect::<Tags>(),
        id: maybe(random, uuid).map(EventId),
        key_ids: several(random, label),
    }
}

fn recorded(random: &mut Rng) -> RecordedEvent {
    let new = new_event(random);
    let at = new.stream.clone().map(|name| InStream { name, version: Version(random.u64(1..)) });
    let id = EventId(uuid(random));
    let event = RecordedEvent::of(new, position(random), moment(random), at, id);
    RecordedEvent { append_continues: random.bool(), ..event }
}

fn query(random: &mut Rng) -> Query {
    several(random, |random| QueryItem {
        types: several(random, |random| {
            if random.bool() {
                TypeMatch::Exact(event_type(random))
            } else {
                TypeMatch::Prefix(text(random))
            }
        }),
        tags: several(random, |random| Tag::new(text(random)).unwrap()),
        streams: maybe(random, |random| match random.u8(..3) {
            0 => StreamMatch::Exact(stream(random)),
            1 => StreamMatch::Category(text(random)),
            _ => StreamMatch::Prefix(String::new()),
        }),
        system: if random.bool() { System::Included } else { System::Excluded },
    })
    .into_iter()
    .collect()
}

fn expected(random: &mut Rng) -> Expected {
    match random.u8(..4) {
        0 => Expected::Any,
        1 => Expected::Absent,
        2 => Expected::Exists,
        _ => Expected::Exact(Version(random.u64(..3))),
    }
}

fn command(random: &mut Rng) -> CommandRecord {
    let id = CommandId(*uuid(random).as_bytes());
    let digest = if random.bool() { Digest::UNCHECKED } else { Digest::of(b"x") };
    CommandRecord { id, digest, answer: bytes(random) }
}

fn move_from(random: &mut Rng) -> MoveFrom {
    match random.u8(..3) {
        0 => MoveFrom::Exactly(position(random)),
        1 => MoveFrom::Earlier,
        _ => MoveFrom::Anywhere,
    }
}

fn checkpoint(random: &mut Rng) -> Checkpoint {
    Checkpoint {
        store: StoreId(uuid(random)),
        partition: Partition(maybe(random, label)),
        position: position(random),
        hash: hash(random),
    }
}

fn append(random: &mut Rng) -> Append {
    Append {
        events: several(random, new_event),
        condition: Condition {
            streams: several(random, |random| (stream(random), expected(random))),
            none_matching: several(random, |random| NoneMatching {
                query: query(random),
                after: position(random),
            }),
        },
        command: maybe(random, command),
        checkpoint: maybe(random, |random| CheckpointRecord {
            consumer: label(random),
            from: move_from(random),
            checkpoint: checkpoint(random),
        }),
        fence: maybe(random, |random| (label(random), Fence(random.u64(..)))),
        authority: Authority::of_number(random.i32(..3).rem_euclid(3)).unwrap(),
    }
}

fn head(random: &mut Rng) -> Head {
    if random.bool() {
        return Head::EMPTY;
    }
    Head { position: position(random), chain: hash(random), recorded_at: moment(random) }
}

fn answered(random: &mut Rng) -> Answered {
    let (record, recorded_at) = (command(random), moment(random));
    Answered { record, recorded_at, first: position(random), events: random.u32(..) }
}

fn what(random: &mut Rng) -> What {
    if random.bool() {
        What::Stream { stream: stream(random), from: Version::END }
    } else {
        What::Matching { query: query(random), from: position(random) }
    }
}

#[test]
fn what_is_appended_and_read_survives() {
    let mut random = Rng::with_seed(leftfold_testing::seed());
    for _ in 0..300 {
        let random = &mut random;
        survives::<_, wire::Append>(&append(random));
        survives::<_, wire::RecordedEvent>(&recorded(random));
        let direction = if random.bool() { Direction::Forwards } else { Direction::Backwards };
        let read =
            Read { what: what(random), direction, page_events: 0, page_bytes: random.u32(..) };
        assert_eq!(Read::try_from(wire::ReadRequest::from(&read)), Ok(read));
        survives::<_, wire::Page>(&Page {
            events: several(random, recorded),
            next: maybe(random, what),
            through: position(random),
            head: head(random),
            stream_version: maybe(random, |random| Version(random.u64(..))),
        });
        survives::<_, wire::AppendsPage>(&AppendsPage {
            appends: several(random, |random| RecordedAppend {
                first: position(random),
                events: several(random, recorded),
                command: maybe(random, answered),
                checkpoint: maybe(random, |random| (label(random), checkpoint(random))),
                hash: hash(random),
            }),
            next: if random.bool() {
                AppendsFrom::Mark(random.u64(..))
            } else {
                AppendsFrom::After(position(random))
            },
            head: head(random),
        });
    }
}

#[test]
fn identities_statuses_and_leases_survive() {
    let mut random = Rng::with_seed(leftfold_testing::seed());
    for _ in 0..100 {
        let random = &mut random;
        let epoch =
            Epoch { id: uuid(random), number: random.u32(..), began_after: position(random) };
        survives::<_, wire::Identity>(&Identity { store: StoreId(uuid(random)), epoch });
        let detail = || "the disk failed".to_owned();
        let state = if random.bool() { State::Open } else { State::ReadOnly { detail: detail() } };
        let status = Status { head: head(random), state };
        assert_eq!(Status::try_from(wire::Status::from(&status)), Ok(status));
        let state = State::Away { since: Instant::now(), detail: detail() };
        let away = Status { head: head(random), state };
        let heard = Status::try_from(wire::Status::from(&away)).unwrap();
        let is_told = matches!(&heard.state, State::Away { detail: told, .. } if *told == detail());
        assert!(is_told && heard.head == away.head, "{heard:?}");
        let (work, holder) = (label(random), Holder(uuid(random)));
        let during = Duration::from_micros(random.u64(..1 << 40));
        let note = bytes(random);
        let asked = LeaseRequest::new(work.clone(), holder, during).with_note(note.clone());
        survives::<_, wire::LeaseRequest>(&asked);
        let (fence, until) = (Fence(random.u64(..)), moment(random));
        survives::<_, wire::LeaseReply>(&Leased::HeldBy { holder, until });
        let lease = Lease { work: work.clone(), fence, until };
        survives::<_, wire::LeaseReply>(&Leased::Held(lease));
        survives::<_, wire::HeldLease>(&HeldLease { work, holder, fence, until, note });
    }
}

/// Every outcome and every error of an append, with everything that it carries.
#[test]
fn every_answer_of_an_append_survives() {
    let mut random = Rng::with_seed(leftfold_testing::seed());
    let random = &mut random;
    let detail = || "no room".to_owned();
    let appended = Appended {
        first: position(random),
        versions: vec![Version(0), Version(u64::MAX)],
        recorded_at: moment(random),
    };
    let answers = [
        Ok(Outcome::Appended(appended)),
        Ok(Outcome::Repeated(answered(random))),
        Ok(Outcome::Conflict(Conflict::Stream {
            stream: stream(random),
            expected: expected(random),
            actual: Version(3),
        })),
        Ok(Outcome::Conflict(Conflict::Matching {
            clause: 99,
            after: Position::START,
            found: Position(8),
        })),
        Err(AppendError::Invalid(Invalid::TooLarge { what: "a tag", size: 9, limit: 8 })),
        Err(AppendError::Invalid(Invalid::Empty { what: "a tag" })),
        Err(AppendError::Invalid(Invalid::Reserved { what: "a consumer", name: "$x".into() })),
        Err(AppendError::Invalid(Invalid::Category { category: "a-b".into() })),
        Err(AppendError::CommandIdReused { id: CommandId([7; 16]) }),
        Err(AppendError::CheckpointMoved {
            consumer: label(random),
            current: position(random),
            from: move_from(random),
            proposed: position(random),
        }),
        Err(AppendError::Fenced { work: label(random), fence: Fence(1), current: None }),
        Err(AppendError::Fenced { work: label(random), fence: Fence(1), current: Some(Fence(0)) }),
        Err(AppendError::Busy { waiting: 12 }),
        Err(AppendError::Full { detail: detail() }),
        Err(AppendError::Unknown { detail: detail() }),
        Err(AppendError::ReadOnly { detail: detail() }),
        Err(AppendError::ReadModel { projection: "orders", detail: detail() }),
        Err(AppendError::Unavailable { detail: String::new() }),
        Err(AppendError::Denied { detail: detail() }),
        Err(AppendError::Closed),
        Err(AppendError::Read(ReadError::Busy { waiting: 1 })),
    ];
    for answer in answers {
        let sent = answer_of(5, answer.clone()).encode_to_vec();
        let arrived = wire::AppendAnswer::decode(&*sent).unwrap();
        assert_eq!(outcome_of(arrived.outcome.unwrap()), Ok(answer));
    }
}

#[test]
fn errors_of_reads_and_leases_survive_as_details_of_a_status() {
    let detail = || "the disk failed".to_owned();
    for error in [
        ReadError::Invalid(Invalid::Empty { what: "a tag" }),
        ReadError::Busy { waiting: 5 },
        ReadError::Damaged { place: "a file, byte 7".to_owned(), detail: detail() },
        ReadError::Io { detail: detail() },
        ReadError::Denied { detail: detail() },
        ReadError::Closed,
    ] {
        assert_eq!(read_error(&read_status(&error)), Some(error));
    }
    for error in [
        LeaseError::Invalid(Invalid::TooLarge { what: "the note of a lease", size: 9, limit: 8 }),
        LeaseError::TooMany { limit: 10_000 },
        LeaseError::Unavailable { detail: detail() },
        LeaseError::Denied { detail: detail() },
        LeaseError::Closed,
    ] {
        assert_eq!(lease_error(&lease_status(&error)), Some(error));
    }
    let other = tonic::Status::with_details(tonic::Code::Internal, "?", vec![1, 2, 3].into());
    assert_eq!((read_error(&other), lease_error(&other)), (None, None));
}

/// Random bytes are refused or read, and never more than that.
#[test]
fn what_no_client_sends_is_refused() {
    let mut random = Rng::with_seed(leftfold_testing::seed());
    for _ in 0..20_000 {
        let mut sent = wire::Append::from(append(&mut random)).encode_to_vec();
        for _ in 0..random.usize(..4) {
            if let Some(at) = random.choice(0..sent.len().max(1)).filter(|at| *at < sent.len()) {
                sent[at] = random.u8(..);
            }
        }
        if let Ok(message) = wire::Append::decode(&*sent) {
            let _ = Append::try_from(message);
        }
    }
    let many = wire::NewEvent {
        r#type: "t".into(),
        tags: (0..100_000).map(|number| number.to_string().into()).collect(),
        ..wire::NewEvent::default()
    };
    assert!(matches!(
        NewEvent::try_from(many),
        Err(Malformed::Invalid(Invalid::TooLarge { what: "the tags of an event", .. }))
    ));
    let absent = wire::Append { authority: 9, ..wire::Append::default() };
    let refused = Malformed::Number { field: "authority", number: 9 };
    assert_eq!(Append::try_from(absent), Err(refused));
}

#[test]
fn appends_of_one_message_arrive_in_their_order_and_are_bounded() {
    let mut random = Rng::with_seed(leftfold_testing::seed());
    let appends: Vec<_> = (0..20).map(|_| append(&mut random)).collect();
    let mut batch = AppendBatch::new(7, 3);
    appends.iter().for_each(|append| batch.push(append));
    let message = batch.into_request().encode_to_vec();
    let request = wire::AppendRequest::decode(&*message).unwrap().request;
    let Some(wire::append_request::Request::Appends(bytes)) = request else {
        panic!("{request:?}");
    };
    // What a client makes that knows only the description is the same.
    let described = wire::NumberedAppends {
        first: 7,
        first_unanswered: 3,
        appends: appends.iter().map(Into::into).collect(),
    };
    assert_eq!(bytes, described.encode_to_vec());
    let sent = SentAppends::read(bytes).unwrap();
    assert_eq!((sent.first, sent.first_unanswered), (7, 3));
    let read: Vec<_> = sent.appends.into_iter().map(|bytes| append_of(bytes).unwrap()).collect();
    assert_eq!(read, appends);

    let empty = |count: usize| bytes::Bytes::from([0x1a, 0].repeat(count));
    assert_eq!(SentAppends::read(empty(IN_FLIGHT_MAX)).unwrap().appends.len(), IN_FLIGHT_MAX);
    let too_many = SentAppends::read(empty(IN_FLIGHT_MAX + 1));
    assert!(matches!(too_many, Err(Malformed::Invalid(Invalid::TooLarge { .. }))), "{too_many:?}");
    for cut in [&[0x1a, 5, 1][..], &[0x1a], &[0xff; 11]] {
        let read = SentAppends::read(bytes::Bytes::copy_from_slice(cut));
        assert!(matches!(read, Err(Malformed::Undecodable { .. })), "{read:?}");
    }
}

#[test]
fn answers_of_one_message_arrive_and_each_is_kept_as_it_was_sent() {
    let answers = [3, 4, 5].map(|number| answer_of(number, Err(AppendError::Closed)));
    let mut batch = AnswerBatch::default();
    answers.iter().for_each(|answer| batch.push(answer));
    let (reply, kept) = batch.finish(Head::EMPTY);
    let Some(wire::append_reply::Reply::Answers(bytes)) = reply.reply else { panic!("{reply:?}") };
    let described = wire::AppendAnswers::decode(bytes.clone()).unwrap();
    assert_eq!(described.answers, answers);
    assert_eq!(Head::try_from(described.head.unwrap()), Ok(Head::EMPTY));
    let mut again = AnswerBatch::default();
    for ((number, kept), answer) in kept.zip(&answers) {
        again.push_encoded(number, &kept);
        let with_head = encoded_answer(kept, Head::EMPTY);
        assert_eq!((with_head.number, &with_head.outcome), (number, &answer.outcome));
    }
    assert_eq!(again.finish(Head::EMPTY).0.reply, Some(wire::append_reply::Reply::Answers(bytes)));
}
