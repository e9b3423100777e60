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
fn no_changed_byte_goes_unnoticed() {
    let written = Written::new();
    for first in [1, ENTRIES + 1] {
        let path = written.file(first);
        let whole = std::fs::read(&path).unwrap();
        for position in 0..whole.len() {
            for bit in [0, 5] {
                let mut changed = whole.clone();
                changed[position] ^= 1 << bit;
                std::fs::write(&path, &changed).unwrap();
                assert!(written.verify().is_err(), "bit {bit} of byte {position} of file {first}");
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(written.verify().is_ok());
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
