//! How nodes talk to each other: one TCP connection from each to every other, kept up, carrying
//! Raft envelopes, messages of the cache protocol, and requests with their answers as frames.
//!
//! ```text
//!   dialer                                  acceptor
//!     | Hello: cluster, from, to       -->     |  Welcome, or Refused and the end
//!     | Raft, Cache, Request, Cancel   -->     |
//!     |                                <--     |  Answer, Declined, Failed
//!     | Ping, when idle               <-->     |  Ping, when idle
//! ```
//!
//! A message may be lost: Raft and the cache protocol repeat what matters. A request is not
//! repeated; its caller learns whether it surely was not begun or may have been. The frames need
//! nothing of the stream but order: [`stream`] is where an encrypted one begins.

mod frame;
mod handshake;
mod incoming;
mod link;
mod outgoing;
mod stream;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use dss_raft::{Envelope, NodeId, Transport};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::frame::{FRAME_BYTES_MAX, Frame, FrameReader, FrameWriter, HANDSHAKE_BYTES_MAX};
use self::handshake::{HandshakeError, Hello};
use self::link::Link;
use crate::config::{ClusterConfig, NodeConfig};
use crate::members::Members;
use crate::tls::Tls;

pub(crate) use self::frame::RequestKind;
pub(crate) use self::incoming::{Inbox, Malformed};
pub(crate) use self::outgoing::CallError;

/// After this long without a byte the other side counts as gone: four pings.
const SILENCE_MAX: Duration = outgoing::PING_INTERVAL.saturating_mul(4);
/// How long connecting and greeting may take together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// How many connections may be in their handshake at once.
const HANDSHAKES_MAX: usize = 64;
/// The pause after the operating system refuses to accept: it is out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The other nodes of the cluster.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Inner>);

struct Inner {
    me: NodeId,
    cluster: String,
    /// One to each other node that can be reached at the moment.
    links: RwLock<BTreeMap<NodeId, Arc<Link>>>,
    /// What the cluster's file calls them, this one included.
    names: BTreeMap<NodeId, String>,
    tls: Option<Tls>,
    /// Whether this node keeps to itself.
    isolated: watch::Sender<bool>,
    /// How many have connected to this node that have not proved to be another one.
    refused: AtomicU64,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Peers {
    /// The other nodes, as `me` sees them. Nothing is connected before [`start`](Self::start), and
    /// everything is encrypted then if there is something to do it with.
    pub(crate) fn new(config: &ClusterConfig, me: NodeId, tls: Option<Tls>) -> Self {
        let peers = Self(Arc::new(Inner {
            me,
            cluster: config.cluster().to_owned(),
            links: RwLock::default(),
            names: config.nodes().iter().map(|node| (node.id, node.name.clone())).collect(),
            tls,
            isolated: watch::Sender::default(),
            refused: AtomicU64::default(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }));
        for node in config.nodes().iter().filter(|node| node.id != me) {
            peers.add(node.clone());
        }
        peers
    }

    /// A link to a node, which is not kept up yet.
    fn add(&self, node: NodeConfig) -> Arc<Link> {
        let cluster = self.0.cluster.clone();
        let hello = Hello { cluster, from: self.0.me.get(), to: node.id.get() };
        let id = node.id;
        let link = Arc::new(Link::new(node, hello, self.0.tls.clone()));
        self.links_mut().insert(id, Arc::clone(&link));
        link
    }

    /// Connects to all others and serves whoever connects to `listener`.
    pub(crate) fn start(&self, listener: TcpListener, inbox: Arc<dyn Inbox>) {
        let links: Vec<_> = self.links().values().cloned().collect();
        for link in links {
            self.keep(link);
        }
        let peers = self.clone();
        self.spawn(async move { peers.accept(listener, inbox).await });
    }

    /// Keeps a link up until its node is not to be reached any more.
    fn keep(&self, link: Arc<Link>) {
        let peers = self.clone();
        self.spawn(async move {
            let kept = async {
                loop {
                    peers.until_isolated(link.keep()).await;
                    peers.healed().await;
                }
            };
            tokio::select! {
                () = kept => {}
                () = link.let_go() => {}
            }
        });
    }

    /// From here on, whoever belongs to the cluster is reached, and nobody else.
    pub(crate) fn follow(&self, members: Members) {
        let peers = self.clone();
        self.spawn(async move {
            let mut decided = members.decided();
            loop {
                decided.mark_unchanged();
                peers.reach(&members.nodes());
                // The group of the members has ended where this fails.
                if decided.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Reaches these nodes and no others.
    fn reach(&self, nodes: &[NodeConfig]) {
        let wanted = |link: &Link| nodes.iter().any(|node| link.is_to(node));
        let mut dropped = Vec::new();
        self.links_mut().retain(|_, link| {
            let is_wanted = wanted(link);
            if !is_wanted {
                dropped.push(Arc::clone(link));
            }
            is_wanted
        });
        for link in dropped {
            tracing::info!(node = link.name(), "is not reached any more");
            link.drop_it();
        }
        for node in nodes.iter().filter(|node| node.id != self.0.me) {
            if !self.links().contains_key(&node.id) {
                tracing::info!(node = %node.name, peer = %node.peer, "is reached from here on");
                self.keep(self.add(node.clone()));
            }
        }
    }

    fn links(&self) -> RwLockReadGuard<'_, BTreeMap<NodeId, Arc<Link>>> {
        self.0.links.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn links_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<NodeId, Arc<Link>>> {
        self.0.links.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        self.links().get(&node).cloned()
    }

    /// Ends every connection. Requests under way end as lost.
    pub(crate) async fn shutdown(&self) {
        self.0.stopping.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Ends the connections to all others and lets nobody in, until it is called with `false`: as if
    /// the network were cut.
    pub(crate) fn isolate(&self, isolated: bool) {
        self.0.isolated.send_replace(isolated);
    }

    /// Does something that ends where this node is isolated.
    async fn until_isolated<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut isolated = self.0.isolated.subscribe();
        tokio::select! {
            biased;
            _ = isolated.wait_for(|isolated| *isolated) => None,
            done = work => Some(done),
        }
    }

    /// Waits until this node is not isolated.
    async fn healed(&self) {
        let mut isolated = self.0.isolated.subscribe();
        isolated.wait_for(|isolated| !*isolated).await.expect("its sender is held by this value");
    }

    /// What people call `node`, as far as this node can reach it, or its file names it.
    pub(crate) fn name(&self, node: NodeId) -> String {
        let linked = self.link(node).map(|link| link.name().to_owned());
        linked.or_else(|| self.0.names.get(&node).cloned()).unwrap_or_else(|| node.to_string())
    }

    /// Whether `node` belongs to the cluster, connected or not, and is not this one.
    pub(crate) fn knows(&self, node: NodeId) -> bool {
        self.links().contains_key(&node)
    }

    /// Whether this node is connected to `node`; it always is to itself.
    pub(crate) fn is_up(&self, node: NodeId) -> bool {
        node == self.0.me || self.link(node).is_some_and(|link| link.is_up())
    }

    /// How many have connected to this node that have not proved to be another one.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Asks `node` something and waits for its answer, however long it takes: only the loss of
    /// the connection ends it. Dropping the future cancels the request at the other side.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        kind: RequestKind,
        payload: Bytes,
    ) -> Result<Bytes, CallError> {
        match self.link(node) {
            Some(link) => link.call(kind, payload).await,
            None => Err(CallError::Unreachable),
        }
    }

    /// Sends an encoded message of the cache protocol. It may be lost.
    pub(crate) fn send_cache(&self, to: NodeId, message: Bytes) {
        self.send_frame(to, Frame::Cache(message));
    }

    fn send_frame(&self, to: NodeId, frame: Frame) {
        if let Some(link) = self.link(to) {
            link.send(frame);
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.0.stopping.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = task => {}
            }
        });
    }

    async fn accept(self, listener: TcpListener, inbox: Arc<dyn Inbox>) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let permit = handshakes.clone().acquire_owned().await.expect("it is never closed");
            let (tcp, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("cannot accept a node's connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (peers, inbox) = (self.clone(), inbox.clone());
            self.spawn(async move {
                // While this node is isolated, whoever connects hears nothing, as where packets are
                // lost.
                if tokio::time::timeout(HANDSHAKE_TIMEOUT, peers.healed()).await.is_err() {
                    return;
                }
                let served = peers.until_isolated(peers.serve(tcp, &inbox, permit)).await;
                if let Some(Err(error)) = served {
                    tracing::warn!(%address, "closed a connection on the peer port: {error}");
                }
            });
        }
    }

    async fn serve(
        &self,
        tcp: TcpStream,
        inbox: &Arc<dyn Inbox>,
        permit: tokio::sync::OwnedSemaphorePermit,
    ) -> Result<(), HandshakeError> {
        let tls = self.0.tls.as_ref();
        let trust = tls.map(Tls::trust);
        let attempt = async {
            let (stream, proof) = stream::accept(tcp, tls).await.map_err(HandshakeError::Tls)?;
            let (reader, writer) = tokio::io::split(stream);
            let mut reader = FrameReader::new(reader, HANDSHAKE_BYTES_MAX, SILENCE_MAX);
            let mut writer = FrameWriter::new(writer);
            let may_connect = |node| match self.link(node) {
                Some(link) if proof.is_of(link.name()) => Ok(()),
                Some(_) => Err("the certificate is not that of the node"),
                None => Err(handshake::NOT_A_MEMBER),
            };
            let Inner { cluster, me, .. } = &*self.0;
            let from =
                handshake::receive(&mut reader, &mut writer, cluster, *me, may_connect).await?;
            reader.allow(FRAME_BYTES_MAX);
            Ok::<_, HandshakeError>((from, reader, writer))
        };
        let attempted = match tokio::time::timeout(HANDSHAKE_TIMEOUT, attempt).await {
            Ok(attempted) => attempted,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        };
        if attempted.is_err() {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        let (from, reader, writer) = attempted?;
        drop(permit);
        let Some(link) = self.link(from) else { return Ok(()) };
        tokio::select! {
            served = incoming::serve(from, inbox, reader, writer) => Ok(served?),
            () = link.let_go() => Ok(()),
            () = stream::distrusted(trust) => Err(HandshakeError::Wrong(stream::DISTRUSTED)),
        }
    }
}

impl Transport for Peers {
    fn send(&self, to: NodeId, envelope: Envelope) {
        self.send_frame(to, Frame::Raft(envelope.encode()));
    }
}

#[cfg(test)]
pub(crate) mod tests;
