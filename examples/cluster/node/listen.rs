//! Ports that a node listens at.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

use crate::config::Address;

/// How many connections may wait to be accepted; the operating system may allow fewer. What comes
/// beyond is dropped without a word, and tried again by the other side after a second or more: a
/// crowd that comes back at once, as it does after a restart, should fit.
const BACKLOG: u32 = 4_096;

/// Listens at the first of the address's meanings that can be had. With it, whether only this
/// machine can reach it.
pub(super) async fn on(address: &Address) -> io::Result<(TcpListener, bool)> {
    let mut problem = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in lookup_host(address.as_str()).await? {
        match listen(address) {
            Ok(listener) => return Ok((listener, address.ip().to_canonical().is_loopback())),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port of which the last owner's connections linger can be taken again at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
