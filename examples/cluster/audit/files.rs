//! The files of an audit log.

use std::fs::{self, File, OpenOptions};
use std::io::{
    self, BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _,
};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::fstatvfs;

use super::chain::{Line, Mac, ORIGIN};
use super::entry::{Header, LINE_BYTES_MAX};
use crate::hex;

/// Where lines go. The one that is begun last is written to.
pub(super) trait Files: Send + 'static {
    /// Begins the file whose first entry has this number. It and its first lines are durable on
    /// return. A file of that name is replaced: it is what an attempt that failed has left.
    fn begin(&mut self, first: u64, lines: &[u8]) -> io::Result<()>;

    /// Adds lines. After an error any part of them may be there.
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;

    /// What was added is durable on return.
    fn sync(&mut self) -> io::Result<()>;

    /// Takes back what is beyond this length.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// How many bytes the disk still takes.
    fn room(&self) -> io::Result<u64>;
}

/// Files in a folder.
pub(super) struct FolderFiles {
    folder: PathBuf,
    file: Option<File>,
}

/// How far a log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// The number of the last entry; 0 where there is none.
    pub(super) sequence: u64,
    /// What the chain is there.
    pub(super) mac: Mac,
    /// How long the file is that it is in; nothing where there is no file.
    pub(super) length: Option<u64>,
}

impl FolderFiles {
    /// The files in `folder`, which is made where it is missing, and how far they go. What a crash
    /// has left of a line that was not finished is taken away: nobody was told of it.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Tail)> {
        fs::create_dir_all(folder)?;
        let mut files = Self { folder: folder.to_owned(), file: None };
        for (_, path) in list(folder)?.into_iter().rev() {
            let mut file = OpenOptions::new().read(true).append(true).open(&path)?;
            // One without a whole line was being begun; the next attempt replaces it.
            let Some((line, length)) = last_line(&mut file)? else { continue };
            let (sequence, mac) = end_of(&line).ok_or_else(|| {
                let problem = format!("the last line of {} cannot be read", path.display());
                io::Error::new(ErrorKind::InvalidData, problem)
            })?;
            file.set_len(length)?;
            file.sync_all()?;
            files.file = Some(file);
            return Ok((files, Tail { sequence, mac, length: Some(length) }));
        }
        Ok((files, Tail { sequence: 0, mac: ORIGIN, length: None }))
    }

    fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::Error::other("no file was begun"))
    }
}

impl Files for FolderFiles {
    fn begin(&mut self, first: u64, lines: &[u8]) -> io::Result<()> {
        let path = self.folder.join(name(first));
        let options = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let mut file = options?;
        file.set_len(0)?;
        file.write_all(lines)?;
        file.sync_all()?;
        File::open(&self.folder)?.sync_all()?;
        self.file = Some(file);
        Ok(())
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file()?.write_all(lines)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file()?.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file()?.set_len(length)
    }

    fn room(&self) -> io::Result<u64> {
        let status = match &self.file {
            Some(file) => fstatvfs(file),
            None => fstatvfs(File::open(&self.folder)?),
        }?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }
}

/// The name of the chain of the newest file, where there is one.
pub(super) fn newest_chain(folder: &Path) -> io::Result<Option<String>> {
    for (_, path) in list(folder)?.into_iter().rev() {
        let mut line = String::new();
        BufReader::new(File::open(path)?).take(LINE_BYTES_MAX).read_line(&mut line)?;
        if let Ok(Header { chain, .. }) = serde_json::from_str(&line) {
            return Ok(Some(chain));
        }
    }
    Ok(None)
}

/// The files of a log, oldest first, each with the number of its first entry.
pub(super) fn list(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for found in fs::read_dir(folder)? {
        let found = found?;
        if let Some(first) = found.file_name().to_str().and_then(first_of) {
            files.push((first, found.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// In the order of the numbers of their first entries, as text too.
fn name(first: u64) -> String {
    format!("audit-{first:020}.jsonl")
}

fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    digits.parse().ok().filter(|first| self::name(*first) == name)
}

/// The last line that is whole, and where it ends.
fn last_line(file: &mut File) -> io::Result<Option<(String, u64)>> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(2 * LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length - start).read_to_end(&mut bytes)?;
    let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Ok(None) };
    let line = match bytes[..end].iter().rposition(|byte| *byte == b'\n') {
        Some(before) => &bytes[before + 1..end],
        None => &bytes[..end],
    };
    let line = String::from_utf8_lossy(line).into_owned();
    Ok(Some((line, start + end as u64 + 1)))
}

/// Where the chain is after this line, entry or first of its file.
fn end_of(line: &str) -> Option<(u64, Mac)> {
    let parsed = Line::parse(line)?;
    if let Some(sequence) = parsed.sequence() {
        return Some((sequence, parsed.mac));
    }
    let header: Header = serde_json::from_str(line).ok()?;
    Some((header.first.checked_sub(1)?, hex::decode(&header.previous)?))
}

#[cfg(test)]
mod tests {
    use super::super::chain::Key;
    use super::super::entry::append_header;
    use super::*;

    /// A file with its header and an entry, and where each ends.
    fn file_of_one(key: &Key, folder: &Path) -> (PathBuf, u64, Mac) {
        let mut lines = Vec::new();
        append_header(key, "n1", 1, ORIGIN, &mut lines);
        let (mut files, tail) = FolderFiles::open(folder).unwrap();
        assert_eq!(tail, Tail { sequence: 0, mac: ORIGIN, length: None });
        files.begin(1, &lines).unwrap();
        let header = lines.len() as u64;
        lines.clear();
        let mac = key.append(&ORIGIN, r#"{"sequence":1,"a":"b"}"#, &mut lines);
        files.append(&lines).unwrap();
        files.sync().unwrap();
        assert!(files.room().unwrap() > 0);
        (folder.join(name(1)), header, mac)
    }

    #[test]
    fn a_log_goes_on_after_its_last_whole_line_wherever_a_crash_cut_it() {
        let (key, folder) = (Key::generate().unwrap(), tempfile::tempdir().unwrap());
        let (path, header, mac) = file_of_one(&key, folder.path());
        let whole = fs::read(&path).unwrap();
        for length in (0..=whole.len()).rev() {
            fs::write(&path, &whole[..length]).unwrap();
            let (_, tail) = FolderFiles::open(folder.path()).unwrap();
            let expected = if length == whole.len() {
                Tail { sequence: 1, mac, length: Some(whole.len() as u64) }
            } else if length as u64 >= header {
                Tail { sequence: 0, mac: ORIGIN, length: Some(header) }
            } else {
                Tail { sequence: 0, mac: ORIGIN, length: None }
            };
            assert_eq!(tail, expected, "cut at {length}");
        }
    }

    #[test]
    fn the_newest_file_that_was_begun_wholly_is_gone_on_with() {
        let (key, folder) = (Key::generate().unwrap(), tempfile::tempdir().unwrap());
        let (_, _, mac) = file_of_one(&key, folder.path());
        fs::write(folder.path().join(name(2)), "{\"audit\":1").unwrap();
        fs::write(folder.path().join("audit-3.jsonl"), "another's").unwrap();
        let (_, tail) = FolderFiles::open(folder.path()).unwrap();
        assert_eq!((tail.sequence, tail.mac), (1, mac));
        let firsts: Vec<_> = list(folder.path()).unwrap().into_iter().map(|file| file.0).collect();
        assert_eq!(firsts, [1, 2]);
    }

    #[test]
    fn a_last_line_that_makes_no_sense_is_not_gone_on_after() {
        let (key, folder) = (Key::generate().unwrap(), tempfile::tempdir().unwrap());
        let (path, ..) = file_of_one(&key, folder.path());
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"nonsense\n").unwrap();
        let error = FolderFiles::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }
}
