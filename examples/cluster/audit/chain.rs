//! What chains the lines of an audit log together.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::control_group::Chain;
use crate::{hex, private_file};

/// What a chain is at one of its lines.
pub(super) type Mac = [u8; 32];
/// What stands before the first line.
pub(super) const ORIGIN: Mac = [0; 32];

/// Between what is chained of a line and its mac.
const MARK: &str = ",\"mac\":\"";
const END: &str = "\"}";

/// The key of a chain. Without it nobody can write a line that fits.
#[derive(Clone)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// A key of 256 random bits.
    pub(crate) fn generate() -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(Self(key))
    }

    /// The key in this file.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let invalid = |problem| io::Error::new(ErrorKind::InvalidData, problem);
        let file = File::open(path)?;
        if file.metadata()?.mode() & 0o077 != 0 {
            return Err(invalid("others than its owner may use it: chmod 600"));
        }
        let mut text = String::new();
        file.take(128).read_to_string(&mut text)?;
        hex::decode(text.trim_end()).map(Self).ok_or(invalid("it holds no key"))
    }

    /// The key in this file, which is made where it is missing.
    pub(super) fn read_or_create(path: &Path) -> io::Result<Self> {
        match Self::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            read => return read,
        }
        let key = Self::generate()?;
        private_file::write_new(path, format!("{}\n", hex::encode(&key.0)).as_bytes())?;
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all()?,
            _ => {}
        }
        Ok(key)
    }

    /// The name of the chain that this key makes. It tells nothing of the key.
    pub(super) fn chain(&self) -> Chain {
        let hash = Sha256::new().chain_update(b"dss audit chain").chain_update(self.0).finalize();
        let mut chain = Chain::default();
        let length = chain.len();
        chain.copy_from_slice(&hash[..length]);
        chain
    }

    /// What the chain is after a line, of which `text` is what stands before its mac.
    fn mac(&self, previous: &Mac, text: &[u8]) -> Mac {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("any length of key makes an HMAC");
        mac.update(previous);
        mac.update(text);
        mac.finalize().into_bytes().into()
    }

    /// Adds the line that the JSON object `text` becomes, and the end of the line, to `lines`.
    /// What the chain is after it.
    pub(super) fn append(&self, previous: &Mac, text: &str, lines: &mut Vec<u8>) -> Mac {
        let text = text.strip_suffix('}').expect("a line is a JSON object");
        let mac = self.mac(previous, text.as_bytes());
        for part in [text, MARK, &hex::encode(&mac), END, "\n"] {
            lines.extend_from_slice(part.as_bytes());
        }
        mac
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(_)")
    }
}

/// A line, taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    text: &'a str,
    pub(super) mac: Mac,
}

impl<'a> Line<'a> {
    /// The parts of a line without its end.
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let (text, mac) = line.strip_suffix(END)?.rsplit_once(MARK)?;
        Some(Self { text, mac: hex::decode(mac)? })
    }

    /// The number of the entry that it is.
    pub(super) fn sequence(&self) -> Option<u64> {
        self.text.strip_prefix("{\"sequence\":")?.split(',').next()?.parse().ok()
    }

    /// Whether it was written with this key, after a line with this mac.
    pub(super) fn follows(&self, key: &Key, previous: &Mac) -> bool {
        key.mac(previous, self.text.as_bytes()).ct_eq(&self.mac).into()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_line_says_what_it_follows() {
        let (key, mut lines) = (Key([7; 32]), Vec::new());
        let mac = key.append(&ORIGIN, r#"{"sequence":1,"x":"a"}"#, &mut lines);
        let text = String::from_utf8(lines).unwrap();
        let line = Line::parse(text.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!((line.sequence(), line.mac), (Some(1), mac));
        assert!(line.follows(&key, &ORIGIN));
        assert!(!line.follows(&key, &mac) && !line.follows(&Key([8; 32]), &ORIGIN));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["mac"], hex::encode(&mac));
    }

    #[test]
    fn what_is_no_line_is_not_taken_for_one() {
        for text in ["", "{}", "{\"mac\":\"00\"}", ",\"mac\":\"\"}", "{\"a\":1,\"mac\":\"zz\"}"] {
            assert!(Line::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.key");
        assert_eq!(Key::read(&path).unwrap_err().kind(), ErrorKind::NotFound);
        let key = Key::read_or_create(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(Key::read_or_create(&path).unwrap().0, key.0);
        assert_eq!(Key::read(&path).unwrap().chain(), key.chain());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Key::read(&path).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "hunter2").unwrap();
        let error = Key::read_or_create(&path).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert_eq!(format!("{key:?}"), "Key(_)");
    }
}
