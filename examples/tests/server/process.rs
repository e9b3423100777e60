//! Starts, signals and kills node processes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use dss_examples::free_port;
use tempfile::TempDir;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::network::Network;

/// How long a node may take from its start to its first `200` on `/readyz`: seconds, and more where
/// the machine has much else to do.
const READY_MAX: Duration = Duration::from_secs(120);
/// How long a node may take to leave after a signal that asks it to.
const EXIT_MAX: Duration = Duration::from_secs(60);

/// The server program: that which `DSS_PROGRAM` names, or one that is built once for all tests.
///
/// `cargo test` builds what it depends on, and not the program itself.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(program) = std::env::var_os("DSS_PROGRAM") {
            return program.into();
        }
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "--package", "dss-examples", "--example", "cluster"])
            .args(if cfg!(debug_assertions) { None } else { Some("--release") })
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        // What cargo tells this test of its package is none of that build's: build scripts that
        // look at it would run again, and all that depends on them would be built anew.
        for (name, _) in std::env::vars_os() {
            let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_"];
            if name.to_str().is_some_and(|name| of_package.iter().any(|it| name.starts_with(it))) {
                build.env_remove(name);
            }
        }
        let built = build.status().expect("cargo runs");
        assert!(built.success(), "the example does not build");
        let test = std::env::current_exe().expect("a test knows its own path");
        let profile = test.parent().and_then(Path::parent).expect("tests live in PROFILE/deps");
        profile.join("examples").join("cluster")
    })
}

/// This machine. Tests share it, except for those that measure time.
static MACHINE: LazyLock<Arc<RwLock<()>>> = LazyLock::new(Arc::default);

/// A part in this machine, or all of it.
#[expect(dead_code, reason = "they are held, not read")]
enum Place {
    Shared(OwnedRwLockReadGuard<()>),
    Alone(OwnedRwLockWriteGuard<()>),
}

/// The arguments that run one node.
pub(crate) fn node_arguments(config: &Path, id: &str) -> Vec<OsString> {
    ["node".into(), "--config".into(), config.into(), "--id".into(), id.into()].into()
}

/// How nodes and clients talk.
#[derive(Clone, Copy)]
enum Wire {
    Plain,
    Encrypted,
}

impl Wire {
    fn scheme(self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Encrypted => "https",
        }
    }

    /// One who believes the authority in this folder, where there is one.
    fn client(self, certs: &Path) -> Client {
        match self {
            Self::Plain => Client::new(),
            Self::Encrypted => Client::trusting(&certs.join("ca/clients.pem")),
        }
    }
}

/// Has certificates made for nodes on this machine, by the authorities in `folder` if there are
/// any.
pub(crate) fn issue(folder: &Path, nodes: &[&str]) {
    let nodes = nodes.iter().map(|node| format!("--node={node}=127.0.0.1,localhost"));
    let made = Command::new(program())
        .args(["certs", "--out"])
        .arg(folder)
        .args(nodes)
        .output()
        .expect("the program starts");
    assert!(made.status.success() && made.stderr.is_empty(), "{made:?}");
}

/// Three nodes, each a process of its own, with a configuration and data of their own.
pub(crate) struct Cluster {
    folder: TempDir,
    nodes: Vec<NodeProcess>,
    arguments: Vec<String>,
    wire: Wire,
    pub(crate) client: Client,
    _place: Place,
}

struct NodeProcess {
    id: String,
    url: String,
    peer: String,
    config: PathBuf,
    child: Option<Child>,
}

impl Cluster {
    /// Writes a configuration for three nodes on free ports and starts them.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let place = Place::Shared(MACHINE.clone().read_owned().await);
        Self::start_at(place, Wire::Plain, "", arguments).await
    }

    /// The same with more in the configuration than the nodes.
    pub(crate) async fn start_configured(more: &str) -> Self {
        let place = Place::Shared(MACHINE.clone().read_owned().await);
        Self::start_at(place, Wire::Plain, more, &[]).await
    }

    /// The same with encrypted connections.
    pub(crate) async fn start_encrypted(more: &str) -> Self {
        let place = Place::Shared(MACHINE.clone().read_owned().await);
        Self::start_at(place, Wire::Encrypted, more, &[]).await
    }

    /// The same, while no other test has a cluster: for what measures time.
    pub(crate) async fn start_alone(arguments: &[&str]) -> Self {
        let place = Place::Alone(MACHINE.clone().write_owned().await);
        Self::start_at(place, Wire::Plain, "", arguments).await
    }

    /// The same with this in the configuration.
    pub(crate) async fn start_alone_configured(more: &str) -> Self {
        let place = Place::Alone(MACHINE.clone().write_owned().await);
        Self::start_at(place, Wire::Plain, more, &[]).await
    }

    /// The same with encrypted connections.
    pub(crate) async fn start_alone_encrypted(more: &str) -> Self {
        let place = Place::Alone(MACHINE.clone().write_owned().await);
        Self::start_at(place, Wire::Encrypted, more, &[]).await
    }

    /// The same with a network between the nodes that can be cut.
    pub(crate) async fn start_over_a_network(more: &str) -> (Self, Network) {
        let place = Place::Shared(MACHINE.clone().read_owned().await);
        let mut cluster = Self::configure(place, Wire::Plain, more, &[]);
        let peers: Vec<_> = cluster.nodes.iter().map(|node| node.peer.clone()).collect();
        let network = Network::between(&peers).await;
        let file = std::fs::read_to_string(cluster.config_file()).expect("it was written");
        for (from, node) in cluster.nodes.iter_mut().enumerate() {
            let mut config = file.clone();
            for (to, peer) in peers.iter().enumerate().filter(|(to, _)| *to != from) {
                let proxy = format!("\"{}\"", network.address(from, to));
                config = config.replace(&format!("\"{peer}\""), &proxy);
            }
            node.config = cluster.folder.path().join(format!("{}.toml", node.id));
            std::fs::write(&node.config, config).expect("a writable folder");
        }
        cluster.run().await;
        (cluster, network)
    }

    async fn start_at(place: Place, wire: Wire, more: &str, arguments: &[&str]) -> Self {
        let mut cluster = Self::configure(place, wire, more, arguments);
        cluster.run().await;
        cluster
    }

    /// Starts all nodes.
    async fn run(&mut self) {
        for node in 0..self.nodes.len() {
            self.spawn(node);
        }
        self.ready().await;
    }

    /// Three nodes that do not run yet.
    fn configure(place: Place, wire: Wire, more: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let certs = folder.path().join("certs");
        if let Wire::Encrypted = wire {
            issue(&certs, &["n1", "n2", "n3"]);
        }
        let client = wire.client(&certs);
        let mut config = format!(
            "cluster = \"test\"\ndata_dir = {:?}\n",
            folder.path().join("data").display().to_string()
        );
        let mut nodes = Vec::new();
        for id in ["n1", "n2", "n3"] {
            let (client, peer) = (free_port(), free_port());
            config.push_str(&format!(
                "[[nodes]]\nid = \"{id}\"\nclient = \"127.0.0.1:{client}\"\npeer = \"127.0.0.1:{peer}\"\n"
            ));
            let url = format!("{}://127.0.0.1:{client}", wire.scheme());
            let peer = format!("127.0.0.1:{peer}");
            let config = folder.path().join("cluster.toml");
            nodes.push(NodeProcess { id: id.to_owned(), url, peer, config, child: None });
        }
        config.push_str(more);
        if let Wire::Encrypted = wire {
            config.push_str(&format!("[tls]\nfolder = {:?}\n", certs.display().to_string()));
        }
        std::fs::write(folder.path().join("cluster.toml"), config).expect("a writable folder");
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self { folder, nodes, arguments, wire, client, _place: place }
    }

    /// Where its certificates are, if it has any.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.folder.path().join("certs")
    }

    /// A node that is not in the file of the others, with a file of its own that has it too. It is
    /// not started, and has no certificates.
    pub(crate) fn another(&mut self, id: &str) -> usize {
        let (client, peer) = (free_port(), free_port());
        let mut config = std::fs::read_to_string(self.config_file()).expect("it was written");
        let node = format!(
            "[[nodes]]\nid = \"{id}\"\nclient = \"127.0.0.1:{client}\"\n\
             peer = \"127.0.0.1:{peer}\"\njoins = true\n"
        );
        let end = config.find("\n[timing]").map_or(config.len(), |end| end + 1);
        config.insert_str(end, &node);
        let file = self.folder.path().join(format!("{id}.toml"));
        std::fs::write(&file, config).expect("a writable folder");
        self.nodes.push(NodeProcess {
            id: id.to_owned(),
            url: format!("{}://127.0.0.1:{client}", self.wire.scheme()),
            peer: format!("127.0.0.1:{peer}"),
            config: file,
            child: None,
        });
        self.nodes.len() - 1
    }

    /// Starts a cluster like this one from a backup, on the same ports: this one must not run.
    pub(crate) async fn restore_from(&mut self, backup: &Path) {
        for node in 0..3 {
            let data = self.folder.path().join("data").join(&self.nodes[node].id);
            std::fs::remove_dir_all(data).expect("the node has a folder");
            let restored = Command::new(program())
                .args(["restore", "--id", &self.nodes[node].id, "--from"])
                .arg(backup)
                .arg("--config")
                .arg(self.config_file())
                .status()
                .expect("the program starts");
            assert!(restored.success());
        }
        for node in 0..3 {
            self.spawn(node);
        }
        self.ready().await;
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("cluster.toml")
    }

    /// Where a node keeps its data.
    pub(crate) fn data_folder(&self, node: usize) -> PathBuf {
        self.folder.path().join("data").join(&self.nodes[node].id)
    }

    pub(crate) fn url(&self, node: usize) -> &str {
        &self.nodes[node].url
    }

    /// Where the other nodes reach this one.
    pub(crate) fn peer(&self, node: usize) -> &str {
        &self.nodes[node].peer
    }

    /// What the node is called.
    pub(crate) fn id(&self, node: usize) -> &str {
        &self.nodes[node].id
    }

    /// Which node has this id.
    pub(crate) fn index_of(&self, id: &str) -> usize {
        self.nodes.iter().position(|node| node.id == id).expect("a node of this cluster")
    }

    /// Starts a node that does not run. Its log goes to a file beside its data.
    pub(crate) fn spawn(&mut self, node: usize) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("{}.log", self.nodes[node].id)))
            .expect("a writable folder");
        let child = Command::new(program())
            .args(node_arguments(&self.nodes[node].config, &self.nodes[node].id))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be doubled"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.nodes[node].child = Some(child);
    }

    /// Waits until every running node says that it is ready.
    pub(crate) async fn ready(&self) {
        let deadline = Instant::now() + READY_MAX;
        for node in self.nodes.iter().filter(|node| node.child.is_some()) {
            let url = format!("{}/readyz", node.url);
            loop {
                if self.client.get(&url).await.is_ok_and(|answer| answer.status == 200) {
                    break;
                }
                if Instant::now() > deadline {
                    panic!("{} is not ready\n{}", node.id, self.logs());
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Lets go of a node's process, so that it can be killed while the others are talked to.
    pub(crate) fn take(&mut self, node: usize) -> Victim {
        Victim(self.nodes[node].child.take().expect("the node runs"))
    }

    /// Asks the node to leave and waits until it has.
    pub(crate) async fn terminate(&mut self, node: usize) -> ExitStatus {
        self.stop(node, "TERM").await
    }

    /// Sends the node a signal that asks it to leave and waits until it has.
    pub(crate) async fn stop(&mut self, node: usize, by: &str) -> ExitStatus {
        self.signal(node, by);
        self.exit(node).await
    }

    /// Waits until the node has left by itself, or since it was asked to.
    pub(crate) async fn exit(&mut self, node: usize) -> ExitStatus {
        let mut child = self.nodes[node].child.take().expect("the node runs");
        let deadline = Instant::now() + EXIT_MAX;
        loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().expect("a child can be killed");
                panic!("node {node} goes on\n{}", self.logs());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a signal to the node's process.
    pub(crate) fn signal(&self, node: usize, name: &str) {
        signal(self.nodes[node].child.as_ref().expect("the node runs"), name);
    }

    /// How much memory the node's process has, in KiB; 0 where the operating system does not tell.
    pub(crate) fn memory_kib(&self, node: usize) -> u64 {
        let process = self.nodes[node].child.as_ref().expect("the node runs").id();
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        resident.and_then(|kib| kib.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    }

    /// Whether the node's process is still the one that was started.
    pub(crate) fn is_running(&mut self, node: usize) -> bool {
        let child = self.nodes[node].child.as_mut().expect("the node was started");
        child.try_wait().expect("a child can be waited for").is_none()
    }

    /// The whole log of a node.
    pub(crate) fn log(&self, node: usize) -> String {
        let path = self.folder.path().join(format!("{}.log", self.nodes[node].id));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// The ends of all logs, for a failed test's message.
    pub(crate) fn logs(&self) -> String {
        const LINES: usize = 40;
        let mut all = String::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let log = self.log(number);
            let lines: Vec<_> = log.lines().collect();
            all.push_str(&format!("--- {}\n", node.id));
            all.push_str(&lines[lines.len().saturating_sub(LINES)..].join("\n"));
            all.push('\n');
        }
        all
    }
}

/// A node's process that is going to be killed.
pub(crate) struct Victim(Child);

impl Victim {
    /// SIGKILL: nothing is flushed, nobody is told.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("a child can be killed");
        self.0.wait().expect("a killed child ends");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may be dead already; it does not outlive the test in any case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                // It may have ended by itself, which is not this function's to judge.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// Sends a signal by the standard command, which every Unix has.
pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status()
        .expect("every Unix has kill");
    assert!(sent.success(), "the process is gone already");
}
