//! Floods: messages of many small parts, for every list that a request of any call has.

use prost::{Message, Name};

use super::shapes::{RequestShapes, flood};
use super::{DescribedProtocol, PART_BYTES_MAX};
use crate::NativeProtocol;
use crate::wire::{Append, AppendRequest, NewEvent, NumberedAppend, append_request};
use leftfold_core::store::limits::{APPEND_EVENTS_MAX, KEY_IDS_MAX, TAGS_MAX};

fn shapes() -> &'static RequestShapes {
    NativeProtocol::requests()
}

fn is_taken(name: &str, message: &[u8]) -> bool {
    shapes().is_within(shapes().request(name).unwrap(), message, PART_BYTES_MAX)
}

#[test]
fn no_list_of_any_request_is_without_a_bound() {
    let unbounded = shapes().unbounded_lists(4 << 20);
    assert!(unbounded.is_empty(), "{unbounded:#?}");
    // A few elements are no flood: every list takes them, so the check above has looked at lists.
    assert!(shapes().unbounded_lists(1 << 10).len() > 10);
}

#[test]
fn the_largest_append_is_taken() {
    let texts = |count: usize| (0..count).map(|number| format!("{number:02}").into()).collect();
    let event = NewEvent {
        stream: "a-1".into(),
        r#type: "a.B".into(),
        tags: texts(TAGS_MAX),
        key_ids: texts(KEY_IDS_MAX),
        ..NewEvent::default()
    };
    let append = Append { events: vec![event; APPEND_EVENTS_MAX], ..Append::default() };
    let append = NumberedAppend { number: 1, first_unanswered: 1, append: Some(append) };
    let request = AppendRequest { request: Some(append_request::Request::Append(append)) };
    assert!(is_taken(&AppendRequest::full_name(), &request.encode_to_vec()));
}

/// The decoder does not take what the walk does not understand.
#[test]
fn a_message_is_walked_as_it_is_decoded() {
    let mut random = fastrand::Rng::with_seed(leftfold_testing::seed());
    let name = AppendRequest::full_name();
    for _ in 0..leftfold_testing::extent(20_000, 1_000_000) {
        let mut bytes: Vec<u8> = (0..random.usize(..24)).map(|_| random.u8(..16)).collect();
        // A flood behind whatever stands there; the path is that of the events.
        let flood = flood(&[2, 3, 1], 1 << 10);
        bytes.extend(flood);
        let found = AppendRequest::decode(&*bytes).is_ok_and(|request| match request.request {
            Some(append_request::Request::Append(append)) => {
                append.append.is_some_and(|append| append.events.len() > 400)
            }
            _ => false,
        });
        let request = shapes().request(&name).unwrap();
        assert!(!found || !shapes().is_within(request, &bytes, 20_000), "{bytes:?}");
    }
}
