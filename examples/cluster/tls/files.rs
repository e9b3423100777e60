//! The files of a node's folder.

use std::fs::File;
use std::hash::Hasher as _;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::TlsError;

/// Everything in a node's folder.
pub(super) struct Files {
    pub(super) server: Pair,
    pub(super) peer: Pair,
    pub(super) peer_ca: PathBuf,
    pub(super) peer_roots: Vec<CertificateDer<'static>>,
    /// The authority that clients are believed of, where they are asked.
    pub(super) client_ca: PathBuf,
    pub(super) client_roots: Option<Vec<CertificateDer<'static>>>,
    /// Differs where `peer_ca` does.
    pub(super) authority: u64,
    /// Differs where any file does.
    pub(super) fingerprint: u64,
}

/// A certificate, those that lead from it to its authority, and its key.
pub(super) struct Pair {
    pub(super) path: PathBuf,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key_path: PathBuf,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Files {
    /// Reads the folder. What is in the files is not looked at more closely than that they have
    /// the right form, and that nobody else can read the keys.
    pub(super) fn read(folder: &Path, asks_clients: bool) -> Result<Self, TlsError> {
        let mut hash = Xxh3::new();
        let server = Pair::read(folder, "server", &mut hash)?;
        let peer = Pair::read(folder, "peer", &mut hash)?;
        let peer_ca = folder.join("peer-ca.pem");
        let text = read(&peer_ca, false)?;
        hash.write(&text);
        let peer_roots = parse_certificates(&peer_ca, &text)?;
        let authority = xxh3_64(&text);
        let (client_ca, mut client_roots) = (folder.join("client-ca.pem"), None);
        if asks_clients {
            let text = read(&client_ca, false)?;
            hash.write(&text);
            client_roots = Some(parse_certificates(&client_ca, &text)?);
        }
        let fingerprint = hash.finish();
        Ok(Self {
            server,
            peer,
            peer_ca,
            peer_roots,
            client_ca,
            client_roots,
            authority,
            fingerprint,
        })
    }
}

impl Pair {
    fn read(folder: &Path, name: &str, hash: &mut Xxh3) -> Result<Self, TlsError> {
        let path = folder.join(format!("{name}.pem"));
        let key_path = folder.join(format!("{name}.key"));
        let (text, key) = (read(&path, false)?, read(&key_path, true)?);
        hash.write(&text);
        hash.write(&key);
        let chain = parse_certificates(&path, &text)?;
        let key = parse_key(&key_path, &key)?;
        Ok(Self { path, chain, key_path, key })
    }
}

/// The certificates in a file.
///
/// # Errors
///
/// Where it cannot be read, or there are none.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    parse_certificates(path, &read(path, false)?)
}

/// The certificates in a file that holds their key too.
///
/// # Errors
///
/// Where it cannot be read, or by others too, or one of the two is missing.
pub(crate) fn certificate_and_key(
    path: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let text = read(path, true)?;
    Ok((parse_certificates(path, &text)?, parse_key(path, &text)?))
}

fn parse_key(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text)
        .map_err(|error| refuse(path, &format!("holds no private key: {error}")))
}

fn parse_certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(path, &format!("holds a broken certificate: {error}")))?;
    if certificates.is_empty() {
        return Err(refuse(path, "holds no certificate"));
    }
    Ok(certificates)
}

fn read(path: &Path, is_private: bool) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error| refuse(path, &format!("cannot be read: {error}"));
    let mut file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode();
    if is_private && mode & 0o077 != 0 {
        let problem = format!(
            "is a private key that others than its owner can use (mode {:o}): chmod 600",
            mode & 0o777
        );
        return Err(refuse(path, &problem));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

pub(super) fn refuse(path: &Path, problem: &str) -> TlsError {
    TlsError { path: path.to_owned(), problem: problem.to_owned() }
}
