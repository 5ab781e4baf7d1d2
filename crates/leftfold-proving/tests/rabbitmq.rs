//! RabbitMQ is started, killed, and started again.

use leftfold_proving::RabbitMqServer;

#[test]
fn its_virtual_hosts_are_there_after_a_sigkill_and_a_new_start() {
    let mut node = RabbitMqServer::start();
    let url = node.virtual_host("orders");
    let name = url.rsplit('/').next().unwrap().to_owned();
    node.stop_hard();
    node.start_again();
    let hosts = node.control(&["list_vhosts"]);
    assert!(hosts.lines().any(|host| host == name), "{hosts}");
}
