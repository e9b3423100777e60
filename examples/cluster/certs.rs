//! Makes the certificates of a cluster.
//!
//! ```text
//!   certs --out certs --node n1=10.0.0.1,n1.example.com,n2=10.0.0.2,n3=10.0.0.3
//! ```
//!
//! Again in the same folder, it signs new certificates by the same authorities: before the former
//! ones end, or for a further node. Nodes that run notice.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::ClusterConfig;
use crate::tls::{Authority, AuthorityError, CLIENTS_TRUST};

/// How long certificates are valid that were made for one run of three nodes in a process, each
/// time anew.
const LOCAL_DAYS: u32 = 365;

/// The options of `certs`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder to put them into.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The nodes, each with the names and addresses at which clients reach it.
    #[arg(long = "node", value_name = "ID=HOST[,HOST…]", required_unless_present = "clients")]
    pub(crate) nodes: Vec<String>,
    /// Clients, for nodes that ask them for certificates.
    #[arg(long = "client", value_name = "NAME[,NAME…]", value_delimiter = ',')]
    pub(crate) clients: Vec<String>,
    /// For how many days the certificates are valid.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    pub(crate) days: u32,
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("--node: {0:?} is not ID=HOST")]
    Node(String),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("what was done cannot be written")]
    Output(#[from] io::Error),
}

/// A node, and where clients reach it.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    node: String,
    hosts: Vec<String>,
}

/// Makes certificates and says what they are for.
///
/// # Errors
///
/// Where the nodes are not named as they should, or files cannot be written.
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    let nodes = understand(&options.nodes)?;
    let authority = Authority::open(&options.out)?;
    let trust = options.out.join(CLIENTS_TRUST);
    let mut output = io::stdout().lock();
    for Named { node, hosts } in nodes {
        let folder = authority.issue(&node, &hosts, options.days)?;
        writeln!(output, "{}  for node {node} alone", folder.display())?;
    }
    for name in &options.clients {
        let file = authority.issue_client(name, options.days)?;
        writeln!(output, "{}  for client {name} alone: curl --cert", file.display())?;
    }
    writeln!(output, "{}  for clients: curl --cacert", trust.display())?;
    let folder = trust.parent().unwrap_or(Path::new("")).display();
    writeln!(output, "{folder}/*.key  for nobody: keep them where no node runs")?;
    Ok(())
}

/// Makes the certificates of a cluster whose nodes all run here, and uses them.
///
/// # Errors
///
/// Where files cannot be read or written.
pub(crate) fn secure(config: ClusterConfig) -> Result<ClusterConfig, AuthorityError> {
    let folder = config.data_dir().join("certs");
    let authority = Authority::open(&folder)?;
    for node in config.nodes() {
        let mut hosts = vec!["localhost".to_owned()];
        hosts.extend(node.client.named_host().map(str::to_owned));
        authority.issue(&node.name, &hosts, LOCAL_DAYS)?;
    }
    Ok(config.with_tls(folder))
}

/// `n1=host,host,n2=host`, in one text or in several.
fn understand(texts: &[String]) -> Result<Vec<Named>, Error> {
    let mut nodes: Vec<Named> = Vec::new();
    for text in texts {
        let mut of_this_text = None;
        for part in text.split(',') {
            let refuse = || Error::Node(text.clone());
            let host = match part.split_once('=') {
                Some((node, host)) => {
                    if node.is_empty() || nodes.iter().any(|named| named.node == node) {
                        return Err(refuse());
                    }
                    nodes.push(Named { node: node.to_owned(), hosts: Vec::new() });
                    of_this_text = Some(nodes.len() - 1);
                    host
                }
                None => part,
            };
            let named = of_this_text.and_then(|place| nodes.get_mut(place)).ok_or_else(refuse)?;
            if host.is_empty() {
                return Err(refuse());
            }
            named.hosts.push(host.to_owned());
        }
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(texts: &[&str]) -> Option<Vec<(String, Vec<String>)>> {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        let nodes = understand(&texts).ok()?;
        Some(nodes.into_iter().map(|named| (named.node, named.hosts)).collect())
    }

    #[test]
    fn nodes_and_their_hosts_are_named_in_one_text_or_in_several() {
        let named = |node: &str, hosts: &[&str]| {
            (node.to_owned(), hosts.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let expected = Some(vec![named("n1", &["a", "10.0.0.1"]), named("n2", &["b"])]);
        assert_eq!(understood(&["n1=a,10.0.0.1,n2=b"]), expected);
        assert_eq!(understood(&["n1=a,10.0.0.1", "n2=b"]), expected);
        for wrong in [&["n1"][..], &[""], &["n1="], &["=a"], &["n1=a,"], &["n1=a", "b"]] {
            assert_eq!(understood(wrong), None, "{wrong:?}");
        }
        assert_eq!(understood(&["n1=a,n1=b"]), None, "named twice");
    }
}
