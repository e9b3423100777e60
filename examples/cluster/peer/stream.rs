//! Where a TCP connection becomes the stream that nodes talk over: the place of TLS.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Which end of a connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that connected.
    Dialer,
    /// The one that accepted.
    Acceptor,
}

/// Turns a TCP connection into the stream that frames travel on: plain TCP. A handshake that
/// proves both nodes' identities and encrypts what follows belongs here and nowhere else.
#[expect(clippy::unused_async, reason = "a handshake on the stream waits for the other side")]
pub(super) async fn wrap(
    tcp: TcpStream,
    _side: Side,
) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
    // Frames are batched by their writer: what it flushes is meant to leave at once.
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
