//! Whose certificates a client believes, and which it shows.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use crate::tls;

/// How a client encrypts.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Encryption {
    /// The authority whose certificates to believe, for targets that begin with `https`.
    #[arg(long, value_name = "FILE")]
    cacert: Option<Trust>,
    /// A certificate and its key, in one file, to show nodes that ask for one.
    #[arg(long, value_name = "FILE")]
    cert: Option<Shown>,
}

/// The authorities in a file.
#[derive(Debug, Clone)]
struct Trust(RootCertStore);

/// The certificate in a file, and its key.
#[derive(Clone)]
struct Shown(Arc<dyn ResolvesClientCert>);

/// Nothing of a key is for others to see.
impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Shown")
    }
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct FileError(String);

impl FromStr for Trust {
    type Err = FileError;

    /// Reads the file of this name.
    fn from_str(file: &str) -> Result<Self, FileError> {
        let certificates =
            tls::certificates(Path::new(file)).map_err(|error| FileError(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| FileError(format!("{file}: is no authority: {error}")))?;
        }
        Ok(Self(roots))
    }
}

impl FromStr for Shown {
    type Err = FileError;

    /// Reads the file of this name.
    fn from_str(file: &str) -> Result<Self, FileError> {
        let (chain, key) = tls::certificate_and_key(Path::new(file))
            .map_err(|error| FileError(error.to_string()))?;
        let certified = CertifiedKey::from_der(chain, key, &tls::provider())
            .map_err(|error| FileError(format!("{file}: cannot be used: {error}")))?;
        Ok(Self(Arc::new(SingleCertAndKey::from(certified))))
    }
}

impl Encryption {
    /// Whether it believes any certificate.
    pub(super) fn trusts(&self) -> bool {
        self.cacert.is_some()
    }

    pub(super) fn config(&self) -> ClientConfig {
        let trust = self.cacert.as_ref();
        let roots = trust.map_or_else(RootCertStore::empty, |trust| trust.0.clone());
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .expect("what encrypts can do every version")
            .with_root_certificates(roots);
        match &self.cert {
            Some(shown) => config.with_client_cert_resolver(Arc::clone(&shown.0)),
            None => config.with_no_client_auth(),
        }
    }
}
