//! Reading a log that is being written.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use serde_json::Value;

use super::chain::Line;
use super::files::list;

/// Entries in their order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Value>,
    /// The number of the last one, where there are more.
    pub(crate) next: Option<u64>,
}

/// Up to `limit` entries after the one with this number, of those up to `last`.
pub(crate) fn page(folder: &Path, after: u64, last: u64, limit: usize) -> io::Result<Page> {
    let mut page = Page::default();
    let files = list(folder)?;
    let begin = files.partition_point(|(first, _)| *first <= after.saturating_add(1));
    let mut sequence = 0;
    for (_, path) in &files[begin.saturating_sub(1)..] {
        for line in BufReader::new(File::open(path)?).lines() {
            let line = line?;
            let Some(number) = Line::parse(&line).and_then(|line| line.sequence()) else {
                continue;
            };
            if number <= after || number > last {
                continue;
            }
            if page.entries.len() == limit {
                page.next = Some(sequence);
                return Ok(page);
            }
            // Whatever was done to a line, it is shown as well as possible: verifying is another
            // matter.
            page.entries.push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            sequence = number;
        }
    }
    Ok(page)
}
