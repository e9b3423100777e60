//! How many files and connections this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is kept back from clients: for the log, the other nodes, Redis, and answers to those that
/// are turned away. A log that cannot open its next file ends the node.
const KEPT_BACK: u64 = 256;

/// Raises the limit as far as the operating system lets this process, since what it starts with
/// is often as low as 1,024, and says how many of them clients may have.
pub(crate) fn for_clients() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!("the limit of open files stays as it is: {error}");
            limit.current
        }
    };
    current.map_or(usize::MAX, left)
}

fn left(limit: u64) -> usize {
    // Half of very few, so that somebody is let in at all.
    let left = limit.saturating_sub(KEPT_BACK).max(limit / 2);
    usize::try_from(left).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_kept_back() {
        for (limit, clients) in [(1_024, 768), (65_536, 65_280), (100, 50), (2, 1)] {
            assert_eq!(left(limit), clients, "{limit}");
        }
    }
}
