use super::*;

fn parse(text: &str) -> (Frame, Vec<ViolationKind>) {
    let WithViolations { message, violations } = Frame::parse(text).unwrap();
    (message, violations.into_iter().map(|violation| violation.kind).collect())
}

fn call(id: &str, action: &str, payload: &str) -> Frame {
    let (id, action) = (MessageId(id.into()), action.into());
    Frame::Call(Call { id, action, payload: Payload(payload.to_owned()) })
}

#[test]
fn the_three_frames_are_read() {
    assert_eq!(parse(r#"[2,"7","Heartbeat",{}]"#), (call("7", "Heartbeat", "{}"), vec![]));
    let (id, payload) = (MessageId("7".into()), Payload(r#"{"a":1}"#.to_owned()));
    assert_eq!(
        parse(r#" [3, "7", {"a":1}] "#).0,
        Frame::CallResult(CallResult { id: id.clone(), payload })
    );
    let (code, description, details) = (ErrorCode::NotSupported, "no".into(), Payload::empty());
    let error = CallError { id, code, description, details };
    assert_eq!(parse(r#"[4,"7","NotSupported","no",{}]"#), (Frame::CallError(error), vec![]));
}

#[test]
fn what_stations_get_wrong_about_frames_is_tolerated_and_recorded() {
    use ViolationKind::*;
    assert_eq!(parse(r#"[2,12,"Heartbeat",{}]"#), (call("12", "Heartbeat", "{}"), vec![Converted]));
    assert_eq!(
        parse(r#"[2,"1","Heartbeat"]"#),
        (call("1", "Heartbeat", "{}"), vec![ElementsMissing])
    );
    assert_eq!(
        parse(r#"[2,"1","Heartbeat",{},0]"#),
        (call("1", "Heartbeat", "{}"), vec![ElementsExtra])
    );
    assert_eq!(
        parse(r#"["2","1","Heartbeat",{}]"#),
        (call("1", "Heartbeat", "{}"), vec![Converted])
    );
    assert_eq!(parse("\u{feff}[2,\"1\",\"Heartbeat\",{}]\0").1, [StrayCharacters]);
    let long = "x".repeat(MESSAGE_ID_CHARS_MAX + 1);
    let (frame, violations) = parse(&format!(r#"[2,"{long}","Heartbeat",{{}}]"#));
    assert_eq!(
        (frame, violations),
        (call(&long, "Heartbeat", "{}"), vec![TooLong { chars_max: MESSAGE_ID_CHARS_MAX }])
    );
    let (Frame::CallError(error), violations) = parse(r#"[4,"1","Oops"]"#) else {
        panic!("not a CALLERROR")
    };
    assert_eq!(
        (error.code, violations),
        (ErrorCode::Other("Oops".into()), vec![UnknownValue, ElementsMissing])
    );
}

#[test]
fn a_number_out_of_any_range_does_not_cost_the_frame() {
    let text = r#"[2,"1","StartTransaction",{"meterStart":1e999,"idTag":"\ud800"}]"#;
    assert_eq!(parse(text).0.encode(), text);
}

#[test]
fn a_broken_call_with_a_readable_id_is_answered() {
    let answer =
        |text: &str| Frame::parse(text).unwrap_err().answer().map(|error| (error.id.0, error.code));
    let formation_violation = |id: &str| Some((id.to_owned(), ErrorCode::FormationViolation));
    assert_eq!(answer(r#"[2,"1","StopTransaction",{"transactionId":"#), formation_violation("1"));
    assert_eq!(answer(r#"[2,"1""#), formation_violation("1"));
    assert_eq!(answer(r#"[2,"1"]"#), formation_violation("1"));
    assert_eq!(answer(r#"[2,"1",{"a":1},{}]"#), formation_violation("1"));
    let large = format!(r#"[2,"1","DataTransfer",{{"x":"{}"}}]"#, "x".repeat(FRAME_BYTES_MAX));
    assert_eq!(answer(&large), Some(("1".to_owned(), ErrorCode::GenericError)));
    assert_eq!(Frame::parse(&large).unwrap_err().action.as_deref(), Some("DataTransfer"));
}

#[test]
fn a_report_of_a_transaction_that_is_too_large_is_read_without_its_bulk() {
    for action in ["StartTransaction", "StopTransaction", "MeterValues"] {
        let bulk = "x".repeat(FRAME_BYTES_MAX);
        let frame = format!(r#"[2,"1","{action}",{{"meterStop":7,"x":"{bulk}"}}]"#);
        for text in [format!("\u{feff}{frame}\0"), frame[..frame.len() - 3].to_owned()] {
            let (read, violations) = parse(&text);
            assert_eq!(read.encode(), format!(r#"[2,"1","{action}",{{"meterStop":7}}]"#));
            let chars_max = FRAME_BYTES_MAX;
            assert_eq!(violations[0], ViolationKind::TooLong { chars_max });
        }
    }
}

#[test]
fn nothing_is_answered_to_what_is_no_call_or_has_no_id() {
    let too_long =
        format!(r#"[2,"{}","Heartbeat",{{}}]"#, "x".repeat(MESSAGE_ID_CHARS_MAX_INWARD + 1));
    let texts = [
        "",
        "{}",
        "null",
        "[",
        "[]",
        "[2]",
        "[2,null,\"Heartbeat\",{}]",
        "[2,\"\",\"Heartbeat\",{}]",
    ];
    for text in
        texts.into_iter().chain(["[3,\"1\",{", "[4,\"1\"", "[5,\"1\",\"Heartbeat\",{}]", &too_long])
    {
        assert_eq!(Frame::parse(text).unwrap_err().answer(), None, "{text}");
    }
    assert!(Frame::parse(r#"[3,"1",{"#).unwrap_err().is_answer());
}

#[test]
fn nesting_beyond_any_stack_is_an_error_or_a_payload_but_never_a_crash() {
    let deep = "[".repeat(FRAME_BYTES_MAX - 100);
    assert!(Frame::parse(&deep).is_err());
    let half = FRAME_BYTES_MAX / 2 - 100;
    let payload = format!("{}{}", "[".repeat(half), "]".repeat(half));
    assert!(Frame::parse(&format!(r#"[2,"1","Heartbeat",{payload}]"#)).is_ok());
}

#[test]
fn ids_of_ours_keep_to_the_specification() {
    assert!(MessageId::new("123e4567-e89b-12d3-a456-426614174000").is_ok());
    assert_eq!(MessageId::new("").unwrap_err().chars, 0);
    assert_eq!(MessageId::new("x".repeat(37)).unwrap_err().chars, 37);
}

#[test]
fn error_codes_are_spelt_as_in_the_specification() {
    assert_eq!(ErrorCode::OccurenceConstraintViolation.as_str(), "OccurenceConstraintViolation");
    assert_eq!(ErrorCode::FormationViolation.as_str(), "FormationViolation");
}

#[test]
fn a_long_error_description_is_cut() {
    let (id, details) = (MessageId("1".into()), Payload::empty());
    let error =
        CallError { id, code: ErrorCode::GenericError, description: "é".repeat(300), details };
    let (Frame::CallError(read), _) = parse(&Frame::CallError(error).encode()) else {
        panic!("not a CALLERROR")
    };
    assert_eq!(read.description.chars().count(), ERROR_DESCRIPTION_CHARS_MAX);
}
