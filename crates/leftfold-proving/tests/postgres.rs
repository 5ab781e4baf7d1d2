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

#[test]
fn a_standby_follows_and_takes_writes_when_it_is_promoted() {
    let mut primary = PostgresServer::start();
    primary.psql(&primary.url(), "create table kept (what text); insert into kept values ('a')");
    let standby = primary.standby();
    let in_recovery = "select pg_is_in_recovery()";
    assert_eq!(standby.psql(&standby.url(), in_recovery), "t");
    primary.stop_hard();
    standby.promote();
    standby.psql(&standby.url(), "insert into kept values ('b')");
    assert_eq!(standby.psql(&standby.url(), "select what from kept order by what"), "a\nb");
}

#[test]
fn a_server_with_limited_files_says_that_its_disk_is_full() {
    let mut server = PostgresServer::start();
    server.psql(&server.url(), "create table kept (what text)");
    server.stop_hard();
    server.limit_files(true);
    server.start_again();
    let fill = "do $$ begin insert into kept select repeat('x', 900) from generate_series(1, 2000);
        exception when disk_full then insert into kept values ('full'); end $$";
    server.psql(&server.url(), fill);
    assert_eq!(server.psql(&server.url(), "select what from kept"), "full");
}
