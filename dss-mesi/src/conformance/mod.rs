//! Tests that any implementation of a port can be put to.

mod memory;
#[cfg(feature = "tokio")]
mod transport;

pub use self::memory::memory_conformance;
#[cfg(feature = "tokio")]
pub use self::transport::{Arrival, transport_conformance};
