//! Names for requests that their clients have not named.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::HeaderValue;

/// Gives each request a name that no other request has, on any node and in any run.
#[derive(Debug)]
pub(crate) struct Names {
    /// 128 random bits: what tells this run of this node from all others.
    run: String,
    next: AtomicU64,
}

impl Names {
    /// Names that nobody else gives.
    pub(crate) fn new() -> Self {
        Self { run: Self::random(), next: AtomicU64::new(0) }
    }

    /// One name that nobody else gives.
    pub(crate) fn random() -> String {
        // The standard library's way to randomness of the operating system.
        let random = || RandomState::new().hash_one(());
        format!("{:016x}{:016x}", random(), random())
    }

    pub(crate) fn next(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        HeaderValue::try_from(format!("{}-{number}", self.run)).expect("digits and a dash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_given_twice() {
        let (one, other) = (Names::new(), Names::new());
        let names: std::collections::BTreeSet<_> = (0..100)
            .flat_map(|_| [one.next(), other.next()])
            .map(|name| name.to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names.len(), 200);
    }
}
