//! What a hold consists of, and which acquires stand for it.

use dss_lock::{AttemptId, Mode};

/// How many attempts one wait or grant remembers; of one that has had more there is always
/// somebody who knows.
const ATTEMPTS_KEPT: usize = 8;

/// The attempts that a wait or a grant answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) attempts: Vec<AttemptId>,
    /// Somebody has surely been answered, who is not among the attempts.
    settled: bool,
}

/// One level of a hold: a shared grant may have its upgrade on top.
#[derive(Debug, Clone)]
pub(super) struct Level {
    pub(super) mode: Mode,
    pub(super) token: u64,
    pub(super) claims: Claims,
    /// How many releases it takes.
    pub(super) entries: u32,
    pub(super) reentries: Vec<AttemptId>,
}

impl Claims {
    pub(super) fn of(attempt: AttemptId) -> Self {
        Self { attempts: vec![attempt], settled: false }
    }

    pub(super) fn add(&mut self, attempt: AttemptId) {
        self.attempts.push(attempt);
        if self.attempts.len() > ATTEMPTS_KEPT {
            self.attempts.remove(0);
            self.settled = true;
        }
    }

    /// Whether nobody would know of it without this attempt.
    pub(super) fn hang_on(&self, attempt: AttemptId) -> bool {
        self.attempts == [attempt] && !self.settled
    }

    pub(super) fn remove(&mut self, attempt: AttemptId) {
        self.attempts.retain(|claim| *claim != attempt);
    }
}

impl Level {
    pub(super) fn enter(&mut self, attempt: AttemptId, counted: bool) {
        if !counted {
            self.claims.add(attempt);
            return;
        }
        self.entries += 1;
        self.reentries.push(attempt);
        if self.reentries.len() > ATTEMPTS_KEPT {
            self.reentries.remove(0);
        }
    }

    pub(super) fn knows(&self, attempt: AttemptId) -> bool {
        self.claims.attempts.contains(&attempt) || self.reentries.contains(&attempt)
    }

    /// Takes the attempt back. Without entries the level is gone.
    pub(super) fn take_back(&mut self, attempt: AttemptId) {
        if self.reentries.contains(&attempt) {
            self.reentries.retain(|entry| *entry != attempt);
            self.entries -= 1;
        } else if self.claims.hang_on(attempt) {
            self.entries -= 1;
            self.claims = Claims { attempts: Vec::new(), settled: true };
            if !self.reentries.is_empty() {
                self.claims = Claims::of(self.reentries.remove(0));
            }
        } else {
            self.claims.remove(attempt);
        }
    }
}
