//! PostgreSQL is started, killed in the middle of its work, and started again.

use leftfold_proving::PostgresServer;

#[test]
fn what_was_committed_is_there_after_a_sigkill_and_a_new_start() {
    let mut server = PostgresServer::start();
    let url = server.database("orders");
    server.psql(&url, "create table kept (what text); insert into kept values ('a'), ('b')");
    server.stop_hard();
    server.start_again();
    assert_eq!(server.psql(&url, "select what from kept order by what"), "a\nb");
    server.stop_hard();
    server.start_again();
    assert_eq!(server.psql(&url, "select count(*) from kept"), "2");
}

#[test]
fn tests_share_a_server_and_have_a_database_each() {
    let urls = [(); 2].map(|()| PostgresServer::shared().database("mine"));
    assert_ne!(urls[0], urls[1]);
    for url in &urls {
        PostgresServer::shared().psql(url, "create table mine (number int)");
    }
}
