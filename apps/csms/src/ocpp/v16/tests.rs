use std::num::NonZeroU32;

use jiff::Timestamp;

use super::meter::VALUE_CHARS_MAX;
use super::parts::ConfirmationError;
use super::station_request::Authorize;
use super::*;
use crate::domain::operation::StationOperation;
use crate::ocpp::frame::{ErrorCode, MessageId, Payload};
use crate::ocpp::reading::{Violation, ViolationKind, WithViolations};
use crate::ocpp::session::Reply;
use crate::ocpp::tests::payload;

fn read(action: &str, json: &str) -> (StationRequest, Vec<(String, ViolationKind)>) {
    let WithViolations { message, violations } =
        StationRequest::read(action, &payload(json)).unwrap();
    (message, violations.into_iter().map(|Violation { path, kind }| (path, kind)).collect())
}

fn error_code(action: &str, json: &str) -> ErrorCode {
    StationRequest::read(action, &payload(json)).unwrap_err().code()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn violation(path: &str, kind: ViolationKind) -> (String, ViolationKind) {
    (path.to_owned(), kind)
}

#[test]
fn correct_requests_are_read_without_a_violation() {
    let boot = r#"{"chargePointVendor":"V","chargePointModel":"M","firmwareVersion":"1.0"}"#;
    let (request, violations) = read("BootNotification", boot);
    let StationRequest::BootNotification(boot) = request else { panic!("not a BootNotification") };
    assert_eq!(
        (boot.charge_point_vendor.as_deref(), boot.firmware_version.as_deref()),
        (Some("V"), Some("1.0"))
    );
    assert_eq!(violations, []);

    assert_eq!(read("Heartbeat", "{}"), (StationRequest::Heartbeat, vec![]));

    let id_tag = "TAG".to_owned();
    let authorize = StationRequest::Authorize(Authorize { id_tag: id_tag.clone() });
    assert_eq!(read("Authorize", r#"{"idTag":"TAG"}"#), (authorize, vec![]));

    let start =
        r#"{"connectorId":1,"idTag":"TAG","meterStart":100,"timestamp":"2024-05-01T12:00:00Z"}"#;
    let expected = StartTransaction {
        connector_id: Some(1),
        id_tag: Some(id_tag),
        meter_start: Some(100),
        timestamp: Some(at("2024-05-01T12:00:00Z")),
        reservation_id: None,
    };
    assert_eq!(
        read("StartTransaction", start),
        (StationRequest::StartTransaction(expected), vec![])
    );

    let stop = r#"{"transactionId":7,"meterStop":200,"timestamp":"2024-05-01T13:00:00Z","reason":"EVDisconnected"}"#;
    let expected = StopTransaction {
        transaction_id: Some(7),
        meter_stop: Some(200),
        timestamp: Some(at("2024-05-01T13:00:00Z")),
        reason: Some(Reason::EvDisconnected),
        ..StopTransaction::default()
    };
    assert_eq!(read("StopTransaction", stop), (StationRequest::StopTransaction(expected), vec![]));
}

#[test]
fn a_station_is_read_though_it_breaks_the_specification_everywhere() {
    let status = r#"{"connectorId":"1","errorCode":"noerror","status":"Sleeping","info":null,
        "timestamp":"2024-05-01T12:00:00","vendorId":7,"colour":"red"}"#;
    let (request, violations) = read("StatusNotification", status);
    let expected = StatusNotification {
        connector_id: 1,
        error_code: ChargePointErrorCode::NoError,
        status: ChargePointStatus::Other("Sleeping".into()),
        info: None,
        timestamp: Some(at("2024-05-01T12:00:00Z")),
        vendor_id: Some("7".into()),
        vendor_error_code: None,
    };
    assert_eq!(request, StationRequest::StatusNotification(expected));
    use ViolationKind::*;
    let expected = [
        violation("connectorId", Converted),
        violation("status", UnknownValue),
        violation("errorCode", OtherCase),
        violation("info", Null),
        violation("timestamp", OffsetMissing),
        violation("vendorId", Converted),
        violation("colour", UnknownField),
    ];
    assert_eq!(violations, expected);

    let (request, violations) = read("Authorize", r#"{"idTag":"123456789012345678901"}"#);
    assert_eq!(
        request,
        StationRequest::Authorize(Authorize { id_tag: "123456789012345678901".into() })
    );
    assert_eq!(violations, [violation("idTag", TooLong { chars_max: 20 })]);

    // More digits than any binary number holds: the text is what counts.
    let (request, _) = read("Authorize", r#"{"idTag":12345678901234567890123}"#);
    assert_eq!(
        request,
        StationRequest::Authorize(Authorize { id_tag: "12345678901234567890123".into() })
    );
}

#[test]
fn connector_zero_is_the_station_itself() {
    let (request, violations) = read(
        "StatusNotification",
        r#"{"connectorId":0,"errorCode":"NoError","status":"Available"}"#,
    );
    let StationRequest::StatusNotification(status) = request else {
        panic!("not a StatusNotification")
    };
    assert_eq!(
        (status.connector_id, status.status, violations),
        (0, ChargePointStatus::Available, vec![])
    );
}

#[test]
fn what_is_really_missing_is_refused_with_the_right_code() {
    assert_eq!(error_code("Authorize", "{}"), ErrorCode::OccurenceConstraintViolation);
    assert_eq!(
        error_code("Authorize", r#"{"idTag":null}"#),
        ErrorCode::OccurenceConstraintViolation
    );
    assert_eq!(error_code("Authorize", r#"{"idTag":{}}"#), ErrorCode::TypeConstraintViolation);
    assert_eq!(error_code("Authorize", "[]"), ErrorCode::FormationViolation);
    assert_eq!(
        error_code("StatusNotification", r#"{"connectorId":1}"#),
        ErrorCode::OccurenceConstraintViolation
    );
    let negative = r#"{"connectorId":-1,"errorCode":"NoError","status":"Available"}"#;
    assert_eq!(error_code("StatusNotification", negative), ErrorCode::TypeConstraintViolation);
}

#[test]
fn unsupported_and_unknown_actions_are_told_apart() {
    assert_eq!(error_code("GetLog", "{}"), ErrorCode::NotSupported);
    assert_eq!(error_code("Reset", "{}"), ErrorCode::NotSupported);
    assert_eq!(error_code("MakeCoffee", "{}"), ErrorCode::NotImplemented);
    let reply = Reply::from(StationRequest::read("MakeCoffee", &Payload::empty()).unwrap_err());
    let description = "no action of OCPP 1.6: MakeCoffee".to_owned();
    assert_eq!(reply, Reply::Error { code: ErrorCode::NotImplemented, description });
}

#[test]
fn messages_of_a_transaction_are_read_whatever_they_contain() {
    for json in [
        "{}",
        "[]",
        "null",
        "7",
        r#""text""#,
        r#"{"transactionId":{},"meterStop":[],"timestamp":true}"#,
    ] {
        for action in
            ["StartTransaction", "StopTransaction", "MeterValues", "BootNotification", "Heartbeat"]
        {
            let (_, violations) = read(action, json);
            assert!(
                !violations.is_empty() || (action == "Heartbeat" && json == "{}"),
                "{action} {json}"
            );
        }
    }
    let stop = r#"{"transactionId":-1,"meterStop":1234.6,"timestamp":"never","transactionData":[7,{"sampledValue":7}]}"#;
    let (StationRequest::StopTransaction(stop), violations) = read("StopTransaction", stop) else {
        panic!("not a StopTransaction")
    };
    assert_eq!(
        (stop.transaction_id, stop.meter_stop, stop.timestamp),
        (Some(-1), Some(1_235), None)
    );
    use ViolationKind::*;
    let expected = [
        violation("meterStop", Rounded),
        violation("timestamp", Unreadable),
        violation("transactionData[0]", Unreadable),
        violation("transactionData[1].timestamp", Missing),
        violation("transactionData[1].sampledValue", Unreadable),
    ];
    assert_eq!(violations, expected);
}

#[test]
fn every_sampled_value_is_kept_as_it_came() {
    let json = r#"{"connectorId":1,"transactionId":7,"meterValue":[{"timestamp":"2024-05-01T12:00:00Z","sampledValue":[
        {"value":"21.50","measurand":"Temperature","unit":"Celcius","location":"Body"},
        {"value":"21.50","measurand":"Temperature","unit":"Celsius","context":"Sample.Clock"},
        {"value":230,"measurand":"Voltage","unit":"V","phase":"L1-N","format":"Raw"},
        {"value":"AbC=","format":"SignedData","measurand":"X.Own"}]}]}"#;
    let (StationRequest::MeterValues(values), violations) = read("MeterValues", json) else {
        panic!("not MeterValues")
    };
    let samples = &values.meter_values[0].sampled_values;
    assert_eq!(samples.len(), 4);
    let temperature = |sample: &SampledValue| (sample.value.clone(), sample.unit.clone());
    let degrees = |unit| ("21.50".to_owned(), Some(unit));
    assert_eq!(temperature(&samples[0]), degrees(UnitOfMeasure::Celcius));
    assert_eq!(temperature(&samples[1]), degrees(UnitOfMeasure::Celsius));
    assert_eq!((samples[2].value.as_str(), &samples[2].phase), ("230", &Some(Phase::L1N)));
    assert_eq!(samples[3].measurand, Some(Measurand::Other("X.Own".into())));
    let expected = [
        violation("meterValue[0].sampledValue[2].value", ViolationKind::Converted),
        violation("meterValue[0].sampledValue[3].measurand", ViolationKind::UnknownValue),
    ];
    assert_eq!(violations, expected);

    let stored = serde_json::to_string(&values.meter_values).unwrap();
    assert_eq!(serde_json::from_str::<Vec<MeterValue>>(&stored).unwrap(), values.meter_values);
}

/// The value of the first sample of a message with that JSON text as its value, and the violations.
fn value_as_it_came(raw: &str) -> (SampledValue, Vec<(String, ViolationKind)>) {
    let json = format!(
        r#"{{"connectorId":1,"meterValue":[{{"timestamp":"2024-05-01T12:00:00Z","sampledValue":[{{"value":{raw},"format":"SignedData"}}]}}]}}"#
    );
    let (StationRequest::MeterValues(values), violations) = read("MeterValues", &json) else {
        panic!("not MeterValues")
    };
    (values.meter_values[0].sampled_values[0].clone(), violations)
}

#[test]
fn a_value_is_kept_byte_for_byte_with_its_unusual_escapes() {
    let long = format!(r#""{}""#, r"A\u0042\/".repeat(100 * 1024 / 9));
    for raw in [
        r#""OCMF|{\"FV\":\"1.0\"}|{}""#,
        r#""\u0041\/\u00e9é\n""#,
        r#""\ud800""#,
        r#""\ud83d\ude00😀""#,
        r#""a \u0000 NUL""#,
        "12.50",
        "1e3",
        "true",
        &long,
    ] {
        let (sample, _) = value_as_it_came(raw);
        let stored = serde_json::to_string(&sample).unwrap();
        let again: SampledValue = serde_json::from_str(&stored).unwrap();
        assert!(again.raw_json() == raw, "{raw:.60} became {:.60}", again.raw_json());
        assert_eq!(again, sample);
    }
    assert_eq!(value_as_it_came(r#""plain é""#).0.raw, None, "what we would write is kept once");
}

#[test]
fn a_value_beyond_the_limit_is_cut_and_a_violation_tells_of_it() {
    let whole = format!(r#""{}""#, "x".repeat(VALUE_CHARS_MAX));
    assert_eq!(value_as_it_came(&whole).1, []);
    for raw in [
        format!(r#""{}""#, "x".repeat(VALUE_CHARS_MAX + 1)),
        format!(r#""{}""#, r"\u0041".repeat(VALUE_CHARS_MAX / 5)),
    ] {
        let (sample, violations) = value_as_it_came(&raw);
        assert!(sample.value.len() <= VALUE_CHARS_MAX && sample.raw.is_none());
        assert!(
            matches!(violations[0].1, ViolationKind::TooLong { chars_max: VALUE_CHARS_MAX }),
            "{violations:?}"
        );
    }
}

#[test]
fn requests_of_ours_are_written_as_the_schemas_demand() {
    let one = NonZeroU32::new(1);
    let id_tag = IdToken::new("TAG").unwrap();
    let text = |request: CentralRequest| {
        let call = request.call(MessageId::new("1").unwrap());
        format!("{} {}", call.action, call.payload.as_str())
    };
    let start = |connector_id| CentralRequest::RemoteStartTransaction {
        connector_id,
        id_tag: id_tag.clone(),
        charging_profile: None,
    };
    assert_eq!(text(start(one)), r#"RemoteStartTransaction {"connectorId":1,"idTag":"TAG"}"#);
    assert_eq!(text(start(None)), r#"RemoteStartTransaction {"idTag":"TAG"}"#);
    let stop =
        CentralRequest::RemoteStopTransaction { transaction_id: TransactionId::new(7).unwrap() };
    assert_eq!(text(stop), r#"RemoteStopTransaction {"transactionId":7}"#);
    let unlock = CentralRequest::UnlockConnector { connector_id: one.unwrap() };
    assert_eq!(text(unlock), r#"UnlockConnector {"connectorId":1}"#);
    let trigger = |requested_message, connector_id| CentralRequest::TriggerMessage {
        requested_message,
        connector_id,
    };
    assert_eq!(
        text(trigger(MessageTrigger::Heartbeat, None)),
        r#"TriggerMessage {"requestedMessage":"Heartbeat"}"#
    );
    let status = trigger(MessageTrigger::StatusNotification, one);
    assert_eq!(
        text(status),
        r#"TriggerMessage {"connectorId":1,"requestedMessage":"StatusNotification"}"#
    );
}

#[test]
fn what_the_specification_forbids_cannot_be_sent() {
    assert_eq!(IdToken::new("x".repeat(21)).unwrap_err().chars, 21);
    assert!(IdToken::new("").is_err());
    for id in [0, -1, i64::from(i32::MAX) + 1] {
        assert_eq!(TransactionId::new(id), Err(TransactionIdError { id }));
    }
}

#[test]
fn answers_are_read_leniently_and_an_unknown_status_is_kept() {
    let unlock = CentralRequest::UnlockConnector { connector_id: NonZeroU32::MIN };
    let answer = |json: &str| unlock.read_confirmation(&payload(json)).map(|read| read.message);
    assert_eq!(
        answer(r#"{"status":"Unlocked"}"#),
        Ok(StationConfirmation::UnlockConnector(UnlockStatus::Unlocked))
    );
    assert_eq!(
        answer(r#"{"status":"unlockfailed","x":1}"#),
        Ok(StationConfirmation::UnlockConnector(UnlockStatus::UnlockFailed))
    );
    assert_eq!(
        answer(r#"{"status":"Jammed"}"#),
        Ok(StationConfirmation::UnlockConnector(UnlockStatus::Other("Jammed".into())))
    );
    for json in ["{}", "[]", r#"{"status":null}"#] {
        assert_eq!(answer(json), Err(ConfirmationError), "{json}");
    }
}

#[test]
fn an_answer_to_the_question_for_settings_gives_no_secret_away_however_it_is_spelt() {
    let keys = Vec::new();
    let question = CentralRequest::Operation(StationOperation::ReadSettings { keys });
    for settings in [
        r#"{"key":"AuthorizationKey","readonly":false,"value":"0011"}"#,
        r#"[{"key":"AuthorizationKey","readonly":false,"Value":"0011"}]"#,
        r#"[{"Key":"AuthorizationKey","value":"0011"}]"#,
        r#"[["AuthorizationKey","0011"],"0011"]"#,
        r#"[{"key":"WifiPSK","readonly":false,"value":"0011"}]"#,
    ] {
        let json = format!(r#"{{"configurationKey":{settings},"AuthorizationKey":"0011"}}"#);
        let read = question.read_confirmation(&payload(&json)).unwrap().message;
        assert!(!format!("{read:?}").contains("0011"), "{read:?}");
    }
}

#[test]
fn confirmations_are_written_as_the_schemas_demand() {
    let text = |confirmation: Confirmation| Payload::from(&confirmation).as_str().to_owned();
    let current_time = at("2024-05-01T12:00:00.123456789Z");
    let boot = Confirmation::BootNotification {
        status: RegistrationStatus::Accepted,
        current_time,
        interval_s: 300,
    };
    assert_eq!(
        text(boot),
        r#"{"currentTime":"2024-05-01T12:00:00.123Z","interval":300,"status":"Accepted"}"#
    );
    assert_eq!(
        text(Confirmation::Heartbeat { current_time }),
        r#"{"currentTime":"2024-05-01T12:00:00.123Z"}"#
    );
    for empty in [
        Confirmation::StatusNotification,
        Confirmation::MeterValues,
        Confirmation::StopTransaction { id_tag_info: None },
    ] {
        assert_eq!(text(empty), "{}");
    }
    let id_tag_info = IdTagInfo {
        status: AuthorizationStatus::Accepted,
        expiry_date: Some(at("2025-01-01T00:00:00Z")),
        parent_id_tag: Some(IdToken::new("GROUP").unwrap()),
    };
    assert_eq!(
        text(Confirmation::Authorize { id_tag_info }),
        r#"{"idTagInfo":{"expiryDate":"2025-01-01T00:00:00.000Z","parentIdTag":"GROUP","status":"Accepted"}}"#
    );
    // A tag that may not charge does not undo the transaction: it gets its id all the same.
    let id_tag_info = AuthorizationStatus::Blocked.into();
    let start = Confirmation::StartTransaction {
        transaction_id: TransactionId::new(7).unwrap(),
        id_tag_info,
    };
    assert_eq!(text(start), r#"{"idTagInfo":{"status":"Blocked"},"transactionId":7}"#);
}
