//! As whom a program asks, and whom it believes.

use std::path::PathBuf;
use std::{env, fs, io};

use axum::http::HeaderValue;
use clap::Args;

use super::Target;
use super::trust::Encryption;
use crate::auth::Credential;

/// Where the token is, never on the command line, which everybody on the machine can read; and which
/// authority names the nodes.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Credentials {
    #[command(flatten)]
    encryption: Encryption,
    /// A file with the token to ask with; else the file that `DSS_TOKEN_FILE` names, or what
    /// `DSS_TOKEN` is.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Whom to ask, and as whom.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// A node to ask, as `http://HOST:PORT` or `https://HOST:PORT`, or several; the next one where
    /// one does not answer.
    #[arg(
        long = "target",
        value_name = "URL[,URL…]",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8001,http://127.0.0.1:8002,http://127.0.0.1:8003"
    )]
    pub(crate) targets: Vec<Target>,
    #[command(flatten)]
    pub(crate) credentials: Credentials,
}

/// Why there is no token to ask with. Tells nothing of what was found in its place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error("{} cannot be read", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("{0} holds no token")]
    NoToken(String),
}

impl Credentials {
    /// How to encrypt.
    pub(super) fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    /// What requests carry; nothing where no token was given.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, CredentialsError> {
        let named =
            self.token_file.clone().or_else(|| env::var_os("DSS_TOKEN_FILE").map(Into::into));
        let (text, origin) = match (named, env::var("DSS_TOKEN")) {
            (Some(file), _) => match fs::read_to_string(&file) {
                Ok(text) => (text, file.display().to_string()),
                Err(error) => return Err(CredentialsError::File(file, error)),
            },
            (None, Ok(text)) => (text, "DSS_TOKEN".to_owned()),
            (None, Err(_)) => return Ok(None),
        };
        let credential = Credential::parse(text.trim()).ok_or(CredentialsError::NoToken(origin))?;
        Ok(Some(credential.header()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<Option<HeaderValue>, CredentialsError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, text).unwrap();
        Credentials { token_file: Some(file), ..Credentials::default() }.header()
    }

    #[test]
    fn a_file_holds_one_token() {
        let value = header("dss_abc_123\n").unwrap().unwrap();
        assert_eq!(value, "Bearer dss_abc_123");
        assert!(value.is_sensitive());
        let error = header("hunter2").unwrap_err().to_string();
        assert!(error.ends_with("token holds no token") && !error.contains("hunter2"), "{error}");
        let token_file = Some("no/such/file".into());
        let missing = Credentials { token_file, ..Credentials::default() }.header();
        assert!(matches!(missing, Err(CredentialsError::File(..))));
    }
}
