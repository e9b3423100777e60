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
    pub(super) reentries: Vec<(Option<u8>, Claims)>,
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

/// Whose answers are void, once something of a level has been taken back.
pub(super) enum Void {
    Nobodys,
    /// That of the request with this id.
    Of(u8),
    /// Those of all requests but these.
    AllBut(Vec<u8>),
}

impl Level {
    pub(super) fn enter(&mut self, attempt: AttemptId, request: Option<u8>) {
        self.entries += 1;
        self.reentries.push((request, Claims::of(attempt)));
        if self.reentries.len() > ATTEMPTS_KEPT {
            self.reentries.remove(0);
        }
    }

    /// A repeat is answered with what the first was.
    pub(super) fn repeat(&mut self, attempt: AttemptId, request: Option<u8>) {
        let mut reentries = self.reentries.iter_mut();
        match reentries.find(|(id, _)| request.is_some() && *id == request) {
            Some((_, claims)) => claims.add(attempt),
            None => self.claims.add(attempt),
        }
    }

    pub(super) fn knows(&self, attempt: AttemptId) -> bool {
        let mut all = self.reentries.iter().map(|(_, claims)| claims).chain([&self.claims]);
        all.any(|claims| claims.attempts.contains(&attempt))
    }

    /// Takes the attempt back. Without entries the level is gone; so is an upgrade that adds none to
    /// those below it.
    pub(super) fn take_back(&mut self, attempt: AttemptId, below: u32) -> Void {
        let hangs = |(_, claims): &mut (_, Claims)| claims.hang_on(attempt);
        if let Some((id, _)) = self.reentries.extract_if(.., hangs).next() {
            self.entries -= 1;
            return id.map_or(Void::Nobodys, Void::Of);
        }
        if self.claims.hang_on(attempt) {
            let counts = below == 0 || (self.entries - below) as usize > self.reentries.len();
            self.entries -= u32::from(counts);
            if self.entries == below && self.reentries.is_empty() {
                self.entries = 0;
            }
            self.claims = Claims { attempts: Vec::new(), settled: true };
            let others = self.reentries.iter().filter_map(|(id, _)| *id).collect();
            if !self.reentries.is_empty() {
                self.claims = self.reentries.remove(0).1;
            }
            return Void::AllBut(others);
        }
        self.claims.remove(attempt);
        for (_, claims) in &mut self.reentries {
            claims.remove(attempt);
        }
        Void::Nobodys
    }
}
