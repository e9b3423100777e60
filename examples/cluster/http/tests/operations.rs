//! What operators and load balancers ask.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use serde_json::json;

use super::cluster::Cluster;

#[tokio::test(start_paused = true)]
async fn health_and_readiness_are_plain() {
    let client = Cluster::start(1).await.client(0);
    let health = client.get("/healthz").await;
    assert_eq!((health.status, health.text()), (200, "ok"));
    assert_eq!(client.get("/readyz").await.status, 200);
    let head = client.ask(Method::HEAD, "/healthz", "").await;
    assert_eq!((head.status, head.text()), (200, ""));
}

#[tokio::test(start_paused = true)]
async fn status_shows_the_cluster() {
    let cluster = Cluster::start(1).await;
    assert_eq!(cluster.leader_of_locks().await, 0);
    let client = cluster.client(0);
    let status = client.get("/v1/status").await.json(200);
    assert_eq!(status["node"], "n1");
    let raft = &status["raft"];
    assert_eq!((&raft["role"], &raft["leader"]), (&json!("leader"), &json!("n1")));
    assert_eq!((&raft["voters"], &raft["learners"]), (&json!(["n1"]), &json!([])));
    for figure in ["term", "commit_index", "applied_index", "last_index"] {
        assert!(raft[figure].is_u64(), "{figure} of {raft}");
    }
    let figures = ["role", "term", "leader", "commit_index", "applied_index", "last_index"];
    let of_locks = &status["groups"][0];
    assert_eq!(of_locks["group"], "locks");
    assert!(figures.iter().all(|figure| of_locks[figure] == raft[figure]), "{status}");
    let members = |part: &serde_json::Value| part.as_object().unwrap().len();
    assert_eq!((members(of_locks), members(raft)), (figures.len() + 1, figures.len() + 2));
    let nodes = json!([
        {"id": "n1", "url": "http://127.0.0.1:8001", "up": true, "state": "member"},
        {"id": "n2", "url": "http://127.0.0.1:8002", "up": false, "state": "joining"},
        {"id": "n3", "url": "http://127.0.0.1:8003", "up": false, "state": "joining"},
    ]);
    assert_eq!(status["nodes"], nodes);
}

#[tokio::test(start_paused = true)]
async fn the_ring_places_keys_where_the_cache_does() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client(0);
    let ring = client.get("/v1/ring").await.json(200);
    let nodes = ring["nodes"].as_array().unwrap();
    let total: f64 = nodes.iter().map(|node| node["share"].as_f64().unwrap()).sum();
    assert!(nodes.len() == 3 && (total - 1.0).abs() < 1e-6, "{ring}");
    assert_eq!((&ring["owner"], &ring["replicas"]), (&json!(null), &json!([])));
    for key in ["a", "b%2Fc", "d"] {
        let placed = client.get(&format!("/v1/ring?key={key}")).await.json(200);
        let line = client.get(&format!("/v1/cache/{key}/line")).await.json(200);
        assert_eq!(placed["owner"], line["home"]);
        let replicas: BTreeSet<_> =
            placed["replicas"].as_array().unwrap().iter().map(|node| node.as_str()).collect();
        assert_eq!((replicas.len(), &placed["replicas"][0]), (3, &placed["owner"]));
    }
}

/// Reads the exposition format strictly: every sample belongs to a family that was described
/// before it, no series comes twice, every value is a number.
fn series(text: &str) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut series = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(
                ["counter", "gauge", "histogram"].contains(&kind) && helped.contains(name),
                "{line}"
            );
            kinds.insert(name.to_owned(), kind.to_owned());
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|family| kinds.get(*family).is_some_and(|kind| kind == "histogram"))
                .unwrap_or(name);
            let kind = kinds.get(family).unwrap_or_else(|| panic!("{line} is not described"));
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(name.starts_with("dss_"), "{line}");
            let value: f64 = value.parse().unwrap();
            assert!(series.insert(sample.to_owned(), value).is_none(), "{line} comes twice");
        }
    }
    series
}

#[tokio::test(start_paused = true)]
async fn metrics_are_valid_and_bounded() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    // Only whoever leads a shard tells of its messages, so there must be a leader first.
    client.post("/v1/queues/q/messages", r#"{"messages":[{"payload":"1"}]}"#).await.json(201);
    let before = series(client.get("/metrics").await.text());
    for number in 0..50 {
        client.get(&format!("/v1/cache/key-{number}")).await.problem(404, "not_found");
        client.get(&format!("/v1/nothing/{number}")).await.problem(404, "not_found");
        let acquire = json!({"session": format!("s-{number}")}).to_string();
        client.post(&format!("/v1/locks/lock-{number}/acquire"), &acquire).await.json(200);
    }
    let answer = client.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let after = series(answer.text());
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());

    let rose = |series: &str| after[series] - before[series];
    assert_eq!(rose("dss_lock_grants_total"), 50.0);
    let route = r#"method="GET",route="/v1/cache/{key}""#;
    assert_eq!(rose(&format!(r#"dss_http_requests_total{{{route},outcome="4xx"}}"#)), 50.0);
    assert_eq!(rose(&format!("dss_http_request_duration_seconds_count{{{route}}}")), 50.0);
    let unmatched = r#"dss_http_requests_total{method="any",route="none",outcome="4xx"}"#;
    assert_eq!(rose(unmatched), 50.0);
    assert_eq!(rose("dss_cache_misses_total"), 50.0);
    assert_eq!(after[r#"dss_raft_role{group="locks",role="leader"}"#], 1.0);
    assert!(rose(r#"dss_raft_commit_index{group="locks"}"#) >= 50.0);
    assert!(after.contains_key(r#"dss_raft_applied_index{group="shard-0"}"#));
    assert!(rose(r#"dss_raft_entries_applied_total{group="locks"}"#) >= 50.0);
}

#[tokio::test(start_paused = true)]
async fn messages_are_counted_by_their_state_over_all_topics() {
    let client = Cluster::start(1).await.client(0);
    for topic in ["a", "b"] {
        let publish = r#"{"messages":[{"payload":"1"},{"payload":"2"}]}"#;
        client.post(&format!("/v1/queues/{topic}/messages"), publish).await.json(201);
        let receive = r#"{"consumer":"c"}"#;
        client.post(&format!("/v1/queues/{topic}/groups/g/receive"), receive).await.json(200);
    }
    let samples = series(client.get("/metrics").await.text());
    let messages =
        |state: &str| samples[&format!(r#"dss_queue_messages{{shard="shard-0",state="{state}"}}"#)];
    assert_eq!((messages("ready"), messages("in_flight"), messages("dead")), (2.0, 2.0, 0.0));
    assert!(samples.contains_key(r#"dss_queue_oldest_seconds{shard="shard-0"}"#));
}

#[tokio::test(start_paused = true)]
async fn waits_for_locks_and_hits_by_state_are_measured() {
    let client = Cluster::start(1).await.client(0);
    client.post("/v1/locks/a/acquire", r#"{"session":"one"}"#).await.json(200);
    let waits = r#"{"session":"two","wait_ms":40}"#;
    client.post("/v1/locks/a/acquire", waits).await.problem(409, "wait_timeout");
    client.put("/v1/cache/k", "v").await;
    for _ in 0..2 {
        assert_eq!(client.get("/v1/cache/k").await.status, 200);
    }
    let samples = series(client.get("/metrics").await.text());
    assert_eq!(samples["dss_lock_wait_seconds_count"], 1.0);
    assert!((0.04..0.2).contains(&samples["dss_lock_wait_seconds_sum"]));
    assert_eq!(samples["dss_lock_acquires_waiting"], 0.0);
    let hits = ["M", "E", "S"]
        .map(|state| samples[&format!(r#"dss_cache_state_hits_total{{state="{state}"}}"#)]);
    assert_eq!(hits.iter().sum::<f64>(), 2.0, "{hits:?}");
}

/// What the rules for Prometheus and the dashboard for Grafana look at.
const RULES: &str = include_str!("../../../ops/alerts.yml");
const DASHBOARD: &str = include_str!("../../../ops/grafana/dss.json");

#[tokio::test(start_paused = true)]
async fn rules_and_the_dashboard_look_at_what_there_is() {
    // With an audit log, which has figures of its own.
    let client = Cluster::start_with_admin().await;
    let publish = r#"{"messages":[{"payload":"1"}]}"#;
    client.post("/v1/queues/q/messages", publish).await.json(201);
    let samples = series(client.get("/metrics").await.text());
    let there: BTreeSet<_> = samples.keys().filter_map(|name| name.split('{').next()).collect();
    serde_json::from_str::<serde_json::Value>(DASHBOARD).unwrap();
    let mut looked_at = 0;
    for text in [RULES, DASHBOARD] {
        let word = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '_');
        for name in text.split(word).filter(|word| word.starts_with("dss_")) {
            assert!(there.contains(name), "{name} is not exported");
            looked_at += 1;
        }
    }
    assert!(looked_at > 40, "{looked_at}");
}

/// Has promtool check something: its standard output and whether it was content.
fn promtool(arguments: &[&str], input: &str) -> (String, bool) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.success())
}

#[tokio::test(start_paused = true)]
#[cfg_attr(no_promtool, ignore = "promtool (of Prometheus) is not installed")]
async fn promtool_has_nothing_against_the_metrics_and_the_rules() {
    let client = Cluster::start_with_admin().await;
    let publish = r#"{"messages":[{"payload":"1"}]}"#;
    client.post("/v1/queues/q/messages", publish).await.json(201);
    let metrics = client.get("/metrics").await;
    let (said, content) = promtool(&["check", "metrics"], metrics.text());
    assert!(content && said.is_empty(), "{said}");
    // With the rules that it names.
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/prometheus.yml");
    let (said, content) = promtool(&["check", "config", config], "");
    assert!(content && said.contains("rules found"), "{said}");
}

/// Whatever the dashboard asks Prometheus for.
fn expressions(within: &serde_json::Value, found: &mut Vec<String>) {
    match within {
        serde_json::Value::Object(members) => {
            found.extend(members.get("expr").and_then(|expr| expr.as_str()).map(str::to_owned));
            members.values().for_each(|member| expressions(member, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
#[cfg_attr(no_promtool, ignore = "promtool (of Prometheus) is not installed")]
fn promtool_understands_what_the_dashboard_asks_for() {
    let mut found = Vec::new();
    expressions(&serde_json::from_str(DASHBOARD).unwrap(), &mut found);
    assert!(found.len() > 30, "{found:?}");
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (number, expression) in found.iter().enumerate() {
        // What Grafana fills in.
        let expression = json!(expression.replace("$__rate_interval", "1m"));
        rules.push_str(&format!("  - record: panel:{number}\n    expr: {expression}\n"));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    let (said, content) = promtool(&["check", "rules", file.path().to_str().unwrap()], "");
    assert!(content && said.contains(&format!("{} rules found", found.len())), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_request_keeps_the_name_that_its_client_gave_it() {
    let client = Cluster::start(1).await.client(0);
    let named = |name: &'static str| {
        let client = client.clone();
        async move {
            let headers = [("x-request-id", name)];
            let answer = client.ask_with(Method::GET, "/v1/status", &headers, "").await;
            answer.header("x-request-id").to_owned()
        }
    };
    assert_eq!(named("checkout-7").await, "checkout-7");
    for strange in ["", "two words", "a\"b"] {
        let given = named(strange).await;
        assert!(given != strange && !given.is_empty(), "{given:?}");
    }
}
