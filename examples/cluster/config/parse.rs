//! From the text of a cluster's file to a valid [`ClusterConfig`], in one pass.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dss_raft::NodeId;
use serde::Deserialize;
use toml::Spanned;

use super::{Address, AuditConfig, AuthConfig, ClusterConfig, Limits, NodeConfig, Timing};
use crate::redis::{Copies, RedisAddress};

/// The longest name of a cluster or node, in bytes: they become folder names and header values.
const NAME_BYTES_MAX: usize = 64;
/// The longest election timeout that is taken seriously.
const ELECTION_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Why a configuration is refused: one line that names the file, the line and the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub(crate) struct ConfigError {
    place: String,
    problem: String,
}

impl ConfigError {
    pub(super) fn unreadable(origin: &str, error: &std::io::Error) -> Self {
        Self { place: origin.to_owned(), problem: format!("cannot be read: {error}") }
    }

    pub(super) fn beside_the_file(place: &str, problem: &str) -> Self {
        Self { place: place.to_owned(), problem: problem.to_owned() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster: Spanned<String>,
    #[serde(default = "default_data_dir")]
    data_dir: Spanned<PathBuf>,
    nodes: Spanned<Vec<Node>>,
    redis: Option<Redis>,
    timing: Option<Spanned<TimingTable>>,
    #[serde(default)]
    limits: BTreeMap<String, Spanned<u64>>,
    tls: Option<Tls>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    auth: BTreeMap<String, Spanned<Scalar>>,
    #[serde(default)]
    audit: BTreeMap<String, Spanned<Scalar>>,
}

/// A value of a table whose settings know themselves what they take.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Switch(bool),
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    id: Spanned<String>,
    client: Spanned<String>,
    peer: Spanned<String>,
    #[serde(default)]
    joins: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redis {
    urls: Spanned<Vec<Spanned<String>>>,
    copies: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    folder: Spanned<PathBuf>,
    #[serde(default)]
    client_certificates: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimingTable {
    election_timeout_ms: Option<Spanned<u64>>,
    heartbeat_ms: Option<Spanned<u64>>,
}

fn default_data_dir() -> Spanned<PathBuf> {
    Spanned::new(0..0, PathBuf::from("dss-data"))
}

/// The text that is read, for messages that say where in it.
struct Source<'a> {
    origin: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    fn refuse<T>(&self, field: &str, at: &Spanned<T>, problem: &str) -> ConfigError {
        let line = self.line(at.span().start);
        ConfigError {
            place: format!("{}:{line}", self.origin),
            problem: format!("{field}: {problem}"),
        }
    }

    /// The parser's own complaint; it names the key where one is unknown or missing, and the key
    /// of the line in question is added for the rest.
    fn refuse_syntax(&self, error: &toml::de::Error) -> ConfigError {
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        let Some(span) = error.span() else {
            return ConfigError { place: self.origin.to_owned(), problem: message };
        };
        let line = self.line(span.start);
        let text = self.text.lines().nth(line - 1).unwrap_or_default();
        let problem = match text.split_once('=') {
            Some((key, _)) if !message.contains(key.trim()) => {
                format!("{}: {message}", key.trim())
            }
            _ => message,
        };
        ConfigError { place: format!("{}:{line}", self.origin), problem }
    }
}

/// Reads `text` as a cluster's file; node names are numbered by `hash`.
pub(super) fn parse(
    origin: &str,
    text: &str,
    hash: fn(&str) -> NodeId,
) -> Result<ClusterConfig, ConfigError> {
    let source = Source { origin, text };
    let file: File = toml::from_str(text).map_err(|error| source.refuse_syntax(&error))?;
    check_name(file.cluster.as_ref())
        .map_err(|problem| source.refuse("cluster", &file.cluster, problem))?;
    if file.data_dir.as_ref().as_os_str().is_empty() {
        return Err(source.refuse("data_dir", &file.data_dir, "must not be empty"));
    }
    Ok(ClusterConfig {
        origin: origin.to_owned(),
        nodes: nodes(&source, &file.nodes, hash)?,
        redis_copies: redis_copies(&source, file.redis.as_ref())?,
        redis: file.redis.map_or(Ok(Vec::new()), |redis| redis_servers(&source, &redis))?,
        timing: file.timing.map_or(Ok(Timing::default()), |table| timing(&source, &table))?,
        limits: limits(&source, &file.limits)?,
        auth: security(&source, "auth", &file.auth, AuthConfig::set)?,
        audit: security(&source, "audit", &file.audit, AuditConfig::set)?,
        tls_client_certificates: file.tls.as_ref().is_some_and(|tls| tls.client_certificates),
        tls_folder: file.tls.map(|tls| tls_folder(&source, tls)).transpose()?,
        insecure: file.insecure,
        overridden: Vec::new(),
        cluster: file.cluster.into_inner(),
        data_dir: file.data_dir.into_inner(),
    })
}

fn security<C: Default>(
    source: &Source<'_>,
    table: &str,
    settings: &BTreeMap<String, Spanned<Scalar>>,
    set: fn(&mut C, &str, &str) -> Result<(), String>,
) -> Result<C, ConfigError> {
    let mut config = C::default();
    for (name, value) in settings {
        let text = match value.as_ref() {
            Scalar::Switch(value) => value.to_string(),
            Scalar::Number(value) => value.to_string(),
            Scalar::Text(value) => value.clone(),
        };
        set(&mut config, name, &text)
            .map_err(|problem| source.refuse(&format!("{table}.{name}"), value, &problem))?;
    }
    Ok(config)
}

fn nodes(
    source: &Source<'_>,
    tables: &Spanned<Vec<Node>>,
    hash: fn(&str) -> NodeId,
) -> Result<Vec<NodeConfig>, ConfigError> {
    if tables.as_ref().is_empty() {
        return Err(source.refuse("nodes", tables, "a cluster has at least one node"));
    }
    let mut names: BTreeMap<NodeId, String> = BTreeMap::new();
    let mut addresses: BTreeMap<Address, String> = BTreeMap::new();
    let mut nodes = Vec::new();
    for (position, table) in tables.as_ref().iter().enumerate() {
        let field = format!("nodes[{position}]");
        let name = table.id.as_ref();
        let id = hash(name);
        check_node_name(name)
            .map_err(|problem| source.refuse(&format!("{field}.id"), &table.id, problem))?;
        if let Some(other) = names.insert(id, name.clone()) {
            let problem = if other == *name {
                format!("{name:?} is the id of two nodes")
            } else {
                format!("{name:?} and {other:?} have the same hash: rename one of them")
            };
            return Err(source.refuse(&format!("{field}.id"), &table.id, &problem));
        }
        let mut address = |which: &str, value: &Spanned<String>| {
            let field = format!("{field}.{which}");
            let address = parse_address(value.as_ref())
                .map_err(|problem| source.refuse(&field, value, &problem))?;
            match addresses.insert(address.clone(), field.clone()) {
                None => Ok(address),
                Some(other) => Err(source.refuse(
                    &field,
                    value,
                    &format!("{address} is the address of {other} too"),
                )),
            }
        };
        let client = address("client", &table.client)?;
        let peer = address("peer", &table.peer)?;
        let joins = table.joins;
        nodes.push(NodeConfig { id, name: name.clone(), client, peer, joins, field });
    }
    if nodes.iter().all(|node| node.joins) {
        return Err(source.refuse("nodes", tables, "some node must be there before others join"));
    }
    Ok(nodes)
}

fn redis_servers(source: &Source<'_>, redis: &Redis) -> Result<Vec<RedisAddress>, ConfigError> {
    if redis.urls.as_ref().is_empty() {
        return Err(source.refuse("redis.urls", &redis.urls, "must name at least one server"));
    }
    let mut servers = Vec::new();
    for (position, url) in redis.urls.as_ref().iter().enumerate() {
        add_redis_server(&mut servers, url.as_ref())
            .map_err(|problem| source.refuse(&format!("redis.urls[{position}]"), url, &problem))?;
    }
    Ok(servers)
}

fn redis_copies(source: &Source<'_>, redis: Option<&Redis>) -> Result<Option<Copies>, ConfigError> {
    let Some((redis, copies)) = redis.and_then(|it| Some((it, it.copies.as_ref()?))) else {
        return Ok(None);
    };
    Copies::new(*copies.as_ref(), redis.urls.as_ref().len())
        .map(Some)
        .map_err(|problem| source.refuse("redis.copies", copies, &problem))
}

fn tls_folder(source: &Source<'_>, tls: Tls) -> Result<PathBuf, ConfigError> {
    if tls.folder.as_ref().as_os_str().is_empty() {
        return Err(source.refuse("tls.folder", &tls.folder, "must not be empty"));
    }
    Ok(tls.folder.into_inner())
}

fn timing(source: &Source<'_>, table: &Spanned<TimingTable>) -> Result<Timing, ConfigError> {
    let defaults = Timing::default();
    let millis = |value: &Option<Spanned<u64>>, default| {
        value.as_ref().map_or(default, |value| Duration::from_millis(*value.as_ref()))
    };
    let timing = Timing {
        election_timeout: millis(&table.as_ref().election_timeout_ms, defaults.election_timeout),
        heartbeat: millis(&table.as_ref().heartbeat_ms, defaults.heartbeat),
    };
    timing.check().map_err(|(field, problem)| source.refuse(field, table, problem))
}

impl Timing {
    /// The same, where Raft accepts it; else the field that is wrong, and why.
    pub(super) fn check(self) -> Result<Self, (&'static str, &'static str)> {
        if self.heartbeat.is_zero() {
            Err(("timing.heartbeat_ms", "must be at least 1"))
        } else if self.election_timeout > ELECTION_TIMEOUT_MAX {
            Err(("timing.election_timeout_ms", "must be at most 600000"))
        } else if self.election_timeout / 3 < self.heartbeat {
            Err(("timing.election_timeout_ms", "must be at least three times heartbeat_ms"))
        } else {
            Ok(self)
        }
    }
}

fn limits(
    source: &Source<'_>,
    table: &BTreeMap<String, Spanned<u64>>,
) -> Result<Limits, ConfigError> {
    let mut limits = Limits::default();
    for (name, value) in table {
        limits
            .set(name, *value.as_ref())
            .map_err(|problem| source.refuse(&format!("limits.{name}"), value, &problem))?;
    }
    Ok(limits)
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err("must have 1 to 64 bytes");
    }
    if name.chars().any(char::is_control) {
        return Err("must not contain control characters");
    }
    Ok(())
}

/// A node's name is a folder and a header value, on whatever machine.
pub(super) fn check_node_name(name: &str) -> Result<(), &'static str> {
    check_name(name)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.bytes().all(allowed) || name.starts_with('.') {
        return Err("must consist of letters, digits, '-', '_' and '.', and not begin with '.'");
    }
    Ok(())
}

pub(super) fn parse_address(text: &str) -> Result<Address, String> {
    let problem = || format!("{text:?} is not host:port");
    let (host, port) = text.rsplit_once(':').ok_or_else(problem)?;
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_is_fine = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !host.is_empty() && host.len() <= 253 && host.bytes().all(allowed)
        }
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(1..) if host_is_fine && digits => Ok(Address(text.to_owned())),
        _ => Err(problem()),
    }
}

/// Adds the server at `url`; the problem does not repeat what may be a password.
pub(super) fn add_redis_server(servers: &mut Vec<RedisAddress>, url: &str) -> Result<(), String> {
    let server = RedisAddress::parse(url).map_err(|problem| problem.to_string())?;
    if servers.iter().any(|other| other.name() == server.name()) {
        return Err(format!("{server} is named twice"));
    }
    servers.push(server);
    Ok(())
}
