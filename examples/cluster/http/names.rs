//! Names for requests that their clients have not named.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::HeaderValue;

/// The digits of names.
const DIGITS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";

/// Gives each request a name that no other request has, on any node and in any run.
///
/// The names are short: each is written to the log by every node, and compared with those that its
/// owner's last requests had.
#[derive(Debug)]
pub(crate) struct Names {
    /// 64 random bits: what tells this run of this node from all others.
    run: String,
    next: AtomicU64,
}

impl Names {
    /// Names that nobody else gives.
    pub(crate) fn new() -> Self {
        let mut run = String::new();
        push_number(&mut run, random());
        // Of the same length in all runs, so that what follows it needs no mark between.
        let run = format!("{run:0<11}");
        Self { run, next: AtomicU64::new(0) }
    }

    /// One name that nobody else gives.
    pub(crate) fn random() -> String {
        format!("{:016x}{:016x}", random(), random())
    }

    pub(crate) fn next(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut name = self.run.clone();
        push_number(&mut name, number);
        HeaderValue::try_from(name).expect("digits are a header value")
    }
}

/// The standard library's way to randomness of the operating system.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

/// Adds the digits of a number, the last one first.
fn push_number(text: &mut String, mut number: u64) {
    loop {
        text.push(char::from(DIGITS[(number % 64) as usize]));
        number /= 64;
        if number == 0 {
            return;
        }
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

    #[test]
    fn names_are_short_however_many_have_been_given() {
        let names = Names { next: AtomicU64::new(u64::MAX), ..Names::new() };
        assert_eq!(names.next().len(), 22);
        assert_eq!(names.next().len(), 12);
    }

    #[test]
    fn numbers_have_digits_of_their_own() {
        let digits = |number| {
            let mut text = String::new();
            push_number(&mut text, number);
            text
        };
        assert_eq!([0, 9, 63, 64, 65].map(digits), ["0", "9", "_", "01", "11"]);
        assert_eq!(digits(u64::MAX), "__________f");
    }
}
