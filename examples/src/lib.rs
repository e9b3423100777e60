//! The example server of dss is in `cluster/`; its tests are in `tests/`. Here is what both kinds
//! of tests share.

pub mod random;

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
    const PORTS: u16 = 20_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    numbers(&TRIED, PORTS).map(|number| 12_000 + number).find(is_free).expect("some port is free")
}

/// The first of three ports in a row for the clients of three nodes, whose own ports lie a thousand
/// above. Nobody gets them from [`free_port`].
///
/// # Panics
///
/// Where hundreds of such ports are taken.
#[must_use]
pub fn free_ports_of_three_nodes() -> u16 {
    const PLACES: u16 = 300;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let are_free = |first: &u16| {
        (0..3).all(|node| is_free(&(first + node)) && is_free(&(first + 1_000 + node)))
    };
    numbers(&TRIED, PLACES).map(|place| 10_000 + 3 * place).find(are_free).expect("some are free")
}

/// Each number below `count` once, none of which was given to anybody else in this process before
/// all of them were; from another one on in each process.
fn numbers(tried: &AtomicU32, count: u16) -> impl Iterator<Item = u16> {
    let start = std::process::id().wrapping_mul(997);
    let next = move |_| start.wrapping_add(tried.fetch_add(1, Ordering::Relaxed));
    (0..count).map(next).filter_map(move |number| u16::try_from(number % u32::from(count)).ok())
}

fn is_free(port: &u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
}
