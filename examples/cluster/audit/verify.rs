//! Finding what was done to an audit log.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use subtle::ConstantTimeEq as _;

use super::chain::{Key, Line, Mac, ORIGIN};
use super::entry::Header;
use super::files::list;
use crate::hex;

/// No line is longer.
const LINE_BYTES_MAX: u64 = 1 << 20;

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
mod tests {
    use super::*;
    use crate::audit::entry::append_header;

    const ENTRIES: u64 = 6;

    /// A log in two files, and what the cluster knows of it.
    struct Written {
        folder: tempfile::TempDir,
        head: Head,
    }

    impl Written {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let key = Key::read_or_create(&folder.path().join("audit.key")).unwrap();
            let mut mac = ORIGIN;
            for (first, count) in [(1, ENTRIES), (ENTRIES + 1, 2)] {
                let mut lines = Vec::new();
                append_header(&key, "n1", first, mac, &mut lines);
                for sequence in first..first + count {
                    let text = format!(r#"{{"sequence":{sequence},"resource":"/v1/{sequence}"}}"#);
                    mac = key.append(&mac, &text, &mut lines);
                }
                let name = format!("audit-{first:020}.jsonl");
                std::fs::write(folder.path().join(name), lines).unwrap();
            }
            Self { folder, head: Head { sequence: ENTRIES + 2, mac } }
        }

        fn file(&self, first: u64) -> PathBuf {
            self.folder.path().join(format!("audit-{first:020}.jsonl"))
        }

        fn lines(&self, first: u64) -> Vec<String> {
            let text = std::fs::read_to_string(self.file(first)).unwrap();
            text.lines().map(str::to_owned).collect()
        }

        fn write(&self, first: u64, lines: &[String]) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            std::fs::write(self.file(first), text).unwrap();
        }

        fn verify(&self) -> Result<Verified, VerifyError> {
            verify(self.folder.path(), None, Some(self.head))
        }

        /// The file and line at which something is wrong, and what it is.
        #[track_caller]
        fn fault(&self) -> (PathBuf, usize, String) {
            match self.verify() {
                Err(VerifyError::Fault { file, line, problem }) => (file, line, problem),
                other => panic!("{other:?}"),
            }
        }

        /// Does something to the lines of the first file, and finds it.
        #[track_caller]
        fn tampered(change: impl FnOnce(&mut Vec<String>)) -> (usize, String) {
            let written = Self::new();
            let mut lines = written.lines(1);
            change(&mut lines);
            written.write(1, &lines);
            let (file, line, problem) = written.fault();
            assert_eq!(file, written.file(1), "{problem}");
            (line, problem)
        }
    }

    #[test]
    fn a_log_to_which_nothing_was_done_is_verified_over_all_its_files() {
        let written = Written::new();
        let verified = written.verify().unwrap();
        assert_eq!((verified.first, verified.last), (1, ENTRIES + 2));
        assert_eq!((verified.node.as_str(), verified.is_unfinished), ("n1", false));
        for first in [1, ENTRIES + 1] {
            let verified = verify(&written.file(first), None, Some(written.head)).unwrap();
            assert_eq!((verified.first, verified.last), (first, ENTRIES + 2));
        }
        let middle = Line::parse(&written.lines(1)[4]).unwrap().mac;
        let head = Head { sequence: 4, mac: middle };
        assert!(verify(written.folder.path(), None, Some(head)).is_ok());
    }

    // Line 1 of a file is its header: entry n stands in line n + 1.

    #[test]
    fn a_changed_line_is_named() {
        for entry in 1..=6 {
            let (line, problem) = Written::tampered(|lines| {
                lines[entry] = lines[entry].replace("/v1/", "/v2/");
            });
            assert_eq!(line, entry + 1);
            assert!(problem.contains(&format!("entry {entry} was changed")), "{problem}");
        }
        let (line, _) =
            Written::tampered(|lines| lines[3] = lines[3].replace("\"mac\":\"", "\"mac\":\"0"));
        assert_eq!(line, 4, "its mac");
        let (line, problem) = Written::tampered(|lines| lines[0] = lines[0].replace("n1", "n2"));
        assert_eq!((line, problem.as_str()), (1, "it was changed"));
        let (line, _) = Written::tampered(|lines| lines[2] = "{}".to_owned());
        assert_eq!(line, 3);
    }

    #[test]
    fn a_deleted_line_is_named() {
        for entry in 1..=5 {
            let (line, problem) = Written::tampered(|lines| drop(lines.remove(entry)));
            assert_eq!(line, entry + 1);
            assert!(problem.contains(&format!("entry {entry} is missing")), "{problem}");
        }
        let (line, _) = Written::tampered(|lines| drop(lines.remove(0)));
        assert_eq!(line, 1, "the header");
    }

    #[test]
    fn swapped_lines_are_named() {
        let (line, problem) = Written::tampered(|lines| lines.swap(2, 4));
        assert_eq!(line, 3);
        assert!(problem.contains("entry 2 is missing: entry 4 stands here"), "{problem}");
        // With their numbers put right, the chain is broken.
        let (line, _) = Written::tampered(|lines| {
            lines.swap(2, 3);
            lines[2] = lines[2].replace("\"sequence\":3", "\"sequence\":2");
            lines[3] = lines[3].replace("\"sequence\":2", "\"sequence\":3");
        });
        assert_eq!(line, 3);
    }

    #[test]
    fn an_inserted_line_is_named() {
        let (line, problem) = Written::tampered(|lines| lines.insert(4, lines[3].clone()));
        assert_eq!(line, 5);
        assert!(problem.contains("entry 3 stands here again"), "{problem}");
        // One that was written with another key.
        let (line, _) = Written::tampered(|lines| {
            let (key, mut forged) = (Key::generate().unwrap(), Vec::new());
            let before = Line::parse(&lines[3]).unwrap().mac;
            key.append(&before, r#"{"sequence":4,"resource":"/v1/4"}"#, &mut forged);
            lines.insert(4, String::from_utf8(forged).unwrap().trim_end().to_owned());
        });
        assert_eq!(line, 5);
    }

    #[test]
    fn a_cut_is_found_by_the_head_that_the_cluster_knows() {
        let written = Written::new();
        let lines = written.lines(ENTRIES + 1);
        written.write(ENTRIES + 1, &lines[..2]);
        let (file, line, problem) = written.fault();
        assert_eq!((file, line), (written.file(ENTRIES + 1), 3));
        assert_eq!(problem, "the log was cut after entry 7: the cluster knows entry 8");
        assert!(verify(written.folder.path(), None, None).is_ok(), "by nothing else");
        std::fs::remove_file(written.file(ENTRIES + 1)).unwrap();
        let (file, line, problem) = written.fault();
        assert_eq!((file, line), (written.file(1), 8));
        assert!(problem.contains("cut after entry 6"), "{problem}");
    }

    #[test]
    fn a_line_that_is_not_whole_is_told_and_no_fault_unless_the_cluster_knows_it() {
        let written = Written::new();
        let path = written.file(ENTRIES + 1);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(verify(written.folder.path(), None, None).unwrap().is_unfinished);
        assert!(written.fault().2.contains("cut after entry 7"));
    }

    #[test]
    fn a_file_that_is_missing_between_others_or_was_exchanged_is_found() {
        let written = Written::new();
        let lines = written.lines(1);
        written.write(1, &lines[..6]);
        let (file, line, problem) = written.fault();
        assert_eq!((file, line), (written.file(ENTRIES + 1), 1));
        assert!(problem.contains("it begins with entry 7, not 6"), "{problem}");
        let other = Written::new();
        std::fs::copy(other.file(ENTRIES + 1), written.file(ENTRIES + 1)).unwrap();
        written.write(1, &lines);
        assert!(written.fault().2.contains("another key"));
    }

    #[test]
    fn a_history_that_was_written_anew_with_the_key_is_found_by_the_head() {
        let mut written = Written::new();
        written.head.mac = [7; 32];
        let (_, line, problem) = written.fault();
        assert_eq!((line, problem.as_str()), (3, "entry 8 is not the one that the cluster knows"));
    }

    #[test]
    fn what_is_no_log_is_no_log() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(verify(folder.path(), None, None), Err(VerifyError::Key(..))));
        Key::read_or_create(&folder.path().join("audit.key")).unwrap();
        assert!(matches!(verify(folder.path(), None, None), Err(VerifyError::Nothing(_))));
        let missing = folder.path().join("missing");
        assert!(matches!(verify(&missing, None, None), Err(VerifyError::Read(..))));
        for text in ["1", "1:00", "x:00", ""] {
            assert!(text.parse::<Head>().is_err(), "{text}");
        }
        let head = format!("7:{}", "0a".repeat(32));
        assert_eq!(head.parse::<Head>().unwrap(), Head { sequence: 7, mac: [10; 32] });
    }
}
