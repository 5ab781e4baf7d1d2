//! Id tags: who may charge, and what a station is told of them.

use serde_json::{Value, json};

use crate::harness::station::start;
use crate::harness::{Server, State};

#[test]
fn tags_are_defined_read_changed_and_removed() {
    let server = Server::start();
    let api = server.api();
    api.fetch("/api/tags/ANN").problem(404);
    api.define_tag("ANN", &json!({"status": "Accepted", "parentIdTag": "FLEET", "expiryDate": "2099-01-01T00:00:00Z"}));
    let tag = api.fetch("/api/tags/ANN").expect(200).json();
    assert_eq!(
        (&tag["idTag"], &tag["status"], &tag["parentIdTag"]),
        (&json!("ANN"), &json!("Accepted"), &json!("FLEET"))
    );
    let expiry: jiff::Timestamp = tag["expiryDate"].as_str().unwrap().parse().unwrap();
    assert_eq!(expiry, "2099-01-01T00:00:00Z".parse().unwrap());
    api.define_tag("ANN", &json!({"status": "Blocked"}));
    let tag = api.fetch("/api/tags/ANN").expect(200).json();
    assert_eq!(
        (&tag["status"], tag.get("parentIdTag").unwrap_or(&Value::Null)),
        (&json!("Blocked"), &Value::Null)
    );
    api.send("DELETE", "/api/tags/ANN", &[], "").expect(204);
    api.fetch("/api/tags/ANN").problem(404);
    api.send("DELETE", "/api/tags/ANN", &[], "").problem(404);
}

#[test]
fn a_station_is_told_what_was_defined() {
    let server = Server::start();
    let api = server.api();
    api.define_tag("GOOD", &json!({"status": "Accepted", "parentIdTag": "FLEET"}));
    api.define_tag("BLOCKED", &json!({"status": "Blocked"}));
    api.define_tag("OVER", &json!({"status": "Accepted", "expiryDate": "2020-01-01T00:00:00Z"}));
    api.define_tag("BAD", &json!({"status": "Invalid"}));
    let station = server.ready_station("CP-1", 1);
    let answers = [
        ("GOOD", "Accepted"),
        ("BLOCKED", "Blocked"),
        ("OVER", "Expired"),
        ("BAD", "Invalid"),
        ("STRANGER", "Accepted"),
    ];
    for (id_tag, status) in answers {
        assert_eq!(station.authorize(id_tag), status, "{id_tag}");
    }
    assert_eq!(station.authorize("good"), "Accepted", "tags are compared without regard to case");
    let info = station.call("Authorize", json!({"idTag": "GOOD"}))["idTagInfo"].clone();
    assert_eq!(info["parentIdTag"], "FLEET");
}

/// The station reports a fact: the server cannot undo it, only say what it thinks of the tag
/// (OCPP.md point 4).
#[test]
fn a_transaction_of_a_tag_that_may_not_charge_exists_all_the_same() {
    let server = Server::start();
    let api = server.api();
    api.define_tag("BLOCKED", &json!({"status": "Blocked"}));
    api.define_tag("OVER", &json!({"status": "Accepted", "expiryDate": "2020-01-01T00:00:00Z"}));
    let station = server.ready_station("CP-1", 2);
    for (connector_id, id_tag, status) in [(1, "BLOCKED", "Blocked"), (2, "OVER", "Expired")] {
        let answer = station.call("StartTransaction", start(connector_id, id_tag));
        assert_eq!(answer["idTagInfo"]["status"], status);
        let transaction_id = answer["transactionId"].as_i64().unwrap();
        assert_eq!(api.transaction(transaction_id).id_tag, id_tag);
        assert_eq!(
            api.station("CP-1").connector(connector_id).transaction_id,
            Some(transaction_id)
        );
    }
}

#[test]
fn a_tag_that_may_not_charge_cannot_be_used_for_a_remote_start() {
    let server = Server::start();
    let api = server.api();
    api.define_tag("BLOCKED", &json!({"status": "Blocked"}));
    let station = server.ready_station("CP-1", 1);
    api.remote_start("CP-1", 1, "BLOCKED").refused("tag-not-accepted");
    assert_eq!(station.count_calls("RemoteStartTransaction"), 0);
    api.define_tag("BLOCKED", &json!({"status": "Accepted"}));
    api.remote_start_and_wait("CP-1", 1, "BLOCKED").concluded(State::Done);
}

#[test]
fn terms_that_make_no_sense_are_refused() {
    let server = Server::start();
    let api = server.api();
    for (id_tag, terms) in [
        ("ANN", json!({"status": "Maybe"})),
        ("ANN", json!({})),
        ("ANN", json!({"status": "Accepted", "expiryDate": "tomorrow"})),
        // OCPP 1.6 section 7.28: an IdToken has at most 20 characters.
        ("A-TAG-OF-MORE-THAN-TWENTY-CHARACTERS", json!({"status": "Accepted"})),
        (
            "ANN",
            json!({"status": "Accepted", "parentIdTag": "A-GROUP-OF-MORE-THAN-TWENTY-CHARACTERS"}),
        ),
    ] {
        let problem = api.put(&format!("/api/tags/{id_tag}"), &terms).problem(400);
        assert!(problem.detail.len() > 10, "{problem:?}");
    }
    let own_parent = api.put("/api/tags/ANN", &json!({"status": "Accepted", "parentIdTag": "ANN"}));
    assert!(matches!(own_parent.status, 400 | 409), "{own_parent:?}");
    api.fetch("/api/tags/ANN").problem(404);
}

#[test]
fn tags_of_any_letters_are_one_segment_of_the_path() {
    let server = Server::start();
    let api = server.api();
    api.define_tag("a/b c?ü", &json!({"status": "Blocked"}));
    let station = server.ready_station("CP-1", 1);
    assert_eq!(station.authorize("a/b c?ü"), "Blocked");
}
