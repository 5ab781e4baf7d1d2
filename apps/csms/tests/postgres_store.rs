//! Events in a real PostgreSQL, and read models beside them in the same database.

use leftfold_proving::PostgresServer;

use crate::harness::server::Options;
use crate::harness::station::{meter_values, stop};
use crate::harness::{Server, State};

/// A store of its own on the server that all tests share: the URL of its database, and its options.
fn in_postgresql() -> (String, Options) {
    let database = PostgresServer::shared().database("csms");
    let options = Options::default().store(&format!("{database}?schema=events"));
    (database, options)
}

#[test]
fn sessions_and_requests_survive_a_kill_in_postgresql_with_read_models_in_the_same_database() {
    let (database, options) = in_postgresql();
    let mut server = Server::start_with(options);
    let api = server.api();
    let station = server.ready_station("CP-1", 2);
    let asked = api.remote_start_and_wait("CP-1", 1, "ANN").concluded(State::Done);
    let id = station.start(1, "ANN");
    assert_eq!(api.transaction(id).remote_start, Some(asked.request));
    station.call("MeterValues", meter_values(1, id, 1_700));
    let over = station.start(2, "BOB");
    station.stop(over);
    let before = (api.transaction(id), api.transaction(over), api.history("CP-1").len());
    assert_eq!((before.0.meter_messages, before.1.energy_wh), (1, Some(1_500)));

    server.restart();
    assert_eq!((api.transaction(id), api.transaction(over)), (before.0, before.1));
    assert!(api.history("CP-1").len() >= before.2);
    station.wait_closed(1);
    station.connect();
    station.call("StopTransaction", stop(id));
    let next = station.start(2, "EVE");
    assert!(next > id && next > over, "an id is never given twice: {next}");
    assert_eq!(api.transactions("CP-1").len(), 3);
    assert_eq!(api.health(), ("ok".to_owned(), Vec::new()));

    let schemas = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1";
    let schemas = PostgresServer::shared().psql(&database, schemas);
    for schema in ["events", "transactions_v4", "meter_values_v1"] {
        assert!(schemas.lines().any(|line| line == schema), "{schema} in {schemas}");
    }
}
