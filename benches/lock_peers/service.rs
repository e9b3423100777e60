//! Three processes of a lock service, and how it is asked.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::http::{Connection, Request};

/// How long a cluster may take to serve.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// Which of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Dss,
    Etcd,
}

/// What runs until this is dropped.
pub(crate) struct Service {
    pub(crate) kind: Kind,
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
        }
    }

    /// The program, where it is installed or built.
    pub(crate) fn program(self) -> Option<PathBuf> {
        match self {
            Self::Etcd => {
                let folders = std::env::var_os("PATH")?;
                std::env::split_paths(&folders).map(|f| f.join("etcd")).find(|p| p.is_file())
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
        let ports = free_ports(6)?;
        let (clients, peers) = ports.split_at(3);
        let mut service =
            Service { kind: self, clients: clients.to_vec(), processes: Vec::new(), _data: data };
        let folder = service._data.path().to_owned();
        for node in 0..3 {
            let mut command = Command::new(program);
            match self {
                Self::Dss => dss_node(&mut command, &folder, node, clients, peers)?,
                Self::Etcd => etcd_node(&mut command, &folder, node, clients, peers),
            }
            let log = std::fs::File::create(folder.join(format!("{node}.log")))?;
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            service.processes.push(command.spawn()?);
        }
        let serving = async {
            for client in clients {
                while service.open(*client, 0).await.is_err() {
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

fn free_ports(count: usize) -> io::Result<Vec<SocketAddr>> {
    let bound: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<_>>()?;
    bound.iter().map(TcpListener::local_addr).collect()
}

fn dss_node(
    command: &mut Command,
    folder: &Path,
    node: usize,
    clients: &[SocketAddr],
    peers: &[SocketAddr],
) -> io::Result<()> {
    use std::fmt::Write as _;
    let mut config = format!("cluster = 'bench'\ndata_dir = '{}'\n", folder.display());
    for (number, (client, peer)) in clients.iter().zip(peers).enumerate() {
        write!(config, "[[nodes]]\nid = 'n{number}'\nclient = '{client}'\npeer = '{peer}'\n")
            .map_err(io::Error::other)?;
    }
    let file = folder.join("cluster.toml");
    std::fs::write(&file, config)?;
    command.arg("node").arg("--config").arg(file).args(["--id", &format!("n{node}")]);
    Ok(())
}

fn etcd_node(
    command: &mut Command,
    folder: &Path,
    node: usize,
    clients: &[SocketAddr],
    peers: &[SocketAddr],
) {
    let url = |address: SocketAddr| format!("http://{address}");
    let members = peers.iter().enumerate();
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

/// One client: a connection, and a session or lease that outlives the measurement.
pub(crate) struct Client {
    connection: Connection,
    kind: Kind,
    /// etcd's lease, our session.
    session: String,
}

impl Service {
    pub(crate) async fn open(&self, to: SocketAddr, number: usize) -> io::Result<Client> {
        let mut connection = Connection::open(to).await?;
        let session = format!("bench-{number}");
        let request = match self.kind {
            Kind::Dss => Request {
                method: "PUT",
                path: format!("/v1/sessions/{session}"),
                body: r#"{"ttl_ms":600000}"#.to_owned(),
            },
            Kind::Etcd => post("/v3/lease/grant", r#"{"TTL":"600"}"#.to_owned()),
        };
        let answer = done(&mut connection, &request).await?;
        let session = match self.kind {
            Kind::Dss => session,
            Kind::Etcd => field(&answer, "\"ID\":\"")?.to_owned(),
        };
        Ok(Client { connection, kind: self.kind, session })
    }
}

impl Client {
    /// Takes the lock and gives it back.
    pub(crate) async fn pair(&mut self, lock: &str) -> io::Result<()> {
        let session = &self.session;
        let (acquire, release) = match self.kind {
            Kind::Dss => {
                let body = format!(r#"{{"session":"{session}","wait_ms":600000}}"#);
                let acquire = post(&format!("/v1/locks/{lock}/acquire"), body);
                let answer = done(&mut self.connection, &acquire).await?;
                let token = field(&answer, "\"fencing_token\":")?;
                let body = format!(r#"{{"session":"{session}","fencing_token":{token}}}"#);
                (answer, post(&format!("/v1/locks/{lock}/release"), body))
            }
            Kind::Etcd => {
                let name = base64(lock.as_bytes());
                let body = format!(r#"{{"name":"{name}","lease":"{session}"}}"#);
                let answer = done(&mut self.connection, &post("/v3/lock/lock", body)).await?;
                let key = field(&answer, "\"key\":\"")?;
                let body = format!(r#"{{"key":"{key}"}}"#);
                (answer, post("/v3/lock/unlock", body))
            }
        };
        drop(acquire);
        done(&mut self.connection, &release).await.map(drop)
    }
}

fn post(path: &str, body: String) -> Request {
    Request { method: "POST", path: path.to_owned(), body }
}

async fn done(connection: &mut Connection, request: &Request) -> io::Result<String> {
    let answer = connection.ask(request).await?;
    if answer.status == 200 {
        return Ok(answer.body);
    }
    Err(io::Error::other(format!("{request:?}: {answer:?}")))
}

/// What stands behind `before`, up to whatever ends a value.
fn field<'a>(body: &'a str, before: &str) -> io::Result<&'a str> {
    let value = body.split(before).nth(1).and_then(|rest| rest.split(['"', ',', '}']).next());
    value.ok_or_else(|| io::Error::other(format!("no {before} in {body}")))
}

/// As etcd's gateway wants bytes to be.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut bits = 0_u32;
        for place in 0..3 {
            bits = bits << 8 | chunk.get(place).map_or(0, |byte| u32::from(*byte));
        }
        for digit in 0..4 {
            let wanted = digit <= chunk.len();
            let digit = DIGITS[(bits >> (18 - 6 * digit)) as usize & 63];
            text.push(if wanted { char::from(digit) } else { '=' });
        }
    }
    text
}
