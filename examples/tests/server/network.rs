//! The network between the nodes, where it can be cut in one direction.
//!
//! A node reaches each of the others through a proxy of its own, and opens a connection there for
//! what it has to say; on it come the answers. So there are two ways from a node to another:
//!
//! ```text
//!    n1 ── messages, requests ──▶ proxy of n1 to n2 ──▶ n2
//!       ◀────── its answers ─────                   ◀──
//!    n1 ◀── messages, requests ── proxy of n2 to n1 ◀── n2
//!       ─────── its answers ────▶                   ──▶
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const BUFFER_BYTES: usize = 64 << 10;

/// What is held up on the way from one node to another, until it is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) what: Held,
}

/// How much of what goes one way is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// What the node says, but not what it answers. The other direction stays as it is for as long
    /// as the cut lasts.
    Messages,
    /// Everything, as where packets are lost. In the other direction things go on until that node
    /// gives up a connection on which it hears nothing, and cannot make it anew.
    Everything,
}

/// The proxies. They end with this value.
pub(crate) struct Network {
    proxies: BTreeMap<(usize, usize), SocketAddr>,
    cut: watch::Sender<Option<Cut>>,
    said: Arc<BTreeMap<(usize, usize), AtomicU64>>,
    _running: JoinSet<()>,
}

impl Network {
    /// Proxies from each node to each other one, which are at these addresses.
    pub(crate) async fn between(nodes: &[String]) -> Self {
        let pairs = (0..nodes.len()).flat_map(|from| (0..nodes.len()).map(move |to| (from, to)));
        let pairs: Vec<_> = pairs.filter(|(from, to)| from != to).collect();
        let said = Arc::new(pairs.iter().map(|pair| (*pair, AtomicU64::new(0))).collect());
        let (cut, _) = watch::channel(None);
        let (mut proxies, mut running) = (BTreeMap::new(), JoinSet::new());
        for (from, to) in pairs {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("some port is free");
            proxies.insert((from, to), listener.local_addr().expect("it listens"));
            let proxy = Proxy { from, to, cut: cut.subscribe(), said: Arc::clone(&said) };
            running.spawn(proxy.serve(listener, nodes[to].clone()));
        }
        Self { proxies, cut, said, _running: running }
    }

    /// Where `from` reaches `to`.
    pub(crate) fn address(&self, from: usize, to: usize) -> SocketAddr {
        self.proxies[&(from, to)]
    }

    /// Holds this up, and nothing else.
    pub(crate) fn cut(&self, cut: Cut) {
        self.cut.send_replace(Some(cut));
    }

    /// Lets everything through, what was held up too, where its connection is still wanted.
    pub(crate) fn heal(&self) {
        self.cut.send_replace(None);
    }

    /// How many bytes of messages and requests have come from one node to another.
    pub(crate) fn said(&self, from: usize, to: usize) -> u64 {
        self.said[&(from, to)].load(Ordering::Relaxed)
    }
}

/// The way that one node reaches another.
#[derive(Clone)]
struct Proxy {
    from: usize,
    to: usize,
    cut: watch::Receiver<Option<Cut>>,
    said: Arc<BTreeMap<(usize, usize), AtomicU64>>,
}

impl Proxy {
    async fn serve(self, listener: TcpListener, node: String) {
        let mut connections = JoinSet::new();
        while let Ok((dialed, _)) = listener.accept().await {
            let (proxy, node) = (self.clone(), node.clone());
            connections.spawn(async move {
                // A node that does not run refuses, and so does its proxy.
                if let Ok(reached) = TcpStream::connect(node).await {
                    proxy.connect(dialed, reached).await;
                }
            });
            while connections.try_join_next().is_some() {}
        }
    }

    async fn connect(self, mut dialed: TcpStream, mut reached: TcpStream) {
        let _ = (dialed.set_nodelay(true), reached.set_nodelay(true));
        let ((dialed_in, dialed_out), (reached_in, reached_out)) =
            (dialed.split(), reached.split());
        let (from, to) = (self.from, self.to);
        let messages = carry(
            dialed_in,
            reached_out,
            self.cut.clone(),
            |cut| (cut.from, cut.to) == (from, to),
            |bytes| {
                self.said[&(from, to)].fetch_add(bytes, Ordering::Relaxed);
            },
        );
        let answers = carry(
            reached_in,
            dialed_out,
            self.cut.clone(),
            |cut| (cut.from, cut.to) == (to, from) && cut.what == Held::Everything,
            |_| {},
        );
        // Not the first of them: that a connection has ended is not seen across a cut either.
        let _ = tokio::join!(messages, answers);
    }
}

/// Carries bytes one way, and in the end that there are no more; nothing while `is_held`.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut cut: watch::Receiver<Option<Cut>>,
    is_held: impl Fn(&Cut) -> bool,
    carried: impl Fn(u64),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        // An error is an end too.
        let length = from.read(&mut buffer).await.unwrap_or(0);
        if cut.wait_for(|cut| !cut.as_ref().is_some_and(&is_held)).await.is_err() {
            return Ok(());
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
        carried(length as u64);
    }
}
