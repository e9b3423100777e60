//! Whose certificates a client believes.

use std::path::Path;
use std::str::FromStr;

use rustls::{ClientConfig, RootCertStore};

use crate::tls;

/// The authorities in a file, as `--cacert` names it.
#[derive(Debug, Clone)]
pub(crate) struct Trust(RootCertStore);

/// Why a file is no [`Trust`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TrustError(String);

impl FromStr for Trust {
    type Err = TrustError;

    /// Reads the file of this name.
    fn from_str(file: &str) -> Result<Self, TrustError> {
        let certificates =
            tls::certificates(Path::new(file)).map_err(|error| TrustError(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| TrustError(format!("{file}: is no authority: {error}")))?;
        }
        Ok(Self(roots))
    }
}

/// How a client that trusts these encrypts; it believes nobody where it trusts none.
pub(super) fn encryption(trust: Option<&Trust>) -> ClientConfig {
    let roots = trust.map_or_else(RootCertStore::empty, |trust| trust.0.clone());
    ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .expect("what encrypts can do every version")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
