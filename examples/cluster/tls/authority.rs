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
/// The folder of what clients show, in that of all certificates.
const CLIENTS_FOLDER: &str = "clients";
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
    #[error("no certificate can have the name {0:?}")]
    Name(String),
}

/// Whom clients believe, and whom nodes believe.
pub(crate) struct Authority {
    folder: PathBuf,
    clients: Issuer<'static, KeyPair>,
    peers: Issuer<'static, KeyPair>,
    /// Their certificates.
    clients_trust: String,
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
        let trust = |name: &str| {
            let path = own.join(name);
            fs::read_to_string(&path).map_err(|source| AuthorityError::Read { path, source })
        };
        let (clients_trust, peers_trust) = (trust("clients.pem")?, trust("peers.pem")?);
        Ok(Self { folder: folder.to_owned(), clients, peers, clients_trust, peers_trust })
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
        // Its folder would be another one.
        let taken = [FOLDER, CLIENTS_FOLDER].iter().any(|name| node.eq_ignore_ascii_case(name));
        if super::name_of(node).is_none() || taken {
            return Err(AuthorityError::Name(node.to_owned()));
        }
        let folder = self.folder.join(node);
        make_folder(&folder, 0o700)?;
        let usages = [ExtendedKeyUsagePurpose::ServerAuth];
        sign(node, hosts, &usages, days, &self.clients)?.write(&folder, "server")?;
        let usages = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        sign(node, &[node.to_owned()], &usages, days, &self.peers)?.write(&folder, "peer")?;
        write(&folder.join("peer-ca.pem"), &self.peers_trust, 0o644)?;
        write(&folder.join("client-ca.pem"), &self.clients_trust, 0o644)?;
        Ok(folder)
    }

    /// Signs what a client of this name shows, and puts it and its key into one file.
    ///
    /// # Errors
    ///
    /// Where the name cannot be in a certificate, or files cannot be written.
    pub(crate) fn issue_client(&self, name: &str, days: u32) -> Result<PathBuf, AuthorityError> {
        if super::name_of(name).is_none() {
            return Err(AuthorityError::Name(name.to_owned()));
        }
        let folder = self.folder.join(CLIENTS_FOLDER);
        make_folder(&folder, 0o700)?;
        let usages = [ExtendedKeyUsagePurpose::ClientAuth];
        let signed = sign(name, &[name.to_owned()], &usages, days, &self.clients)?;
        let path = folder.join(format!("{name}.pem"));
        write(&path, &format!("{}{}", signed.certificate, signed.key), 0o600)?;
        Ok(path)
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

/// A certificate and its key.
struct Signed {
    certificate: String,
    key: String,
}

impl Signed {
    fn write(&self, folder: &Path, name: &str) -> Result<(), AuthorityError> {
        write(&folder.join(format!("{name}.key")), &self.key, 0o600)?;
        write(&folder.join(format!("{name}.pem")), &self.certificate, 0o644)
    }
}

/// Signs a certificate of whoever is called `name` and is at these `hosts`.
fn sign(
    name: &str,
    hosts: &[String],
    usages: &[ExtendedKeyUsagePurpose],
    days: u32,
    issuer: &Issuer<'static, KeyPair>,
) -> Result<Signed, AuthorityError> {
    let failed = |source| AuthorityError::Certificate { name: name.to_owned(), source };
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(failed)?;
    params.distinguished_name = distinguished(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, days.into());
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, issuer).map_err(failed)?;
    Ok(Signed { certificate: certificate.pem(), key: key.serialize_pem() })
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::super::credentials::ending_within;
    use super::super::files::Files;
    use super::*;

    #[test]
    fn keys_are_for_their_owner_alone_and_authorities_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("certs");
        let hosts = ["localhost".to_owned()];
        Authority::open(&out).unwrap().issue("n1", &hosts, 365).unwrap();
        let authorities = ["clients", "peers"].map(|name| {
            let read =
                |ending| fs::read_to_string(out.join(format!("ca/{name}.{ending}"))).unwrap();
            (read("pem"), read("key"))
        });
        assert_ne!(authorities[0], authorities[1]);
        let first = fs::read_to_string(out.join("n1/server.pem")).unwrap();

        let authority = Authority::open(&out).unwrap();
        authority.issue("n1", &hosts, 365).unwrap();
        authority.issue_client("ci", 365).unwrap();
        assert_ne!(fs::read_to_string(out.join("n1/server.pem")).unwrap(), first);
        assert_eq!(fs::read_to_string(out.join("n1/client-ca.pem")).unwrap(), authorities[0].0);
        assert_eq!(fs::read_to_string(out.join("n1/peer-ca.pem")).unwrap(), authorities[1].0);
        for name in
            ["ca/clients.key", "ca/peers.key", "n1/server.key", "n1/peer.key", "clients/ci.pem"]
        {
            let mode = fs::metadata(out.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(fs::read_dir(out.join("n1")).unwrap().count(), 6, "nothing is left behind");
    }

    #[test]
    fn names_that_no_certificate_or_folder_can_have_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        for name in ["", "ca", "CA", "clients", "10.0.0.1", "..", "a/b", "a b"] {
            assert!(authority.issue(name, &["h".to_owned()], 1).is_err(), "{name}");
        }
        assert!(authority.issue_client("a/../b", 1).is_err());
    }

    #[test]
    fn a_certificate_ends_after_the_days_that_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let issued = authority.issue("n1", &["localhost".to_owned()], 10).unwrap();
        let files = Files::read(&issued, false).unwrap();
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        assert!(ending_within(&files, days(9)).is_none());
        assert!(ending_within(&files, days(13)).is_some());
    }
}
