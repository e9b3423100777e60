//! What a cluster is: its nodes, their addresses and its timing.

mod limits;
mod parse;
mod security;
mod settings;
mod shown;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dss_raft::NodeId;
use xxhash_rust::xxh3::xxh3_64;

use crate::redis::{Copies, RedisAddress};

pub(crate) use limits::Limits;
pub(crate) use parse::ConfigError;
pub(crate) use security::{AuditConfig, AuthConfig, Bootstrap};
pub(crate) use settings::Setting;

/// A cluster as its file describes it. One that exists is valid: names and addresses are unique
/// and well formed, and the timing is one that Raft accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterConfig {
    origin: String,
    cluster: String,
    data_dir: PathBuf,
    nodes: Vec<NodeConfig>,
    redis: Vec<RedisAddress>,
    /// On how many Redis servers a message is; by how many there are, where left out.
    redis_copies: Option<Copies>,
    timing: Timing,
    limits: Limits,
    auth: AuthConfig,
    audit: AuditConfig,
    /// Where the certificates of the nodes are; connections are not encrypted where left out.
    tls_folder: Option<PathBuf>,
    /// Whether clients have to show certificates.
    tls_client_certificates: bool,
    /// Whether connections that are not encrypted may come from other machines.
    insecure: bool,
    /// What was said elsewhere than in the file: the setting, and where.
    overridden: Vec<(String, String)>,
}

/// One node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeConfig {
    /// What Raft calls it: the xxh3 hash of its name, so that no file has to number nodes.
    pub(crate) id: NodeId,
    /// What people call it.
    pub(crate) name: String,
    /// Where it serves clients.
    pub(crate) client: Address,
    /// Where it serves the other nodes.
    pub(crate) peer: Address,
    /// Whether it is none of those that the cluster began with: it belongs to it once an operator
    /// has said so.
    pub(crate) joins: bool,
    /// The field of its file that describes it, for messages: `nodes[0]`.
    field: String,
}

/// `host:port`, where the host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address(String);

/// How fast a lost leader is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// Elections begin after one to two times this without a leader.
    pub(crate) election_timeout: Duration,
    /// How often a leader says that it is there.
    pub(crate) heartbeat: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { election_timeout: Duration::from_secs(1), heartbeat: Duration::from_millis(100) }
    }
}

impl ClusterConfig {
    /// Reads and checks the cluster's file.
    pub(crate) fn read(file: &Path) -> Result<Self, ConfigError> {
        let origin = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigError::unreadable(&origin, &error))?;
        Self::parse(&origin, &text)
    }

    /// Understands the text of a cluster's file; `origin` is what messages call it.
    pub(crate) fn parse(origin: &str, text: &str) -> Result<Self, ConfigError> {
        parse::parse(origin, text, hash)
    }

    /// The cluster that runs in one process when no other port is asked for.
    #[cfg(test)]
    pub(crate) fn local() -> Self {
        Self::local_from(8001)
    }

    /// The cluster that runs in one process: `n1` to `n3`, their clients at this port and those
    /// behind it, their peers a thousand above.
    pub(crate) fn local_from(port: u16) -> Self {
        let nodes = (1..=3)
            .map(|number| {
                let address = |above: u16| {
                    Address(format!("127.0.0.1:{}", port.saturating_add(above + number - 1)))
                };
                NodeConfig {
                    id: hash(&format!("n{number}")),
                    name: format!("n{number}"),
                    client: address(0),
                    peer: address(1000),
                    joins: false,
                    field: format!("n{number}"),
                }
            })
            .collect();
        Self {
            origin: "the local cluster".to_owned(),
            cluster: "local".to_owned(),
            data_dir: PathBuf::from("dss-data"),
            nodes,
            redis: Vec::new(),
            redis_copies: None,
            timing: Timing::default(),
            limits: Limits::default(),
            auth: AuthConfig::default(),
            audit: AuditConfig::default(),
            tls_folder: None,
            tls_client_certificates: false,
            insecure: false,
            overridden: Vec::new(),
        }
    }

    /// The same cluster with what the command line says instead of the file.
    pub(crate) fn with_storage(
        mut self,
        data_dir: Option<PathBuf>,
        redis: Option<Vec<String>>,
    ) -> Result<Self, ConfigError> {
        if let Some(data_dir) = data_dir {
            self.data_dir = data_dir;
            self.overridden.push(("data_dir".to_owned(), "--data-dir".to_owned()));
        }
        if let Some(urls) = redis {
            self.set_redis(urls.iter().map(String::as_str), "--redis")?;
        }
        self.check_copies()?;
        Ok(self)
    }

    /// The same cluster with encrypted connections, by the certificates in this folder.
    pub(crate) fn with_tls(mut self, folder: PathBuf) -> Self {
        self.tls_folder = Some(folder);
        self.overridden.push(("tls.folder".to_owned(), "--secure".to_owned()));
        self
    }

    /// The same cluster where clients have no more connections to a node than this, which is what
    /// the operating system lets it have.
    pub(crate) fn with_connections_up_to(mut self, connections: usize) -> Self {
        if connections < self.limits.connections_max {
            tracing::warn!(
                "connections_max is {}, and {connections} is what the limit of open files allows",
                self.limits.connections_max
            );
            self.limits.connections_max = connections.max(1);
        }
        self
    }

    /// The file, or what else described the cluster.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The cluster's name.
    pub(crate) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The folder in which each node keeps its own.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The nodes, in the order of the file.
    pub(crate) fn nodes(&self) -> &[NodeConfig] {
        &self.nodes
    }

    /// The nodes that the cluster began with.
    pub(crate) fn first_nodes(&self) -> impl Iterator<Item = &NodeConfig> {
        self.nodes.iter().filter(|node| !node.joins)
    }

    /// The node of this name.
    pub(crate) fn node(&self, name: &str) -> Option<&NodeConfig> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The node that `--id` names.
    pub(crate) fn require_node(&self, id: &str) -> Result<&NodeConfig, ConfigError> {
        self.node(id).ok_or_else(|| {
            let problem = format!("no node of {} has the id {id:?}", self.origin);
            ConfigError::beside_the_file("--id", &problem)
        })
    }

    /// What Raft calls the node of this name.
    #[cfg(test)]
    pub(crate) fn node_id(&self, name: &str) -> Option<NodeId> {
        self.node(name).map(|node| node.id)
    }

    /// What people call this node.
    pub(crate) fn name(&self, id: NodeId) -> Option<&str> {
        self.nodes.iter().find(|node| node.id == id).map(|node| node.name.as_str())
    }

    /// The Redis servers for queues and the cache's memory; none where both are embedded.
    pub(crate) fn redis(&self) -> &[RedisAddress] {
        &self.redis
    }

    /// On how many Redis servers a message of a queue is.
    pub(crate) fn redis_copies(&self) -> Copies {
        self.redis_copies.unwrap_or(Copies::of_servers(self.redis.len()))
    }

    /// What messages call the Redis servers, with commas between them.
    pub(crate) fn redis_names(&self) -> String {
        self.redis.iter().map(RedisAddress::name).collect::<Vec<_>>().join(", ")
    }

    /// What clients may do.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Who may call.
    pub(crate) fn auth(&self) -> &AuthConfig {
        &self.auth
    }

    /// How the audit log is kept, where there is one.
    pub(crate) fn audit(&self) -> Option<&AuditConfig> {
        self.audit.enabled.unwrap_or(self.auth.enabled).then_some(&self.audit)
    }

    /// The folder in which each node has its certificates, where connections are encrypted.
    pub(crate) fn tls_folder(&self) -> Option<&Path> {
        self.tls_folder.as_deref()
    }

    /// Whether clients have to show certificates of the authority that signs nodes' certificates
    /// for them.
    pub(crate) fn asks_clients_for_certificates(&self) -> bool {
        self.tls_client_certificates
    }

    /// How the addresses of nodes begin for clients.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls_folder.is_some() { "https" } else { "http" }
    }

    /// Whether a node may listen at addresses that other machines can reach.
    pub(crate) fn may_be_exposed(&self) -> bool {
        self.tls_folder.is_some() || self.insecure
    }

    /// The timing of every Raft group.
    pub(crate) fn timing(&self) -> Timing {
        self.timing
    }
}

impl NodeConfig {
    /// A node that is in no file, reached by other nodes at `peer`; where clients reach it may not
    /// be known.
    pub(crate) fn added(name: &str, peer: &str, client: &str) -> Result<Self, String> {
        parse::check_node_name(name)?;
        Ok(Self {
            id: hash(name),
            name: name.to_owned(),
            client: if client.is_empty() {
                Address(String::new())
            } else {
                parse::parse_address(client)?
            },
            peer: parse::parse_address(peer)?,
            joins: true,
            field: name.to_owned(),
        })
    }

    /// The field that holds this node's client or peer address, as messages name it.
    pub(crate) fn field(&self, which: &str) -> String {
        format!("{}.{which}", self.field)
    }
}

impl Address {
    /// What the operating system resolves and connects to.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, unless it stands for all addresses of its machine.
    pub(crate) fn named_host(&self) -> Option<&str> {
        let (host, _) = self.0.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = host.parse::<std::net::IpAddr>();
        (!address.is_ok_and(|address| address.is_unspecified())).then_some(host)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The Raft id of a node's name; the same in every process and version.
pub(crate) fn raft_id(name: &[u8]) -> NodeId {
    NodeId::new(xxh3_64(name))
}

fn hash(name: &str) -> NodeId {
    raft_id(name.as_bytes())
}

#[cfg(test)]
mod tests;
