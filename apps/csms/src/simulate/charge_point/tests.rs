//! Stations against a server that answers everything at once.

use serde_json::{Value, json};

use super::*;

/// Time for which a station is followed, in ms of the model.
const LASTS_MS: u64 = 4_000_000;

fn plan(habits: Habits, has_faults: bool) -> StationPlan {
    let identity = "CP-1".into();
    let (seed, sessions_max, base_ms, timeout_ms) = (7, Some(4), 1_700_000_000_000, 30_000);
    StationPlan { identity, seed, habits, sessions_max, has_faults, base_ms, timeout_ms }
}

/// A station after its life, with all calls that it made: the moment, the action, the payload.
struct Life {
    point: ChargePoint,
    calls: Vec<(u64, String, Value)>,
}

impl Life {
    fn of(habits: Habits, has_faults: bool) -> Self {
        Self::of_plan(plan(habits, has_faults), |_, _| true)
    }

    /// `is_answered` says if an answer arrives, by the number of the call and its action; otherwise
    /// the connection is lost.
    fn of_plan(plan: StationPlan, is_answered: impl Fn(usize, &str) -> bool) -> Self {
        let mut life = Self { point: ChargePoint::new(plan), calls: Vec::new() };
        let (mut now_ms, mut next_id) = (0, 1_i64);
        while now_ms < LASTS_MS && !(life.point.is_done() && now_ms > 0) {
            life.point.advance(now_ms);
            if !life.point.is_connected && life.point.may_connect(now_ms) {
                life.point.connected(now_ms);
            }
            while let Some(output) = life.point.poll(now_ms) {
                let StationOutput::Send(text) = output else {
                    life.point.disconnected(now_ms, 0);
                    break;
                };
                let frame: Value = serde_json::from_str(&text).unwrap();
                let action = frame[2].as_str().unwrap().to_owned();
                life.calls.push((now_ms, action.clone(), frame[3].clone()));
                if !is_answered(life.calls.len(), &action) {
                    life.point.disconnected(now_ms, 1_000);
                    break;
                }
                let answer = match action.as_str() {
                    "StartTransaction" => {
                        next_id += 1;
                        json!({"transactionId": next_id, "idTagInfo": {"status": "Accepted"}})
                    }
                    "BootNotification" => json!({"status": "Accepted", "interval": 300}),
                    _ => json!({}),
                };
                life.point.received(&json!([3, frame[1], answer]).to_string(), now_ms);
            }
            now_ms = life.point.due_ms(now_ms).max(now_ms + 1);
        }
        life
    }

    fn payloads(&self, wanted: &str) -> Vec<&Value> {
        let of_it = self.calls.iter().filter(|(_, action, _)| action == wanted);
        of_it.map(|(.., payload)| payload).collect()
    }
}

#[test]
fn a_seed_repeats_a_life_with_all_its_faults() {
    let habits = Habits::default().with(Habit::ForgetsOnReboot);
    let (one, other) = (Life::of(habits, true), Life::of(habits, true));
    assert_eq!(one.calls, other.calls);
    assert!(one.point.counts().reboots > 0, "it has faults");
}

#[test]
fn every_session_is_told_of_with_the_energy_that_flowed() {
    let life = Life::of(Habits::default(), true);
    assert!(life.point.is_done());
    let starts = life.payloads("StartTransaction");
    assert_eq!(starts.len(), life.point.ledger().len());
    for truth in life.point.ledger() {
        let id = truth.transaction_id.unwrap();
        let at = usize::try_from(id).unwrap() - 2;
        let stops = life.payloads("StopTransaction");
        let stop = stops.iter().find(|stop| stop["transactionId"] == id).unwrap();
        let told = stop["meterStop"].as_i64().unwrap() - starts[at]["meterStart"].as_i64().unwrap();
        assert_eq!(told, truth.energy_wh);
        assert!(truth.energy_wh > 0 && truth.end == SessionFate::Stopped);
    }
}

#[test]
fn a_start_whose_reply_is_lost_comes_again_with_the_same_payload() {
    let lost = std::cell::Cell::new(false);
    let life = Life::of_plan(plan(Habits::default(), false), |_, action| {
        action != "StartTransaction" || lost.replace(true)
    });
    let starts = life.payloads("StartTransaction");
    assert_eq!(starts[0], starts[1]);
    assert_eq!(starts.len(), life.point.ledger().len() + 1);
    assert_eq!(life.point.resent(), 1);
}

#[test]
fn habits_show_in_what_is_sent() {
    let of = |habit| Life::of(Habits::default().with(habit), false);
    let first = |life: &Life, action, field: &str| life.payloads(action)[0][field].clone();
    let sample = |life: &Life| life.payloads("MeterValues")[0]["meterValue"][0].clone();

    let life = of(Habit::Clock1970);
    for start in life.payloads("StartTransaction") {
        assert_eq!(start["timestamp"], "1970-01-01T00:00:15.000Z");
        assert_eq!(start["meterStart"], 0);
    }
    assert_eq!(first(&of(Habit::StopWithMinusOne), "StopTransaction", "transactionId"), -1);
    assert_eq!(first(&of(Habit::StopZeroMeter), "StopTransaction", "meterStop"), 0);
    assert_eq!(first(&of(Habit::SessionMeter), "StartTransaction", "meterStart"), 0);
    let tag = first(&of(Habit::LongIdTag), "StartTransaction", "idTag");
    assert_eq!(tag.as_str().unwrap().len(), 600);
    assert_eq!(sample(&of(Habit::KwhUnit))["sampledValue"][0]["unit"], "kWh");
    assert_eq!(sample(&of(Habit::PerPhase))["sampledValue"][2]["phase"], "L3");
    let life = of(Habit::NeverAvailableAfterStop);
    let after_stop = life.calls.iter().skip_while(|(_, action, _)| action != "StopTransaction");
    let statuses = after_stop.filter(|(_, action, _)| action == "StatusNotification");
    assert!(statuses.clone().all(|(.., status)| status["status"] == "Charging"));
    let life = of(Habit::ForeignTransaction);
    let id = life.payloads("MeterValues")[0]["transactionId"].as_i64().unwrap();
    assert!(id >= FOREIGN_TRANSACTION_ID);
    assert_eq!(first(&life, "StopTransaction", "transactionId"), id);
}

#[test]
fn a_session_from_offline_is_told_of_after_a_later_one_has_begun_by_habit() {
    let plan = plan(Habits::default().with(Habit::LateOfflineStart), true);
    let plan = StationPlan { sessions_max: Some(12), ..plan };
    let life = Life::of_plan(plan, |_, _| true);
    let moments: Vec<_> = life
        .payloads("StartTransaction")
        .iter()
        .map(|start| start["timestamp"].to_string())
        .collect();
    assert!(!moments.is_sorted(), "{moments:?}");
}

#[test]
fn a_remote_start_is_accepted_and_charges_with_its_tag_and_a_remote_stop_ends_it() {
    let mut point = ChargePoint::new(plan(Habits::default(), false));
    point.connected(0);
    let ask = json!([2, "a", "RemoteStartTransaction", {"connectorId": 1, "idTag": "AFAR"}]);
    point.received(&ask.to_string(), 0);
    let Some(StationOutput::Send(reply)) = point.poll(0) else { panic!("no reply") };
    assert_eq!(reply, r#"[3,"a",{"status":"Accepted"}]"#);
    point.advance(2_000);
    let ledger = point.outlets[0].session.as_ref().unwrap().ledger;
    point.ledger[ledger].transaction_id = Some(77);
    let ask = json!([2, "b", "RemoteStopTransaction", {"transactionId": 77}]);
    point.received(&ask.to_string(), 3_000);
    point.advance(3_000);
    assert_eq!(point.ledger()[ledger].end, SessionFate::Stopped);
}

/// A server may ask for the status of a station that it has not accepted yet, and accept it later.
#[test]
fn a_boot_that_must_wait_is_sent_again_before_all_that_waits_for_it() {
    let mut point = ChargePoint::new(plan(Habits::default(), false));
    point.connected(0);
    let ask = |point: &mut ChargePoint, now_ms| match point.poll(now_ms) {
        Some(StationOutput::Send(text)) => serde_json::from_str::<Value>(&text).unwrap(),
        other => panic!("{other:?}"),
    };
    let boot = ask(&mut point, 0);
    let trigger = json!([2, "t", "TriggerMessage", {"requestedMessage": "StatusNotification"}]);
    point.received(&trigger.to_string(), 0);
    assert_eq!(ask(&mut point, 0)[1], "t");
    let pending = json!([3, boot[1], {"status": "Pending", "interval": 1}]);
    point.received(&pending.to_string(), 0);
    assert_eq!(point.poll(0), None);
    point.advance(BOOT_RETRY_MS);
    assert_eq!(ask(&mut point, BOOT_RETRY_MS)[2], "BootNotification");
}
