//! Where a TCP connection becomes the stream that nodes talk over: encrypted by both nodes'
//! certificates, or TCP as it is.

use std::io;

use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_util::either::Either;

use crate::tls::{self, PeerTrust, Tls};

/// Why such a connection ends.
pub(super) const DISTRUSTED: &str = "nodes are believed by another authority from now on";

/// What frames travel on.
pub(super) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// What proves who connected.
pub(super) enum Proof {
    /// Nothing, since connections are not encrypted: whoever connects is believed.
    NotAsked,
    /// The certificate that it has shown, signed by the authority of the nodes.
    Certificate(CertificateDer<'static>),
}

impl Proof {
    /// Whether it proves that `node` connected.
    pub(super) fn is_of(&self, node: &str) -> bool {
        match self {
            Self::NotAsked => true,
            Self::Certificate(certificate) => tls::certifies(certificate, node),
        }
    }
}

/// Turns a connection to `node` into the stream. With TLS it is `node` that is at its other end.
pub(super) async fn dial(tcp: TcpStream, tls: Option<&Tls>, node: &str) -> io::Result<Stream> {
    prepare(&tcp)?;
    let Some(tls) = tls else { return Ok(Either::Left(tcp)) };
    let name = tls::name_of(node).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(Either::Right(tls.dialer().connect(name, tcp).await?.into()))
}

/// Turns a connection that was accepted into the stream.
pub(super) async fn accept(tcp: TcpStream, tls: Option<&Tls>) -> io::Result<(Stream, Proof)> {
    prepare(&tcp)?;
    let Some(tls) = tls else { return Ok((Either::Left(tcp), Proof::NotAsked)) };
    let stream = tls.peers().accept(tcp).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = certificate.ok_or(io::ErrorKind::PermissionDenied)?.clone().into_owned();
    Ok((Either::Right(stream.into()), Proof::Certificate(certificate)))
}

/// Waits until connections that began by this trust have to be made anew.
pub(super) async fn distrusted(trust: Option<PeerTrust>) {
    match trust {
        Some(trust) => trust.ended().await,
        None => std::future::pending().await,
    }
}

fn prepare(tcp: &TcpStream) -> io::Result<()> {
    // Frames are batched by their writer: what it flushes is meant to leave at once.
    tcp.set_nodelay(true)
}
