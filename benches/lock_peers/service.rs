//! Three processes of a lock service.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::client::Client;
use crate::zookeeper;

/// How long a cluster may take to serve.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// Where our nodes find each other.
const CONFIG: &str = "cluster.toml";

/// Which of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Dss,
    Etcd,
    ZooKeeper,
}

/// What runs until this is dropped.
pub(crate) struct Service {
    /// Where clients connect to.
    pub(crate) clients: Vec<SocketAddr>,
    processes: Vec<Child>,
    /// On the disk that is built on, so that what is synced is synced.
    _data: TempDir,
}

impl Drop for Service {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // One that has ended by itself is no worse.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dss => "dss",
            Self::Etcd => "etcd",
            Self::ZooKeeper => "zookeeper",
        }
    }

    /// The program, where it is installed or built.
    pub(crate) fn program(self) -> Option<PathBuf> {
        match self {
            Self::Etcd => installed("etcd"),
            Self::ZooKeeper => {
                Path::new(zookeeper::JAR).is_file().then(|| installed("java")).flatten()
            }
            Self::Dss => {
                // This program is in target/release/deps.
                let program = std::env::current_exe().ok()?;
                let built = program.parent()?.parent()?.join("examples/cluster");
                built.is_file().then_some(built)
            }
        }
    }

    /// Starts three processes, and waits until all of them serve.
    pub(crate) async fn start(self, program: &Path) -> io::Result<Service> {
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let ports = free_ports(9)?;
        let (clients, peers) = ports.split_at(3);
        let mut service = Service { clients: clients.to_vec(), processes: Vec::new(), _data: data };
        let folder = service._data.path().to_owned();
        if self == Self::Dss {
            dss_config(&folder, clients, peers)?;
        }
        for node in 0..3 {
            let mut command = Command::new(program);
            match self {
                Self::Dss => {
                    command.args(["node", "--id", &format!("n{node}"), "--config"]);
                    command.arg(folder.join(CONFIG));
                }
                Self::Etcd => etcd_node(&mut command, &folder, node, clients, peers),
                Self::ZooKeeper => {
                    zookeeper::node(&mut command, &folder, node, clients, peers)?;
                }
            }
            let log = std::fs::File::create(folder.join(format!("{node}.log")))?;
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            service.processes.push(command.spawn()?);
        }
        let serving = async {
            for client in clients {
                while Client::open(self, *client, 0).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        match tokio::time::timeout(STARTS_WITHIN, serving).await {
            Ok(()) => Ok(service),
            Err(_) => Err(io::Error::other(format!(
                "{} does not serve: {}",
                self.name(),
                std::fs::read_to_string(folder.join("0.log")).unwrap_or_default()
            ))),
        }
    }
}

/// Where a program of this name is installed.
fn installed(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn free_ports(count: usize) -> io::Result<Vec<SocketAddr>> {
    let bound: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<_>>()?;
    bound.iter().map(TcpListener::local_addr).collect()
}

/// All nodes read the same file.
fn dss_config(folder: &Path, clients: &[SocketAddr], peers: &[SocketAddr]) -> io::Result<()> {
    use std::fmt::Write as _;
    let mut config = format!("cluster = 'bench'\ndata_dir = '{}'\n", folder.display());
    for (number, (client, peer)) in clients.iter().zip(peers).enumerate() {
        write!(config, "[[nodes]]\nid = 'n{number}'\nclient = '{client}'\npeer = '{peer}'\n")
            .map_err(io::Error::other)?;
    }
    std::fs::write(folder.join(CONFIG), config)
}

fn etcd_node(
    command: &mut Command,
    folder: &Path,
    node: usize,
    clients: &[SocketAddr],
    peers: &[SocketAddr],
) {
    let url = |address: SocketAddr| format!("http://{address}");
    let members = peers.iter().take(3).enumerate();
    let members: Vec<_> =
        members.map(|(number, peer)| format!("e{number}={}", url(*peer))).collect();
    command.args(["--name", &format!("e{node}"), "--log-level", "error", "--data-dir"]);
    command.arg(folder.join(format!("e{node}")));
    for option in ["--listen-client-urls", "--advertise-client-urls"] {
        command.args([option, &url(clients[node])]);
    }
    for option in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
        command.args([option, &url(peers[node])]);
    }
    command.args(["--initial-cluster", &members.join(",")]);
}
