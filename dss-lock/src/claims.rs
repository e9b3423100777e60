//! Who is to hear of a wait or a grant.

use serde::{Deserialize, Serialize};

use crate::limits::CLAIMS_MAX;
use crate::numbers::AttemptId;

/// The acquires that one wait or one grant answers, and that have not been taken back.
///
/// Several, since repeats join a wait and since a lock that is asked for again answers the same
/// grant. A wait or grant that loses its last claim ends: nobody knows of it. It can only be
/// one of the last [`CLAIMS_MAX`] that is taken back: once there were more, an older one has
/// surely been answered, and the grant stays until it is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Claims {
    /// The usual case costs no allocation.
    One(AttemptId),
    Several(Box<Several>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Several {
    attempts: Vec<AttemptId>,
    settled: bool,
}

impl Claims {
    pub(crate) fn of(attempt: AttemptId) -> Self {
        Self::One(attempt)
    }

    /// Of a grant that all who asked for it have been told of.
    pub(crate) fn settled() -> Self {
        Self::Several(Box::new(Several { attempts: Vec::new(), settled: true }))
    }

    pub(crate) fn add(&mut self, attempt: AttemptId) {
        if self.contains(attempt) {
            return;
        }
        if let Self::One(first) = *self {
            let several = Several { attempts: vec![first], settled: false };
            *self = Self::Several(Box::new(several));
        }
        if let Self::Several(several) = self {
            if several.attempts.len() >= CLAIMS_MAX {
                several.attempts.remove(0);
                several.settled = true;
            }
            several.attempts.push(attempt);
        }
    }

    /// Takes `attempt` back; `true` where it is the last claim, which stays for the report of what
    /// ends with it.
    pub(crate) fn withdraw(&mut self, attempt: AttemptId) -> bool {
        let several = match self {
            Self::One(only) => return *only == attempt,
            Self::Several(several) => several,
        };
        let Some(place) = several.attempts.iter().position(|claim| *claim == attempt) else {
            return false;
        };
        several.attempts.remove(place);
        if let ([only], false) = (&several.attempts[..], several.settled) {
            // Equal claims look equal, however they came about.
            *self = Self::One(*only);
        }
        false
    }

    pub(crate) fn contains(&self, attempt: AttemptId) -> bool {
        self.attempts().contains(&attempt)
    }

    pub(crate) fn attempts(&self) -> &[AttemptId] {
        match self {
            Self::One(attempt) => std::slice::from_ref(attempt),
            Self::Several(several) => &several.attempts,
        }
    }

    /// Whether it could have come about by the calls above, and stands for something.
    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Self::One(_) => true,
            Self::Several(several) => {
                several.attempts.len() <= CLAIMS_MAX
                    && (several.settled || several.attempts.len() > 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(sequence: u64) -> AttemptId {
        AttemptId { term: 1, sequence }
    }

    #[test]
    fn the_last_claim_withdrawn_ends_it() {
        let mut claims = Claims::of(attempt(1));
        claims.add(attempt(2));
        assert!(!claims.withdraw(attempt(1)));
        assert!(!claims.withdraw(attempt(1)));
        assert!(claims.withdraw(attempt(2)));
    }

    #[test]
    fn a_claim_repeated_counts_once() {
        let mut claims = Claims::of(attempt(1));
        claims.add(attempt(1));
        assert!(claims.withdraw(attempt(1)));
    }

    #[test]
    fn more_claims_than_can_be_kept_settle_it() {
        let mut claims = Claims::of(attempt(0));
        for sequence in 1..=CLAIMS_MAX as u64 {
            claims.add(attempt(sequence));
        }
        assert_eq!(claims.attempts().len(), CLAIMS_MAX);
        for sequence in 0..=CLAIMS_MAX as u64 {
            assert!(!claims.withdraw(attempt(sequence)));
        }
        assert!(claims.is_valid());
    }
}
