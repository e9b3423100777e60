//! Certificates as `cluster certs` would not make them, and who shows and believes them.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// Who signs.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Valid {
    Always,
    NoLonger,
    NotYet,
}

/// What it is good for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum For {
    Both,
    Servers,
    Clients,
}

/// A certificate and its key, as their files have them.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Ca {
    /// One of the authorities of a cluster: `peers` or `clients`.
    pub(crate) fn of(certs: &Path, name: &str) -> Self {
        let key = certs.join("ca").join(format!("{name}.key"));
        let key = fs::read_to_string(key).expect("the authority has a key");
        Self {
            issuer: Issuer::new(
                authority(name),
                KeyPair::from_pem(&key).expect("what tests need can be made"),
            ),
        }
    }

    /// One of the same name that nobody believes.
    pub(crate) fn foreign(name: &str) -> Self {
        Self {
            issuer: Issuer::new(
                authority(name),
                KeyPair::generate().expect("what tests need can be made"),
            ),
        }
    }

    pub(crate) fn sign(&self, name: &str, valid: Valid, purpose: For) -> Signed {
        let mut params = params(name, valid, purpose);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("what tests need can be made");
        let certificate =
            params.signed_by(&key, &self.issuer).expect("what tests need can be made").pem();
        Signed { certificate, key: key.serialize_pem() }
    }
}

/// A certificate that nobody has signed but its owner.
pub(crate) fn self_signed(name: &str) -> Signed {
    let key = KeyPair::generate().expect("what tests need can be made");
    let certificate = params(name, Valid::Always, For::Both)
        .self_signed(&key)
        .expect("what tests need can be made")
        .pem();
    Signed { certificate, key: key.serialize_pem() }
}

fn params(name: &str, valid: Valid, purpose: For) -> CertificateParams {
    let mut params =
        CertificateParams::new([name.to_owned()]).expect("what tests need can be made");
    let (from, to) = match valid {
        Valid::Always => (2020, 4000),
        Valid::NoLonger => (2020, 2021),
        Valid::NotYet => (3999, 4000),
    };
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    let (server, client) =
        (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    params.extended_key_usages = match purpose {
        For::Both => vec![server, client],
        For::Servers => vec![server],
        For::Clients => vec![client],
    };
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("dss authority for {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
}

impl Signed {
    /// What is in a node's folder under this name: `server` or `peer`.
    pub(crate) fn read(folder: &Path, name: &str) -> Self {
        let read = |ending| {
            fs::read_to_string(folder.join(format!("{name}.{ending}")))
                .expect("what tests need can be made")
        };
        Self { certificate: read("pem"), key: read("key") }
    }

    /// Puts it into a node's folder.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        fs::write(folder.join(format!("{name}.pem")), &self.certificate)
            .expect("what tests need can be made");
        let key = folder.join(format!("{name}.key"));
        let _ = fs::remove_file(&key);
        let mut options = fs::OpenOptions::new();
        let mut key = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(key)
            .expect("what tests need can be made");
        std::io::Write::write_all(&mut key, self.key.as_bytes())
            .expect("what tests need can be made");
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .map(|one| one.expect("what tests need can be read"))
            .collect()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("what tests need can be made")
    }
}

fn roots(authorities: &[&str]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots
                .add(certificate.expect("what tests need can be made"))
                .expect("what tests need can be made");
        }
    }
    roots
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A client that believes these authorities and has no certificate.
pub(crate) fn client(authorities: &[&str]) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("what tests need can be made")
        .with_root_certificates(roots(authorities))
        .with_no_client_auth()
}

/// A client that believes an authority, speaks this version and shows this, if anything.
pub(crate) fn dialer(
    authority: &str,
    version: &'static SupportedProtocolVersion,
    shows: Option<&Signed>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .expect("what tests need can be made")
        .with_root_certificates(roots(&[authority]));
    match shows {
        Some(signed) => builder
            .with_client_auth_cert(signed.chain(), signed.key())
            .expect("what tests need can be made"),
        None => builder.with_no_client_auth(),
    }
}

/// A server that believes an authority, speaks this version and shows this.
pub(crate) fn acceptor(
    authority: &str,
    version: &'static SupportedProtocolVersion,
    shows: &Signed,
) -> ServerConfig {
    let clients =
        WebPkiClientVerifier::builder_with_provider(roots(&[authority]).into(), provider())
            .build()
            .expect("what tests need can be made");
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .expect("what tests need can be made")
        .with_client_cert_verifier(clients)
        .with_single_cert(shows.chain(), shows.key())
        .expect("what tests need can be made")
}
