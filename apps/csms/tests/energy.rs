//! The energy of transactions from stations with habits: raw frames in, the true energy out, and
//! what a person and a verifier of signatures need.

use serde_json::{Value, json};

use crate::harness::station::{meter_values, start};
use crate::harness::{Api, Server, Station};

/// A session: its frames, its energy in truth, and what is said of the evidence. In a frame `DAY`
/// stands for a day of its own, and `ID` for the transaction.
struct HabitSession {
    frames: &'static [&'static str],
    energy_wh: Option<i64>,
    flags: &'static [&'static str],
}

const fn session(
    frames: &'static [&'static str],
    energy_wh: i64,
    flags: &'static [&'static str],
) -> HabitSession {
    HabitSession { frames, energy_wh: Some(energy_wh), flags }
}

const SESSIONS: [HabitSession; 11] = [
    session(
        &[
            r#""StartTransaction",{"connectorId":1,"idTag":"A","meterStart":1000,"timestamp":"DAYT10:00:00Z"}"#,
            r#""MeterValues",{"connectorId":1,"transactionId":ID,"meterValue":[{"timestamp":"DAYT10:15:00Z","sampledValue":[{"value":"3500"}]}]}"#,
            r#""StopTransaction",{"transactionId":ID,"meterStop":0,"timestamp":"DAYT10:20:00Z"}"#,
        ],
        2_500,
        &["stopBelowStart"],
    ),
    session(
        &[
            r#""StartTransaction",{"connectorId":1,"idTag":"A","meterStart":0,"timestamp":"DAYT10:00:00Z"}"#,
            r#""MeterValues",{"connectorId":1,"transactionId":ID,"meterValue":[{"timestamp":"DAYT10:00:00Z","sampledValue":[{"value":"5000000","context":"Transaction.Begin"}]}]}"#,
            r#""StopTransaction",{"transactionId":ID,"meterStop":5006000,"timestamp":"DAYT11:00:00Z"}"#,
        ],
        6_000,
        &["startNotBelieved"],
    ),
    session(
        &[
            r#""StartTransaction",{"connectorId":1,"idTag":"A","meterStart":5000000,"timestamp":"DAYT10:00:00Z"}"#,
            r#""MeterValues",{"connectorId":1,"transactionId":ID,"meterValue":[{"timestamp":"DAYT10:15:00Z","sampledValue":[{"value":"1.5","unit":"kWh"}]}]}"#,
            r#""MeterValues",{"connectorId":1,"transactionId":ID,"meterValue":[{"timestamp":"DAYT10:30:00Z","sampledValue":[{"value":"3.0","unit":"kWh"}]}]}"#,
            r#""StopTransaction",{"transactionId":ID,"meterStop":-1,"timestamp":"DAYT10:31:00Z"}"#,
        ],
        3_000,
        &["stopBelowStart", "sessionRegister"],
    ),
    session(
        &[
            r#""StartTransaction",{"connectorId":1,"idTag":"A","meterStart":5000000,"timestamp":"DAYT10:00:00Z"}"#,
            r#""MeterValues",{"connectorId":1,"transactionId":ID,"meterValue":[{"timestamp":"DAYT10:15:00Z","sampledValue":[{"value":"5001.5"}]},{"timestamp":"DAYT10:30:00Z","sampledValue":[{"value":"5003"}]}]}"#,
            r#""StopTransaction",{"transactionId":ID,"meterStop":5003200,"timestamp":"DAYT10:31:00Z"}"#,
        ],
        3_200,
        &["kilowattHoursSupposed"],
    ),
    session(
        &[
            r#""StartTransaction",{"connectorId":1,"idTag":"A","meterStart":900,"timestamp":"DAYT10:00:00Z"}"#,
            r#""MeterValues",{"connectorId":1,"transactionId":ID,"meterValue":[{"timestamp":"DAYT10:15:00Z","sampledValue":[{"value":"400","phase":"L1","unit":"Wh"},{"value":"500","phase":"L2","unit":"Wh"},{"value":"600","phase":"L3","unit":"Wh"}]}]}"#,
            r#""StopTransaction",{"transactionId":ID,"timestamp":"DAYT10:20:00Z"}"#,
        ],
        600,
        &["stopMissing", "phasesSummed"],
    ),
    session(
        &[
            r#""StartTransaction",{"connectorId":1,"idTag":"A","meterStart":0,"timestamp":"DAYT10:00:00Z"}"#,
            r#""StopTransaction",{"transactionId":ID,"meterStop":2000,"timestamp":"DAYT10:20:00Z","transactionData":[{"timestamp":"DAYT10:05:00Z","sampledValue":[{"value":"1000"}]},{"timestamp":"DAYT10:10:00Z","sampledValue":[{"value":"2000"}]},{"timestamp":"DAYT10:15:00Z","sampledValue":[{"value":"500"}]},{"timestamp":"DAYT10:18:00Z","sampledValue":[{"value":"1200"}]}]}"#,
        ],
        4_000,
        &["registerReset"],
    ),
    session(
        &[
            r#""StartTransaction",{"connectorId":1,"idTag":"A","meterStart":100,"timestamp":"DAYT10:00:00Z"}"#,
            r#""MeterValues",{"connectorId":1,"transactionId":ID,"meterValue":[{"timestamp":"DAYT10:15:00Z","sampledValue":[{"value":987654321000}]}]}"#,
            r#""StopTransaction",{"transactionId":ID,"meterStop":1600,"timestamp":"DAYT10:20:00Z"}"#,
        ],
        1_500,
        &["readingsNotBelieved"],
    ),
    session(
        &[
            r#""StartTransaction",{"connectorId":1,"idTag":"A","meterStart":"100","timestamp":"DAYT10:00:00Z"}"#,
            r#""MeterValues",{"connectorId":1,"transactionId":ID,"meterValue":[{"timestamp":"DAYT10:15:00Z","sampledValue":[{"value":" 1,5e0 ","unit":"KWH"},{"value":"NaN"},{"value":"31","measurand":"Temperature","unit":"Celcius"}]}]}"#,
            r#""StopTransaction",{"transactionId":ID,"meterStop":92233720368547758070,"timestamp":"DAYT10:20:00Z"}"#,
        ],
        1_400,
        &["stopMissing"],
    ),
    session(
        &[
            r#""StartTransaction",{"connectorId":1,"idTag":"A","timestamp":"DAYT10:00:00Z"}"#,
            r#""MeterValues",{"connectorId":1,"transactionId":ID,"meterValue":[{"timestamp":"DAYT10:15:00Z","sampledValue":[{"value":"800","measurand":"Energy.Active.Import.Interval"}]},{"timestamp":"DAYT10:30:00Z","sampledValue":[{"value":"700","measurand":"Energy.Active.Import.Interval"}]}]}"#,
            r#""StopTransaction",{"transactionId":ID,"meterStop":0,"timestamp":"DAYT10:31:00Z"}"#,
        ],
        1_500,
        &["startMissing", "stopNotBelieved", "intervalsSummed"],
    ),
    session(
        &[
            r#""StartTransaction",{"connectorId":1,"idTag":"A","meterStart":-1,"timestamp":"DAYT10:00:00Z"}"#,
            r#""MeterValues",{"connectorId":1,"transactionId":ID,"meterValue":[{"timestamp":"DAYT10:15:00Z","sampledValue":[{"value":"6","unit":"kW","measurand":"Power.Active.Import"}]}]}"#,
            r#""StopTransaction",{"transactionId":ID,"meterStop":-1,"timestamp":"DAYT10:30:00Z"}"#,
        ],
        3_000,
        &["startMissing", "stopBelowStart", "powerEstimated"],
    ),
    HabitSession {
        frames: &[
            r#""StartTransaction",{"connectorId":1,"idTag":"A","meterStart":0,"timestamp":"DAYT10:00:00Z"}"#,
            r#""StopTransaction",{"transactionId":ID,"meterStop":7000000,"timestamp":"DAYT10:20:00Z"}"#,
        ],
        energy_wh: None,
        flags: &["stopNotBelieved", "unknown"],
    },
];

/// Sends the frames of a session, and returns the id of its transaction.
#[track_caller]
fn run(station: &Station, frames: &[&str], day: &str) -> i64 {
    let mut id = Value::Null;
    for (number, frame) in frames.iter().enumerate() {
        let frame = frame.replace("DAY", day).replace("ID", &id.to_string());
        let message_id = format!("{day}-{number}");
        station.send_frame(&format!(r#"[2,"{message_id}",{frame}]"#));
        let answer = station.frame_under(&message_id);
        assert_eq!(answer[0], 3, "{frame} was answered with {answer}");
        if number == 0 {
            id = answer[2]["transactionId"].clone();
        }
    }
    id.as_i64().unwrap()
}

fn transaction(api: &Api, id: i64) -> Value {
    api.fetch(&format!("/api/transactions/{id}")).expect(200).json()
}

#[test]
fn sessions_with_the_habits_of_real_stations_have_their_true_energy_and_move_no_day_by_millions() {
    let mut server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let day = |number: usize| format!("2024-03-{:02}", number + 1);
    let ids: Vec<i64> = SESSIONS
        .iter()
        .enumerate()
        .map(|(number, session)| run(&station, session.frames, &day(number)))
        .collect();
    let assert_all = |corrected: Option<i64>| {
        for (number, (session, id)) in SESSIONS.iter().zip(&ids).enumerate() {
            let shown = transaction(&api, *id);
            let found = (&shown["energy"]["computedWh"], &shown["energy"]["flags"]);
            assert_eq!(found, (&json!(session.energy_wh), &json!(session.flags)), "{number}");
            let energy_wh = session.energy_wh.or(corrected);
            assert_eq!(shown["energyWh"], json!(energy_wh), "{number}");
            let date = day(number);
            let days = api.energy(&format!("from={date}&to={date}"));
            let expected = energy_wh
                .map(|wh| (date, "CP-1".to_owned(), wh, 1))
                .into_iter()
                .collect::<Vec<_>>();
            assert_eq!(days, expected);
        }
    };
    assert_all(None);
    let in_need = || -> Vec<Value> { api.all("/api/transactions?needsPerson=true") };
    let unknown = *ids.last().unwrap();
    assert_eq!(in_need().iter().map(|it| it["id"].as_i64()).collect::<Vec<_>>(), [Some(unknown)]);

    correct_the_unknown(&api, &station, unknown);
    assert_eq!(in_need(), [Value::Null; 0]);
    assert_all(Some(6_900));
    server.restart();
    assert_all(Some(6_900));
}

/// Corrects the energy of a transaction to 7,000 Wh and then to 6,900 Wh.
#[track_caller]
fn correct_the_unknown(api: &Api, station: &Station, id: i64) {
    let path = |id: i64| format!("/api/transactions/{id}/correct-energy");
    let body = json!({"energyWh": 7_000, "reason": "read from the meter on site"});
    let running = station.start(1, "B");
    api.post(&path(running), &body).refused("transaction-running");
    station.stop(running);
    for nonsense in [9_999_999, -1, 0] {
        let problem = api.post(&path(nonsense), &body).problem(404);
        assert_eq!(problem.code.as_deref(), Some("unknown-transaction"));
    }
    for (nonsense, code) in [
        (json!({"energyWh": -1, "reason": "x"}), "invalid-energy"),
        (json!({"energyWh": 7_000_000_000_i64, "reason": "x"}), "invalid-energy"),
        (json!({"energyWh": 1, "reason": " "}), "invalid-reason"),
        (json!({"energyWh": 1}), "invalid-json"),
    ] {
        let problem = api.post(&path(id), &nonsense).problem(400);
        assert_eq!(problem.code.as_deref(), Some(code), "{nonsense}");
    }
    let corrected = api.post(&path(id), &body).expect(200);
    assert!(corrected.header("leftfold-position").is_some());
    let shown = transaction(api, id);
    assert_eq!((&shown["energyWh"], &shown["energy"]["computedWh"]), (&json!(7_000), &Value::Null));
    let correction = &shown["energy"]["correction"];
    assert_eq!(correction["reason"], "read from the meter on site");
    assert_eq!(correction["by"], corrected.json()["by"]);
    assert_eq!(shown["energy"]["needsPerson"], false);

    api.post(&path(id), &body).refused("energy-already-corrected");
    let replacing = |wh: i64| json!({"energyWh": 6_900, "reason": "misread", "replacesWh": wh});
    api.post(&path(id), &replacing(7_001)).refused("correction-not-replaced");
    api.post(&path(id), &replacing(7_000)).expect(200);
    assert_eq!(api.count_in_history("CP-1", "station.EnergyCorrected"), 2);
}

#[test]
fn signed_meter_values_are_given_back_byte_for_byte_and_are_no_numbers() {
    let server = Server::start();
    let api = server.api();
    let station = server.ready_station("CP-1", 1);
    let id = station.start(1, "ANN");
    let long = format!(r#""OCMF|{}""#, r"\u0041\/+".repeat(100 * 1024 / 9));
    let values: [&str; 6] = [
        r#""OCMF|{\"FV\":\"1.0\",\"RD\":[{\"RV\":1.5}]}|{\"SD\":\"3045\"}""#,
        r#""\u00e9é\ud83d\ude00 \u0000 \/\n""#,
        "12.50",
        r#""a""#,
        &long,
        r#""the last\u0020one""#,
    ];
    let sample = |raw: &str| {
        format!(r#"{{"value":{raw},"format":"SignedData","context":"Transaction.Begin"}}"#)
    };
    let moment = "2024-05-01T12:00:00Z";
    for (number, raw) in values[..5].iter().enumerate() {
        let plain = r#"{"value":"1100"}"#;
        station.send_frame(&format!(
            r#"[2,"s-{number}","MeterValues",{{"connectorId":1,"transactionId":{id},"meterValue":[{{"timestamp":"{moment}","sampledValue":[{plain},{}]}}]}}]"#,
            sample(raw)
        ));
        assert_eq!(station.frame_under(&format!("s-{number}"))[0], 3);
    }
    station.send_frame(&format!(
        r#"[2,"stop","StopTransaction",{{"transactionId":{id},"meterStop":2500,"timestamp":"{}","transactionData":[{{"timestamp":"{moment}","sampledValue":[{}]}}]}}]"#,
        crate::harness::station::now(),
        sample(values[5])
    ));
    assert_eq!(station.frame_under("stop")[0], 3);

    let path = format!("/api/transactions/{id}/signed-meter-values");
    let body = api.fetch(&path).expect(200).body;
    let mut rest = body.as_str();
    for raw in values {
        let value = format!("\"value\":{raw}}}");
        let place = rest.find(&value).unwrap_or_else(|| panic!("{raw:.60} is not in {rest:.300}"));
        rest = &rest[place + value.len()..];
    }
    let items: Vec<Value> = api.all(&format!("{path}?limit=2"));
    let with_stop: Vec<bool> =
        items.iter().map(|it| it["cameWithStop"].as_bool().unwrap()).collect();
    assert_eq!(with_stop, [false, false, false, false, false, true]);
    assert_eq!(
        (&items[0]["at"], &items[0]["context"]),
        (&json!(moment), &json!("Transaction.Begin"))
    );
    assert_eq!(api.transaction(id).energy_wh, Some(1_500));

    // A station names whatever it likes: another one's transaction has what its own station said.
    let other = server.ready_station("CP-2", 1);
    other.call("StartTransaction", start(1, "BOB"));
    let mut foreign = meter_values(1, id, 9_000_000);
    foreign["meterValue"][0]["sampledValue"][0]["format"] = json!("SignedData");
    other.call("MeterValues", foreign);
    assert_eq!(api.all::<Value>(&path).len(), 6);
    api.fetch("/api/transactions/77/signed-meter-values").problem(404);
}
