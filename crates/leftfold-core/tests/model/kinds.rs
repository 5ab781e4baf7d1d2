//! Kinds of errors: what a web server answers, and what may be tried again.

use leftfold_core::fold::{EventError, ExecuteError, LoadError, RecordError};
use leftfold_core::runtime::inbox::{ReceiveError, Refusal};
use leftfold_core::store::{
    AppendError, CommandId, Expected, Fence, Invalid, Kind, Label, LeaseError, MoveFrom, Position,
    ReadError, StreamName, SubscribeError, Version,
};

use crate::probe::Probe;
use crate::purse::{Do, Purse, TooFew};

#[test]
fn every_kind_has_an_answer_of_the_web_and_says_what_to_do() {
    let table = [
        (Kind::Refused, 422, false, false),
        (Kind::Conflict, 409, false, false),
        (Kind::NotFound, 404, false, false),
        (Kind::Invalid, 400, false, false),
        (Kind::Busy, 503, true, false),
        (Kind::Unavailable, 503, true, false),
        (Kind::InDoubt, 504, true, true),
        (Kind::Bug, 500, false, false),
    ];
    for (kind, status, again, happened) in table {
        let told = (kind.http_status(), kind.may_be_tried_again(), kind.may_have_taken_effect());
        assert_eq!(told, (status, again, happened), "{kind:?}");
    }
}

#[test]
fn an_error_has_the_kind_of_what_caused_it_through_every_layer() {
    let detail = String::new;
    let label = || Label::new("x").unwrap();
    let appends = [
        (AppendError::Invalid(Invalid::Empty { what: "x" }), Kind::Invalid),
        (AppendError::CommandIdReused { id: CommandId::new("a", "b") }, Kind::Conflict),
        (
            AppendError::CheckpointMoved {
                consumer: label(),
                current: Position(1),
                from: MoveFrom::Earlier,
                proposed: Position(1),
            },
            Kind::Conflict,
        ),
        (AppendError::Fenced { work: label(), fence: Fence(1), current: None }, Kind::Conflict),
        (AppendError::Busy { waiting: 1 }, Kind::Busy),
        (AppendError::Full { detail: detail() }, Kind::Unavailable),
        (AppendError::Unknown { detail: detail() }, Kind::InDoubt),
        (AppendError::ReadOnly { detail: detail() }, Kind::Unavailable),
        (AppendError::Unavailable { detail: detail() }, Kind::Unavailable),
        (AppendError::ReadModel { projection: "totals", detail: detail() }, Kind::Bug),
        (AppendError::Denied { detail: detail() }, Kind::Bug),
        (AppendError::Closed, Kind::Unavailable),
        (AppendError::Read(ReadError::Damaged { place: detail(), detail: detail() }), Kind::Bug),
    ];
    for (error, kind) in appends {
        assert_eq!(error.kind(), kind, "{error:?}");
        assert_eq!(ExecuteError::<TooFew>::Append(error.clone()).kind(), kind);
        assert_eq!(RecordError::Append(error.clone()).kind(), kind);
        assert_eq!(ReceiveError::Store(Box::new(ExecuteError::Append(error))).kind(), kind);
    }
    for (error, kind) in [
        (ReadError::Invalid(Invalid::Empty { what: "x" }), Kind::Invalid),
        (ReadError::Busy { waiting: 1 }, Kind::Busy),
        (ReadError::Damaged { place: detail(), detail: detail() }, Kind::Bug),
        (ReadError::Io { detail: detail() }, Kind::Unavailable),
        (ReadError::Denied { detail: detail() }, Kind::Bug),
        (ReadError::Closed, Kind::Unavailable),
    ] {
        assert_eq!(LoadError::Read(error.clone()).kind(), kind);
        assert_eq!(SubscribeError::Read(error.clone()).kind(), kind);
        assert_eq!(ExecuteError::<TooFew>::from(LoadError::Read(error)).kind(), kind);
    }
    let event = EventError::NotAnEnum { name: "x" };
    assert_eq!(
        (LoadError::Event(event.clone()).kind(), ExecuteError::<TooFew>::Event(event).kind()),
        (Kind::Bug, Kind::Bug)
    );
    let held = || Refusal::Full { held: 1, missing: 1 };
    assert_eq!(ReceiveError::Refused(held()).kind(), Kind::Busy);
    assert_eq!(
        ReceiveError::Store(Box::new(ExecuteError::Refused(held()))).kind(),
        Kind::Busy,
        "not a refusal of the domain"
    );
    assert_eq!(LeaseError::TooMany { limit: 1 }.kind(), Kind::Busy);
    assert_eq!(LeaseError::Denied { detail: detail() }.kind(), Kind::Bug);
    let (stream, expected) = (StreamName::new("a-1").unwrap(), Expected::Absent);
    let unexpected = ExecuteError::<TooFew>::Unexpected { stream, expected, actual: Version(1) };
    assert_eq!(unexpected.kind(), Kind::Conflict);
}

#[tokio::test]
async fn a_request_in_doubt_is_sent_again_under_its_id_and_takes_effect_once() {
    let probe = Probe::default();
    let purses = probe.store().aggregate::<Purse>();
    probe.fail_next(AppendError::Unknown { detail: "the sync failed".to_owned() });
    let ask = || purses.command("1", Do::Put(1)).id("api", "k").request(b"put 1").execute();
    let error = ask().await.unwrap_err();
    assert!(error.kind().may_be_tried_again() && error.kind().may_have_taken_effect(), "{error}");
    assert_eq!(ask().await.unwrap().version, Version(1));
    assert_eq!(ask().await.unwrap().version, Version(1));
    let stale =
        purses.command("1", Do::Put(1)).expecting(Version::ABSENT).execute().await.unwrap_err();
    assert_eq!((stale.kind(), stale.kind().http_status()), (Kind::Conflict, 409));
    let refused = purses.execute("1", Do::Take(9)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.kind().http_status()), (Kind::Refused, 422));
}
