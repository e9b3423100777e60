//! The two authorities of a cluster of one's own, and what they sign.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

/// The folder of the authorities, in that of all certificates.
pub(crate) const FOLDER: &str = "ca";
/// What clients trust, in the folder of all certificates.
pub(crate) const CLIENTS_TRUST: &str = "ca/clients.pem";
/// How long the authorities' own certificates are valid.
const AUTHORITY_DAYS: i64 = 3_650;
/// Clocks differ: certificates are valid from a little before they are made.
const EARLIER_DAYS: i64 = 1;

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not the key of an authority")]
    Key { path: PathBuf, source: rcgen::Error },
    #[error("no certificate can be made for {name:?}")]
    Certificate { name: String, source: rcgen::Error },
    #[error("no node can have the id {0:?} in a certificate")]
    Name(String),
}

/// Whom clients believe, and whom nodes believe.
pub(crate) struct Authority {
    folder: PathBuf,
    clients: Issuer<'static, KeyPair>,
    peers: Issuer<'static, KeyPair>,
    peers_trust: String,
}

impl Authority {
    /// The authorities in `folder`, made where there are none: those who trust the former ones
    /// then trust what is signed from now on.
    ///
    /// # Errors
    ///
    /// Where files cannot be read or written.
    pub(crate) fn open(folder: &Path) -> Result<Self, AuthorityError> {
        let own = folder.join(FOLDER);
        make_folder(folder, 0o755)?;
        make_folder(&own, 0o755)?;
        let clients = issuer(&own, "clients")?;
        let peers = issuer(&own, "peers")?;
        let path = own.join("peers.pem");
        let peers_trust =
            fs::read_to_string(&path).map_err(|source| AuthorityError::Read { path, source })?;
        Ok(Self { folder: folder.to_owned(), clients, peers, peers_trust })
    }

    /// Signs what `node` needs, which clients reach at these names and addresses, and puts it into
    /// the node's folder. Files of that name are replaced.
    ///
    /// # Errors
    ///
    /// Where the names cannot be in a certificate, or files cannot be written.
    pub(crate) fn issue(
        &self,
        node: &str,
        hosts: &[String],
        days: u32,
    ) -> Result<PathBuf, AuthorityError> {
        // Its folder would be that of the authorities.
        if super::name_of(node).is_none() || node.eq_ignore_ascii_case(FOLDER) {
            return Err(AuthorityError::Name(node.to_owned()));
        }
        let folder = self.folder.join(node);
        make_folder(&folder, 0o700)?;
        let usages = [ExtendedKeyUsagePurpose::ServerAuth];
        sign(&folder, "server", (node, hosts, &usages, days), &self.clients)?;
        let usages = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        sign(&folder, "peer", (node, &[node.to_owned()], &usages, days), &self.peers)?;
        write(&folder.join("peer-ca.pem"), &self.peers_trust, 0o644)?;
        Ok(folder)
    }
}

/// An authority whose key is in `folder`. Its name in what it signs is always the same, and so its
/// own certificate need not be read.
fn issuer(folder: &Path, name: &str) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
    let path = folder.join(format!("{name}.key"));
    let params = authority(name);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let key = KeyPair::from_pem(&text);
            let key = key.map_err(|source| AuthorityError::Key { path, source })?;
            Ok(Issuer::new(params, key))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let failed = |source| AuthorityError::Certificate { name: name.to_owned(), source };
            let key = KeyPair::generate().map_err(failed)?;
            let certificate = params.self_signed(&key).map_err(failed)?;
            // The key last: where it is, the certificate is too.
            write(&folder.join(format!("{name}.pem")), &certificate.pem(), 0o644)?;
            write(&path, &key.serialize_pem(), 0o600)?;
            Ok(Issuer::new(params, key))
        }
        Err(source) => Err(AuthorityError::Read { path, source }),
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished(&format!("dss authority for {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, AUTHORITY_DAYS);
    params
}

/// Signs a certificate, and writes it and its key.
fn sign(
    folder: &Path,
    file: &str,
    (node, hosts, usages, days): (&str, &[String], &[ExtendedKeyUsagePurpose], u32),
    issuer: &Issuer<'static, KeyPair>,
) -> Result<(), AuthorityError> {
    let failed = |source| AuthorityError::Certificate { name: node.to_owned(), source };
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(failed)?;
    params.distinguished_name = distinguished(node);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, days.into());
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, issuer).map_err(failed)?;
    write(&folder.join(format!("{file}.key")), &key.serialize_pem(), 0o600)?;
    write(&folder.join(format!("{file}.pem")), &certificate.pem(), 0o644)
}

fn distinguished(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Valid from a little earlier than today, for as many days from now on.
fn set_validity(params: &mut CertificateParams, days: i64) {
    let day = |offset: i64| {
        let offset = SignedDuration::from_hours(24 * offset);
        let then = Timestamp::now().saturating_add(offset).unwrap_or(Timestamp::MAX);
        let date = then.to_zoned(TimeZone::UTC).date();
        let part = |part: i8| u8::try_from(part).expect("months and days count from one");
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    params.not_before = day(-EARLIER_DAYS);
    // Dates are whole days: the last one counts.
    params.not_after = day(days + 1);
}

fn make_folder(path: &Path, mode: u32) -> Result<(), AuthorityError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| AuthorityError::Write { path: path.to_owned(), source })
}

/// Replaces the file by one with this text, wholly or not at all. It never has another mode.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    let failed = |source| AuthorityError::Write { path: path.to_owned(), source };
    let new = path.with_extension(format!("new{}", std::process::id()));
    let _ = fs::remove_file(&new);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}
