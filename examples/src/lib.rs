//! The example server of dss is in `cluster/`; its tests are in `tests/`. Here is what both kinds
//! of tests share.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// A port of this machine that a server to be started can listen at, restarts included.
///
/// Asking the system for any free port gives one of those that it also hands to outgoing
/// connections, one of which may have it by the time the server starts. These lie below, and every
/// process begins to look for one elsewhere.
///
/// # Panics
///
/// Where thousands of ports in a row are taken.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u32 = 12_000;
    const PORTS: u32 = 20_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(997);
    (0..PORTS)
        .map(|_| start.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % PORTS + FIRST)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("some port is free")
}
