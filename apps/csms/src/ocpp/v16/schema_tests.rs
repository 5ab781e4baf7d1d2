//! All that we send, made at random over the limits of each type, against the schemas of the PyPI
//! package `ocpp`: one run of Python for all of it.

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use super::operation::{ACTIONS, action_of, payload_of};
use super::types::{AuthorizationStatus, IdTagInfo, IdToken, RegistrationStatus, TransactionId};
use super::{CentralRequest, Confirmation, MessageTrigger};
use crate::domain::operation::{ChargingProfile, StationOperation};
use crate::ocpp::frame::{MessageId, Payload};

/// Messages of each kind.
const SAMPLES: usize = 40;

/// Text of up to this many characters, often of exactly as many.
fn text(chars_max: usize) -> BoxedStrategy<Value> {
    let chars = prop_oneof![0..=chars_max.min(20), Just(chars_max)];
    let text = chars.prop_flat_map(|chars| proptest::collection::vec(any::<char>(), chars));
    text.prop_map(|chars| json!(chars.into_iter().collect::<String>())).boxed()
}

fn number() -> BoxedStrategy<Value> {
    prop_oneof![Just(0), Just(i64::from(i32::MAX)), 0..1_000i64].prop_map(Value::from).boxed()
}

fn amount() -> BoxedStrategy<Value> {
    (0..=1_000_000_000i64).prop_map(|tenths| json!(tenths as f64 / 10.0)).boxed()
}

fn moment() -> BoxedStrategy<Value> {
    (0..4_000_000_000_000i64)
        .prop_map(|ms| json!(jiff::Timestamp::from_millisecond(ms).unwrap().to_string()))
        .boxed()
}

fn id_tag() -> BoxedStrategy<Value> {
    "[!-~]{1,20}".prop_map(Value::from).boxed()
}

fn one_of(names: &'static [&'static str]) -> BoxedStrategy<Value> {
    proptest::sample::select(names).prop_map(Value::from).boxed()
}

fn list(item: BoxedStrategy<Value>, items_max: usize) -> BoxedStrategy<Value> {
    proptest::collection::vec(item, 0..=items_max).prop_map(Value::from).boxed()
}

/// Object of fields; those whose name ends with `?` may be missing.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields = fields.into_iter().map(|(name, value)| match name.strip_suffix('?') {
        Some(name) => proptest::option::of(value).prop_map(move |it| (name, it)).boxed(),
        None => value.prop_map(move |it| (name, Some(it))).boxed(),
    });
    fields
        .collect::<Vec<_>>()
        .prop_map(|fields| {
            let there = fields.into_iter().filter_map(|(name, it)| Some((name.to_owned(), it?)));
            Value::Object(there.collect::<Map<_, _>>())
        })
        .boxed()
}

fn profile() -> BoxedStrategy<Value> {
    let period = object(vec![("start_s", number()), ("limit", amount()), ("phases?", number())]);
    let schedule = object(vec![
        ("duration_s?", number()),
        ("start?", moment()),
        ("unit", one_of(&["A", "W"])),
        ("periods", list(period, 5)),
        ("rate_min?", amount()),
    ]);
    let purpose = one_of(&["StationMax", "TransactionDefault", "Transaction"]);
    object(vec![
        ("id", number()),
        ("transaction_id?", number()),
        ("stack_level", number()),
        ("purpose", purpose),
        ("kind", one_of(&["Absolute", "Recurring", "Relative"])),
        ("recurrence?", one_of(&["Daily", "Weekly"])),
        ("valid_from?", moment()),
        ("valid_to?", moment()),
        ("schedule", schedule),
    ])
}

fn tries() -> [(&'static str, BoxedStrategy<Value>); 2] {
    [("retries?", number()), ("retry_interval_s?", number())]
}

fn certificate_hash() -> BoxedStrategy<Value> {
    object(vec![
        ("hash_algorithm", one_of(&["SHA256", "SHA384", "SHA512"])),
        ("issuer_name_hash", text(128)),
        ("issuer_key_hash", text(128)),
        ("serial_number", text(40)),
    ])
}

/// Fields of each operation but those of the core profile, as they stand in events.
fn of_profiles() -> Vec<(&'static str, BoxedStrategy<Value>)> {
    let purpose = one_of(&["StationMax", "TransactionDefault", "Transaction"]);
    let verdict = one_of(&["Accepted", "Blocked", "Expired", "Invalid", "ConcurrentTx"]);
    let terms =
        object(vec![("status", verdict), ("expiry_date?", moment()), ("parent_id_tag?", id_tag())]);
    let entry = object(vec![("id_tag", id_tag()), ("terms?", terms)]);
    let log = object(vec![("location", text(512)), ("oldest?", moment()), ("newest?", moment())]);
    let firmware = object(vec![
        ("location", text(512)),
        ("retrieve_at", moment()),
        ("install_at?", moment()),
        ("signing_certificate", text(5_500)),
        ("signature", text(800)),
    ]);
    let usage = || one_of(&["ManagementRoot", "ManufacturerRoot"]);
    let with_tries = |fields: Vec<(&'static str, BoxedStrategy<Value>)>| {
        object(fields.into_iter().chain(tries()).collect())
    };
    vec![
        ("ReadLocalListVersion", object(vec![])),
        (
            "UpdateLocalList",
            object(vec![
                ("version", number()),
                ("extent", one_of(&["Differential", "Full"])),
                ("entries", list(entry, 5)),
            ]),
        ),
        ("SetChargingProfile", object(vec![("connector_id", number()), ("profile", profile())])),
        (
            "ClearChargingProfiles",
            object(vec![
                ("id?", number()),
                ("connector_id?", number()),
                ("purpose?", purpose),
                ("stack_level?", number()),
            ]),
        ),
        (
            "ReadCompositeSchedule",
            object(vec![
                ("connector_id", number()),
                ("duration_s", number()),
                ("unit?", one_of(&["A", "W"])),
            ]),
        ),
        (
            "UploadDiagnostics",
            with_tries(vec![("location", text(512)), ("oldest?", moment()), ("newest?", moment())]),
        ),
        (
            "UploadLog",
            with_tries(vec![
                ("kind", one_of(&["Diagnostics", "Security"])),
                ("request_id", number()),
                ("log", log),
            ]),
        ),
        ("UpdateFirmware", with_tries(vec![("location", text(512)), ("retrieve_at", moment())])),
        (
            "UpdateSignedFirmware",
            with_tries(vec![("request_id", number()), ("firmware", firmware)]),
        ),
        ("InstallCertificate", object(vec![("use", usage()), ("certificate", text(5_500))])),
        ("DeleteCertificate", object(vec![("certificate", certificate_hash())])),
        ("ReadCertificates", object(vec![("use", usage())])),
        ("ProvideCertificate", object(vec![("chain", text(10_000))])),
    ]
}

/// Fields of each operation of the core profile, and of triggers.
fn of_core() -> Vec<(&'static str, BoxedStrategy<Value>)> {
    let trigger = |report: &'static [&'static str]| {
        object(vec![("report", one_of(report)), ("connector_id?", number())])
    };
    let availability = one_of(&["Operative", "Inoperative"]);
    vec![
        (
            "ChangeAvailability",
            object(vec![("connector_id", number()), ("availability", availability)]),
        ),
        ("ChangeSetting", object(vec![("key", text(50)), ("value?", text(500))])),
        ("ReadSettings", object(vec![("keys", list(text(50), 5))])),
        ("ClearCache", object(vec![])),
        ("Reset", object(vec![("kind", one_of(&["Hard", "Soft"]))])),
        (
            "SendVendorMessage",
            object(vec![
                ("vendor_id", text(255)),
                ("message_id?", text(50)),
                ("data?", text(2_000)),
            ]),
        ),
        (
            "Trigger",
            trigger(&[
                "Boot",
                "DiagnosticsStatus",
                "FirmwareStatus",
                "Heartbeat",
                "MeterValues",
                "ConnectorStatus",
            ]),
        ),
        (
            "TriggerExtended",
            trigger(&[
                "Boot",
                "LogStatus",
                "FirmwareStatus",
                "Heartbeat",
                "MeterValues",
                "CertificateRequest",
                "ConnectorStatus",
            ]),
        ),
    ]
}

fn token() -> impl Strategy<Value = IdToken> {
    "[!-~]{1,20}".prop_map(|text| IdToken::new(text).unwrap())
}

fn instant() -> impl Strategy<Value = jiff::Timestamp> {
    (0..4_000_000_000_000i64).prop_map(|ms| jiff::Timestamp::from_millisecond(ms).unwrap())
}

fn transaction_id() -> impl Strategy<Value = TransactionId> {
    (1..=i64::from(i32::MAX)).prop_map(|id| TransactionId::new(id).unwrap())
}

/// Requests that have an effect of their own.
fn other_requests() -> Vec<BoxedStrategy<CentralRequest>> {
    let connector = || (1..=i32::MAX.unsigned_abs()).prop_map(|id| id.try_into().unwrap());
    let limits = proptest::option::of(profile().prop_map(|fields| {
        let limits: ChargingProfile = serde_json::from_value(fields).unwrap();
        Box::new(limits)
    }));
    let tagged = (proptest::option::of(connector()), token(), limits);
    let reserved =
        (connector(), instant(), token(), proptest::option::of(token()), 1..=i64::from(i32::MAX));
    let trigger = proptest::option::of(connector());
    vec![
        tagged
            .prop_map(|(connector_id, id_tag, charging_profile)| {
                CentralRequest::RemoteStartTransaction { charging_profile, connector_id, id_tag }
            })
            .boxed(),
        transaction_id()
            .prop_map(|transaction_id| CentralRequest::RemoteStopTransaction { transaction_id })
            .boxed(),
        connector()
            .prop_map(|connector_id| CentralRequest::UnlockConnector { connector_id })
            .boxed(),
        reserved
            .prop_map(|(connector_id, expiry_date, id_tag, parent_id_tag, reservation_id)| {
                CentralRequest::ReserveNow {
                    connector_id,
                    expiry_date,
                    id_tag,
                    parent_id_tag,
                    reservation_id,
                }
            })
            .boxed(),
        (1..=i64::from(i32::MAX))
            .prop_map(|reservation_id| CentralRequest::CancelReservation { reservation_id })
            .boxed(),
        trigger
            .prop_map(|connector_id| CentralRequest::TriggerMessage {
                requested_message: MessageTrigger::StatusNotification,
                connector_id,
            })
            .boxed(),
    ]
}

/// Each confirmation with the actions that it answers.
fn confirmations() -> Vec<(&'static str, BoxedStrategy<Confirmation>)> {
    let status = prop_oneof![
        Just(AuthorizationStatus::Accepted),
        Just(AuthorizationStatus::Blocked),
        Just(AuthorizationStatus::Expired),
        Just(AuthorizationStatus::Invalid),
        Just(AuthorizationStatus::ConcurrentTx)
    ];
    let info = (status, proptest::option::of(instant()), proptest::option::of(token())).prop_map(
        |(status, expiry_date, parent_id_tag)| IdTagInfo { status, expiry_date, parent_id_tag },
    );
    let registration = prop_oneof![
        Just(RegistrationStatus::Accepted),
        Just(RegistrationStatus::Pending),
        Just(RegistrationStatus::Rejected)
    ];
    let boot =
        (registration, instant(), any::<u32>()).prop_map(|(status, current_time, interval_s)| {
            Confirmation::BootNotification { status, current_time, interval_s }
        });
    let info = info.boxed();
    let stop = proptest::option::of(info.clone())
        .prop_map(|id_tag_info| Confirmation::StopTransaction { id_tag_info });
    let start = (transaction_id(), info.clone()).prop_map(|(transaction_id, id_tag_info)| {
        Confirmation::StartTransaction { transaction_id, id_tag_info }
    });
    let report = || Just(Confirmation::Report).boxed();
    vec![
        ("BootNotification", boot.boxed()),
        (
            "Heartbeat",
            instant().prop_map(|current_time| Confirmation::Heartbeat { current_time }).boxed(),
        ),
        ("Authorize", info.prop_map(|id_tag_info| Confirmation::Authorize { id_tag_info }).boxed()),
        ("StartTransaction", start.boxed()),
        ("StopTransaction", stop.boxed()),
        ("StatusNotification", Just(Confirmation::StatusNotification).boxed()),
        ("MeterValues", Just(Confirmation::MeterValues).boxed()),
        (
            "DataTransfer",
            any::<bool>().prop_map(|is_taken| Confirmation::DataTransfer { is_taken }).boxed(),
        ),
        (
            "SignCertificate",
            any::<bool>().prop_map(|is_taken| Confirmation::SignCertificate { is_taken }).boxed(),
        ),
        ("DiagnosticsStatusNotification", report()),
        ("FirmwareStatusNotification", report()),
        ("LogStatusNotification", report()),
        ("SecurityEventNotification", report()),
        ("SignedFirmwareStatusNotification", report()),
    ]
}

#[test]
fn all_that_we_send_keeps_to_the_schemas() {
    let seed = std::env::var("LEFTFOLD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("LEFTFOLD_SEED={seed}");
    let bytes = *blake3::hash(&seed.to_le_bytes()).as_bytes();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut messages = Vec::new();
    let mut actions = std::collections::BTreeSet::new();
    for (variant, fields) in of_core().into_iter().chain(of_profiles()) {
        for _ in 0..SAMPLES {
            let fields = fields.new_tree(&mut runner).unwrap().current();
            let operation: StationOperation =
                serde_json::from_value(json!({ variant: fields })).unwrap();
            let action = action_of(&operation);
            actions.insert(action);
            messages
                .push(json!({ "type": 2, "action": action, "payload": payload_of(&operation) }));
        }
    }
    assert_eq!(actions.len(), ACTIONS.len());
    for request in other_requests() {
        for _ in 0..SAMPLES {
            let request = request.new_tree(&mut runner).unwrap().current();
            let call = request.call(MessageId::new("1").unwrap());
            let payload: Value = serde_json::from_str(call.payload.as_str()).unwrap();
            messages.push(json!({ "type": 2, "action": call.action, "payload": payload }));
        }
    }
    for (action, confirmation) in confirmations() {
        for _ in 0..SAMPLES {
            let confirmation = confirmation.new_tree(&mut runner).unwrap().current();
            let payload = Payload::from(&confirmation);
            let payload: Value = serde_json::from_str(payload.as_str()).unwrap();
            messages.push(json!({ "type": 3, "action": action, "payload": payload }));
        }
    }
    assert_eq!(judge(&messages), format!("{}\n", messages.len()));
}

/// Returns what the judge says of messages.
fn judge(messages: &[Value]) -> String {
    let python = std::env::var_os("LEFTFOLD_PYTHON")
        .expect("LEFTFOLD_PYTHON is not set; run cargo xtask test");
    let mut judge = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/schemas.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("LEFTFOLD_PYTHON does not start; run cargo xtask test");
    let mut stdin = judge.stdin.take().unwrap();
    let lines: String = messages.iter().map(|message| format!("{message}\n")).collect();
    let writing = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = judge.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_route_of_an_operation_is_its_action_with_hyphens() {
    for (variant, fields) in of_core().into_iter().chain(of_profiles()) {
        let fields = fields.new_tree(&mut TestRunner::deterministic()).unwrap().current();
        let event = json!({ variant: fields });
        let operation: StationOperation = serde_json::from_value(event.clone()).unwrap();
        let mut route = String::new();
        for character in action_of(&operation).chars() {
            if character.is_ascii_uppercase() && !route.is_empty() {
                route.push('-');
            }
            route.push(character.to_ascii_lowercase());
        }
        assert_eq!(super::route_of(&event), Some(&*route));
    }
}
