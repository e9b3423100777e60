//! The audit log: who did what, in an order that cannot be changed unnoticed.
//!
//! ```text
//!   {"audit":1,"node":"n1","chain":"…","first":1,"previous":"00…","mac":"…"}
//!   {"sequence":1,"time":"…",…,"mac":m1}      m1 = HMAC(key, previous ‖ the line before its mac)
//!   {"sequence":2,"time":"…",…,"mac":m2}      m2 = HMAC(key, m1 ‖ …)
//! ```
//!
//! Each node writes its own, in JSON lines, one for each mutation and each refused request, made
//! durable before the request is answered: what a client was told is there. Requests that come
//! together share one write. Whoever changes, removes, swaps or adds a line without the key breaks
//! the chain there; whoever cuts lines off its end is found out by the head of the chain, which
//! the control group keeps. Files are begun anew at a size, and the chain goes on from one to the
//! next.

mod chain;
mod entry;
mod files;
mod heads;
mod log;
mod page;
#[cfg(test)]
pub(crate) mod testing;
mod verify;

pub(crate) use self::entry::{Entry, Outcome};
pub(crate) use self::heads::keep_heads;
pub(crate) use self::log::{AuditLog, OpenError, Record};
pub(crate) use self::page::{Page, page};
pub(crate) use self::verify::{Head, Verified, VerifyError, verify};

/// Where a node's audit log is, in the node's folder.
pub(crate) const FOLDER: &str = "audit";
