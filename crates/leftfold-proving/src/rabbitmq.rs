//! RabbitMQ.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::directory::{ServerDirectory, free_port, told};
use crate::process::ServerProcess;

/// File of the node's own settings, if it has any.
const CONFIGURATION: &str = "node.config";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// A RabbitMQ node with the user `guest`, a cookie and a name service of its own. It starts in some
/// seconds.
pub struct RabbitMqServer {
    directory: ServerDirectory,
    programs: PathBuf,
    ports: Ports,
    /// Erlang's name service, by which `rabbitmqctl` finds the node. It stays while the node is
    /// stopped.
    names: Option<ServerProcess>,
    process: Option<ServerProcess>,
    virtual_hosts: AtomicU32,
    is_encrypted: bool,
}

#[derive(Clone, Copy)]
struct Ports {
    amqp: u16,
    encrypted: u16,
    names: u16,
    distribution: u16,
}

impl RabbitMqServer {
    /// The node that the tests of this process share; it cannot be stopped. Take a [virtual
    /// host](RabbitMqServer::virtual_host) of your own, or names of your own for queues.
    pub fn shared() -> &'static RabbitMqServer {
        static SHARED: OnceLock<RabbitMqServer> = OnceLock::new();
        SHARED.get_or_init(RabbitMqServer::start)
    }

    /// A new, empty node.
    #[must_use]
    pub fn start() -> RabbitMqServer {
        RabbitMqServer::start_in(ServerDirectory::new("rabbitmq"), false)
    }

    /// A new, empty node that also takes [encrypted](RabbitMqServer::encrypted_url) connections,
    /// with a certificate and its key, both in PEM.
    #[must_use]
    pub fn start_encrypted(certificate: &str, key: &str) -> RabbitMqServer {
        let directory = ServerDirectory::new("rabbitmq");
        for (file, text) in [(CERTIFICATE, certificate), (KEY, key)] {
            std::fs::write(directory.path().join(file), text).expect("the directory is ours");
        }
        RabbitMqServer::start_in(directory, true)
    }

    fn start_in(directory: ServerDirectory, is_encrypted: bool) -> RabbitMqServer {
        let programs = told("LEFTFOLD_RABBITMQ");
        let ports = Ports::free();
        let virtual_hosts = AtomicU32::new(0);
        let mut node = RabbitMqServer {
            directory,
            programs,
            ports,
            names: None,
            process: None,
            virtual_hosts,
            is_encrypted,
        };
        // Between the choice of ports and their use somebody else may take one.
        let started = (0..2).any(|_| {
            node.ports = Ports::free();
            node.try_start().is_ok()
        });
        if !started {
            node.start_again();
        }
        node
    }

    /// The virtual host `/`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("%2f")
    }

    /// The virtual host `/` over an encrypted connection, at the name `localhost`.
    #[must_use]
    pub fn encrypted_url(&self) -> String {
        format!("amqps://guest:guest@localhost:{}/%2f", self.ports.encrypted)
    }

    /// Makes a virtual host and returns its URL. Its name is made distinct, so that tests may use
    /// the same. It takes seconds, because `rabbitmqctl` does.
    ///
    /// # Panics
    /// If the name is more than lower case letters and `_`.
    pub fn virtual_host(&self, name: &str) -> String {
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(plain, "{name:?} is not a name of letters a to z and underscores");
        let name = format!("{name}_{}", self.virtual_hosts.fetch_add(1, Ordering::Relaxed));
        self.control(&["add_vhost", &name]);
        self.control(&["set_permissions", "--vhost", &name, "guest", ".*", ".*", ".*"]);
        self.url_of(&name)
    }

    /// Runs `rabbitmqctl` and returns its answer, without headings.
    pub fn control(&self, arguments: &[&str]) -> String {
        let mut control = self.command("rabbitmqctl");
        control.args(["--quiet", "--node", &self.node()]).args(arguments);
        self.directory.run(&mut control).trim_end().to_owned()
    }

    /// Kills the node by SIGKILL; returns when it is gone.
    pub fn stop_hard(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.doom();
    }

    /// Starts what was stopped, on the same data and port; returns when it answers.
    pub fn start_again(&mut self) {
        self.try_start().unwrap_or_else(|why| panic!("RabbitMQ: {why}"));
    }

    fn try_start(&mut self) -> Result<(), String> {
        assert!(self.process.is_none(), "it runs already; stop it first");
        if self.names.is_none() {
            let mut names = self.directory.command(Path::new("epmd"));
            // Without `-daemon` it stays ours; `-d` makes it say when it is there.
            names.args(["-d", "-address", "127.0.0.1", "-port", &self.ports.names.to_string()]);
            self.names = Some(ServerProcess::start(names, "epmd running")?);
            self.doom();
        }
        if self.is_encrypted {
            self.offer_encryption();
        }
        let mut node = self.command("rabbitmq-server");
        // Then the script becomes the node instead of standing before it.
        node.env("RUNNING_UNDER_SYSTEMD", "1");
        match ServerProcess::start(node, "Server startup complete") {
            Ok(process) => self.process = Some(process),
            Err(why) => {
                // The next try is with other ports, the name service's included.
                self.stop_names();
                return Err(why);
            }
        }
        self.doom();
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.directory.command(&self.programs.join(program));
        let directory = self.directory.path();
        command.env("RABBITMQ_NODENAME", self.node());
        command.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_NODE_PORT", self.ports.amqp.to_string());
        command.env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string());
        command.env("ERL_EPMD_PORT", self.ports.names.to_string());
        command.env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_ERLANG_COOKIE", format!("leftfold{}", self.ports.amqp));
        command.env("RABBITMQ_MNESIA_BASE", directory.join("data"));
        command.env("RABBITMQ_LOG_BASE", directory.join("log"));
        command.env("RABBITMQ_LOGS", "-");
        // None of the machine's own settings.
        command.env("RABBITMQ_CONFIG_FILE", directory.join(CONFIGURATION));
        command.env("RABBITMQ_ADVANCED_CONFIG_FILE", directory.join("none.config"));
        command.env("RABBITMQ_CONF_ENV_FILE", directory.join("none.conf"));
        command.env("RABBITMQ_ENABLED_PLUGINS_FILE", directory.join("plugins"));
        let loopback = "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none";
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback);
        command
    }

    fn offer_encryption(&self) {
        let directory = self.directory.path();
        let (certificate, key) = (directory.join(CERTIFICATE), directory.join(KEY));
        let configuration = format!(
            "[{{rabbit, [{{ssl_listeners, [{{\"127.0.0.1\", {}}}]}}, {{ssl_options, \
             [{{certfile, {certificate:?}}}, {{keyfile, {key:?}}}, {{verify, verify_none}}, \
             {{fail_if_no_peer_cert, false}}]}}]}}].\n",
            self.ports.encrypted
        );
        let written = std::fs::write(directory.join(CONFIGURATION), configuration);
        written.expect("the directory is ours");
    }

    fn doom(&mut self) {
        let processes: Vec<u32> =
            [&self.process, &self.names].into_iter().flatten().map(ServerProcess::id).collect();
        self.directory.doom("KILL", &processes);
    }

    fn stop_names(&mut self) {
        if let Some(names) = self.names.take() {
            names.kill();
        }
        self.doom();
    }

    /// `localhost` needs no name of the machine that can be resolved.
    fn node(&self) -> String {
        format!("leftfold{}@localhost", self.ports.amqp)
    }

    fn url_of(&self, virtual_host: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{virtual_host}", self.ports.amqp)
    }
}

impl Ports {
    fn free() -> Ports {
        Ports {
            amqp: free_port(),
            encrypted: free_port(),
            names: free_port(),
            distribution: free_port(),
        }
    }
}

impl Drop for RabbitMqServer {
    fn drop(&mut self) {
        self.stop_hard();
        self.stop_names();
    }
}
