//! Who calls, and what they may do.
//!
//! ```text
//!   authorization: Bearer dss_<id>_<secret> ──▶ Authority::identify ──▶ Principal ──▶ authorize
//!                                                 (control group)                      (route)
//! ```
//!
//! The node that a client talks to decides, before it reads the body of a request. What it then
//! asks of other nodes it asks as a node: credentials do not travel.

mod authority;
mod credential;
mod failures;
mod principal;
mod validity;

pub(crate) use self::authority::{Authority, Denied};
pub(crate) use self::credential::{Credential, RandomnessError};
pub(crate) use self::principal::{Principal, authorize};
pub(crate) use self::validity::Validity;
