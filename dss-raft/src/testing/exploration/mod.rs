//! Every order of events of small groups, breadth first: the real cores, with their disks and their
//! messages.
//!
//! Any message on its way may arrive next, late, or never; a write becomes durable at any time after
//! it was asked for, or is lost in a crash; a node campaigns whenever it may. The bounds are those of
//! a [`Plan`](plan::Plan): how many terms, commands, crashes, repeated messages, changes of the
//! members.
//!
//! Three things make it smaller, and leave out nothing that could go wrong:
//!
//! - Time passes as it likes, at each node by itself, so nothing depends on how much of it has. A
//!   vote is asked for as if its receiver had not heard from a leader for long: where it has, it
//!   refuses, which is as if the question were lost.
//! - A node that campaigns has been promised the votes of all in a pre-vote: those only keep nodes
//!   from campaigning, and the properties must hold without.
//! - The first node to campaign is the first, where the nodes are alike.
//!
//! The tests look at a bounded number of states; `DSS_EXPLORE=full` looks at all of them, or
//! thirty million, and `DSS_EXPLORE=n` at `n` of each plan.

mod cluster;
mod fingerprint;
mod machine;
mod monitor;
mod plan;
mod search;
mod tests;
