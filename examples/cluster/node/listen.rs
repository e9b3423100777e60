//! Ports that a node listens at.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

use crate::config::Address;

/// How many connections may wait to be accepted; the operating system may allow fewer. What comes
/// beyond is dropped without a word, and tried again by the other side after a second or more: a
/// crowd that comes back at once, as it does after a restart, should fit.
const BACKLOG: u32 = 4_096;

/// How many bytes of answers the operating system takes for a client that has not taken them; it
/// counts some of its own, and doubles it for that. By itself it goes up to megabytes for each, and
/// the time in which they are encrypted for hundreds of clients that never read is time in which
/// nobody else is served. A distant client, of which every round trip takes 100 ms, still gets a
/// megabyte within a second.
pub(super) const CLIENT_SEND_BYTES: u32 = 128 << 10;

/// Listens at the first of the address's meanings that can be had. With it, whether only this
/// machine can reach it. With `send_bytes`, so much waits to be sent on each connection.
pub(super) async fn on(
    address: &Address,
    send_bytes: Option<u32>,
) -> io::Result<(TcpListener, bool)> {
    let mut problem = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in lookup_host(address.as_str()).await? {
        match listen(address, send_bytes) {
            Ok(listener) => return Ok((listener, address.ip().to_canonical().is_loopback())),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

fn listen(address: SocketAddr, send_bytes: Option<u32>) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port of which the last owner's connections linger can be taken again at once.
    socket.set_reuseaddr(true)?;
    // Connections have what their listener had.
    if let Some(bytes) = send_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    /// How much can be sent on a connection whose other side never reads.
    async fn sent_to_the_deaf(send_bytes: Option<u32>) -> usize {
        let listener = listen("127.0.0.1:0".parse().unwrap(), send_bytes).unwrap();
        let _deaf = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut sent = 0;
        while timeout(Duration::from_millis(300), stream.writable()).await.is_ok() {
            sent += stream.try_write(&[0; 16 << 10]).unwrap_or_default();
        }
        sent
    }

    #[tokio::test]
    async fn little_is_kept_for_a_client_that_does_not_read() {
        let sent = sent_to_the_deaf(Some(CLIENT_SEND_BYTES)).await;
        // What the other side's operating system takes comes on top.
        assert!((100_000..1_000_000).contains(&sent), "{sent}");
        let without = sent_to_the_deaf(None).await;
        assert!(without > sent, "{without}");
    }
}
