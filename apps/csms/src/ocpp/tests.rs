//! Properties over arbitrary input. A failure prints the smallest input and the seed that replays
//! it.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::Value;

use super::frame::{Call, CallError, CallResult, ErrorCode, Frame, MessageId, Payload};
use super::session::{
    CallKey, CallOutcome, Limits, Received, Reply, Session, SessionOutput, SettledCall,
    Transmission,
};
use super::v16::{CentralRequest, MessageTrigger, StationRequest};
use crate::domain::operation::{CertificateUse, Natural, StationOperation};

const ACTIONS: [&str; 15] = [
    "BootNotification",
    "Heartbeat",
    "StatusNotification",
    "Authorize",
    "StartTransaction",
    "MeterValues",
    "StopTransaction",
    "DataTransfer",
    "DiagnosticsStatusNotification",
    "LogStatusNotification",
    "SecurityEventNotification",
    "SignCertificate",
    "SignedFirmwareStatusNotification",
    "FirmwareStatusNotification",
    "Nonsense",
];

/// Names of fields of all messages, so that arbitrary objects reach every reader.
const FIELDS: [&str; 29] = [
    "chargePointVendor",
    "connectorId",
    "errorCode",
    "status",
    "idTag",
    "meterStart",
    "meterStop",
    "timestamp",
    "transactionId",
    "reason",
    "transactionData",
    "meterValue",
    "sampledValue",
    "value",
    "unit",
    "measurand",
    "vendorId",
    "data",
    "requestId",
    "csr",
    "configurationKey",
    "key",
    "readonly",
    "listVersion",
    "chargingSchedule",
    "chargingSchedulePeriod",
    "limit",
    "certificateHashData",
    "extra",
];

/// JSON text, nonsense within the syntax included: numbers out of range, half surrogate pairs.
fn json() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>()
            .prop_filter("JSON has no infinity", |n| n.is_finite())
            .prop_map(|n| format!("{n:e}")),
        Just("1e999".to_owned()),
        Just("-0.0".to_owned()),
        Just(r#""\ud800""#.to_owned()),
        Just(r#""2024-05-01T12:00:00""#.to_owned()),
        any::<String>().prop_map(|text| Value::from(text).to_string()),
        "[0-9T:.Z+-]{0,30}".prop_map(|text| Value::from(text).to_string()),
    ];
    scalar.prop_recursive(4, 64, 6, |inner| {
        let field = (proptest::sample::select(&FIELDS[..]), inner.clone());
        let object = proptest::collection::vec(field, 0..6).prop_map(|fields| {
            let fields: Vec<_> =
                fields.into_iter().map(|(name, json)| format!("\"{name}\":{json}")).collect();
            format!("{{{}}}", fields.join(","))
        });
        let array = proptest::collection::vec(inner, 0..6)
            .prop_map(|elements| format!("[{}]", elements.join(",")));
        prop_oneof![3 => object, 1 => array]
    })
}

/// Text that is almost a frame: any elements, perhaps cut off.
fn near_frame() -> impl Strategy<Value = String> {
    let id = prop_oneof![Just("\"1\"".to_owned()), json()];
    let action = prop_oneof![
        proptest::sample::select(&ACTIONS[..]).prop_map(|a| format!("\"{a}\"")),
        json()
    ];
    (0..6u8, id, action, json(), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(message_type, id, action, payload, at, whole)| {
            let text = format!("[{message_type},{id},{action},{payload}]");
            if whole { text } else { text.chars().take(at.index(text.len())).collect() }
        },
    )
}

/// Operations whose answers have more than a status.
fn operations() -> [StationOperation; 4] {
    let (connector_id, duration_s) = (Natural::default(), Natural::default());
    [
        StationOperation::ReadSettings { keys: Vec::new() },
        StationOperation::ReadLocalListVersion {},
        StationOperation::ReadCompositeSchedule { connector_id, duration_s, unit: None },
        StationOperation::ReadCertificates { purpose: CertificateUse::ManagementRoot },
    ]
}

/// The payload of a frame that has this JSON text as its payload.
pub(super) fn payload(json: &str) -> Payload {
    match Frame::parse(&format!(r#"[3,"1",{json}]"#)).unwrap().message {
        Frame::CallResult(result) => result.payload,
        other => panic!("{other:?} is not a CALLRESULT"),
    }
}

fn message_id() -> impl Strategy<Value = MessageId> {
    proptest::collection::vec(any::<char>(), 1..=36)
        .prop_map(|chars| MessageId::new(chars.into_iter().collect::<String>()).unwrap())
}

fn frame() -> impl Strategy<Value = Frame> {
    let code = prop_oneof![Just(ErrorCode::FormationViolation), Just(ErrorCode::NotSupported)];
    (message_id(), "[A-Za-z]{1,64}", json(), code, any::<String>(), 0..3).prop_map(
        |(id, action, json, code, description, kind)| {
            let payload = payload(&json);
            let description = description.chars().take(255).collect();
            match kind {
                0 => Frame::Call(Call { id, action, payload }),
                1 => Frame::CallResult(CallResult { id, payload }),
                _ => Frame::CallError(CallError { id, code, description, details: payload }),
            }
        },
    )
}

/// Takes a text as far as it goes.
fn digest(text: &str) {
    if let Ok(read) = Frame::parse(text) {
        if let Frame::Call(call) = &read.message {
            let _ = StationRequest::read(&call.action, &call.payload);
        }
        let again = Frame::parse(&read.message.encode())
            .expect("what was read can be written and read again");
        assert_eq!(again.message, read.message);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        digest(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_near_frame_panics_the_parser(text in near_frame()) {
        digest(&text);
    }

    #[test]
    fn a_broken_frame_is_answered_with_a_frame(text in near_frame()) {
        if let Err(error) = Frame::parse(&text)
            && let Some(answer) = error.answer()
        {
            prop_assert!(Frame::parse(&Frame::CallError(answer).encode()).is_ok());
        }
    }

    #[test]
    fn what_is_written_is_read_back_without_a_violation(frame in frame()) {
        let read = Frame::parse(&frame.encode()).unwrap();
        prop_assert_eq!(read.message, frame);
        prop_assert_eq!(read.violations, []);
    }

    #[test]
    fn no_payload_panics_a_reader_and_none_loses_a_transaction_message(json in json()) {
        let payload = payload(&json);
        for action in ACTIONS {
            let read = StationRequest::read(action, &payload);
            if matches!(action, "StartTransaction" | "StopTransaction" | "MeterValues") {
                prop_assert!(read.is_ok());
            }
        }
        let (requested_message, connector_id) = (MessageTrigger::Heartbeat, None);
        let asked = CentralRequest::TriggerMessage { requested_message, connector_id };
        let _ = asked.read_confirmation(&payload);
        for operation in operations() {
            let _ = CentralRequest::Operation(operation).read_confirmation(&payload);
        }
    }

    /// Whatever happens in whatever order, each call of ours that was accepted is settled exactly
    /// once, at most one is awaited at a time, and nothing that was handed out counts as never
    /// written.
    #[test]
    fn each_call_of_ours_is_settled_once(
        steps in proptest::collection::vec((0..6u8, 0..40u64), 1..80),
    ) {
        run(&steps);
    }
}

/// A session that is played with, and everything that was heard of our calls.
struct Played {
    session: Session,
    now: Instant,
    accepted: Vec<MessageId>,
    written: Vec<MessageId>,
    settled: Vec<SettledCall>,
    /// Keys of the station's calls that were not answered yet.
    keys: Vec<CallKey>,
}

fn run(steps: &[(u8, u64)]) {
    let limits = Limits { queued_calls_max: 3, unanswered_max: 4, ..Limits::default() };
    let (accepted, written, settled, keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (session, now) = (Session::new(limits), Instant::now());
    let mut played = Played { session, now, accepted, written, settled, keys };
    for (i, &(step, n)) in steps.iter().enumerate() {
        played.step(i, step, n);
        if n % 3 != 0 {
            played.poll();
        }
    }
    played.end();
}

impl Played {
    fn step(&mut self, i: usize, step: u8, n: u64) {
        match step {
            0 | 1 => {
                let id = MessageId::new(format!("our-{i}")).unwrap();
                let call = Call {
                    id: id.clone(),
                    action: "TriggerMessage".into(),
                    payload: Payload::empty(),
                };
                if self.session.call(call, self.now + Duration::from_secs(n)).is_ok() {
                    self.accepted.push(id);
                }
            }
            2 => self.now += Duration::from_secs(n),
            3 => {
                let text = format!(r#"[3,"our-{}",{{}}]"#, i.saturating_sub(n as usize % 5));
                if let Received::Settled(end) = self.session.received(&text, self.now) {
                    self.settled.push(end);
                }
            }
            4 => {
                let text = format!(r#"[2,"{n}","MeterValues",{{}}]"#);
                if let Received::Call(call) = self.session.received(&text, self.now) {
                    self.keys.push(call.key);
                }
            }
            _ => {
                if let Some(key) = self.keys.pop() {
                    let reply = Reply::Result(Payload::empty());
                    self.session.reply(key, reply, self.now).unwrap();
                }
            }
        }
    }

    /// Takes what the session has to say until it waits.
    fn poll(&mut self) {
        while let Some(output) = self.session.poll(self.now) {
            match output {
                SessionOutput::Settled(end) => self.settled.push(end),
                SessionOutput::Send(text) => {
                    if let Frame::Call(call) = Frame::parse(&text).unwrap().message {
                        let is_open =
                            |id: &&MessageId| self.settled.iter().all(|end| end.id != **id);
                        let open = self.written.iter().filter(is_open).count();
                        assert_eq!(open, 0, "a call was sent while another one was awaited");
                        self.written.push(call.id);
                    }
                }
            }
        }
    }

    /// Closes the session: each call that was accepted is settled, as what was written of it says.
    fn end(mut self) {
        self.settled.extend(self.session.close());
        for end in &self.settled {
            let was_written = self.written.contains(&end.id);
            match end.outcome {
                CallOutcome::TimedOut(delivery) | CallOutcome::ConnectionLost(delivery) => {
                    assert_eq!(was_written, delivery == Transmission::MayBeWritten);
                }
                _ => assert!(was_written),
            }
        }
        let mut ends: Vec<_> = self.settled.into_iter().map(|end| end.id).collect();
        ends.sort();
        self.accepted.sort();
        assert_eq!(ends, self.accepted);
    }
}
