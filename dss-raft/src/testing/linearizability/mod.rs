//! Whether what clients were told is what one machine could have told them that does one thing at
//! a time, each at some moment between its call and its return (Herlihy and Wing 1990).
//!
//! [`History`] records calls and returns; [`History::check`] looks for an order. Calls of which no
//! client ever heard again may have taken effect at any time since, or never. [`Model`] says what
//! the machine is.
//!
//! ```
//! use dss_raft::testing::{History, Model};
//!
//! /// A number that is read and written.
//! struct Register;
//!
//! #[derive(Debug)]
//! enum Operation {
//!     Read,
//!     Write(u64),
//! }
//!
//! impl Model for Register {
//!     type Key = ();
//!     type State = u64;
//!     type Operation = Operation;
//!     type Reply = u64;
//!
//!     fn key(_: &Operation) {}
//!
//!     fn initial((): &()) -> u64 {
//!         0
//!     }
//!
//!     fn apply(state: &mut u64, operation: &Operation) -> u64 {
//!         if let Operation::Write(value) = operation {
//!             *state = *value;
//!         }
//!         *state
//!     }
//! }
//!
//! let mut history = History::<Register>::new();
//! let write = history.call(Operation::Write(1)); // and nothing more is heard of it
//! let read = history.call(Operation::Read);
//! history.returned(read, 1);
//! assert!(history.check().is_ok());
//!
//! let late = history.call(Operation::Read);
//! history.returned(late, 0); // a stale read: 1 was read before it was called
//! assert!(history.check().is_err());
//! ```

mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Debug;

use search::Search;

/// The machine that clients believe to talk to.
pub trait Model {
    /// What operations are told apart by: those of different keys have nothing to do with each
    /// other, so each key has a history of its own (P-compositionality), and short histories are
    /// what makes the search fast. `()` where there is but one.
    type Key: Ord + Clone + Debug;
    /// The state of the machine, of one key.
    type State: Ord + Clone;
    /// What a client asks for.
    type Operation: Debug;
    /// What it is told.
    type Reply: PartialEq + Debug;

    /// The key of an operation.
    fn key(operation: &Self::Operation) -> Self::Key;

    /// The state of a key before the first operation.
    fn initial(key: &Self::Key) -> Self::State;

    /// Does one operation, and says what its client is told.
    fn apply(state: &mut Self::State, operation: &Self::Operation) -> Self::Reply;

    /// Whether an operation changes no state, whatever it is. Only a help: the search is faster where
    /// it knows.
    fn is_read(operation: &Self::Operation) -> bool {
        let _ = operation;
        false
    }
}

/// Names a call in its [`History`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(usize);

/// What clients asked for and were told, in the order in which that happened.
#[derive(Debug)]
pub struct History<M: Model> {
    calls: Vec<Call<M>>,
    /// How many calls and returns there were: the time by which they are ordered.
    events: u64,
}

#[derive(Debug)]
struct Call<M: Model> {
    operation: M::Operation,
    called: u64,
    ended: End<M::Reply>,
}

#[derive(Debug)]
enum End<R> {
    /// Whether it took effect is not known, and it may still do so.
    Open,
    Returned(u64, R),
    /// It never takes effect.
    Withdrawn,
}

/// Why a [`History`] is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotLinearizable {
    /// No order explains what clients were told.
    #[error(
        "key {key}: no order of {calls} calls explains more than {explained}, and then one of {next:?}"
    )]
    NoOrder {
        /// The key, as it prints.
        key: String,
        /// How many calls returned.
        calls: usize,
        /// The most of them that an order explains.
        explained: usize,
        /// One of which must come next there, and none can: the calls, with their replies, as they
        /// print.
        next: Vec<String>,
    },
    /// So many orders were tried in vain that the search was given up.
    #[error("key {key}: no order was found among the first {tried}")]
    Undecided {
        /// The key, as it prints.
        key: String,
        /// How many.
        tried: usize,
    },
}

impl<M: Model> Default for History<M> {
    fn default() -> Self {
        Self { calls: Vec::new(), events: 0 }
    }
}

impl<M: Model> History<M> {
    /// Nothing has happened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A client asks for something.
    pub fn call(&mut self, operation: M::Operation) -> CallId {
        self.events += 1;
        self.calls.push(Call { operation, called: self.events, ended: End::Open });
        CallId(self.calls.len() - 1)
    }

    /// A client is told what came of a call. Only the first time counts.
    pub fn returned(&mut self, call: CallId, reply: M::Reply) {
        self.events += 1;
        if let Some(call) = self.calls.get_mut(call.0)
            && matches!(call.ended, End::Open)
        {
            call.ended = End::Returned(self.events, reply);
        }
    }

    /// A client is told that a call neither took effect nor ever will.
    pub fn withdrawn(&mut self, call: CallId) {
        if let Some(call) = self.calls.get_mut(call.0)
            && matches!(call.ended, End::Open)
        {
            call.ended = End::Withdrawn;
        }
    }

    /// How many calls there were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there was no call.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Looks for an order of the calls that explains every reply.
    ///
    /// Wing and Gong's search (1993) with Lowe's memory of where it has been (2017), for each key
    /// by itself. Fast for histories with few calls at once; in the worst case exponential in the
    /// calls that overlap, so it gives up after a million steps.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn check(&self) -> Result<(), NotLinearizable> {
        let mut searches: BTreeMap<M::Key, Search<'_, M>> = BTreeMap::new();
        for call in &self.calls {
            let search = searches.entry(M::key(&call.operation)).or_default();
            match &call.ended {
                End::Open => search.add_open(call.called, &call.operation),
                End::Returned(at, reply) => {
                    search.add_returned(call.called, *at, &call.operation, reply);
                }
                End::Withdrawn => {}
            }
        }
        searches.into_iter().try_for_each(|(key, search)| search.run(&key))
    }
}
