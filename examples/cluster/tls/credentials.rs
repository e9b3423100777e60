//! From a node's files to what its connections are encrypted with, checked before it is used: a
//! node that nobody would believe had better say so itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore, ServerConfig};

use super::files::{Files, Pair, refuse};
use super::{HTTP_2, TlsError, name_of, provider};

/// What a node's connections are encrypted with.
pub(super) struct Credentials {
    pub(super) clients: Arc<ServerConfig>,
    pub(super) peers: Arc<ServerConfig>,
    pub(super) dialer: Arc<ClientConfig>,
    /// Differs where other nodes are believed by another authority.
    pub(super) authority: u64,
}

impl Credentials {
    /// What `node` uses, if its files can be used at this time.
    pub(super) fn new(files: Files, node: &str, now: UnixTime) -> Result<Self, TlsError> {
        let provider = provider();
        let roots = Arc::new(authorities(&files.peer_ca, &files.peer_roots)?);
        let nodes = believed(&files.peer_ca, roots.clone())?;
        check(&files, node, &*nodes, now)?;
        let askers = match &files.client_roots {
            Some(roots) => {
                let roots = authorities(&files.client_ca, roots)?;
                believed(&files.client_ca, roots.into())?
            }
            None => WebPkiClientVerifier::no_client_auth(),
        };

        let Files { server, peer, authority, .. } = files;
        let mut clients = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| wrong(&server.path, &error))?
            .with_client_cert_verifier(askers)
            .with_single_cert(server.chain, server.key)
            .map_err(|error| wrong(&server.key_path, &error))?;
        clients.alpn_protocols = vec![HTTP_2.to_vec(), b"http/1.1".to_vec()];
        // What a client says before its handshake is complete can be said again by others.
        clients.max_early_data_size = 0;

        // A resumed session would not be checked against the authority of today.
        let mut peers = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| wrong(&peer.path, &error))?
            .with_client_cert_verifier(nodes)
            .with_single_cert(peer.chain.clone(), peer.key.clone_key())
            .map_err(|error| wrong(&peer.key_path, &error))?;
        peers.session_storage = Arc::new(NoServerSessionStorage {});
        peers.send_tls13_tickets = 0;
        let mut dialer = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| wrong(&peer.path, &error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(peer.chain, peer.key)
            .map_err(|error| wrong(&peer.key_path, &error))?;
        dialer.resumption = Resumption::disabled();
        let (clients, peers, dialer) = (clients.into(), peers.into(), dialer.into());
        Ok(Self { clients, peers, dialer, authority })
    }
}

/// The first of the node's certificates that ends within `span`.
pub(super) fn ending_within(files: &Files, span: Duration) -> Option<&Path> {
    let then = Duration::from_secs(UnixTime::now().as_secs()).saturating_add(span);
    let then = UnixTime::since_unix_epoch(then);
    [&files.server, &files.peer]
        .into_iter()
        .find(|pair| check_time(pair, then).is_err())
        .map(|pair| pair.path.as_path())
}

/// Whether clients will not believe that the node is at this host: a certificate for other names
/// may be what a proxy wants, and so it is no reason to refuse.
pub(super) fn lacks_host<'a>(files: &'a Files, host: &str) -> Option<&'a Path> {
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let certificate = ParsedCertificate::try_from(files.server.chain.first()?).ok()?;
    verify_server_name(&certificate, &name).err().map(|_| files.server.path.as_path())
}

/// These, of the file at `path`, as those whose signatures count.
fn authorities(
    path: &Path,
    certificates: &[CertificateDer<'static>],
) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| refuse(path, &format!("is no authority: {error}")))?;
    }
    Ok(roots)
}

/// Demands certificates that these have signed.
fn believed(
    path: &Path,
    authorities: Arc<RootCertStore>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(authorities, provider())
        .build()
        .map_err(|error| refuse(path, &error.to_string()))
}

/// That clients can believe this node, and that other nodes do.
fn check(
    files: &Files,
    node: &str,
    nodes: &dyn ClientCertVerifier,
    now: UnixTime,
) -> Result<(), TlsError> {
    check_time(&files.server, now)?;
    check_time(&files.peer, now)?;
    let Pair { path, chain, .. } = &files.peer;
    let Some((own, intermediates)) = chain.split_first() else {
        return Err(refuse(path, "holds no certificate"));
    };
    let name = name_of(node).ok_or_else(|| refuse(path, "cannot name this node"))?;
    let disbelieved = |error| match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            let problem = format!("is not signed by the authority in {}", files.peer_ca.display());
            refuse(path, &problem)
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => refuse(path, &format!("is not the certificate of node {node:?}")),
        error => wrong(path, &error),
    };
    nodes.verify_client_cert(own, intermediates, now).map_err(disbelieved)?;
    verifier(authorities(&files.peer_ca, &files.peer_roots)?, provider())
        .and_then(|verifier| verifier.verify_server_cert(own, intermediates, &name, &[], now))
        .map_err(disbelieved)?;
    Ok(())
}

/// That a certificate is valid at this time, whoever has signed it.
fn check_time(pair: &Pair, now: UnixTime) -> Result<(), TlsError> {
    let Some((own, intermediates)) = pair.chain.split_first() else {
        return Err(refuse(&pair.path, "holds no certificate"));
    };
    // Its time is looked at before its authority, so that any authority will do here.
    let result = any_root(own).and_then(|roots| verifier(roots, provider())).and_then(|verifier| {
        let name = ServerName::try_from("any").expect("a name");
        verifier.verify_server_cert(own, intermediates, &name, &[], now)
    });
    match result {
        Err(error) if says_time(&error).is_some() => Err(wrong(&pair.path, &error)),
        Err(error @ Error::InvalidCertificate(CertificateError::BadEncoding)) => {
            Err(wrong(&pair.path, &error))
        }
        _ => Ok(()),
    }
}

fn any_root(certificate: &CertificateDer<'static>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    Ok(roots)
}

fn verifier(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

fn says_time(error: &Error) -> Option<&'static str> {
    let Error::InvalidCertificate(error) = error else { return None };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Some("has expired"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some("is not valid yet")
        }
        _ => None,
    }
}

fn wrong(path: &Path, error: &Error) -> TlsError {
    if let Some(problem) = says_time(error) {
        return refuse(path, problem);
    }
    match error {
        Error::InconsistentKeys(_) => refuse(path, "is not the key of the certificate beside it"),
        error => refuse(path, &error.to_string()),
    }
}
