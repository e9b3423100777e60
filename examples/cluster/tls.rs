//! What a node shows, and whom it believes, where its connections are encrypted.
//!
//! Two authorities sign certificates: one for what nodes show clients, and another for what nodes
//! show each other, so that no certificate of the first kind ever makes anybody a node. A node
//! finds its own in a folder of its name:
//!
//! | file | what it is |
//! | --- | --- |
//! | `server.pem`, `server.key` | what it shows clients, whom it speaks TLS 1.2 or 1.3 with |
//! | `peer.pem`, `peer.key` | what it shows other nodes, with its id as the name; TLS 1.3 |
//! | `peer-ca.pem` | the authority that it believes of other nodes |
//! | `client-ca.pem` | the authority that it believes of clients, where they are to show certificates |
//!
//! They are looked at every few seconds, and new ones are used for new connections. Those that
//! cannot be used are warned of, and the former stay in use; a node that starts refuses them. Where
//! it is the authority of the nodes that has changed, their connections are made anew: whoever has
//! a certificate of the former one is a node no longer. `peer-ca.pem` may hold both for a while.

mod authority;
mod credentials;
mod files;
mod reload;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use self::credentials::Credentials;
use crate::config::{ClusterConfig, NodeConfig};

pub(crate) use self::authority::{Authority, AuthorityError, CLIENTS_TRUST};
pub(crate) use self::files::{certificate_and_key, certificates};

/// What a record of TLS that begins a handshake begins with.
pub(crate) const HANDSHAKE: u8 = 0x16;

/// What clients and servers of HTTP/2 agree on in a handshake.
pub(crate) const HTTP_2: &[u8] = b"h2";

/// Why a certificate, a key or an authority cannot be used: the file, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub(crate) struct TlsError {
    path: PathBuf,
    problem: String,
}

/// What a node's connections are encrypted with, at each moment.
#[derive(Clone)]
pub(crate) struct Tls(watch::Receiver<Arc<Credentials>>);

impl Tls {
    /// What is in the node's folder, if the cluster's connections are encrypted.
    ///
    /// # Errors
    ///
    /// Where a file cannot be read or used, or a node has a name that no certificate can have.
    pub(crate) fn load(
        config: &ClusterConfig,
        node: &NodeConfig,
    ) -> Result<Option<Self>, TlsError> {
        let asks_clients = config.asks_clients_for_certificates();
        let refuse = |problem: &str| {
            let (path, problem) = (config.origin().into(), problem.to_owned());
            TlsError { path, problem }
        };
        let Some(folder) = config.tls_folder() else {
            return match asks_clients {
                true => Err(refuse("tls.client_certificates needs tls.folder")),
                false => Ok(None),
            };
        };
        for other in config.nodes() {
            let names = config.nodes().iter().map(|node| node.name.as_str());
            check_name(&other.name, names).map_err(|problem| refuse(&problem))?;
        }
        let folder = reload::Folder::new(folder.join(&node.name), node, asks_clients);
        Ok(Some(Self(folder.keep_current()?)))
    }

    /// What accepts the connections of clients.
    pub(crate) fn clients(&self) -> TlsAcceptor {
        Arc::clone(&self.0.borrow().clients).into()
    }

    /// What accepts the connections of other nodes.
    pub(crate) fn peers(&self) -> TlsAcceptor {
        Arc::clone(&self.0.borrow().peers).into()
    }

    /// What connects to other nodes.
    pub(crate) fn dialer(&self) -> TlsConnector {
        Arc::clone(&self.0.borrow().dialer).into()
    }

    /// Whom connections of other nodes that begin now are let in by.
    pub(crate) fn trust(&self) -> PeerTrust {
        let current = self.0.clone();
        let authority = current.borrow().authority;
        PeerTrust { current, authority }
    }
}

/// The authority that other nodes were believed of at some moment.
pub(crate) struct PeerTrust {
    current: watch::Receiver<Arc<Credentials>>,
    authority: u64,
}

impl PeerTrust {
    /// Waits until it is another one.
    pub(crate) async fn ended(mut self) {
        let is_another = |current: &Arc<Credentials>| current.authority != self.authority;
        if self.current.wait_for(is_another).await.is_err() {
            // Nobody looks any more: it stays what it is.
            std::future::pending::<()>().await;
        }
    }
}

/// The name of a node in its certificate.
pub(crate) fn name_of(node: &str) -> Option<ServerName<'static>> {
    // An id that reads as an address would be looked for among the addresses.
    match ServerName::try_from(node.to_owned()) {
        Ok(name @ ServerName::DnsName(_)) => Some(name),
        _ => None,
    }
}

/// Whether this is a certificate of `node`. Who has signed it was checked before.
pub(crate) fn certifies(certificate: &CertificateDer<'_>, node: &str) -> bool {
    let Some(name) = name_of(node) else { return false };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
}

/// What encrypts.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// That a certificate can name a node, and tell it from the others: there is no upper and lower
/// case in certificates.
///
/// # Errors
///
/// What is wrong with its id.
pub(crate) fn check_name<'a>(
    name: &str,
    mut others: impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    if name_of(name).is_none() {
        return Err(format!(
            "the node id {name:?} cannot be the name in a certificate: it has to be that of a host"
        ));
    }
    match others.find(|other| *other != name && other.eq_ignore_ascii_case(name)) {
        Some(other) => {
            Err(format!("the node ids {name:?} and {other:?} are the same name in a certificate"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_have_to_be_names_that_a_certificate_tells_apart() {
        let problem = |name, other| check_name(name, [name, other].into_iter()).err();
        assert_eq!(problem("n1", "n2"), None);
        assert!(problem("10.0.0.1", "n2").unwrap().contains("\"10.0.0.1\""));
        assert!(problem("a..b", "n2").unwrap().contains("\"a..b\""));
        assert!(problem("N1", "n1").unwrap().contains("\"n1\" are the same"));
    }
}
