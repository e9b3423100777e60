use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// Listeners on free ports, and the cluster of nodes `n1`, `n2`, … that they make.
pub(crate) async fn cluster(size: usize) -> (ClusterConfig, Vec<TcpListener>) {
    let mut text = "cluster = 'test'\n".to_owned();
    let mut listeners = Vec::new();
    for number in 1..=size {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        text += &format!(
            "[[nodes]]\nid = 'n{number}'\nclient = '127.0.0.1:{number}'\npeer = '{peer}'\n"
        );
        listeners.push(listener);
    }
    (ClusterConfig::parse("test", &text).unwrap(), listeners)
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Remembers what arrives and answers requests by what they say.
#[derive(Default)]
struct Recorder {
    raft: Mutex<Vec<(NodeId, Bytes)>>,
    cache: Mutex<Vec<(NodeId, Bytes)>>,
    waiting: Arc<AtomicUsize>,
}

struct CountDown(Arc<AtomicUsize>);

impl Drop for CountDown {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Inbox for Recorder {
    fn raft(&self, from: NodeId, payload: Bytes) -> Result<(), Malformed> {
        if payload == "garbage" {
            return Err(Malformed("garbage"));
        }
        self.raft.lock().unwrap().push((from, payload));
        Ok(())
    }

    fn cache(&self, from: NodeId, payload: Bytes) -> Result<(), Malformed> {
        self.cache.lock().unwrap().push((from, payload));
        Ok(())
    }

    fn request(
        &self,
        _from: NodeId,
        _kind: RequestKind,
        payload: Bytes,
    ) -> Result<BoxFuture<'static, Bytes>, Malformed> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let counted = CountDown(self.waiting.clone());
        Ok(Box::pin(async move {
            let _counted = counted;
            match &payload[..] {
                b"wait" => std::future::pending().await,
                b"panic" => panic!("asked to"),
                _ => [&payload[..], &b"!"[..]].concat().into(),
            }
        }))
    }
}

struct TestNode {
    id: NodeId,
    peers: Peers,
    inbox: Arc<Recorder>,
}

async fn start(size: usize) -> (ClusterConfig, Vec<TestNode>) {
    let (config, listeners) = cluster(size).await;
    let nodes: Vec<TestNode> = config
        .nodes()
        .iter()
        .zip(listeners)
        .map(|(node, listener)| {
            let (peers, inbox) =
                (Peers::new(&config, node.id, None), Arc::new(Recorder::default()));
            peers.start(listener, inbox.clone());
            TestNode { id: node.id, peers, inbox }
        })
        .collect();
    eventually("all are connected to all", || {
        nodes.iter().all(|node| nodes.iter().all(|other| node.peers.is_up(other.id)))
    })
    .await;
    (config, nodes)
}

async fn call(from: &TestNode, to: &TestNode, what: &'static str) -> Result<Bytes, CallError> {
    let call = from.peers.call(to.id, RequestKind::Internal, Bytes::from(what));
    timeout(PATIENCE, call).await.unwrap()
}

#[tokio::test]
async fn messages_and_answers_arrive_in_order_between_all_nodes() {
    let (_, nodes) = start(3).await;
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.id != from.id) {
            for number in 0..100u8 {
                from.peers.send_frame(to.id, Frame::Raft(Bytes::from(vec![number])));
            }
            from.peers.send_cache(to.id, Bytes::from(vec![1; 1 << 20]));
            assert_eq!(call(from, to, "hello").await.unwrap(), "hello!");
        }
    }
    for node in &nodes {
        // The request behind them was answered: what came before has arrived too.
        let raft = node.inbox.raft.lock().unwrap().clone();
        for from in nodes.iter().filter(|from| from.id != node.id) {
            let numbers = raft.iter().filter(|(sender, _)| *sender == from.id);
            assert!(numbers.map(|(_, payload)| payload[0]).eq(0..100));
        }
        assert_eq!(node.inbox.cache.lock().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn garbage_closes_its_connection_and_nothing_else() {
    let (config, nodes) = start(2).await;
    let waiting = call(&nodes[0], &nodes[1], "wait");
    let probing = async {
        let long: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        for garbage in [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"\x01\x00\x00\x00\xff", &long] {
            let mut stray = TcpStream::connect(config.nodes()[1].peer.as_str()).await.unwrap();
            let _ = stray.write_all(garbage).await;
            let mut answer = Vec::new();
            // Closed, cleanly or not: what matters is that it is not kept.
            let _ = timeout(PATIENCE, stray.read_to_end(&mut answer)).await.unwrap();
            assert_eq!(answer, b"");
        }
    };
    tokio::select! {
        _ = waiting => panic!("the node's own connection was lost"),
        () = probing => {}
    }
    assert_eq!(call(&nodes[0], &nodes[1], "hello").await.unwrap(), "hello!");
    eventually("all three are counted", || nodes[1].peers.refused() == 3).await;
    assert_eq!(nodes[0].peers.refused(), 0);
}

#[tokio::test]
async fn a_node_that_sends_what_cannot_be_decoded_has_to_connect_again() {
    let (_, nodes) = start(2).await;
    let lost = call(&nodes[0], &nodes[1], "wait");
    let sending = async {
        eventually("it is there", || nodes[1].inbox.waiting.load(Ordering::SeqCst) == 1).await;
        nodes[0].peers.send_frame(nodes[1].id, Frame::Raft(Bytes::from("garbage")));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = lost => assert_eq!(ended, Err(CallError::Lost)),
        () = sending => {}
    }
    eventually("it is connected again", || nodes[0].peers.is_up(nodes[1].id)).await;
    assert_eq!(call(&nodes[0], &nodes[1], "hello").await.unwrap(), "hello!");
    eventually("what was under way has ended", || {
        nodes[1].inbox.waiting.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn dropping_a_call_cancels_it_at_the_other_side() {
    let (_, nodes) = start(2).await;
    let waiting = |count| {
        let inbox = nodes[1].inbox.clone();
        move || inbox.waiting.load(Ordering::SeqCst) == count
    };
    tokio::select! {
        _ = call(&nodes[0], &nodes[1], "wait") => panic!("answered"),
        () = eventually("it waits there", waiting(1)) => {}
    }
    eventually("it is cancelled there", waiting(0)).await;
}

#[tokio::test]
async fn a_panicking_handler_loses_its_own_request_only() {
    let (_, nodes) = start(2).await;
    assert_eq!(call(&nodes[0], &nodes[1], "panic").await, Err(CallError::Lost));
    assert_eq!(call(&nodes[0], &nodes[1], "hello").await.unwrap(), "hello!");
}

#[tokio::test]
async fn what_was_sent_to_a_node_that_dies_is_lost_and_what_comes_later_is_not_delivered() {
    let (_, nodes) = start(2).await;
    tokio::select! {
        ended = call(&nodes[0], &nodes[1], "wait") => assert_eq!(ended, Err(CallError::Lost)),
        () = async {
            eventually("it is there", || nodes[1].inbox.waiting.load(Ordering::SeqCst) == 1).await;
            nodes[1].peers.shutdown().await;
            std::future::pending::<()>().await;
        } => {}
    }
    eventually("it is down", || !nodes[0].peers.is_up(nodes[1].id)).await;
    assert_eq!(call(&nodes[0], &nodes[1], "hello").await, Err(CallError::Unreachable));
    let nobody = nodes[0].peers.call(NodeId::new(1), RequestKind::Internal, Bytes::new());
    assert_eq!(nobody.await, Err(CallError::Unreachable));
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_heard_goes_down_and_its_requests_are_lost() {
    let (config, mut listeners) = cluster(2).await;
    let (me, silent) = (config.nodes()[0].id, config.nodes()[1].id);
    let silent_listener = listeners.pop().unwrap();
    let peers = Peers::new(&config, me, None);
    peers.start(listeners.pop().unwrap(), Arc::new(Recorder::default()));
    let (mut tcp, _) = silent_listener.accept().await.unwrap();
    tcp.write_all(b"\x01\x00\x00\x00\x02").await.unwrap();
    eventually("it is welcomed", || peers.is_up(silent)).await;
    let lost = peers.call(silent, RequestKind::Internal, Bytes::from("x"));
    assert_eq!(timeout(PATIENCE, lost).await.unwrap(), Err(CallError::Lost));
    eventually("it is down", || !peers.is_up(silent)).await;
}
