//! Who takes part, and until when each member may act: views, and leases on them.
//!
//! A member acts (serves reads, acknowledges writes, sends grants as a home) only while it holds a
//! lease, and a view without it begins only after its lease is certainly over. Three values, each
//! deterministic, with time as an argument:
//!
//! ```text
//!  every node               the leader of the group             each member
//!  ┌───────────┐  view      ┌──────────────┐     renewal        ┌─────────────┐
//!  │ ViewTable │───────────▶│ LeaseGranter │◀───────────────────│ LeaseHolder │
//!  └───────────┘            └──────────────┘───────────────────▶└─────────────┘
//!        ▲                         │        lease, after a read
//!        └── TakeOffice, Remove ───┘        has confirmed leadership
//! ```
//!
//! - [`ViewTable`] is replicated: a log of joins and removals gives every node the same views.
//! - [`LeaseGranter`] lives in the memory of whoever leads the group that replicates the table. A
//!   grant takes two steps, so that the second cannot be forgotten: [`handle_renewal`] takes note
//!   of when the renewal arrived, and [`grant`] wants what a linearizable read *begun after that*
//!   has returned.
//! - [`LeaseHolder`] lives on every member and says how long it may act and when to renew.
//!
//! # Why it is safe
//!
//! Clocks need not agree on the time, only about its pace: each runs at a rate between 1 − ρ and
//! 1 + ρ (ρ is the *drift* of the [`LeaseConfig`]). *L* is the lease, *E* the election timeout of
//! the group. A member sends a renewal at *s* and it arrives at the leader at *r* ≥ *s*:
//!
//! | who | counts from | on its own clock | in real time |
//! | --- | --- | --- | --- |
//! | holder acts until | *s*, the sending | *L*(1 − ρ) − margin | at most *L* − margin |
//! | granter takes the lease for over after | *r*, the receipt | *L*(1 + ρ) | at least *L* |
//! | a voter elects another leader after | hearing of this one, after *r* | *E* | at least *E*/(1 + ρ) |
//! | granter proposes the removal after | *r*, the receipt | *L*(1 + ρ) + patience | later still |
//!
//! So the holder is always done first, by at least the margin, however long the messages travel:
//! a grant that arrives late only leaves less of the lease. The margin pays for a clock that is
//! read through a coarse tick and for the time between a check and its effect. Patience has
//! nothing to do with safety: during it the member does not act, and a renewal lets it go on.
//!
//! The rest is about leaders, of which more than one may believe to lead:
//!
//! | event | why no lease outlives what the leader in office believes |
//! | --- | --- |
//! | a deposed leader grants | It cannot: it was still leader of its term after a read begun after *r*. A grant therefore means that a majority heard of *this* leader after *r*. |
//! | a leader is elected by time-out | Some voter is of that majority and waited *E* from then on, and *L*(1 + ρ) < *E* (the [`LeaseConfig`] insists): every lease was over at the election. |
//! | a leader takes over by transfer | Voters did not wait, but *r* is before the election, so the new leader waits one *L*(1 + ρ) from there. This goes for members too that it learns of only later. |
//! | a removal is under way | From [`handle_timeout`] on, the granter refuses the member until a view has decided. |
//! | a removal is late: its leader was deposed | Removals name the term of their leader, and count only while that one is *in office*, which is in the table too. A leader grants only once a read says that it is in office itself. So a removal by an earlier leader has either been seen by that read, or has no effect. |
//! | a member restarts | It joins as a new life. The old one is replaced at once, since a new life begins only when the old process is gone (the lock on its data folder makes sure). |
//! | a removed life comes back | It does not: the table remembers the newest life of each node. |
//! | a member leaves | It [surrenders](LeaseHolder::surrender) first and proposes to leave then. |
//!
//! Nothing else may end a life: whoever removes a member whose lease runs has two owners of a line.
//! All nodes need the same [`LeaseConfig`], since a leader waits for the leases of another.
//! And clocks must count the time that a machine is suspended, or the driver must drop the lease
//! when it finds that the machine was.
//!
//! [`handle_renewal`]: LeaseGranter::handle_renewal
//! [`grant`]: LeaseGranter::grant
//! [`handle_timeout`]: LeaseGranter::handle_timeout

mod config;
mod granter;
mod holder;
#[cfg(test)]
mod simulation;
mod table;

pub use config::{LeaseConfig, LeaseConfigError};
pub use granter::{LeaseGranter, Refused, Renewal};
pub use holder::LeaseHolder;
pub use table::{ViewCommand, ViewDecodeError, ViewTable};
