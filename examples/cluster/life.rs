//! Which of its lives a node is in, kept beside its log.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The file that holds the number of the last life that was begun.
const FILE: &str = "incarnation";

/// Why a life cannot be begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LifeError {
    #[error("cannot {operation} {path}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{0} does not hold a number")]
    Damaged(PathBuf),
}

/// Checks that a life could be begun, and changes nothing: before anything else in the folder is
/// changed, so that a node that refuses to start leaves it as it was.
pub(crate) fn check(folder: &Path) -> Result<(), LifeError> {
    next(&folder.join(FILE), 0).map(|_| ())
}

/// Begins the next life of the node whose folder this is: a number larger than `above` and than
/// that of every life begun here, durable on return. A cache that restarts is empty, and nothing
/// that was meant for its former life may reach it.
pub(crate) fn begin(folder: &Path, above: u64) -> Result<u64, LifeError> {
    let path = folder.join(FILE);
    let life = next(&path, above)?;
    replace(folder, &path, &format!("{life}\n")).map_err(|source| LifeError::Io {
        operation: "write",
        path,
        source,
    })?;
    Ok(life)
}

/// The number of the life after the last one that was begun, and after `above`.
fn next(path: &Path, above: u64) -> Result<u64, LifeError> {
    let damaged = || LifeError::Damaged(path.to_owned());
    let last: u64 = match fs::read(path) {
        Ok(bytes) => {
            let text = str::from_utf8(&bytes).map_err(|_| damaged())?;
            text.trim_end().parse().map_err(|_| damaged())?
        }
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(source) => {
            return Err(LifeError::Io { operation: "read", path: path.to_owned(), source });
        }
    };
    last.max(above).checked_add(1).ok_or_else(damaged)
}

/// Replaces the file by one with this text, wholly or not at all, whenever power fails.
fn replace(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_life_has_a_larger_number() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(begin(folder.path(), 0).unwrap(), 1);
        assert_eq!(begin(folder.path(), 0).unwrap(), 2);
        // A crash while the next number was being written.
        fs::write(folder.path().join("incarnation.new"), "9").unwrap();
        assert_eq!(begin(folder.path(), 0).unwrap(), 3);
        // The others remember a life that this folder does not.
        assert_eq!(begin(folder.path(), 7).unwrap(), 8);
        assert_eq!(begin(folder.path(), 7).unwrap(), 9);
    }

    #[test]
    fn checking_begins_nothing() {
        let folder = tempfile::tempdir().unwrap();
        check(&folder.path().join("not there yet")).unwrap();
        check(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        begin(folder.path(), 0).unwrap();
        check(folder.path()).unwrap();
        assert_eq!(begin(folder.path(), 0).unwrap(), 2);
    }

    #[test]
    fn a_file_without_a_number_is_refused_and_left_alone() {
        for text in ["", "x", "-1", "18446744073709551616", "18446744073709551615"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(FILE);
            fs::write(&path, text).unwrap();
            assert!(begin(folder.path(), 0).unwrap_err().to_string().contains(FILE), "{text}");
            assert!(check(folder.path()).is_err(), "{text}");
            assert_eq!(fs::read_to_string(path).unwrap(), text);
        }
    }
}
