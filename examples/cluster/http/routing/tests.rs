use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::routing::any;
use http_body_util::BodyExt as _;

use super::*;

const HERE: NodeId = NodeId::new(1);
const THERE: NodeId = NodeId::new(2);
const THIRD: NodeId = NodeId::new(3);

/// What a node does with its first, second, … request; the last one stays.
type Script = Vec<Act>;

#[derive(Debug, Clone, Copy)]
enum Act {
    Answer,
    Elsewhere(Option<NodeId>),
    Unreachable,
    Lost,
    OutcomeUnknown,
    Hang,
}

/// Nodes that follow scripts, and how often each was asked.
#[derive(Debug, Default)]
struct Nodes {
    scripts: BTreeMap<NodeId, Script>,
    asked: Mutex<BTreeMap<NodeId, usize>>,
    cancelled: AtomicU32,
}

struct CountsCancelled<'a>(&'a AtomicU32);

impl Drop for CountsCancelled<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Nodes {
    fn new(scripts: impl IntoIterator<Item = (NodeId, Script)>) -> Arc<Self> {
        Arc::new(Self { scripts: scripts.into_iter().collect(), ..Self::default() })
    }

    fn asked(&self, node: NodeId) -> usize {
        self.asked.lock().unwrap().get(&node).copied().unwrap_or_default()
    }

    async fn ask(&self, node: NodeId) -> Result<Response<Body>, ForwardError> {
        let script = &self.scripts[&node];
        let turn = {
            let mut asked = self.asked.lock().unwrap();
            let turn = asked.entry(node).or_default();
            *turn += 1;
            *turn - 1
        };
        match script[turn.min(script.len() - 1)] {
            Act::Answer => Ok(node.to_string().into_response()),
            Act::Elsewhere(leader) => Ok(Elsewhere(leader).into_response()),
            Act::Unreachable => Err(ForwardError::Unreachable),
            Act::Lost => Err(ForwardError::Lost),
            Act::OutcomeUnknown => Ok(outcome_unknown()),
            Act::Hang => {
                let _counts = CountsCancelled(&self.cancelled);
                std::future::pending().await
            }
        }
    }

    fn routing(self: &Arc<Self>) -> Routing {
        let nodes = Arc::clone(self);
        let local = Router::new()
            .fallback(any(async move || nodes.ask(HERE).await.expect("a node reaches itself")));
        Routing::new(HERE, local, Arc::clone(self) as Arc<dyn Forward>)
    }
}

#[async_trait]
impl Forward for Nodes {
    fn knows(&self, _: NodeId) -> bool {
        true
    }

    async fn forward(
        &self,
        to: NodeId,
        _: Request<Bytes>,
    ) -> Result<Response<Bytes>, ForwardError> {
        let (head, body) = self.ask(to).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await.unwrap().to_bytes()))
    }
}

fn call(conduct: Conduct, body: &'static str) -> Call {
    let (head, ()) = Request::post("/v1/x").body(()).unwrap().into_parts();
    Call::new(conduct, &head, Bytes::from_static(body.as_bytes()))
}

/// The status, and the body where it is a success: the number of the node that answered.
async fn answer(nodes: &Arc<Nodes>, call: &Call) -> (u16, String) {
    let response = nodes.routing().answer(call).await;
    assert!(!response.headers().contains_key(ELSEWHERE), "the marker reached the client");
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body =
        if status.is_success() { String::from_utf8(body.to_vec()).unwrap() } else { String::new() };
    (status.as_u16(), body)
}

#[tokio::test(start_paused = true)]
async fn what_can_be_done_here_is_not_forwarded() {
    let nodes = Nodes::new([(HERE, vec![Act::Answer])]);
    assert_eq!(answer(&nodes, &call(Conduct::Acts, "")).await, (200, "1".into()));
}

#[tokio::test(start_paused = true)]
async fn the_leader_is_asked_at_once_also_where_the_hint_is_one_leader_old() {
    let nodes = Nodes::new([
        (HERE, vec![Act::Elsewhere(Some(THERE))]),
        (THERE, vec![Act::Elsewhere(Some(THIRD))]),
        (THIRD, vec![Act::Answer]),
    ]);
    let start = Instant::now();
    assert_eq!(answer(&nodes, &call(Conduct::Acts, "")).await, (200, "3".into()));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_election_is_waited_for() {
    let mut here = vec![Act::Elsewhere(None); 12];
    here.push(Act::Elsewhere(Some(THERE)));
    let nodes = Nodes::new([(HERE, here), (THERE, vec![Act::Answer])]);
    assert_eq!(answer(&nodes, &call(Conduct::Acts, "")).await, (200, "2".into()));
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_it_ends_after_about_five_seconds() {
    for (conduct, body) in
        [(Conduct::Acts, ""), (Conduct::Acquires, r#"{"wait_ms":600000,"request_id":"r"}"#)]
    {
        let nodes = Nodes::new([(HERE, vec![Act::Elsewhere(None)])]);
        let start = Instant::now();
        assert_eq!(answer(&nodes, &call(conduct, body)).await.0, 503);
        assert!(start.elapsed() > SEARCH_MAX * 9 / 10 && start.elapsed() <= SEARCH_MAX);
        assert!(nodes.asked(HERE) < 60, "asked {} times", nodes.asked(HERE));
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_that_name_each_other_are_not_asked_in_a_spin() {
    let nodes = Nodes::new([
        (HERE, vec![Act::Elsewhere(Some(THERE))]),
        (THERE, vec![Act::Elsewhere(Some(HERE))]),
    ]);
    assert_eq!(answer(&nodes, &call(Conduct::Acts, "")).await.0, 503);
    assert!(nodes.asked(HERE) + nodes.asked(THERE) < 200);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_not_there_gives_way_to_its_successor() {
    let nodes = Nodes::new([
        (HERE, vec![Act::Elsewhere(Some(THERE)), Act::Elsewhere(Some(THERE)), Act::Answer]),
        (THERE, vec![Act::Unreachable]),
    ]);
    assert_eq!(answer(&nodes, &call(Conduct::Acts, "")).await, (200, "1".into()));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_done_is_repeated_only_where_that_is_safe() {
    for lost in [Act::Lost, Act::OutcomeUnknown, Act::Hang] {
        for (conduct, body, expected) in [
            (Conduct::Reads, "", 200),
            (Conduct::Acquires, r#"{"request_id":"r"}"#, 200),
            (Conduct::Acquires, "{}", 504),
            (Conduct::Publishes, r#"{"messages":[{"dedupe_id":"d"}]}"#, 200),
            (Conduct::Receives, "{}", 504),
            (Conduct::Acts, "", 504),
        ] {
            let nodes = Nodes::new([
                (HERE, vec![Act::Elsewhere(Some(THERE)), Act::Answer]),
                (THERE, vec![lost]),
            ]);
            let (status, _) = answer(&nodes, &call(conduct, body)).await;
            assert_eq!(status, expected, "{lost:?} {conduct:?} {body}");
            assert_eq!(nodes.asked(THERE), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_done_is_never_said_to_be_surely_not_done() {
    let nodes = Nodes::new([
        (HERE, vec![Act::Elsewhere(Some(THERE)), Act::Elsewhere(None)]),
        (THERE, vec![Act::Lost]),
    ]);
    let acquire = call(Conduct::Acquires, r#"{"request_id":"r"}"#);
    assert_eq!(answer(&nodes, &acquire).await.0, 504);

    // A read changes nothing, so surely nothing was done.
    let nodes = Nodes::new([
        (HERE, vec![Act::Elsewhere(Some(THERE)), Act::Elsewhere(None)]),
        (THERE, vec![Act::Lost]),
    ]);
    assert_eq!(answer(&nodes, &call(Conduct::Reads, "")).await.0, 503);
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_waited_for_and_only_then_given_up() {
    let nodes = Nodes::new([(HERE, vec![Act::Elsewhere(Some(THERE))]), (THERE, vec![Act::Hang])]);
    let start = Instant::now();
    let acquire = call(Conduct::Acquires, r#"{"wait_ms":60000}"#);
    assert_eq!(answer(&nodes, &acquire).await.0, 504);
    assert_eq!(start.elapsed(), Duration::from_secs(60) + ATTEMPT_MAX);
    assert_eq!(nodes.cancelled.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_cancels_its_request_here_and_there() {
    for scripts in [
        vec![(HERE, vec![Act::Hang])],
        vec![(HERE, vec![Act::Elsewhere(Some(THERE))]), (THERE, vec![Act::Hang])],
    ] {
        let nodes = Nodes::new(scripts);
        let acquire = call(Conduct::Acquires, r#"{"wait_ms":60000}"#);
        let routing = nodes.routing();
        assert!(timeout(Duration::from_secs(1), routing.answer(&acquire)).await.is_err());
        assert_eq!(nodes.cancelled.load(Ordering::SeqCst), 1);
    }
}
