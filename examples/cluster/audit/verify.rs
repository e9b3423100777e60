//! Finding what was done to an audit log.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use subtle::ConstantTimeEq as _;

use super::chain::{Key, Line, Mac, ORIGIN};
use super::entry::{Header, LINE_BYTES_MAX};
use super::files::list;
use crate::hex;

/// An entry that the log must have: `<sequence>:<mac>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its number.
    pub(crate) sequence: u64,
    /// What the chain is there.
    pub(crate) mac: Mac,
}

/// What is not a [`Head`].
#[derive(Debug, thiserror::Error)]
#[error("a head looks like 1234:<mac>, with the 64 hexadecimal digits of the entry's mac")]
pub(crate) struct HeadError;

impl FromStr for Head {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let (sequence, mac) = text.split_once(':').ok_or(HeadError)?;
        let sequence = sequence.parse().map_err(|_| HeadError)?;
        Ok(Self { sequence, mac: hex::decode(mac).ok_or(HeadError)? })
    }
}

/// A log to which nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    /// The node that wrote it.
    pub(crate) node: String,
    /// The name of its chain.
    pub(crate) chain: String,
    /// The numbers of its first and last entry; there is none where the last is less.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Whether a line stands at the end that is not whole: it is being written, or a crash has
    /// interrupted that.
    pub(crate) is_unfinished: bool,
}

/// What is wrong with a log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error("{} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("the key {} cannot be used", .0.display())]
    Key(PathBuf, #[source] io::Error),
    #[error("{} holds no audit log", .0.display())]
    Nothing(PathBuf),
    #[error("{}:{line}: {problem}", .file.display())]
    Fault { file: PathBuf, line: usize, problem: String },
}

/// How far verifying has come.
struct Verifier<'a> {
    key: &'a Key,
    head: Option<Head>,
    /// From the first line of the file that was looked at last.
    node: String,
    chain: String,
    first: Option<u64>,
    last: u64,
    mac: Mac,
    is_unfinished: bool,
}

/// Verifies the log at `path`: a file and those that follow it, or all that a folder holds. With
/// the head that the cluster knows, a log that was cut is found out too.
///
/// # Errors
///
/// The first thing that is wrong, with the line that it is found at.
pub(crate) fn verify(
    path: &Path,
    key_file: Option<&Path>,
    head: Option<Head>,
) -> Result<Verified, VerifyError> {
    let unreadable = |error| VerifyError::Read(path.to_owned(), error);
    let is_folder = path.metadata().map_err(unreadable)?.is_dir();
    let folder = match path.parent() {
        _ if is_folder => path,
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let beside = folder.join("audit.key");
    let key_file = key_file.unwrap_or(&beside);
    let key = Key::read(key_file).map_err(|error| VerifyError::Key(key_file.to_owned(), error))?;
    let all = list(folder).map_err(unreadable)?;
    let files: Vec<PathBuf> = if is_folder {
        all.into_iter().map(|(_, file)| file).collect()
    } else {
        let later = all.into_iter().map(|(_, file)| file);
        let later = later.skip_while(|file| file.file_name() != path.file_name()).skip(1);
        std::iter::once(path.to_owned()).chain(later).collect()
    };
    let mut verifier = Verifier::new(&key, head);
    let mut end = None;
    for file in &files {
        end = Some((file, verifier.file(file)?));
    }
    let (file, line) = end.ok_or_else(|| VerifyError::Nothing(path.to_owned()))?;
    verifier.finish().map_err(|problem| VerifyError::Fault { file: file.to_owned(), line, problem })
}

impl<'a> Verifier<'a> {
    fn new(key: &'a Key, head: Option<Head>) -> Self {
        Self {
            key,
            head,
            node: String::new(),
            chain: String::new(),
            first: None,
            last: 0,
            mac: ORIGIN,
            is_unfinished: false,
        }
    }

    /// Looks at the next file; the number of the line after its last one.
    fn file(&mut self, path: &Path) -> Result<usize, VerifyError> {
        let unreadable = |error| VerifyError::Read(path.to_owned(), error);
        let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut bytes = Vec::new();
        for number in 1.. {
            let fault = |problem: String| {
                let file = path.to_owned();
                VerifyError::Fault { file, line: number, problem }
            };
            bytes.clear();
            reader
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut bytes)
                .map_err(unreadable)?;
            if bytes.is_empty() {
                return Ok(number);
            }
            if self.is_unfinished {
                return Err(fault("the file before ends within a line".to_owned()));
            }
            let Some(line) = bytes.strip_suffix(b"\n") else {
                self.is_unfinished = true;
                return Ok(number);
            };
            let line =
                std::str::from_utf8(line).ok().and_then(|text| Some((text, Line::parse(text)?)));
            let (text, line) =
                line.ok_or_else(|| fault("it is no line of an audit log".to_owned()))?;
            if number == 1 { self.header(text, &line) } else { self.entry(&line) }
                .map_err(fault)?;
        }
        unreachable!("a file ends")
    }

    fn header(&mut self, text: &str, line: &Line<'_>) -> Result<(), String> {
        let header: Header =
            serde_json::from_str(text).map_err(|_| "it is not the first line of an audit log")?;
        let previous: Mac =
            hex::decode(&header.previous).ok_or("it does not say what it follows")?;
        if header.audit != 1 {
            return Err(format!(
                "its format is {}, which this version does not know",
                header.audit
            ));
        }
        if header.chain != hex::encode(&self.key.chain()) {
            return Err("it was written with another key".to_owned());
        }
        if !line.follows(self.key, &ORIGIN) {
            return Err("it was changed".to_owned());
        }
        if self.first.is_some() {
            let expected = self.last + 1;
            if header.first != expected {
                return Err(format!("it begins with entry {}, not {expected}", header.first));
            }
            if previous != self.mac || header.node != self.node {
                return Err("it does not follow the file before".to_owned());
            }
        }
        self.first.get_or_insert(header.first);
        self.last = header.first.checked_sub(1).ok_or("entries begin with 1")?;
        (self.node, self.chain, self.mac) = (header.node, header.chain, previous);
        Ok(())
    }

    fn entry(&mut self, line: &Line<'_>) -> Result<(), String> {
        let expected = self.last + 1;
        let sequence = line.sequence().ok_or("it has no number")?;
        if sequence > expected {
            return Err(format!("entry {expected} is missing: entry {sequence} stands here"));
        }
        if sequence < expected {
            return Err(format!("entry {sequence} stands here again, or in the wrong place"));
        }
        if !line.follows(self.key, &self.mac) {
            return Err(format!("entry {sequence} was changed, or what stands before it"));
        }
        let Head { sequence: known, mac } = self.head.unwrap_or(Head { sequence: 0, mac: ORIGIN });
        if sequence == known && !bool::from(mac.ct_eq(&line.mac)) {
            return Err(format!("entry {sequence} is not the one that the cluster knows"));
        }
        (self.last, self.mac) = (sequence, line.mac);
        Ok(())
    }

    fn finish(self) -> Result<Verified, String> {
        if let Some(head) = self.head.filter(|head| head.sequence > self.last) {
            let (last, known) = (self.last, head.sequence);
            return Err(format!(
                "the log was cut after entry {last}: the cluster knows entry {known}"
            ));
        }
        let first = self.first.ok_or("the file was not begun")?;
        let Self { node, chain, last, is_unfinished, .. } = self;
        Ok(Verified { node, chain, first, last, is_unfinished })
    }
}

#[cfg(test)]
mod tests;
