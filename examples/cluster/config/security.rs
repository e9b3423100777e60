//! Who may call, and whether it is written down.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::control_group::SecretHash;

/// How large a file of the audit log may be, and what is sensible.
const FILE_BYTES: std::ops::RangeInclusive<u64> = 4_096..=1 << 40;

/// `[auth]` of the cluster's file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct AuthConfig {
    /// `enabled`: whether a client needs a token. Off, unless said otherwise: everybody who
    /// reaches the node may do everything then.
    pub(crate) enabled: bool,
    /// `bootstrap`: the token by which the first others are made. It is an admin's, never expires,
    /// and goes by being taken out of the configuration.
    pub(crate) bootstrap: Option<Bootstrap>,
}

/// A token of which the configuration knows the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bootstrap {
    /// Its public part.
    pub(crate) id: String,
    /// The SHA-256 of the token.
    pub(crate) secret: SecretHash,
}

/// `[audit]` of the cluster's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditConfig {
    /// `enabled`: whether mutations and refusals are written down. Where it is left out they are
    /// as soon as clients need tokens.
    pub(crate) enabled: Option<bool>,
    /// `key_file`: what chains the entries. Left out, it is made in the folder of the log; kept
    /// elsewhere, it is safe from whoever can change that folder.
    pub(crate) key_file: Option<PathBuf>,
    /// `file_bytes_max`: how large a file may become before the next one is begun. 64 MiB.
    pub(crate) file_bytes_max: u64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { enabled: None, key_file: None, file_bytes_max: 64 << 20 }
    }
}

impl AuthConfig {
    pub(super) const NAMES: [&'static str; 2] = ["auth.enabled", "auth.bootstrap"];

    /// Sets what this name stands for.
    ///
    /// # Errors
    ///
    /// What is wrong with the name or the value.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "enabled" => self.enabled = switch(value)?,
            "bootstrap" if value.is_empty() => self.bootstrap = None,
            "bootstrap" => self.bootstrap = Some(Bootstrap::parse(value)?),
            _ => return Err("there is no such setting".to_owned()),
        }
        Ok(())
    }
}

impl AuditConfig {
    pub(super) const NAMES: [&'static str; 3] =
        ["audit.enabled", "audit.key_file", "audit.file_bytes_max"];

    /// Sets what this name stands for.
    ///
    /// # Errors
    ///
    /// What is wrong with the name or the value.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "enabled" => self.enabled = Some(switch(value)?),
            "key_file" if value.is_empty() => return Err("must not be empty".to_owned()),
            "key_file" => self.key_file = Some(PathBuf::from(value)),
            "file_bytes_max" => {
                let bytes = value.parse().map_err(|_| "is not a number")?;
                if !FILE_BYTES.contains(&bytes) {
                    let (least, most) = (FILE_BYTES.start(), FILE_BYTES.end());
                    return Err(format!("must be from {least} to {most}"));
                }
                self.file_bytes_max = bytes;
            }
            _ => return Err("there is no such setting".to_owned()),
        }
        Ok(())
    }

    /// Where the key is, for a log in this folder.
    pub(crate) fn key_file(&self, folder: &Path) -> PathBuf {
        self.key_file.clone().unwrap_or_else(|| folder.join("audit.key"))
    }
}

impl Bootstrap {
    /// As it stands in a configuration: `<id>:<sha256>`.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = "must look like <id>:<sha256>, as `cluster token bootstrap` prints it";
        let (id, hash) = text.split_once(':').ok_or(wrong)?;
        let is_id =
            !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        let hash = crate::hex::decode(hash).filter(|_| is_id).ok_or(wrong)?;
        Ok(Self { id: id.to_owned(), secret: SecretHash(hash) })
    }
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.id, crate::hex::encode(&self.secret.0))
    }
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_token_is_an_id_and_a_hash() {
        let text = format!("abc123:{}", "0f".repeat(32));
        let bootstrap = Bootstrap::parse(&text).unwrap();
        assert_eq!((bootstrap.id.as_str(), bootstrap.secret), ("abc123", SecretHash([15; 32])));
        assert_eq!(bootstrap.to_string(), text);
        let hash = "0f".repeat(32);
        for wrong in ["", "abc", ":", "abc:0f", &format!(":{hash}"), &format!("a_b:{hash}")] {
            assert!(Bootstrap::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let mut audit = AuditConfig::default();
        for (name, value) in [
            ("file_bytes_max", "1"),
            ("file_bytes_max", "x"),
            ("key_file", ""),
            ("enabled", "yes"),
            ("colour", "red"),
        ] {
            assert!(audit.set(name, value).is_err(), "{name} = {value}");
        }
        assert_eq!(audit, AuditConfig::default());
        let mut auth = AuthConfig::default();
        assert!(auth.set("enabled", "1").is_err() && auth.set("bootstrap", "x").is_err());
        assert_eq!(auth, AuthConfig::default());
    }
}
