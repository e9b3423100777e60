//! The tables of the README are about this crate as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the README's tables whose first column is headed `head`, cell by cell.
fn rows(head: &str) -> Vec<Vec<String>> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut rows = Vec::new();
    let mut wanted = false;
    for line in readme.lines() {
        let Some(line) = line.strip_prefix("| ") else {
            wanted = false;
            continue;
        };
        let cells: Vec<String> =
            line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        if cells[0] == head {
            wanted = true;
        } else if wanted && !cells[0].starts_with("---") {
            rows.push(cells);
        }
    }
    rows
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The path of the module in a file, as far as its folders tell it.
fn module(path: &Path) -> String {
    let path = path.strip_prefix(root()).unwrap().with_extension("");
    let parts: Vec<_> = path.iter().skip(1).map(|part| part.to_str().unwrap()).collect();
    let parts: Vec<_> = parts.into_iter().filter(|part| !["mod", "main"].contains(part)).collect();
    parts.join("::")
}

/// Every test of this crate by its path, and where it is.
fn tests() -> BTreeMap<String, PathBuf> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    sources(&root().join("tests"), &mut files);
    let mut tests = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut module = module(&file);
        let mut is_test = false;
        for line in text.lines() {
            let line = line.trim_start();
            if line.starts_with("mod tests {") {
                module.push_str("::tests");
            }
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let line = line.strip_prefix("async ").unwrap_or(line);
            if let Some(name) = line.strip_prefix("fn ").filter(|_| is_test) {
                let name = name.split('(').next().unwrap();
                tests.insert(format!("{module}::{name}"), file.clone());
                is_test = false;
            }
        }
    }
    tests
}

fn exists(tests: &BTreeMap<String, PathBuf>, named: &str) -> bool {
    tests.keys().any(|test| test == named || test.ends_with(&format!("::{named}")))
}

#[test]
fn every_feature_is_shown_by_a_test_that_exists() {
    let tests = tests();
    assert!(tests.len() > 200, "{} tests are found", tests.len());
    let rows = rows("feature");
    assert!(rows.len() > 50, "{} rows are found", rows.len());
    for row in &rows {
        let [feature, ours, .., shown_by] = &row[..] else { panic!("{row:?}") };
        let named = quoted(shown_by);
        for test in &named {
            assert!(exists(&tests, test), "{feature}: there is no test {test}");
        }
        let promises = ours.starts_with('Y') || ours.starts_with('p');
        let shown = !named.is_empty() || shown_by.contains("doctests");
        assert!(shown || !promises, "{feature}: nothing shows what is promised");
    }
    let features: BTreeSet<&String> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(features.len(), rows.len(), "no feature has two rows");
}

#[test]
fn a_row_has_as_many_cells_as_its_head() {
    for head in ["feature", "planted bug"] {
        let rows = rows(head);
        assert!(rows.iter().all(|row| [3, 4, 7].contains(&row.len())), "{rows:?}");
    }
}
